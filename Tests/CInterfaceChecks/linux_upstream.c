//===----------------------------------------------------------------------===//
// The kernel's names with the rules of 6.12.
//===----------------------------------------------------------------------===//
#include "linux_body.h"

int check_linux_upstream(void) { return play(); }
