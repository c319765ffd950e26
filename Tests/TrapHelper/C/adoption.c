//===----------------------------------------------------------------------===//
// Threads that never rest, for memory that is adopted under them: storing, calling
// malloc and free, and reading into it by system calls. They check what they find.
//===----------------------------------------------------------------------===//
#include "CAdoption.h"

#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MOST = 8 };

typedef struct worker {
  pthread_t thread;
  _Atomic(int) *stop;
  volatile uint64_t *words;
  size_t count;
  unsigned index, of;
  uint64_t rounds, errors, refusals;
} worker;

static _Atomic(int) stop_storing, stop_allocating, stop_reading;
static worker storing[MOST], allocating[MOST], reading;
static unsigned storing_count, allocating_count;

static void start(worker *it, _Atomic(int) *stop, void *(*body)(void *)) {
  it->rounds = it->errors = it->refusals = 0;
  it->stop = stop;
  if (pthread_create(&it->thread, NULL, body, it) != 0) abort();
}

//===--- Storing ----------------------------------------------------------===//

/// Word n holds how often thread n % of has been there: what it stored last must be
/// there when it comes again.
static void *store(void *context) {
  worker *it = context;
  while (!atomic_load_explicit(it->stop, memory_order_relaxed)) {
    for (size_t i = it->index; i < it->count; i += it->of) {
      if (it->words[i] != it->rounds) it->errors++;
      it->words[i] = it->rounds + 1;
    }
    it->rounds++;
  }
  return NULL;
}

void traphelper_storm_start(void *memory, size_t bytes, unsigned threads) {
  memset(memory, 0, bytes);
  storing_count = threads;
  atomic_store(&stop_storing, 0);
  for (unsigned i = 0; i < threads; i++) {
    storing[i] = (worker){.words = memory, .count = bytes / 8, .index = i, .of = threads};
    start(&storing[i], &stop_storing, store);
  }
}

uint64_t traphelper_storm_stop(uint64_t *rounds) {
  uint64_t errors = 0;
  *rounds = 0;
  atomic_store(&stop_storing, 1);
  for (unsigned i = 0; i < storing_count; i++) {
    worker *it = &storing[i];
    pthread_join(it->thread, NULL);
    errors += it->errors;
    *rounds += it->rounds;
    for (size_t k = it->index; k < it->count; k += it->of) errors += it->words[k] != it->rounds;
  }
  return errors;
}

//===--- malloc and free --------------------------------------------------===//

enum { BLOCKS = 128 };

static uint64_t next_random(uint64_t *seed) {
  *seed = *seed * 6364136223846793005u + 1442695040888963407u;
  return *seed >> 33;
}

static void *allocate_once(void *bytes) {
  return malloc((size_t)bytes);
}

void *traphelper_allocate_in_other_arena(size_t bytes) {
  pthread_t thread;
  void *block = NULL;
  if (pthread_create(&thread, NULL, allocate_once, (void *)bytes) != 0) abort();
  pthread_join(thread, &block);
  return block;
}

void traphelper_mapping_threshold(int bytes) {
  mallopt(M_MMAP_THRESHOLD, bytes);
}

uint64_t traphelper_allocate_and_free(uint64_t seed, unsigned steps) {
  unsigned char *blocks[BLOCKS] = {0};
  size_t lengths[BLOCKS] = {0};
  uint64_t errors = 0;
  for (unsigned step = 0; step < steps + BLOCKS; step++) {
    size_t at = step < steps ? next_random(&seed) % BLOCKS : step - steps;
    unsigned char mark = (unsigned char)(at * 7 + 1);
    if (blocks[at] != NULL) {
      for (size_t i = 0; i < lengths[at]; i++) errors += blocks[at][i] != mark;
      free(blocks[at]);
      blocks[at] = NULL;
    }
    if (step >= steps) continue;
    lengths[at] = 1 + next_random(&seed) % (next_random(&seed) % 16 == 0 ? 40000 : 600);
    blocks[at] = malloc(lengths[at]);
    if (blocks[at] == NULL) abort();
    memset(blocks[at], mark, lengths[at]);
  }
  return errors;
}

static void *allocate(void *context) {
  worker *it = context;
  while (!atomic_load_explicit(it->stop, memory_order_relaxed)) {
    it->errors += traphelper_allocate_and_free(it->index * 977 + it->rounds, 500);
    it->rounds++;
  }
  return NULL;
}

void traphelper_allocation_start(unsigned threads) {
  allocating_count = threads;
  atomic_store(&stop_allocating, 0);
  for (unsigned i = 0; i < threads; i++) {
    allocating[i] = (worker){.index = i};
    start(&allocating[i], &stop_allocating, allocate);
  }
}

