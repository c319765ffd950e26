//===----------------------------------------------------------------------===//
// Page-table entries: x86-64's bits where one exists, software bits (9 to 11
// and 52 to 58, which the hardware leaves to the system) for the rest.
//
// An interior entry holds a pointer to the next table: tables are aligned to
// their size, so the low twelve bits are free for the same bits as in a leaf.
// Entries change under the address space's mmap lock and are read without it;
// a store is a release so that a reader that follows a fresh interior entry
// finds a zeroed table.
//===----------------------------------------------------------------------===//
#ifndef CSHIMS_PTE_H
#define CSHIMS_PTE_H

#include "cshims_basics.h"

typedef struct cshims_pte {
  _Atomic(uint64_t) value;
} cshims_pte;

enum {
  CSHIMS_PTE_ENTRIES = 512,
  CSHIMS_PMD_SHIFT = 21,
  CSHIMS_PUD_SHIFT = 30,
  CSHIMS_PGD_SHIFT = 39,
  CSHIMS_ADDRESS_BITS = 48,
};

static const uint64_t CSHIMS_PTE_PRESENT = 1ull << 0;
static const uint64_t CSHIMS_PTE_WRITE = 1ull << 1;
static const uint64_t CSHIMS_PTE_USER = 1ull << 2;
static const uint64_t CSHIMS_PTE_ACCESSED = 1ull << 5;
static const uint64_t CSHIMS_PTE_DIRTY = 1ull << 6;
/// In a PMD: a leaf that stands for 2 MiB.
static const uint64_t CSHIMS_PTE_HUGE = 1ull << 7;
/// Without PRESENT: a page whose area is PROT_NONE for the time being.
static const uint64_t CSHIMS_PTE_PROTNONE = 1ull << 8;
/// No count may be taken through this entry: the zero page, page-less frames.
static const uint64_t CSHIMS_PTE_SPECIAL = 1ull << 9;
/// The page's descriptor decides: it belongs to a folio of more than one page,
/// or is secret, poisoned or peer-to-peer. Whoever maps such a page sets it.
static const uint64_t CSHIMS_PTE_FOLIO = 1ull << 10;
/// Without PRESENT: out of reach while its page moves (a migration entry). Seen
/// only by who holds the mmap lock, and by walks, which take what is present.
static const uint64_t CSHIMS_PTE_MOVING = 1ull << 11;
static const uint64_t CSHIMS_PTE_FRAME_MASK = 0x000ffffffffff000ull;

/// One past the highest user address (TASK_SIZE_MAX with four levels).
static const uint64_t CSHIMS_TASK_SIZE = (1ull << 47) - CSHIMS_PAGE_SIZE;

static inline uint64_t cshims_pte_load(const cshims_pte *entry) {
  return atomic_load_explicit(&entry->value, memory_order_acquire);
}
static inline void cshims_pte_store(cshims_pte *entry, uint64_t value) {
  atomic_store_explicit(&entry->value, value, memory_order_release);
}
/// Clears or replaces an entry; seq_cst, so that counts that were taken through
/// the old value are seen by whoever looks at the page afterwards (rule G3).
static inline uint64_t cshims_pte_exchange(cshims_pte *entry, uint64_t value) {
  return atomic_exchange_explicit(&entry->value, value, memory_order_seq_cst);
}

static inline cshims_pte *cshims_pte_table(uint64_t value) {
  return (cshims_pte *)(uintptr_t)(value & CSHIMS_PTE_FRAME_MASK);
}
static inline size_t cshims_pte_index(uint64_t address, unsigned shift) {
  return (size_t)(address >> shift) & (CSHIMS_PTE_ENTRIES - 1);
}

/// The PMD entry of `address`, or NULL where an upper level is absent.
static inline cshims_pte *cshims_pmd_offset(cshims_pte *pgd, uint64_t address) {
  uint64_t value = cshims_pte_load(pgd + cshims_pte_index(address, CSHIMS_PGD_SHIFT));
  if (!(value & CSHIMS_PTE_PRESENT)) return NULL;
  value = cshims_pte_load(cshims_pte_table(value) + cshims_pte_index(address, CSHIMS_PUD_SHIFT));
  if (!(value & CSHIMS_PTE_PRESENT)) return NULL;
  return cshims_pte_table(value) + cshims_pte_index(address, CSHIMS_PMD_SHIFT);
}

#endif
