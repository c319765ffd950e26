//===----------------------------------------------------------------------===//
// The SIGSEGV handler.
//
// It runs on whatever thread touched the address, in the midst of anything, so
// it does only what is async-signal-safe: atomics, system calls, its own stack.
// It takes no lock and allocates nothing. errno is the program's again when it
// returns.
//
// While a toucher waits here every signal is blocked, as for a thread that the
// kernel holds in a page fault: a program's handler that jumped out of the wait
// would leave a record on a dead stack.
//
// Chain: `previous` is written under the registry lock before the handler is
// installed and stays valid after it is removed; a handler on top of ours may
// still call us.
//===----------------------------------------------------------------------===//
#include "trap_internal.h"

#include <signal.h>
#include <string.h>
#include <ucontext.h>

_Thread_local bool cshims_trap_on_service_thread __attribute__((tls_model("initial-exec")));

static trap_record closed_mark;

static struct sigaction previous;
/// A previous action with SA_RESETHAND has had its one call.
static _Atomic(bool) previous_spent;
/// Traps that are open.
static uint32_t users;
/// Ours has been installed and not been taken off by us since.
static bool standing;

CSHIMS_UNSANITIZED trap_record *cshims_trap_closed_mark(void) {
  return &closed_mark;
}

//===--- Parking ----------------------------------------------------------===//

/// The page-fault error code of x86-64, as the kernel hands it on.
enum { FAULT_WRITE = 1 << 1, FAULT_FETCH = 1 << 4 };

CSHIMS_UNSANITIZED static cshims_trap_verdict park(cshims_trap *trap, trap_record *record) {
  trap_record *newest = atomic_load(&trap->records);
  do {
    if (newest == &closed_mark) return CSHIMS_TRAP_RETRY;
    record->next = newest;
  } while (!atomic_compare_exchange_weak(&trap->records, &newest, record));
  // Whoever put the first record there has woken the service thread.
  if (newest == NULL) {
    uint64_t one = 1;
    ssize_t written = write(trap->wake_fd, &one, sizeof one);
    (void)written;
  }
  uint32_t answer;
  while ((answer = atomic_load_explicit(&record->answer, memory_order_acquire)) == 0)
    trap_sleep(&record->answer, 0);
  return (cshims_trap_verdict)(answer - 1);
}

/// The service's verdict; DENIED where the fault is none of ours.
CSHIMS_UNSANITIZED static cshims_trap_verdict ask_service(uint64_t address, bool is_write) {
  trap_region_view region;
  if (cshims_trap_on_service_thread || !cshims_trap_find(address, 0, &region))
    return CSHIMS_TRAP_DENIED;
  cshims_trap *trap = region.trap;
  cshims_trap_verdict verdict = CSHIMS_TRAP_DENIED;
  // Counted before the list is looked at: the closing thread marks the list
  // first and reads the count afterwards (all seq_cst).
  atomic_fetch_add(&trap->touchers, 1);
  if (cshims_process_is(trap->owner)) {
    trap_record record = {.address = address, .slot = region.slot, .is_write = is_write};
    verdict = park(trap, &record);
  }
  // The trap's memory is static, so waking on it after the count is safe.
  if (atomic_fetch_sub(&trap->touchers, 1) == 1 && atomic_load(&trap->records) == &closed_mark)
    trap_wake_all(&trap->touchers);
  return verdict;
}

//===--- Passing on -------------------------------------------------------===//

CSHIMS_UNSANITIZED static int queue_to_self(int signo, siginfo_t *info) {
  return (int)syscall(SYS_rt_tgsigqueueinfo, getpid(), (pid_t)syscall(SYS_gettid), signo, info);
}

CSHIMS_UNSANITIZED static void set_default(int signo) {
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_handler = SIG_DFL;
  sigaction(signo, &action, NULL);
}

/// The kernel's SIGBUS for `address`, delivered when our handler returns. A
/// program that blocks or ignores it ends, as it would by the kernel's.
CSHIMS_UNSANITIZED static void raise_bus(void *address, ucontext_t *context) {
  struct sigaction action;
  bool ignored = sigaction(SIGBUS, NULL, &action) == 0 && (action.sa_flags & SA_SIGINFO) == 0 &&
                 action.sa_handler == SIG_IGN;
  if (ignored || sigismember(&context->uc_sigmask, SIGBUS) == 1) {
    set_default(SIGBUS);
    sigdelset(&context->uc_sigmask, SIGBUS);
  }
  siginfo_t info;
  memset(&info, 0, sizeof info);
  info.si_signo = SIGBUS;
  info.si_code = BUS_ADRERR;
  info.si_addr = address;
  if (queue_to_self(SIGBUS, &info) != 0)
    syscall(SYS_tgkill, getpid(), (pid_t)syscall(SYS_gettid), SIGBUS);
}

