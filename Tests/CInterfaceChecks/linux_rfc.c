//===----------------------------------------------------------------------===//
// The kernel's names with the rules of the request for comments.
//===----------------------------------------------------------------------===//
#define GUP_LINUX_RFC
#include "linux_body.h"

int check_linux_rfc(void) { return play(); }
