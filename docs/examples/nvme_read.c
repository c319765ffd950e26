//===----------------------------------------------------------------------===//
// A driver's read(2) in C: a user buffer becomes pinned pages, those become PRP
// entries, the device fills them, and they are released dirty.
//
//   cc nvme_read.c $(pkg-config --cflags --libs gup)
//===----------------------------------------------------------------------===//
#include <stdio.h>

#include "nvme.h"

/// What one command in flight holds.
struct request {
  gup_extraction memory;
  bool busy;
};

/// Extracts the iterator's next memory and submits a command for it. Returns the
/// bytes, or a negative errno.
static int64_t submit(struct nvme *disk, struct request *requests, uint16_t id, uint64_t block,
                      gup_iter *iter) {
  struct request *request = &requests[id];
  int64_t length =
      gup_iter_extract(iter, NVME_PRPS * GUP_PAGE_SIZE, NVME_PRPS, 0, &request->memory);
  if (length <= 0) return length;
  struct nvme_command command = {NVME_READ, id, (uint32_t)length, block, {0}};
  for (size_t i = 0; i < request->memory.page_count; i++)
    command.prp[i] = gup_page_frame(request->memory.pages[i]) << GUP_PAGE_SHIFT;
  command.prp[0] |= request->memory.offset;
  request->busy = true;
  if (nvme_submit(disk, &command) != 0) return -11;
  return length;
}

/// Reads `length` bytes from the disk's start into user memory.
static int64_t read_disk(struct nvme *disk, gup_mm *mm, uint64_t buffer, size_t length) {
  struct request requests[NVME_RING];
  memset(requests, 0, sizeof requests);
  gup_iter iter;
  int error = gup_iter_ubuf(&iter, mm, GUP_DEST | GUP_UPSTREAM, buffer, length);
  if (error != 0) return error;
  int64_t done = 0;
  uint16_t id = 0;
  while (error == 0 && gup_iter_count(&iter) > 0) {
    int64_t got = submit(disk, requests, id++ % NVME_RING, (uint64_t)done / NVME_BLOCK, &iter);
    if (got <= 0) {
      error = got < 0 ? (int)got : -14;
      break;
    }
    done += got;
    nvme_run(disk);
    struct nvme_completion completion;
    while (nvme_reap(disk, &completion)) {
      struct request *request = &requests[completion.id];
      if (completion.status != 0) error = completion.status;
      // The device wrote: the pages are dirty, whatever the page table says.
      int released = gup_extraction_release(&request->memory, true);
      if (error == 0) error = released;
      request->busy = false;
    }
  }
  return error != 0 ? error : done;
}

int main(void) {
  gup_machine *machine;
  gup_mm *mm;
  uint64_t buffer;
  const size_t length = 100 * GUP_PAGE_SIZE;
  struct nvme disk;
  if (gup_machine_create(NULL, &machine) != 0 || gup_mm_create(machine, &mm) != 0 ||
      gup_mm_map(mm, 0, length + GUP_PAGE_SIZE, GUP_PROT_READ | GUP_PROT_WRITE, 0, &buffer) != 0 ||
      nvme_open(&disk, machine, length) != 0) {
    char why[200];
    gup_last_error(why, sizeof why);
    fprintf(stderr, "nvme_read: %s\n", why);
    return 1;
  }
  for (size_t i = 0; i < length; i++) disk.disk[i] = (unsigned char)(i * 31 + i / 4096);

  // Block-aligned within a page, so that each extraction ends on a block.
  int64_t got = read_disk(&disk, mm, buffer + NVME_BLOCK, length);
  const unsigned char *seen = gup_mm_pointer(mm, buffer + NVME_BLOCK);
  bool same = got == (int64_t)length && memcmp(seen, disk.disk, length) == 0;

  struct gup_counters counters;
  gup_machine_counters(machine, &counters);
  printf("%lld bytes read, %s; %llu pins taken, %llu dropped\n", (long long)got,
         same ? "all as on the disk" : "WRONG", (unsigned long long)counters.pins_acquired,
         (unsigned long long)counters.pins_released);
  nvme_close(&disk);
  gup_mm_destroy(mm);
  gup_machine_destroy(machine);
  return same && counters.pins_acquired == counters.pins_released ? 0 : 1;
}