/// The default action, with the siginfo that came. The signal is pending when
/// our handler returns, so the program ends at the instruction that faulted,
/// also if a second touch of the address would now succeed.
CSHIMS_UNSANITIZED static void take_default(int signo, siginfo_t *info, ucontext_t *context) {
  set_default(signo);
  sigdelset(&context->uc_sigmask, signo);
  queue_to_self(signo, info);
}

/// Calls who was there before us, with the signals blocked that the kernel
/// would have blocked for it.
CSHIMS_UNSANITIZED static void chain(int signo, siginfo_t *info, ucontext_t *context) {
  struct sigaction action = previous;
  bool with_info = (action.sa_flags & SA_SIGINFO) != 0;
  bool is_default = !with_info && action.sa_handler == SIG_DFL;
  bool is_ignored = !with_info && action.sa_handler == SIG_IGN;
  if (((unsigned)action.sa_flags & SA_RESETHAND) != 0 && !is_default && !is_ignored)
    is_default = atomic_exchange(&previous_spent, true);
  // A fault cannot be ignored, a signal from kill(2) can.
  if (is_default || (is_ignored && info->si_code > 0)) {
    take_default(signo, info, context);
    return;
  }
  if (is_ignored) return;
  sigset_t mask;
  sigorset(&mask, &context->uc_sigmask, &action.sa_mask);
  if ((action.sa_flags & SA_NODEFER) == 0) sigaddset(&mask, signo);
  pthread_sigmask(SIG_SETMASK, &mask, NULL);
  if (with_info) action.sa_sigaction(signo, info, context);
  else action.sa_handler(signo);
}

//===--- The handler ------------------------------------------------------===//

CSHIMS_UNSANITIZED static void handle(int signo, siginfo_t *info, void *raw_context) {
  int saved_errno = errno;
  ucontext_t *context = raw_context;
  uint64_t code = (uint64_t)context->uc_mcontext.gregs[REG_ERR];
  // Views are never executable: to retry an instruction fetch would not end.
  bool may_be_ours = (info->si_code == SEGV_MAPERR || info->si_code == SEGV_ACCERR) &&
                     (code & FAULT_FETCH) == 0;
  cshims_trap_verdict verdict = CSHIMS_TRAP_DENIED;
  if (may_be_ours)
    verdict = ask_service((uint64_t)(uintptr_t)info->si_addr, (code & FAULT_WRITE) != 0);
  if (verdict == CSHIMS_TRAP_BUS) raise_bus(info->si_addr, context);
  else if (verdict == CSHIMS_TRAP_DENIED) chain(signo, info, context);
  errno = saved_errno;
}

static bool is_ours(const struct sigaction *action) {
  return (action->sa_flags & SA_SIGINFO) != 0 && action->sa_sigaction == handle;
}

static bool is_function(const struct sigaction *action) {
  return (action->sa_flags & SA_SIGINFO) != 0 ||
         (action->sa_handler != SIG_DFL && action->sa_handler != SIG_IGN);
}

int cshims_trap_handler_retain(void) {
  struct sigaction current, ours;
  if (users == 0) {
    if (sigaction(SIGSEGV, NULL, &current) != 0) return errno;
    // A function put on top of ours is expected to chain to it. To go on top of
    // that one would make the two call each other for ever.
    bool stands = is_ours(&current) || (standing && is_function(&current));
    if (!stands) {
      previous = current;
      atomic_store(&previous_spent, false);
      memset(&ours, 0, sizeof ours);
      ours.sa_sigaction = handle;
      ours.sa_flags = SA_SIGINFO | SA_ONSTACK | (current.sa_flags & SA_RESTART);
      // Not sigfillset: it leaves out the signals by which the C library
      // cancels a thread, and a parked thread must not be unwound.
      memset(&ours.sa_mask, 0xff, sizeof ours.sa_mask);
      if (sigaction(SIGSEGV, &ours, NULL) != 0) return errno;
      standing = true;
    }
  }
  users++;
  return 0;
}

void cshims_trap_handler_release(void) {
  if (--users != 0 || !cshims_trap_handler_installed()) return;
  struct sigaction action = previous;
  if (atomic_load(&previous_spent)) action.sa_handler = SIG_DFL, action.sa_flags = 0;
  if (sigaction(SIGSEGV, &action, NULL) == 0) standing = false;
}

void cshims_trap_handler_forget(void) {
  if (users == 0) return;
  users = 1;
  cshims_trap_handler_release();
}

bool cshims_trap_handler_installed(void) {
  struct sigaction current;
  return sigaction(SIGSEGV, NULL, &current) == 0 && is_ours(&current);
}
