//===----------------------------------------------------------------------===//
// The machine's header: what hangs on one PhysicalMemory and is needed from a
// page descriptor alone.
//
// It stands at the start of the metadata mapping, whose base is aligned to
// CSHIMS_MACHINE_ALIGNMENT; the descriptor array lies within that alignment,
// so a descriptor's machine is its address with the low bits cleared and
// put_page(page) needs no handle. The mapping is shared memory: real fork(2)
// leaves parent and child with one machine at one address.
//
// Counters are sharded: each thread owns a shard that it alone writes, with
// plain loads and stores; threads beyond the shards share the last one and pay
// a locked add. One shared counter would double the cost of a pin.
//===----------------------------------------------------------------------===//
#ifndef CSHIMS_MACHINE_H
#define CSHIMS_MACHINE_H

#include "cshims_basics.h"
#include "cshims_lock.h"
#include "cshims_members.h"
#include "cshims_page.h"

static const uint64_t CSHIMS_MACHINE_ALIGNMENT = 1ull << 33;
static const uint64_t CSHIMS_MACHINE_MAGIC = 0x6775706d61636831ull;

enum {
  CSHIMS_SHARDS = 64,
  CSHIMS_MAX_ORDER = 10,
  CSHIMS_FAILURE_POINTS = 16,
};

/// What the machine counts. Pins count base pages, as the kernel's
/// nr_foll_pin_acquired and nr_foll_pin_released do.
typedef enum cshims_counter {
  CSHIMS_PINS_ACQUIRED,
  CSHIMS_PINS_RELEASED,
  CSHIMS_REFS_ACQUIRED,
  CSHIMS_REFS_RELEASED,
  CSHIMS_FAULTS,
  CSHIMS_HOST_CALLS,
  CSHIMS_COUNTERS = 8,
} cshims_counter;

typedef struct cshims_shard {
  _Atomic(uint64_t) values[CSHIMS_COUNTERS];
} cshims_shard;
_Static_assert(sizeof(cshims_shard) == CSHIMS_CACHE_LINE, "one shard, one cache line");
_Static_assert((int)CSHIMS_COUNTERS == (int)CSHIMS_MEMBER_COUNTERS, "a member has all of them");

/// A named place that can be told to fail: its n-th passage from now, once.
typedef struct cshims_failure_point {
  /// n: the n-th passage from now fails. 0: none does (off, or it has failed).
  _Atomic(uint64_t) countdown;
  /// Passages and failures since the point was armed last.
  _Atomic(uint64_t) passages;
  _Atomic(uint64_t) failures;
  /// 1: passages are counted. Stays so after the failure, until disarmed.
  _Atomic(uint64_t) armed;
} cshims_failure_point;

/// How many holds of one kind a process has noted on one folio. A structure, for
/// Swift knows no pointers to atomics.
typedef struct cshims_note {
  _Atomic(uint32_t) count;
} cshims_note;

/// Called for each event while a sink is attached. Must not allocate, block,
/// or touch user memory: it runs inside the fault path.
typedef void (*cshims_event_sink)(cshims_context context, uint32_t kind, uint64_t address,
                                  uint64_t frame, uint64_t count);

typedef struct cshims_machine {
  /// First, so that each stands on a cache line of its own.
  cshims_shard shards[CSHIMS_SHARDS + 1];
  uint64_t magic;
  /// Frame 0 through the permanent mapping; frame n is `window + n * 4096`.
  unsigned char *window;
  cshims_page *pages;
  /// NULL unless processes may join.
  cshims_members *members;
  /// What each process holds: [slot][frame][0 references, 1 pins], by the frame of
  /// the folio's head. Only where there are members.
  cshims_note *notes;
  uint64_t frame_count;
  /// Why calls must look closer than at one plain page; 0 for a machine where
  /// nobody listens, nothing is told to fail, none may join and no ledger is kept.
  /// The low bits count what is instrumented; the bits above are below.
  _Atomic(uint32_t) attention;
  int32_t memfd;
  /// The frame that stands for the zero page.
  uint64_t zero_frame;
  /// What the rooms keep beside this header, in the same mapping.
  void *zone;
  void *fresh_blocks;
  void *records;
  void *arena;
  void *spans;
  void *mappings;
  void *address_spaces;
  /// How copy-on-write is decided: bits of MemoryPolicy.
  _Atomic(uint32_t) policy;
  /// The process that made the machine.
  uint32_t owner_id;
  /// The dialect that iterators of this machine follow unless told otherwise.
  _Atomic(uint32_t) default_dialect;
  _Atomic(cshims_event_sink) event_sink;
  _Atomic(cshims_context) event_context;
  /// The process whose function and context those are.
  _Atomic(uint64_t) event_owner;
  cshims_failure_point failure_points[CSHIMS_FAILURE_POINTS];
} cshims_machine;

