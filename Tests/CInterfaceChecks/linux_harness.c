//===----------------------------------------------------------------------===//
// The drivers of linux_drivers.c, driven.
//===----------------------------------------------------------------------===//
#include "linux_drivers.h"
#include "support.h"

/// Reads and writes by direct I/O: every byte, and no other.
static int direct(scene *it) {
  struct iov_iter iter;
  struct dio dio = {.nr = 0};
  unsigned char seen[4 * PAGE];
  void *buffer = (void *)(uintptr_t)(it->at + 512);
  iov_iter_ubuf(&iter, ITER_DEST, buffer, 2 * PAGE_SIZE);
  CHECK(dio_add(&dio, &iter, 512) == 0 && dio.size == 2 * PAGE_SIZE && dio.is_pinned);
  dio_end(&dio, 0x55);
  CHECK(copy_from_user(seen, (void *)(uintptr_t)it->at, sizeof seen) == 0);
  CHECK(seen[511] == 0 && seen[512] == 0x55 && seen[511 + 2 * PAGE] == 0x55);
  CHECK(seen[512 + 2 * PAGE] == 0);
  iov_iter_ubuf(&iter, ITER_DEST, buffer, 100);
  CHECK(dio_add(&dio, &iter, 512) == -EINVAL && dio.size == 0);
  // Alternating pages of two segments: no join, so that the bvecs fill up.
  struct iovec iov[20];
  for (size_t i = 0; i < 20; i++)
    iov[i] = (struct iovec){(void *)(uintptr_t)(it->at + (i % 4) * 1024), 512};
  iov_iter_init(&iter, ITER_SOURCE, iov, 20, 20 * 512);
  CHECK(dio_add(&dio, &iter, 512) == 0 && dio.nr == 16 && dio.size == 16 * 512);
  CHECK(iov_iter_count(&iter) == 4 * 512);
  dio_end(&dio, 0);
  return 0;
}

/// A device writes to registered memory by the addresses that it was told.
static int registration(scene *it) {
  struct scatterlist *sg;
  unsigned int i;
  size_t reached = 0;
  char seen[3 * PAGE];
  struct region *region = region_register(it->at + 100, 5 * PAGE_SIZE, true);
  CHECK(!IS_ERR(region) && region->npages == 6);
  for_each_sgtable_dma_sg(&region->table, sg, i) {
    phys_addr_t address = sg_dma_address(sg);
    for (size_t done = 0; done < sg_dma_len(sg); done++, address++, reached++)
      ((char *)page_address(phys_to_page(address)))[offset_in_page(address)] = (char)reached;
  }
  CHECK(reached == 5 * PAGE_SIZE);
  CHECK(copy_from_user(seen, (void *)(uintptr_t)(it->at + 100), sizeof seen) == 0);
  for (size_t k = 0; k < sizeof seen; k++) CHECK(seen[k] == (char)k);
  CHECK(sg_copy_to_buffer(region->table.sgl, region->table.nents, seen, 10) == 10 && seen[9] == 9);
  struct page *first = (struct page *)xa_load(&region->pages, 0);
  CHECK(page_maybe_dma_pinned(first));
  region_unregister(region);
  CHECK(!page_maybe_dma_pinned(first) && PageDirty(first));
  // What cannot be pinned to its end is not pinned at all, nor accounted for.
  region = region_register(it->at, (it->pages + 1) * PAGE_SIZE, true);
  CHECK(IS_ERR(region) && PTR_ERR(region) == -EFAULT && !page_maybe_dma_pinned(first));
  struct gup_mm_info info;
  CHECK(gup_mm_get_info(it->mm, &info) == 0 && info.locked_bytes == 0);
  CHECK(gup_mm_set_lock_limit(it->mm, 4 * PAGE) == 0);
  CHECK(PTR_ERR(region_register(it->at, 5 * PAGE_SIZE, true)) == -ENOMEM);
  return gup_mm_set_lock_limit(it->mm, UINT64_MAX) == 0 ? 0 : __LINE__;
}

static int sending(scene *it) {
  struct packet packet = {.nr_frags = 0};
  struct iov_iter iter;
  char text[2 * PAGE], wire[2 * PAGE + 1];
  for (size_t i = 0; i < sizeof text; i++) text[i] = (char)(i * 7);
  CHECK(copy_to_user((void *)(uintptr_t)(it->at + 9), text, sizeof text) == 0);
  iov_iter_ubuf(&iter, ITER_SOURCE, (void *)(uintptr_t)(it->at + 9), sizeof text);
  CHECK(packet_fill(&packet, &iter, SIZE_MAX) == 0 && packet.nr_frags == 3);
  CHECK(packet_transmit(&packet, wire, sizeof wire) == sizeof text);
  CHECK(memcmp(wire, text, sizeof text) == 0);
  return 0;
}

