//===----------------------------------------------------------------------===//
// Touches whose signal is their answer. The handlers stand beneath the fault
// trap's: what that does not serve comes here and leaves the touch by a jump.
//===----------------------------------------------------------------------===//
#if !defined(_GNU_SOURCE)
#error "guard.c needs sigaction: define _GNU_SOURCE"
#endif

#include "cshims_stage.h"

#include <setjmp.h>
#include <signal.h>
#include <string.h>

/// Where a touch of this thread returns to when it ends in a signal.
static _Thread_local sigjmp_buf *volatile landing;

static struct sigaction previous_segv, previous_bus;
static bool installed;

static void handle(int signo, siginfo_t *info, void *context) {
  if (landing) siglongjmp(*landing, signo);
  struct sigaction *previous = signo == SIGBUS ? &previous_bus : &previous_segv;
  if ((previous->sa_flags & SA_SIGINFO) != 0) {
    previous->sa_sigaction(signo, info, context);
    return;
  }
  if (previous->sa_handler != SIG_DFL && previous->sa_handler != SIG_IGN) {
    previous->sa_handler(signo);
    return;
  }
  // Nobody was there: the touch is repeated and ends the program.
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_handler = SIG_DFL;
  sigaction(signo, &action, NULL);
}

int cshims_guard_install(void) {
  if (installed) return 0;
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_sigaction = handle;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  if (sigaction(SIGSEGV, &action, &previous_segv) != 0) return errno;
  if (sigaction(SIGBUS, &action, &previous_bus) != 0) return errno;
  installed = true;
  return 0;
}

int cshims_guard_reinstall(void) {
  installed = false;
  return cshims_guard_install();
}

int cshims_guarded_load(const void *address, uint8_t *value) {
  sigjmp_buf here;
  int signo = sigsetjmp(here, 1);
  if (signo == 0) {
    landing = &here;
    *value = *(const volatile uint8_t *)address;
  }
  landing = NULL;
  return signo;
}

int cshims_guarded_store(void *address, uint8_t value) {
  sigjmp_buf here;
  int signo = sigsetjmp(here, 1);
  if (signo == 0) {
    landing = &here;
    *(volatile uint8_t *)address = value;
  }
  landing = NULL;
  return signo;
}
