//===----------------------------------------------------------------------===//
// Bad input: an error that names it, nothing changed, and nothing a sanitizer
// would see.
//===----------------------------------------------------------------------===//
#include "support.h"

int check_errors(void) {
  scene it;
  PASS(scene_open(&it, 1));
  uint64_t at;
  char text[128], part[8];
  CHECK(gup_mm_map(it.mm, 0, 0, 3, 0, &at) == -EINVAL);
  size_t length = gup_last_error(text, sizeof text);
  CHECK(length == strlen(text) && strcmp(text, "EINVAL: length must be positive: 0") == 0);
  // As much as fits, and always an end.
  CHECK(gup_last_error(part, sizeof part) == length && strcmp(part, "EINVAL:") == 0);
  CHECK(gup_last_error(NULL, 100) == length && gup_last_error(part, 0) == length);
  CHECK(gup_mm_unmap(it.mm, it.at + 1, PAGE) == -EINVAL);
  gup_last_error(text, sizeof text);
  CHECK(strncmp(text, "EINVAL: address must be a multiple of the page size: ", 52) == 0);
  CHECK(strcmp(gup_version(), "0.1") == 0);
  return scene_close(&it);
}

int check_handles(void) {
  scene it;
  PASS(scene_open(&it, 1));
  gup_page *page;
  uint64_t at;
  gup_mm *mm = NULL;
  int on_the_stack = 0;
  void *wrong[] = {NULL, it.machine, &on_the_stack, (void *)1, (void *)UINTPTR_MAX,
                   (char *)it.mm + 1, (void *)((uintptr_t)it.mm ^ (1ull << 40))};
  for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
    gup_mm *bad = wrong[i];
    CHECK(gup_pin_user_pages_fast(bad, it.at, 1, 0, &page) == -EINVAL);
    CHECK(gup_mm_map(bad, 0, PAGE, 3, 0, &at) == -EINVAL);
    CHECK(gup_mm_fork(bad, &mm) == -EINVAL && mm == NULL);
    CHECK(gup_mm_destroy(bad) == -EINVAL);
    CHECK(gup_mm_pointer(bad, it.at) == NULL && gup_mm_page(bad, it.at) == NULL);
  }
  struct gup_machine_info info;
  CHECK(gup_machine_get_info((gup_machine *)(void *)it.mm, &info) == -EINVAL);
  CHECK(gup_machine_get_info(it.machine, NULL) == -EINVAL);
  CHECK(gup_machine_create(NULL, NULL) == -EINVAL);
  CHECK(gup_mm_create(it.machine, NULL) == -EINVAL);
  // A destroyed handle stays destroyed, also when its place is used again.
  gup_mm *first, *second;
  CHECK(gup_mm_create(it.machine, &first) == 0 && gup_mm_destroy(first) == 0);
  CHECK(gup_mm_create(it.machine, &second) == 0 && first != second);
  CHECK(gup_mm_destroy(first) == -EINVAL && gup_mm_destroy(second) == 0);
  struct gup_machine_options options = {.capacity = 4097};
  gup_machine *machine = NULL;
  CHECK(gup_machine_create(&options, &machine) == -EINVAL && machine == NULL);
  options = (struct gup_machine_options){.trap = 17};
  CHECK(gup_machine_create(&options, &machine) == -EINVAL);
  options = (struct gup_machine_options){.dialect = -1};
  CHECK(gup_machine_create(&options, &machine) == -EINVAL);
  // More host mappings than there can be are as many as there can be.
  options = (struct gup_machine_options){.capacity = PAGE, .host_mappings = UINT64_MAX};
  CHECK(gup_machine_create(&options, &machine) == 0 && gup_mm_create(machine, &mm) == 0);
  CHECK(gup_mm_map(mm, 0, PAGE, 3, 0, &at) == 0);
  CHECK(gup_mm_destroy(mm) == 0 && gup_machine_destroy(machine) == 0);
  return scene_close(&it);
}

