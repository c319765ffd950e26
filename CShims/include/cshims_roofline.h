//===----------------------------------------------------------------------===//
// The C roofline: the least that pinning and unpinning a run of 4 KiB pages can
// be: load the entry, check it, add to the count, check what it was, re-read
// the entry, store the pointer; one subtraction each on the way back; and the
// descriptors fetched ahead, without which a long run waits on each miss. Inside a
// folio the count is one for all, and what is left is the list. And the least
// that fork and adoption can be. The benchmarks compare the Swift code with these loops in the
// same run.
//
// They are loops, not a library: they free nothing. So each page must be held
// by somebody else (its mapping) as long as they run.
//===----------------------------------------------------------------------===//
#ifndef CSHIMS_ROOFLINE_H
#define CSHIMS_ROOFLINE_H

#include "cshims_basics.h"
#include "cshims_page.h"
#include "cshims_pte.h"

/// How many entries ahead the loops fetch descriptors: a locked instruction
/// waits for the ones before it, so without this every miss is waited for alone.
/// Four cache lines of neighbours; measured flat from there to eight.
enum { CSHIMS_PREFETCH_PAGES = 16 };

/// Starts fetching, for writing, the descriptor that the value of an entry
/// names. Only a hint: any value will do, also that of an absent entry.
static inline void cshims_page_prefetch(const cshims_page *pages, uint64_t entry) {
  uint64_t frame = (entry & CSHIMS_PTE_FRAME_MASK) >> CSHIMS_PAGE_SHIFT;
  __builtin_prefetch((const void *)((uintptr_t)pages + frame * sizeof(cshims_page)), 1);
}

/// Takes `bias` (1024 to pin, 1 to get) on the pages of `count` consecutive
/// last-level entries, as long as `(entry & mask) == want`, and stores their
/// descriptors, `pages` plus the frame number, in `out`. Stops, with that
/// page's count undone, where a page is not held or an entry changed meanwhile.
/// Returns how many it took.
size_t cshims_roofline_grab(const cshims_pte *entries, size_t count, uint64_t mask, uint64_t want,
                            cshims_page *pages, uint32_t bias, cshims_page **out);
/// Drops `bias` from each page; returns how many counts came to zero. A page
/// that does not hold `bias` stops the program.
size_t cshims_roofline_drop(cshims_page **list, size_t count, uint32_t bias);
/// The same as a function of an address space, one call for `count` pages from
/// `address`: what a hand-written C library would offer. Stops also where a
/// table is absent and at a 2 MiB leaf; takes nothing from a range that is not
/// all below CSHIMS_TASK_SIZE.
size_t cshims_roofline_walk(cshims_pte *pgd, uint64_t address, size_t count, uint64_t mask,
                            uint64_t want, cshims_page *pages, uint32_t bias, cshims_page **out);

/// What fork cannot do without for `count` pages from `address`: load the entry,
/// add a reference and a mapping to its page, store it write-protected for the
/// child in `copy`. The parent's entries stay as they are: protecting them is
/// the host's part. Stops where a table is absent, at a 2 MiB leaf and at an
/// absent page; returns how many pages it copied.
size_t cshims_roofline_fork(cshims_pte *pgd, uint64_t address, size_t count, cshims_page *pages,
                            cshims_pte *copy);
/// Takes the references and mappings of `count` copied entries back.
void cshims_roofline_unfork(const cshims_pte *copy, size_t count, cshims_page *pages);

/// What adopting `count` pages of private memory cannot do without: one copy into
/// the frames, and one mmap(2) that shows them, the first pages of `fd`, instead.
/// Nobody may store there meanwhile. Returns 0 or an errno.
int cshims_roofline_adopt(void *memory, size_t count, void *frames, int fd);
/// And the way back: one mmap(2) of private pages, all there, and one copy.
int cshims_roofline_release(void *memory, size_t count, const void *frames);

/// The least that taking `count` pages of one folio can be: their descriptors,
/// `first` and those behind it, are stored in `out`.
void cshims_roofline_fill(cshims_page *first, size_t count, cshims_page **out);
/// And the least that giving them back can be: every slot is looked at. Returns
/// how many show the descriptor that is their place behind the first's.
size_t cshims_roofline_scan(cshims_page *const *list, size_t count);

#endif
