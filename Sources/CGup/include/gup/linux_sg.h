//===----------------------------------------------------------------------===//
// Part of gup/linux.h, which see: scatter lists, and the addresses by which a
// device reaches their memory. There is no IOMMU: such an address is the page's
// frame number and the offset in it, and phys_to_page() leads a device back.
//===----------------------------------------------------------------------===//
#ifndef GUP_LINUX_SG_H
#define GUP_LINUX_SG_H

#ifdef __cplusplus
extern "C" {
#endif

//===--- Scatter lists ----------------------------------------------------===//

/// An entry; page_link's low bit 1 marks the end, as sg_mark_end sets it.
struct scatterlist {
  unsigned long page_link;
  unsigned int offset;
  unsigned int length;
  uint64_t dma_address;
};
struct sg_table {
  struct scatterlist *sgl;
  unsigned int nents;
  unsigned int orig_nents;
};
#define for_each_sg(sglist, sg, nr, i) \
  for ((i) = 0, (sg) = (sglist); (i) < (nr); (i)++, (sg) = sg_next(sg))
#define for_each_sgtable_sg(table, sg, i) for_each_sg((table)->sgl, sg, (table)->orig_nents, i)
#define for_each_sgtable_dma_sg(table, sg, i) for_each_sg((table)->sgl, sg, (table)->nents, i)

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
static inline phys_addr_t sg_phys(const struct scatterlist *sg) {
  return page_to_phys(sg_page(sg)) + sg->offset;
}
/// Of memory of alloc_page's or page_address's.
static inline void sg_set_buf(struct scatterlist *sg, const void *buf, unsigned int len) {
  sg_set_page(sg, virt_to_page(buf), len, (unsigned int)offset_in_page((uintptr_t)buf));
}
static inline void sg_init_one(struct scatterlist *sg, const void *buf, unsigned int len) {
  sg_init_table(sg, 1);
  sg_set_buf(sg, buf, len);
}
/// Entries up to the one that is marked as the end.
static inline int sg_nents(struct scatterlist *sg) {
  int count = 0;
  for (; sg; sg = sg_next(sg)) count++;
  return count;
}

/// A list of `nents` empty entries. -EINVAL for none, -ENOMEM.
static inline int sg_alloc_table(struct sg_table *table, unsigned int nents, gfp_t gfp) {
  memset(table, 0, sizeof *table);
  if (nents == 0) return -EINVAL;
  table->sgl = (struct scatterlist *)kcalloc(nents, sizeof *table->sgl, gfp);
  if (!table->sgl) return -ENOMEM;
  sg_init_table(table->sgl, nents);
  table->nents = table->orig_nents = nents;
  return 0;
}
static inline void sg_free_table(struct sg_table *table) {
  kfree(table->sgl);
  memset(table, 0, sizeof *table);
}
/// Does page `k` of a list lie behind the one before it, and fit its entry's bytes?
static inline bool gup_linux_follows(struct page **pages, unsigned int k, size_t bytes) {
  return bytes <= UINT_MAX - PAGE_SIZE && page_to_pfn(pages[k]) == page_to_pfn(pages[k - 1]) + 1;
}
/// A list over `size` bytes from byte `offset` of the first page on; pages that
/// follow each other in physical memory share an entry. It takes no hold. -EINVAL
/// for bytes that the pages have not got, -ENOMEM.
static inline int sg_alloc_table_from_pages(struct sg_table *table, struct page **pages,
                                            unsigned int n_pages, unsigned int offset,
                                            unsigned long size, gfp_t gfp) {
  unsigned int entries = 0;
  memset(table, 0, sizeof *table);
  if (offset >= PAGE_SIZE || n_pages != DIV_ROUND_UP(offset + size, PAGE_SIZE)) return -EINVAL;
  // The first round counts, the second fills.
  for (int round = 0; round < 2; round++) {
    struct scatterlist *sg = table->sgl;
    unsigned long left = size, start = offset;
    for (unsigned int k = 0; k < n_pages;) {
      unsigned int first = k;
      size_t bytes = 0, part;
      do {
        part = PAGE_SIZE - start < left ? PAGE_SIZE - start : left;
        bytes += part;
        left -= part;
        start = 0;
        k++;
      } while (k < n_pages && gup_linux_follows(pages, k, bytes));
      if (round == 0) {
        entries++;
      } else {
        sg_set_page(sg++, pages[first], (unsigned int)bytes, first == 0 ? offset : 0);
      }
    }
    int error = round == 0 ? sg_alloc_table(table, entries, gfp) : 0;
    if (error != 0) return error;
  }
  return 0;
}

/// Copies between a buffer and the memory of up to `nents` entries; the bytes.
static inline size_t gup_linux_sg_copy(struct scatterlist *sg, unsigned int nents, char *buf,
                                       size_t buflen, bool out) {
  size_t done = 0;
  for (; sg && nents > 0 && done < buflen; sg = sg_next(sg), nents--) {
    size_t part = sg->length < buflen - done ? sg->length : buflen - done;
    if (part == 0) continue;
    memcpy(out ? buf + done : (char *)sg_virt(sg), out ? (char *)sg_virt(sg) : buf + done, part);
    done += part;
  }
  return done;
}
static inline size_t sg_copy_to_buffer(struct scatterlist *sg, unsigned int nents, void *buf,
                                       size_t buflen) {
  return gup_linux_sg_copy(sg, nents, (char *)buf, buflen, true);
}
static inline size_t sg_copy_from_buffer(struct scatterlist *sg, unsigned int nents,
                                         const void *buf, size_t buflen) {
  return gup_linux_sg_copy(sg, nents, (char *)(uintptr_t)buf, buflen, false);
}

/// Adds entries from `nents` on, at most `sg_max` of them; one a page, or a
/// bvec's or folio's part of a page. Returns the bytes. All or none.
GUP_LINUX_API ssize_t extract_iter_to_sg(struct iov_iter *i, size_t maxsize,
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

//===--- Addresses for devices --------------------------------------------===//

struct device;
typedef uint64_t dma_addr_t;
#define DMA_MAPPING_ERROR (~(dma_addr_t)0)
enum dma_data_direction {
  DMA_BIDIRECTIONAL = 0, DMA_TO_DEVICE = 1, DMA_FROM_DEVICE = 2, DMA_NONE = 3,
};
#define sg_dma_address(sg) ((sg)->dma_address)
#define sg_dma_len(sg) ((sg)->length)

/// What maps here holds nothing and what unmaps has nothing to do: whoever maps
/// keeps the pages pinned.
static inline dma_addr_t dma_map_page(struct device *dev, struct page *page, size_t offset,
                                      size_t size, enum dma_data_direction direction) {
  unsigned long pfn = page_to_pfn(page);
  (void)dev;
  (void)size;
  (void)direction;
  return pfn == ULONG_MAX ? DMA_MAPPING_ERROR : PFN_PHYS(pfn) + offset;
}
static inline void dma_unmap_page(struct device *dev, dma_addr_t address, size_t size,
                                  enum dma_data_direction direction) {
  (void)dev;
  (void)address;
  (void)size;
  (void)direction;
}
static inline int dma_mapping_error(struct device *dev, dma_addr_t address) {
  (void)dev;
  return address == DMA_MAPPING_ERROR ? -ENOMEM : 0;
}
/// The entries that were mapped: `nents`, or 0 where one has no page.
static inline unsigned int dma_map_sg(struct device *dev, struct scatterlist *sgl,
                                      unsigned int nents, enum dma_data_direction direction) {
  struct scatterlist *sg;
  unsigned int i;
  for_each_sg(sgl, sg, nents, i) {
    sg->dma_address = dma_map_page(dev, sg_page(sg), sg->offset, sg->length, direction);
    if (sg->dma_address == DMA_MAPPING_ERROR) return 0;
  }
  return nents;
}
static inline void dma_unmap_sg(struct device *dev, struct scatterlist *sgl, unsigned int nents,
                                enum dma_data_direction direction) {
  (void)dev;
  (void)sgl;
  (void)nents;
  (void)direction;
}
static inline int dma_map_sgtable(struct device *dev, struct sg_table *table,
                                  enum dma_data_direction direction, unsigned long attributes) {
  (void)attributes;
  if (dma_map_sg(dev, table->sgl, table->orig_nents, direction) == 0) return -EIO;
  table->nents = table->orig_nents;
  return 0;
}
static inline void dma_unmap_sgtable(struct device *dev, struct sg_table *table,
                                     enum dma_data_direction direction,
                                     unsigned long attributes) {
  (void)attributes;
  dma_unmap_sg(dev, table->sgl, table->orig_nents, direction);
}

#ifdef __cplusplus
}
#endif

#endif
