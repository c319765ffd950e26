//===----------------------------------------------------------------------===//
// userfaultfd(2): one function per operation the host view needs. Numbers that
// libc6-dev's headers (Linux 6.1) lack are defined in the source file.
// Every function returns 0 or an errno value. Addresses and lengths are
// multiples of the page size. None of these wakes a blocked thread: the trap
// does that once, after its service function has returned.
//===----------------------------------------------------------------------===//
#ifndef CSHIMS_USERFAULTFD_H
#define CSHIMS_USERFAULTFD_H

#include "cshims_basics.h"

/// What opening and trying userfaultfd on this machine showed.
typedef struct cshims_userfaultfd_report {
  /// 0 when the tier works here; else the errno of the step that failed.
  int32_t error;
  /// The step that failed ("userfaultfd(2)", "UFFDIO_API", "UFFDIO_CONTINUE", ...), or NULL.
  const char *failed_step;
  /// System calls that touch absent pages are served, too (not USER_MODE_ONLY).
  bool serves_kernel;
  /// How it was opened: "userfaultfd(2)", "/dev/userfaultfd" or "user mode only".
  const char *opened_by;
  uint64_t features;
} cshims_userfaultfd_report;

/// Opens a descriptor with MISSING, MINOR and WP on shared memory, trying
/// userfaultfd(2), then /dev/userfaultfd, then USER_MODE_ONLY.
int cshims_userfaultfd_open(int *fd, cshims_userfaultfd_report *report);
/// Opens one, tries every operation below on a small memfd, and closes it.
/// The answer is remembered for the life of the process.
cshims_userfaultfd_report cshims_userfaultfd_probe(void);

/// Registers a range for MISSING, MINOR and WP events together.
int cshims_userfaultfd_register(int fd, uint64_t address, uint64_t length);
int cshims_userfaultfd_unregister(int fd, uint64_t address, uint64_t length);
/// Shows pages that the memfd has and the view lacks. Stops at the first page
/// it cannot show; `*done` says how many bytes it did (also on error).
/// EEXIST: that page is shown already.
int cshims_userfaultfd_continue(int fd, uint64_t address, uint64_t length, bool write_protected,
                                uint64_t *done);
/// Sets or clears write protection on the pages that are shown.
int cshims_userfaultfd_write_protect(int fd, uint64_t address, uint64_t length, bool protect);
/// Wakes the threads that wait on a range.
int cshims_userfaultfd_wake(int fd, uint64_t address, uint64_t length);

#endif
