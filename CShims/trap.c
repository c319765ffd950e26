//===----------------------------------------------------------------------===//
// Opening and closing traps, and the thread that serves them.
//
// One thread per trap answers both tiers in turn, so calls of the service
// function never overlap. It has a stack of its own from mmap and blocks every
// signal but those a fault of its own would raise: a program's handler must not
// run where nothing may allocate, but its crash reporter should.
//
// Order of the end, each step resting on the one before: regions gone (no new
// touchers come), thread joined (nobody reads the descriptors), list marked
// closed and emptied (who is parked touches again), last toucher out of the
// handler, descriptors closed, handler released, pool entry free.
//
// Locks: the registry lock, for the pool and the handler's count; a leaf.
//===----------------------------------------------------------------------===//
#include <linux/userfaultfd.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>

#include "cshims_host.h"
#include "cshims_machine.h"
#include "cshims_userfaultfd.h"
#include "trap_internal.h"

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define CSHIMS_TRAP_SANITIZED 1
#endif
#elif defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define CSHIMS_TRAP_SANITIZED 1
#endif

#ifdef CSHIMS_TRAP_SANITIZED
static const size_t stack_size = 4096 * 1024;
#else
static const size_t stack_size = 256 * 1024;
#endif
static const size_t guard_size = 16 * 1024;

static cshims_trap pool[CSHIMS_TRAPS];

//===--- Serving ----------------------------------------------------------===//

/// Calls the service function for `address`, unless its region is gone.
static cshims_trap_verdict serve(cshims_trap *trap, uint64_t address, uint32_t *hint,
                                 bool is_write, bool in_handler) {
  trap_region_view region;
  while (cshims_trap_find(address, *hint, &region) && region.trap == trap) {
    *hint = region.slot;
    // Said first, looked at afterwards: a remover does it the other way round.
    atomic_store(&trap->serving, region.slot + 1);
    bool unchanged = cshims_trap_unchanged(&region);
    cshims_trap_verdict verdict = CSHIMS_TRAP_RETRY;
    if (unchanged)
      verdict = trap->service(trap->context, region.cookie, address, is_write, in_handler);
    atomic_store(&trap->serving, 0);
    if (atomic_load(&trap->removers) != 0) trap_wake_all(&trap->serving);
    if (unchanged) return verdict;
  }
  return CSHIMS_TRAP_RETRY;
}

CSHIMS_UNSANITIZED static void answer(trap_record *record, cshims_trap_verdict verdict) {
  // The record may be gone after the store. Waking by its address is harmless.
  _Atomic(uint32_t) *word = &record->answer;
  atomic_store_explicit(word, (uint32_t)verdict + 1, memory_order_release);
  trap_wake_all(word);
}

/// Puts the oldest record first.
CSHIMS_UNSANITIZED static trap_record *reversed(trap_record *list) {
  trap_record *result = NULL;
  while (list != NULL) {
    trap_record *next = list->next;
    list->next = result;
    result = list;
    list = next;
  }
  return result;
}

CSHIMS_UNSANITIZED static void serve_records(cshims_trap *trap) {
  trap_record *record = reversed(atomic_exchange(&trap->records, NULL));
  while (record != NULL) {
    trap_record *next = record->next;
    uint32_t hint = record->slot;
    answer(record, serve(trap, record->address, &hint, record->is_write, true));
    record = next;
  }
}

static void serve_userfaultfd(cshims_trap *trap, uint32_t *hint) {
  struct uffd_msg messages[16];
  ssize_t got = read(trap->userfaultfd, messages, sizeof messages);
  if (got <= 0) return;
  for (size_t i = 0; i < (size_t)got / sizeof messages[0]; i++) {
    if (messages[i].event != UFFD_EVENT_PAGEFAULT) continue;
    uint64_t flags = messages[i].arg.pagefault.flags;
    uint64_t address = messages[i].arg.pagefault.address;
    bool is_write = (flags & (UFFD_PAGEFAULT_FLAG_WRITE | UFFD_PAGEFAULT_FLAG_WP)) != 0;
    // Whatever the verdict, and also where the region is gone: nobody may be
    // left waiting.
    serve(trap, address, hint, is_write, false);
    cshims_userfaultfd_wake(trap->userfaultfd,
                            address & ~(uint64_t)(CSHIMS_PAGE_SIZE - 1), CSHIMS_PAGE_SIZE);
  }
}

