//===----------------------------------------------------------------------===//
// gup/linux.h: the kernel's names on top of gup.h, so that a prototype written
// with them compiles unchanged. Everything here is static inline or a macro: the
// library exports no such name, and can be linked beside anything.
//
// `current` is the address space of the calling thread; each thread names it by
// gup_use_mm(). Functions that take no address space use it. alloc_page and its
// like, and iterators of machine memory, use its machine.
//
// Errors are the kernel's: a negative errno. Where the kernel's function returns
// nothing, a mistake shows in gup_last_error() and in the next call; an iterator
// that cannot be made counts 0 bytes, and extracting from it is -EINVAL.
//
// Iterators follow the 6.12 rules. With GUP_LINUX_RFC defined before this header
// they follow the request for comments of 2022, and iov_iter_extract_pages and
// iov_iter_extract_mode are its own.
//
// What differs: struct page and struct folio are opaque and one thing; struct
// iov_iter has no public fields (gup_iter_set_nofault(&i->gup, true) is what
// i->nofault = true is); a bio_vec's length and offset are as wide as size_t; a
// folio_queue stands alone, without next and prev; an xarray and a pipe are made
// and destroyed by name, since memory of theirs lies in the machine, and an xarray
// holds pages and values alone. Memory of kmalloc's is the program's: a kvec or a
// scatter list wants alloc_page's.
//===----------------------------------------------------------------------===//
#ifndef GUP_LINUX_H
#define GUP_LINUX_H

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "../gup.h"

