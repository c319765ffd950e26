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
