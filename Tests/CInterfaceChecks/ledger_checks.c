//===----------------------------------------------------------------------===//
// The ledger: what it refuses, what it counts, what it says.
//===----------------------------------------------------------------------===//
#include <unistd.h>

#include "support.h"

/// Takes pins that its caller drops; its name is what reports call the place.
__attribute__((noinline)) int64_t gup_check_takes_pins(gup_mm *mm, uint64_t at, gup_page **pages) {
  int64_t taken = gup_pin_user_pages_fast(mm, at, 3, GUP_FOLL_WRITE, pages);
  return taken + 0 * getpid();  // no tail call: the place must be in here
}

/// Calls `body` with what goes to standard error going to a pipe; the text.
static int caught(int (*body)(scene *, gup_page **), scene *it, gup_page **pages, char *text,
                  size_t size) {
  int ends[2], kept = dup(STDERR_FILENO);
  CHECK(kept >= 0 && pipe(ends) == 0);
  dup2(ends[1], STDERR_FILENO);
  int line = body(it, pages);
  dup2(kept, STDERR_FILENO);
  close(kept);
  close(ends[1]);
  ssize_t length = read(ends[0], text, size - 1);
  close(ends[0]);
  text[length > 0 ? length : 0] = 0;
  return line;
}

static int release_wrongly(scene *it, gup_page **pages) {
  gup_page *same[2] = {pages[0], pages[0]};
  (void)it;
  CHECK(gup_put_page(pages[0]) == -EINVAL);
  CHECK(gup_unpin_user_pages(same, 2) == -EINVAL);
  return 0;
}

static int report(scene *it, gup_page **pages) {
  (void)it;
  (void)pages;
  CHECK(gup_ledger_report(STDERR_FILENO) == 4);
  return 0;
}

int check_ledger(void) {
  scene it;
  PASS(scene_open(&it, 4));
  gup_page *pages[3], *other;
  uint64_t pins = 99, refs = 99, pins_before, refs_before;
  char text[4096], expected[128];
  CHECK(gup_ledger_enable(it.machine) == 0 && gup_ledger_enable(it.machine) == 0);
  CHECK(gup_ledger_counts(&pins_before, &refs_before) == 0);
  CHECK(gup_check_takes_pins(it.mm, it.at, pages) == 3);
  CHECK(gup_get_user_pages_fast(it.mm, it.at + 3 * PAGE, 1, 0, &other) == 1);
  CHECK(gup_ledger_counts(&pins, &refs) == 0);
  CHECK(pins == pins_before + 3 && refs == refs_before + 1);

  PASS(caught(release_wrongly, &it, pages, text, sizeof text));
  CHECK(strstr(text, "put_page of frame") && strstr(text, "which has no such reference"));
  CHECK(strstr(text, "it has 1 pin taken in"));
  CHECK(strstr(text, "unpin_user_page of frame") && strstr(text, "which has no such pin"));
  // Nothing was dropped, or noted as dropped.
  struct gup_page_state state;
  CHECK(gup_page_get_state(pages[0], &state) == 0 && state.pins == 1);
  CHECK(gup_ledger_counts(&pins, &refs) == 0 && pins == pins_before + 3);

  if (pins_before + refs_before == 0) {
    PASS(caught(report, &it, pages, text, sizeof text));
    CHECK(strstr(text, "3 pins and 1 reference not released"));
    snprintf(expected, sizeof expected, "address space %p: 3 pins and 1 reference", (void *)it.mm);
    CHECK(strstr(text, expected));
    CHECK(strstr(text, "3 pins and 0 references taken in"));
    CHECK(strstr(text, "(gup_check_takes_pins+0x"));
  }
  CHECK(gup_unpin_user_pages(pages, 3) == 0 && gup_put_page(other) == 0);
  CHECK(gup_ledger_counts(&pins, &refs) == 0 && pins == pins_before && refs == refs_before);

  // Everything else that takes and drops is known to it too.
  gup_page *block;
  CHECK(gup_page_alloc(it.machine, 1, &block) == 0 && gup_get_page(block) == 0);
  CHECK(gup_put_page(block) == 0 && gup_put_page(block) == 0);
  CHECK(gup_put_page(block) == -EINVAL);
  gup_iter iter;
  gup_sg *sg;
  CHECK(gup_iter_ubuf(&iter, it.mm, GUP_SOURCE | GUP_RFC, it.at, 4 * PAGE) == 0);
  CHECK(gup_sg_create(it.machine, 4, &sg) == 0);
  CHECK(gup_iter_extract_to_sg(&iter, sg, SIZE_MAX, SIZE_MAX, 0) == 4 * PAGE);
  CHECK(gup_ledger_counts(&pins, &refs) == 0 && refs == refs_before + 4);
  CHECK(gup_sg_release(sg, false) == 0);
  gup_pipe *ring;
  CHECK(gup_pipe_create(it.machine, 4, &ring) == 0 && gup_pipe_write(ring, "x", 1) == 1);
  CHECK(gup_pipe_destroy(ring) == 0);
  CHECK(gup_ledger_counts(&pins, &refs) == 0 && pins == pins_before && refs == refs_before);
  return scene_close(&it);
}