/// Armed failure points and the event sink, in `attention`.
static const uint32_t CSHIMS_ATTENTION_INSTRUMENTS = 0xffff;
/// Processes may join: set when the machine is made.
static const uint32_t CSHIMS_ATTENTION_JOINABLE = 1u << 16;
/// Some process keeps a ledger of it. Never taken back: who finds it looks
/// whether his own process keeps one.
static const uint32_t CSHIMS_ATTENTION_LEDGER = 1u << 17;

static inline uint32_t cshims_attention(const cshims_machine *machine) {
  return atomic_load_explicit(&machine->attention, memory_order_relaxed);
}
static inline void cshims_attention_set(cshims_machine *machine, uint32_t bits) {
  atomic_fetch_or_explicit(&machine->attention, bits, memory_order_release);
}

static inline uint32_t cshims_default_dialect(const cshims_machine *machine) {
  return atomic_load_explicit(&machine->default_dialect, memory_order_relaxed);
}
static inline void cshims_default_dialect_set(cshims_machine *machine, uint32_t dialect) {
  atomic_store_explicit(&machine->default_dialect, dialect, memory_order_relaxed);
}

static inline uint32_t cshims_policy(const cshims_machine *machine) {
  return atomic_load_explicit(&machine->policy, memory_order_relaxed);
}
static inline void cshims_policy_set(cshims_machine *machine, uint32_t policy) {
  atomic_store_explicit(&machine->policy, policy, memory_order_relaxed);
}

static inline cshims_machine *cshims_machine_of(const cshims_page *page) {
  return (cshims_machine *)((uintptr_t)page & ~(uintptr_t)(CSHIMS_MACHINE_ALIGNMENT - 1));
}

//===--- Joinable machines (cshims_members.h) -----------------------------===//

/// Enters the machine's gate, unless it has none. May wait while a dead process's
/// leavings are counted; not where this thread is inside already.
static inline void cshims_gate_enter(cshims_machine *machine) {
  if (cshims_unlikely(machine->members != NULL)) cshims_gate_enter_slowly(machine);
}
static inline void cshims_gate_leave(cshims_machine *machine) {
  if (cshims_unlikely(machine->members != NULL)) cshims_gate_leave_slowly(machine);
}

/// A process's note about one frame. Inside the gate.
static inline cshims_note *cshims_note_of(const cshims_machine *machine, int slot, uint64_t frame,
                                          bool is_pin) {
  return machine->notes + (((uint64_t)slot * machine->frame_count + frame) * 2 + is_pin);
}
static inline uint32_t cshims_note_load(const cshims_note *note) {
  return atomic_load_explicit(&note->count, memory_order_relaxed);
}
static inline void cshims_note_add(cshims_note *note, uint32_t n) {
  atomic_fetch_add_explicit(&note->count, n, memory_order_relaxed);
}
/// Takes `n` back if so many are noted.
static inline bool cshims_note_drop(cshims_note *note, uint32_t n) {
  uint32_t noted = atomic_load_explicit(&note->count, memory_order_relaxed);
  while (noted >= n) {
    if (atomic_compare_exchange_weak_explicit(&note->count, &noted, noted - n,
                                              memory_order_relaxed, memory_order_relaxed))
      return true;
  }
  return false;
}
static inline void cshims_note_clear(cshims_note *note) {
  if (cshims_note_load(note) != 0) atomic_store_explicit(&note->count, 0, memory_order_relaxed);
}

