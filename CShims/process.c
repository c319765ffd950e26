//===----------------------------------------------------------------------===//
// The state of cshims_process.h.
//
// Locks: `lock` orders the changes of the stretches and of the hooks; a leaf. A
// child makes it anew, since its holder may not have come along. The hooks and
// the stretches are read without it around fork(2): an entry is complete before
// it counts, and a change that another thread was in the midst of is a stretch
// more or less.
//===----------------------------------------------------------------------===//
#include "cshims_process.h"

#include <pthread.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "cshims_host.h"

_Static_assert(ATOMIC_LLONG_LOCK_FREE == 2, "identities are read in signal handlers");

enum { HOOKS = 8, STRETCHES = 4096 };

/// Where the kernel cannot wipe (before Linux 4.14) our own hook does, and a bare
/// clone(2) goes unnoticed.
static cshims_process plain;
cshims_process *cshims_this_process = &plain;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static cshims_fork_hook hooks[HOOKS];
static _Atomic(uint32_t) hook_count;
/// How many there were when this thread began its fork(2): one that another
/// thread adds meanwhile is not run half.
static _Thread_local uint32_t prepared;

static struct {
  _Atomic(uint64_t) start;
  /// 0: no stretch here.
  _Atomic(uint64_t) length;
} stretches[STRETCHES];
static _Atomic(uint32_t) stretch_end;

//===--- Identity ---------------------------------------------------------===//

static uint64_t fresh_identity(void) {
  uint32_t salt = 0;
  if (syscall(SYS_getrandom, &salt, sizeof salt, 1 /* GRND_NONBLOCK */) != sizeof salt)
    salt = (uint32_t)cshims_monotonic_ns();
  return (uint64_t)salt << 32 | (uint32_t)getpid();
}

uint64_t cshims_process_identity(void) {
  uint64_t identity = atomic_load(&cshims_this_process->identity);
  if (identity != 0) return identity;
  uint64_t fresh = fresh_identity();
  return atomic_compare_exchange_strong(&cshims_this_process->identity, &identity, fresh)
             ? fresh
             : identity;
}

void cshims_membership_set(const void *machine, uint32_t membership) {
  atomic_store(&cshims_this_process->machines[(uintptr_t)machine >> CSHIMS_MACHINE_SHIFT],
               (uint8_t)membership);
}

//===--- Stretches --------------------------------------------------------===//

void cshims_keep_empty(uint64_t start, uint64_t length) {
  pthread_mutex_lock(&lock);
  uint32_t end = atomic_load(&stretch_end), slot = 0;
  while (slot < end && atomic_load(&stretches[slot].length) != 0) slot++;
  if (slot < STRETCHES) {
    atomic_store(&stretches[slot].start, start);
    atomic_store(&stretches[slot].length, length);
    if (slot == end) atomic_store(&stretch_end, end + 1);
  }
  pthread_mutex_unlock(&lock);
}

void cshims_keep_empty_no_more(uint64_t start) {
  pthread_mutex_lock(&lock);
  uint32_t end = atomic_load(&stretch_end);
  for (uint32_t slot = 0; slot < end; slot++) {
    if (atomic_load(&stretches[slot].length) == 0 || atomic_load(&stretches[slot].start) != start)
      continue;
    atomic_store(&stretches[slot].length, 0);
    break;
  }
  while (end != 0 && atomic_load(&stretches[end - 1].length) == 0) end--;
  atomic_store(&stretch_end, end);
  pthread_mutex_unlock(&lock);
}

bool cshims_is_kept_empty(uint64_t start, uint64_t length) {
  bool found = false;
  pthread_mutex_lock(&lock);
  for (uint32_t slot = 0; slot < atomic_load(&stretch_end) && !found; slot++) {
    found = atomic_load(&stretches[slot].start) == start &&
            atomic_load(&stretches[slot].length) == length;
  }
  pthread_mutex_unlock(&lock);
  return found;
}

/// In a child. Where something stands already the stretch is that one's.
static void empty_stretches(void) {
  uint32_t end = atomic_load(&stretch_end);
  for (uint32_t slot = 0; slot < end; slot++) {
    uint64_t start = atomic_load(&stretches[slot].start), base;
    uint64_t length = atomic_load(&stretches[slot].length);
    if (length != 0 && cshims_reserve(start, length, &base) != 0)
      atomic_store(&stretches[slot].length, 0);
  }
}

//===--- fork(2) ----------------------------------------------------------===//

int cshims_fork_hook_add(cshims_fork_hook hook) {
  pthread_mutex_lock(&lock);
  uint32_t count = atomic_load(&hook_count), i = 0;
  while (i < count && (hooks[i].prepare != hook.prepare || hooks[i].parent != hook.parent ||
                       hooks[i].child != hook.child))
    i++;
  if (i == count && count < HOOKS) {
    hooks[count] = hook;
    atomic_store(&hook_count, count + 1);
  }
  pthread_mutex_unlock(&lock);
  return i < HOOKS ? 0 : ENOSPC;
}

static void before_fork(void) {
  prepared = atomic_load(&hook_count);
  for (uint32_t i = prepared; i-- != 0;) {
    if (hooks[i].prepare != NULL) hooks[i].prepare();
  }
}

static void after_fork_in_parent(void) {
  for (uint32_t i = 0; i < prepared; i++) {
    if (hooks[i].parent != NULL) hooks[i].parent();
  }
}

static void after_fork_in_child(void) {
  pthread_mutex_init(&lock, NULL);
  if (cshims_this_process == &plain) {
    atomic_store(&plain.identity, 0);
    for (uint32_t i = 0; i < CSHIMS_MACHINE_PLACES; i++) {
      atomic_store(&plain.machines[i], 0);
      atomic_store(&plain.claims[i], 0);
    }
  }
  empty_stretches();
  for (uint32_t i = 0; i < prepared; i++) {
    if (hooks[i].child != NULL) hooks[i].child();
  }
}

__attribute__((constructor)) static void prepare(void) {
  void *memory = mmap(NULL, sizeof(cshims_process), PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory != MAP_FAILED) {
    if (madvise(memory, sizeof(cshims_process), MADV_WIPEONFORK) == 0)
      cshims_this_process = memory;
    else
      munmap(memory, sizeof(cshims_process));
  }
  pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
}
