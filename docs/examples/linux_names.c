//===----------------------------------------------------------------------===//
// A prototype in the kernel's own names: what is below the line would compile in
// a driver too.
//
//   cc linux_names.c $(pkg-config --cflags --libs gup)
//===----------------------------------------------------------------------===//
#include <gup/linux.h>
#include <stdio.h>

//===----------------------------------------------------------------------===//

/// Fills user memory with a byte, as a device would by DMA.
static ssize_t fill_user_memory(struct iov_iter *iter, unsigned char byte) {
  ssize_t total = 0;
  while (iov_iter_count(iter) > 0) {
    struct page **pages = NULL;
    size_t offset0;
    ssize_t len = iov_iter_extract_pages(iter, &pages, INT_MAX, 64, 0, &offset0);
    if (len <= 0) return total > 0 ? total : len;
    unsigned int npages = DIV_ROUND_UP(offset0 + len, PAGE_SIZE);
    size_t left = len, offset = offset0;
    for (unsigned int i = 0; i < npages; i++, offset = 0) {
      size_t part = left < PAGE_SIZE - offset ? left : PAGE_SIZE - offset;
      memset((char *)page_address(pages[i]) + offset, byte, part);
      left -= part;
    }
    if (iov_iter_extract_will_pin(iter)) unpin_user_pages_dirty_lock(pages, npages, true);
    kvfree(pages);
    total += len;
  }
  return total;
}

//===----------------------------------------------------------------------===//

int main(void) {
  gup_machine *machine;
  gup_mm *mm;
  uint64_t at;
  if (gup_machine_create(NULL, &machine) || gup_mm_create(machine, &mm) ||
      gup_mm_map(mm, 0, 1 << 20, GUP_PROT_READ | GUP_PROT_WRITE, 0, &at))
    return 1;
  gup_use_mm(machine, mm);
  const unsigned char *bytes = gup_mm_pointer(mm, at);

  struct iov_iter iter;
  struct iovec iov[] = {{(void *)(uintptr_t)(at + 10), 5000},
                        {(void *)(uintptr_t)(at + 65536), 300000}};
  iov_iter_init(&iter, ITER_DEST, iov, 2, 305000);
  ssize_t filled = fill_user_memory(&iter, 0xab);
  bool right = filled == 305000 && bytes[9] == 0 && bytes[10] == 0xab && bytes[5009] == 0xab &&
               bytes[5010] == 0 && bytes[65536 + 299999] == 0xab && bytes[65536 + 300000] == 0;
  printf("%zd bytes filled, %s\n", filled, right ? "where they belong" : "WRONG");
  gup_mm_destroy(mm);
  gup_machine_destroy(machine);
  return right ? 0 : 1;
}
