//===----------------------------------------------------------------------===//
// The system calls of cshims_host.h. No locks, no state of its own, and no
// allocation except in cshims_allocate and cshims_allocate_unfilled.
//===----------------------------------------------------------------------===//
#include "cshims_host.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U  // Linux 6.3
#endif
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23  // Linux 5.14
#endif

static void *pointer(uint64_t address) {
  return (void *)(uintptr_t)address;
}

static const int reservation = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;

//===--- Files ------------------------------------------------------------===//

int cshims_memfd_create(const char *name, uint64_t length, int *fd) {
  if (length > INT64_MAX) return EFBIG;
  unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
  // Hosts that forbid executable memfds want the flag, older ones do not know it.
  int made = memfd_create(name, flags | MFD_NOEXEC_SEAL);
  if (made < 0 && errno == EINVAL) made = memfd_create(name, flags);
  if (made < 0) return errno;
  if (ftruncate(made, (off_t)length) != 0 ||
      fcntl(made, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK) != 0) {
    int error = errno;
    close(made);
    return error;
  }
  *fd = made;
  return 0;
}

int cshims_close(int fd) {
  // Linux has closed the descriptor also when it says EINTR.
  return close(fd) == 0 || errno == EINTR ? 0 : errno;
}

int cshims_memfd_punch(int fd, uint64_t offset, uint64_t length) {
  int mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
  while (fallocate(fd, mode, (off_t)offset, (off_t)length) != 0) {
    if (errno != EINTR) return errno;
  }
  return 0;
}

int cshims_memfd_allocated(int fd, uint64_t *bytes) {
  struct stat status;
  if (fstat(fd, &status) != 0) return errno;
  *bytes = (uint64_t)status.st_blocks * 512;
  return 0;
}

//===--- Mappings ---------------------------------------------------------===//

static int unmap_if_any(uint64_t address, uint64_t length) {
  return length == 0 ? 0 : cshims_unmap(address, length);
}

int cshims_map_memfd(int fd, uint64_t length, uint64_t alignment, void **base) {
  uint64_t room;
  if (length == 0 || alignment < CSHIMS_PAGE_SIZE || (alignment & (alignment - 1)) != 0)
    return EINVAL;
  if (__builtin_add_overflow(length, CSHIMS_PAGE_SIZE - 1, &length)) return ENOMEM;
  length &= ~(uint64_t)(CSHIMS_PAGE_SIZE - 1);
  if (__builtin_add_overflow(length, alignment - CSHIMS_PAGE_SIZE, &room)) return ENOMEM;
  uint64_t start = 0;
  int error = cshims_reserve(0, room, &start);
  if (error != 0) return error;
  uint64_t aligned = (start + alignment - 1) & ~(alignment - 1);
  void *mapped = mmap(pointer(aligned), length, PROT_READ | PROT_WRITE,
                      MAP_SHARED | MAP_NORESERVE | MAP_FIXED, fd, 0);
  if (mapped == MAP_FAILED) {
    error = errno;
    cshims_unmap(start, room);
    return error;
  }
  // A trim can only fail at the limit of mappings; it leaves a harmless hole.
  unmap_if_any(start, aligned - start);
  unmap_if_any(aligned + length, start + room - (aligned + length));
  // A core dump would walk the whole window, up to a tebibyte of holes.
  madvise(mapped, length, MADV_DONTDUMP);
  *base = mapped;
  return 0;
}

int cshims_map_memfd_at(int fd, uint64_t length, uint64_t address) {
  void *mapped = mmap(pointer(address), length, PROT_READ | PROT_WRITE,
                      MAP_SHARED | MAP_NORESERVE | MAP_FIXED, fd, 0);
  if (mapped == MAP_FAILED) return errno;
  madvise(mapped, length, MADV_DONTDUMP);
  return 0;
}

