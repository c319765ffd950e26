//===----------------------------------------------------------------------===//
// What every other header of CShims needs: the platform check, the page size,
// branch hints.
//===----------------------------------------------------------------------===//
#ifndef CSHIMS_BASICS_H
#define CSHIMS_BASICS_H

#if !defined(__linux__)
#error "swift-gup emulates Linux memory management on Linux; this target is not Linux"
#endif
#if !defined(__x86_64__)
#error "swift-gup supports x86-64 only: the page-table format and the fault trap are x86-64's"
#endif
#if !defined(__SIZEOF_POINTER__) || __SIZEOF_POINTER__ != 8
#error "swift-gup needs 64-bit pointers (x32 is not supported)"
#endif

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
  CSHIMS_PAGE_SHIFT = 12,
  CSHIMS_PAGE_SIZE = 1 << CSHIMS_PAGE_SHIFT,
};

/// A C callback's context, a pointer the callee only hands back.
typedef void *cshims_context;

/// A cache line: what one thread's counters are kept apart by.
enum { CSHIMS_CACHE_LINE = 64 };

static inline bool cshims_unlikely(bool condition) {
  return __builtin_expect(condition, 0);
}

#endif
