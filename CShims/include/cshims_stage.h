//===----------------------------------------------------------------------===//
// A stage: real processes that play a script before the running kernel. A
// director is forked once; for each script it forks a first process, and all
// of them take the script's steps in turn. Script, answers and whose turn it is
// stand in memory that they share. The device (io_uring requests on registered
// buffers, pipes that hold vmspliced pages) is the director's, so that holds
// outlive the process that took them.
//
// Nothing here is Swift's: the processes run C that allocates nothing and takes
// no lock, so it does not matter which threads the program had.
//===----------------------------------------------------------------------===//
#ifndef CSHIMS_STAGE_H
#define CSHIMS_STAGE_H

#include "cshims_basics.h"

enum {
  CSHIMS_STAGE_STEPS = 192,
  CSHIMS_STAGE_PROCESSES = 8,
  CSHIMS_STAGE_BUFFERS = 8,
  CSHIMS_STAGE_HOLDS = 16,
  CSHIMS_STAGE_SEGMENTS = 8,
  /// The most pages that one step tells about.
  CSHIMS_STAGE_PAGES = 32,
  /// Memory is seen by the first byte of each block.
  CSHIMS_STAGE_BLOCK = 512,
  CSHIMS_STAGE_SAMPLES = CSHIMS_STAGE_PAGES * CSHIMS_PAGE_SIZE / CSHIMS_STAGE_BLOCK,
};

typedef enum cshims_stage_kind {
  CSHIMS_STAGE_MAP,
  CSHIMS_STAGE_UNMAP,
  CSHIMS_STAGE_PROTECT,
  CSHIMS_STAGE_ADVISE,
  CSHIMS_STAGE_MOVE,
  CSHIMS_STAGE_LOAD,
  CSHIMS_STAGE_STORE,
  CSHIMS_STAGE_FORK,
  CSHIMS_STAGE_EXIT,
  /// Registers a buffer with io_uring: FOLL_PIN | FOLL_WRITE | FOLL_LONGTERM.
  CSHIMS_STAGE_PIN,
  /// Writes it to a file with O_DIRECT, and the transfer waits: FOLL_PIN.
  CSHIMS_STAGE_PIN_TO_READ,
  /// vmsplices into a pipe: FOLL_GET.
  CSHIMS_STAGE_GET,
  /// IORING_OP_READ_FIXED of one byte: the device writes memory.
  CSHIMS_STAGE_DEVICE_WRITE,
  /// IORING_OP_WRITE_FIXED, or tee(2) and read(2): the device reads memory. A
  /// transfer that waits has its way, and holds nothing any more.
  CSHIMS_STAGE_DEVICE_READ,
  CSHIMS_STAGE_RELEASE,
  /// readv(2) of a file opened with O_DIRECT.
  CSHIMS_STAGE_DIRECT_READ,
  /// writev(2) to it; the answer has the bytes that arrived.
  CSHIMS_STAGE_DIRECT_WRITE,
  /// Loads or stores a byte by /proc/self/mem: FOLL_FORCE.
  CSHIMS_STAGE_PEEK,
  CSHIMS_STAGE_POKE,
  CSHIMS_STAGE_PAGEMAP,
  CSHIMS_STAGE_COUNTERS,
} cshims_stage_kind;

typedef enum cshims_stage_backing {
  /// Private anonymous memory, 4 KiB pages only.
  CSHIMS_STAGE_PRIVATE,
  CSHIMS_STAGE_SHARED,
  /// Private memory that may and shall stand in huge pages.
  CSHIMS_STAGE_HUGE,
  CSHIMS_STAGE_PRIVATE_FILE,
  CSHIMS_STAGE_SHARED_FILE,
} cshims_stage_backing;

typedef struct cshims_stage_segment {
  uint32_t buffer;
  uint32_t length;
  uint64_t offset;
} cshims_stage_segment;

typedef struct cshims_stage_step {
  uint8_t kind;
  /// Whose turn it is; the device's steps are nobody's.
  uint8_t process;
  /// Fork: the child. Map: the backing. Pin, get and what is done with the
  /// hold: its number.
  uint8_t other;
  /// The byte to store, or that a transfer brings.
  uint8_t value;
  /// Protect: PROT_*. Advise: MADV_*. Get: how often. Move: is the old place kept?
  uint32_t detail;
  uint32_t segment_count;
  cshims_stage_segment segments[CSHIMS_STAGE_SEGMENTS];
} cshims_stage_step;

typedef struct cshims_stage_answer {
  /// 0, or what the call failed with.
  int32_t error;
  /// The step was taken.
  uint32_t done;
  /// Bytes that a transfer or a hold came to; COUNTERS: pins acquired.
  uint64_t amount;
  /// COUNTERS: pins released.
  uint64_t more;
  /// How many samples there are.
  uint32_t sample_count;
  uint8_t samples[CSHIMS_STAGE_SAMPLES];
  /// The signal that a touch of each page ended in, or 0.
  uint8_t signals[CSHIMS_STAGE_PAGES];
  /// pagemap of the touched pages before and after the step.
  uint64_t before[CSHIMS_STAGE_PAGES];
  uint64_t after[CSHIMS_STAGE_PAGES];
} cshims_stage_answer;

typedef struct cshims_stage cshims_stage;

/// Forks the director. `directory` is where its files are made; ENOTSUP in
/// `*direct_error` (or another errno) when no O_DIRECT is to be had there.
int cshims_stage_open(const char *directory, cshims_stage **stage, int *direct_error);
/// Ends the director and whoever still plays.
void cshims_stage_close(cshims_stage *stage);
/// The script, to be filled in before it is played.
cshims_stage_step *cshims_stage_steps(cshims_stage *stage);
const cshims_stage_answer *cshims_stage_answers(const cshims_stage *stage);
/// Plays `count` steps; EPROTO when a process died, ETIMEDOUT when one hung, with the steps
/// before it answered, EPIPE when the director did.
int cshims_stage_play(cshims_stage *stage, uint32_t count);
/// Why no transfer can be made to wait, as PIN_TO_READ needs; 0 when it can.
int cshims_stage_stall_error(const cshims_stage *stage);
/// The frame number of the zero page, or the first of the huge one; 0 where
/// frame numbers are hidden or there is no such page.
uint64_t cshims_stage_zero_frame(const cshims_stage *stage, bool huge);

static inline void cshims_stage_set_segment(cshims_stage_step *step, uint32_t index,
                                            uint32_t buffer, uint64_t offset, uint32_t length) {
  step->segments[index] =
      (cshims_stage_segment){.buffer = buffer, .length = length, .offset = offset};
  if (step->segment_count <= index) step->segment_count = index + 1;
}
static inline uint8_t cshims_stage_sample(const cshims_stage_answer *answer, uint32_t index) {
  return answer->samples[index];
}
static inline int cshims_stage_signal(const cshims_stage_answer *answer, uint32_t page) {
  return answer->signals[page];
}
static inline uint64_t cshims_stage_before(const cshims_stage_answer *answer, uint32_t page) {
  return answer->before[page];
}
static inline uint64_t cshims_stage_after(const cshims_stage_answer *answer, uint32_t page) {
  return answer->after[page];
}

/// A program's own touches, with the signal they end in as the answer (0 for
/// none): SIGSEGV or SIGBUS. `cshims_guard_install` comes first, before any
/// machine traps; what is not a guarded touch goes to who was there before.
int cshims_guard_install(void);
/// The same for a forked process that has given up all its handlers.
int cshims_guard_reinstall(void);
int cshims_guarded_load(const void *address, uint8_t *value);
int cshims_guarded_store(void *address, uint8_t value);

#endif
