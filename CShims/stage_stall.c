//===----------------------------------------------------------------------===//
// Pins for reading that last as long as a script wants. The process writes the
// hold's bytes to a file with O_DIRECT, and one block more, from a page that a
// userfaultfd keeps from coming. When the kernel meets that page it has pinned
// the hold's (FOLL_PIN without FOLL_WRITE) and no byte has moved: it moves them
// when the director closes the userfaultfd, and the file has what the device
// found.
//
// Order: a thread of the process makes the transfer and stores its answer. The
// kernel clears `runs` when it has left its stack (CLONE_CHILD_CLEARTID); who
// waits for the answer reads that first (acquire).
//===----------------------------------------------------------------------===//
#if !defined(_GNU_SOURCE)
#error "stage_stall.c needs clone: define _GNU_SOURCE"
#endif

#include "stage_internal.h"

#include "cshims_userfaultfd.h"
#include "trap_internal.h"

#include <linux/userfaultfd.h>
#include <poll.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
  STACK_LENGTH = 16 << 10,
  FINISH_MILLISECONDS = 5000,
};

/// Each process has its own, like all its memory. One page of the second for each hold.
static _Alignas(16) unsigned char stacks[CSHIMS_STAGE_HOLDS][STACK_LENGTH];
static unsigned char *stalls;

/// The thread. It has the thread-local memory of the one that made it, errno
/// too, which that one leaves alone while a transfer can fail.
CSHIMS_UNSANITIZED static int make_transfer(void *argument) {
  stage_transfer *transfer = argument;
  long moved = syscall(SYS_pwritev, transfer->file, transfer->list, 2ul, 0ul, 0ul);
  transfer->error = moved < 0 ? errno : 0;
  return 0;
}

static bool is_over(stage_transfer *transfer) {
  return atomic_load_explicit(&transfer->runs, memory_order_acquire) == 0;
}

/// Keeps a page from coming, as long as the descriptor is open.
static int stall(unsigned char *page, int *fd) {
  cshims_userfaultfd_report report;
  int error = cshims_userfaultfd_open(fd, &report);
  if (error) return error;
  struct uffdio_register range = {
      .range = {.start = (uintptr_t)page, .len = CSHIMS_PAGE_SIZE},
      .mode = UFFDIO_REGISTER_MODE_MISSING,
  };
  if (!report.serves_kernel) error = EPERM;
  // It came when a hold of this number ended before.
  else if (madvise(page, CSHIMS_PAGE_SIZE, MADV_DONTNEED) != 0 ||
           ioctl(*fd, UFFDIO_REGISTER, &range) != 0)
    error = errno;
  if (error) close(*fd);
  return error;
}

int stage_stall_prepare(void) {
  void *memory = mmap(NULL, CSHIMS_STAGE_HOLDS * CSHIMS_PAGE_SIZE, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return errno;
  stalls = memory;
  int fd;
  int error = stall(stalls, &fd);
  if (!error) close(fd);
  return error;
}

int stage_stall_begin(stage_transfer *transfer, uint32_t number, int file,
                      const struct iovec *what) {
  unsigned char *page = stalls + number * CSHIMS_PAGE_SIZE;
  int error = stall(page, &transfer->userfaultfd);
  if (error) return error;
  transfer->file = file;
  transfer->list[0] = *what;
  transfer->list[1] = (struct iovec){.iov_base = page, .iov_len = CSHIMS_STAGE_BLOCK};
  atomic_store_explicit(&transfer->runs, 1, memory_order_relaxed);
  int flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM |
              CLONE_CHILD_CLEARTID;
  if (clone(make_transfer, stacks[number] + STACK_LENGTH, flags, transfer, NULL, NULL,
            &transfer->runs) < 0) {
    error = errno;
  } else {
    // It meets the page, or what was asked for cannot be pinned as a whole.
    struct pollfd entry = {.fd = transfer->userfaultfd, .events = POLLIN};
    while (!is_over(transfer) && poll(&entry, 1, 1) <= 0) continue;
    if (is_over(transfer)) error = transfer->error ? transfer->error : EFAULT;
  }
  if (error) close(transfer->userfaultfd);
  return error;
}

void stage_stall_leave(stage_transfer *transfer) {
  if (transfer->userfaultfd >= 0) close(transfer->userfaultfd);
  transfer->userfaultfd = -1;
}

int stage_stall_end(stage_transfer *transfer) {
  if (transfer->userfaultfd < 0) return 0;
  stage_stall_leave(transfer);
  for (int waited = 0; !is_over(transfer) && waited < FINISH_MILLISECONDS; waited += 50)
    stage_sleep(&transfer->runs, 1, 50);
  return is_over(transfer) ? transfer->error : ETIMEDOUT;
}
