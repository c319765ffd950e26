//===----------------------------------------------------------------------===//
// Hooks around fork(2). Made when the library is loaded, so that they run after
// every prepare handler that the program registers, and before the C library
// takes the locks of malloc: no hook may hold a lock from before to after, since
// a thread inside malloc may need it to come out.
//
// Lock: the list's, held from before to after a fork(2), so that the same hooks
// see both. Taken before an address space's mmap lock.
//===----------------------------------------------------------------------===//
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "cshims_adopt.h"

typedef struct hook {
  struct hook *next;
  cshims_context context;
  cshims_adoption_act before;
  cshims_adoption_act after;
} hook;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static hook *first;
static _Thread_local bool is_forking __attribute__((tls_model("initial-exec")));

int cshims_adoption_hook_add(cshims_context context, cshims_adoption_act before,
                             cshims_adoption_act after) {
  // malloc's memory may be adopted: none of it is asked for under the lock.
  hook *fresh = malloc(sizeof *fresh);
  if (fresh == NULL) return ENOMEM;
  pthread_mutex_lock(&lock);
  hook *known = first;
  while (known != NULL && known->context != context) known = known->next;
  if (known == NULL) {
    *fresh = (hook){first, context, before, after};
    first = fresh;
    fresh = NULL;
  }
  pthread_mutex_unlock(&lock);
  free(fresh);
  return 0;
}

void cshims_adoption_hook_remove(cshims_context context) {
  hook *gone = NULL;
  pthread_mutex_lock(&lock);
  for (hook **link = &first; *link != NULL; link = &(*link)->next) {
    if ((*link)->context != context) continue;
    gone = *link;
    *link = gone->next;
    break;
  }
  pthread_mutex_unlock(&lock);
  free(gone);
}

bool cshims_is_forking(void) {
  return is_forking;
}

void cshims_wait_a_moment(void) {
  const struct timespec moment = {.tv_nsec = 20000};
  nanosleep(&moment, NULL);
}

static void before_fork(void) {
  pthread_mutex_lock(&lock);
  is_forking = true;
  for (hook *it = first; it != NULL; it = it->next) it->before(it->context);
}

static void after_fork_in_parent(void) {
  for (hook *it = first; it != NULL; it = it->next) it->after(it->context);
  is_forking = false;
  pthread_mutex_unlock(&lock);
}

/// What the hooks did stays done: the child has private memory where the parent
/// has views again. The hooks are the parent's.
static void after_fork_in_child(void) {
  first = NULL;
  is_forking = false;
  pthread_mutex_init(&lock, NULL);
}

__attribute__((constructor)) static void prepare(void) {
  pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
}
