//===----------------------------------------------------------------------===//
// The C roofline. Each loop does what the Swift one must do and nothing else:
// no counters, no checks of the caller's arguments inside the loop.
//
// Orderings are those of the inline functions it is made of: the grab's add is
// seq_cst, so the second load of the entry cannot be seen before it (rule G3).
//===----------------------------------------------------------------------===//
#include "cshims_roofline.h"

#include <string.h>
#include <sys/mman.h>

static inline bool is_user_range(uint64_t address, size_t count) {
  return address < CSHIMS_TASK_SIZE && count <= (CSHIMS_TASK_SIZE - address) >> CSHIMS_PAGE_SHIFT;
}

/// The entries of one page table from `address` on, `*run` of them and no more
/// than `count`; NULL where there is no table.
static inline const cshims_pte *run_from(cshims_pte *pgd, uint64_t address, size_t count,
                                         size_t *run) {
  const cshims_pte *pmd = cshims_pmd_offset(pgd, address);
  if (!pmd) return NULL;
  uint64_t table = cshims_pte_load(pmd);
  if ((table & (CSHIMS_PTE_PRESENT | CSHIMS_PTE_HUGE)) != CSHIMS_PTE_PRESENT) return NULL;
  size_t first = cshims_pte_index(address, CSHIMS_PAGE_SHIFT);
  size_t left = CSHIMS_PTE_ENTRIES - first;
  *run = left < count ? left : count;
  return cshims_pte_table(table) + first;
}

static inline size_t grab_run(const cshims_pte *entries, size_t count, uint64_t mask,
                              uint64_t want, cshims_page *pages, uint32_t bias,
                              cshims_page **out) {
  for (size_t i = 0; i < count; i++) {
    if (i + CSHIMS_PREFETCH_PAGES < count)
      cshims_page_prefetch(pages, cshims_pte_load(&entries[i + CSHIMS_PREFETCH_PAGES]));
    uint64_t value = cshims_pte_load(&entries[i]);
    if (cshims_unlikely((value & mask) != want)) return i;
    cshims_page *page = &pages[(value & CSHIMS_PTE_FRAME_MASK) >> CSHIMS_PAGE_SHIFT];
    uint32_t old = cshims_page_ref_fetch_add(page, bias);
    if (cshims_unlikely(!cshims_page_grabbed(old, bias)) ||
        cshims_unlikely(cshims_pte_load(&entries[i]) != value)) {
      cshims_page_ref_fetch_sub(page, bias);
      return i;
    }
    out[i] = page;
  }
  return count;
}

size_t cshims_roofline_grab(const cshims_pte *entries, size_t count, uint64_t mask, uint64_t want,
                            cshims_page *pages, uint32_t bias, cshims_page **out) {
  return grab_run(entries, count, mask, want, pages, bias, out);
}

size_t cshims_roofline_drop(cshims_page **list, size_t count, uint32_t bias) {
  size_t zero = 0;
  for (size_t i = 0; i < count; i++) {
    if (i + CSHIMS_PREFETCH_PAGES < count)
      __builtin_prefetch(list[i + CSHIMS_PREFETCH_PAGES], 1);
    uint32_t old = cshims_page_ref_fetch_sub(list[i], bias);
    if (cshims_unlikely(!cshims_page_may_drop(old, bias))) __builtin_trap();
    zero += old == bias;
  }
  return zero;
}

size_t cshims_roofline_walk(cshims_pte *pgd, uint64_t address, size_t count, uint64_t mask,
                            uint64_t want, cshims_page *pages, uint32_t bias, cshims_page **out) {
  if (!is_user_range(address, count)) return 0;
  size_t done = 0;
  while (done < count) {
    size_t run;
    const cshims_pte *entries = run_from(pgd, address, count - done, &run);
    if (!entries) break;
    size_t got = grab_run(entries, run, mask, want, pages, bias, out + done);
    done += got;
    if (got < run) break;
    address += (uint64_t)run << CSHIMS_PAGE_SHIFT;
  }
  return done;
}

static inline cshims_page *page_of(cshims_page *pages, uint64_t entry) {
  return &pages[(entry & CSHIMS_PTE_FRAME_MASK) >> CSHIMS_PAGE_SHIFT];
}

static inline size_t share_run(const cshims_pte *entries, size_t count, cshims_page *pages,
                               cshims_pte *copy) {
  for (size_t i = 0; i < count; i++) {
    if (i + CSHIMS_PREFETCH_PAGES < count)
      cshims_page_prefetch(pages, cshims_pte_load(&entries[i + CSHIMS_PREFETCH_PAGES]));
    uint64_t value = cshims_pte_load(&entries[i]);
    if (cshims_unlikely(!(value & CSHIMS_PTE_PRESENT))) return i;
    cshims_page *page = page_of(pages, value);
    cshims_page_ref_fetch_add(page, 1);
    cshims_page_map_fetch_add(page, 1);
    cshims_pte_store(&copy[i], value & ~CSHIMS_PTE_WRITE);
  }
  return count;
}

size_t cshims_roofline_fork(cshims_pte *pgd, uint64_t address, size_t count, cshims_page *pages,
                            cshims_pte *copy) {
  if (!is_user_range(address, count)) return 0;
  size_t done = 0;
  while (done < count) {
    size_t run;
    const cshims_pte *entries = run_from(pgd, address, count - done, &run);
    if (!entries) break;
    size_t got = share_run(entries, run, pages, copy + done);
    done += got;
    if (got < run) break;
    address += (uint64_t)run << CSHIMS_PAGE_SHIFT;
  }
  return done;
}

void cshims_roofline_unfork(const cshims_pte *copy, size_t count, cshims_page *pages) {
  for (size_t i = 0; i < count; i++) {
    cshims_page *page = page_of(pages, cshims_pte_load(&copy[i]));
    cshims_page_map_fetch_sub(page, 1);
    cshims_page_ref_fetch_sub(page, 1);
  }
}

int cshims_roofline_adopt(void *memory, size_t count, void *frames, int fd) {
  size_t length = count << CSHIMS_PAGE_SHIFT;
  memcpy(frames, memory, length);
  int flags = MAP_SHARED | MAP_FIXED | MAP_NORESERVE;
  return mmap(memory, length, PROT_READ | PROT_WRITE, flags, fd, 0) == MAP_FAILED ? errno : 0;
}

int cshims_roofline_release(void *memory, size_t count, const void *frames) {
  size_t length = count << CSHIMS_PAGE_SHIFT;
  int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_POPULATE;
  if (mmap(memory, length, PROT_READ | PROT_WRITE, flags, -1, 0) == MAP_FAILED) return errno;
  memcpy(memory, frames, length);
  return 0;
}

void cshims_roofline_fill(cshims_page *first, size_t count, cshims_page **out) {
  for (size_t i = 0; i < count; i++) out[i] = first + i;
}

size_t cshims_roofline_scan(cshims_page *const *list, size_t count) {
  size_t in_place = 0;
  for (size_t i = 0; i < count; i++) in_place += list[i] == list[0] + i;
  return in_place;
}
