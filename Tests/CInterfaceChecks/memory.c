//===----------------------------------------------------------------------===//
// Machines, address spaces, GUP and releases.
//===----------------------------------------------------------------------===//
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "support.h"

int check_basics(void) {
  scene it;
  PASS(scene_open(&it, 8));
  gup_page *pages[8];
  struct gup_page_state state;
  unsigned char *bytes = gup_mm_pointer(it.mm, it.at);
  CHECK(bytes != NULL);
  bytes[3 * PAGE + 5] = 0x5a;

  CHECK(gup_pin_user_pages_fast(it.mm, it.at + 17, 8, GUP_FOLL_WRITE, pages) == 8);
  CHECK(gup_page_get_state(pages[3], &state) == 0);
  CHECK(state.may_be_pinned && state.pins == 1 && state.references == 1025);
  CHECK(state.is_anonymous && state.is_exclusive && state.mappings == 1 && state.order == 0);
  unsigned char *seen = gup_page_address(pages[3]);
  CHECK(seen[5] == 0x5a);
  seen[6] = 0xa5;
  CHECK(bytes[3 * PAGE + 6] == 0xa5);
  CHECK(gup_page_of_frame(it.machine, gup_page_frame(pages[3])) == pages[3]);
  CHECK(gup_page_of_address(it.machine, seen + 100) == pages[3]);
  CHECK(gup_mm_page(it.mm, it.at + 3 * PAGE) == pages[3]);
  CHECK(gup_mm_is_writable(it.mm, it.at) == 1);
  // As in the kernel, such a pin is counted when it goes, not when it comes.
  CHECK(gup_add_pin(pages[0]) == 0 && gup_unpin_user_page(pages[0]) == 0);
  it.uncounted_pins = 1;
  pages[7] = NULL;  // a slot that is passed over; its page is dropped below
  CHECK(gup_unpin_user_pages_dirty_lock(pages, 8, true) == 0);
  CHECK(gup_unpin_user_page(gup_mm_page(it.mm, it.at + 7 * PAGE)) == 0);
  CHECK(gup_page_get_state(pages[0], &state) == 0 && state.is_dirty && state.pins == 0);

  CHECK(gup_get_user_pages_fast(it.mm, it.at, 4, 0, pages) == 4);
  CHECK(gup_get_page(pages[0]) == 0 && gup_put_page(pages[0]) == 0);
  CHECK(gup_put_pages(pages, 4) == 0);
  CHECK(gup_get_user_pages_fast_only(it.mm, it.at, 2, GUP_FOLL_WRITE, pages) == 2);
  CHECK(gup_put_pages(pages, 2) == 0);
  CHECK(gup_get_user_pages(it.mm, it.at, 2, 0, pages) == 2 && gup_put_pages(pages, 2) == 0);
  CHECK(gup_pin_user_pages(it.mm, it.at, 2, 0, pages) == 2);
  CHECK(gup_unpin_user_pages(pages, 2) == 0);
  CHECK(gup_pin_user_pages_fast_only(it.mm, it.at, 2, 0, pages) == 2);
  CHECK(gup_unpin_folios(pages, 2) == 0);
  // Physically consecutive: the area's own stretch of frames.
  CHECK(gup_pin_user_pages_fast(it.mm, it.at, 8, GUP_FOLL_WRITE, pages) == 8);
  CHECK(gup_page_frame(pages[7]) == gup_page_frame(pages[0]) + 7);
  CHECK(gup_unpin_user_page_range_dirty_lock(pages[0], 8, false) == 0);
  // GUP's errors may come along to a release, which then does nothing.
  CHECK(gup_unpin_user_pages(pages, -EFAULT) == 0 && gup_put_pages(NULL, 0) == 0);

  gup_page *block;
  CHECK(gup_page_alloc(it.machine, 3, &block) == 0);
  CHECK(gup_page_get_state(block, &state) == 0 && state.references == 1);
  CHECK(gup_put_page(block) == 0);
  return scene_close(&it);
}

