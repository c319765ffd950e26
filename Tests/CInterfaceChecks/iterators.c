//===----------------------------------------------------------------------===//
// Iterators of all kinds, and extraction of pages.
//===----------------------------------------------------------------------===//
#include "support.h"

int check_ubuf(void) {
  scene it;
  PASS(scene_open(&it, 6));
  static const struct {
    unsigned direction;
    int retention;
  } settings[] = {
      {GUP_DEST | GUP_RFC, GUP_PINNED},
      {GUP_SOURCE | GUP_RFC, GUP_REFERENCED},
      {GUP_DEST | GUP_UPSTREAM, GUP_PINNED},
      {GUP_SOURCE | GUP_UPSTREAM, GUP_PINNED},
  };
  for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) {
    gup_iter iter;
    gup_page *list[6], **pages = list;
    size_t offset = 99;
    CHECK(gup_iter_ubuf(&iter, it.mm, settings[i].direction, it.at + 100, 5 * PAGE) == 0);
    CHECK(gup_iter_extract_mode(&iter) == settings[i].retention);
    CHECK(gup_iter_npages(&iter, 100) == 6 && gup_iter_npages(&iter, 2) == 2);
    // Into the caller's list: two pages, the first from byte 100 on.
    CHECK(gup_iter_extract_pages(&iter, &pages, SIZE_MAX, 2, 0, &offset) == 2 * PAGE - 100);
    CHECK(pages == list && offset == 100 && gup_iter_count(&iter) == 3 * PAGE + 100);
    struct gup_page_state state;
    CHECK(gup_page_get_state(list[1], &state) == 0);
    CHECK(state.references == (settings[i].retention == GUP_PINNED ? 1025 : 2));
    // The rest into a list that the call allocates.
    gup_page **rest = NULL;
    CHECK(gup_iter_extract_pages(&iter, &rest, SIZE_MAX, SIZE_MAX, 0, &offset) == 3 * PAGE + 100);
    CHECK(offset == 0 && rest != NULL && gup_iter_count(&iter) == 0);
    CHECK(gup_iter_extract_pages(&iter, &rest, SIZE_MAX, SIZE_MAX, 0, &offset) == 0);
    if (settings[i].retention == GUP_PINNED) {
      CHECK(gup_unpin_user_pages(list, 2) == 0 && gup_unpin_user_pages(rest, 4) == 0);
    } else {
      CHECK(gup_put_pages(list, 2) == 0 && gup_put_pages(rest, 4) == 0);
    }
    gup_free(rest);
  }
  // The machine's default, and a copy that goes its own way.
  gup_iter iter, copy;
  struct gup_iter_info info;
  CHECK(gup_machine_set_dialect(it.machine, GUP_DIALECT_UPSTREAM) == 0);
  CHECK(gup_iter_import_ubuf(&iter, it.mm, GUP_SOURCE, it.at, PAGE) == 0);
  copy = iter;
  CHECK(gup_iter_advance(&copy, 10) == 0 && gup_iter_set_nofault(&copy, true) == 0);
  CHECK(gup_iter_get_info(&copy, &info) == 0);
  CHECK(info.kind == GUP_ITER_UBUF && info.dialect == GUP_DIALECT_UPSTREAM && info.nofault);
  CHECK(info.direction == GUP_SOURCE && info.offset == 10 && info.count == PAGE - 10);
  CHECK(gup_iter_count(&iter) == PAGE);
  CHECK(gup_iter_is_aligned(&iter, 511, 511) == 1 && gup_iter_is_aligned(&copy, 511, 511) == 0);
  CHECK(gup_iter_alignment(&iter) == (it.at | PAGE) && gup_iter_gap_alignment(&iter) == 0);
  CHECK(gup_iter_import_ubuf(&iter, it.mm, GUP_SOURCE, 1ull << 47, PAGE) == -EFAULT);
  return scene_close(&it);
}

