//===----------------------------------------------------------------------===//
// Children made by fork(2): what they may do before and after joining, and what
// is left of one that is killed.
//===----------------------------------------------------------------------===//
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support.h"

typedef struct family {
  scene it;
  uint64_t shared;
  gup_page *pinned;
  gup_mm *aloof;  ///< Of a machine that nobody may join.
} family;

/// What the child finds; it ends by SIGKILL, with pins, references and a lock.
static int child(const family *f) {
  const scene *it = &f->it;
  gup_mm *own = NULL, *again = NULL;
  gup_page *pages[4];
  unsigned char value = 7;
  CHECK(gup_mm_copy_to(it->mm, it->at, &value, 1) == -ESRCH);
  CHECK(gup_mm_map(it->mm, 0, PAGE, GUP_PROT_READ, 0, &(uint64_t){0}) == -ESRCH);
  CHECK(gup_unpin_user_page(f->pinned) == -EINVAL && gup_page_address(f->pinned) == NULL);
  struct gup_mm_info info;
  struct gup_area area;
  CHECK(gup_mm_get_info(it->mm, &info) == -ESRCH && gup_mm_area(it->mm, 0, &area) == -ESRCH);
  CHECK(gup_mm_set_lock_limit(it->mm, 0) == -ESRCH && gup_mm_unlock_all(it->mm) == -ESRCH);
  CHECK(gup_mm_migrate(it->mm, it->at, PAGE, NULL) == -ESRCH);
  CHECK(gup_machine_compact(it->machine, NULL) == -ESRCH && gup_machine_reap(it->machine) == 0);
  CHECK(gup_mm_join(f->aloof, &own) == -EOPNOTSUPP && own == NULL);
  CHECK(gup_mm_join(it->mm, NULL) == -EINVAL);

  CHECK(gup_mm_join(it->mm, &own) == 0);
  CHECK(gup_mm_join(it->mm, &again) == -ESRCH && again == NULL);
  CHECK(gup_mm_join(own, &again) == -EINVAL);
  CHECK(gup_mm_copy_to(it->mm, it->at, &value, 1) == -ESRCH);
  unsigned char *bytes = gup_mm_pointer(own, it->at);
  unsigned char *shared = gup_mm_pointer(own, f->shared);
  // The bytes of the fork, at the parent's addresses.
  CHECK(gup_mm_area(own, it->at, &area) == 1 && area.start == it->at && !area.is_locked);
  CHECK(bytes == (unsigned char *)(uintptr_t)it->at && bytes[0] == 1 && bytes[PAGE] == 2);
  bytes[0] = 0xcc;
  shared[1] = 0xdd;
  // Its own copy of the pinned page; the pin is the parent's.
  CHECK(gup_mm_page(own, it->at) != f->pinned);
  CHECK(gup_unpin_user_page(f->pinned) == 0);
  CHECK(gup_pin_user_pages_fast(own, it->at, 4, GUP_FOLL_WRITE, pages) == 4);
  CHECK(gup_get_user_pages_fast(own, f->shared, 1, 0, pages) == 1);
  CHECK(gup_mm_lock(own, it->at, PAGE, false) == 0);
  raise(SIGKILL);
  return __LINE__;
}

/// Lets a child play and buries it. 0, or the line that failed in it or here.
static int lead(const family *f) {
  fflush(NULL);
  pid_t id = fork();
  if (id == 0) {
    int line = child(f);
    fprintf(stderr, "%s: in the child: line %d\n", __FILE__, line);
    _exit(1);
  }
  CHECK(id > 0);
  int status = 0;
  CHECK(waitpid(id, &status, 0) == id);
  CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
  return 0;
}

int gup_check_joining(int trap) {
  family f = {.it = {.pages = 4}};
  scene *it = &f.it;
  struct gup_machine_options options = {
      .capacity = 16u << 20, .trap = GUP_TRAP_NONE, .joinable = true};
  struct gup_machine_info info;
  CHECK(gup_machine_create(&options, &it->machine) == -EINVAL);
  options.trap = trap;
  CHECK(gup_machine_create(&options, &it->machine) == 0);
  CHECK(gup_machine_get_info(it->machine, &info) == 0 && info.joinable);
  it->free_frames = info.free_frames;
  gup_machine *closed;
  options.joinable = false;
  CHECK(gup_machine_create(&options, &closed) == 0);
  CHECK(gup_machine_get_info(closed, &info) == 0 && !info.joinable);
  CHECK(gup_mm_create(closed, &f.aloof) == 0 && gup_machine_reap(closed) == 0);

  CHECK(gup_mm_create(it->machine, &it->mm) == 0);
  int protection = GUP_PROT_READ | GUP_PROT_WRITE;
  CHECK(gup_mm_map(it->mm, 0, it->pages * PAGE, protection, 0, &it->at) == 0);
  CHECK(gup_mm_map(it->mm, 0, PAGE, protection, GUP_MAP_SHARED, &f.shared) == 0);
  volatile unsigned char *bytes = gup_mm_pointer(it->mm, it->at);
  volatile unsigned char *shared = gup_mm_pointer(it->mm, f.shared);
  gup_mm *own = NULL;
  CHECK(gup_mm_join(it->mm, &own) == -EINVAL && own == NULL);
  CHECK(gup_machine_reap(it->machine) == 0);
  for (int round = 0; round < 3; round++) {
    bytes[0] = 1;
    bytes[PAGE] = 2;
    shared[1] = 3;
    CHECK(gup_pin_user_pages_fast(it->mm, it->at, 1, GUP_FOLL_WRITE, &f.pinned) == 1);
    PASS(lead(&f));
    // Whether this call has reaped or the library has by itself: nothing is left.
    CHECK(gup_machine_reap(it->machine) >= 0 && gup_machine_reap(it->machine) == 0);
    CHECK(bytes[0] == 1 && shared[1] == 0xdd && gup_mm_page(it->mm, it->at) == f.pinned);
    struct gup_page_state state;
    CHECK(gup_page_get_state(f.pinned, &state) == 0);
    CHECK(state.pins == 1 && state.references == 1025 && state.mappings == 1);
    CHECK(gup_unpin_user_page(f.pinned) == 0);
  }
  CHECK(gup_mm_destroy(f.aloof) == 0 && gup_machine_destroy(closed) == 0);
  return scene_close(it);
}
