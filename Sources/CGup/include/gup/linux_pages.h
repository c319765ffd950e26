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

static inline struct page *alloc_pages(gfp_t gfp, unsigned int order) {
  gup_page *page = GUP_LINUX_NOTHING;
  (void)gfp;
  return gup_page_alloc(gup_linux_task.machine, order, &page) == 0 ? gup_linux_struct(page)
                                                                   : GUP_LINUX_NOTHING;
}
static inline struct page *alloc_page(gfp_t gfp) { return alloc_pages(gfp, 0); }
static inline void put_page(struct page *page) { (void)gup_put_page(gup_linux_page(page)); }
static inline void get_page(struct page *page) { (void)gup_get_page(gup_linux_page(page)); }
static inline void __free_pages(struct page *page, unsigned int order) {
  (void)order;
  put_page(page);
}
static inline void __free_page(struct page *page) { put_page(page); }
static inline void *page_address(const struct page *page) {
  return gup_page_address(gup_linux_page(page));
}
static inline void *page_to_virt(const struct page *page) { return page_address(page); }
static inline void *kmap_local_page(struct page *page) { return page_address(page); }
static inline void kunmap_local(const void *address) { (void)address; }
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
static inline struct folio *page_folio(const struct page *page) {
  return (struct folio *)(void *)compound_head(page);
}
static inline struct page *folio_page(const struct folio *folio, unsigned long n) {
  return nth_page((const struct page *)(const void *)folio, n);
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
static inline void folio_put(struct folio *folio) { put_page((struct page *)(void *)folio); }
static inline void folio_get(struct folio *folio) { get_page((struct page *)(void *)folio); }
/// Memory of malloc's and page lists that extraction made.
static inline void kvfree(const void *memory) { gup_free((void *)(uintptr_t)memory); }

//===--- get_user_pages ---------------------------------------------------===//

static inline long gup_linux_long(int64_t result) { return (long)result; }

static inline int get_user_pages_fast(unsigned long start, int nr_pages, unsigned int gup_flags,
                                      struct page **pages) {
  return (int)gup_get_user_pages_fast(gup_linux_mm(), start, nr_pages, gup_flags,
                                      gup_linux_pages(pages));
}
static inline int get_user_pages_fast_only(unsigned long start, int nr_pages,
                                           unsigned int gup_flags, struct page **pages) {
  int64_t got = gup_get_user_pages_fast_only(gup_linux_mm(), start, nr_pages, gup_flags,
                                             gup_linux_pages(pages));
  return (int)got;
}
static inline int pin_user_pages_fast(unsigned long start, int nr_pages, unsigned int gup_flags,
                                      struct page **pages) {
  return (int)gup_pin_user_pages_fast(gup_linux_mm(), start, nr_pages, gup_flags,
                                      gup_linux_pages(pages));
}
static inline long get_user_pages(unsigned long start, unsigned long nr_pages,
                                  unsigned int gup_flags, struct page **pages) {
  return gup_linux_long(gup_get_user_pages(gup_linux_mm(), start, (int64_t)nr_pages, gup_flags,
                                           gup_linux_pages(pages)));
}
static inline long get_user_pages_unlocked(unsigned long start, unsigned long nr_pages,
                                           struct page **pages, unsigned int gup_flags) {
  return get_user_pages(start, nr_pages, gup_flags, pages);
}
static inline long pin_user_pages(unsigned long start, unsigned long nr_pages,
                                  unsigned int gup_flags, struct page **pages) {
  return gup_linux_long(gup_pin_user_pages(gup_linux_mm(), start, (int64_t)nr_pages, gup_flags,
                                           gup_linux_pages(pages)));
}
static inline long pin_user_pages_unlocked(unsigned long start, unsigned long nr_pages,
                                           struct page **pages, unsigned int gup_flags) {
  return pin_user_pages(start, nr_pages, gup_flags, pages);
}
/// Of another address space; `locked` stays as it is.
static inline long get_user_pages_remote(struct mm_struct *mm, unsigned long start,
                                         unsigned long nr_pages, unsigned int gup_flags,
                                         struct page **pages, int *locked) {
  (void)locked;
  return gup_linux_long(gup_get_user_pages((gup_mm *)(void *)mm, start, (int64_t)nr_pages,
                                           gup_flags, gup_linux_pages(pages)));
}
static inline long pin_user_pages_remote(struct mm_struct *mm, unsigned long start,
                                         unsigned long nr_pages, unsigned int gup_flags,
                                         struct page **pages, int *locked) {
  (void)locked;
  return gup_linux_long(gup_pin_user_pages((gup_mm *)(void *)mm, start, (int64_t)nr_pages,
                                           gup_flags, gup_linux_pages(pages)));
}
static inline void release_pages(struct page **pages, int nr) {
  (void)gup_put_pages(gup_linux_pages(pages), nr);
}
static inline void unpin_user_page(struct page *page) {
  (void)gup_unpin_user_page(gup_linux_page(page));
}
static inline void unpin_user_pages(struct page **pages, unsigned long npages) {
  (void)gup_unpin_user_pages(gup_linux_pages(pages), (int64_t)npages);
}
static inline void unpin_user_pages_dirty_lock(struct page **pages, unsigned long npages,
                                               bool make_dirty) {
  (void)gup_unpin_user_pages_dirty_lock(gup_linux_pages(pages), (int64_t)npages, make_dirty);
}
static inline void unpin_user_page_range_dirty_lock(struct page *page, unsigned long npages,
                                                    bool make_dirty) {
  (void)gup_unpin_user_page_range_dirty_lock(gup_linux_page(page), (int64_t)npages, make_dirty);
}
static inline void unpin_user_folio(struct folio *folio, unsigned long npages) {
  (void)gup_unpin_user_folio((gup_page *)(void *)folio, (int64_t)npages);
}
static inline void folio_add_pin(struct folio *folio) {
  (void)gup_add_pin((gup_page *)(void *)folio);
}

/// Bytes that could not be copied.
static inline unsigned long copy_to_user(void __user *to, const void *from, unsigned long n) {
  return gup_mm_copy_to(gup_linux_mm(), (uintptr_t)to, from, n) == 0 ? 0 : n;
}
static inline unsigned long copy_from_user(void *to, const void __user *from, unsigned long n) {
  return gup_mm_copy_from(gup_linux_mm(), to, (uintptr_t)from, n) == 0 ? 0 : n;
}
static inline unsigned long clear_user(void __user *to, unsigned long n) {
  return gup_mm_zero(gup_linux_mm(), (uintptr_t)to, n) == 0 ? 0 : n;
}

#ifdef __cplusplus
}
#endif

#endif
