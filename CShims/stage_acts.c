//===----------------------------------------------------------------------===//
// The steps that a process takes with memory of its own. Each records what
// pagemap says of the pages it touches before and after it.
//===----------------------------------------------------------------------===//
#if !defined(_GNU_SOURCE)
#error "stage_acts.c needs mremap: define _GNU_SOURCE"
#endif

#include "stage_internal.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static void record(const cshims_stage *stage, const cshims_stage_step *step, uint64_t *entries) {
  int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
  if (fd < 0) return;
  uint32_t done = 0;
  for (uint32_t i = 0; i < step->segment_count; i++) {
    uintptr_t start = (uintptr_t)stage_address(stage, &step->segments[i]);
    uintptr_t end = start + step->segments[i].length;
    uintptr_t first = start >> CSHIMS_PAGE_SHIFT;
    uintptr_t count = ((end + CSHIMS_PAGE_SIZE - 1) >> CSHIMS_PAGE_SHIFT) - first;
    if (count > CSHIMS_STAGE_PAGES - done) count = CSHIMS_STAGE_PAGES - done;
    if (start == end || stage->buffers[step->segments[i].buffer].address == NULL) continue;
    ssize_t n = pread(fd, entries + done, count * sizeof *entries,
                      (off_t)(first * sizeof *entries));
    if (n < 0) break;
    done += (uint32_t)count;
  }
  close(fd);
}

static int map(cshims_stage *stage, const cshims_stage_step *step) {
  uint32_t number = step->segments[0].buffer;
  stage_buffer *buffer = &stage->buffers[number];
  uint64_t length = step->segments[0].length;
  bool huge = step->other == CSHIMS_STAGE_HUGE;
  bool file = step->other >= CSHIMS_STAGE_PRIVATE_FILE;
  bool shared = step->other == CSHIMS_STAGE_SHARED || step->other == CSHIMS_STAGE_SHARED_FILE;
  if (length > STAGE_SLOT / 2) return ENOMEM;
  // Each has a place of its own, so that what one gives up is no room for another.
  buffer->address = stage->ground + (uint64_t)number * STAGE_SLOT;
  buffer->length = length;
  int flags = MAP_FIXED | (shared ? MAP_SHARED : MAP_PRIVATE) | (file ? 0 : MAP_ANONYMOUS);
  void *memory = mmap(buffer->address, length, PROT_READ | PROT_WRITE, flags,
                      file ? stage_device_file() : -1, 0);
  if (memory == MAP_FAILED) return errno;
  // Kernels without huge pages know neither advice and need none.
  if (!file) madvise(memory, length, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
  return 0;
}

static int load(cshims_stage *stage, const cshims_stage_step *step, cshims_stage_answer *answer) {
  uint32_t page = 0;
  for (uint32_t i = 0; i < step->segment_count; i++) {
    const unsigned char *start = stage_address(stage, &step->segments[i]);
    const unsigned char *end = start + step->segments[i].length;
    for (const unsigned char *at = start; at < end; at += step->detail) {
      if (at > start && (uintptr_t)at % CSHIMS_PAGE_SIZE < step->detail) page++;
      uint8_t value = 0;
      if (page >= CSHIMS_STAGE_PAGES || answer->sample_count >= CSHIMS_STAGE_SAMPLES) return E2BIG;
      if (!answer->signals[page])
        answer->signals[page] = (uint8_t)cshims_guarded_load(at, &value);
      answer->samples[answer->sample_count++] = value;
    }
    page++;
  }
  return 0;
}

/// A byte as a debugger loads or stores it, whatever the protection says.
static int force(const cshims_stage_step *step, unsigned char *address,
                 cshims_stage_answer *answer) {
  bool stores = step->kind == CSHIMS_STAGE_POKE;
  int fd = open("/proc/self/mem", (stores ? O_WRONLY : O_RDONLY) | O_CLOEXEC);
  if (fd < 0) return errno;
  off_t at = (off_t)(uintptr_t)address;
  ssize_t moved = stores ? pwrite(fd, &step->value, 1, at) : pread(fd, answer->samples, 1, at);
  int error = moved == 1 ? 0 : moved < 0 ? errno : EIO;
  close(fd);
  if (!error && !stores) answer->sample_count = 1;
  return error;
}

static int act(cshims_stage *stage, const cshims_stage_step *step, cshims_stage_answer *answer) {
  const cshims_stage_segment *segment = &step->segments[0];
  unsigned char *address = stage_address(stage, segment);
  int detail = (int)step->detail;
  switch ((cshims_stage_kind)step->kind) {
  case CSHIMS_STAGE_MAP:
    return map(stage, step);
  case CSHIMS_STAGE_UNMAP:
    return munmap(address, segment->length) == 0 ? 0 : errno;
  case CSHIMS_STAGE_PROTECT:
    return mprotect(address, segment->length, detail) == 0 ? 0 : errno;
  case CSHIMS_STAGE_ADVISE:
    return madvise(address, segment->length, detail) == 0 ? 0 : errno;
  case CSHIMS_STAGE_MOVE:
    return mremap(address, segment->length, step->segments[1].length,
                  MREMAP_MAYMOVE | MREMAP_FIXED | (detail ? MREMAP_DONTUNMAP : 0),
                  stage_address(stage, &step->segments[1])) == MAP_FAILED ? errno : 0;
  case CSHIMS_STAGE_LOAD:
    return load(stage, step, answer);
  case CSHIMS_STAGE_STORE:
    answer->signals[0] = (uint8_t)cshims_guarded_store(address, step->value);
    return 0;
  case CSHIMS_STAGE_PIN:
    return stage_pin(stage, step, answer);
  case CSHIMS_STAGE_PIN_TO_READ:
    return stage_pin_to_read(stage, step, answer);
  case CSHIMS_STAGE_GET:
    return stage_get(stage, step, answer);
  case CSHIMS_STAGE_DIRECT_READ:
  case CSHIMS_STAGE_DIRECT_WRITE:
    return stage_direct(stage, step, answer);
  case CSHIMS_STAGE_PEEK:
  case CSHIMS_STAGE_POKE:
    return force(step, address, answer);
  case CSHIMS_STAGE_PAGEMAP:
    return 0;
  default:
    return EINVAL;
  }
}

int stage_act(cshims_stage *stage, const cshims_stage_step *step, cshims_stage_answer *answer) {
  record(stage, step, answer->before);
  int error = act(stage, step, answer);
  // A page that was found in use twice waits in the processor's batch to be
  // called active, and is counted there: advice on the stage's own drains it.
  madvise(stage, CSHIMS_PAGE_SIZE, MADV_COLD);
  record(stage, step, answer->after);
  return error;
}
