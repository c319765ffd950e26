//===----------------------------------------------------------------------===//
// Part of gup/linux.h, which see: iterators, what they are made of, and extraction.
//===----------------------------------------------------------------------===//
#ifndef GUP_LINUX_ITER_H
#define GUP_LINUX_ITER_H

#ifdef __cplusplus
extern "C" {
#endif

//===--- Segments, indices, pipes, queues ---------------------------------===//

struct bio_vec {
  struct page *bv_page;
  size_t bv_len;
  size_t bv_offset;
};
struct kvec {
  void *iov_base;
  size_t iov_len;
};
static inline void bvec_set_page(struct bio_vec *bv, struct page *page, unsigned int len,
                                 unsigned int offset) {
  bv->bv_page = page;
  bv->bv_len = len;
  bv->bv_offset = offset;
}

struct xarray {
  gup_xarray *gup;
};
/// Makes an index of `current`'s machine; xa_destroy ends it.
static inline void xa_init(struct xarray *xa) {
  xa->gup = GUP_LINUX_NOTHING;
  (void)gup_xarray_create(gup_linux_task.machine, &xa->gup);
}
static inline void xa_destroy(struct xarray *xa) {
  (void)gup_xarray_destroy(xa->gup);
  xa->gup = GUP_LINUX_NOTHING;
}
/// An integer of 63 bits in place of a page.
static inline void *xa_mk_value(unsigned long value) {
  return (void *)(uintptr_t)(value << 1 | 1);
}
static inline bool xa_is_value(const void *entry) { return ((uintptr_t)entry & 1) != 0; }
static inline unsigned long xa_to_value(const void *entry) {
  return (unsigned long)((uintptr_t)entry >> 1);
}
/// An error in place of an entry.
static inline bool xa_is_err(const void *entry) {
  return ((uintptr_t)entry & 3) == 2 && (intptr_t)entry < 0 && (intptr_t)entry >= -4095 * 4;
}
static inline int xa_err(const void *entry) {
  return xa_is_err(entry) ? (int)((intptr_t)entry >> 2) : 0;
}

typedef unsigned int xa_mark_t;
/// All that is there; there are no marks.
#define XA_PRESENT ((xa_mark_t)8)

/// The first entry from `*index` to `max`, whose index `*index` is afterwards.
static inline void *xa_find(struct xarray *xa, unsigned long *index, unsigned long max,
                            xa_mark_t filter) {
  struct gup_xarray_entry found;
  if (filter != XA_PRESENT || gup_xarray_find(xa->gup, *index, max, &found) != 1)
    return GUP_LINUX_NOTHING;
  if (*index < found.index) *index = (unsigned long)found.index;
  return found.is_value ? xa_mk_value((unsigned long)found.value) : (void *)found.page;
}
/// The same behind the entry that covers `*index`.
static inline void *xa_find_after(struct xarray *xa, unsigned long *index, unsigned long max,
                                  xa_mark_t filter) {
  struct gup_xarray_entry here;
  unsigned long last = *index;
  if (gup_xarray_find(xa->gup, last, last, &here) == 1)
    last = (unsigned long)here.index | ((1ul << here.order) - 1);
  if (last >= max) return GUP_LINUX_NOTHING;
  unsigned long next = last + 1;
  void *entry = xa_find(xa, &next, max, filter);
  if (entry) *index = next;
  return entry;
}
#define xa_for_each_range(xa, index, entry, start, last)                                  \
  for ((index) = (start),                                                                 \
      (entry) = (__typeof__(entry))xa_find((xa), &(index), (last), XA_PRESENT);           \
       (entry) != GUP_LINUX_NOTHING;                                                      \
       (entry) = (__typeof__(entry))xa_find_after((xa), &(index), (last), XA_PRESENT))
#define xa_for_each_start(xa, index, entry, start) \
  xa_for_each_range(xa, index, entry, start, ULONG_MAX)
#define xa_for_each(xa, index, entry) xa_for_each_start(xa, index, entry, 0)

static inline void *xa_load(struct xarray *xa, unsigned long index) {
  return xa_find(xa, &index, index, XA_PRESENT);
}
static inline bool xa_empty(struct xarray *xa) {
  unsigned long index = 0;
  return !xa_find(xa, &index, ULONG_MAX, XA_PRESENT);
}
/// The entry that was there; xa_err() tells an error. One thread at a time stores.
static inline void *xa_store(struct xarray *xa, unsigned long index, void *entry, gfp_t gfp) {
  void *old = xa_load(xa, index);
  int error = xa_is_value(entry)
                  ? gup_xarray_store_value(xa->gup, index, xa_to_value(entry))
                  : gup_xarray_store(xa->gup, index, 0, (gup_page *)entry);
  (void)gfp;
  return error == 0 ? old : (void *)((intptr_t)error * 4 + 2);
}
static inline void *xa_erase(struct xarray *xa, unsigned long index) {
  return xa_store(xa, index, GUP_LINUX_NOTHING, GFP_KERNEL);
}
/// Makes a later xa_store at a hole sure to succeed.
static inline int xa_reserve(struct xarray *xa, unsigned long index, gfp_t gfp) {
  (void)gfp;
  return gup_xarray_reserve(xa->gup, index);
}

#define PAGEVEC_SIZE 31
struct folio_queue {
  struct gup_folioq_slot slots[PAGEVEC_SIZE];
  unsigned int nr;
};
static inline void folioq_init(struct folio_queue *folioq) { folioq->nr = 0; }
static inline unsigned int folioq_nr_slots(const struct folio_queue *folioq) {
  (void)folioq;
  return PAGEVEC_SIZE;
}
static inline unsigned int folioq_count(const struct folio_queue *folioq) { return folioq->nr; }
static inline bool folioq_full(const struct folio_queue *folioq) {
  return folioq->nr == PAGEVEC_SIZE;
}
/// The slot that the folio got. The queue is not full, and it is a folio.
static inline unsigned int folioq_append(struct folio_queue *folioq, struct folio *folio) {
  if (folioq->nr < PAGEVEC_SIZE &&
      gup_folio_slot((gup_page *)(void *)folio, &folioq->slots[folioq->nr]) == 0)
    folioq->nr++;
  return folioq->nr - 1;
}
static inline struct folio *folioq_folio(const struct folio_queue *folioq, unsigned int slot) {
  return slot < folioq->nr ? (struct folio *)(void *)folioq->slots[slot].head : GUP_LINUX_NOTHING;
}

struct pipe_inode_info {
  gup_pipe *gup;
};
/// A ring of 16 buffers, or NULL; free_pipe_info ends it.
static inline struct pipe_inode_info *alloc_pipe_info(void) {
  struct pipe_inode_info *pipe = (struct pipe_inode_info *)malloc(sizeof *pipe);
  if (pipe && gup_pipe_create(gup_linux_task.machine, 0, &pipe->gup) != 0) {
    free(pipe);
    pipe = GUP_LINUX_NOTHING;
  }
  return pipe;
}
static inline void free_pipe_info(struct pipe_inode_info *pipe) {
  (void)gup_pipe_destroy(pipe->gup);
  free(pipe);
}

//===--- Iterators --------------------------------------------------------===//

#ifndef READ
#define READ 0
#define WRITE 1
#endif
#define ITER_DEST 0
#define ITER_SOURCE 1

struct iov_iter {
  gup_iter gup;
};
struct iov_iter_state {
  gup_iter_state gup;
};
typedef unsigned int iov_iter_extraction_t;
#define ITER_ALLOW_P2PDMA ((iov_iter_extraction_t)GUP_EXTRACT_P2PDMA)

#ifdef GUP_LINUX_RFC
#define GUP_LINUX_DIALECT GUP_RFC
#else
#define GUP_LINUX_DIALECT GUP_UPSTREAM
#endif

static inline unsigned gup_linux_aim(unsigned direction) {
  return (direction & 1u) | (unsigned)GUP_LINUX_DIALECT;
}
/// An iterator that could not be made is none.
static inline void gup_linux_made(struct iov_iter *i, int error) {
  if (error != 0) memset(i, 0, sizeof *i);
}

static inline void iov_iter_ubuf(struct iov_iter *i, unsigned int direction, void __user *buf,
                                 size_t count) {
  gup_linux_made(i, gup_iter_ubuf(&i->gup, gup_linux_mm(), gup_linux_aim(direction),
                                  (uintptr_t)buf, count));
}
static inline void iov_iter_init(struct iov_iter *i, unsigned int direction,
                                 const struct iovec *iov, unsigned long nr_segs, size_t count) {
  gup_linux_made(i, gup_iter_iovec(&i->gup, gup_linux_mm(), gup_linux_aim(direction),
                                   (const struct gup_iovec *)(const void *)iov, nr_segs, count));
}
static inline void iov_iter_bvec(struct iov_iter *i, unsigned int direction,
                                 const struct bio_vec *bvec, unsigned long nr_segs,
                                 size_t count) {
  gup_linux_made(i, gup_iter_bvec(&i->gup, gup_linux_task.machine, gup_linux_aim(direction),
                                  (const struct gup_bvec *)(const void *)bvec, nr_segs, count));
}
static inline void iov_iter_kvec(struct iov_iter *i, unsigned int direction,
                                 const struct kvec *kvec, unsigned long nr_segs, size_t count) {
  gup_linux_made(i, gup_iter_kvec(&i->gup, gup_linux_task.machine, gup_linux_aim(direction),
                                  (const struct gup_kvec *)(const void *)kvec, nr_segs, count));
}
static inline void iov_iter_xarray(struct iov_iter *i, unsigned int direction, struct xarray *xa,
                                   loff_t start, size_t count) {
  gup_linux_made(i, gup_iter_xarray(&i->gup, xa->gup, gup_linux_aim(direction), (uint64_t)start,
                                    count));
}
static inline void iov_iter_folio_queue(struct iov_iter *i, unsigned int direction,
                                        const struct folio_queue *folioq,
                                        unsigned int first_slot, unsigned int offset,
                                        size_t count) {
  gup_linux_made(i, gup_iter_folioq(&i->gup, gup_linux_task.machine, gup_linux_aim(direction),
                                    folioq->slots, folioq->nr, first_slot, offset, count));
}
static inline void iov_iter_pipe(struct iov_iter *i, unsigned int direction,
                                 struct pipe_inode_info *pipe, size_t count) {
  gup_linux_made(i, gup_iter_pipe(&i->gup, pipe->gup, gup_linux_aim(direction), count));
}
static inline void iov_iter_discard(struct iov_iter *i, unsigned int direction, size_t count) {
  gup_linux_made(i, gup_iter_discard(&i->gup, gup_linux_task.machine, gup_linux_aim(direction),
                                     count));
}
static inline int import_ubuf(int rw, void __user *buf, size_t len, struct iov_iter *i) {
  int error = gup_iter_import_ubuf(&i->gup, gup_linux_mm(), gup_linux_aim((unsigned)rw),
                                   (uintptr_t)buf, len);
  gup_linux_made(i, error);
  return error;
}

#define UIO_FASTIOV 8
/// Reads segments from user memory: into `*iovp`, where that has room for them, or
/// into a list that `*iovp` is afterwards, for kfree; NULL otherwise. The bytes.
static inline ssize_t import_iovec(int rw, const struct iovec __user *uvec, unsigned int nr_segs,
                                   unsigned int fast_segs, struct iovec **iovp,
                                   struct iov_iter *i) {
  struct iovec *list = *iovp, *made = GUP_LINUX_NOTHING;
  int error = 0;
  *iovp = GUP_LINUX_NOTHING;
  if (nr_segs > fast_segs) {
    list = made = (struct iovec *)kmalloc_array(nr_segs, sizeof *made, GFP_KERNEL);
    if (!made) error = -ENOMEM;
  }
  struct gup_iovec *segments = (struct gup_iovec *)(void *)list;
  if (error == 0)
    error = gup_iovec_from_user(gup_linux_mm(), (uintptr_t)uvec, nr_segs, segments);
  if (error == 0)
    error = gup_iter_import_iovec(&i->gup, gup_linux_mm(), gup_linux_aim((unsigned)rw), segments,
                                  nr_segs);
  gup_linux_made(i, error);
  if (error != 0) {
    kfree(made);
    return error;
  }
  *iovp = made;
  return (ssize_t)gup_iter_count(&i->gup);
}

static inline size_t iov_iter_count(const struct iov_iter *i) { return gup_iter_count(&i->gup); }
static inline void iov_iter_advance(struct iov_iter *i, size_t bytes) {
  (void)gup_iter_advance(&i->gup, bytes);
}
static inline void iov_iter_revert(struct iov_iter *i, size_t bytes) {
  (void)gup_iter_revert(&i->gup, bytes);
}
static inline void iov_iter_truncate(struct iov_iter *i, uint64_t count) {
  (void)gup_iter_truncate(&i->gup, (size_t)count);
}
static inline void iov_iter_reexpand(struct iov_iter *i, size_t count) {
  (void)gup_iter_reexpand(&i->gup, count);
}
static inline void iov_iter_save_state(struct iov_iter *i, struct iov_iter_state *state) {
  (void)gup_iter_save(&i->gup, &state->gup);
}
static inline void iov_iter_restore(struct iov_iter *i, struct iov_iter_state *state) {
  (void)gup_iter_restore(&i->gup, &state->gup);
}
static inline int iov_iter_npages(const struct iov_iter *i, int maxpages) {
  int64_t pages = gup_iter_npages(&i->gup, maxpages);
  return pages < 0 ? 0 : (int)pages;
}
static inline bool iov_iter_is_aligned(const struct iov_iter *i, unsigned addr_mask,
                                       unsigned len_mask) {
  return gup_iter_is_aligned(&i->gup, addr_mask, len_mask) == 1;
}
static inline unsigned long iov_iter_alignment(const struct iov_iter *i) {
  return (unsigned long)gup_iter_alignment(&i->gup);
}
static inline unsigned long iov_iter_gap_alignment(const struct iov_iter *i) {
  return (unsigned long)gup_iter_gap_alignment(&i->gup);
}
static inline struct gup_iter_info gup_linux_info(const struct iov_iter *i) {
  struct gup_iter_info info;
  memset(&info, 0, sizeof info);
  info.kind = -1;
  (void)gup_iter_get_info(&i->gup, &info);
  return info;
}
static inline unsigned char iov_iter_rw(const struct iov_iter *i) {
  return (unsigned char)gup_linux_info(i).direction;
}
static inline bool user_backed_iter(const struct iov_iter *i) {
  int kind = gup_linux_info(i).kind;
  return kind == GUP_ITER_UBUF || kind == GUP_ITER_IOVEC;
}
static inline bool iter_is_ubuf(const struct iov_iter *i) {
  return gup_linux_info(i).kind == GUP_ITER_UBUF;
}
static inline bool iter_is_iovec(const struct iov_iter *i) {
  return gup_linux_info(i).kind == GUP_ITER_IOVEC;
}
static inline bool iov_iter_is_bvec(const struct iov_iter *i) {
  return gup_linux_info(i).kind == GUP_ITER_BVEC;
}
static inline bool iov_iter_is_kvec(const struct iov_iter *i) {
  return gup_linux_info(i).kind == GUP_ITER_KVEC;
}
static inline bool iov_iter_is_xarray(const struct iov_iter *i) {
  return gup_linux_info(i).kind == GUP_ITER_XARRAY;
}
static inline bool iov_iter_is_folioq(const struct iov_iter *i) {
  return gup_linux_info(i).kind == GUP_ITER_FOLIOQ;
}
static inline bool iov_iter_is_pipe(const struct iov_iter *i) {
  return gup_linux_info(i).kind == GUP_ITER_PIPE;
}
static inline bool iov_iter_is_discard(const struct iov_iter *i) {
  return gup_linux_info(i).kind == GUP_ITER_DISCARD;
}

/// Bytes moved; 0 when none could be.
static inline size_t gup_linux_moved(int64_t result) { return result < 0 ? 0 : (size_t)result; }

static inline size_t copy_to_iter(const void *from, size_t bytes, struct iov_iter *i) {
  return gup_linux_moved(gup_iter_copy_to(&i->gup, from, bytes));
}
static inline size_t copy_from_iter(void *to, size_t bytes, struct iov_iter *i) {
  return gup_linux_moved(gup_iter_copy_from(&i->gup, to, bytes));
}
static inline size_t iov_iter_zero(size_t bytes, struct iov_iter *i) {
  return gup_linux_moved(gup_iter_zero(&i->gup, bytes));
}
static inline size_t copy_page_to_iter(struct page *page, size_t offset, size_t bytes,
                                       struct iov_iter *i) {
  return gup_linux_moved(
      gup_iter_copy_page_to(&i->gup, gup_linux_page(page), offset, bytes));
}

/// Into the page and those behind it in its folio; no byte where they do not fit.
static inline size_t copy_page_from_iter(struct page *page, size_t offset, size_t bytes,
                                         struct iov_iter *i) {
  size_t start = (page_to_pfn(page) - page_to_pfn(compound_head(page))) * PAGE_SIZE;
  size_t room = page_size(page) - start;
  if (!page_address(page) || offset > room || bytes > room - offset) return 0;
  return copy_from_iter((char *)page_address(page) + offset, bytes, i);
}
/// All the bytes, or none, and the iterator has not moved.
static inline bool copy_from_iter_full(void *to, size_t bytes, struct iov_iter *i) {
  size_t moved = copy_from_iter(to, bytes, i);
  if (moved == bytes) return true;
  iov_iter_revert(i, moved);
  return false;
}

//===--- Extraction -------------------------------------------------------===//

#ifdef GUP_LINUX_RFC
/// 0, FOLL_GET or FOLL_PIN.
static inline unsigned int iov_iter_extract_mode(const struct iov_iter *i) {
  int mode = gup_iter_extract_mode(&i->gup);
  return mode == GUP_PINNED ? FOLL_PIN : mode == GUP_REFERENCED ? FOLL_GET : 0;
}
GUP_LINUX_API ssize_t iov_iter_extract_pages(struct iov_iter *i, struct page ***pages,
                                             size_t maxsize, unsigned int maxpages,
                                             size_t *offset0) {
  return (ssize_t)gup_iter_extract_pages(&i->gup, (gup_page ***)(void *)pages, maxsize, maxpages,
                                         0, offset0);
}
#else
GUP_LINUX_API ssize_t iov_iter_extract_pages(struct iov_iter *i, struct page ***pages,
                                             size_t maxsize, unsigned int maxpages,
                                             iov_iter_extraction_t extraction_flags,
                                             size_t *offset0) {
  return (ssize_t)gup_iter_extract_pages(&i->gup, (gup_page ***)(void *)pages, maxsize, maxpages,
                                         extraction_flags, offset0);
}
#endif
static inline bool iov_iter_extract_will_pin(const struct iov_iter *i) {
  return gup_iter_extract_mode(&i->gup) == GUP_PINNED;
}

#ifdef __cplusplus
}
#endif

#endif
