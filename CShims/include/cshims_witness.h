//===----------------------------------------------------------------------===//
// What the hosted rooms ask the running kernel about itself: its release, this
// process's view of its own pages, and memory to try its pins on. Functions
// that return int return 0 or an errno value.
//===----------------------------------------------------------------------===//
#ifndef CSHIMS_WITNESS_H
#define CSHIMS_WITNESS_H

#include "cshims_basics.h"

/// uname(2)'s release, with a zero byte at the end.
int cshims_kernel_release(char *text, size_t capacity);
/// Processors that this thread may run on.
int cshims_cpu_count(uint64_t *count);
/// Bytes of memory that the kernel manages.
int cshims_memory_total(uint64_t *bytes);

/// The name of an errno value ("ENOMEM"), or "errno" for an unknown one.
const char *cshims_error_name(int error);
/// What strerror(3) says about it; never NULL.
const char *cshims_error_text(int error);

/// Reads a small file whole, without a zero byte; EFBIG when it does not fit.
int cshims_read_text(const char *path, char *text, size_t capacity, size_t *length);

/// /proc/self/pagemap: one entry for each of `count` pages from `address`.
int cshims_pagemap_read(uint64_t address, uint64_t count, uint64_t *entries);
/// In a pagemap entry: the page is in memory.
static const uint64_t CSHIMS_PAGEMAP_PRESENT = 1ull << 63;
/// In the entry of a present page: its frame number, zero without CAP_SYS_ADMIN.
static const uint64_t CSHIMS_PAGEMAP_FRAME = (1ull << 55) - 1;

/// What madvise(2) is told about huge pages in a new mapping.
typedef enum cshims_huge_pages {
  CSHIMS_HUGE_PAGES_DEFAULT = 0,
  CSHIMS_HUGE_PAGES_WANTED = 1,
  CSHIMS_HUGE_PAGES_FORBIDDEN = 2,
} cshims_huge_pages;

/// Anonymous private memory with every page present and writable, at a multiple
/// of 2 MiB, between two guard pages, so that it is a mapping of its own.
/// `length` is a multiple of the page size. EINVAL also when the kernel has no
/// transparent huge pages and some were wanted.
int cshims_buffer_map(uint64_t length, cshims_huge_pages huge_pages, void **base);
int cshims_buffer_unmap(void *base, uint64_t length);
/// Bytes of the mapping that starts at `base` that stand in huge pages now.
int cshims_buffer_huge_bytes(const void *base, uint64_t *bytes);

/// As fork(2) does, but no handlers run: a child that ends at once. It must be
/// waited for.
int cshims_fork_idle_child(int *pid);
/// Waits for the end of a child of this process.
int cshims_wait_for_child(int pid);

#endif
