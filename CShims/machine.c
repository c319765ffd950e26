//===----------------------------------------------------------------------===//
// Counter shards of threads, failure points and the event sink.
//
// Shards: a word of the process says which are taken. A thread takes one at its
// first count and gives it back when it ends; release on giving back and
// acquire on taking let the next owner go on with plain loads and stores. The
// machines live in memory that a forked child shares, so a child takes no
// shard: its threads all use the last one, with locked adds.
//
// Sinks: an emitter announces itself before it reads the sink, and whoever
// changes the sink clears it before looking for emitters. Both sides are
// seq_cst, so one of them sees the other, and no call of the old sink is left
// when cshims_event_sink_set returns.
//
// Locks: sink_lock orders the changes of sinks; nothing is locked under it.
//===----------------------------------------------------------------------===//
#include "cshims_machine.h"

#include "cshims_process.h"

#include <pthread.h>
#include <sched.h>

//===--- Shards -----------------------------------------------------------===//

_Static_assert(CSHIMS_SHARDS == 64, "one bit of a 64-bit word for each shard");
static const uint32_t shared_slot = CSHIMS_SHARDS + 1;

_Thread_local uint32_t cshims_thread_slot __attribute__((tls_model("initial-exec")));

static _Atomic(uint64_t) taken_shards;
static pthread_key_t thread_end;
static _Atomic(bool) thread_end_known;

/// Emitters inside a sink, by machine; a collision only makes a change wait.
static _Atomic(uint32_t) emitters[64];

static void give_back(void *unused) {
  (void)unused;
  uint32_t slot = cshims_thread_slot;
  // Destructors that run after this one may still count.
  cshims_thread_slot = shared_slot;
  if (slot == 0 || slot == shared_slot) return;
  atomic_fetch_and_explicit(&taken_shards, ~(1ull << (slot - 1)), memory_order_release);
}

static pthread_mutex_t sink_lock = PTHREAD_MUTEX_INITIALIZER;

static void after_fork_in_child(void) {
  // Its holder may not have come along.
  pthread_mutex_init(&sink_lock, NULL);
  cshims_thread_slot = shared_slot;
  atomic_store_explicit(&taken_shards, UINT64_MAX, memory_order_relaxed);
  for (unsigned i = 0; i < 64; i++) atomic_store_explicit(&emitters[i], 0, memory_order_relaxed);
}

/// At load time: the first keys of a process store their values without
/// allocating, and a count may happen where nothing may allocate.
__attribute__((constructor)) static void prepare(void) {
  if (pthread_key_create(&thread_end, give_back) != 0) return;
  if (pthread_atfork(NULL, NULL, after_fork_in_child) != 0) return;
  atomic_store_explicit(&thread_end_known, true, memory_order_release);
}

uint32_t cshims_thread_slot_assign(void) {
  if (!atomic_load_explicit(&thread_end_known, memory_order_acquire)) return shared_slot;
  uint64_t taken = atomic_load_explicit(&taken_shards, memory_order_relaxed);
  while (~taken != 0) {
    // From the top: the first shard stands where its lines compete in the cache
    // with the descriptors at the start of an area.
    uint32_t shard = 63 - (uint32_t)__builtin_clzll(~taken);
    if (!atomic_compare_exchange_weak_explicit(&taken_shards, &taken, taken | 1ull << shard,
                                               memory_order_acquire, memory_order_relaxed))
      continue;
    cshims_thread_slot = shard + 1;
    // Any value but NULL makes the destructor run.
    if (pthread_setspecific(thread_end, &cshims_thread_slot) != 0) give_back(NULL);
    return cshims_thread_slot;
  }
  cshims_thread_slot = shared_slot;
  return shared_slot;
}

//===--- What is instrumented ---------------------------------------------===//

/// One more, one less or none. Every one less takes back a one more, so that the
/// bits above the count stay as they are.
static void instrument(cshims_machine *machine, uint32_t change) {
  atomic_fetch_add_explicit(&machine->attention, change, memory_order_release);
}

