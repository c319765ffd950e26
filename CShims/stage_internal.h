//===----------------------------------------------------------------------===//
// What the parts of the stage share: the memory that all its processes see, and
// the device, which the director opens and every process inherits.
//===----------------------------------------------------------------------===//
#ifndef CSHIMS_STAGE_INTERNAL_H
#define CSHIMS_STAGE_INTERNAL_H

#include "cshims_stage.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum {
  STAGE_FILE_PAGES = CSHIMS_STAGE_PAGES,
  /// What each buffer has of the ground; it may fill half of it.
  STAGE_SLOT = 4 << 20,
};

typedef struct stage_buffer {
  unsigned char *address;
  uint64_t length;
} stage_buffer;

typedef enum stage_hold_state { HOLD_NONE, HOLD_PIN, HOLD_PIN_TO_READ, HOLD_GET } stage_hold_state;

typedef struct stage_hold {
  stage_hold_state state;
  unsigned char *address;
  uint64_t length;
} stage_hold;

/// A transfer that waits in the middle (stage_stall.c).
typedef struct stage_transfer {
  /// What it waits for; -1 when it waits no more.
  int userfaultfd;
  int file;
  struct iovec list[2];
  int error;
  _Atomic(uint32_t) runs;
} stage_transfer;

/// The shared mapping. Only the process whose turn it is changes anything in
/// it; `turn` publishes (release) what the one before did.
struct cshims_stage {
  // Used by the opener only.
  pid_t director;
  int socket;

  /// Of the zero page and of the huge one.
  uint64_t zero_frames[2];
  /// Where the buffers lie, at a multiple of 2 MiB.
  unsigned char *ground;
  int direct_error;
  int stall_error;
  uint32_t count;
  _Atomic(uint32_t) turn;
  pid_t processes[CSHIMS_STAGE_PROCESSES];
  stage_buffer buffers[CSHIMS_STAGE_BUFFERS];
  stage_hold holds[CSHIMS_STAGE_HOLDS];
  stage_transfer transfers[CSHIMS_STAGE_HOLDS];
  cshims_stage_step steps[CSHIMS_STAGE_STEPS];
  cshims_stage_answer answers[CSHIMS_STAGE_STEPS];
};

/// Where a segment lies in the buffers' addresses.
static inline unsigned char *stage_address(const cshims_stage *stage,
                                           const cshims_stage_segment *segment) {
  return stage->buffers[segment->buffer].address + segment->offset;
}

static inline void stage_sleep(_Atomic(uint32_t) *word, uint32_t value, int milliseconds) {
  struct timespec limit = {.tv_sec = milliseconds / 1000,
                           .tv_nsec = (long)(milliseconds % 1000) * 1000000};
  syscall(SYS_futex, word, FUTEX_WAIT, value, &limit, NULL, 0);
}

/// Opens what the device needs whatever is played; `*direct_error` as in
/// cshims_stage_open, `*stall_error` when no transfer can be made to wait.
int stage_device_open(const char *directory, int *direct_error, int *stall_error);
/// Opens what the script's holds need, and fills the files that it maps.
int stage_device_prepare(cshims_stage *stage);
/// Drops every hold, when no process is left.
void stage_device_reset(cshims_stage *stage);
/// A file for mappings: page n starts with the byte 0x40 + n.
int stage_device_file(void);

// The device's steps, each with its answer. Pin and get are taken by the
// process that owns the memory, the others by the director.
int stage_pin(cshims_stage *stage, const cshims_stage_step *step, cshims_stage_answer *answer);
int stage_pin_to_read(cshims_stage *stage, const cshims_stage_step *step,
                      cshims_stage_answer *answer);
int stage_get(cshims_stage *stage, const cshims_stage_step *step, cshims_stage_answer *answer);
int stage_device_write(cshims_stage *stage, const cshims_stage_step *step);
int stage_device_read(cshims_stage *stage, const cshims_stage_step *step,
                      cshims_stage_answer *answer);
int stage_release(cshims_stage *stage, uint32_t hold);
int stage_direct(cshims_stage *stage, const cshims_stage_step *step, cshims_stage_answer *answer);
int stage_counters(cshims_stage_answer *answer);

/// Finds out whether transfers can be made to wait here, in the director.
int stage_stall_prepare(void);
/// Begins a transfer to `file`, in the process that has the memory. 0: it waits, with `what` pinned.
int stage_stall_begin(stage_transfer *transfer, uint32_t number, int file,
                      const struct iovec *what);
/// Lets it go on, in whatever process, and waits for its end.
int stage_stall_end(stage_transfer *transfer);
/// Lets it go on, or end with its process.
void stage_stall_leave(stage_transfer *transfer);

/// Takes a step that is a process's own.
int stage_act(cshims_stage *stage, const cshims_stage_step *step, cshims_stage_answer *answer);

#endif
