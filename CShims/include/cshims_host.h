//===----------------------------------------------------------------------===//
// System calls, one function each. Every function returns 0 or an errno value;
// what it yields beyond that comes through the last pointer. Nothing here sets
// or reads the program's errno for the caller, allocates, or takes a lock.
//===----------------------------------------------------------------------===//
#ifndef CSHIMS_HOST_H
#define CSHIMS_HOST_H

#include "cshims_basics.h"

/// Protection of a host mapping, as mmap(2) has it.
typedef enum cshims_protection {
  CSHIMS_PROT_NONE = 0,
  CSHIMS_PROT_READ = 1,
  CSHIMS_PROT_READ_WRITE = 3,
} cshims_protection;

/// A memfd of `length` bytes, sealed against growing and shrinking.
int cshims_memfd_create(const char *name, uint64_t length, int *fd);
int cshims_close(int fd);
/// Gives the host pages of [offset, offset + length) back; they read as zeroes.
int cshims_memfd_punch(int fd, uint64_t offset, uint64_t length);
/// Bytes of memory that the memfd holds now.
int cshims_memfd_allocated(int fd, uint64_t *bytes);

/// Maps all of `fd` shared, read and write, at a multiple of `alignment`
/// (a power of two, at least one page), and leaves it out of core dumps.
int cshims_map_memfd(int fd, uint64_t length, uint64_t alignment, void **base);
/// Maps the same over [address, address + length), which the caller has reserved.
int cshims_map_memfd_at(int fd, uint64_t length, uint64_t address);
/// Reserves `length` bytes of address space that nobody can touch, and that no
/// child inherits. With `address` non-zero it must be exactly there, and EEXIST
/// says that it is taken.
int cshims_reserve(uint64_t address, uint64_t length, uint64_t *base);
/// Turns [address, address + length) back into an untouchable reservation.
int cshims_rereserve(uint64_t address, uint64_t length);
int cshims_unmap(uint64_t address, uint64_t length);
/// Keeps a mapping out of children made by fork(2).
int cshims_do_not_inherit(void *address, uint64_t length);
/// Shows frames at a fixed address: MAP_SHARED, never inherited by fork(2).
/// On an error the range is as it was, or an untouchable reservation.
int cshims_show(uint64_t address, uint64_t length, cshims_protection protection, int fd,
                uint64_t offset);
int cshims_protect(uint64_t address, uint64_t length, cshims_protection protection);
/// Drops the host's page-table entries of a view; the frames keep their bytes.
int cshims_zap(uint64_t address, uint64_t length);
/// Makes the host allocate (and zero) what the window lacks of a range.
int cshims_populate_write(void *address, uint64_t length);
/// One byte a page in `vector`: bit 0 says that the page is resident.
int cshims_mincore(void *address, uint64_t length, unsigned char *vector);

/// Anonymous private memory of our own, zeroed; only what is touched costs memory.
int cshims_anonymous(uint64_t length, void **base);

/// An integer from a file such as /proc/sys/vm/max_map_count.
int cshims_read_number(const char *path, uint64_t *value);
/// The soft limit of RLIMIT_MEMLOCK in bytes; UINT64_MAX when there is none.
int cshims_memlock_limit(uint64_t *bytes);
/// How many mappings this process has (lines of /proc/self/maps).
int cshims_mapping_count(uint64_t *count);
/// How many mappings overlap [start, end).
int cshims_mapping_count_in(uint64_t start, uint64_t end, uint64_t *count);

uint64_t cshims_monotonic_ns(void);

void cshims_copy(void *to, const void *from, uint64_t length);
void cshims_zero(void *to, uint64_t length);

/// An array of `count` pointers, zeroed, or NULL. Freed by cshims_free.
void *cshims_allocate(uint64_t count, uint64_t size);
/// The same with whatever the memory held before.
void *cshims_allocate_unfilled(uint64_t count, uint64_t size);
void cshims_free(void *memory);

/// Writes a line to standard error and stops the program (SIGABRT). For states
/// that only a caller's mistake can produce and that cannot be undone.
_Noreturn void cshims_die(const char *message, uint64_t frame, uint64_t state, const char *call);

#endif
