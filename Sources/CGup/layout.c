//===----------------------------------------------------------------------===//
// What gup.h promises about layouts, held by the compiler.
//===----------------------------------------------------------------------===//
#include <sys/uio.h>

#include "gup.h"

_Static_assert(sizeof(struct gup_iovec) == sizeof(struct iovec), "laid out as struct iovec");
_Static_assert(offsetof(struct gup_iovec, base) == offsetof(struct iovec, iov_base), "the base");
_Static_assert(offsetof(struct gup_iovec, length) == offsetof(struct iovec, iov_len), "the length");
