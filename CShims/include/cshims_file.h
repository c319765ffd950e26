//===----------------------------------------------------------------------===//
// Files behind a page cache: reads and writes at a position, whole or to the
// end of the file. Every function returns 0 or an errno value.
//===----------------------------------------------------------------------===//
#ifndef CSHIMS_FILE_H
#define CSHIMS_FILE_H

#include "cshims_basics.h"

/// A descriptor of our own for an open file, closed on exec(2).
int cshims_file_duplicate(int fd, int *copy);
/// Opens a regular file; EISDIR or EINVAL for anything else.
int cshims_file_open(const char *path, bool writable, int *fd);
/// The file's length in bytes, and whether it may be written through `fd`.
int cshims_file_describe(int fd, uint64_t *length, bool *writable);
/// Reads until `length` bytes or the end of the file; `*done` says how many.
int cshims_file_read(int fd, void *to, uint64_t length, uint64_t offset, uint64_t *done);
/// Writes all of `length` bytes.
int cshims_file_write(int fd, const void *from, uint64_t length, uint64_t offset);
int cshims_file_sync(int fd);

/// Which file a descriptor means, in whatever process.
typedef struct cshims_file_identity {
  uint64_t device, inode;
} cshims_file_identity;
/// All zero for what is no open descriptor.
cshims_file_identity cshims_file_identify(int fd);
/// Does `fd` mean that file in this process?
bool cshims_file_is(int fd, cshims_file_identity identity);

#endif