static void *run(void *argument) {
  cshims_trap *trap = argument;
  cshims_trap_on_service_thread = true;
  // Now, because it may allocate later.
  if (cshims_thread_slot == 0) cshims_thread_slot_assign();
  struct pollfd ready[2] = {{.fd = trap->wake_fd, .events = POLLIN},
                            {.fd = trap->userfaultfd, .events = POLLIN}};
  uint32_t hint = 0;
  while (!atomic_load(&trap->stop)) {
    if (poll(ready, 2, -1) <= 0) continue;
    if (((ready[0].revents | ready[1].revents) & POLLNVAL) != 0)
      cshims_die("a descriptor of the fault trap was closed by the program", 0, 0, "poll(2)");
    if (ready[0].revents != 0) {
      uint64_t count;
      ssize_t got = read(trap->wake_fd, &count, sizeof count);
      (void)got;
      // After the read: a record that comes later finds the list empty and
      // makes the descriptor readable again.
      serve_records(trap);
    }
    if (ready[1].revents != 0) serve_userfaultfd(trap, &hint);
  }
  return NULL;
}

//===--- Opening ----------------------------------------------------------===//

static cshims_trap *take_from_pool(void) {
  cshims_trap *trap = NULL;
  pthread_mutex_lock(&cshims_trap_registry_lock);
  for (unsigned i = 0; i < CSHIMS_TRAPS && trap == NULL; i++) {
    if (!pool[i].in_use) trap = &pool[i];
  }
  if (trap != NULL) trap->in_use = true;
  pthread_mutex_unlock(&cshims_trap_registry_lock);
  return trap;
}

static void return_to_pool(cshims_trap *trap) {
  pthread_mutex_lock(&cshims_trap_registry_lock);
  trap->in_use = false;
  pthread_mutex_unlock(&cshims_trap_registry_lock);
}

static int retain_handler(void) {
  pthread_mutex_lock(&cshims_trap_registry_lock);
  int error = cshims_trap_handler_retain();
  pthread_mutex_unlock(&cshims_trap_registry_lock);
  return error;
}

static void release_handler(void) {
  pthread_mutex_lock(&cshims_trap_registry_lock);
  cshims_trap_handler_release();
  pthread_mutex_unlock(&cshims_trap_registry_lock);
}

static int start_thread(cshims_trap *trap) {
  pthread_attr_t attributes;
  int error = pthread_attr_init(&attributes);
  if (error != 0) return error;
  error = pthread_attr_setstack(&attributes, (char *)trap->stack + guard_size, stack_size);
  sigset_t blocked, before;
  sigfillset(&blocked);
  const int faults[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP};
  for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++) sigdelset(&blocked, faults[i]);
  // The new thread starts with the creator's mask.
  pthread_sigmask(SIG_SETMASK, &blocked, &before);
  if (error == 0) error = pthread_create(&trap->thread, &attributes, run, trap);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  if (error == 0) pthread_setname_np(trap->thread, "gup-faults");
  pthread_attr_destroy(&attributes);
  return error;
}

static int make_stack(cshims_trap *trap) {
  int error = cshims_anonymous(guard_size + stack_size, &trap->stack);
  if (error != 0) return error;
  error = cshims_protect((uint64_t)(uintptr_t)trap->stack, guard_size, CSHIMS_PROT_NONE);
  if (error != 0) cshims_unmap((uint64_t)(uintptr_t)trap->stack, guard_size + stack_size);
  if (error != 0) trap->stack = NULL;
  return error;
}

