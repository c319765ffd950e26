//===----------------------------------------------------------------------===//
// The list of checks, and the scene that most of them play in.
//===----------------------------------------------------------------------===//
#include "support.h"

static const gup_check gup_checks[] = {
    {"C.2, C.9: pages are got, pinned, and given back", check_basics},
    {"D, S1: a pinned page stays the parent's after a fork", check_forks},
    {"A.7: files are mapped, and their cache is extracted", check_files},
    {"C.4: folios of several pages, and a policy", check_folios},
    {"C.5.2, C.8: secret and movable memory, a driver's frames, and what an area is told as",
     check_special_areas},
    {"C.11: locks of all areas, their limit, and what drivers account for", check_locks},
    {"C.11 G6: pages move, are compacted and reclaimed, but for those that are held",
     check_movement},
    {"an error says what was wrong and with which value", check_errors},
    {"NULL, wrong and destroyed handles are EINVAL", check_handles},
    {"pointers that are no pages are EINVAL, and no hold of the list goes", check_pages_that_are_none},
    {"C.2: arguments that make no sense are refused", check_arguments},
    {"a failure point fails its n-th passage", check_faults_injected},
    {"a sink is told what happens", check_events},
    {"I1-I7, 1.1: a user buffer is extracted in both dialects", check_ubuf},
    {"A.4, F-01: user segments, empty ones too, and moving between them", check_iovec},
    {"1.1, B.2: BVEC, KVEC, XARRAY, FOLIOQ, DISCARD", check_kernel_kinds},
    {"A.6, F-04: a pipe publishes pages and reports hazards", check_pipe},
    {"an iterator that was never made, or outlived its making, is EINVAL",
     check_iterators_that_are_none},
    {"A.8: copies go through every kind", check_copies},
    {"I5, I6: an extraction is released once", check_extraction_values},
    {"B.3: bvecs join what lies together", check_bvecs},
    {"G: a detached iterator needs no address space", check_detach},
    {"G, F-07: scatter lists are all or nothing for user pages", check_scatter_lists},
    {"G: a bio takes whole blocks", check_bios},
    {"1.1: a device writes to destinations alone", check_devices},
    {"the ledger refuses what was not taken, and names who holds", check_ledger},
    {"1.1: a prototype in the kernel's names, 6.12", check_linux_upstream},
    {"1.1: a prototype in the kernel's names, the request for comments", check_linux_rfc},
    {"1.1, G: drivers in the kernel's names, in a file of their own", check_linux_drivers},
};
const size_t gup_check_count = sizeof gup_checks / sizeof *gup_checks;

gup_check gup_check_at(size_t index) { return gup_checks[index]; }

int scene_open(scene *it, size_t pages) {
  struct gup_machine_options options = {.capacity = 64u << 20, .trap = GUP_TRAP_NONE};
  struct gup_machine_info info;
  memset(it, 0, sizeof *it);
  it->pages = pages;
  CHECK(gup_machine_create(&options, &it->machine) == 0);
  CHECK(gup_machine_get_info(it->machine, &info) == 0);
  CHECK(info.trap == GUP_TRAP_NONE && info.total_frames == (64u << 20) / PAGE);
  it->free_frames = info.free_frames;
  CHECK(gup_mm_create(it->machine, &it->mm) == 0);
  CHECK(gup_mm_map(it->mm, 0, pages * PAGE, GUP_PROT_READ | GUP_PROT_WRITE, 0, &it->at) == 0);
  CHECK(gup_mm_advise(it->mm, it->at, pages * PAGE, GUP_MADV_POPULATE_WRITE) == 0);
  return 0;
}

int scene_close(scene *it) {
  struct gup_machine_info info;
  struct gup_counters counters;
  if (it->mm) CHECK(gup_mm_destroy(it->mm) == 0);
  CHECK(gup_machine_counters(it->machine, &counters) == 0);
  CHECK(counters.pins_acquired + it->uncounted_pins == counters.pins_released);
  CHECK(counters.refs_acquired == counters.refs_released);
  CHECK(gup_machine_get_info(it->machine, &info) == 0);
  CHECK(info.free_frames == it->free_frames);
  CHECK(gup_machine_destroy(it->machine) == 0);
  CHECK(gup_machine_destroy(it->machine) == -EINVAL);
  return 0;
}