int cshims_reserve(uint64_t address, uint64_t length, uint64_t *base) {
  int exactly = address != 0 ? MAP_FIXED_NOREPLACE : 0;
  void *mapped = mmap(pointer(address), length, PROT_NONE, reservation | exactly, -1, 0);
  if (mapped == MAP_FAILED) return errno;
  if (address != 0 && mapped != pointer(address)) {
    // A kernel that does not know the flag took the address as a hint.
    munmap(mapped, length);
    return EEXIST;
  }
  // So that a child finds the whole of a view missing, in one piece. Where the
  // host refuses, the child inherits what it cannot touch either.
  madvise(mapped, length, MADV_DONTFORK);
  *base = (uint64_t)(uintptr_t)mapped;
  return 0;
}

int cshims_do_not_inherit(void *address, uint64_t length) {
  return madvise(address, length, MADV_DONTFORK) == 0 ? 0 : errno;
}

int cshims_rereserve(uint64_t address, uint64_t length) {
  void *mapped = mmap(pointer(address), length, PROT_NONE, reservation | MAP_FIXED, -1, 0);
  if (mapped == MAP_FAILED) return errno;
  madvise(mapped, length, MADV_DONTFORK);
  return 0;
}

int cshims_unmap(uint64_t address, uint64_t length) {
  return munmap(pointer(address), length) == 0 ? 0 : errno;
}

int cshims_show(uint64_t address, uint64_t length, cshims_protection protection, int fd,
                uint64_t offset) {
  void *mapped = mmap(pointer(address), length, (int)protection,
                      MAP_SHARED | MAP_NORESERVE | MAP_FIXED, fd, (off_t)offset);
  if (mapped == MAP_FAILED) return errno;
  if (madvise(mapped, length, MADV_DONTFORK) == 0) return 0;
  // Better no view than one that a child would silently share.
  int error = errno;
  cshims_rereserve(address, length);
  return error;
}

int cshims_protect(uint64_t address, uint64_t length, cshims_protection protection) {
  return mprotect(pointer(address), length, (int)protection) == 0 ? 0 : errno;
}

static int advise(void *address, uint64_t length, int advice) {
  while (madvise(address, length, advice) != 0) {
    if (errno != EINTR && errno != EAGAIN) return errno;
  }
  return 0;
}

int cshims_zap(uint64_t address, uint64_t length) {
  return advise(pointer(address), length, MADV_DONTNEED);
}

int cshims_populate_write(void *address, uint64_t length) {
  int error = advise(address, length, MADV_POPULATE_WRITE);
  // An empty range is refused only by a kernel that does not know the advice.
  if (error != EINVAL || madvise(NULL, 0, MADV_POPULATE_WRITE) == 0) return error;
  volatile unsigned char *bytes = address;
  for (uint64_t at = 0; at < length; at += CSHIMS_PAGE_SIZE) {
    // A store that changes nothing and loses no other thread's store. Written
    // out because compilers turn an atomic "or 0" into a load.
    __asm__ volatile("lock orb $0, %0" : "+m"(bytes[at]) : : "cc");
  }
  return 0;
}

int cshims_mincore(void *address, uint64_t length, unsigned char *vector) {
  while (mincore(address, length, vector) != 0) {
    if (errno != EAGAIN) return errno;
  }
  return 0;
}

int cshims_anonymous(uint64_t length, void **base) {
  void *mapped = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                      -1, 0);
  if (mapped == MAP_FAILED) return errno;
  *base = mapped;
  return 0;
}

//===--- What the host says about itself ----------------------------------===//

static int open_to_read(const char *path, int *fd) {
  while ((*fd = open(path, O_RDONLY | O_CLOEXEC)) < 0) {
    if (errno != EINTR) return errno;
  }
  return 0;
}

static int read_some(int fd, char *buffer, size_t room, size_t *got) {
  for (;;) {
    ssize_t n = read(fd, buffer, room);
    if (n >= 0) {
      *got = (size_t)n;
      return 0;
    }
    if (errno != EINTR) return errno;
  }
}

int cshims_read_number(const char *path, uint64_t *value) {
  int fd;
  int error = open_to_read(path, &fd);
  if (error != 0) return error;
  char text[64];
  size_t length = 0;
  error = read_some(fd, text, sizeof text, &length);
  close(fd);
  if (error != 0) return error;
  uint64_t number = 0;
  size_t at = 0;
  for (; at < length && text[at] >= '0' && text[at] <= '9'; at++) {
    if (__builtin_mul_overflow(number, 10, &number) ||
        __builtin_add_overflow(number, (uint64_t)(text[at] - '0'), &number))
      return ERANGE;
  }
  if (at == 0) return EINVAL;
  *value = number;
  return 0;
}