int check_iovec(void) {
  scene it;
  PASS(scene_open(&it, 4));
  struct gup_iovec segments[] = {
      {it.at, 0}, {it.at + 10, 100}, {it.at, 0}, {0, 0}, {it.at + PAGE, 2 * PAGE}, {it.at, 0}};
  gup_iter iter;
  gup_iter_state start;
  gup_page *list[4], **pages = list;
  size_t offset, parts;
  CHECK(gup_iter_iovec(&iter, it.mm, GUP_DEST, segments, 6, 100 + 2 * PAGE) == 0);
  CHECK(gup_iter_save(&iter, &start) == 0);
  CHECK(gup_iter_span(&iter, 0, SIZE_MAX, SIZE_MAX, &parts) == 100 + 2 * PAGE && parts == 3);
  CHECK(gup_iter_extract_pages(&iter, &pages, SIZE_MAX, 4, 0, &offset) == 100 && offset == 10);
  CHECK(gup_unpin_user_page(list[0]) == 0);
  CHECK(gup_iter_extract_pages(&iter, &pages, SIZE_MAX, 4, 0, &offset) == 2 * PAGE);
  CHECK(gup_unpin_user_pages(list, 2) == 0 && gup_iter_count(&iter) == 0);
  CHECK(gup_iter_revert(&iter, 2 * PAGE + 50) == 0);
  CHECK(gup_iter_truncate(&iter, 20) == 0 && gup_iter_count(&iter) == 20);
  CHECK(gup_iter_extract_pages(&iter, &pages, SIZE_MAX, 4, 0, &offset) == 20 && offset == 60);
  CHECK(gup_unpin_user_page(list[0]) == 0);
  CHECK(gup_iter_reexpand(&iter, 30 + 2 * PAGE) == 0);
  CHECK(gup_iter_restore(&iter, &start) == 0 && gup_iter_count(&iter) == 100 + 2 * PAGE);

  // Segments that lie in user memory themselves, and are too long.
  struct gup_iovec named[2] = {{it.at, 0x7ffff000}, {it.at, 0x7ffff000}}, copied[2];
  CHECK(gup_mm_copy_to(it.mm, it.at + 3 * PAGE, named, sizeof named) == 0);
  CHECK(gup_iovec_from_user(it.mm, it.at + 3 * PAGE, 2, copied) == 0);
  CHECK(copied[1].base == it.at && copied[1].length == 0x7ffff000);
  CHECK(gup_iter_import_iovec(&iter, it.mm, GUP_DEST, copied, 2) == 0);
  CHECK(gup_iter_count(&iter) == 0x7ffff000 && copied[1].length == 0);
  CHECK(gup_iovec_from_user(it.mm, it.at + 4 * PAGE, 2, copied) == -EFAULT);
  CHECK(gup_iovec_from_user(it.mm, it.at, 1025, copied) == -EINVAL);
  return scene_close(&it);
}

