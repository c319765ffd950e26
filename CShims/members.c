//===----------------------------------------------------------------------===//
// The functions of cshims_members.h.
//
// A child says that it has claimed its slots by a byte in a pipe that the
// forking thread made; when the child dies first, or there is none because
// fork(2) failed, the pipe ends, since nobody else has its other end for long.
//
// Locks: `forking` is held by a thread from before its fork(2) until after it,
// so that one at a time uses the state between; taken before a machine's locks.
// `reapers_lock` guards the table of reaper threads; a leaf.
//===----------------------------------------------------------------------===//
#include "cshims_members.h"

#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "cshims_machine.h"
#include "cshims_process.h"
#include "trap_internal.h"

//===--- Slots ------------------------------------------------------------===//

int cshims_member_slot(const cshims_machine *machine) {
  return (int)cshims_membership_of(machine) - CSHIMS_MACHINE_NOTED;
}

int cshims_member_claim(const cshims_machine *machine) {
  size_t place = (uintptr_t)machine >> CSHIMS_MACHINE_SHIFT;
  return (int)atomic_load(&cshims_this_process->claims[place]) - 1;
}

static struct flock byte_of(int slot) {
  return (struct flock){
      .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = slot, .l_len = 1};
}

int cshims_member_lock_slot(const cshims_machine *machine, int slot) {
  struct flock byte = byte_of(slot);
  return fcntl(machine->memfd, F_SETLK, &byte) == 0 ? 0 : errno;
}

bool cshims_member_is_alive(const cshims_machine *machine, int slot) {
  struct flock byte = byte_of(slot);
  // Who cannot be asked about is not taken for dead.
  return fcntl(machine->memfd, F_GETLK, &byte) != 0 || byte.l_type != F_UNLCK;
}

void cshims_member_count(cshims_machine *machine, uint32_t counter, uint64_t n) {
  int slot = cshims_member_slot(machine);
  if (slot >= 0)
    atomic_fetch_add_explicit(&machine->members->counts[slot][counter], n, memory_order_relaxed);
}

void cshims_member_close_books(cshims_machine *machine, int slot) {
  _Atomic(uint64_t) *counts = machine->members->counts[slot];
  atomic_store(&counts[CSHIMS_PINS_RELEASED], atomic_load(&counts[CSHIMS_PINS_ACQUIRED]));
  atomic_store(&counts[CSHIMS_REFS_RELEASED], atomic_load(&counts[CSHIMS_REFS_ACQUIRED]));
}

//===--- The gate ---------------------------------------------------------===//

/// How deep this thread is inside gates.
static _Thread_local uint32_t depth __attribute__((tls_model("initial-exec")));
static _Atomic(cshims_reaper) the_reaper;

static void doze(long microseconds) {
  struct timespec time = {0, microseconds * 1000};
  nanosleep(&time, NULL);
}

/// Enters beside a thread of this process that is inside already: that one may be
/// waiting for us, and nobody counts before it is out.
static bool enter_beside(cshims_member *self) {
  uint32_t inside = atomic_load(&self->inside);
  while (inside != 0) {
    if (atomic_compare_exchange_weak(&self->inside, &inside, inside + 1)) return true;
  }
  return false;
}

static void wait_at(cshims_machine *machine) {
  cshims_members *members = machine->members;
  struct timespec patience = {0, 20 * 1000 * 1000};
  long result = syscall(SYS_futex, &members->closed, FUTEX_WAIT, 1, &patience, NULL, 0);
  // Whoever closed the gate may have died since: then it is ours to finish. The
  // service thread leaves that to others, it must be there for its touchers.
  cshims_reaper reaper = atomic_load(&the_reaper);
  if (result != 0 && errno == ETIMEDOUT && reaper != NULL && !cshims_trap_on_service_thread)
    reaper(machine);
}

void cshims_gate_enter_slowly(cshims_machine *machine) {
  cshims_members *members = machine->members;
  int slot = cshims_member_slot(machine);
  if (slot < 0) return;
  cshims_member *self = &members->member[slot];
  if (depth++ != 0) {
    atomic_fetch_add(&self->inside, 1);
    return;
  }
  for (;;) {
    if (atomic_load(&members->closed) == 0) {
      // Counted before the gate is looked at again, and whoever closes it looks
      // at the count afterwards (all seq_cst).
      atomic_fetch_add(&self->inside, 1);
      if (atomic_load(&members->closed) == 0) return;
      atomic_fetch_sub(&self->inside, 1);
    }
    if (cshims_trap_on_service_thread && enter_beside(self)) return;
    depth = 0;
    wait_at(machine);
    depth = 1;
  }
}

void cshims_gate_leave_slowly(cshims_machine *machine) {
  int slot = cshims_member_slot(machine);
  if (slot < 0) return;
  depth--;
  atomic_fetch_sub(&machine->members->member[slot].inside, 1);
}

uint32_t cshims_gate_close(cshims_machine *machine, uint32_t living) {
  cshims_members *members = machine->members;
  int self = cshims_member_slot(machine);
  atomic_store(&members->closed, 1);
  uint32_t dead = 0;
  for (int slot = 0; slot < CSHIMS_MEMBERS; slot++) {
    if ((living >> slot & 1) == 0) continue;
    for (long turn = 0; atomic_load(&members->member[slot].inside) != 0; turn++) {
      if (slot != self && turn % 16 == 15 && !cshims_member_is_alive(machine, slot)) {
        dead |= 1u << slot;
        break;
      }
      doze(turn < 16 ? 20 : 1000);
    }
  }
  return dead;
}

void cshims_gate_open(cshims_machine *machine) {
  atomic_store(&machine->members->closed, 0);
  syscall(SYS_futex, &machine->members->closed, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);
}

