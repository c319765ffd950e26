//===----------------------------------------------------------------------===//
// Questions to the running kernel, and the buffers its pins are tried on.
//===----------------------------------------------------------------------===//
#if !defined(_GNU_SOURCE)
#error "witness.c needs sched_getaffinity and strerrorname_np: define _GNU_SOURCE"
#endif

#include "cshims_witness.h"

#include <fcntl.h>
#include <inttypes.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#if !defined(MADV_POPULATE_WRITE)
#define MADV_POPULATE_WRITE 23
#endif

enum { HUGE_PAGE = 2 << 20 };

int cshims_kernel_release(char *text, size_t capacity) {
  struct utsname name;
  if (uname(&name) != 0) return errno;
  size_t length = strlen(name.release) + 1;
  if (length > capacity) return ENAMETOOLONG;
  memcpy(text, name.release, length);
  return 0;
}

int cshims_cpu_count(uint64_t *count) {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) {
    *count = (uint64_t)CPU_COUNT(&set);
    return 0;
  }
  // More processors than the set has room for.
  long online = sysconf(_SC_NPROCESSORS_ONLN);
  if (online < 1) return errno ? errno : EINVAL;
  *count = (uint64_t)online;
  return 0;
}

int cshims_memory_total(uint64_t *bytes) {
  struct sysinfo info;
  if (sysinfo(&info) != 0) return errno;
  *bytes = (uint64_t)info.totalram * info.mem_unit;
  return 0;
}

const char *cshims_error_name(int error) {
#if defined(__GLIBC__)
  const char *name = strerrorname_np(error);
#else
  (void)error;
  const char *name = NULL;
#endif
  return name ? name : "errno";
}

const char *cshims_error_text(int error) {
#if defined(__GLIBC__)
  const char *text = strerrordesc_np(error);
#else
  const char *text = strerror(error);
#endif
  return text ? text : "unknown error";
}

int cshims_read_text(const char *path, char *text, size_t capacity, size_t *length) {
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return errno;
  size_t done = 0;
  int error = EFBIG;
  while (done < capacity) {
    ssize_t n = read(fd, text + done, capacity - done);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) {
      error = n < 0 ? errno : 0;
      break;
    }
    done += (size_t)n;
  }
  close(fd);
  *length = done;
  return error;
}

int cshims_pagemap_read(uint64_t address, uint64_t count, uint64_t *entries) {
  int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
  if (fd < 0) return errno;
  unsigned char *to = (unsigned char *)entries;
  uint64_t offset = (address >> CSHIMS_PAGE_SHIFT) * sizeof *entries;
  uint64_t left = count * sizeof *entries;
  int error = 0;
  while (left > 0 && error == 0) {
    ssize_t n = pread(fd, to, left, (off_t)offset);
    if (n < 0 && errno == EINTR) continue;
    // Nothing is read past the end of user addresses.
    if (n <= 0) {
      error = n < 0 ? errno : EFAULT;
      break;
    }
    to += n;
    offset += (uint64_t)n;
    left -= (uint64_t)n;
  }
  close(fd);
  return error;
}

/// Makes every page present, as a store would.
static int populate(unsigned char *base, uint64_t length) {
  while (madvise(base, length, MADV_POPULATE_WRITE) != 0) {
    if (errno == EINTR) continue;
    if (errno != EINVAL) return errno;
    // Before Linux 5.14.
    for (uint64_t at = 0; at < length; at += CSHIMS_PAGE_SIZE)
      *(volatile unsigned char *)(base + at) = 0;
    return 0;
  }
  return 0;
}

int cshims_buffer_map(uint64_t length, cshims_huge_pages huge_pages, void **base) {
  if (length == 0 || length % CSHIMS_PAGE_SIZE != 0) return EINVAL;
  if (length >= 1ull << 47) return ENOMEM;
  uint64_t reserved = length + HUGE_PAGE + 2 * CSHIMS_PAGE_SIZE;
  void *memory = mmap(NULL, reserved, PROT_NONE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) return errno;
  uintptr_t low = (uintptr_t)memory;
  uintptr_t start = (low + CSHIMS_PAGE_SIZE + HUGE_PAGE - 1) & ~(uintptr_t)(HUGE_PAGE - 1);
  uintptr_t from = start - CSHIMS_PAGE_SIZE;
  uintptr_t to = start + length + CSHIMS_PAGE_SIZE;
  // Keep one guard page on each side. (Neither call can fail: both ends of our
  // own fresh mapping are cut off.)
  if (from > low) munmap(memory, from - low);
  if (low + reserved > to) munmap((void *)to, low + reserved - to);

  unsigned char *buffer = (unsigned char *)start;
  int error = 0;
  // Mapped anew, so that it counts as memory of ours and is refused if too much.
  if (mmap(buffer, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
           0) == MAP_FAILED)
    error = errno;
  if (!error && huge_pages == CSHIMS_HUGE_PAGES_WANTED &&
      madvise(buffer, length, MADV_HUGEPAGE) != 0)
    error = errno;
  // Without transparent huge pages there is nothing to forbid.
  if (!error && huge_pages == CSHIMS_HUGE_PAGES_FORBIDDEN &&
      madvise(buffer, length, MADV_NOHUGEPAGE) != 0 && errno != EINVAL)
    error = errno;
  if (!error) error = populate(buffer, length);
  if (error) {
    cshims_buffer_unmap(buffer, length);
    return error;
  }
  *base = buffer;
  return 0;
}

int cshims_buffer_unmap(void *base, uint64_t length) {
  unsigned char *from = (unsigned char *)base - CSHIMS_PAGE_SIZE;
  return munmap(from, length + 2 * CSHIMS_PAGE_SIZE) == 0 ? 0 : errno;
}

int cshims_buffer_huge_bytes(const void *base, uint64_t *bytes) {
  FILE *maps = fopen("/proc/self/smaps", "re");
  if (!maps) return errno;
  char line[512];
  bool inside = false;
  int error = ESRCH;
  while (fgets(line, sizeof line, maps)) {
    uintptr_t start, end;
    uint64_t kilobytes;
    if (sscanf(line, "%" SCNxPTR "-%" SCNxPTR " ", &start, &end) == 2) {
      if (inside) break;
      inside = start == (uintptr_t)base;
    } else if (inside && sscanf(line, "AnonHugePages: %" SCNu64 " kB", &kilobytes) == 1) {
      *bytes = kilobytes << 10;
      error = 0;
      break;
    }
  }
  fclose(maps);
  return error;
}

int cshims_fork_idle_child(int *pid) {
  // The call alone: handlers around fork(2) are the library's work, not the kernel's,
  // and would be felt by all of this process's machines.
  long child = syscall(SYS_clone, (unsigned long)SIGCHLD, NULL, NULL, NULL, 0ul);
  if (child < 0) return errno;
  if (child == 0) syscall(SYS_exit_group, 0);
  *pid = (int)child;
  return 0;
}

int cshims_wait_for_child(int pid) {
  while (waitpid(pid, NULL, 0) < 0)
    if (errno != EINTR) return errno;
  return 0;
}
