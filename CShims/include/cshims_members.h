//===----------------------------------------------------------------------===//
// The processes of a joinable machine: who they are, whether they live, what
// each of them holds, and the gate that lets a survivor count anew what a dead
// one left behind.
//
// Alive is who holds a lock (fcntl(2), F_SETLK) on the byte of the machine's
// memfd that has his slot's number: the host takes it back when the process
// ends, however it ends, and on exec(2); children do not inherit it.
//
// The gate: whatever changes a count, a page table, a page cache or a note runs
// inside it. Whoever counts anew closes the gate and waits until every living
// process is outside; then nothing moves. Machines that are not joinable have no
// gate, no notes, and pay one test of a pointer.
//===----------------------------------------------------------------------===//
#ifndef CSHIMS_MEMBERS_H
#define CSHIMS_MEMBERS_H

#include "cshims_basics.h"
#include "cshims_lock.h"
#include "cshims_page.h"

enum {
  CSHIMS_MEMBERS = 32,
  /// As many as a shard of the machine has.
  CSHIMS_MEMBER_COUNTERS = 8,
};

typedef enum cshims_member_state {
  CSHIMS_MEMBER_NONE = 0,
  /// Made before a fork(2) for a child that has not run yet.
  CSHIMS_MEMBER_EXPECTED = 1,
  /// A child's; it may join.
  CSHIMS_MEMBER_CLAIMED = 2,
  CSHIMS_MEMBER_JOINED = 3,
  /// The process that made the machine.
  CSHIMS_MEMBER_FOUNDER = 4,
} cshims_member_state;

typedef struct cshims_member {
  _Atomic(uint32_t) state;
  /// Threads of this process inside the gate; nested entries count.
  _Atomic(uint32_t) inside;
  /// The process; of an expected one the process that expects it.
  _Atomic(uint64_t) identity;
  /// The newest of its address spaces, an address; they are linked.
  _Atomic(uint64_t) spaces;
  /// Why a child cannot join: an errno, 0 when its copies are complete.
  _Atomic(uint32_t) error;
  uint32_t unused[9];
} cshims_member;
_Static_assert(sizeof(cshims_member) == CSHIMS_CACHE_LINE, "one member, one cache line");

typedef struct cshims_members {
  cshims_member member[CSHIMS_MEMBERS];
  /// What each process has counted: here and not in shards, so that a dead one's
  /// books can be closed.
  _Atomic(uint64_t) counts[CSHIMS_MEMBERS][CSHIMS_MEMBER_COUNTERS];
  /// Guards the slots and the lists of address spaces; taken outside the gate,
  /// kept while the gate is closed.
  cshims_lock lock;
  /// Guards the list of page caches; a leaf.
  cshims_lock cache_lock;
  _Atomic(uint64_t) caches;
  /// 1: nobody enters. Who waits sleeps on this word.
  _Atomic(uint32_t) closed;
} cshims_members;

static inline uint32_t cshims_member_state_load(const cshims_member *member) {
  return atomic_load(&member->state);
}
static inline void cshims_member_set_state(cshims_member *member, cshims_member_state state) {
  atomic_store(&member->state, (uint32_t)state);
}
/// Fills a slot in; its state comes last.
static inline void cshims_member_set(cshims_member *member, cshims_member_state state,
                                     uint64_t identity, uint32_t error) {
  atomic_store(&member->inside, 0);
  atomic_store(&member->identity, identity);
  atomic_store(&member->spaces, 0);
  atomic_store(&member->error, error);
  atomic_store(&member->state, (uint32_t)state);
}
/// From expected to none, unless the child has claimed it meanwhile.
static inline bool cshims_member_give_up(cshims_member *member) {
  uint32_t state = CSHIMS_MEMBER_EXPECTED;
  return atomic_compare_exchange_strong(&member->state, &state, CSHIMS_MEMBER_NONE);
}
static inline uint64_t cshims_member_identity(const cshims_member *member) {
  return atomic_load(&member->identity);
}
static inline uint64_t cshims_member_spaces(const cshims_member *member) {
  return atomic_load(&member->spaces);
}
static inline void cshims_member_set_spaces(cshims_member *member, uint64_t first) {
  atomic_store(&member->spaces, first);
}
static inline uint32_t cshims_member_error_load(const cshims_member *member) {
  return atomic_load(&member->error);
}
static inline void cshims_member_set_error(cshims_member *member, uint32_t error) {
  atomic_store(&member->error, error);
}
static inline uint64_t cshims_members_caches(const cshims_members *members) {
  return atomic_load(&members->caches);
}
static inline void cshims_members_set_caches(cshims_members *members, uint64_t first) {
  atomic_store(&members->caches, first);
}

struct cshims_machine;

//===--- Slots ------------------------------------------------------------===//

/// This process's slot in a joinable machine that it belongs to, or -1.
int cshims_member_slot(const struct cshims_machine *machine);
/// The slot that a fork(2) gave this process and that it has not joined by, or -1.
int cshims_member_claim(const struct cshims_machine *machine);
/// Locks a slot's byte for this process. 0 or an errno.
int cshims_member_lock_slot(const struct cshims_machine *machine, int slot);
/// Does another process hold that slot's byte?
bool cshims_member_is_alive(const struct cshims_machine *machine, int slot);

/// Counts for this process. One that has not joined counts nothing.
void cshims_member_count(struct cshims_machine *machine, uint32_t counter, uint64_t n);
/// What a dead process had taken counts as released.
void cshims_member_close_books(struct cshims_machine *machine, int slot);

//===--- The gate ---------------------------------------------------------===//

void cshims_gate_enter_slowly(struct cshims_machine *machine);
void cshims_gate_leave_slowly(struct cshims_machine *machine);
/// Closes the gate and waits until every process in `living` (a bit a slot) is
/// outside or dead. Returns who died meanwhile. Not from inside the gate.
uint32_t cshims_gate_close(struct cshims_machine *machine, uint32_t living);
void cshims_gate_open(struct cshims_machine *machine);

//===--- Dead processes ---------------------------------------------------===//

/// Counts anew what dead processes left behind; `machine` belongs to the process.
typedef void (*cshims_reaper)(struct cshims_machine *machine);
/// Names the process's reaper.
void cshims_reaper_set(cshims_reaper reaper);
/// Starts the thread that looks for dead processes five times a second, once a
/// machine and process. What it fails at is tried again at the next fork(2).
void cshims_reaper_start(struct cshims_machine *machine);
/// Stops it; not from the thread itself.
void cshims_reaper_stop(struct cshims_machine *machine);

//===--- Around fork(2) ---------------------------------------------------===//

/// One fork(2) at a time, from `begin` before it to `end` after it, on the thread
/// that forks.
void cshims_fork_begin(void);
/// Adds a slot that the child is to claim; an errno where it will not.
int cshims_fork_expect(struct cshims_machine *machine, int slot);
/// The i-th that was added; false when there are no more.
bool cshims_fork_expected(unsigned i, struct cshims_machine **machine, int *slot);
/// In the parent: waits until the child has claimed, or there is none; at most two
/// seconds. Which slots were claimed, their states tell.
void cshims_fork_wait(void);
void cshims_fork_end(void);
/// The fork hook of a child: claims.
void cshims_fork_claim(void);

/// The place of the first joinable machine of this process at or after `place`
/// (its address shifted), or CSHIMS_MACHINE_PLACES.
uint32_t cshims_noted_place(uint32_t place);

#endif