//===--- Reapers ----------------------------------------------------------===//

enum { REAPERS = 64 };

typedef struct reaper_thread {
  cshims_machine *machine;
  pthread_t thread;
  _Atomic(uint32_t) stop;
} reaper_thread;

static pthread_mutex_t reapers_lock = PTHREAD_MUTEX_INITIALIZER;
static reaper_thread reapers[REAPERS];

void cshims_reaper_set(cshims_reaper reaper) {
  atomic_store(&the_reaper, reaper);
}

static void *reap(void *argument) {
  reaper_thread *self = argument;
  struct timespec pause = {0, 200 * 1000 * 1000};
  while (atomic_load(&self->stop) == 0) {
    syscall(SYS_futex, &self->stop, FUTEX_WAIT_PRIVATE, 0, &pause, NULL, 0);
    cshims_reaper reaper = atomic_load(&the_reaper);
    if (atomic_load(&self->stop) == 0 && reaper != NULL) reaper(self->machine);
  }
  return NULL;
}

void cshims_reaper_start(cshims_machine *machine) {
  pthread_mutex_lock(&reapers_lock);
  reaper_thread *place = NULL;
  for (int i = 0; i < REAPERS; i++) {
    if (reapers[i].machine == machine) {
      pthread_mutex_unlock(&reapers_lock);
      return;
    }
    if (reapers[i].machine == NULL && place == NULL) place = &reapers[i];
  }
  if (place != NULL) {
    sigset_t all, before;
    sigfillset(&all);
    place->machine = machine;
    atomic_store(&place->stop, 0);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    if (pthread_create(&place->thread, NULL, reap, place) != 0) place->machine = NULL;
    else pthread_setname_np(place->thread, "gup-reaper");
    pthread_sigmask(SIG_SETMASK, &before, NULL);
  }
  pthread_mutex_unlock(&reapers_lock);
}

void cshims_reaper_stop(cshims_machine *machine) {
  pthread_mutex_lock(&reapers_lock);
  reaper_thread *place = NULL;
  for (int i = 0; i < REAPERS && place == NULL; i++) {
    if (reapers[i].machine == machine) place = &reapers[i];
  }
  pthread_mutex_unlock(&reapers_lock);
  if (place == NULL) return;
  atomic_store(&place->stop, 1);
  trap_wake_all(&place->stop);
  pthread_join(place->thread, NULL);
  pthread_mutex_lock(&reapers_lock);
  place->machine = NULL;
  pthread_mutex_unlock(&reapers_lock);
}

//===--- fork(2) ----------------------------------------------------------===//

enum { EXPECTED = 64 };

static pthread_mutex_t forking = PTHREAD_MUTEX_INITIALIZER;
static struct {
  cshims_machine *machine;
  int slot;
} expected[EXPECTED];
static unsigned expected_count;
/// Read end, write end.
static int news[2] = {-1, -1};

void cshims_fork_begin(void) {
  pthread_mutex_lock(&forking);
  expected_count = 0;
}

int cshims_fork_expect(cshims_machine *machine, int slot) {
  if (expected_count == EXPECTED) return EMFILE;
  if (expected_count == 0 && pipe2(news, O_CLOEXEC) != 0) return errno;
  expected[expected_count].machine = machine;
  expected[expected_count].slot = slot;
  expected_count++;
  return 0;
}

static void forget_news(void) {
  for (int i = 0; i < 2; i++) {
    if (news[i] >= 0) close(news[i]);
    news[i] = -1;
  }
  expected_count = 0;
}

bool cshims_fork_expected(unsigned i, cshims_machine **machine, int *slot) {
  if (i >= expected_count) return false;
  *machine = expected[i].machine;
  *slot = expected[i].slot;
  return true;
}

void cshims_fork_wait(void) {
  if (expected_count == 0) return;
  close(news[1]);
  news[1] = -1;
  struct pollfd ready = {.fd = news[0], .events = POLLIN};
  int left = 10000;
  // Readable, or at its end: either way the child has said what it will say.
  while (poll(&ready, 1, left) < 0 && errno == EINTR && left > 0) left -= 10;
}

void cshims_fork_end(void) {
  forget_news();
  pthread_mutex_unlock(&forking);
}

static void claim(cshims_machine *machine, int slot) {
  cshims_member *self = &machine->members->member[slot];
  if (cshims_member_lock_slot(machine, slot) != 0) return;
  uint32_t state = CSHIMS_MEMBER_EXPECTED;
  if (!atomic_compare_exchange_strong(&self->state, &state, CSHIMS_MEMBER_CLAIMED)) return;
  atomic_store(&self->identity, cshims_process_identity());
  size_t place = (uintptr_t)machine >> CSHIMS_MACHINE_SHIFT;
  atomic_store(&cshims_this_process->claims[place], (uint8_t)(slot + 1));
}

void cshims_fork_claim(void) {
  depth = 0;
  pthread_mutex_init(&forking, NULL);
  pthread_mutex_init(&reapers_lock, NULL);
  memset(reapers, 0, sizeof reapers);
  for (unsigned i = 0; i < expected_count; i++) claim(expected[i].machine, expected[i].slot);
  // The read end is still ours, too: no SIGPIPE when the parent has died.
  if (expected_count != 0) {
    ssize_t written = write(news[1], "", 1);
    (void)written;
  }
  forget_news();
}

uint32_t cshims_noted_place(uint32_t place) {
  while (place < CSHIMS_MACHINE_PLACES &&
         atomic_load_explicit(&cshims_this_process->machines[place], memory_order_relaxed) <
             CSHIMS_MACHINE_NOTED)
    place++;
  return place;
}
