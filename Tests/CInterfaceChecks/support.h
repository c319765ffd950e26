//===----------------------------------------------------------------------===//
// What checks are made of: a machine, an address space, and the proof at the end
// that frames, pins and references are back where they began.
//===----------------------------------------------------------------------===//
#ifndef SUPPORT_H
#define SUPPORT_H

#include <errno.h>
#include <gup.h>
#include <stdio.h>
#include <string.h>

#include "CInterfaceChecks.h"

#define CHECK(condition)                                                             \
  do {                                                                               \
    if (!(condition)) {                                                              \
      char why_[160] = "";                                                           \
      gup_last_error(why_, sizeof why_);                                             \
      fprintf(stderr, "%s:%d: %s (%s)\n", __FILE__, __LINE__, #condition, why_);     \
      return __LINE__;                                                               \
    }                                                                                \
  } while (0)

/// As CHECK, for what returns the line of its own failure.
#define PASS(call)                 \
  do {                             \
    int line_ = (call);            \
    if (line_ != 0) return line_;  \
  } while (0)

enum { PAGE = GUP_PAGE_SIZE };

typedef struct scene {
  gup_machine *machine;
  gup_mm *mm;
  /// A mapped, populated buffer.
  uint64_t at;
  size_t pages;
  uint64_t free_frames;
  /// Pins that were dropped and, by rule C.4, never counted as taken.
  uint64_t uncounted_pins;
} scene;

/// 64 MiB without a trap, and a buffer of `pages` that are present.
int scene_open(scene *it, size_t pages);
/// Ends it, and checks that nothing is left.
int scene_close(scene *it);

int check_basics(void);
int check_forks(void);
int check_files(void);
int check_folios(void);
int check_special_areas(void);
int check_locks(void);
int check_movement(void);
int check_errors(void);
int check_handles(void);
int check_pages_that_are_none(void);
int check_arguments(void);
int check_faults_injected(void);
int check_events(void);
int check_ubuf(void);
int check_iovec(void);
int check_kernel_kinds(void);
int check_pipe(void);
int check_iterators_that_are_none(void);
int check_copies(void);
int check_extraction_values(void);
int check_bvecs(void);
int check_detach(void);
int check_scatter_lists(void);
int check_bios(void);
int check_devices(void);
int check_ledger(void);
int check_linux_upstream(void);
int check_linux_rfc(void);
int check_linux_drivers(void);

#endif
