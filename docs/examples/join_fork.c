//===----------------------------------------------------------------------===//
// fork(2) for real: a server hands a buffer to a device and forks a worker. The
// worker joins the machine, so that it has the buffer as it was at the fork, and
// pins it for a device of its own; a ring that both map stays shared. Then the
// worker is killed in the midst of it. What it held comes back by itself.
//===----------------------------------------------------------------------===//
#include <gup.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static int fail(const char *what) {
  char why[200];
  gup_last_error(why, sizeof why);
  fprintf(stderr, "join_fork: %s: %s\n", what, why);
  return 1;
}

/// In the child. Pointers are the parent's: `buffer` shows the child's copy now.
static int work(gup_mm *parents, char *buffer, char *ring) {
  gup_mm *mm;
  gup_page *page;
  if (gup_mm_join(parents, &mm) != 0) return fail("joining");
  printf("worker: the buffer says \"%s\"\n", buffer);
  strcpy(buffer, "the worker's");
  uint64_t at = (uintptr_t)buffer;
  if (gup_pin_user_pages_fast(mm, at, 1, GUP_FOLL_WRITE, &page) != 1) return fail("pinning");
  printf("worker: pinned frame %llu\n", (unsigned long long)gup_page_frame(page));
  strcpy(ring, "pinned");
  fflush(stdout);
  return raise(SIGKILL);
}

int main(void) {
  struct gup_machine_options options = {.capacity = 64u << 20, .joinable = true};
  struct gup_machine_info before, after;
  gup_machine *machine;
  gup_mm *mm;
  gup_page *page;
  uint64_t at, shared;
  int protection = GUP_PROT_READ | GUP_PROT_WRITE;
  if (gup_machine_create(&options, &machine) != 0 || gup_mm_create(machine, &mm) != 0 ||
      gup_mm_map(mm, 0, GUP_PAGE_SIZE, protection, GUP_MAP_PRIVATE, &at) != 0 ||
      gup_mm_map(mm, 0, GUP_PAGE_SIZE, protection, GUP_MAP_SHARED, &shared) != 0)
    return fail("a machine with memory");
  char *buffer = gup_mm_pointer(mm, at), *ring = gup_mm_pointer(mm, shared);
  strcpy(buffer, "the server's");
  strcpy(ring, "empty");
  if (gup_pin_user_pages_fast(mm, at, 1, GUP_FOLL_WRITE, &page) != 1) return fail("pinning");
  printf("server: pinned frame %llu\n", (unsigned long long)gup_page_frame(page));
  if (gup_machine_get_info(machine, &before) != 0) return fail("the machine");
  fflush(stdout);

  pid_t child = fork();
  if (child == 0) _exit(work(mm, buffer, ring));
  int status;
  if (child < 0 || waitpid(child, &status, 0) != child) return 1;
  // The library looks for the dead by itself; this is for the figures below.
  if (gup_machine_reap(machine) < 0) return fail("reaping");
  if (gup_machine_get_info(machine, &after) != 0) return fail("the machine");

  // A pinned page stays its owner's: the device writes to what the server sees.
  strcpy((char *)gup_page_address(page), "the device's");
  printf("server: the buffer says \"%s\", the ring \"%s\"; free frames %llu, then %llu\n", buffer,
         ring, (unsigned long long)before.free_frames, (unsigned long long)after.free_frames);
  int right = WIFSIGNALED(status) && strcmp(buffer, "the device's") == 0 &&
              strcmp(ring, "pinned") == 0 && before.free_frames == after.free_frames;
  if (gup_unpin_user_pages_dirty_lock(&page, 1, true) != 0) return fail("unpinning");
  if (gup_mm_destroy(mm) != 0 || gup_machine_destroy(machine) != 0) return fail("the end");
  return right ? 0 : 1;
}