#ifdef __cplusplus
extern "C" {
#define GUP_LINUX_NOTHING nullptr
#else
#define GUP_LINUX_NOTHING NULL
#endif

//===--- current ----------------------------------------------------------===//

struct mm_struct;

struct gup_linux_task {
  struct mm_struct *mm;
  gup_machine *machine;
};
/// The calling thread's address space and its machine. Weak, so that all source
/// files of a program that include this header mean the same one.
__attribute__((weak)) __thread struct gup_linux_task gup_linux_task;

/// What takes or drops holds is inlined always: the ledger then names the caller
/// and not a function of this header.
#define GUP_LINUX_API static inline __attribute__((always_inline))

/// Makes an address space of a machine the calling thread's `current->mm`.
static inline void gup_use_mm(gup_machine *machine, gup_mm *mm) {
  gup_linux_task.machine = machine;
  gup_linux_task.mm = (struct mm_struct *)(void *)mm;
}
#define current (&gup_linux_task)

static inline gup_mm *gup_linux_mm(void) { return (gup_mm *)(void *)gup_linux_task.mm; }

/// Nothing to do: the calls below take what locks they need, and an address space
/// that has ended is refused by its handle.
static inline void mmap_read_lock(struct mm_struct *mm) { (void)mm; }
static inline void mmap_read_unlock(struct mm_struct *mm) { (void)mm; }
static inline void mmgrab(struct mm_struct *mm) { (void)mm; }
static inline void mmdrop(struct mm_struct *mm) { (void)mm; }
/// Counts pages that a driver keeps pinned against the limit of locked memory, or
/// takes that back. -ENOMEM beyond the limit.
static inline int account_locked_vm(struct mm_struct *mm, unsigned long pages, bool inc) {
  gup_mm *space = (gup_mm *)(void *)mm;
  return inc ? gup_mm_account(space, pages) : gup_mm_unaccount(space, pages);
}

//===--- Words ------------------------------------------------------------===//

#ifndef PAGE_SHIFT
#define PAGE_SHIFT 12
#endif
#undef PAGE_SIZE
#define PAGE_SIZE (1UL << PAGE_SHIFT)
#undef PAGE_MASK
#define PAGE_MASK (~(PAGE_SIZE - 1))
#define PAGE_ALIGN(address) (((address) + PAGE_SIZE - 1) & PAGE_MASK)
#define offset_in_page(p) ((unsigned long)(p) & ~PAGE_MASK)
#ifndef DIV_ROUND_UP
#define DIV_ROUND_UP(n, d) (((n) + (d) - 1) / (d))
#endif

#ifndef ALIGN
#define ALIGN(x, a) (((x) + (a) - 1) & ~((__typeof__(x))(a) - 1))
#endif
#ifndef ALIGN_DOWN
#define ALIGN_DOWN(x, a) ((x) & ~((__typeof__(x))(a) - 1))
#endif
#ifndef IS_ALIGNED
#define IS_ALIGNED(x, a) (((x) & ((__typeof__(x))(a) - 1)) == 0)
#endif
#ifndef min_t
#define min_t(type, a, b)                                      \
  (__extension__({                                             \
    type gup_linux_a = (a), gup_linux_b = (b);                 \
    gup_linux_a < gup_linux_b ? gup_linux_a : gup_linux_b;     \
  }))
#endif
#ifndef max_t
#define max_t(type, a, b)                                      \
  (__extension__({                                             \
    type gup_linux_a = (a), gup_linux_b = (b);                 \
    gup_linux_a > gup_linux_b ? gup_linux_a : gup_linux_b;     \
  }))
#endif
#ifndef __cplusplus
#ifndef min
#define min(a, b) min_t(__typeof__((a) + (b)), a, b)
#endif
#ifndef max
#define max(a, b) max_t(__typeof__((a) + (b)), a, b)
#endif
#endif
#ifndef likely
#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)
#endif

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

/// Errors in pointers.
static inline void *ERR_PTR(long error) { return (void *)(intptr_t)error; }
static inline long PTR_ERR(const void *pointer) { return (long)(intptr_t)pointer; }
static inline bool IS_ERR(const void *pointer) { return (uintptr_t)pointer >= (uintptr_t)-4095; }
static inline bool IS_ERR_OR_NULL(const void *pointer) { return !pointer || IS_ERR(pointer); }

static inline bool gup_linux_warn(bool is_true, const char *what, const char *file, int line) {
  if (unlikely(is_true)) fprintf(stderr, "%s:%d: %s\n", file, line, what);
  return is_true;
}
#ifndef WARN_ON
#define WARN_ON(condition) gup_linux_warn(!!(condition), #condition, __FILE__, __LINE__)
#endif
#ifndef WARN_ON_ONCE
#define WARN_ON_ONCE(condition) WARN_ON(condition)
#endif

#ifndef __user
#define __user
#endif
#ifndef __must_check
#define __must_check __attribute__((warn_unused_result))
#endif

typedef unsigned int gfp_t;
#define GFP_KERNEL ((gfp_t)0)
#define GFP_ATOMIC ((gfp_t)1)
#define GFP_NOFS ((gfp_t)2)
#define __GFP_ZERO ((gfp_t)4)
#define GFP_NOIO ((gfp_t)8)
#define GFP_USER ((gfp_t)16)
#define GFP_NOWAIT ((gfp_t)32)
#define __GFP_NOWARN ((gfp_t)64)

/// Memory of the program's own.
static inline void *kvmalloc_array(size_t n, size_t size, gfp_t gfp) {
  if (size != 0 && n > SIZE_MAX / size) return GUP_LINUX_NOTHING;
  return (gfp & __GFP_ZERO) != 0 ? calloc(n, size) : malloc(n * size);
}
static inline void *kmalloc_array(size_t n, size_t size, gfp_t gfp) {
  return kvmalloc_array(n, size, gfp);
}
static inline void *kvcalloc(size_t n, size_t size, gfp_t gfp) {
  return kvmalloc_array(n, size, gfp | __GFP_ZERO);
}
static inline void *kcalloc(size_t n, size_t size, gfp_t gfp) { return kvcalloc(n, size, gfp); }
static inline void *kvmalloc(size_t size, gfp_t gfp) { return kvmalloc_array(1, size, gfp); }
static inline void *kmalloc(size_t size, gfp_t gfp) { return kvmalloc(size, gfp); }
static inline void *kvzalloc(size_t size, gfp_t gfp) { return kvcalloc(1, size, gfp); }
static inline void *kzalloc(size_t size, gfp_t gfp) { return kvzalloc(size, gfp); }
/// These and page lists that extraction made.
static inline void kvfree(const void *memory) { gup_free((void *)(uintptr_t)memory); }
static inline void kfree(const void *memory) { kvfree(memory); }

#define FOLL_WRITE ((unsigned int)GUP_FOLL_WRITE)
#define FOLL_DUMP ((unsigned int)GUP_FOLL_DUMP)
#define FOLL_FORCE ((unsigned int)GUP_FOLL_FORCE)
#define FOLL_NOWAIT ((unsigned int)GUP_FOLL_NOWAIT)
#define FOLL_NOFAULT ((unsigned int)GUP_FOLL_NOFAULT)
#define FOLL_HWPOISON ((unsigned int)GUP_FOLL_HWPOISON)
#define FOLL_ANON ((unsigned int)GUP_FOLL_ANON)
#define FOLL_LONGTERM ((unsigned int)GUP_FOLL_LONGTERM)
#define FOLL_SPLIT_PMD ((unsigned int)GUP_FOLL_SPLIT_PMD)
#define FOLL_PCI_P2PDMA ((unsigned int)GUP_FOLL_PCI_P2PDMA)
#define FOLL_INTERRUPTIBLE ((unsigned int)GUP_FOLL_INTERRUPTIBLE)
#define FOLL_HONOR_NUMA_FAULT ((unsigned int)GUP_FOLL_HONOR_NUMA_FAULT)
/// What iov_iter_extract_mode answers; refused by the calls below.
#define FOLL_GET (1u << 1)
#define FOLL_PIN (1u << 19)

#ifdef __cplusplus
}
#endif

#include "linux_pages.h"
#include "linux_iter.h"
#include "linux_sg.h"

#endif