int check_kernel_kinds(void) {
  scene it;
  PASS(scene_open(&it, 1));
  gup_page *block, *list[8], **pages = list;
  size_t offset;
  gup_iter iter;
  CHECK(gup_page_alloc(it.machine, 2, &block) == 0);
  uint64_t frame = gup_page_frame(block);
  gup_page *third = gup_page_of_frame(it.machine, frame + 2);

  struct gup_bvec bvecs[] = {{block, PAGE, 0}, {block, 0, 5}, {third, 100, 0}};
  CHECK(gup_iter_bvec(&iter, it.machine, GUP_SOURCE | GUP_RFC, bvecs, 3, PAGE + 100) == 0);
  CHECK(gup_iter_extract_pages(&iter, &pages, SIZE_MAX, 8, 0, &offset) == PAGE);
  CHECK(list[0] == block && gup_iter_count(&iter) == 100);
  CHECK(gup_iter_bvec(&iter, it.machine, GUP_SOURCE | GUP_UPSTREAM, bvecs, 3, PAGE + 100) == 0);
  CHECK(gup_iter_extract_pages(&iter, &pages, SIZE_MAX, 8, 0, &offset) == PAGE + 100);
  CHECK(list[0] == block && list[1] == third);

  gup_page *scattered[] = {third, block};
  gup_vmap *vmap;
  CHECK(gup_vmap_create(it.machine, scattered, 2, &vmap) == 0);
  char *address = gup_vmap_address(vmap);
  CHECK(gup_page_of_address(it.machine, address + PAGE) == block);
  struct gup_kvec kvecs[] = {{address + 100, PAGE}};
  CHECK(gup_iter_kvec(&iter, it.machine, GUP_DEST, kvecs, 1, PAGE) == 0);
  CHECK(gup_iter_extract_pages(&iter, &pages, SIZE_MAX, 8, 0, &offset) == PAGE && offset == 100);
  CHECK(list[0] == third && list[1] == block);
  CHECK(gup_iter_kvec(&iter, it.machine, GUP_DEST | GUP_RFC, kvecs, 1, PAGE) == 0);
  CHECK(gup_iter_extract_pages(&iter, &pages, SIZE_MAX, 8, 0, &offset) == -EFAULT);

  gup_xarray *xarray;
  CHECK(gup_xarray_create(it.machine, &xarray) == 0);
  CHECK(gup_xarray_store(xarray, 7, 0, third) == 0 && gup_xarray_load(xarray, 7) == third);
  CHECK(gup_xarray_store_value(xarray, 9, 5) == 0 && gup_xarray_load(xarray, 9) == NULL);
  CHECK(gup_xarray_reserve(xarray, 8) == 0 && gup_xarray_load(xarray, 8) == NULL);
  CHECK(gup_xarray_store_value(xarray, 9, UINT64_MAX) == -EINVAL);
  struct gup_xarray_entry entry;
  CHECK(gup_xarray_find(xarray, 8, UINT64_MAX, &entry) == 1 && entry.index == 9);
  CHECK(entry.is_value && entry.value == 5 && entry.page == NULL && entry.order == 0);
  CHECK(gup_xarray_find(xarray, 0, 7, &entry) == 1 && entry.page == third && !entry.is_value);
  CHECK(gup_xarray_find(xarray, 0, 6, &entry) == 0 && entry.page == third);
  CHECK(gup_xarray_find(xarray, 10, UINT64_MAX, &entry) == 0);
  CHECK(gup_xarray_find(xarray, 0, 0, NULL) == -EINVAL);
  CHECK(gup_xarray_find(NULL, 0, 0, &entry) == -EINVAL);
  CHECK(gup_xarray_store(xarray, 7, 10, third) == -EINVAL);
  CHECK(gup_xarray_store(xarray, 7, 0, (gup_page *)(void *)&iter) == -EINVAL);
  CHECK(gup_iter_xarray(&iter, xarray, GUP_DEST, 7 * PAGE + 8, 2 * PAGE) == 0);
  gup_extraction taken;
  CHECK(gup_iter_extract(&iter, SIZE_MAX, SIZE_MAX, 0, &taken) == PAGE - 8);
  CHECK(taken.page_count == 1 && taken.pages[0] == third && taken.offset == 8);
  CHECK(taken.stop.reason == GUP_STOP_ENTRY && taken.stop.value == 8);
  CHECK(gup_extraction_release(&taken, false) == 0);
  CHECK(gup_xarray_store(xarray, 7, 0, NULL) == 0);
  CHECK(gup_iter_revert(&iter, PAGE - 8) == 0);
  CHECK(gup_iter_extract_pages(&iter, &pages, SIZE_MAX, 8, 0, &offset) == 0);
  CHECK(gup_xarray_destroy(xarray) == 0 && gup_iter_count(&iter) == 0);

  struct gup_folioq_slot queue[1];
  CHECK(gup_folio_slot(third, queue) == -EINVAL && gup_folio_slot(block, queue) == 0);
  CHECK(gup_iter_folioq(&iter, it.machine, GUP_DEST, queue, 1, 0, 4, 4 * PAGE - 4) == 0);
  CHECK(gup_iter_extract_pages(&iter, &pages, SIZE_MAX, 8, 0, &offset) == 4 * PAGE - 4);
  CHECK(offset == 4 && list[2] == third);
  CHECK(gup_iter_folioq(&iter, it.machine, GUP_DEST, queue, 1, 2, 0, 0) == -EINVAL);

  CHECK(gup_iter_discard(&iter, it.machine, GUP_DEST, PAGE) == 0);
  CHECK(gup_iter_extract_pages(&iter, &pages, SIZE_MAX, 8, 0, &offset) == -EFAULT);
  CHECK(gup_iter_advance(&iter, 5) == 0 && gup_iter_count(&iter) == PAGE - 5);
  CHECK(gup_vmap_destroy(vmap) == 0 && gup_put_page(block) == 0);
  return scene_close(&it);
}

