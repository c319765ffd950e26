//===----------------------------------------------------------------------===//
// Drivers in the kernel's names: direct I/O, memory registration, sending without
// a copy. Nothing in this file is of gup.h.
//===----------------------------------------------------------------------===//
#include "linux_drivers.h"

//===--- Direct I/O -------------------------------------------------------===//

/// Adds a part of a page, to the last bvec where it continues that one in memory.
static bool dio_add_page(struct dio *dio, struct page *page, size_t offset, size_t len) {
  struct bio_vec *last = dio->nr > 0 ? &dio->bvecs[dio->nr - 1] : NULL;
  if (last && page_folio(page) == page_folio(last->bv_page) &&
      page_to_phys(last->bv_page) + last->bv_offset + last->bv_len == page_to_phys(page) + offset) {
    last->bv_len += len;
  } else if (dio->nr < sizeof dio->bvecs / sizeof *dio->bvecs) {
    bvec_set_page(&dio->bvecs[dio->nr++], page, (unsigned int)len, (unsigned int)offset);
  } else {
    return false;
  }
  dio->size += len;
  return true;
}

int dio_add(struct dio *dio, struct iov_iter *iter, size_t block) {
  dio->is_read = iov_iter_rw(iter) == READ;
  dio->is_pinned = iov_iter_extract_will_pin(iter);
  if (!iov_iter_is_aligned(iter, (unsigned int)block - 1, (unsigned int)block - 1))
    return -EINVAL;
  while (iov_iter_count(iter) > 0) {
    struct page *stack[8], **pages = stack;
    size_t offset;
    ssize_t size = iov_iter_extract_pages(iter, &pages, UINT_MAX - dio->size, 8, 0, &offset);
    if (size <= 0) return dio->size > 0 ? 0 : size < 0 ? (int)size : -EFAULT;
    unsigned int npages = (unsigned int)DIV_ROUND_UP(offset + (size_t)size, PAGE_SIZE), i = 0;
    size_t left = (size_t)size;
    for (; i < npages; i++) {
      size_t len = min_t(size_t, left, PAGE_SIZE - offset);
      if (!dio_add_page(dio, pages[i], offset, len)) break;
      left -= len;
      offset = 0;
    }
    if (i == npages) continue;
    // Full: what did not fit is the iterator's again.
    iov_iter_revert(iter, left);
    if (dio->is_pinned) unpin_user_pages(pages + i, npages - i);
    return 0;
  }
  return 0;
}

void dio_end(struct dio *dio, unsigned char byte) {
  for (unsigned int i = 0; i < dio->nr; i++) {
    struct bio_vec *bvec = &dio->bvecs[i];
    char *bytes = (char *)page_address(bvec->bv_page) + bvec->bv_offset;
    if (dio->is_read) memset(bytes, byte, bvec->bv_len);
    if (dio->is_pinned)
      unpin_user_page_range_dirty_lock(
          bvec->bv_page, DIV_ROUND_UP(bvec->bv_offset + bvec->bv_len, PAGE_SIZE), dio->is_read);
  }
  memset(dio, 0, sizeof *dio);
}

//===--- Memory registration ----------------------------------------------===//

void region_unregister(struct region *region) {
  struct page *page;
  unsigned long index;
  if (region->table.sgl) dma_unmap_sgtable(NULL, &region->table, DMA_BIDIRECTIONAL, 0);
  sg_free_table(&region->table);
  xa_for_each(&region->pages, index, page)
    unpin_user_pages_dirty_lock(&page, 1, region->writable);
  xa_destroy(&region->pages);
  account_locked_vm(region->mm, region->npages, false);
  mmdrop(region->mm);
  kfree(region);
}

struct region *region_register(unsigned long start, size_t length, bool writable) {
  unsigned long first = ALIGN_DOWN(start, PAGE_SIZE), done = 0;
  unsigned int flags = FOLL_LONGTERM | (writable ? FOLL_WRITE : 0);
  struct region *region = (struct region *)kzalloc(sizeof *region, GFP_KERNEL);
  struct page **pages;
  int ret;
  if (!region) return (struct region *)ERR_PTR(-ENOMEM);
  region->npages = (ALIGN(start + length, PAGE_SIZE) - first) >> PAGE_SHIFT;
  region->writable = writable;
  region->mm = current->mm;
  mmgrab(region->mm);
  ret = account_locked_vm(region->mm, region->npages, true);
  if (ret) {
    mmdrop(region->mm);
    kfree(region);
    return (struct region *)ERR_PTR(ret);
  }
  xa_init(&region->pages);
  pages = (struct page **)kvmalloc_array(region->npages, sizeof *pages, GFP_KERNEL);
  if (!pages) {
    ret = -ENOMEM;
    goto failed;
  }
  while (done < region->npages) {
    unsigned long more = min_t(unsigned long, region->npages - done, 3);
    mmap_read_lock(region->mm);
    long got = pin_user_pages(first + done * PAGE_SIZE, more, flags, pages + done);
    mmap_read_unlock(region->mm);
    if (got <= 0) {
      ret = got < 0 ? (int)got : -EFAULT;
      goto failed;
    }
    for (; got > 0; got--, done++) {
      ret = xa_err(xa_store(&region->pages, done, pages[done], GFP_KERNEL));
      if (WARN_ON_ONCE(ret)) goto failed;
    }
  }
  ret = sg_alloc_table_from_pages(&region->table, pages, (unsigned int)region->npages,
                                  (unsigned int)offset_in_page(start), length, GFP_KERNEL);
  if (!ret) ret = dma_map_sgtable(NULL, &region->table, DMA_BIDIRECTIONAL, 0);
failed:
  kvfree(pages);
  if (ret) {
    region_unregister(region);
    return (struct region *)ERR_PTR(ret);
  }
  return region;
}

//===--- Sending without a copy -------------------------------------------===//

int packet_fill(struct packet *packet, struct iov_iter *from, size_t length) {
  const unsigned int room = sizeof packet->frags / sizeof *packet->frags;
  while (length > 0 && iov_iter_count(from) > 0) {
    struct page **pages = NULL;
    size_t offset;
    unsigned int left = room - packet->nr_frags;
    if (left == 0) return -EMSGSIZE;
    ssize_t copied = iov_iter_extract_pages(from, &pages, length, left, 0, &offset);
    if (copied <= 0) return copied < 0 ? (int)copied : -EFAULT;
    length -= (size_t)copied;
    packet->length += (unsigned int)copied;
    for (unsigned int i = 0; copied > 0; i++, offset = 0) {
      size_t size = min_t(size_t, (size_t)copied, PAGE_SIZE - offset);
      unsigned int at = packet->nr_frags++;
      packet->frags[at].page = pages[i];
      packet->frags[at].offset = (unsigned int)offset;
      packet->frags[at].length = (unsigned int)size;
      copied -= (ssize_t)size;
    }
    kvfree(pages);
  }
  return 0;
}

size_t packet_transmit(struct packet *packet, char *wire, size_t size) {
  size_t sent = 0;
  for (unsigned int i = 0; i < packet->nr_frags; i++) {
    size_t part = min_t(size_t, packet->frags[i].length, size - sent);
    memcpy_from_page(wire + sent, packet->frags[i].page, packet->frags[i].offset, part);
    unpin_user_page(packet->frags[i].page);
    sent += part;
  }
  memset(packet, 0, sizeof *packet);
  return sent;
}
