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
// iov_iter has no public fields; a folio_queue stands alone, without next and
// prev; an xarray and a pipe are made and destroyed by name, since memory of
// theirs lies in the machine.
//===----------------------------------------------------------------------===//
#ifndef GUP_LINUX_H
#define GUP_LINUX_H

#include <errno.h>
#include <limits.h>
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

/// The calling thread's address space and its machine: of each source file that
/// includes this header, its own.
static __thread struct gup_linux_task {
  struct mm_struct *mm;
  gup_machine *machine;
} gup_linux_task __attribute__((unused));

/// Makes an address space of a machine the calling thread's `current->mm`.
static inline void gup_use_mm(gup_machine *machine, gup_mm *mm) {
  gup_linux_task.machine = machine;
  gup_linux_task.mm = (struct mm_struct *)(void *)mm;
}
#define current (&gup_linux_task)

static inline gup_mm *gup_linux_mm(void) { return (gup_mm *)(void *)gup_linux_task.mm; }

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

#endif
