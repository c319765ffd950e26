//===----------------------------------------------------------------------===//
// What works on memory while it is adopted and released under it.
//===----------------------------------------------------------------------===//
#ifndef CADOPTION_H
#define CADOPTION_H

#include <stddef.h>
#include <stdint.h>

/// Threads that store numbers all over the memory, each its own words, and miss any
/// that is lost. At most 8. `stop` returns how many were.
void traphelper_storm_start(void *memory, size_t bytes, unsigned threads);
uint64_t traphelper_storm_stop(uint64_t *rounds);

/// Threads that allocate, fill, check and free blocks. At most 8.
void traphelper_allocation_start(unsigned threads);
uint64_t traphelper_allocation_stop(uint64_t *rounds);
/// Memory of an arena that a thread of its own has made.
void *traphelper_allocate_in_other_arena(size_t bytes);
/// From so many bytes on malloc gives a block a mapping of its own.
void traphelper_mapping_threshold(int bytes);
/// The same here, for so many steps. Returns how many bytes were wrong.
uint64_t traphelper_allocate_and_free(uint64_t seed, unsigned steps);

/// A thread that sends words of the memory through a pipe by write(2) and read(2).
/// `refusals` counts EFAULT, after which it tries again.
void traphelper_transfer_start(void *memory, size_t bytes);
uint64_t traphelper_transfer_stop(uint64_t *rounds, uint64_t *refusals);

/// fork(2). The child looks for `expected` all over malloc'ed memory, overwrites
/// it, frees it, and works with malloc. What waitpid(2) says, or -errno.
int traphelper_fork(void *memory, size_t bytes, unsigned char expected, unsigned steps);
/// A fork that the C library does not hear of; the child stores at the address.
int traphelper_raw_fork(void *address);

/// Static memory in whole pages, and some that is not.
void *traphelper_array(size_t *bytes);
void *traphelper_odd_array(void);
void *traphelper_thread_local(void);
/// The page of code that the kernel maps into every process.
void *traphelper_kernel_page(void);
void *traphelper_c_library_data(void);
/// Inside another thread's stack, until it is done.
void *traphelper_other_stack(void);
void traphelper_other_stack_done(void);

#endif
