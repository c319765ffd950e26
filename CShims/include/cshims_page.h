//===----------------------------------------------------------------------===//
// The page descriptor: 16 bytes a frame, one flat array by frame number, so
// four neighbours share a cache line (the kernel's is 64 bytes).
//
// The reference count is one unsigned 32-bit word that is read in two ways:
//
//   0                      nobody holds the page; whoever brought it here frees
//   1 ... 0x7fffffff       held; order-0 pages carry a pin as 1024 in it
//   0x80000000 ...         a grab that overflowed and is being undone
//   0xc0000000 +- 2^29     free: the allocator has it. A grab that meets this
//                          value backs out silently
//
// The word is stored less the free sentinel, so that zero-filled memory is an
// array of free frames and booting a machine touches none of it. The functions
// below speak in the values above; the constant folds into their comparisons.
//
// The count changes by atomic read-modify-write only. A grab adds
// first and looks at what it found afterwards: one locked instruction, no
// compare-and-swap loop. The sentinel is so far from every other value that
// any number of threads may add and undo on a free frame without reaching one.
//
// Orderings: a grab is seq_cst because GUP must not re-read the page-table
// entry before its count is visible (rule G3: count, full barrier, re-read); on
// x86-64 it costs nothing more. A drop is acq_rel: release so that our writes
// to the page happen before its next owner's, acquire so that whoever brings
// it to zero sees everybody's.
//===----------------------------------------------------------------------===//
#ifndef CSHIMS_PAGE_H
#define CSHIMS_PAGE_H

#include "cshims_basics.h"

typedef struct cshims_page {
  /// The count, less CSHIMS_REF_FREE.
  _Atomic(uint32_t) ref_count;
  /// Exact number of pins; heads of large folios only. The first tail counts the
  /// 2 MiB leaves that show the folio instead.
  _Atomic(uint32_t) pin_count;
  /// Last-level entries that show this page; each sub-page has its own.
  _Atomic(uint32_t) map_count;
  /// Low bits: CSHIMS_PAGE_ flags; bits 24 to 27: the folio's order.
  _Atomic(uint32_t) flags;
} cshims_page;

_Static_assert(sizeof(cshims_page) == 16, "four descriptors to a cache line");

/// What an order-0 page's count grows by for one pin (GUP_PIN_COUNTING_BIAS).
static const uint32_t CSHIMS_PIN_BIAS = 1024;
/// The count of a frame that the allocator owns.
static const uint32_t CSHIMS_REF_FREE = 0xc0000000u;
/// The largest count that a grab may leave behind.
static const uint32_t CSHIMS_REF_MAX = 0x7fffffffu;
/// Counts above this one belong to the free sentinel's neighbourhood.
static const uint32_t CSHIMS_REF_HELD_MAX = 0xa0000000u;

// Flags. A page that the allocator owns has BUDDY (head of a free block) or none.
static const uint32_t CSHIMS_PAGE_BUDDY = 1u << 0;
static const uint32_t CSHIMS_PAGE_ANON = 1u << 1;
/// One address space alone maps this anonymous page (PageAnonExclusive).
static const uint32_t CSHIMS_PAGE_ANON_EXCLUSIVE = 1u << 2;
static const uint32_t CSHIMS_PAGE_DIRTY = 1u << 3;
static const uint32_t CSHIMS_PAGE_REFERENCED = 1u << 4;
/// The machine's zero page: pins do not count on it, references do.
static const uint32_t CSHIMS_PAGE_ZERO = 1u << 5;
/// A later sub-page of a large folio; its head is found by the order.
static const uint32_t CSHIMS_PAGE_TAIL = 1u << 6;
/// Belongs to a page cache (shared memory or a file).
static const uint32_t CSHIMS_PAGE_CACHE = 1u << 7;
/// GUP must refuse it in both paths.
static const uint32_t CSHIMS_PAGE_SECRET = 1u << 8;
/// May be moved: a LONGTERM pin migrates it first.
static const uint32_t CSHIMS_PAGE_MOVABLE = 1u << 9;
/// Reports EHWPOISON.
static const uint32_t CSHIMS_PAGE_POISONED = 1u << 10;
/// Free, but its bytes are not known to be zero.
static const uint32_t CSHIMS_PAGE_STALE = 1u << 11;
/// The page cache that owns this page writes back to a file.
static const uint32_t CSHIMS_PAGE_WRITEBACK = 1u << 12;
/// Device memory that only callers with PCI_P2PDMA may take.
static const uint32_t CSHIMS_PAGE_P2PDMA = 1u << 13;
/// Its bytes may be dropped as long as nothing is stored (MADV_FREE): true only
/// while neither the page nor its entry is dirty.
static const uint32_t CSHIMS_PAGE_LAZY_FREE = 1u << 14;
static const uint32_t CSHIMS_PAGE_ORDER_SHIFT = 24;
static const uint32_t CSHIMS_PAGE_ORDER_MASK = 15u << 24;