int check_pages_that_are_none(void) {
  scene it;
  PASS(scene_open(&it, 2));
  gup_page *pages[3];
  CHECK(gup_pin_user_pages_fast(it.mm, it.at, 2, GUP_FOLL_WRITE, pages) == 2);
  gup_page *good = pages[0];
  int on_the_stack = 0;
  void *wrong[] = {&on_the_stack, (char *)good + 1, (char *)good + 8, (void *)1,
                   (void *)UINTPTR_MAX, (char *)good - (1 << 30), it.mm};
  struct gup_page_state state;
  for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
    gup_page *bad = wrong[i];
    CHECK(gup_unpin_user_page(bad) == -EINVAL && gup_put_page(bad) == -EINVAL);
    CHECK(gup_get_page(bad) == -EINVAL && gup_page_address(bad) == NULL);
    CHECK(gup_page_frame(bad) == UINT64_MAX && gup_page_get_state(bad, &state) == -EINVAL);
    pages[2] = bad;
    CHECK(gup_unpin_user_pages(pages, 3) == -EINVAL);
    CHECK(gup_unpin_user_pages_dirty_lock(pages, 3, true) == -EINVAL);
  }
  // Wherever it stands in a list, among pages of two machines and empty slots.
  gup_machine *other;
  gup_page *foreign, *list[11], *kept;
  CHECK(gup_machine_create(&(struct gup_machine_options){.capacity = PAGE}, &other) == 0);
  CHECK(gup_page_alloc(other, 0, &foreign) == 0);
  for (size_t i = 0; i < 11; i++) list[i] = i == 4 ? NULL : i > 8 ? foreign : pages[i % 2];
  for (size_t i = 0; i < 11; i++) {
    kept = list[i];
    list[i] = wrong[i % (sizeof wrong / sizeof *wrong)];
    CHECK(gup_put_pages(list, 11) == -EINVAL && gup_unpin_user_pages(list, 11) == -EINVAL);
    list[i] = kept;
  }
  CHECK(gup_page_get_state(foreign, &state) == 0 && state.references == 1);
  for (size_t i = 0; i < 9; i++) CHECK(i == 4 || gup_get_page(list[i]) == 0);
  CHECK(gup_get_page(foreign) == 0 && gup_put_pages(list, 11) == 0);
  CHECK(gup_page_get_state(foreign, &state) == 0 && state.is_free);
  CHECK(gup_machine_destroy(other) == 0);
  CHECK(gup_unpin_user_page(NULL) == -EINVAL && gup_put_pages(NULL, 1) == -EINVAL);
  CHECK(gup_page_get_state(good, &state) == 0 && state.pins == 1 && !state.is_free);
  CHECK(gup_unpin_user_page_range_dirty_lock(good, INT64_MAX, false) == -EINVAL);
  CHECK(gup_unpin_user_folio(good, INT64_MAX) == -EINVAL);
  CHECK(gup_unpin_user_pages(pages, 2) == 0);
  CHECK(gup_page_of_frame(it.machine, UINT64_MAX) == NULL);
  gup_vmap *vmap = NULL;
  pages[1] = (gup_page *)(void *)&on_the_stack;
  CHECK(gup_vmap_create(it.machine, pages, (size_t)1 << 62, &vmap) == -EINVAL && vmap == NULL);
  CHECK(gup_page_of_address(it.machine, &on_the_stack) == NULL);
  PASS(scene_close(&it));
  // Its machine is gone, and with it the page.
  CHECK(gup_page_address(good) == NULL && gup_put_page(good) == -EINVAL);
  return 0;
}

