//===----------------------------------------------------------------------===//
// Runs all checks of gup.h in a program of their own; with an argument, whatever
// it is, only those that need no trap and no fork(2).
//===----------------------------------------------------------------------===//
#include <CInterfaceChecks.h>
#include <gup.h>
#include <stdio.h>

static int report(const char *name, int line) {
  printf("%s %s\n", line == 0 ? "ok  " : "FAIL", name);
  fflush(stdout);
  return line != 0;
}

int main(int argc, char **argv) {
  (void)argv;
  int failures = 0;
  for (size_t i = 0; i < gup_check_count; i++) {
    gup_check check = gup_check_at(i);
    failures += report(check.name, check.run());
  }
  if (argc == 1) {
    failures += report("9: children join, SIGSEGV", gup_check_joining(GUP_TRAP_SIGSEGV));
    failures += report("9: children join, the best trap", gup_check_joining(GUP_TRAP_BEST));
  }
  return failures == 0 ? 0 : 1;
}
