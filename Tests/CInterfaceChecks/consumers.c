//===----------------------------------------------------------------------===//
// What extraction is for: values that own, bvecs, scatter lists, bios, devices.
//===----------------------------------------------------------------------===//
#include "support.h"

int check_extraction_values(void) {
  scene it;
  PASS(scene_open(&it, 4));
  gup_iter iter;
  gup_extraction taken;
  struct gup_page_state state;
  CHECK(gup_iter_ubuf(&iter, it.mm, GUP_DEST, it.at + 1, 2 * PAGE) == 0);
  CHECK(gup_iter_extract(&iter, SIZE_MAX, 1, 0, &taken) == PAGE - 1);
  CHECK(taken.page_count == 1 && taken.offset == 1 && taken.length == PAGE - 1);
  CHECK(taken.retention == GUP_PINNED && taken.direction == GUP_DEST);
  CHECK(taken.stop.reason == GUP_STOP_PAGES && taken.stop.error == 0);
  gup_page *page = taken.pages[0];
  CHECK(gup_extraction_release(&taken, true) == 0);
  CHECK(gup_extraction_release(&taken, true) == -EINVAL);
  CHECK(gup_extraction_release(NULL, true) == -EINVAL);
  CHECK(gup_page_get_state(page, &state) == 0 && state.pins == 0 && state.is_dirty);
  // All or nothing, and where the buffer ends.
  CHECK(gup_iter_ubuf(&iter, it.mm, GUP_DEST, it.at + 3 * PAGE, 2 * PAGE) == 0);
  CHECK(gup_iter_extract_exactly(&iter, 2 * PAGE, SIZE_MAX, 0, &taken) == -EFAULT);
  CHECK(gup_iter_count(&iter) == 2 * PAGE);
  CHECK(gup_iter_extract(&iter, SIZE_MAX, SIZE_MAX, 0, &taken) == PAGE);
  CHECK(taken.stop.reason == GUP_STOP_FAULT && taken.stop.error == -EFAULT);
  CHECK(taken.stop.value == it.at + 4 * PAGE);
  CHECK(gup_extraction_release(&taken, false) == 0);
  // An empty one holds nothing and is released as any other.
  CHECK(gup_iter_extract(&iter, 0, SIZE_MAX, 0, &taken) == 0 && taken.pages == NULL);
  CHECK(gup_extraction_release(&taken, false) == 0);
  return scene_close(&it);
}

int check_bvecs(void) {
  scene it;
  PASS(scene_open(&it, 4));
  struct gup_iovec split[] = {{it.at + 100, 200}, {it.at + 300, PAGE}};
  gup_iter iter;
  gup_bvecs *bvecs;
  struct gup_bvec bvec;
  CHECK(gup_iter_iovec(&iter, it.mm, GUP_DEST, split, 2, PAGE + 200) == 0);
  CHECK(gup_iter_extract_bvecs(&iter, SIZE_MAX, SIZE_MAX, 0, false, &bvecs) == PAGE + 200);
  CHECK(gup_bvecs_count(bvecs) == 2);
  CHECK(gup_bvecs_get(bvecs, 0, &bvec) == 0 && bvec.offset == 100 && bvec.length == PAGE - 100);
  CHECK(gup_bvecs_get(bvecs, 2, &bvec) == -EINVAL);
  CHECK(gup_bvecs_release(bvecs, true) == 0 && gup_bvecs_release(bvecs, true) == -EINVAL);
  CHECK(gup_iter_ubuf(&iter, it.mm, GUP_DEST, it.at, 5 * PAGE) == 0);
  CHECK(gup_iter_extract_bvecs(&iter, 5 * PAGE, SIZE_MAX, 0, true, &bvecs) == -EFAULT);
  CHECK(gup_iter_extract_bvecs(&iter, 4 * PAGE, SIZE_MAX, 0, true, &bvecs) == 4 * PAGE);
  CHECK(gup_bvecs_release(bvecs, false) == 0);
  CHECK(gup_iter_extract_bvecs(&iter, 1, 1, 0, false, NULL) == -EINVAL);
  return scene_close(&it);
}

