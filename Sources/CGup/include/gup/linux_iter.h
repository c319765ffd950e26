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
static inline void *xa_load(struct xarray *xa, unsigned long index) {
  return gup_xarray_load(xa->gup, index);
}
/// The page that was there; xa_err() tells an error.
static inline void *xa_store(struct xarray *xa, unsigned long index, void *entry, gfp_t gfp) {
  void *old = gup_xarray_load(xa->gup, index);
  int error = gup_xarray_store(xa->gup, index, 0, (gup_page *)entry);
  (void)gfp;
  return error == 0 ? old : (void *)(intptr_t)error;
}
static inline void *xa_erase(struct xarray *xa, unsigned long index) {
  return xa_store(xa, index, GUP_LINUX_NOTHING, GFP_KERNEL);
}
static inline int xa_err(const void *entry) {
  return (intptr_t)entry < 0 && (intptr_t)entry >= -4095 ? (int)(intptr_t)entry : 0;
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

//===--- Extraction -------------------------------------------------------===//

#ifdef GUP_LINUX_RFC
/// 0, FOLL_GET or FOLL_PIN.
static inline unsigned int iov_iter_extract_mode(const struct iov_iter *i) {
  int mode = gup_iter_extract_mode(&i->gup);
  return mode == GUP_PINNED ? FOLL_PIN : mode == GUP_REFERENCED ? FOLL_GET : 0;
}
static inline ssize_t iov_iter_extract_pages(struct iov_iter *i, struct page ***pages,
                                             size_t maxsize, unsigned int maxpages,
                                             size_t *offset0) {
  return (ssize_t)gup_iter_extract_pages(&i->gup, (gup_page ***)(void *)pages, maxsize, maxpages,
                                         0, offset0);
}
#else
static inline ssize_t iov_iter_extract_pages(struct iov_iter *i, struct page ***pages,
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

//===--- Scatter lists ----------------------------------------------------===//

/// An entry; page_link's low bit 1 marks the end, as sg_mark_end sets it.
struct scatterlist {
  unsigned long page_link;
  unsigned int offset;
  unsigned int length;
};
struct sg_table {
  struct scatterlist *sgl;
  unsigned int nents;
  unsigned int orig_nents;
};
#define for_each_sg(sglist, sg, nr, i) \
  for ((i) = 0, (sg) = (sglist); (i) < (nr); (i)++, (sg) = sg_next(sg))

static inline void sg_init_table(struct scatterlist *sgl, unsigned int nents) {
  memset(sgl, 0, sizeof *sgl * nents);
  if (nents > 0) sgl[nents - 1].page_link = 2;
}
static inline bool sg_is_last(const struct scatterlist *sg) { return (sg->page_link & 2) != 0; }
static inline struct scatterlist *sg_next(struct scatterlist *sg) {
  return sg_is_last(sg) ? GUP_LINUX_NOTHING : sg + 1;
}
static inline void sg_mark_end(struct scatterlist *sg) { sg->page_link |= 2; }
static inline void sg_unmark_end(struct scatterlist *sg) { sg->page_link &= ~2ul; }
static inline struct page *sg_page(const struct scatterlist *sg) {
  return (struct page *)(uintptr_t)(sg->page_link & ~3ul);
}
static inline void sg_set_page(struct scatterlist *sg, struct page *page, unsigned int len,
                               unsigned int offset) {
  sg->page_link = (sg->page_link & 3) | (unsigned long)(uintptr_t)page;
  sg->offset = offset;
  sg->length = len;
}
static inline void *sg_virt(const struct scatterlist *sg) {
  return (char *)page_address(sg_page(sg)) + sg->offset;
}

/// Adds entries from `nents` on, at most `sg_max` of them; one a page, or a
/// bvec's or folio's part of a page. Returns the bytes. All or none.
static inline ssize_t extract_iter_to_sg(struct iov_iter *i, size_t maxsize,
                                         struct sg_table *sgtable, unsigned int sg_max,
                                         iov_iter_extraction_t extraction_flags) {
  int64_t done = 0;
  unsigned int first = sgtable->nents;
  bool pins = iov_iter_extract_will_pin(i);
  bool gets = gup_iter_extract_mode(&i->gup) == GUP_REFERENCED;
  gup_iter before = i->gup;
  while ((size_t)done < maxsize && sg_max > sgtable->nents - first && iov_iter_count(i) > 0) {
    struct page *list[16];
    gup_page **pages = gup_linux_pages(list);
    size_t room = sg_max - (sgtable->nents - first), offset = 0;
    int64_t got = gup_iter_extract_pages(&i->gup, &pages, maxsize - (size_t)done,
                                         room < 16 ? room : 16, extraction_flags, &offset);
    if (got <= 0) {
      if (got == 0) break;
      while (sgtable->nents > first) {
        struct page *page = sg_page(&sgtable->sgl[--sgtable->nents]);
        if (pins) unpin_user_page(page);
        if (gets) put_page(page);
      }
      i->gup = before;
      return (ssize_t)got;
    }
    for (size_t k = 0, left = (size_t)got; left > 0; k++, offset = 0) {
      size_t part = PAGE_SIZE - offset < left ? PAGE_SIZE - offset : left;
      sg_set_page(&sgtable->sgl[sgtable->nents++], list[k], (unsigned)part, (unsigned)offset);
      left -= part;
    }
    done += got;
  }
  return (ssize_t)done;
}

#ifdef __cplusplus
}
#endif

#endif
