//===----------------------------------------------------------------------===//
// Runs all checks of gup.h in a program of their own.
//===----------------------------------------------------------------------===//
#include <CInterfaceChecks.h>
#include <stdio.h>

int main(void) {
  int failures = 0;
  for (size_t i = 0; i < gup_check_count; i++) {
    gup_check check = gup_check_at(i);
    int line = check.run();
    printf("%s %s\n", line == 0 ? "ok  " : "FAIL", check.name);
    fflush(stdout);
    failures += line != 0;
  }
  return failures == 0 ? 0 : 1;
}