int check_pipe(void) {
  scene it;
  PASS(scene_open(&it, 1));
  gup_pipe *pipe;
  gup_iter iter;
  char bytes[16];
  CHECK(gup_pipe_create(it.machine, (1u << 20) + 1, &pipe) == -EINVAL);
  CHECK(gup_pipe_create(it.machine, 2, &pipe) == 0);
  CHECK(gup_iter_pipe(&iter, pipe, GUP_SOURCE, PAGE) == -EINVAL);
  CHECK(gup_iter_pipe(&iter, pipe, GUP_DEST, 4 * PAGE) == 0);
  gup_extraction taken;
  CHECK(gup_iter_extract(&iter, 3 * PAGE, SIZE_MAX, 0, &taken) == 2 * PAGE);
  CHECK(taken.retention == GUP_UNRETAINED && taken.stop.reason == GUP_STOP_RING_FULL);
  CHECK(gup_pipe_bytes(pipe) == 2 * PAGE && gup_pipe_buffers(pipe) == 2);
  CHECK(gup_iter_revert(&iter, PAGE) == 0 && gup_pipe_hazards(pipe) == 1);
  CHECK(gup_extraction_release(&taken, false) == 0);
  CHECK(gup_iter_revert(&iter, PAGE) == 0 && gup_pipe_hazards(pipe) == 1);
  CHECK(gup_iter_copy_to(&iter, "hello", 5) == 5 && gup_pipe_bytes(pipe) == 5);
  CHECK(gup_pipe_write(pipe, ", world", 7) == 7);
  CHECK(gup_pipe_read(pipe, bytes, sizeof bytes) == 12 && memcmp(bytes, "hello, world", 12) == 0);
  CHECK(gup_pipe_read(pipe, bytes, sizeof bytes) == 0);
  CHECK(gup_pipe_write(pipe, NULL, 1) == -EINVAL);
  CHECK(gup_pipe_destroy(pipe) == 0 && gup_pipe_bytes(pipe) == -EINVAL);
  CHECK(gup_iter_copy_to(&iter, "x", 1) == -EINVAL);

  // It follows the machine; the upstream dialect extracts from none.
  struct gup_iter_info info;
  CHECK(gup_pipe_create(it.machine, 2, &pipe) == 0);
  CHECK(gup_machine_set_dialect(it.machine, GUP_DIALECT_UPSTREAM) == 0);
  CHECK(gup_iter_pipe(&iter, pipe, GUP_DEST, PAGE) == 0 && gup_iter_get_info(&iter, &info) == 0);
  CHECK(info.dialect == GUP_DIALECT_UPSTREAM);
  CHECK(gup_iter_extract(&iter, PAGE, SIZE_MAX, 0, &taken) == -EFAULT);
  CHECK(gup_iter_pipe(&iter, pipe, GUP_DEST | GUP_RFC, PAGE) == 0);
  CHECK(gup_iter_extract(&iter, PAGE, SIZE_MAX, 0, &taken) == PAGE);
  CHECK(gup_extraction_release(&taken, false) == 0 && gup_pipe_destroy(pipe) == 0);
  return scene_close(&it);
}

int check_copies(void) {
  scene it;
  PASS(scene_open(&it, 2));
  char text[] = "through an iterator", seen[sizeof text];
  struct gup_iovec split[] = {{it.at + PAGE - 3, 7}, {it.at, sizeof text - 7}};
  gup_iter iter;
  CHECK(gup_iter_iovec(&iter, it.mm, GUP_DEST, split, 2, sizeof text) == 0);
  CHECK(gup_iter_copy_from(&iter, seen, 1) == -EINVAL);
  CHECK(gup_iter_copy_to(&iter, text, sizeof text) == (int64_t)sizeof text);
  CHECK(gup_iter_iovec(&iter, it.mm, GUP_SOURCE, split, 2, sizeof text) == 0);
  CHECK(gup_iter_copy_from(&iter, seen, 100) == (int64_t)sizeof text);
  CHECK(memcmp(seen, text, sizeof text) == 0);
  gup_page *page;
  CHECK(gup_page_alloc(it.machine, 0, &page) == 0);
  memcpy((char *)gup_page_address(page) + 10, text, sizeof text);
  CHECK(gup_iter_ubuf(&iter, it.mm, GUP_DEST, it.at, PAGE) == 0);
  CHECK(gup_iter_copy_page_to(&iter, page, 10, sizeof text) == (int64_t)sizeof text);
  CHECK(gup_iter_copy_page_to(&iter, page, 10, PAGE) == -EINVAL);
  CHECK(gup_iter_zero(&iter, 5) == 5);
  CHECK(gup_mm_copy_from(it.mm, seen, it.at, sizeof seen) == 0 && strcmp(seen, text) == 0);
  // A fault ends a copy; what came before it is a result.
  CHECK(gup_iter_ubuf(&iter, it.mm, GUP_DEST, it.at + 2 * PAGE - 4, 100) == 0);
  CHECK(gup_iter_copy_to(&iter, text, sizeof text) == 4);
  CHECK(gup_iter_copy_to(&iter, text, sizeof text) == -EFAULT);
  CHECK(gup_put_page(page) == 0);
  return scene_close(&it);
}