uint64_t traphelper_allocation_stop(uint64_t *rounds) {
  uint64_t errors = 0;
  *rounds = 0;
  atomic_store(&stop_allocating, 1);
  for (unsigned i = 0; i < allocating_count; i++) {
    pthread_join(allocating[i].thread, NULL);
    errors += allocating[i].errors;
    *rounds += allocating[i].rounds;
  }
  return errors;
}

//===--- System calls -----------------------------------------------------===//

/// Sends a number through a pipe from one word into the next and looks whether it
/// has come there. EFAULT is repeated, and counted.
static void *transfer(void *context) {
  worker *it = context;
  int ends[2];
  if (pipe(ends) != 0) abort();
  while (!atomic_load_explicit(it->stop, memory_order_relaxed)) {
    size_t from = it->rounds % it->count, to = (it->rounds + 517) % it->count;
    uint64_t value = it->words[from] = it->rounds + 1;
    ssize_t done;
    while ((done = write(ends[1], (const void *)&it->words[from], 8)) < 0 && errno == EFAULT)
      it->refusals++;
    it->errors += done != 8;
    while ((done = read(ends[0], (void *)&it->words[to], 8)) < 0 && errno == EFAULT)
      it->refusals++;
    it->errors += done != 8;
    it->errors += it->words[to] != value;
    it->rounds++;
  }
  close(ends[0]);
  close(ends[1]);
  return NULL;
}

void traphelper_transfer_start(void *memory, size_t bytes) {
  reading = (worker){.words = memory, .count = bytes / 8};
  atomic_store(&stop_reading, 0);
  start(&reading, &stop_reading, transfer);
}

uint64_t traphelper_transfer_stop(uint64_t *rounds, uint64_t *refusals) {
  atomic_store(&stop_reading, 1);
  pthread_join(reading.thread, NULL);
  *rounds = reading.rounds;
  *refusals = reading.refusals;
  return reading.errors;
}

//===--- Processes --------------------------------------------------------===//

static int wait_for(pid_t child) {
  int status = 0;
  while (waitpid(child, &status, 0) < 0) {
    if (errno != EINTR) return -errno;
  }
  return status;
}

int traphelper_fork(void *memory, size_t bytes, unsigned char expected, unsigned steps) {
  pid_t child = fork();
  if (child < 0) return -errno;
  if (child != 0) return wait_for(child);
  unsigned char *at = memory;
  for (size_t i = 0; i < bytes; i++) {
    if (at[i] != expected) _exit(2);
  }
  memset(memory, (unsigned char)~expected, bytes);
  free(memory);
  if (traphelper_allocate_and_free(1, steps) != 0) _exit(3);
  void *again = malloc(bytes);
  if (again == NULL) _exit(4);
  memset(again, 0x33, bytes);
  _exit(0);
}

int traphelper_raw_fork(void *address) {
  // The C library's handlers are not called.
  long child = syscall(SYS_fork);
  if (child < 0) return -errno;
  if (child != 0) return wait_for((pid_t)child);
  *(volatile unsigned char *)address = 1;
  syscall(SYS_exit_group, 0);
  return 0;
}

//===--- Memory of every kind ---------------------------------------------===//

static unsigned char array[5 * 4096] __attribute__((aligned(4096)));
static unsigned char odd_array[3 * 4096];
static _Thread_local unsigned char local[64];

void *traphelper_array(size_t *bytes) {
  *bytes = sizeof array;
  return array;
}

void *traphelper_odd_array(void) {
  return odd_array + 100;
}

void *traphelper_thread_local(void) {
  local[0] = 1;
  return local;
}

void *traphelper_kernel_page(void) {
  return (void *)getauxval(AT_SYSINFO_EHDR);
}

void *traphelper_c_library_data(void) {
  return stdout;
}

static _Atomic(void *) other_stack;
static _Atomic(int) other_may_go;
static pthread_t other;

static void *sit(void *unused) {
  (void)unused;
  unsigned char here[64];
  atomic_store(&other_stack, (void *)here);
  while (!atomic_load(&other_may_go)) usleep(1000);
  return NULL;
}

void *traphelper_other_stack(void) {
  if (pthread_create(&other, NULL, sit, NULL) != 0) abort();
  while (atomic_load(&other_stack) == NULL) usleep(1000);
  return atomic_load(&other_stack);
}

void traphelper_other_stack_done(void) {
  atomic_store(&other_may_go, 1);
  pthread_join(other, NULL);
}
