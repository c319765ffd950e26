//===----------------------------------------------------------------------===//
// What the three files of the fault trap share:
//
//   trap_regions.c  which addresses are whose: a table read without a lock
//   trap_signal.c   the SIGSEGV handler: park the toucher, or chain
//   trap.c          opening and closing, and the service thread
//
// Life of a record: a toucher in the handler puts a trap_record on its own
// stack and links it into its trap's list; the service thread takes the whole
// list, answers each record once, and never looks at one again after its
// answer: from then on the stack belongs to the toucher.
//===----------------------------------------------------------------------===//
#ifndef CSHIMS_TRAP_INTERNAL_H
#define CSHIMS_TRAP_INTERNAL_H

#include <linux/futex.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

#include "cshims_process.h"
#include "cshims_trap.h"

/// For what runs in the handler or reads a toucher's stack: the sanitizers know
/// neither that a fault is a call nor that the answer orders the two threads.
#define CSHIMS_UNSANITIZED __attribute__((no_sanitize("address"), no_sanitize("thread")))

enum {
  CSHIMS_TRAPS = 256,
  CSHIMS_TRAP_REGIONS = 4096,
};

/// One toucher that waits in the handler.
typedef struct trap_record {
  struct trap_record *next;
  uint64_t address;
  /// Where the handler found the region; saves the service thread a search.
  uint32_t slot;
  bool is_write;
  /// 0 while the toucher waits (it sleeps on this word), then verdict + 1.
  _Atomic(uint32_t) answer;
} trap_record;

struct cshims_trap {
  /// Newest record first, or the closed mark. Touchers push, the service thread
  /// takes all; a toucher that meets the mark touches again.
  _Atomic(trap_record *) records;
  /// Threads in the handler that may use this trap's list or descriptors. The
  /// closing thread waits for zero (and sleeps on this word) before it closes
  /// them, else a late toucher would write into a stranger's descriptor.
  _Atomic(uint32_t) touchers;
  /// The slot plus one of the region that the service function is called for,
  /// 0 outside. Who takes a region back sleeps on this word.
  _Atomic(uint32_t) serving;
  /// Threads that wait for `serving` to change: nobody is woken in vain.
  _Atomic(uint32_t) removers;
  _Atomic(bool) stop;
  /// Under the registry lock: this entry of the pool is taken.
  bool in_use;
  /// The process that has the service thread; a copy of it has none.
  uint64_t owner;
  int wake_fd;
  int userfaultfd;
  cshims_trap_service service;
  cshims_context context;
  pthread_t thread;
  void *stack;
};

//===--- trap_regions.c ---------------------------------------------------===//

/// Orders all changes of the pool, the table and the handler. A leaf: nothing
/// is locked or waited for under it, and neither the handler nor the service
/// thread takes it.
extern pthread_mutex_t cshims_trap_registry_lock;

/// A region as one lookup saw it.
typedef struct trap_region_view {
  uint32_t slot;
  uint32_t version;
  cshims_trap *trap;
  cshims_context cookie;
} trap_region_view;

/// Finds the region that holds `address`, trying slot `hint` first. Lock-free,
/// may be called in a signal handler.
bool cshims_trap_find(uint64_t address, uint32_t hint, trap_region_view *view);
/// Is that region still as it was seen?
bool cshims_trap_unchanged(const trap_region_view *view);
/// Takes back every region of `trap`, and with a userfaultfd unregisters it.
void cshims_trap_remove_all(cshims_trap *trap);

//===--- trap.c -----------------------------------------------------------===//

/// In a child made by fork(2): gives up what it inherited of every trap. Their
/// threads did not come along.
void cshims_trap_after_fork(void);

//===--- trap_signal.c ----------------------------------------------------===//

/// True on a service thread: its own faults are never parked.
extern _Thread_local bool cshims_trap_on_service_thread
    __attribute__((tls_model("initial-exec")));

/// The list of a trap that takes no records.
trap_record *cshims_trap_closed_mark(void);
/// Count one user of the handler more or less; under the registry lock.
int cshims_trap_handler_retain(void);
void cshims_trap_handler_release(void);
/// No trap is left, whatever there was.
void cshims_trap_handler_forget(void);

//===--- Sleeping on a word -----------------------------------------------===//

static inline void trap_sleep(_Atomic(uint32_t) *word, uint32_t while_it_is) {
  syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, while_it_is, NULL, NULL, 0);
}

static inline void trap_wake_all(_Atomic(uint32_t) *word) {
  syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT32_MAX, NULL, NULL, 0);
}

#endif
