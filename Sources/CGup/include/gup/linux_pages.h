//===----------------------------------------------------------------------===//
// Part of gup/linux.h, which see: pages, folios, and get_user_pages and its like.
//===----------------------------------------------------------------------===//
#ifndef GUP_LINUX_PAGES_H
#define GUP_LINUX_PAGES_H

#ifdef __cplusplus
extern "C" {
#endif

//===--- Pages ------------------------------------------------------------===//

struct page;
struct folio;

static inline gup_page *gup_linux_page(const struct page *page) {
  return (gup_page *)(uintptr_t)page;
}
static inline struct page *gup_linux_struct(gup_page *page) {
  return (struct page *)(void *)page;
}
static inline gup_page **gup_linux_pages(struct page **pages) {
  return (gup_page **)(void *)pages;
}
/// What is known of a page; all zero for what is no page.
static inline struct gup_page_state gup_linux_state(const struct page *page) {
  struct gup_page_state state;
  memset(&state, 0, sizeof state);
  (void)gup_page_get_state(gup_linux_page(page), &state);
  return state;
}

GUP_LINUX_API struct page *alloc_pages(gfp_t gfp, unsigned int order) {
  gup_page *page = GUP_LINUX_NOTHING;
  (void)gfp;
  return gup_page_alloc(gup_linux_task.machine, order, &page) == 0 ? gup_linux_struct(page)
                                                                   : GUP_LINUX_NOTHING;
}
GUP_LINUX_API struct page *alloc_page(gfp_t gfp) { return alloc_pages(gfp, 0); }
GUP_LINUX_API void put_page(struct page *page) { (void)gup_put_page(gup_linux_page(page)); }
GUP_LINUX_API void get_page(struct page *page) { (void)gup_get_page(gup_linux_page(page)); }
GUP_LINUX_API void __free_pages(struct page *page, unsigned int order) {
  (void)order;
  put_page(page);
}
GUP_LINUX_API void __free_page(struct page *page) { put_page(page); }
static inline void *page_address(const struct page *page) {
  return gup_page_address(gup_linux_page(page));
}
static inline void *page_to_virt(const struct page *page) { return page_address(page); }
static inline void *kmap_local_page(struct page *page) { return page_address(page); }
static inline void kunmap_local(const void *address) { (void)address; }
static inline void *kmap(struct page *page) { return page_address(page); }
static inline void kunmap(const struct page *page) { (void)page; }
static inline void memcpy_to_page(struct page *page, size_t offset, const char *from, size_t len) {
  memcpy((char *)page_address(page) + offset, from, len);
}
static inline void memcpy_from_page(char *to, struct page *page, size_t offset, size_t len) {
  memcpy(to, (const char *)page_address(page) + offset, len);
}
static inline unsigned long page_to_pfn(const struct page *page) {
  return (unsigned long)gup_page_frame(gup_linux_page(page));
}
static inline struct page *pfn_to_page(unsigned long pfn) {
  return gup_linux_struct(gup_page_of_frame(gup_linux_task.machine, pfn));
}
static inline struct page *virt_to_page(const void *address) {
  return gup_linux_struct(gup_page_of_address(gup_linux_task.machine, address));
}
static inline struct page *vmalloc_to_page(const void *address) { return virt_to_page(address); }
/// The address that a device without an IOMMU knows a page by.
typedef uint64_t phys_addr_t;
#define PFN_PHYS(pfn) ((phys_addr_t)(pfn) << PAGE_SHIFT)
#define PHYS_PFN(address) ((unsigned long)((address) >> PAGE_SHIFT))
static inline phys_addr_t page_to_phys(const struct page *page) {
  return PFN_PHYS(page_to_pfn(page));
}
static inline struct page *phys_to_page(phys_addr_t address) {
  return pfn_to_page(PHYS_PFN(address));
}
#define ZERO_PAGE(address) \
  ((void)(address), gup_linux_struct(gup_zero_page(gup_linux_task.machine)))
static inline bool is_zero_page(const struct page *page) {
  return gup_linux_state(page).is_zero_page;
}
/// `n` pages on in physical memory.
static inline struct page *nth_page(const struct page *page, unsigned long n) {
  return pfn_to_page(page_to_pfn(page) + n);
}
static inline int page_ref_count(const struct page *page) {
  return (int)gup_linux_state(page).references;
}
static inline int page_count(const struct page *page) { return page_ref_count(page); }
static inline int page_mapcount(const struct page *page) {
  return (int)gup_linux_state(page).mappings;
}
static inline bool page_maybe_dma_pinned(const struct page *page) {
  return gup_linux_state(page).may_be_pinned;
}
static inline bool PageDirty(const struct page *page) { return gup_linux_state(page).is_dirty; }
static inline bool PageAnon(const struct page *page) { return gup_linux_state(page).is_anonymous; }
static inline bool set_page_dirty(struct page *page) {
  return gup_page_mark_dirty(gup_linux_page(page)) == 1;
}
static inline bool set_page_dirty_lock(struct page *page) { return set_page_dirty(page); }
static inline struct page *compound_head(const struct page *page) {
  return gup_linux_struct(gup_linux_state(page).head);
}
static inline unsigned int compound_order(const struct page *page) {
  return gup_linux_state(page).order;
}
static inline unsigned long compound_nr(const struct page *page) {
  return 1ul << compound_order(page);
}
static inline unsigned long page_size(const struct page *page) {
  return PAGE_SIZE << compound_order(page);
}
static inline bool PageCompound(const struct page *page) { return compound_order(page) > 0; }
static inline struct folio *page_folio(const struct page *page) {
  return (struct folio *)(void *)compound_head(page);
}
static inline struct page *folio_page(const struct folio *folio, unsigned long n) {
  return nth_page((const struct page *)(const void *)folio, n);
}
static inline unsigned int folio_order(const struct folio *folio) {
  return compound_order((const struct page *)(const void *)folio);
}
static inline unsigned long folio_nr_pages(const struct folio *folio) {
  return 1ul << folio_order(folio);
}
static inline unsigned long folio_pfn(const struct folio *folio) {
  return page_to_pfn((const struct page *)(const void *)folio);
}
static inline void *folio_address(const struct folio *folio) {
  return page_address((const struct page *)(const void *)folio);
}
static inline unsigned long folio_page_idx(const struct folio *folio, const struct page *page) {
  return page_to_pfn(page) - folio_pfn(folio);
}
static inline size_t folio_size(const struct folio *folio) {
  return PAGE_SIZE << compound_order((const struct page *)(const void *)folio);
}
static inline bool folio_maybe_dma_pinned(const struct folio *folio) {
  return page_maybe_dma_pinned((const struct page *)(const void *)folio);
}
static inline bool folio_mark_dirty(struct folio *folio) {
  return set_page_dirty((struct page *)(void *)folio);
}
GUP_LINUX_API void folio_put(struct folio *folio) { put_page((struct page *)(void *)folio); }
GUP_LINUX_API void folio_get(struct folio *folio) { get_page((struct page *)(void *)folio); }

//===--- get_user_pages ---------------------------------------------------===//

static inline long gup_linux_long(int64_t result) { return (long)result; }

GUP_LINUX_API int get_user_pages_fast(unsigned long start, int nr_pages, unsigned int gup_flags,
                                      struct page **pages) {
  return (int)gup_get_user_pages_fast(gup_linux_mm(), start, nr_pages, gup_flags,
                                      gup_linux_pages(pages));
}
GUP_LINUX_API int get_user_pages_fast_only(unsigned long start, int nr_pages,
                                           unsigned int gup_flags, struct page **pages) {
  int64_t got = gup_get_user_pages_fast_only(gup_linux_mm(), start, nr_pages, gup_flags,
                                             gup_linux_pages(pages));
  return (int)got;
}
GUP_LINUX_API int pin_user_pages_fast(unsigned long start, int nr_pages, unsigned int gup_flags,
                                      struct page **pages) {
  return (int)gup_pin_user_pages_fast(gup_linux_mm(), start, nr_pages, gup_flags,
                                      gup_linux_pages(pages));
}
GUP_LINUX_API long get_user_pages(unsigned long start, unsigned long nr_pages,
                                  unsigned int gup_flags, struct page **pages) {
  return gup_linux_long(gup_get_user_pages(gup_linux_mm(), start, (int64_t)nr_pages, gup_flags,
                                           gup_linux_pages(pages)));
}
GUP_LINUX_API long get_user_pages_unlocked(unsigned long start, unsigned long nr_pages,
                                           struct page **pages, unsigned int gup_flags) {
  return get_user_pages(start, nr_pages, gup_flags, pages);
}
GUP_LINUX_API long pin_user_pages(unsigned long start, unsigned long nr_pages,
                                  unsigned int gup_flags, struct page **pages) {
  return gup_linux_long(gup_pin_user_pages(gup_linux_mm(), start, (int64_t)nr_pages, gup_flags,
                                           gup_linux_pages(pages)));
}
GUP_LINUX_API long pin_user_pages_unlocked(unsigned long start, unsigned long nr_pages,
                                           struct page **pages, unsigned int gup_flags) {
  return pin_user_pages(start, nr_pages, gup_flags, pages);
}
/// Of another address space; `locked` stays as it is.
GUP_LINUX_API long get_user_pages_remote(struct mm_struct *mm, unsigned long start,
                                         unsigned long nr_pages, unsigned int gup_flags,
                                         struct page **pages, int *locked) {
  (void)locked;
  return gup_linux_long(gup_get_user_pages((gup_mm *)(void *)mm, start, (int64_t)nr_pages,
                                           gup_flags, gup_linux_pages(pages)));
}
GUP_LINUX_API long pin_user_pages_remote(struct mm_struct *mm, unsigned long start,
                                         unsigned long nr_pages, unsigned int gup_flags,
                                         struct page **pages, int *locked) {
  (void)locked;
  return gup_linux_long(gup_pin_user_pages((gup_mm *)(void *)mm, start, (int64_t)nr_pages,
                                           gup_flags, gup_linux_pages(pages)));
}
GUP_LINUX_API void release_pages(struct page **pages, int nr) {
  (void)gup_put_pages(gup_linux_pages(pages), nr);
}
GUP_LINUX_API void unpin_user_page(struct page *page) {
  (void)gup_unpin_user_page(gup_linux_page(page));
}
GUP_LINUX_API void unpin_user_pages(struct page **pages, unsigned long npages) {
  (void)gup_unpin_user_pages(gup_linux_pages(pages), (int64_t)npages);
}
GUP_LINUX_API void unpin_user_pages_dirty_lock(struct page **pages, unsigned long npages,
                                               bool make_dirty) {
  (void)gup_unpin_user_pages_dirty_lock(gup_linux_pages(pages), (int64_t)npages, make_dirty);
}
GUP_LINUX_API void unpin_user_page_range_dirty_lock(struct page *page, unsigned long npages,
                                                    bool make_dirty) {
  (void)gup_unpin_user_page_range_dirty_lock(gup_linux_page(page), (int64_t)npages, make_dirty);
}
GUP_LINUX_API void unpin_user_folio(struct folio *folio, unsigned long npages) {
  (void)gup_unpin_user_folio((gup_page *)(void *)folio, (int64_t)npages);
}
GUP_LINUX_API void unpin_folio(struct folio *folio) { unpin_user_folio(folio, 1); }
GUP_LINUX_API void unpin_folios(struct folio **folios, unsigned long nfolios) {
  (void)gup_unpin_folios((gup_page *const *)(void *)folios, (int64_t)nfolios);
}
GUP_LINUX_API void folio_add_pin(struct folio *folio) {
  (void)gup_add_pin((gup_page *)(void *)folio);
}

/// An iterator over `n` bytes of `current`'s; what cannot be one moves no byte.
static inline gup_iter gup_linux_bytes(const void *address, unsigned long n, unsigned direction) {
  gup_iter iter;
  memset(&iter, 0, sizeof iter);
  (void)gup_iter_ubuf(&iter, gup_linux_mm(), direction, (uintptr_t)address, n);
  return iter;
}
static inline unsigned long gup_linux_left(unsigned long n, int64_t moved) {
  return moved < 0 ? n : n - (unsigned long)moved;
}
/// Bytes that were not copied: those from the first on that could not be. What
/// copy_from_user does not fill it clears.
static inline unsigned long copy_to_user(void __user *to, const void *from, unsigned long n) {
  gup_iter iter = gup_linux_bytes(to, n, GUP_DEST);
  return gup_linux_left(n, gup_iter_copy_to(&iter, from, n));
}
static inline unsigned long copy_from_user(void *to, const void __user *from, unsigned long n) {
  gup_iter iter = gup_linux_bytes(from, n, GUP_SOURCE);
  unsigned long left = gup_linux_left(n, gup_iter_copy_from(&iter, to, n));
  memset((char *)to + (n - left), 0, left);
  return left;
}
static inline unsigned long clear_user(void __user *to, unsigned long n) {
  gup_iter iter = gup_linux_bytes(to, n, GUP_DEST);
  return gup_linux_left(n, gup_iter_zero(&iter, n));
}

#ifdef __cplusplus
}
#endif

#endif
