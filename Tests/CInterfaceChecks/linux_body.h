//===----------------------------------------------------------------------===//
// A prototype as it would be written for the kernel. Included twice: with the
// rules of 6.12, and with those of the request for comments.
//===----------------------------------------------------------------------===//
#include <gup/linux.h>
#include <stdio.h>

#include "support.h"

/// Reads `count` bytes of a device, all of them 0x77, into an iterator.
static ssize_t device_read(struct iov_iter *iter) {
  ssize_t done = 0;
  while (iov_iter_count(iter) > 0) {
    struct page *stack[4], **pages = stack;
    size_t offset0;
#ifdef GUP_LINUX_RFC
    bool pins = iov_iter_extract_mode(iter) == FOLL_PIN;
    ssize_t len = iov_iter_extract_pages(iter, &pages, SIZE_MAX, 4, &offset0);
#else
    bool pins = iov_iter_extract_will_pin(iter);
    ssize_t len = iov_iter_extract_pages(iter, &pages, SIZE_MAX, 4, 0, &offset0);
#endif
    if (len <= 0) return len < 0 ? len : done;
    unsigned long npages = DIV_ROUND_UP(offset0 + (size_t)len, PAGE_SIZE);
    size_t left = (size_t)len;
    for (unsigned long i = 0; i < npages; i++, offset0 = 0) {
      size_t part = PAGE_SIZE - offset0 < left ? PAGE_SIZE - offset0 : left;
      memset((char *)page_address(pages[i]) + offset0, 0x77, part);
      left -= part;
    }
    if (pins) unpin_user_pages_dirty_lock(pages, npages, true);
    done += len;
  }
  return done;
}

static int play(void) {
  scene it;
  PASS(scene_open(&it, 6));
  gup_use_mm(it.machine, it.mm);
  CHECK(current->mm == (struct mm_struct *)(void *)it.mm);
  unsigned char seen[3 * PAGE_SIZE];

  struct iov_iter iter;
  struct iovec iov[2] = {{(void *)(uintptr_t)(it.at + 100), 2 * PAGE_SIZE},
                         {(void *)(uintptr_t)(it.at + 5 * PAGE_SIZE), 10}};
  iov_iter_init(&iter, ITER_DEST, iov, 2, 2 * PAGE_SIZE + 10);
  CHECK(iter_is_iovec(&iter) && user_backed_iter(&iter) && iov_iter_rw(&iter) == READ);
  CHECK(iov_iter_npages(&iter, INT_MAX) == 4);
  CHECK(device_read(&iter) == (ssize_t)(2 * PAGE_SIZE + 10));
  CHECK(copy_from_user(seen, (void *)(uintptr_t)it.at, sizeof seen) == 0);
  CHECK(seen[99] == 0 && seen[100] == 0x77 && seen[99 + 2 * PAGE_SIZE] == 0x77);
  CHECK(seen[100 + 2 * PAGE_SIZE] == 0);
  iov_iter_revert(&iter, 10);
  CHECK(iov_iter_count(&iter) == 10);

  struct page *pages[4];
  CHECK(pin_user_pages_fast(it.at, 4, FOLL_WRITE | FOLL_LONGTERM, pages) == 4);
  CHECK(page_maybe_dma_pinned(pages[0]) && page_ref_count(pages[0]) == 1025);
  CHECK(pfn_to_page(page_to_pfn(pages[1])) == pages[1]);
  CHECK(virt_to_page(page_address(pages[2])) == pages[2]);
  unpin_user_pages(pages, 4);
  CHECK(get_user_pages_fast(it.at, 2, 0, pages) == 2);
  put_page(pages[0]);
  put_page(pages[1]);

  struct page *page = alloc_page(GFP_KERNEL);
  CHECK(page != NULL);
  struct bio_vec bvec;
  bvec_set_page(&bvec, page, 64, 32);
  iov_iter_bvec(&iter, ITER_SOURCE, &bvec, 1, 64);
  CHECK(iov_iter_is_bvec(&iter) && copy_from_iter(seen, 100, &iter) == 64 && seen[0] == 0);
  struct kvec kvec = {page_address(page), PAGE_SIZE};
  iov_iter_kvec(&iter, ITER_DEST, &kvec, 1, PAGE_SIZE);
  CHECK(copy_to_iter("kvec", 4, &iter) == 4 && memcmp(page_address(page), "kvec", 4) == 0);
  struct xarray xa;
  xa_init(&xa);
  CHECK(xa_err(xa_store(&xa, 3, page, GFP_KERNEL)) == 0 && xa_load(&xa, 3) == page);
  iov_iter_xarray(&iter, ITER_SOURCE, &xa, 3 * PAGE, 4);
  CHECK(iov_iter_is_xarray(&iter) && copy_from_iter(seen, 4, &iter) == 4 && seen[0] == 'k');
  CHECK(xa_erase(&xa, 3) == page);
  xa_destroy(&xa);
  struct folio_queue queue;
  folioq_init(&queue);
  folioq_append(&queue, page_folio(page));
  iov_iter_folio_queue(&iter, ITER_SOURCE, &queue, 0, 0, 4);
  CHECK(copy_from_iter(seen, 4, &iter) == 4 && seen[3] == 'c');
  struct pipe_inode_info *pipe = alloc_pipe_info();
  CHECK(pipe != NULL);
  iov_iter_pipe(&iter, ITER_DEST, pipe, 2 * PAGE_SIZE);
  CHECK(copy_page_to_iter(page, 0, 4, &iter) == 4);
  free_pipe_info(pipe);
  iov_iter_discard(&iter, ITER_DEST, 5);
  CHECK(copy_to_iter("12345678", 8, &iter) == 5);
  // What cannot be made counts nothing and is refused.
  iov_iter_bvec(&iter, ITER_SOURCE, &bvec, 1, 65);
  CHECK(iov_iter_count(&iter) == 0 && copy_from_iter(seen, 1, &iter) == 0);
  __free_page(page);

  struct scatterlist sgl[4], *sg;
  struct sg_table table = {sgl, 0, 0};
  unsigned int i, bytes = 0;
  sg_init_table(sgl, 4);
  iov_iter_ubuf(&iter, ITER_DEST, (void *)(uintptr_t)(it.at + 8), 2 * PAGE_SIZE);
  CHECK(extract_iter_to_sg(&iter, SIZE_MAX, &table, 4, 0) == (ssize_t)(2 * PAGE_SIZE));
  CHECK(table.nents == 3);
  for_each_sg(table.sgl, sg, table.nents, i) {
    bytes += sg->length;
    unpin_user_page(sg_page(sg));
  }
  CHECK(bytes == 2 * PAGE_SIZE);
  gup_use_mm(NULL, NULL);
  CHECK(pin_user_pages_fast(it.at, 1, 0, pages) == -EINVAL);
  return scene_close(&it);
}
