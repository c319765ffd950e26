//===----------------------------------------------------------------------===//
// The table of regions: which addresses belong to which trap.
//
// Readers (the SIGSEGV handler and the service threads) take no lock. Each slot
// has a version that is odd while the slot is being changed: a reader copies the
// fields between two equal even versions or looks again. Writers hold the
// registry lock, so a slot has one writer at a time. Readers scan up to the
// high-water mark; new regions take the lowest free slot, which keeps it low.
//
// Taking a region back: the remover first clears the slot, then looks whether
// the service thread is inside it. The service thread first says which slot it
// enters, then looks whether the slot is still as it was found. All four
// accesses are seq_cst, so one of the two sees the other. The slot is not given
// to a new region before the remover is done waiting.
//===----------------------------------------------------------------------===//
#include "trap_internal.h"

#include "cshims_userfaultfd.h"

typedef struct region_slot {
  _Atomic(uint32_t) version;
  /// Under the registry lock: taken, be it only by a remover that waits.
  bool in_use;
  /// NULL: no region here.
  _Atomic(cshims_trap *) trap;
  _Atomic(uint64_t) start, end;
  _Atomic(cshims_context) cookie;
} region_slot;

static region_slot table[CSHIMS_TRAP_REGIONS];
static _Atomic(uint32_t) high_water;

pthread_mutex_t cshims_trap_registry_lock = PTHREAD_MUTEX_INITIALIZER;

//===--- Readers ----------------------------------------------------------===//

CSHIMS_UNSANITIZED static bool slot_holds(uint32_t slot, uint64_t address,
                                          trap_region_view *view) {
  const region_slot *it = &table[slot];
  // A writer is done after a few stores; only a process copied in the midst of
  // them (raw clone) stays odd, so give up in the end.
  for (int attempt = 0; attempt < 100000; attempt++) {
    uint32_t version = atomic_load_explicit(&it->version, memory_order_acquire);
    cshims_trap *trap = atomic_load_explicit(&it->trap, memory_order_relaxed);
    bool holds = trap != NULL &&
                 address >= atomic_load_explicit(&it->start, memory_order_relaxed) &&
                 address < atomic_load_explicit(&it->end, memory_order_relaxed);
    cshims_context cookie = atomic_load_explicit(&it->cookie, memory_order_relaxed);
    // Keeps the loads above before the second look at the version.
    atomic_thread_fence(memory_order_acquire);
    if ((version & 1) != 0 ||
        atomic_load_explicit(&it->version, memory_order_relaxed) != version) {
      __builtin_ia32_pause();
      continue;
    }
    if (holds) *view = (trap_region_view){slot, version, trap, cookie};
    return holds;
  }
  return false;
}

CSHIMS_UNSANITIZED bool cshims_trap_find(uint64_t address, uint32_t hint, trap_region_view *view) {
  uint32_t count = atomic_load_explicit(&high_water, memory_order_acquire);
  if (hint < count && slot_holds(hint, address, view)) return true;
  for (uint32_t slot = 0; slot < count; slot++) {
    if (slot_holds(slot, address, view)) return true;
  }
  return false;
}

CSHIMS_UNSANITIZED bool cshims_trap_unchanged(const trap_region_view *view) {
  return atomic_load(&table[view->slot].version) == view->version;
}

//===--- Writers ----------------------------------------------------------===//

static void change(region_slot *it, cshims_trap *trap, uint64_t start, uint64_t end,
                   cshims_context cookie) {
  atomic_fetch_add(&it->version, 1);
  atomic_store(&it->start, start);
  atomic_store(&it->end, end);
  atomic_store(&it->cookie, cookie);
  atomic_store(&it->trap, trap);
  atomic_fetch_add(&it->version, 1);
}

static void clear(region_slot *it) {
  change(it, NULL, 0, 0, NULL);
}

static void give_back(region_slot *it) {
  it->in_use = false;
  uint32_t count = atomic_load(&high_water);
  while (count != 0 && !table[count - 1].in_use) count--;
  atomic_store(&high_water, count);
}

/// Finds the slot for a region: the one of the same trap and start, else the
/// lowest free one.
static int slot_for(const cshims_trap *trap, uint64_t start, uint64_t end, uint32_t *found) {
  uint32_t count = atomic_load(&high_water);
  *found = count;
  for (uint32_t slot = 0; slot < count; slot++) {
    region_slot *it = &table[slot];
    cshims_trap *owner = atomic_load(&it->trap);
    if (!it->in_use && slot < *found) *found = slot;
    if (owner == NULL) continue;
    if (owner == trap && atomic_load(&it->start) == start) {
      *found = slot;
      return 0;
    }
    if (owner != trap && atomic_load(&it->start) < end && atomic_load(&it->end) > start)
      return EEXIST;
  }
  return *found < CSHIMS_TRAP_REGIONS ? 0 : ENOSPC;
}