/// What indices show of pages and values.
static int indices(void) {
  struct xarray xa;
  void *entry;
  unsigned long index, seen[4], count = 0;
  struct page *page = alloc_pages(GFP_KERNEL, 2);
  xa_init(&xa);
  CHECK(page && xa_empty(&xa));
  xa_for_each(&xa, index, entry) CHECK(!"nothing is there");
  CHECK(gup_xarray_store(xa.gup, 8, 2, (gup_page *)(void *)page) == 0);
  CHECK(!xa_store(&xa, 3, xa_mk_value(77), GFP_KERNEL) && xa_to_value(xa_load(&xa, 3)) == 77);
  CHECK(!xa_store(&xa, ULONG_MAX, page, GFP_KERNEL) && xa_reserve(&xa, 5, GFP_KERNEL) == 0);
  CHECK(xa_load(&xa, 10) == page && !xa_load(&xa, 5) && !xa_load(&xa, 12));
  xa_for_each(&xa, index, entry) {
    CHECK(count < 4 && xa_is_value(entry) == (index == 3));
    seen[count++] = index;
  }
  CHECK(count == 3 && seen[0] == 3 && seen[1] == 8 && seen[2] == ULONG_MAX);
  index = 9;
  CHECK(xa_find(&xa, &index, ULONG_MAX, XA_PRESENT) == page && index == 9);
  CHECK(xa_find_after(&xa, &index, ULONG_MAX - 1, XA_PRESENT) == NULL && index == 9);
  CHECK(xa_is_err(xa_store(&xa, 1, &xa, GFP_KERNEL)) && !xa_load(&xa, 1));
  CHECK(xa_err(xa_store(&xa, 1, &xa, GFP_KERNEL)) == -EINVAL && !xa_is_err(page));
  xa_destroy(&xa);
  __free_pages(page, 2);
  return 0;
}

/// Copies that a fault ends, and segments that lie in user memory.
static int copies(scene *it) {
  char text[64], seen[64];
  struct iovec fast[1], *list = fast;
  struct iov_iter iter;
  memset(text, 'x', sizeof text);
  void *last = (void *)(uintptr_t)(it->at + it->pages * PAGE - 10);
  memset(seen, 'y', sizeof seen);
  CHECK(copy_to_user(last, text, sizeof text) == sizeof text - 10);
  CHECK(copy_from_user(seen, last, sizeof seen) == sizeof seen - 10);
  CHECK(seen[9] == 'x' && seen[10] == 0 && seen[63] == 0);
  CHECK(clear_user(last, 64) == 54 && copy_from_user(seen, last, 10) == 0 && seen[0] == 0);
  CHECK(copy_from_user(seen, NULL, 8) == 8);

  struct iovec iov[2] = {{(void *)(uintptr_t)(it->at + PAGE), 5}, {last, 10}};
  CHECK(copy_to_user((void *)(uintptr_t)it->at, iov, sizeof iov) == 0);
  const struct iovec *there = (const struct iovec *)(uintptr_t)it->at;
  CHECK(import_iovec(READ, there, 1, 1, &list, &iter) == 5 && list == NULL);
  list = fast;
  CHECK(import_iovec(READ, there, 2, 1, &list, &iter) == 15 && list != NULL);
  CHECK(copy_to_iter(text, 20, &iter) == 15);
  kfree(list);
  list = fast;
  CHECK(import_iovec(WRITE, NULL, 2, 1, &list, &iter) == -EFAULT && list == NULL);
  CHECK(iov_iter_count(&iter) == 0);

  struct page *page = alloc_page(GFP_KERNEL);
  iov_iter_ubuf(&iter, ITER_SOURCE, last, 10);
  CHECK(copy_page_from_iter(page, PAGE_SIZE - 4, 5, &iter) == 0 && iov_iter_count(&iter) == 10);
  CHECK(!copy_from_iter_full(seen, 11, &iter) && iov_iter_count(&iter) == 10);
  CHECK(copy_page_from_iter(page, PAGE_SIZE - 4, 4, &iter) == 4);
  CHECK(((char *)page_address(page))[PAGE_SIZE - 1] == 'x');
  __free_page(page);
  return 0;
}

int check_linux_drivers(void) {
  scene it;
  PASS(scene_open(&it, 8));
  gup_use_mm(it.machine, it.mm);
  PASS(direct(&it));
  PASS(registration(&it));
  PASS(sending(&it));
  PASS(indices());
  PASS(copies(&it));
  gup_use_mm(NULL, NULL);
  return scene_close(&it);
}