/// This thread's shard plus one; 0 before the first use.
extern _Thread_local uint32_t cshims_thread_slot __attribute__((tls_model("initial-exec")));
uint32_t cshims_thread_slot_assign(void);

/// Counts in a counter that no other thread writes: a load and a store are enough.
static inline void cshims_count_own(cshims_shard *shard, cshims_counter counter, uint64_t n) {
  uint64_t before = atomic_load_explicit(&shard->values[counter], memory_order_relaxed);
  atomic_store_explicit(&shard->values[counter], before + n, memory_order_relaxed);
}
static inline void cshims_count(cshims_machine *machine, cshims_counter counter, uint64_t n) {
  if (cshims_unlikely(machine->members != NULL)) {
    cshims_member_count(machine, counter, n);
    return;
  }
  uint32_t slot = cshims_thread_slot;
  if (cshims_unlikely(slot == 0)) slot = cshims_thread_slot_assign();
  cshims_shard *shard = &machine->shards[slot - 1];
  if (cshims_unlikely(slot > CSHIMS_SHARDS)) {
    atomic_fetch_add_explicit(&shard->values[counter], n, memory_order_relaxed);
    return;
  }
  cshims_count_own(shard, counter, n);
}

/// Where this thread alone counts, on a machine that none may join; NULL where it
/// has no shard, or has not counted yet.
static inline cshims_shard *cshims_own_shard(cshims_machine *machine) {
  uint32_t shard = cshims_thread_slot - 1;
  if (cshims_unlikely(shard >= CSHIMS_SHARDS)) return NULL;
  return &machine->shards[shard];
}

/// The sum over all threads; exact when they are quiet.
static inline uint64_t cshims_counter_sum(const cshims_machine *machine, cshims_counter counter) {
  uint64_t sum = 0;
  for (unsigned i = 0; i <= CSHIMS_SHARDS; i++)
    sum += atomic_load_explicit(&machine->shards[i].values[counter], memory_order_relaxed);
  for (unsigned i = 0; machine->members != NULL && i < CSHIMS_MEMBERS; i++)
    sum += atomic_load_explicit(&machine->members->counts[i][counter], memory_order_relaxed);
  return sum;
}

static inline bool cshims_instrumented(const cshims_machine *machine) {
  return cshims_unlikely((cshims_attention(machine) & CSHIMS_ATTENTION_INSTRUMENTS) != 0);
}
/// Is any failure point armed? (A sink alone does not count.)
static inline bool cshims_any_failure_point_armed(const cshims_machine *machine) {
  if (!cshims_instrumented(machine)) return false;
  bool sink = atomic_load_explicit(&machine->event_sink, memory_order_relaxed) != NULL;
  return (cshims_attention(machine) & CSHIMS_ATTENTION_INSTRUMENTS) > (uint32_t)sink;
}
/// Counts a passage of `point` and says whether it must fail now.
bool cshims_failure_point_fires(cshims_machine *machine, uint32_t point);
/// Makes the `countdown`-th passage from now fail and counts from zero again;
/// UINT64_MAX only counts. 0 switches the point off and leaves what it counted.
/// A `point` past the last is ignored.
void cshims_failure_point_arm(cshims_machine *machine, uint32_t point, uint64_t countdown);
uint64_t cshims_failure_point_passages(const cshims_machine *machine, uint32_t point);
uint64_t cshims_failure_point_failures(const cshims_machine *machine, uint32_t point);
/// Attaches `sink` (NULL: none) in place of the one before, of which no call is
/// left when this returns. Not to be called from inside a sink.
void cshims_event_sink_set(cshims_machine *machine, cshims_event_sink sink, cshims_context context);
/// Detaches the sink if it is that process's, which has died.
void cshims_event_sink_forget(cshims_machine *machine, uint64_t identity);
/// Hands an event to the sink, if there is one.
void cshims_event_emit(cshims_machine *machine, uint32_t kind, uint64_t address, uint64_t frame,
                       uint64_t count);

#endif
