//===----------------------------------------------------------------------===//
// The part of an address space that GUP reads without a lock.
//===----------------------------------------------------------------------===//
#ifndef CSHIMS_MM_H
#define CSHIMS_MM_H

#include "cshims_basics.h"
#include "cshims_lock.h"
#include "cshims_machine.h"
#include "cshims_process.h"
#include "cshims_pte.h"

static const uint32_t CSHIMS_MM_HAS_PINNED = 1u << 0;
static const uint32_t CSHIMS_MM_EXITED = 1u << 1;

typedef struct cshims_mm {
  cshims_machine *machine;
  /// The top table; it and all below it live as long as the address space.
  cshims_pte *pgd;
  /// Whose views show it: a process's identity.
  uint64_t owner;
  /// Odd while fork copies page tables: a pin that began before or during that
  /// rolls back (rule G4). Written under the mmap lock only.
  _Atomic(uint32_t) write_protect_seq;
  _Atomic(uint32_t) flags;
  cshims_lock mmap_lock;
} cshims_mm;

/// Does this address space belong to the process that asks?
static inline bool cshims_mm_is_own(const cshims_mm *mm) { return cshims_process_is(mm->owner); }

/// The mmap lock. By a function, so that Swift takes no access to the whole
/// struct that others read without a lock.
static inline void cshims_mm_lock(cshims_mm *mm) { (void)cshims_lock_acquire(&mm->mmap_lock); }
static inline bool cshims_mm_try_lock(cshims_mm *mm) { return cshims_lock_try(&mm->mmap_lock); }
static inline void cshims_mm_unlock(cshims_mm *mm) { cshims_lock_release(&mm->mmap_lock); }

static inline uint32_t cshims_mm_flags(const cshims_mm *mm) {
  return atomic_load_explicit(&mm->flags, memory_order_acquire);
}
static inline void cshims_mm_set_flags(cshims_mm *mm, uint32_t bits) {
  // Test first: an unconditional store to a shared line does not scale (G-15).
  if ((atomic_load_explicit(&mm->flags, memory_order_relaxed) & bits) != bits)
    atomic_fetch_or_explicit(&mm->flags, bits, memory_order_seq_cst);
}
/// Read before a lock-free walk, and again after its counts were taken: those
/// are sequentially consistent, so an acquire is enough here.
static inline uint32_t cshims_mm_write_protect_seq(const cshims_mm *mm) {
  return atomic_load_explicit(&mm->write_protect_seq, memory_order_acquire);
}
static inline void cshims_mm_write_protect_advance(cshims_mm *mm) {
  atomic_fetch_add_explicit(&mm->write_protect_seq, 1, memory_order_seq_cst);
}

#endif
