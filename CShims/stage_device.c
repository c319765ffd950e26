//===----------------------------------------------------------------------===//
// The stage's device: one io_uring instance or pipe a hold, a cable that the
// device's bytes come through, and the files.
//
// Everything is opened in the director before a script's first process is made,
// so that all of them know it by the same descriptors and a hold outlives the
// process that took it.
//===----------------------------------------------------------------------===//
#if !defined(_GNU_SOURCE)
#error "stage_device.c needs vmsplice, tee and O_DIRECT: define _GNU_SOURCE"
#endif

#include "stage_internal.h"

#include "cshims_uring.h"
#include "cshims_witness.h"

#include <fcntl.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <unistd.h>

enum {
  /// Pipe slots that a hold may fill; what an ordinary user's pipe may have.
  PIPE_PAGES = 256,
  FILE_LENGTH = STAGE_FILE_PAGES * CSHIMS_PAGE_SIZE,
};

typedef struct pipe_ends {
  int read_end;
  int write_end;
} pipe_ends;

typedef struct disk_file {
  int buffered;
  int direct;
} disk_file;

static struct {
  cshims_ring rings[CSHIMS_STAGE_HOLDS];
  pipe_ends pipes[CSHIMS_STAGE_HOLDS];
  bool has_ring[CSHIMS_STAGE_HOLDS];
  bool has_pipe[CSHIMS_STAGE_HOLDS];
  /// For transfers that wait, which keep a file's lock.
  disk_file files[CSHIMS_STAGE_HOLDS];
  bool has_file[CSHIMS_STAGE_HOLDS];
  /// Between the device and the director.
  pipe_ends cable;
  /// One file, with and without the page cache.
  int direct;
  int buffered;
  int mapped;
  const char *directory;
} device;

/// Bytes on their way through the director.
static unsigned char scratch[FILE_LENGTH];

static int open_pipe(pipe_ends *ends, uint64_t bytes) {
  uint64_t capacity = 0;
  int error = cshims_pipe_open(&ends->read_end, &ends->write_end, bytes, &capacity);
  return error ? error : capacity < bytes ? ENOSPC : 0;
}

/// A file without a name that holds FILE_LENGTH zeroes.
static int open_file(const char *directory, int *fd, int *direct) {
  char path[4096];
  if (snprintf(path, sizeof path, "%s/gup-stage-XXXXXX", directory) >= (int)sizeof path)
    return ENAMETOOLONG;
  int file = mkostemp(path, O_CLOEXEC);
  if (file < 0) return errno;
  int error = ftruncate(file, FILE_LENGTH) == 0 ? 0 : errno;
  if (!error && direct) {
    *direct = open(path, O_RDWR | O_CLOEXEC | O_DIRECT);
    if (*direct < 0) error = errno;
  }
  unlink(path);
  if (error) {
    close(file);
    return error;
  }
  *fd = file;
  return 0;
}

/// O_DIRECT that is none: memory file systems copy.
static bool copies(int fd) {
  struct statfs about;
  if (fstatfs(fd, &about) != 0) return true;
  unsigned long type = (unsigned long)about.f_type;
  return type == TMPFS_MAGIC || type == RAMFS_MAGIC;
}

/// Opens a hold's file, in one piece: what lies in several is transferred piece by piece, and
/// would not wait.
static int open_whole_file(uint32_t number) {
  enum { ATTEMPTS = 8 };
  disk_file *file = &device.files[number];
  if (device.has_file[number]) return 0;
  int error = ENOSPC;
  for (int i = 0; i < ATTEMPTS && error == ENOSPC; i++) {
    error = open_file(device.directory, &file->buffered, &file->direct);
    if (error) return error;
    memset(scratch, 0, sizeof scratch);
    struct fiemap pieces = {.fm_length = FIEMAP_MAX_OFFSET, .fm_flags = FIEMAP_FLAG_SYNC};
    if (pwrite(file->buffered, scratch, sizeof scratch, CSHIMS_PAGE_SIZE) != sizeof scratch ||
        pwrite(file->buffered, scratch, sizeof scratch, 0) != sizeof scratch) error = EIO;
    else if (ioctl(file->buffered, FS_IOC_FIEMAP, &pieces) != 0) error = errno;
    else if (pieces.fm_mapped_extents != 1) error = ENOSPC;
    if (!error) continue;
    close(file->buffered);
    close(file->direct);
  }
  device.has_file[number] = !error;
  return error;
}

int stage_device_open(const char *directory, int *direct_error, int *stall_error) {
  device.direct = -1;
  device.directory = directory;
  int error = open_pipe(&device.cable, 2 * FILE_LENGTH);
  if (error) return error;
  *direct_error = open_file(directory, &device.buffered, &device.direct);
  if (!*direct_error && copies(device.direct)) *direct_error = ENOTSUP;
  *stall_error = *direct_error ? *direct_error : open_whole_file(0);
  return open_file(directory, &device.mapped, NULL);
}