int check_arguments(void) {
  scene it;
  PASS(scene_open(&it, 1));
  gup_page *page;
  uint64_t at;
  CHECK(gup_pin_user_pages_fast(it.mm, it.at, 0, 0, NULL) == 0);
  CHECK(gup_pin_user_pages_fast(it.mm, it.at, -5, 0, NULL) == 0);
  CHECK(gup_pin_user_pages_fast(it.mm, it.at, 1, 0, NULL) == -EINVAL);
  CHECK(gup_pin_user_pages_fast(it.mm, it.at, 1, 1u << 19, &page) == -EINVAL);
  CHECK(gup_pin_user_pages_fast(it.mm, it.at, 1, GUP_FOLL_ANON, &page) == -EINVAL);
  CHECK(gup_get_user_pages_fast(it.mm, it.at, 1, GUP_FOLL_LONGTERM, &page) == -EINVAL);
  CHECK(gup_pin_user_pages_fast(it.mm, UINT64_MAX - PAGE, 4, 0, &page) == -EOVERFLOW);
  CHECK(gup_pin_user_pages_fast(it.mm, it.at, INT64_MAX, 0, &page) == -EOVERFLOW);
  CHECK(gup_pin_user_pages_fast(it.mm, 1ull << 47, 1, 0, &page) == -EFAULT);
  CHECK(gup_pin_user_pages_fast(it.mm, 0, 1, 0, &page) == -EFAULT);
  CHECK(gup_mm_map(it.mm, 0, PAGE, 8, 0, &at) == -EINVAL);
  CHECK(gup_mm_map(it.mm, 0, PAGE, 3, 1 << 20 | 1 << 5, &at) == -EINVAL);
  CHECK(gup_mm_map(it.mm, 0, PAGE, 3, GUP_MAP_SHARED | GUP_MAP_PRIVATE, &at) == -EINVAL);
  CHECK(gup_mm_map(it.mm, 0, UINT64_MAX, 3, 0, &at) < 0);
  CHECK(gup_mm_map(it.mm, 17, PAGE, 3, GUP_MAP_FIXED, &at) == -EINVAL);
  CHECK(gup_mm_map(it.mm, 0, PAGE, 3, 0, NULL) == -EINVAL);
  CHECK(gup_mm_unmap(it.mm, it.at, 0) == -EINVAL);
  CHECK(gup_mm_unmap(it.mm, it.at, UINT64_MAX) == -EINVAL);
  CHECK(gup_mm_advise(it.mm, it.at, PAGE, 99) == -EINVAL);
  CHECK(gup_mm_protect(it.mm, it.at, PAGE, -1) == -EINVAL);
  CHECK(gup_mm_copy_to(it.mm, it.at, NULL, 1) == -EINVAL);
  CHECK(gup_mm_copy_to(it.mm, it.at, &at, SIZE_MAX) == -EINVAL);
  CHECK(gup_mm_copy_to(it.mm, it.at + PAGE, &at, 1) == -EFAULT);
  CHECK(gup_mm_zero(it.mm, it.at, SIZE_MAX) == -EFAULT);
  CHECK(gup_page_alloc(it.machine, 11, &page) == -EINVAL);
  CHECK(gup_page_alloc(it.machine, 0, NULL) == -EINVAL);
  CHECK(gup_machine_set_dialect(it.machine, 2) == -EINVAL);
  CHECK(gup_file_open(it.machine, NULL, false, NULL) == -EINVAL);
  return scene_close(&it);
}

