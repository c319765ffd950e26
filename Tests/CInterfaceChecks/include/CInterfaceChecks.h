//===----------------------------------------------------------------------===//
// Checks of gup.h in C: run by swift test against the debug build, and by
// Tests/LibGupTests/Runner against an installed library, under any compiler.
//===----------------------------------------------------------------------===//
#ifndef C_INTERFACE_CHECKS_H
#define C_INTERFACE_CHECKS_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct gup_check {
  /// What it proves, with the semantics id.
  const char *name;
  /// 0, or the line that failed; that was printed.
  int (*run)(void);
} gup_check;

extern const size_t gup_check_count;
/// The check of an index below the count.
gup_check gup_check_at(size_t index);

/// Children made by fork(2) join machines of a trap (GUP_TRAP_*). 0, or the line
/// that failed. It forks: for a process without threads of its own.
int gup_check_joining(int trap);

#ifdef __cplusplus
}
#endif

#endif
