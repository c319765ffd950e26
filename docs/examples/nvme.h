//===----------------------------------------------------------------------===//
// A toy NVMe-like disk, the device of the examples: commands of 64 bytes in a
// submission ring, completions in another, data by PRP entries. It knows frame
// numbers alone and reaches memory behind the back of the program, as hardware
// does.
//
// A command's data are `length` bytes from `prp[0]` on; every later entry is the
// start of a page. (Real NVMe has the entries beyond two in a list of their own;
// here a command has room for eight.)
//===----------------------------------------------------------------------===//
#ifndef NVME_H
#define NVME_H

#include <gup.h>
#include <stdlib.h>
#include <string.h>

enum { NVME_RING = 16, NVME_PRPS = 8, NVME_BLOCK = 512, NVME_READ = 2, NVME_WRITE = 1 };

struct nvme_command {
  uint16_t opcode;
  uint16_t id;
  uint32_t length;   ///< Bytes.
  uint64_t block;    ///< The first block of the disk.
  uint64_t prp[NVME_PRPS];  ///< frame << 12 | offset
};
struct nvme_completion {
  uint16_t id;
  int16_t status;  ///< 0, or a negative errno.
};

struct nvme {
  gup_machine *machine;
  struct nvme_command submissions[NVME_RING];
  struct nvme_completion completions[NVME_RING];
  unsigned sq_head, sq_tail, cq_head, cq_tail;
  unsigned char *disk;
  size_t disk_size;
};

static inline int nvme_open(struct nvme *it, gup_machine *machine, size_t disk_size) {
  memset(it, 0, sizeof *it);
  it->machine = machine;
  it->disk_size = disk_size;
  it->disk = (unsigned char *)calloc(1, disk_size);
  return it->disk ? 0 : -1;
}
static inline void nvme_close(struct nvme *it) { free(it->disk); }

/// The driver's doorbell: hands a command to the device. -1: the ring is full.
static inline int nvme_submit(struct nvme *it, const struct nvme_command *command) {
  if (it->sq_tail - it->sq_head == NVME_RING) return -1;
  it->submissions[it->sq_tail++ % NVME_RING] = *command;
  return 0;
}

/// Moves one command's bytes.
static inline int16_t nvme_execute(struct nvme *it, const struct nvme_command *command) {
  uint64_t at = command->block * NVME_BLOCK;
  if (at > it->disk_size || command->length > it->disk_size - at) return -22;
  for (unsigned i = 0, done = 0; done < command->length; i++) {
    if (i == NVME_PRPS) return -7;
    unsigned offset = (unsigned)(command->prp[i] & (GUP_PAGE_SIZE - 1));
    unsigned part = GUP_PAGE_SIZE - offset;
    if (part > command->length - done) part = command->length - done;
    gup_page *page = gup_page_of_frame(it->machine, command->prp[i] >> GUP_PAGE_SHIFT);
    unsigned char *memory = (unsigned char *)gup_page_address(page);
    if (!memory) return -14;
    if (command->opcode == NVME_READ) {
      memcpy(memory + offset, it->disk + at + done, part);
    } else {
      memcpy(it->disk + at + done, memory + offset, part);
    }
    done += part;
  }
  return 0;
}

/// The device's turn: executes what was submitted.
static inline void nvme_run(struct nvme *it) {
  while (it->sq_head != it->sq_tail && it->cq_tail - it->cq_head < NVME_RING) {
    const struct nvme_command *command = &it->submissions[it->sq_head++ % NVME_RING];
    struct nvme_completion *completion = &it->completions[it->cq_tail++ % NVME_RING];
    completion->id = command->id;
    completion->status = nvme_execute(it, command);
  }
}

/// Takes the next completion; false when there is none.
static inline bool nvme_reap(struct nvme *it, struct nvme_completion *completion) {
  if (it->cq_head == it->cq_tail) return false;
  *completion = it->completions[it->cq_head++ % NVME_RING];
  return true;
}

#endif
