//===----------------------------------------------------------------------===//
// Children, made and waited for.
//===----------------------------------------------------------------------===//
#include "CForkHelper.h"

#include <errno.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

int forkhelper_fork(void) {
  return fork();
}

int forkhelper_clone(void) {
  return (int)syscall(SYS_clone, (unsigned long)SIGCHLD, NULL, NULL, NULL, 0ul);
}

int forkhelper_vfork_store(void *address, unsigned char value) {
  pid_t child = vfork();
  if (child == 0) {
    *(volatile unsigned char *)address = value;
    _exit(0);
  }
  return forkhelper_wait(child);
}

int forkhelper_wait(int child) {
  int status = -1;
  if (child <= 0) return -1;
  while (waitpid(child, &status, 0) < 0) {
    if (errno != EINTR) return -1;
  }
  return status;
}

void forkhelper_end(int code) {
  _exit(code);
}

void forkhelper_kill(int process) {
  kill(process, SIGKILL);
}