static inline uint32_t cshims_page_flags(const cshims_page *page) {
  return atomic_load_explicit(&page->flags, memory_order_acquire);
}
static inline uint32_t cshims_page_set_flags(cshims_page *page, uint32_t bits) {
  return atomic_fetch_or_explicit(&page->flags, bits, memory_order_acq_rel);
}
static inline uint32_t cshims_page_clear_flags(cshims_page *page, uint32_t bits) {
  return atomic_fetch_and_explicit(&page->flags, ~bits, memory_order_acq_rel);
}
/// Replaces every flag; the caller is the page's only owner.
static inline void cshims_page_reset_flags(cshims_page *page, uint32_t bits) {
  atomic_store_explicit(&page->flags, bits, memory_order_release);
}

static inline uint32_t cshims_page_ref_load(const cshims_page *page) {
  return atomic_load_explicit(&page->ref_count, memory_order_acquire) + CSHIMS_REF_FREE;
}
static inline uint32_t cshims_page_ref_fetch_add(cshims_page *page, uint32_t n) {
  return atomic_fetch_add_explicit(&page->ref_count, n, memory_order_seq_cst) + CSHIMS_REF_FREE;
}
static inline uint32_t cshims_page_ref_fetch_sub(cshims_page *page, uint32_t n) {
  return atomic_fetch_sub_explicit(&page->ref_count, n, memory_order_acq_rel) + CSHIMS_REF_FREE;
}
/// Brings the count from `expected` to `desired` in one step, or does nothing.
static inline bool cshims_page_ref_exchange(cshims_page *page, uint32_t expected, uint32_t desired) {
  expected -= CSHIMS_REF_FREE;
  return atomic_compare_exchange_strong_explicit(&page->ref_count, &expected,
                                                 desired - CSHIMS_REF_FREE, memory_order_acq_rel,
                                                 memory_order_acquire);
}
/// Puts a page's counts right while nobody else counts on it.
static inline void cshims_page_restore(cshims_page *page, uint32_t refs, uint32_t pins,
                                       uint32_t maps) {
  atomic_store_explicit(&page->ref_count, refs - CSHIMS_REF_FREE, memory_order_relaxed);
  atomic_store_explicit(&page->pin_count, pins, memory_order_relaxed);
  atomic_store_explicit(&page->map_count, maps, memory_order_relaxed);
}
/// Did a grab that added `n` and found `old` get a page that is really held?
static inline bool cshims_page_grabbed(uint32_t old, uint32_t n) {
  return old - 1u < CSHIMS_REF_MAX - n;
}
/// May an owner of `n` counts drop them from a count of `old`?
static inline bool cshims_page_may_drop(uint32_t old, uint32_t n) {
  return old - n <= CSHIMS_REF_HELD_MAX - n;
}

static inline uint32_t cshims_page_pin_load(const cshims_page *page) {
  return atomic_load_explicit(&page->pin_count, memory_order_acquire);
}
static inline uint32_t cshims_page_pin_fetch_add(cshims_page *page, uint32_t n) {
  return atomic_fetch_add_explicit(&page->pin_count, n, memory_order_seq_cst);
}
static inline uint32_t cshims_page_pin_fetch_sub(cshims_page *page, uint32_t n) {
  return atomic_fetch_sub_explicit(&page->pin_count, n, memory_order_acq_rel);
}

static inline uint32_t cshims_page_map_load(const cshims_page *page) {
  return atomic_load_explicit(&page->map_count, memory_order_acquire);
}
static inline uint32_t cshims_page_map_fetch_add(cshims_page *page, uint32_t n) {
  return atomic_fetch_add_explicit(&page->map_count, n, memory_order_acq_rel);
}
static inline uint32_t cshims_page_map_fetch_sub(cshims_page *page, uint32_t n) {
  return atomic_fetch_sub_explicit(&page->map_count, n, memory_order_acq_rel);
}

/// The 2 MiB leaves that show the folio of which `head` is the first page (the
/// kernel's entire_mapcount): one count for 512 pages, in the first tail.
static inline uint32_t cshims_page_leaf_load(const cshims_page *head) {
  return cshims_page_pin_load(head + 1);
}
static inline uint32_t cshims_page_leaf_fetch_add(cshims_page *head, uint32_t n) {
  return cshims_page_pin_fetch_add(head + 1, n);
}
static inline uint32_t cshims_page_leaf_fetch_sub(cshims_page *head, uint32_t n) {
  return cshims_page_pin_fetch_sub(head + 1, n);
}

#endif
