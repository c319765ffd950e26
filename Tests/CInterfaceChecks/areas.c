//===----------------------------------------------------------------------===//
// Areas of other kinds, locks, and pages that move.
//===----------------------------------------------------------------------===//
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "support.h"

static const int both = GUP_PROT_READ | GUP_PROT_WRITE;

int check_special_areas(void) {
  scene it;
  PASS(scene_open(&it, 1));
  uint64_t at;
  gup_page *page, *block, *before;
  struct gup_area area;
  CHECK(gup_mm_map(it.mm, 0, PAGE, both, GUP_MAP_SECRET, &at) == -EINVAL);
  int contradiction = GUP_MAP_SECRET | GUP_MAP_MOVABLE | GUP_MAP_SHARED;
  CHECK(gup_mm_map(it.mm, 0, PAGE, both, contradiction, &at) == -EINVAL);
  CHECK(gup_mm_map_file(it.mm, 0, PAGE, both, GUP_MAP_MOVABLE, NULL, 0, &at) == -EINVAL);

  CHECK(gup_mm_map(it.mm, 0, 2 * PAGE, both, GUP_MAP_SECRET | GUP_MAP_SHARED, &at) == 0);
  CHECK(gup_mm_area(it.mm, at, &area) == 1 && area.start == at && area.end == at + 2 * PAGE);
  CHECK(area.is_secret && area.is_locked && area.is_shared && !area.is_anonymous);
  CHECK(gup_mm_advise(it.mm, at, PAGE, GUP_MADV_POPULATE_WRITE) == 0 ||
        gup_mm_copy_to(it.mm, at, "s", 1) == 0);
  CHECK(gup_pin_user_pages_fast(it.mm, at, 1, 0, &page) == -EFAULT);
  CHECK(gup_get_user_pages(it.mm, at, 1, 0, &page) == -EFAULT);
  CHECK(gup_mm_unmap(it.mm, at, 2 * PAGE) == 0);

  // A pin for long moves the page first; its bytes come along.
  CHECK(gup_mm_map(it.mm, 0, PAGE, both, GUP_MAP_MOVABLE, &at) == 0);
  CHECK(gup_mm_copy_to(it.mm, at, "m", 1) == 0 && (before = gup_mm_page(it.mm, at)) != NULL);
  CHECK(gup_mm_area(it.mm, at, &area) == 1 && area.is_movable && area.protection == both);
  CHECK(gup_pin_user_pages_fast(it.mm, at, 1, GUP_FOLL_LONGTERM | GUP_FOLL_WRITE, &page) == 1);
  CHECK(page != before && *(char *)gup_page_address(page) == 'm');
  CHECK(gup_unpin_user_page(page) == 0 && gup_mm_unmap(it.mm, at, PAGE) == 0);

  // A driver's frames.
  CHECK(gup_page_alloc(it.machine, 2, &block) == 0);
  uint64_t frame = gup_page_frame(block);
  int shared = GUP_MAP_SHARED;
  CHECK(gup_mm_map_frames(it.mm, 0, frame, 4, both, shared, NULL) == -EINVAL);
  CHECK(gup_mm_map_frames(it.mm, 0, frame, 0, both, shared, &at) == -EINVAL);
  CHECK(gup_mm_map_frames(it.mm, 0, frame, UINT64_MAX, both, shared, &at) == -EINVAL);
  CHECK(gup_mm_map_frames(it.mm, 0, UINT64_MAX, 1, both, shared, &at) == -EINVAL);
  CHECK(gup_mm_map_frames(it.mm, 0, 0, 1, both, shared, &at) == -EINVAL);
  CHECK(gup_mm_map_frames(it.mm, 0, frame + 4, 1, both, shared, &at) == -EINVAL);
  CHECK(gup_mm_map_frames(it.mm, 0, frame, 4, both, GUP_MAP_PRIVATE, &at) == -EINVAL);
  CHECK(gup_mm_map_frames(it.mm, 0, frame, 4, 64, shared, &at) == -EINVAL);
  CHECK(gup_mm_map_frames(it.mm, it.at, frame, 4, both, GUP_MAP_FIXED_NOREPLACE, &at) == -EEXIST);
  CHECK(gup_mm_map_frames(it.mm, 0, frame, 4, both, 0, &at) == 0);
  CHECK(gup_mm_area(it.mm, at + PAGE, &area) == 1 && area.is_device && area.start == at);
  ((char *)gup_page_address(block))[5] = 'd';
  CHECK(((char *)gup_mm_pointer(it.mm, at))[5] == 'd');
  CHECK(gup_pin_user_pages(it.mm, at, 4, 0, &page) == -EFAULT);
  CHECK(gup_mm_unmap(it.mm, at, 4 * PAGE) == 0 && gup_put_page(block) == 0);

  // From one area to the next.
  CHECK(gup_mm_protect(it.mm, it.at, PAGE, GUP_PROT_READ) == 0);
  CHECK(gup_mm_advise(it.mm, it.at, PAGE, GUP_MADV_DONTFORK) == 0);
  CHECK(gup_mm_area(it.mm, 0, &area) == 1 && area.start == it.at);
  CHECK(area.protection == GUP_PROT_READ && area.dont_fork && area.is_anonymous);
  CHECK(gup_mm_area(it.mm, area.end, &area) == 0 && gup_mm_area(it.mm, 0, NULL) == -EINVAL);
  return scene_close(&it);
}