/// Lets go who is parked in the handler and waits until the last has left it.
CSHIMS_UNSANITIZED static void turn_touchers_out(cshims_trap *trap) {
  trap_record *record = atomic_exchange(&trap->records, cshims_trap_closed_mark());
  while (record != NULL) {
    trap_record *next = record->next;
    answer(record, CSHIMS_TRAP_RETRY);
    record = next;
  }
  uint32_t inside;
  while ((inside = atomic_load(&trap->touchers)) != 0) trap_sleep(&trap->touchers, inside);
}

static void give_up_resources(cshims_trap *trap) {
  if (trap->stack != NULL)
    cshims_unmap((uint64_t)(uintptr_t)trap->stack, guard_size + stack_size);
  if (trap->userfaultfd >= 0) cshims_close(trap->userfaultfd);
  if (trap->wake_fd >= 0) cshims_close(trap->wake_fd);
  trap->stack = NULL;
  trap->userfaultfd = trap->wake_fd = -1;
}

static int get_resources(cshims_trap *trap, cshims_trap_tier tier) {
  trap->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (trap->wake_fd < 0) return errno;
  if (tier == CSHIMS_TRAP_USERFAULTFD) {
    cshims_userfaultfd_report report;
    int error = cshims_userfaultfd_open(&trap->userfaultfd, &report);
    if (error != 0) return error;
  }
  return make_stack(trap);
}

int cshims_trap_open(cshims_trap_tier tier, cshims_trap_service service, cshims_context context,
                     cshims_trap **opened) {
  if ((tier != CSHIMS_TRAP_SIGSEGV && tier != CSHIMS_TRAP_USERFAULTFD) || service == NULL)
    return EINVAL;
  cshims_trap *trap = take_from_pool();
  if (trap == NULL) return EMFILE;
  trap->service = service;
  trap->context = context;
  trap->stack = NULL;
  trap->userfaultfd = trap->wake_fd = -1;
  trap->owner = cshims_process_identity();
  atomic_store(&trap->stop, false);
  int error = get_resources(trap, tier);
  if (error == 0) {
    // Open for records, also from a late toucher of the trap that had this
    // entry before: its address is in no region, so it touches again.
    atomic_store(&trap->records, NULL);
    error = retain_handler();
    if (error == 0 && (error = start_thread(trap)) != 0) release_handler();
    if (error != 0) turn_touchers_out(trap);
  }
  if (error != 0) {
    give_up_resources(trap);
    return_to_pool(trap);
    return error;
  }
  *opened = trap;
  return 0;
}

//===--- Closing ----------------------------------------------------------===//

void cshims_trap_close(cshims_trap *trap) {
  if (cshims_trap_on_service_thread)
    cshims_die("a fault trap cannot be closed by a service function", 0, 0, "cshims_trap_close");
  // A copy of the process has no thread to stop; see cshims_trap_after_fork.
  if (!cshims_process_is(trap->owner)) return;
  cshims_trap_remove_all(trap);
  atomic_store(&trap->stop, true);
  uint64_t one = 1;
  ssize_t written = write(trap->wake_fd, &one, sizeof one);
  (void)written;
  pthread_join(trap->thread, NULL);
  turn_touchers_out(trap);
  give_up_resources(trap);
  release_handler();
  return_to_pool(trap);
}

void cshims_trap_after_fork(void) {
  for (unsigned i = 0; i < CSHIMS_TRAPS; i++) {
    cshims_trap *trap = &pool[i];
    if (!trap->in_use) continue;
    // Neither the thread nor the touchers came along.
    atomic_store(&trap->records, cshims_trap_closed_mark());
    atomic_store(&trap->touchers, 0);
    atomic_store(&trap->removers, 0);
    atomic_store(&trap->serving, 0);
    // Another thread may have been about to open it, and no field is set yet.
    if (trap->owner != 0) give_up_resources(trap);
    trap->owner = 0;
    trap->in_use = false;
  }
  cshims_trap_on_service_thread = false;
  cshims_trap_handler_forget();
}

int cshims_trap_userfaultfd(const cshims_trap *trap) {
  return trap->userfaultfd;
}