int stage_device_file(void) {
  return device.mapped;
}

static int fill_mapped_file(void) {
  memset(scratch, 0, sizeof scratch);
  for (int page = 0; page < STAGE_FILE_PAGES; page++)
    scratch[page * CSHIMS_PAGE_SIZE] = (unsigned char)(0x40 + page);
  return pwrite(device.mapped, scratch, sizeof scratch, 0) == (ssize_t)sizeof scratch ? 0 : EIO;
}

int stage_device_prepare(cshims_stage *stage) {
  bool maps_file = false;
  for (uint32_t i = 0; i < stage->count; i++) {
    const cshims_stage_step *step = &stage->steps[i];
    int error = 0;
    if (step->kind == CSHIMS_STAGE_PIN && !device.has_ring[step->other]) {
      error = cshims_ring_open(&device.rings[step->other]);
      device.has_ring[step->other] = !error;
    } else if (step->kind == CSHIMS_STAGE_GET && !device.has_pipe[step->other]) {
      error = open_pipe(&device.pipes[step->other], PIPE_PAGES * CSHIMS_PAGE_SIZE);
      device.has_pipe[step->other] = !error;
    } else if (step->kind == CSHIMS_STAGE_PIN_TO_READ) {
      error = open_whole_file(step->other);
    }
    if (error) return error;
    maps_file |= step->kind == CSHIMS_STAGE_MAP && step->other >= CSHIMS_STAGE_PRIVATE_FILE;
  }
  return maps_file ? fill_mapped_file() : 0;
}

void stage_device_reset(cshims_stage *stage) {
  for (uint32_t i = 0; i < CSHIMS_STAGE_HOLDS; i++) {
    // Nobody makes the transfer any more.
    if (stage->holds[i].state == HOLD_PIN_TO_READ) stage_stall_leave(&stage->transfers[i]);
    else stage_release(stage, i);
  }
}

//===--- Holds ------------------------------------------------------------===//

int stage_pin(cshims_stage *stage, const cshims_stage_step *step, cshims_stage_answer *answer) {
  const cshims_stage_segment *segment = &step->segments[0];
  unsigned char *address = stage_address(stage, segment);
  int error = cshims_uring_register_buffer(device.rings[step->other].fd, address, segment->length);
  if (error) return error;
  answer->amount = segment->length;
  stage->holds[step->other] =
      (stage_hold){.state = HOLD_PIN, .address = address, .length = segment->length};
  return 0;
}

int stage_pin_to_read(cshims_stage *stage, const cshims_stage_step *step,
                      cshims_stage_answer *answer) {
  const cshims_stage_segment *segment = &step->segments[0];
  struct iovec what = {.iov_base = stage_address(stage, segment), .iov_len = segment->length};
  int error = stage_stall_begin(&stage->transfers[step->other], step->other,
                                device.files[step->other].direct, &what);
  if (error) return error;
  answer->amount = segment->length;
  stage->holds[step->other] = (stage_hold){
      .state = HOLD_PIN_TO_READ, .address = what.iov_base, .length = segment->length};
  return 0;
}

int stage_get(cshims_stage *stage, const cshims_stage_step *step, cshims_stage_answer *answer) {
  const cshims_stage_segment *segment = &step->segments[0];
  unsigned char *address = stage_address(stage, segment);
  static struct iovec list[PIPE_PAGES];
  uint32_t times = step->detail;
  if (times > PIPE_PAGES) return EINVAL;
  for (uint32_t i = 0; i < times; i++)
    list[i] = (struct iovec){.iov_base = address, .iov_len = segment->length};
  ssize_t moved;
  do moved = vmsplice(device.pipes[step->other].write_end, list, times, SPLICE_F_NONBLOCK);
  while (moved < 0 && errno == EINTR);
  if (moved < 0) return errno;
  answer->amount = (uint64_t)moved / times;
  stage->holds[step->other] =
      (stage_hold){.state = HOLD_GET, .address = address, .length = answer->amount};
  return 0;
}

static void drain(int read_end) {
  while (read(read_end, scratch, sizeof scratch) > 0) continue;
}

int stage_release(cshims_stage *stage, uint32_t number) {
  stage_hold *hold = &stage->holds[number];
  stage_hold_state state = hold->state;
  hold->state = HOLD_NONE;
  if (state == HOLD_PIN) return cshims_uring_unregister_buffers(device.rings[number].fd);
  if (state == HOLD_PIN_TO_READ) return stage_stall_end(&stage->transfers[number]);
  if (state == HOLD_GET) drain(device.pipes[number].read_end);
  return 0;
}

