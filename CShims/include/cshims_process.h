//===----------------------------------------------------------------------===//
// Which process is this? Machines live in memory that fork(2) shares, so each
// call asks whether what it is about to touch belongs to the process it runs in.
//
// The answer stands in memory that the kernel wipes in every copy of the process
// (MADV_WIPEONFORK), made by fork(2) or by a bare clone(2): there it reads zero,
// which is nobody. A child of vfork(2), or of clone(2) with CLONE_VM, has its
// parent's memory itself, so it counts as the same process, as it does for the
// kernel's own mm_struct.
//
// Besides: what runs around a fork(2), and the addresses that must not fall to a
// child's next mmap(2), because the child may still have pointers into them.
//===----------------------------------------------------------------------===//
#ifndef CSHIMS_PROCESS_H
#define CSHIMS_PROCESS_H

#include "cshims_basics.h"

/// What a machine is to this process.
typedef enum cshims_membership {
  /// Another process made it, and this one has not joined it.
  CSHIMS_MACHINE_FOREIGN = 0,
  CSHIMS_MACHINE_OWN = 1,
  /// Own and joinable: this plus the process's slot, up to 31. What the process
  /// takes and gives back is noted.
  CSHIMS_MACHINE_NOTED = 2,
} cshims_membership;

enum {
  /// log2 of CSHIMS_MACHINE_ALIGNMENT.
  CSHIMS_MACHINE_SHIFT = 33,
  /// Machines stand at multiples of that below 2^47.
  CSHIMS_MACHINE_PLACES = 1 << (47 - CSHIMS_MACHINE_SHIFT),
};

typedef struct cshims_process {
  /// Low 32 bits: the process id; high 32 bits: random. 0: not told yet.
  _Atomic(uint64_t) identity;
  /// A cshims_membership for each place where a machine may stand.
  _Atomic(uint8_t) machines[CSHIMS_MACHINE_PLACES];
  /// The slot plus one by which this process may join the machine there.
  _Atomic(uint8_t) claims[CSHIMS_MACHINE_PLACES];
} cshims_process;

/// Never NULL after load; its memory is wiped in a child.
extern cshims_process *cshims_this_process;

/// This process's identity, given at the first call.
uint64_t cshims_process_identity(void);

/// Is this the process of that identity? `identity` is not 0.
static inline bool cshims_process_is(uint64_t identity) {
  return atomic_load_explicit(&cshims_this_process->identity, memory_order_relaxed) == identity;
}
static inline uint32_t cshims_process_id_of(uint64_t identity) { return (uint32_t)identity; }

/// `place` is any address within CSHIMS_MACHINE_ALIGNMENT of the machine's start:
/// its header, a page descriptor.
static inline uint32_t cshims_membership_of(const void *place) {
  uintptr_t index = (uintptr_t)place >> CSHIMS_MACHINE_SHIFT;
  return atomic_load_explicit(&cshims_this_process->machines[index], memory_order_relaxed);
}
void cshims_membership_set(const void *machine, uint32_t membership);

//===--- Around fork(2) ---------------------------------------------------===//

/// Functions that run around each fork(2): `prepare` before it, then `parent` or
/// `child` on the thread that forked. Any may be NULL. As pthread_atfork(3) has
/// it: prepare last added first, the others in the order in which they were
/// added; a child's hooks run before anything else of CShims touches user memory.
typedef struct cshims_fork_hook {
  void (*prepare)(void);
  void (*parent)(void);
  void (*child)(void);
} cshims_fork_hook;

/// Adds a hook for the life of the process, unless it is there; ENOSPC when there
/// are eight.
int cshims_fork_hook_add(cshims_fork_hook hook);

//===--- Addresses that a child keeps empty -------------------------------===//

/// [start, start + length) is not inherited by a child: after fork(2) it becomes
/// an untouchable reservation there, so that a pointer into it that came along
/// crashes and never meets what the child has mapped since. Past 4,096 stretches
/// a child has holes instead.
void cshims_keep_empty(uint64_t start, uint64_t length);
/// Is it still so? False in a child where something else stood there already.
bool cshims_is_kept_empty(uint64_t start, uint64_t length);
/// Forgets the stretch that starts there.
void cshims_keep_empty_no_more(uint64_t start);

#endif
