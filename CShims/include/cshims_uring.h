//===----------------------------------------------------------------------===//
// The running kernel's own pins and references, by raw system calls: io_uring
// registered buffers (FOLL_PIN | FOLL_WRITE | FOLL_LONGTERM) and vmsplice
// (FOLL_GET). Every function returns 0 or an errno value.
//===----------------------------------------------------------------------===//
#ifndef CSHIMS_URING_H
#define CSHIMS_URING_H

#include "cshims_basics.h"

/// A ring of the smallest size, for registering buffers only.
int cshims_uring_open(int *fd);
/// Pins all pages of one buffer until it is unregistered or the ring is closed.
/// EBUSY: the ring has one already. EFAULT: not mapped, not writable, or longer
/// than 1 GiB. ENOMEM: also when RLIMIT_MEMLOCK is used up.
int cshims_uring_register_buffer(int fd, void *address, uint64_t length);
/// Unpins; the pages are free when it returns. ENXIO: nothing was registered.
/// (Closing the ring unpins too, but some time afterwards.)
int cshims_uring_unregister_buffers(int fd);

/// A ring whose registered buffer a device reads and writes.
typedef struct cshims_ring {
  int fd;
  /// The mappings that the kernel and the program share.
  void *queues;
  void *requests;
  uint32_t tail_at;
  uint32_t head_at;
  uint32_t array_at;
  uint32_t completions_at;
} cshims_ring;

/// A ring of one request at a time; closed when the process ends.
int cshims_ring_open(cshims_ring *ring);
/// One request on the registered buffer: with `from_memory` its bytes go to the
/// file (IORING_OP_WRITE_FIXED), else the file's come to it
/// (IORING_OP_READ_FIXED). EIO when it moved less than `length` bytes.
int cshims_ring_transfer(cshims_ring *ring, bool from_memory, int file, void *address,
                         uint32_t length);

/// A pipe whose capacity is at least `bytes` (or the largest allowed). It holds
/// one page, or a part of one, per 4 KiB of capacity. Neither end blocks.
int cshims_pipe_open(int *read_end, int *write_end, uint64_t bytes, uint64_t *capacity);
/// A descriptor of /dev/null to drain into.
int cshims_null_open(int *null_fd);
/// Puts the pages of a buffer into a pipe without copying; `*moved` in bytes,
/// also on error. EAGAIN: the pipe is full.
int cshims_vmsplice(int write_end, const void *address, uint64_t length, uint64_t *moved);
/// Throws away `length` bytes of what stands in a pipe by splicing it to
/// /dev/null, which drops the references. EAGAIN: there was less.
int cshims_pipe_drain(int read_end, int null_fd, uint64_t length);

#endif
