//===----------------------------------------------------------------------===//
// Why devices need pins: a buffer of malloc's is handed to a device once by
// reference and once by pin; then the process forks and stores to the buffer;
// then the device writes. Who sees the device's bytes?
//===----------------------------------------------------------------------===//
#include <gup.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void fail(const char *what) {
  char why[200];
  gup_last_error(why, sizeof why);
  fprintf(stderr, "pin_fork: %s: %s\n", what, why);
}

/// Plays the scene; 1 when the parent sees the device's bytes, 0 when not.
static int play(gup_machine *machine, bool pins) {
  gup_mm *parent, *child;
  uint64_t at;
  gup_page *page;
  char *memory = malloc(1 << 20), *buffer = memory + (1 << 19);
  strcpy(buffer, "old");
  // From here on the buffer is user memory of the address space, where it stands.
  gup_adopted adopted;
  if (gup_mm_create(machine, &parent) != 0 ||
      gup_mm_adopt(parent, buffer, 1000, &adopted) != 0) {
    fail("the buffer cannot be adopted");
    return -1;
  }
  at = (uintptr_t)buffer;

  int64_t taken = pins ? gup_pin_user_pages_fast(parent, at, 1, GUP_FOLL_WRITE, &page)
                       : gup_get_user_pages_fast(parent, at, 1, GUP_FOLL_WRITE, &page);
  if (taken != 1 || gup_mm_fork(parent, &child) != 0) {
    fail("no page");
    return -1;
  }
  buffer[100] = 'x';  // the parent stores: copy-on-write, unless the page is pinned
  strcpy((char *)gup_page_address(page) + at % GUP_PAGE_SIZE, "from the device");

  char of_child[20];
  if (gup_mm_copy_from(child, of_child, at, sizeof of_child) != 0) fail("the child's memory");
  printf("%-10s parent sees \"%s\", child sees \"%s\"\n", pins ? "pinned:" : "referenced:", buffer,
         of_child);
  int seen = strcmp(buffer, "from the device") == 0;
  int error = pins ? gup_unpin_user_pages_dirty_lock(&page, 1, true) : gup_put_page(page);
  if (error != 0) fail("release");
  gup_mm_destroy(child);
  if (gup_mm_release(parent, &adopted) != 0) fail("giving the buffer back");
  gup_mm_destroy(parent);
  free(memory);
  return seen;
}

int main(void) {
  gup_machine *machine;
  if (gup_machine_create(NULL, &machine) != 0) {
    fail("no machine");
    return 1;
  }
  int with_reference = play(machine, false), with_pin = play(machine, true);
  gup_machine_destroy(machine);
  return with_reference == 0 && with_pin == 1 ? 0 : 1;
}
