//===----------------------------------------------------------------------===//
// The stage's director and its processes, and how turns pass between them.
//
// Order: a step is taken by one process at a time. It reads `turn` (acquire),
// acts, writes its answer, and advances `turn` (release) with a wake on its
// futex. The director takes the device's steps, ends processes that exit and
// waits until their memory is gone, and looks after those that died.
//===----------------------------------------------------------------------===//
#if !defined(_GNU_SOURCE)
#error "stage.c needs clone and sched_setaffinity: define _GNU_SOURCE"
#endif

#include "stage_internal.h"

#include "cshims_host.h"
#include "cshims_witness.h"

#include <limits.h>
#include <linux/futex.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
  /// A turn that nobody takes any more.
  TURN_OVER = UINT32_MAX,
  SCRIPT_MILLISECONDS = 20000,
  ANSWER_MILLISECONDS = 30000,
  /// Of every hold a ring, a pipe, a file with and without the page cache and what it waits for;
  /// and those of all.
  DESCRIPTORS = 6 * CSHIMS_STAGE_HOLDS + 16,
};

//===--- Turns ------------------------------------------------------------===//

static void pass_turn(cshims_stage *stage, uint32_t next) {
  atomic_store_explicit(&stage->turn, next, memory_order_release);
  syscall(SYS_futex, &stage->turn, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

static uint32_t turn_of(cshims_stage *stage) {
  return atomic_load_explicit(&stage->turn, memory_order_acquire);
}

static void finish(cshims_stage *stage, uint32_t turn, int error) {
  stage->answers[turn].error = error;
  stage->answers[turn].done = 1;
  pass_turn(stage, turn + 1);
}

static bool is_devices(const cshims_stage_step *step) {
  return step->kind == CSHIMS_STAGE_DEVICE_WRITE || step->kind == CSHIMS_STAGE_DEVICE_READ ||
         step->kind == CSHIMS_STAGE_RELEASE || step->kind == CSHIMS_STAGE_COUNTERS;
}

//===--- A process --------------------------------------------------------===//

static pid_t fork_with(unsigned long flags) {
  return (pid_t)syscall(SYS_clone, flags | SIGCHLD, NULL, NULL, NULL, 0);
}

/// A process of the script, from its fork to its end.
_Noreturn static void play(cshims_stage *stage, uint32_t me) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  for (;;) {
    uint32_t turn = turn_of(stage);
    if (turn >= stage->count) _exit(0);
    const cshims_stage_step *step = &stage->steps[turn];
    if (is_devices(step) || step->process != me) {
      stage_sleep(&stage->turn, turn, 1000);
      continue;
    }
    if (step->kind == CSHIMS_STAGE_EXIT) _exit(0);
    if (step->kind != CSHIMS_STAGE_FORK) {
      finish(stage, turn, stage_act(stage, step, &stage->answers[turn]));
      continue;
    }
    // A sibling: the director is everybody's parent and sees every end.
    pid_t child = fork_with(CLONE_PARENT | CLONE_FILES);
    if (child == 0) {
      me = step->other;
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      continue;
    }
    if (child > 0) stage->processes[step->other] = child;
    finish(stage, turn, child < 0 ? errno : 0);
  }
}

//===--- The director -----------------------------------------------------===//

static int act_as_device(cshims_stage *stage, const cshims_stage_step *step,
                         cshims_stage_answer *answer) {
  switch ((cshims_stage_kind)step->kind) {
  case CSHIMS_STAGE_DEVICE_WRITE: return stage_device_write(stage, step);
  case CSHIMS_STAGE_DEVICE_READ: return stage_device_read(stage, step, answer);
  case CSHIMS_STAGE_RELEASE: return stage_release(stage, step->other);
  default: return stage_counters(answer);
  }
}

/// Waits for a process's end; its memory is gone then.
static void reap(pid_t process) {
  while (waitpid(process, NULL, 0) < 0 && errno == EINTR) continue;
}

/// Has a process of the script ended that should not have?
static bool lost(cshims_stage *stage) {
  for (int i = 0; i < CSHIMS_STAGE_PROCESSES; i++) {
    if (stage->processes[i] <= 0 || waitpid(stage->processes[i], NULL, WNOHANG) == 0) continue;
    stage->processes[i] = 0;
    return true;
  }
  return false;
}

static int run(cshims_stage *stage) {
  int error = stage_device_prepare(stage);
  if (error) return error;
  // All know what one opens: what holds a transfer up is closed by the director.
  pid_t first = fork_with(CLONE_FILES);
  if (first < 0) return errno;
  if (first == 0) play(stage, 0);
  stage->processes[0] = first;
  uint64_t limit = cshims_monotonic_ns() + SCRIPT_MILLISECONDS * 1000000ull;
  for (;;) {
    uint32_t turn = turn_of(stage);
    if (turn >= stage->count) break;
    const cshims_stage_step *step = &stage->steps[turn];
    if (is_devices(step)) {
      finish(stage, turn, act_as_device(stage, step, &stage->answers[turn]));
    } else if (step->kind == CSHIMS_STAGE_EXIT && stage->processes[step->process] > 0) {
      reap(stage->processes[step->process]);
      stage->processes[step->process] = 0;
      finish(stage, turn, 0);
    } else {
      stage_sleep(&stage->turn, turn, 50);
      if (turn_of(stage) != turn) continue;
      if (lost(stage)) error = EPROTO;
      else if (cshims_monotonic_ns() > limit) error = ETIMEDOUT;
      if (error) break;
    }
  }
  pass_turn(stage, TURN_OVER);
  for (int i = 0; i < CSHIMS_STAGE_PROCESSES; i++) {
    if (stage->processes[i] <= 0) continue;
    kill(stage->processes[i], SIGKILL);
    reap(stage->processes[i]);
    stage->processes[i] = 0;
  }
  stage_device_reset(stage);
  return error;
}

/// Room for the buffers, which nothing else takes; untouchable where none is.
static int find_ground(cshims_stage *stage) {
  uint64_t length = (CSHIMS_STAGE_BUFFERS + 1ull) * STAGE_SLOT;
  void *memory = mmap(NULL, length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) return errno;
  uintptr_t start = (uintptr_t)memory + CSHIMS_PAGE_SIZE;
  stage->ground = (unsigned char *)((start + STAGE_SLOT - 1) & ~(uintptr_t)(STAGE_SLOT - 1));
  return 0;
}

/// Looks at what memory shows that was only read. It stays mapped, since the
/// huge zero page lives as long as somebody does.
static void find_zero_frame(cshims_stage *stage, bool huge) {
  enum { LENGTH = 2 << 20 };
  unsigned char *memory = mmap(NULL, 2 * LENGTH, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return;
  uintptr_t start = ((uintptr_t)memory + LENGTH - 1) & ~(uintptr_t)(LENGTH - 1);
  madvise(memory, 2 * LENGTH, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
  uint64_t entry = 0;
  if (*(volatile unsigned char *)start == 0 && cshims_pagemap_read(start, 1, &entry) == 0)
    stage->zero_frames[huge] = entry & CSHIMS_PAGEMAP_FRAME;
}

/// The director's whole life, in a process of its own.
_Noreturn static void direct(cshims_stage *stage, int socket, const char *directory) {
  // Nothing of the program but its memory: no handlers, masks or descriptors.
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_handler = SIG_DFL;
  for (int signo = 1; signo < 32; signo++) sigaction(signo, &action, NULL);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, NULL);
  action.sa_handler = SIG_IGN;
  sigaction(SIGPIPE, &action, NULL);
  if (dup2(socket, 3) != 3) _exit(1);
  if (syscall(SYS_close_range, 4u, UINT_MAX, 0u) != 0)
    for (int fd = 4; fd < 4096; fd++) close(fd);
  // On one processor each page waits in that one's batches only, which a
  // write fault drains: elsewhere they would count as users of the page.
  cpu_set_t set;
  int cpu = sched_getcpu();
  if (cpu >= 0 && cpu < CPU_SETSIZE) {
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    sched_setaffinity(0, sizeof set, &set);
  }
  struct rlimit no_core = {0, 0};
  setrlimit(RLIMIT_CORE, &no_core);
  // A step that finds no descriptor would answer for the kernel.
  struct rlimit files;
  int error = getrlimit(RLIMIT_NOFILE, &files) == 0 ? 0 : errno;
  files.rlim_cur = files.rlim_max;
  if (!error) setrlimit(RLIMIT_NOFILE, &files);
  if (!error && files.rlim_max < DESCRIPTORS) error = EMFILE;

  if (!error) error = cshims_guard_reinstall();
  if (!error) error = stage_device_open(directory, &stage->direct_error, &stage->stall_error);
  if (!error) find_zero_frame(stage, false);
  if (!error) find_zero_frame(stage, true);
  if (!error) error = find_ground(stage);
  if (!error && !stage->stall_error) stage->stall_error = stage_stall_prepare();
  for (;;) {
    if (send(3, &error, sizeof error, MSG_NOSIGNAL) != sizeof error) _exit(0);
    char go;
    ssize_t n;
    do n = recv(3, &go, 1, 0);
    while (n < 0 && errno == EINTR);
    if (n <= 0) _exit(0);
    error = run(stage);
  }
}

//===--- The opener's side ------------------------------------------------===//

static int await(cshims_stage *stage) {
  struct pollfd entry = {.fd = stage->socket, .events = POLLIN};
  int ready;
  do ready = poll(&entry, 1, ANSWER_MILLISECONDS);
  while (ready < 0 && errno == EINTR);
  int error = EPIPE;
  if (ready > 0 && recv(stage->socket, &error, sizeof error, 0) != sizeof error) return EPIPE;
  return error;
}

int cshims_stage_open(const char *directory, cshims_stage **out, int *direct_error) {
  cshims_stage *stage = mmap(NULL, sizeof *stage, PROT_READ | PROT_WRITE,
                             MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (stage == MAP_FAILED) return errno;
  int ends[2];
  int error = 0;
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) {
    error = errno;
    munmap(stage, sizeof *stage);
    return error;
  }
  pid_t director = fork_with(0);
  if (director == 0) direct(stage, ends[1], directory);
  if (director < 0) error = errno;
  close(ends[1]);
  stage->director = director;
  stage->socket = ends[0];
  if (!error) error = await(stage);
  *direct_error = stage->direct_error;
  if (error) cshims_stage_close(stage);
  else *out = stage;
  return error;
}

void cshims_stage_close(cshims_stage *stage) {
  close(stage->socket);
  if (stage->director > 0) {
    // Its processes end with it: each asked for the signal.
    kill(stage->director, SIGKILL);
    reap(stage->director);
  }
  munmap(stage, sizeof *stage);
}

cshims_stage_step *cshims_stage_steps(cshims_stage *stage) {
  return stage->steps;
}

const cshims_stage_answer *cshims_stage_answers(const cshims_stage *stage) {
  return stage->answers;
}

int cshims_stage_stall_error(const cshims_stage *stage) {
  return stage->stall_error;
}

uint64_t cshims_stage_zero_frame(const cshims_stage *stage, bool huge) {
  return stage->zero_frames[huge];
}

int cshims_stage_play(cshims_stage *stage, uint32_t count) {
  if (count > CSHIMS_STAGE_STEPS) return E2BIG;
  stage->count = count;
  memset(stage->answers, 0, count * sizeof *stage->answers);
  memset(stage->buffers, 0, sizeof stage->buffers);
  memset(stage->holds, 0, sizeof stage->holds);
  atomic_store(&stage->turn, 0);
  char go = 1;
  ssize_t n;
  do n = send(stage->socket, &go, 1, MSG_NOSIGNAL);
  while (n < 0 && errno == EINTR);
  return n == 1 ? await(stage) : EPIPE;
}
