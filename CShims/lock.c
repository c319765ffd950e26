//===----------------------------------------------------------------------===//
// The mutex of cshims_lock.h over a robust, process-shared pthread mutex.
//
// The word behind the mutex remembers that an owner died when nobody could be
// told: a try never hands out a lock whose data may be half changed, it leaves
// that to the next acquire. The word is read and written by the owner only.
//===----------------------------------------------------------------------===//
#include "cshims_lock.h"

#include <pthread.h>

#include "cshims_host.h"

typedef struct lock_layout {
  pthread_mutex_t mutex;
  uint64_t abandoned;
} lock_layout;

_Static_assert(sizeof(lock_layout) <= sizeof(cshims_lock), "the mutex fits its storage");
_Static_assert(_Alignof(lock_layout) <= _Alignof(cshims_lock), "the storage is aligned enough");

static lock_layout *layout_of(cshims_lock *lock) {
  return (lock_layout *)(void *)lock->storage;
}

/// Only a caller's mistake gets here: memory that was never a lock, or a
/// release by a thread that does not hold it.
static _Noreturn void misused(int error, const char *call) {
  cshims_die("a lock was misused (state is the errno)", 0, (uint64_t)error, call);
}

int cshims_lock_init(cshims_lock *lock) {
  pthread_mutexattr_t attributes;
  int error = pthread_mutexattr_init(&attributes);
  if (error != 0) return error;
  error = pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
  if (error == 0) error = pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
  if (error == 0) error = pthread_mutex_init(&layout_of(lock)->mutex, &attributes);
  layout_of(lock)->abandoned = 0;
  pthread_mutexattr_destroy(&attributes);
  return error;
}

bool cshims_lock_acquire(cshims_lock *lock) {
  lock_layout *layout = layout_of(lock);
  int error = pthread_mutex_lock(&layout->mutex);
  if (error == 0) {
    if (!cshims_unlikely(layout->abandoned != 0)) return false;
    layout->abandoned = 0;
    return true;
  }
  if (error != EOWNERDEAD) misused(error, "cshims_lock_acquire");
  layout->abandoned = 0;
  pthread_mutex_consistent(&layout->mutex);
  return true;
}

bool cshims_lock_try(cshims_lock *lock) {
  lock_layout *layout = layout_of(lock);
  int error = pthread_mutex_trylock(&layout->mutex);
  if (error == EBUSY) return false;
  if (error == EOWNERDEAD) {
    layout->abandoned = 1;
    pthread_mutex_consistent(&layout->mutex);
  } else if (error != 0) {
    misused(error, "cshims_lock_try");
  }
  if (!cshims_unlikely(layout->abandoned != 0)) return true;
  cshims_lock_release(lock);
  return false;
}

void cshims_lock_release(cshims_lock *lock) {
  int error = pthread_mutex_unlock(&layout_of(lock)->mutex);
  if (error != 0) misused(error, "cshims_lock_release");
}
