//===----------------------------------------------------------------------===//
// A fault handler that jumps out, and system calls into memory under test.
//===----------------------------------------------------------------------===//
#include "CTrapHelper.h"

#include <dirent.h>
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

static sigjmp_buf out;
static volatile traphelper_fault seen;

static void handle(int signo, siginfo_t *info, void *context) {
  (void)context;
  seen.signal = signo;
  seen.code = info->si_code;
  seen.address = (uint64_t)(uintptr_t)info->si_addr;
  siglongjmp(out, 1);
}

int traphelper_install_handler(void) {
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_sigaction = handle;
  action.sa_flags = SA_SIGINFO;
  sigemptyset(&action.sa_mask);
  if (sigaction(SIGSEGV, &action, NULL) != 0) return errno;
  return sigaction(SIGBUS, &action, NULL) != 0 ? errno : 0;
}

int traphelper_handler_stands(void) {
  struct sigaction action;
  return sigaction(SIGSEGV, NULL, &action) == 0 && action.sa_sigaction == handle;
}

static traphelper_fault begin(void) {
  seen.signal = seen.code = 0;
  seen.address = 0;
  return (traphelper_fault){0, 0, 0};
}

static traphelper_fault told(void) {
  return (traphelper_fault){seen.signal, seen.code, seen.address};
}

traphelper_fault traphelper_store(void *address, unsigned char value) {
  traphelper_fault none = begin();
  if (sigsetjmp(out, 1) != 0) return told();
  *(volatile unsigned char *)address = value;
  return none;
}

traphelper_fault traphelper_load(const void *address, unsigned char *value) {
  traphelper_fault none = begin();
  if (sigsetjmp(out, 1) != 0) return told();
  *value = *(const volatile unsigned char *)address;
  return none;
}

int traphelper_read_into(void *address, unsigned long length, unsigned char value) {
  int ends[2];
  char bytes[4096];
  if (length > sizeof bytes) return EINVAL;
  if (pipe(ends) != 0) return errno;
  memset(bytes, value, length);
  int error = write(ends[1], bytes, length) == (ssize_t)length ? 0 : EIO;
  if (error == 0) {
    ssize_t got = read(ends[0], address, length);
    error = got < 0 ? errno : got == (ssize_t)length ? 0 : EIO;
  }
  close(ends[0]);
  close(ends[1]);
  return error;
}

int traphelper_write_from(const void *address, unsigned long length, unsigned char *first) {
  int ends[2];
  if (pipe(ends) != 0) return errno;
  ssize_t put = write(ends[1], address, length);
  int error = put < 0 ? errno : put == (ssize_t)length ? 0 : EIO;
  if (error == 0 && read(ends[0], first, 1) != 1) error = EIO;
  close(ends[0]);
  close(ends[1]);
  return error;
}

int traphelper_descriptors(void) {
  DIR *directory = opendir("/proc/self/fd");
  if (directory == NULL) return -1;
  int count = 0;
  while (readdir(directory) != NULL) count++;
  closedir(directory);
  return count;
}
