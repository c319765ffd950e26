//===----------------------------------------------------------------------===//
// A mutex that lives in memory shared by processes.
//
// It is a robust, process-shared pthread mutex: when its owner dies the next
// locker gets it and is told so. Locking never allocates, so it may be taken on
// the fault path.
//===----------------------------------------------------------------------===//
#ifndef CSHIMS_LOCK_H
#define CSHIMS_LOCK_H

#include "cshims_basics.h"

typedef struct cshims_lock {
  uint64_t storage[6];
} cshims_lock;

/// Makes `lock` ready for use; returns 0 or an errno.
int cshims_lock_init(cshims_lock *lock);

/// Waits for `lock`. True when the previous owner died holding it: what it
/// guards may be half changed.
bool cshims_lock_acquire(cshims_lock *lock);

/// Takes `lock` if nobody holds it.
bool cshims_lock_try(cshims_lock *lock);

void cshims_lock_release(cshims_lock *lock);

#endif