int check_detach(void) {
  scene it;
  PASS(scene_open(&it, 3));
  gup_iter iter, inner;
  gup_detached *detached;
  CHECK(gup_iter_ubuf(&iter, it.mm, GUP_DEST | GUP_UPSTREAM, it.at + 5, 2 * PAGE) == 0);
  CHECK(gup_iter_detach(&iter, SIZE_MAX, 0, &detached) == 2 * PAGE);
  CHECK(gup_mm_destroy(it.mm) == 0);
  it.mm = NULL;
  CHECK(gup_detached_iter(detached, &inner) == 0 && gup_iter_count(&inner) == 2 * PAGE);
  CHECK(gup_iter_copy_to(&inner, "abc", 3) == 3);
  gup_page *list[3], **pages = list;
  size_t offset;
  CHECK(gup_iter_extract_pages(&inner, &pages, SIZE_MAX, 3, 0, &offset) == 2 * PAGE - 3);
  CHECK(offset == 8 && memcmp((char *)gup_page_address(list[0]) + 5, "abc", 3) == 0);
  CHECK(gup_machine_destroy(it.machine) == -EBUSY);
  CHECK(gup_detached_release(detached, true) == 0 && gup_iter_count(&inner) == 0);
  CHECK(gup_iter_discard(&iter, it.machine, GUP_DEST, 5) == 0);
  CHECK(gup_iter_detach(&iter, SIZE_MAX, 0, &detached) == -EIO);
  return scene_close(&it);
}

int check_scatter_lists(void) {
  scene it;
  PASS(scene_open(&it, 3));
  gup_sg *sg;
  gup_iter iter;
  struct gup_sg_entry entry;
  CHECK(gup_sg_create(it.machine, SIZE_MAX, &sg) == -ENOMEM);
  CHECK(gup_sg_create(it.machine, 3, &sg) == 0);
  CHECK(gup_iter_ubuf(&iter, it.mm, GUP_DEST, it.at + PAGE + 8, 2 * PAGE) == 0);
  CHECK(gup_iter_extract_to_sg(&iter, sg, SIZE_MAX, SIZE_MAX, 0) == -EFAULT);
  CHECK(gup_sg_count(sg) == 0 && gup_iter_count(&iter) == 2 * PAGE);
  CHECK(gup_iter_extract_to_sg(&iter, sg, 2 * PAGE - 8, SIZE_MAX, 0) == 2 * PAGE - 8);
  CHECK(gup_sg_count(sg) == 2 && gup_sg_mark_end(sg, true) == 0);
  CHECK(gup_sg_get(sg, 0, &entry) == 0 && entry.offset == 8 && entry.length == PAGE - 8);
  CHECK(!entry.is_last && gup_sg_get(sg, 1, &entry) == 0 && entry.is_last && entry.offset == 0);
  CHECK(gup_sg_get(sg, 2, &entry) == -EINVAL);
  CHECK(gup_iter_ubuf(&iter, it.mm, GUP_DEST, it.at, PAGE) == 0);
  CHECK(gup_iter_extract_to_sg(&iter, sg, PAGE, SIZE_MAX, 0) == -EINVAL);
  CHECK(gup_sg_mark_end(sg, false) == 0);
  CHECK(gup_iter_extract_to_sg(&iter, sg, PAGE, SIZE_MAX, 0) == PAGE);
  CHECK(gup_iter_extract_to_sg(&iter, (gup_sg *)(void *)it.mm, PAGE, 1, 0) == -EINVAL);
  CHECK(gup_sg_release(sg, true) == 0 && gup_sg_count(sg) == -EINVAL);
  return scene_close(&it);
}