//===--- Transfers --------------------------------------------------------===//

int stage_device_write(cshims_stage *stage, const cshims_stage_step *step) {
  const stage_hold *hold = &stage->holds[step->other];
  if (hold->state != HOLD_PIN) return ENOTSUP;
  if (write(device.cable.write_end, &step->value, 1) != 1) return EIO;
  int error = cshims_ring_transfer(&device.rings[step->other], false, device.cable.read_end,
                                   stage_address(stage, &step->segments[0]), 1);
  drain(device.cable.read_end);
  return error;
}

/// Brings the bytes of a hold to `scratch`. Only a transfer that waits is over then.
static int fetch(cshims_stage *stage, uint32_t number) {
  const stage_hold *hold = &stage->holds[number];
  int from = device.cable.read_end;
  int to = device.cable.write_end;
  uint64_t done = 0;
  int error = 0;
  if (hold->state == HOLD_PIN_TO_READ) {
    error = stage_stall_end(&stage->transfers[number]);
    if (error) return error;
    ssize_t n = pread(device.files[number].buffered, scratch, hold->length, 0);
    return n == (ssize_t)hold->length ? 0 : EIO;
  }
  if (hold->state == HOLD_GET) {
    ssize_t n = tee(device.pipes[number].read_end, to, hold->length, SPLICE_F_NONBLOCK);
    if (n < 0) error = errno;
    else if ((uint64_t)n != hold->length) error = EIO;
  } else {
    error = cshims_ring_transfer(&device.rings[number], true, to, hold->address,
                                 (uint32_t)hold->length);
  }
  while (!error && done < hold->length) {
    ssize_t n = read(from, scratch + done, hold->length - done);
    if (n <= 0) error = EIO;
    else done += (uint64_t)n;
  }
  drain(from);
  return error;
}

int stage_device_read(cshims_stage *stage, const cshims_stage_step *step,
                      cshims_stage_answer *answer) {
  const stage_hold *hold = &stage->holds[step->other];
  if (hold->state == HOLD_NONE) return ENOENT;
  if (hold->length > sizeof scratch) return E2BIG;
  // The cable has slots for twice as many pages.
  int error = fetch(stage, step->other);
  if (error) return error;
  for (uint64_t at = 0; at < hold->length; at += CSHIMS_STAGE_BLOCK)
    answer->samples[answer->sample_count++] = scratch[at];
  return 0;
}

int stage_direct(cshims_stage *stage, const cshims_stage_step *step, cshims_stage_answer *answer) {
  struct iovec list[CSHIMS_STAGE_SEGMENTS];
  for (uint32_t i = 0; i < step->segment_count; i++)
    list[i] = (struct iovec){.iov_base = stage_address(stage, &step->segments[i]),
                             .iov_len = step->segments[i].length};
  // The file's bytes go through the page cache, which O_DIRECT keeps coherent:
  // nothing but the transfer itself pins.
  bool reads = step->kind == CSHIMS_STAGE_DIRECT_READ;
  memset(scratch, 0, sizeof scratch);
  for (size_t at = 0; reads && at < sizeof scratch; at += CSHIMS_STAGE_BLOCK)
    scratch[at] = step->value;
  if (pwrite(device.buffered, scratch, sizeof scratch, 0) != (ssize_t)sizeof scratch) return EIO;
  int count = (int)step->segment_count;
  ssize_t moved = reads ? preadv(device.direct, list, count, 0)
                        : pwritev(device.direct, list, count, 0);
  if (moved < 0) return errno;
  answer->amount = (uint64_t)moved;
  if (reads) return 0;
  if (pread(device.buffered, scratch, sizeof scratch, 0) != (ssize_t)sizeof scratch) return EIO;
  for (uint64_t at = 0; at < answer->amount; at += CSHIMS_STAGE_BLOCK)
    answer->samples[answer->sample_count++] = scratch[at];
  return 0;
}

static uint64_t counter(const char *text, const char *name) {
  const char *found = strstr(text, name);
  return found ? strtoull(found + strlen(name), NULL, 10) : 0;
}

int stage_counters(cshims_stage_answer *answer) {
  size_t length = 0;
  // Reading it folds the processors' own batches in; root only.
  int error = cshims_read_text("/proc/sys/vm/stat_refresh", (char *)scratch, 16, &length);
  if (error) return error;
  error = cshims_read_text("/proc/vmstat", (char *)scratch, sizeof scratch - 1, &length);
  if (error) return error;
  scratch[length] = 0;
  answer->amount = counter((const char *)scratch, "nr_foll_pin_acquired ");
  answer->more = counter((const char *)scratch, "nr_foll_pin_released ");
  return 0;
}