int check_iterators_that_are_none(void) {
  scene it;
  PASS(scene_open(&it, 2));
  gup_iter iter;
  gup_iter_state state = {{0}};
  gup_page **pages = NULL;
  size_t offset;
  struct gup_iter_info info;
  memset(&iter, 0, sizeof iter);
  CHECK(gup_iter_count(&iter) == 0 && gup_iter_advance(&iter, 1) == -EINVAL);
  CHECK(gup_iter_extract_pages(&iter, &pages, 1, 1, 0, &offset) == -EINVAL && !pages);
  CHECK(gup_iter_get_info(&iter, &info) == -EINVAL && gup_iter_count(NULL) == 0);
  CHECK(gup_iter_advance((gup_iter *)(void *)((char *)&iter + 1), 1) == -EINVAL);
  CHECK(gup_iter_ubuf(&iter, it.mm, 8, it.at, PAGE) == -EINVAL);
  CHECK(gup_iter_ubuf(&iter, it.mm, GUP_RFC | GUP_UPSTREAM, it.at, PAGE) == -EINVAL);
  CHECK(gup_iter_ubuf(&iter, it.mm, GUP_DEST, UINT64_MAX, PAGE) == -EINVAL);
  CHECK(gup_iter_ubuf(&iter, it.mm, GUP_DEST, it.at, SIZE_MAX) == -EINVAL);
  CHECK(gup_iter_ubuf(NULL, it.mm, GUP_DEST, it.at, PAGE) == -EINVAL);
  struct gup_iovec iov = {it.at, PAGE};
  CHECK(gup_iter_iovec(&iter, it.mm, GUP_DEST, &iov, 1, PAGE + 1) == -EINVAL);
  CHECK(gup_iter_iovec(&iter, it.mm, GUP_DEST, NULL, 1, PAGE) == -EINVAL);
  CHECK(gup_iter_iovec(&iter, it.mm, GUP_DEST, &iov, SIZE_MAX, PAGE) == -EINVAL);
  int none = 0;
  struct gup_bvec bvec = {(gup_page *)(void *)&none, 1, 0};
  CHECK(gup_iter_bvec(&iter, it.machine, GUP_DEST, &bvec, 1, 1) == -EINVAL);
  struct gup_kvec kvec = {&none, 1};
  CHECK(gup_iter_kvec(&iter, it.machine, GUP_DEST, &kvec, 1, 1) == -EINVAL);
  CHECK(gup_iter_discard(&iter, it.machine, GUP_SOURCE, 1) == -EINVAL);
  CHECK(gup_iter_count(&iter) == 0);

  CHECK(gup_iter_ubuf(&iter, it.mm, GUP_DEST | GUP_UPSTREAM, it.at, 2 * PAGE) == 0);
  CHECK(gup_iter_extract_pages(&iter, &pages, PAGE, 1, 2, &offset) == -EINVAL);
  CHECK(gup_iter_extract_pages(&iter, NULL, PAGE, 1, 0, &offset) == -EINVAL);
  CHECK(gup_iter_extract_pages(&iter, &pages, PAGE, 1, 0, NULL) == -EINVAL);
  CHECK(gup_iter_extract_pages(&iter, &pages, PAGE, 0, 0, &offset) == -ENOMEM);
  CHECK(gup_iter_revert(&iter, 1) == -EINVAL && gup_iter_reexpand(&iter, 2 * PAGE + 1) == -EINVAL);
  state.words[1] = 77;
  CHECK(gup_iter_restore(&iter, &state) == -EINVAL);
  // Index, offset, count, and what lies behind: each in its own range.
  const int64_t places[][4] = {{0, INT64_MIN, PAGE, INT64_MIN}, {0, -PAGE, 3 * PAGE, -PAGE},
                               {0, 0, -1, 0}, {0, 0, INT64_MIN, 0}, {0, 0, INT64_MAX, 0},
                               {0, INT64_MAX, 0, INT64_MAX}, {INT64_MIN, 0, PAGE, 0}};
  for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
    memcpy(&state, places[i], sizeof state);
    CHECK(gup_iter_restore(&iter, &state) == -EINVAL);
  }
  CHECK(gup_iter_count(&iter) == 2 * PAGE && !pages);
  CHECK(gup_mm_destroy(it.mm) == 0);
  it.mm = NULL;
  CHECK(gup_iter_count(&iter) == 0);
  CHECK(gup_iter_extract_pages(&iter, &pages, PAGE, 1, 0, &offset) == -EINVAL);
  return scene_close(&it);
}