int check_bios(void) {
  scene it;
  PASS(scene_open(&it, 4));
  gup_bio *bio;
  gup_iter iter;
  struct gup_bvec bvec;
  CHECK(gup_bio_create(it.machine, 4, 3, &bio) == -EINVAL);
  CHECK(gup_bio_create(it.machine, 4, 0, &bio) == 0);
  CHECK(gup_iter_ubuf(&iter, it.mm, GUP_DEST, it.at + 512, 2 * PAGE + 100) == 0);
  CHECK(gup_bio_add_pages(bio, &iter, 0) == 2 * PAGE && gup_bio_length(bio) == 2 * PAGE);
  CHECK(gup_bio_count(bio) == 3 && gup_bio_get(bio, 2, &bvec) == 0 && bvec.length == 512);
  CHECK(gup_bio_get(bio, 3, &bvec) == -EINVAL && gup_bio_mark_dirty(bio) == 0);
  CHECK(gup_bio_get(bio, SIZE_MAX, &bvec) == -EINVAL);
  CHECK(gup_bio_release(bio, true) == 0 && gup_bio_length(bio) == -EINVAL);

  // Bvecs are taken as they are, but for those without bytes and beyond the count.
  gup_page *page;
  CHECK(gup_page_alloc(it.machine, 0, &page) == 0);
  struct gup_bvec segments[] = {{page, 0, 0}, {page, 512, 0}, {page, 0, 9}, {page, 512, 1024},
                                {page, 512, 2048}};
  CHECK(gup_iter_bvec(&iter, it.machine, GUP_DEST, segments, 5, 1000) == 0);
  CHECK(gup_bio_create(it.machine, 4, 0, &bio) == 0);
  CHECK(gup_bio_add_pages(bio, &iter, 0) == 1000 && gup_iter_count(&iter) == 0);
  CHECK(gup_bio_count(bio) == 2 && gup_bio_get(bio, 2, &bvec) == -EINVAL);
  CHECK(gup_bio_get(bio, 0, &bvec) == 0 && bvec.offset == 0 && bvec.length == 512);
  CHECK(gup_bio_get(bio, 1, &bvec) == 0 && bvec.offset == 1024 && bvec.length == 488);
  CHECK(gup_iter_bvec(&iter, it.machine, GUP_DEST, segments, 2, 512) == 0);
  CHECK(gup_bio_add_pages(bio, &iter, 0) == -EINVAL && gup_iter_count(&iter) == 512);
  CHECK(gup_bio_release(bio, true) == 0 && gup_put_page(page) == 0);
  CHECK(gup_bio_create(it.machine, SIZE_MAX, 0, &bio) == -ENOMEM);
  return scene_close(&it);
}

int check_devices(void) {
  scene it;
  PASS(scene_open(&it, 3));
  gup_dma *dma;
  gup_iter iter;
  gup_extraction taken;
  char bytes[PAGE + 8], seen[PAGE + 8];
  memset(bytes, 0x3c, sizeof bytes);
  CHECK(gup_dma_create(it.machine, &dma) == 0);
  CHECK(gup_iter_ubuf(&iter, it.mm, GUP_DEST, it.at + 4, 2 * PAGE) == 0);
  CHECK(gup_iter_extract(&iter, SIZE_MAX, SIZE_MAX, 0, &taken) == 2 * PAGE);
  CHECK(gup_dma_write_extraction(dma, &taken, 10, bytes, sizeof bytes, false) == 0);
  CHECK(gup_dma_read_extraction(dma, &taken, 10, seen, sizeof seen) == 0);
  CHECK(memcmp(bytes, seen, sizeof seen) == 0);
  CHECK(gup_mm_copy_from(it.mm, seen, it.at + 14, sizeof seen) == 0);
  CHECK(memcmp(bytes, seen, sizeof seen) == 0);
  CHECK(gup_dma_write_extraction(dma, &taken, 2 * PAGE - 1, bytes, 2, false) == -EINVAL);
  CHECK(gup_dma_write(dma, taken.pages[0], PAGE - 1, bytes, 2) == -EINVAL);
  CHECK(gup_dma_write(dma, taken.pages[0], PAGE - 1, bytes, 1) == 0);
  CHECK(gup_dma_read(dma, taken.pages[0], 0, seen, PAGE) == 0 && seen[PAGE - 1] == 0x3c);
  CHECK(gup_dma_write(dma, gup_zero_page(it.machine), 0, bytes, 1) == -EACCES);
  CHECK(gup_extraction_release(&taken, true) == 0);
  CHECK(gup_dma_read_extraction(dma, &taken, 0, seen, 1) == -EINVAL);
  CHECK(gup_iter_ubuf(&iter, it.mm, GUP_SOURCE, it.at, PAGE) == 0);
  CHECK(gup_iter_extract(&iter, SIZE_MAX, SIZE_MAX, 0, &taken) == PAGE);
  CHECK(gup_dma_write_extraction(dma, &taken, 0, bytes, 1, false) == -EACCES);
  CHECK(gup_dma_write_extraction(dma, &taken, 0, bytes, 1, true) == 0);
  CHECK(gup_extraction_release(&taken, false) == 0 && gup_dma_destroy(dma) == 0);
  return scene_close(&it);
}