//===--- Failure points ---------------------------------------------------===//

bool cshims_failure_point_fires(cshims_machine *machine, uint32_t point) {
  if (point >= CSHIMS_FAILURE_POINTS) return false;
  cshims_failure_point *it = &machine->failure_points[point];
  if (atomic_load_explicit(&it->armed, memory_order_acquire) == 0) return false;
  atomic_fetch_add_explicit(&it->passages, 1, memory_order_relaxed);
  uint64_t left = atomic_load_explicit(&it->countdown, memory_order_relaxed);
  while (left != 0) {
    if (!atomic_compare_exchange_weak_explicit(&it->countdown, &left, left - 1,
                                               memory_order_relaxed, memory_order_relaxed))
      continue;
    if (left != 1) return false;
    atomic_fetch_add_explicit(&it->failures, 1, memory_order_relaxed);
    return true;
  }
  return false;
}

void cshims_failure_point_arm(cshims_machine *machine, uint32_t point, uint64_t countdown) {
  if (point >= CSHIMS_FAILURE_POINTS) return;
  cshims_failure_point *it = &machine->failure_points[point];
  uint64_t arm = countdown != 0;
  if (arm) {
    atomic_store_explicit(&it->passages, 0, memory_order_relaxed);
    atomic_store_explicit(&it->failures, 0, memory_order_relaxed);
  }
  atomic_store_explicit(&it->countdown, countdown, memory_order_relaxed);
  uint64_t was = atomic_exchange_explicit(&it->armed, arm, memory_order_acq_rel);
  instrument(machine, (uint32_t)(arm - was));
}

uint64_t cshims_failure_point_passages(const cshims_machine *machine, uint32_t point) {
  if (point >= CSHIMS_FAILURE_POINTS) return 0;
  return atomic_load_explicit(&machine->failure_points[point].passages, memory_order_relaxed);
}

uint64_t cshims_failure_point_failures(const cshims_machine *machine, uint32_t point) {
  if (point >= CSHIMS_FAILURE_POINTS) return 0;
  return atomic_load_explicit(&machine->failure_points[point].failures, memory_order_relaxed);
}

//===--- The event sink ---------------------------------------------------===//

static _Atomic(uint32_t) *emitters_of(const cshims_machine *machine) {
  return &emitters[(uintptr_t)machine / CSHIMS_MACHINE_ALIGNMENT % 64];
}

void cshims_event_sink_set(cshims_machine *machine, cshims_event_sink sink,
                           cshims_context context) {
  pthread_mutex_lock(&sink_lock);
  cshims_event_sink old = atomic_exchange(&machine->event_sink, NULL);
  while (atomic_load(emitters_of(machine)) != 0) sched_yield();
  atomic_store(&machine->event_context, context);
  atomic_store(&machine->event_owner, cshims_process_identity());
  atomic_store(&machine->event_sink, sink);
  uint32_t change = (uint32_t)(sink != NULL) - (uint32_t)(old != NULL);
  instrument(machine, change);
  pthread_mutex_unlock(&sink_lock);
}

void cshims_event_sink_forget(cshims_machine *machine, uint64_t identity) {
  if (identity == 0 || atomic_load(&machine->event_owner) != identity) return;
  if (atomic_exchange(&machine->event_sink, NULL) != NULL) instrument(machine, (uint32_t)-1);
}

void cshims_event_emit(cshims_machine *machine, uint32_t kind, uint64_t address, uint64_t frame,
                       uint64_t count) {
  _Atomic(uint32_t) *inside = emitters_of(machine);
  atomic_fetch_add(inside, 1);
  cshims_event_sink sink = atomic_load(&machine->event_sink);
  // Another process's function would find its context in the wrong memory.
  if (sink != NULL && cshims_process_is(atomic_load(&machine->event_owner)))
    sink(atomic_load(&machine->event_context), kind, address, frame, count);
  atomic_fetch_sub_explicit(inside, 1, memory_order_release);
}