int cshims_memlock_limit(uint64_t *bytes) {
  struct rlimit limit;
  if (getrlimit(RLIMIT_MEMLOCK, &limit) != 0) return errno;
  *bytes = limit.rlim_cur == RLIM_INFINITY ? UINT64_MAX : (uint64_t)limit.rlim_cur;
  return 0;
}

int cshims_mapping_count(uint64_t *count) {
  return cshims_mapping_count_in(0, UINT64_MAX, count);
}

/// Where the reader of /proc/self/maps is in its line: "start-end rest\n".
typedef struct maps_line {
  enum { IN_START, IN_END, IN_REST } part;
  uint64_t start, end;
} maps_line;

static uint64_t hex_digit(char c) {
  return (uint64_t)(c <= '9' ? c - '0' : c - 'a' + 10);
}

/// Takes one character; true when the line's two addresses are complete.
static bool take(maps_line *line, char c) {
  if (c == '\n') {
    *line = (maps_line){IN_START, 0, 0};
  } else if (line->part == IN_START) {
    if (c == '-') line->part = IN_END;
    else line->start = line->start << 4 | hex_digit(c);
  } else if (line->part == IN_END) {
    if (c != ' ') {
      line->end = line->end << 4 | hex_digit(c);
      return false;
    }
    line->part = IN_REST;
    return true;
  }
  return false;
}

int cshims_mapping_count_in(uint64_t start, uint64_t end, uint64_t *count) {
  int fd;
  int error = open_to_read("/proc/self/maps", &fd);
  if (error != 0) return error;
  char buffer[8192];
  size_t got = 0;
  uint64_t overlapping = 0;
  maps_line line = {IN_START, 0, 0};
  while ((error = read_some(fd, buffer, sizeof buffer, &got)) == 0 && got != 0) {
    for (size_t i = 0; i < got; i++) {
      if (take(&line, buffer[i]))
        overlapping += start < end && line.start < end && line.end > start;
    }
  }
  close(fd);
  if (error == 0) *count = overlapping;
  return error;
}

uint64_t cshims_monotonic_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

//===--- Memory -----------------------------------------------------------===//

void cshims_copy(void *to, const void *from, uint64_t length) {
  memcpy(to, from, length);
}

void cshims_zero(void *to, uint64_t length) {
  memset(to, 0, length);
}

void *cshims_allocate(uint64_t count, uint64_t size) {
  return calloc(count, size);
}

void *cshims_allocate_unfilled(uint64_t count, uint64_t size) {
  uint64_t bytes;
  return __builtin_mul_overflow(count, size, &bytes) ? NULL : malloc(bytes);
}

void cshims_free(void *memory) {
  free(memory);
}

//===--- The end ----------------------------------------------------------===//

/// A line put together on the stack; what does not fit is cut.
typedef struct message_line {
  char text[512];
  size_t length;
} message_line;

static void append(message_line *line, const char *text) {
  for (; text != NULL && *text != 0 && line->length < sizeof line->text - 1; text++)
    line->text[line->length++] = *text;
}

static void append_number(message_line *line, uint64_t number, unsigned base) {
  char digits[21] = {0};
  size_t at = sizeof digits - 1;
  do {
    digits[--at] = "0123456789abcdef"[number % base];
    number /= base;
  } while (number != 0);
  append(line, digits + at);
}

_Noreturn void cshims_die(const char *message, uint64_t frame, uint64_t state, const char *call) {
  message_line line = {.length = 0};
  append(&line, "swift-gup: ");
  append(&line, message);
  append(&line, ": frame ");
  append_number(&line, frame, 10);
  append(&line, ", state 0x");
  append_number(&line, state, 16);
  append(&line, ", in ");
  append(&line, call != NULL ? call : "an unnamed call");
  line.text[line.length++] = '\n';
  ssize_t written = write(STDERR_FILENO, line.text, line.length);
  (void)written;
  abort();
}
