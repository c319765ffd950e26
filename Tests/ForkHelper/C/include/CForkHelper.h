//===----------------------------------------------------------------------===//
// What Swift does not offer the fork helper: the three ways to make a child, and
// how it ended.
//===----------------------------------------------------------------------===//
#ifndef CFORKHELPER_H
#define CFORKHELPER_H

#include <stdbool.h>

/// fork(2): 0 in the child, its process id in the parent, -1 on failure.
int forkhelper_fork(void);
/// The same by the bare system call: no handler of pthread_atfork(3) runs.
int forkhelper_clone(void);
/// vfork(2): the child stores `value` at `address` and ends. Its status.
int forkhelper_vfork_store(void *address, unsigned char value);
/// Waits for a child; its status as waitpid(2) has it, or -1.
int forkhelper_wait(int child);
/// Ends this process at once, with no handler of exit(3).
_Noreturn void forkhelper_end(int code);
/// Kills a process.
void forkhelper_kill(int process);

#endif