int check_forks(void) {
  scene it;
  PASS(scene_open(&it, 2));
  unsigned char *bytes = gup_mm_pointer(it.mm, it.at);
  memset(bytes, 1, 2 * PAGE);
  gup_page *page;
  CHECK(gup_pin_user_pages_fast(it.mm, it.at, 1, GUP_FOLL_WRITE, &page) == 1);
  gup_mm *child;
  CHECK(gup_mm_fork(it.mm, &child) == 0);
  unsigned char value = 9;
  CHECK(gup_mm_copy_to(it.mm, it.at, &value, 1) == 0);
  ((unsigned char *)gup_page_address(page))[1] = 7;
  unsigned char seen[2];
  CHECK(gup_mm_copy_from(it.mm, seen, it.at, 2) == 0 && seen[0] == 9 && seen[1] == 7);
  CHECK(gup_mm_copy_from(child, seen, it.at, 2) == 0 && seen[0] == 1 && seen[1] == 1);
  CHECK(gup_mm_page(child, it.at) != page && gup_mm_page(it.mm, it.at) == page);
  CHECK(gup_mm_zero(child, it.at, 2) == 0);
  CHECK(gup_machine_destroy(it.machine) == -EBUSY);
  CHECK(gup_mm_exit(child) == 0);
  CHECK(gup_mm_zero(child, it.at, 2) == -ESRCH);
  CHECK(gup_mm_destroy(child) == 0);
  CHECK(gup_unpin_user_page(page) == 0);
  CHECK(gup_mm_protect(it.mm, it.at, PAGE, GUP_PROT_READ) == 0);
  CHECK(gup_pin_user_pages_fast(it.mm, it.at, 1, GUP_FOLL_WRITE, &page) == -EFAULT);
  CHECK(gup_mm_unmap(it.mm, it.at, 2 * PAGE) == 0);
  CHECK(gup_pin_user_pages_fast(it.mm, it.at, 1, 0, &page) == -EFAULT);
  return scene_close(&it);
}

int check_files(void) {
  scene it;
  PASS(scene_open(&it, 1));
  char path[] = "/tmp/gup-check-XXXXXX";
  int fd = mkstemp(path);
  CHECK(fd >= 0);
  char text[2 * PAGE];
  memset(text, 'a', sizeof text);
  CHECK(write(fd, text, sizeof text) == (ssize_t)sizeof text);
  close(fd);
  gup_file *file;
  CHECK(gup_file_open(it.machine, "/tmp/gup-there-is-no-such-file", false, &file) == -ENOENT);
  CHECK(gup_file_open(it.machine, "/tmp", false, &file) == -EISDIR);
  CHECK(gup_file_open(it.machine, path, true, &file) == 0);
  CHECK(gup_file_length(file) == 2 * PAGE);
  uint64_t at;
  CHECK(gup_mm_map_file(it.mm, 0, 2 * PAGE, GUP_PROT_READ | GUP_PROT_WRITE, GUP_MAP_SHARED, file,
                        0, &at) == 0);
  char byte = 'b';
  CHECK(gup_mm_copy_to(it.mm, at + PAGE, &byte, 1) == 0);
  CHECK(gup_mm_sync(it.mm, at, 2 * PAGE) == 0 && gup_file_sync(file) == 0);
  fd = open(path, O_RDONLY);
  CHECK(fd >= 0 && pread(fd, text, 1, PAGE) == 1 && text[0] == 'b');
  close(fd);
  // The cache's pages are listed, none is held.
  CHECK(gup_file_bring_in(file, 0, 2 * PAGE) == 0);
  gup_iter iter;
  CHECK(gup_iter_file(&iter, file, GUP_SOURCE, 100, PAGE) == 0);
  CHECK(gup_iter_extract_mode(&iter) == GUP_UNRETAINED);
  gup_page **pages = NULL;
  size_t offset = 0;
  CHECK(gup_iter_extract_pages(&iter, &pages, SIZE_MAX, SIZE_MAX, 0, &offset) == PAGE);
  CHECK(offset == 100 && *((char *)gup_page_address(pages[1])) == 'b');
  gup_free(pages);
  CHECK(gup_machine_destroy(it.machine) == -EBUSY);
  CHECK(gup_file_close(file) == 0 && gup_file_close(file) == -EINVAL);
  unlink(path);
  return scene_close(&it);
}

