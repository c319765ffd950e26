//===----------------------------------------------------------------------===//
// Files behind a page cache. See cshims_file.h.
//===----------------------------------------------------------------------===//

#include "cshims_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

int cshims_file_duplicate(int fd, int *copy) {
  int duplicate = fcntl(fd, F_DUPFD_CLOEXEC, 0);
  if (duplicate < 0) return errno;
  *copy = duplicate;
  return 0;
}

int cshims_file_open(const char *path, bool writable, int *fd) {
  int opened = open(path, (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NONBLOCK);
  if (opened < 0) return errno;
  struct stat status;
  int error = fstat(opened, &status) != 0 ? errno : 0;
  if (error == 0 && S_ISDIR(status.st_mode)) error = EISDIR;
  if (error == 0 && !S_ISREG(status.st_mode)) error = EINVAL;
  if (error != 0) {
    close(opened);
    return error;
  }
  *fd = opened;
  return 0;
}

int cshims_file_describe(int fd, uint64_t *length, bool *writable) {
  struct stat status;
  if (fstat(fd, &status) != 0) return errno;
  if (S_ISDIR(status.st_mode)) return EISDIR;
  if (!S_ISREG(status.st_mode)) return EINVAL;
  int flags = fcntl(fd, F_GETFL);
  if (flags < 0) return errno;
  if ((flags & O_ACCMODE) == O_WRONLY) return EACCES;
  *length = (uint64_t)status.st_size;
  *writable = (flags & O_ACCMODE) == O_RDWR;
  return 0;
}

int cshims_file_read(int fd, void *to, uint64_t length, uint64_t offset, uint64_t *done) {
  *done = 0;
  while (*done < length) {
    ssize_t got = pread(fd, (char *)to + *done, length - *done, (off_t)(offset + *done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return errno;
    if (got == 0) break;
    *done += (uint64_t)got;
  }
  return 0;
}

int cshims_file_write(int fd, const void *from, uint64_t length, uint64_t offset) {
  uint64_t done = 0;
  while (done < length) {
    ssize_t put = pwrite(fd, (const char *)from + done, length - done, (off_t)(offset + done));
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return errno;
    done += (uint64_t)put;
  }
  return 0;
}

int cshims_file_sync(int fd) { return fsync(fd) == 0 ? 0 : errno; }

cshims_file_identity cshims_file_identify(int fd) {
  struct stat status;
  if (fstat(fd, &status) != 0) return (cshims_file_identity){0, 0};
  return (cshims_file_identity){status.st_dev, status.st_ino};
}

bool cshims_file_is(int fd, cshims_file_identity identity) {
  cshims_file_identity own = cshims_file_identify(fd);
  return own.inode != 0 && own.inode == identity.inode && own.device == identity.device;
}
