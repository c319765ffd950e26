//===----------------------------------------------------------------------===//
// io_uring and vmsplice as ways to make the running kernel pin pages and take
// references on them. No library: the two io_uring calls have no wrapper in
// libc, and registering buffers needs no mapped rings.
//===----------------------------------------------------------------------===//
#if !defined(_GNU_SOURCE)
#error "uring.c needs vmsplice and F_SETPIPE_SZ: define _GNU_SOURCE"
#endif

#include "cshims_uring.h"

#include <fcntl.h>
#include <linux/io_uring.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

_Static_assert(SYS_io_uring_setup == 425 && SYS_io_uring_register == 427,
               "the numbers that every architecture since 5.1 shares");

int cshims_uring_open(int *fd) {
  struct io_uring_params parameters;
  memset(&parameters, 0, sizeof parameters);
  long ring = syscall(SYS_io_uring_setup, 1, &parameters);
  if (ring < 0) return errno;
  *fd = (int)ring;
  return 0;
}

int cshims_uring_register_buffer(int fd, void *address, uint64_t length) {
  struct iovec buffer = {.iov_base = address, .iov_len = length};
  if (syscall(SYS_io_uring_register, fd, IORING_REGISTER_BUFFERS, &buffer, 1) < 0) return errno;
  return 0;
}

int cshims_uring_unregister_buffers(int fd) {
  // Kernels before 6.13 wait for the ring to be idle and may be interrupted.
  while (syscall(SYS_io_uring_register, fd, IORING_UNREGISTER_BUFFERS, NULL, 0) < 0)
    if (errno != EINTR) return errno;
  return 0;
}

int cshims_ring_open(cshims_ring *ring) {
  struct io_uring_params parameters;
  memset(&parameters, 0, sizeof parameters);
  long fd = syscall(SYS_io_uring_setup, 1, &parameters);
  if (fd < 0) return errno;
  // Both queues in one mapping since Linux 5.4.
  size_t submissions = parameters.sq_off.array + parameters.sq_entries * sizeof(uint32_t);
  size_t completions =
      parameters.cq_off.cqes + parameters.cq_entries * sizeof(struct io_uring_cqe);
  size_t length = submissions > completions ? submissions : completions;
  int error = parameters.features & IORING_FEAT_SINGLE_MMAP ? 0 : ENOSYS;
  void *queues = MAP_FAILED, *requests = MAP_FAILED;
  if (!error) {
    queues = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, (int)fd, IORING_OFF_SQ_RING);
    requests = mmap(NULL, parameters.sq_entries * sizeof(struct io_uring_sqe),
                    PROT_READ | PROT_WRITE, MAP_SHARED, (int)fd, IORING_OFF_SQES);
    if (queues == MAP_FAILED || requests == MAP_FAILED) error = errno;
  }
  if (error) {
    if (queues != MAP_FAILED) munmap(queues, length);
    close((int)fd);
    return error;
  }
  *ring = (cshims_ring){
      .fd = (int)fd,
      .queues = queues,
      .requests = requests,
      .tail_at = parameters.sq_off.tail,
      .head_at = parameters.cq_off.head,
      .array_at = parameters.sq_off.array,
      .completions_at = parameters.cq_off.cqes,
  };
  return 0;
}

int cshims_ring_transfer(cshims_ring *ring, bool from_memory, int file, void *address,
                         uint32_t length) {
  unsigned char *queues = ring->queues;
  struct io_uring_sqe *request = ring->requests;
  memset(request, 0, sizeof *request);
  request->opcode = from_memory ? IORING_OP_WRITE_FIXED : IORING_OP_READ_FIXED;
  request->fd = file;
  request->addr = (uintptr_t)address;
  request->len = length;
  // The registered buffer is number 0; a pipe has no position.
  *(uint32_t *)(void *)(queues + ring->array_at) = 0;
  _Atomic(uint32_t) *tail = (_Atomic(uint32_t) *)(void *)(queues + ring->tail_at);
  _Atomic(uint32_t) *head = (_Atomic(uint32_t) *)(void *)(queues + ring->head_at);
  atomic_fetch_add_explicit(tail, 1, memory_order_release);
  long taken;
  do taken = syscall(SYS_io_uring_enter, ring->fd, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0);
  while (taken < 0 && errno == EINTR);
  if (taken < 0) return errno;
  // The completion queue has two entries for a ring of one.
  uint32_t at = atomic_load_explicit(head, memory_order_acquire);
  const struct io_uring_cqe *completion =
      (const struct io_uring_cqe *)(void *)(queues + ring->completions_at) + (at & 1);
  int moved = completion->res;
  atomic_store_explicit(head, at + 1, memory_order_release);
  if (moved < 0) return -moved;
  return (uint32_t)moved == length ? 0 : EIO;
}

int cshims_pipe_open(int *read_end, int *write_end, uint64_t bytes, uint64_t *capacity) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) return errno;
  int size = fcntl(ends[1], F_GETPIPE_SZ);
  if (size < 0) {
    int error = errno;
    close(ends[0]);
    close(ends[1]);
    return error;
  }
  // The kernel rounds up to a power of two and refuses what lies above the
  // limits of the system or the user: come down until it agrees.
  uint64_t wish = 1ull << 30;
  while (wish / 2 >= bytes && wish > (uint64_t)size) wish /= 2;
  for (; wish > (uint64_t)size; wish /= 2) {
    int set = fcntl(ends[1], F_SETPIPE_SZ, (int)wish);
    if (set > 0) size = set;
  }
  *read_end = ends[0];
  *write_end = ends[1];
  *capacity = (uint64_t)size;
  return 0;
}

int cshims_null_open(int *null_fd) {
  int fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
  if (fd < 0) return errno;
  *null_fd = fd;
  return 0;
}

int cshims_vmsplice(int write_end, const void *address, uint64_t length, uint64_t *moved) {
  *moved = 0;
  while (*moved < length) {
    // vmsplice takes the iovec as const but its base as void *: it is only read.
    struct iovec rest = {
        .iov_base = (void *)((uintptr_t)address + *moved),
        .iov_len = length - *moved,
    };
    ssize_t n = vmsplice(write_end, &rest, 1, SPLICE_F_NONBLOCK);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return errno;
    if (n == 0) return EFAULT;
    *moved += (uint64_t)n;
  }
  return 0;
}

int cshims_pipe_drain(int read_end, int null_fd, uint64_t length) {
  while (length > 0) {
    size_t chunk = length < (1u << 30) ? (size_t)length : (size_t)1 << 30;
    ssize_t n = splice(read_end, NULL, null_fd, NULL, chunk, SPLICE_F_NONBLOCK);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return errno;
    if (n == 0) return EPIPE;
    length -= (uint64_t)n;
  }
  return 0;
}