int check_locks(void) {
  scene it;
  PASS(scene_open(&it, 4));
  struct gup_mm_info info;
  CHECK(gup_mm_get_info(it.mm, &info) == 0 && gup_mm_get_info(it.mm, NULL) == -EINVAL);
  CHECK(info.lock_limit == UINT64_MAX && info.locked_bytes == 0 && info.lost_adoptions == 0);
  CHECK(info.host_mappings > 0);
  CHECK(gup_mm_set_lock_limit(it.mm, 4 * PAGE) == 0);
  CHECK(gup_mm_lock_all(it.mm, GUP_MCL_CURRENT | GUP_MCL_FUTURE) == 0);
  CHECK(gup_mm_get_info(it.mm, &info) == 0);
  CHECK(info.lock_limit == 4 * PAGE && info.locked_bytes == 4 * PAGE);
  uint64_t at;
  CHECK(gup_mm_map(it.mm, 0, PAGE, both, 0, &at) == -EAGAIN);
  CHECK(gup_mm_account(it.mm, 1) == -ENOMEM && gup_mm_unlock_all(it.mm) == 0);
  CHECK(gup_mm_account(it.mm, 2) == 0 && gup_mm_unaccount(it.mm, 3) == -EINVAL);
  CHECK(gup_mm_lock(it.mm, it.at, 3 * PAGE, false) == -ENOMEM);
  CHECK(gup_mm_lock(it.mm, it.at, 2 * PAGE, false) == 0);
  CHECK(gup_mm_advise(it.mm, it.at, PAGE, GUP_MADV_DONTNEED) == -EINVAL);
  CHECK(gup_mm_advise(it.mm, it.at, PAGE, GUP_MADV_DONTNEED_LOCKED) == 0);
  CHECK(gup_mm_unaccount(it.mm, 2) == 0 && gup_mm_unaccount(it.mm, UINT64_MAX) == -EINVAL);
  int wrong[] = {0, GUP_MCL_ONFAULT, GUP_MCL_CURRENT | 8, -1};
  for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
    CHECK(gup_mm_lock_all(it.mm, wrong[i]) == -EINVAL);
  CHECK(gup_mm_set_lock_limit(it.mm, 0) == 0);
  CHECK(gup_mm_lock_all(it.mm, GUP_MCL_CURRENT) == -EPERM);
  CHECK(gup_mm_set_lock_limit(it.mm, UINT64_MAX) == 0);
  CHECK(gup_mm_account(it.mm, UINT64_MAX) == -ENOMEM);
  CHECK(gup_mm_lock_all(NULL, 1) == -EINVAL && gup_mm_unlock_all(NULL) == -EINVAL);
  return scene_close(&it);
}

int check_movement(void) {
  scene it;
  PASS(scene_open(&it, 4));
  struct gup_movement movement;
  gup_page *pinned, *before[4];
  uint64_t length = 4 * PAGE;
  for (int i = 0; i < 4; i++) {
    char byte = (char)('a' + i);
    CHECK(gup_mm_copy_to(it.mm, it.at + (uint64_t)i * PAGE, &byte, 1) == 0);
    before[i] = gup_mm_page(it.mm, it.at + (uint64_t)i * PAGE);
  }
  CHECK(gup_pin_user_pages_fast(it.mm, it.at + PAGE, 1, GUP_FOLL_WRITE, &pinned) == 1);
  CHECK(gup_mm_migrate(it.mm, it.at, length, &movement) == 3);
  CHECK(movement.moved == 3 && movement.pinned == 1 && movement.referenced == 0);
  for (int i = 0; i < 4; i++) {
    char byte;
    CHECK(gup_mm_copy_from(it.mm, &byte, it.at + (uint64_t)i * PAGE, 1) == 0);
    CHECK(byte == 'a' + i);
    CHECK((gup_mm_page(it.mm, it.at + (uint64_t)i * PAGE) == before[i]) == (i == 1));
  }
  CHECK(gup_unpin_user_page(pinned) == 0);
  CHECK(gup_machine_compact(it.machine, &movement) == 3 && movement.moved == 3);
  for (int i = 0; i < 4; i++)
    CHECK(gup_mm_page(it.mm, it.at + (uint64_t)i * PAGE) == before[i]);
  CHECK(gup_machine_compact(it.machine, NULL) == 0);
  CHECK(gup_mm_migrate(it.mm, it.at + 1, PAGE, NULL) == -EINVAL);
  CHECK(gup_mm_migrate(it.mm, it.at, UINT64_MAX, NULL) == -EINVAL);
  CHECK(gup_mm_migrate(NULL, it.at, PAGE, NULL) == -EINVAL);

  // Clean pages of a file can be had again; nothing else here can.
  char path[] = "/tmp/gup-check-XXXXXX", text[2 * PAGE] = "clean";
  int fd = mkstemp(path);
  CHECK(fd >= 0 && write(fd, text, sizeof text) == (ssize_t)sizeof text);
  close(fd);
  gup_file *file;
  uint64_t at;
  CHECK(gup_file_open(it.machine, path, false, &file) == 0);
  CHECK(gup_mm_map_file(it.mm, 0, sizeof text, GUP_PROT_READ, GUP_MAP_SHARED, file, 0, &at) == 0);
  CHECK(gup_mm_copy_from(it.mm, text, at, sizeof text) == 0);
  CHECK(gup_machine_reclaim(it.machine, 0, &movement) == 0 && movement.moved == 0);
  CHECK(gup_machine_reclaim(it.machine, 1, NULL) == 1);
  CHECK(gup_machine_reclaim(it.machine, UINT64_MAX, &movement) == 1 && movement.moved == 1);
  CHECK(gup_mm_copy_from(it.mm, text, at, sizeof text) == 0 && strcmp(text, "clean") == 0);
  CHECK(gup_file_close(file) == 0);
  unlink(path);
  CHECK(gup_machine_reap(it.machine) == 0 && gup_machine_reap(NULL) == -EINVAL);
  CHECK(gup_machine_reclaim(NULL, 1, NULL) == -EINVAL);
  return scene_close(&it);
}