int check_folios(void) {
  scene it;
  PASS(scene_open(&it, 1));
  uint64_t at;
  gup_page *pages[8];
  struct gup_page_state state;
  CHECK(gup_mm_map(it.mm, 0, 1u << 20, GUP_PROT_READ | GUP_PROT_WRITE, 0, &at) == 0);
  CHECK(gup_mm_advise_folios(it.mm, at, 1u << 20, 10) == -EINVAL);
  CHECK(gup_mm_advise_folios(it.mm, at, 1u << 20, 3) == 0);
  uint64_t folio = (at + 8 * PAGE - 1) & ~(uint64_t)(8 * PAGE - 1);
  CHECK(gup_pin_user_pages_fast(it.mm, folio, 8, GUP_FOLL_WRITE, pages) == 8);
  CHECK(gup_page_get_state(pages[5], &state) == 0 && state.order == 3);
  CHECK(state.head == pages[0] && state.pins == 8);
  CHECK(gup_mm_split_folio(it.mm, folio) == -EAGAIN);
  CHECK(gup_unpin_user_folio(pages[2], 3) == 0 && gup_unpin_user_pages(pages, 5) == 0);
  CHECK(gup_page_get_state(pages[5], &state) == 0 && state.pins == 0);
  CHECK(gup_mm_split_folio(it.mm, folio) == 0);
  CHECK(gup_page_get_state(pages[5], &state) == 0 && state.order == 0);
  CHECK(gup_mm_remap(it.mm, at, 1u << 20, 2u << 20, GUP_MREMAP_MAYMOVE, 0, &at) == 0);
  CHECK(gup_mm_remap(it.mm, at, 1u << 20, 2u << 20, 64, 0, &at) == -EINVAL);
  CHECK(gup_mm_lock(it.mm, at, PAGE, true) == 0 && gup_mm_unlock(it.mm, at, PAGE) == 0);
  gup_adopted adopted;
  CHECK(gup_mm_adopt(it.mm, pages, sizeof pages, &adopted) == -EOPNOTSUPP);
  CHECK(gup_machine_set_policy(it.machine, GUP_POLICY_SHARE_AT_FORK) == 0);
  CHECK(gup_machine_set_policy(it.machine, 1u << 9) == -EINVAL);
  return scene_close(&it);
}

typedef struct tally {
  uint64_t pins, pages;
} tally;

static void count_pins(void *context, uint32_t kind, uint64_t address, uint64_t frame,
                       uint64_t pages) {
  tally *seen = context;
  (void)address;
  (void)frame;
  if (kind != GUP_EVENT_PIN) return;
  seen->pins++;
  seen->pages += pages;
}

int check_events(void) {
  scene it;
  PASS(scene_open(&it, 4));
  tally seen = {0, 0};
  gup_page *pages[4];
  CHECK(gup_machine_set_event_sink(it.machine, count_pins, &seen) == 0);
  CHECK(gup_pin_user_pages_fast(it.mm, it.at, 4, GUP_FOLL_WRITE, pages) == 4);
  CHECK(gup_machine_set_event_sink(it.machine, NULL, NULL) == 0);
  CHECK(seen.pins == 1 && seen.pages == 4);
  CHECK(gup_unpin_user_pages(pages, 4) == 0);
  return scene_close(&it);
}

int check_faults_injected(void) {
  scene it;
  PASS(scene_open(&it, 4));
  gup_page *pages[4];
  // The grab that fails in the lock-free walk is repeated by the slow path.
  CHECK(gup_machine_arm(it.machine, GUP_FAIL_GRAB, 1) == 0);
  CHECK(gup_pin_user_pages(it.mm, it.at, 4, 0, pages) == -ENOMEM);
  CHECK(gup_machine_failures(it.machine, GUP_FAIL_GRAB) == 1);
  CHECK(gup_machine_arm(it.machine, GUP_FAIL_GRAB, 3) == 0);
  CHECK(gup_pin_user_pages(it.mm, it.at, 4, 0, pages) == 2);
  CHECK(gup_unpin_user_pages(pages, 2) == 0);
  CHECK(gup_machine_arm(it.machine, GUP_FAIL_GRAB, 0) == 0);
  CHECK(gup_machine_arm(it.machine, 99, 1) == -EINVAL);
  CHECK(gup_machine_arm(it.machine, -1, 1) == -EINVAL);
  CHECK(gup_machine_failures(it.machine, 99) == -EINVAL);
  return scene_close(&it);
}