int cshims_trap_add_region(cshims_trap *trap, uint64_t start, uint64_t length,
                           cshims_context cookie) {
  uint64_t end;
  if (length == 0 || __builtin_add_overflow(start, length, &end)) return EINVAL;
  pthread_mutex_lock(&cshims_trap_registry_lock);
  uint32_t slot = 0;
  int error = slot_for(trap, start, end, &slot);
  if (error == 0) {
    table[slot].in_use = true;
    change(&table[slot], trap, start, end, cookie);
    if (slot >= atomic_load(&high_water)) atomic_store(&high_water, slot + 1);
  }
  pthread_mutex_unlock(&cshims_trap_registry_lock);
  return error;
}

/// Waits until the service thread is not inside a call for `slot`.
static void wait_until_outside(cshims_trap *trap, uint32_t slot) {
  // The service function itself may take a region back, and a child made by
  // fork(2) has no service thread.
  if (cshims_trap_on_service_thread || !cshims_process_is(trap->owner)) return;
  atomic_fetch_add(&trap->removers, 1);
  while (atomic_load(&trap->serving) == slot + 1) trap_sleep(&trap->serving, slot + 1);
  atomic_fetch_sub(&trap->removers, 1);
}

static void remove_slot(cshims_trap *trap, uint32_t slot) {
  clear(&table[slot]);
  pthread_mutex_unlock(&cshims_trap_registry_lock);
  wait_until_outside(trap, slot);
  pthread_mutex_lock(&cshims_trap_registry_lock);
  give_back(&table[slot]);
}

void cshims_trap_remove_region(cshims_trap *trap, uint64_t start) {
  pthread_mutex_lock(&cshims_trap_registry_lock);
  uint32_t count = atomic_load(&high_water);
  for (uint32_t slot = 0; slot < count; slot++) {
    if (atomic_load(&table[slot].trap) != trap || atomic_load(&table[slot].start) != start)
      continue;
    remove_slot(trap, slot);
    break;
  }
  pthread_mutex_unlock(&cshims_trap_registry_lock);
}

void cshims_trap_forget_region(cshims_trap *trap, uint64_t start) {
  pthread_mutex_lock(&cshims_trap_registry_lock);
  uint32_t count = atomic_load(&high_water);
  for (uint32_t slot = 0; slot < count; slot++) {
    if (atomic_load(&table[slot].trap) != trap || atomic_load(&table[slot].start) != start)
      continue;
    clear(&table[slot]);
    give_back(&table[slot]);
    break;
  }
  pthread_mutex_unlock(&cshims_trap_registry_lock);
}

void cshims_trap_remove_all(cshims_trap *trap) {
  pthread_mutex_lock(&cshims_trap_registry_lock);
  for (uint32_t slot = 0; slot < atomic_load(&high_water); slot++) {
    region_slot *it = &table[slot];
    if (atomic_load(&it->trap) != trap) continue;
    uint64_t start = atomic_load(&it->start), length = atomic_load(&it->end) - start;
    remove_slot(trap, slot);
    // A copy of the process may keep the descriptor open, and with it the
    // registration: nobody would serve it any more.
    if (trap->userfaultfd >= 0)
      cshims_userfaultfd_unregister(trap->userfaultfd, start, length);
  }
  pthread_mutex_unlock(&cshims_trap_registry_lock);
}

//===--- fork(2) ----------------------------------------------------------===//

/// Another thread may have held the lock or been in the midst of a change when
/// the process was copied. Not taken in the parent before the fork: handlers of
/// fork run in an order that nobody controls, and others may call us from theirs.
/// Every region was the parent's: none of them is mapped here.
static void after_fork_in_child(void) {
  pthread_mutex_init(&cshims_trap_registry_lock, NULL);
  for (uint32_t slot = 0; slot < CSHIMS_TRAP_REGIONS; slot++) {
    if (!table[slot].in_use) continue;
    if ((atomic_load(&table[slot].version) & 1) != 0) atomic_fetch_add(&table[slot].version, 1);
    clear(&table[slot]);
    table[slot].in_use = false;
  }
  atomic_store(&high_water, 0);
  cshims_trap_after_fork();
}

__attribute__((constructor)) static void prepare(void) {
  pthread_atfork(NULL, NULL, after_fork_in_child);
}
