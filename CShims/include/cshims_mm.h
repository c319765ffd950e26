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
  /// The next of the same process's, on a joinable machine; guarded by the
  /// members' lock.
  _Atomic(uint64_t) next;
  /// In a copy made for a child of fork(2): the address of the original.
  uint64_t origin;
} cshims_mm;

/// The owner of a copy that its child has not joined by yet: nobody.
static const uint64_t CSHIMS_MM_UNOWNED = UINT64_MAX;

/// Does this address space belong to the process that asks?
static inline bool cshims_mm_is_own(const cshims_mm *mm) { return cshims_process_is(mm->owner); }

/// The mmap lock, inside the machine's gate. By a function, so that Swift takes no
/// access to the whole struct that others read without a lock.
static inline void cshims_mm_lock(cshims_mm *mm) {
  cshims_gate_enter(mm->machine);
  (void)cshims_lock_acquire(&mm->mmap_lock);
}
static inline bool cshims_mm_try_lock(cshims_mm *mm) {
  cshims_gate_enter(mm->machine);
  if (cshims_lock_try(&mm->mmap_lock)) return true;
  cshims_gate_leave(mm->machine);
  return false;
}
static inline void cshims_mm_unlock(cshims_mm *mm) {
  cshims_lock_release(&mm->mmap_lock);
  cshims_gate_leave(mm->machine);
}
/// The mmap lock of a dead process's address space: true when that process died
/// holding it.
static inline bool cshims_mm_lock_died(cshims_mm *mm) {
  return cshims_lock_acquire(&mm->mmap_lock);
}
static inline void cshims_mm_set_owner(cshims_mm *mm, uint64_t owner) { mm->owner = owner; }

static inline cshims_mm *cshims_mm_at(uint64_t address) {
  return (cshims_mm *)(uintptr_t)address;
}
static inline uint64_t cshims_mm_next(const cshims_mm *mm) { return atomic_load(&mm->next); }
/// Adds to the list at `head`, and takes out again. One store each makes the
/// change, so that a death in between leaves a whole list.
static inline void cshims_mm_link(cshims_member *member, cshims_mm *mm) {
  atomic_store(&mm->next, atomic_load(&member->spaces));
  atomic_store(&member->spaces, (uint64_t)(uintptr_t)mm);
}
static inline void cshims_mm_unlink(cshims_member *member, cshims_mm *mm) {
  cshims_mm *before = NULL;
  cshims_mm *at = cshims_mm_at(atomic_load(&member->spaces));
  while (at != NULL && at != mm) {
    before = at;
    at = cshims_mm_at(cshims_mm_next(at));
  }
  if (at == NULL) return;
  if (before == NULL) atomic_store(&member->spaces, cshims_mm_next(mm));
  else atomic_store(&before->next, cshims_mm_next(mm));
}

/// The page that the value of an entry names; `pages` is its machine's array.
static inline cshims_page *cshims_pte_page(cshims_page *pages, uint64_t value) {
  return &pages[(value & CSHIMS_PTE_FRAME_MASK) >> CSHIMS_PAGE_SHIFT];
}

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
