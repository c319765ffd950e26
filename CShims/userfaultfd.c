//===----------------------------------------------------------------------===//
// The operations of cshims_userfaultfd.h, one ioctl each, and the probe that
// tries them all once.
//
// The kernel serves a range in parts when something interrupts it: EAGAIN then
// comes with the number of bytes done, and the rest is asked for again.
//
// State: the probe's answer, written once under probe_once.
//===----------------------------------------------------------------------===//
#include "cshims_userfaultfd.h"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cshims_host.h"

#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1  // Linux 5.11
#endif
#ifndef USERFAULTFD_IOC_NEW
#define USERFAULTFD_IOC_NEW _IO(0xAA, 0x00)  // Linux 6.1
#endif

static const uint64_t continue_write_protected = 1ull << 1;  // Linux 6.4
static const uint64_t wp_on_shared_memory = 1ull << 12;      // Linux 5.19
static const uint64_t wp_on_unpopulated = 1ull << 13;        // Linux 6.4

static const uint64_t range_operations = 1ull << _UFFDIO_WAKE | 1ull << _UFFDIO_WRITEPROTECT |
                                         1ull << _UFFDIO_CONTINUE;

//===--- Opening ----------------------------------------------------------===//

typedef enum opening { BY_SYSTEM_CALL, BY_DEVICE, FOR_USER_MODE, OPENINGS } opening;

static const char *const opening_names[OPENINGS] = {"userfaultfd(2)", "/dev/userfaultfd",
                                                    "user mode only"};

static int open_by(opening how, int *fd) {
  int flags = O_CLOEXEC | O_NONBLOCK;
  if (how == BY_DEVICE) {
    int device = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
    if (device < 0) return errno;
    *fd = ioctl(device, USERFAULTFD_IOC_NEW, flags);
    int error = *fd < 0 ? errno : 0;
    close(device);
    return error;
  }
  if (how == FOR_USER_MODE) flags |= UFFD_USER_MODE_ONLY;
  *fd = (int)syscall(SYS_userfaultfd, flags);
  return *fd < 0 ? errno : 0;
}

static int open_with_features(opening how, uint64_t features, int *fd,
                              cshims_userfaultfd_report *report) {
  report->failed_step = opening_names[how == BY_DEVICE ? BY_DEVICE : BY_SYSTEM_CALL];
  int error = open_by(how, fd);
  if (error != 0) return error;
  struct uffdio_api api = {.api = UFFD_API, .features = features};
  if (ioctl(*fd, UFFDIO_API, &api) == 0) {
    report->failed_step = NULL;
    report->serves_kernel = how != FOR_USER_MODE;
    report->opened_by = opening_names[how];
    report->features = api.features;
    return 0;
  }
  report->failed_step = "UFFDIO_API";
  error = errno;
  close(*fd);
  return error;
}

int cshims_userfaultfd_open(int *fd, cshims_userfaultfd_report *report) {
  const uint64_t required = UFFD_FEATURE_MISSING_SHMEM | UFFD_FEATURE_MINOR_SHMEM |
                            UFFD_FEATURE_PAGEFAULT_FLAG_WP | wp_on_shared_memory;
  memset(report, 0, sizeof *report);
  for (unsigned how = 0; how < OPENINGS; how++) {
    // A descriptor accepts one handshake, and refuses it whole for one unknown
    // feature: the second try opens anew.
    report->error = open_with_features((opening)how, required | wp_on_unpopulated, fd, report);
    if (report->error == EINVAL)
      report->error = open_with_features((opening)how, required, fd, report);
    if (report->error == 0) return 0;
  }
  *fd = -1;
  return report->error;
}

//===--- Operations -------------------------------------------------------===//

int cshims_userfaultfd_register(int fd, uint64_t address, uint64_t length) {
  struct uffdio_register request = {
      .range = {.start = address, .len = length},
      .mode = UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_MINOR | UFFDIO_REGISTER_MODE_WP,
  };
  if (ioctl(fd, UFFDIO_REGISTER, &request) != 0) return errno;
  if ((request.ioctls & range_operations) == range_operations) return 0;
  cshims_userfaultfd_unregister(fd, address, length);
  return EOPNOTSUPP;
}

int cshims_userfaultfd_unregister(int fd, uint64_t address, uint64_t length) {
  struct uffdio_range range = {.start = address, .len = length};
  return ioctl(fd, UFFDIO_UNREGISTER, &range) == 0 ? 0 : errno;
}

int cshims_userfaultfd_continue(int fd, uint64_t address, uint64_t length, bool write_protected,
                                uint64_t *done) {
  *done = 0;
  while (*done < length) {
    struct uffdio_continue request = {
        .range = {.start = address + *done, .len = length - *done},
        .mode = UFFDIO_CONTINUE_MODE_DONTWAKE | (write_protected ? continue_write_protected : 0),
    };
    if (ioctl(fd, UFFDIO_CONTINUE, &request) == 0) {
      *done = length;
      return 0;
    }
    if (errno != EAGAIN) return errno;
    // The count is negative where not even the first page was done.
    if (request.mapped > 0) *done += (uint64_t)request.mapped;
  }
  return 0;
}

int cshims_userfaultfd_write_protect(int fd, uint64_t address, uint64_t length, bool protect) {
  struct uffdio_writeprotect request = {
      .range = {.start = address, .len = length},
      // Protecting wakes nobody anyhow, and the kernel refuses the two together.
      .mode = protect ? UFFDIO_WRITEPROTECT_MODE_WP : UFFDIO_WRITEPROTECT_MODE_DONTWAKE,
  };
  while (ioctl(fd, UFFDIO_WRITEPROTECT, &request) != 0) {
    if (errno != EAGAIN && errno != EINTR) return errno;
  }
  return 0;
}

int cshims_userfaultfd_wake(int fd, uint64_t address, uint64_t length) {
  struct uffdio_range range = {.start = address, .len = length};
  return ioctl(fd, UFFDIO_WAKE, &range) == 0 ? 0 : errno;
}

//===--- The probe --------------------------------------------------------===//

static pthread_once_t probe_once = PTHREAD_ONCE_INIT;
static cshims_userfaultfd_report probed;

enum { PROBE_LENGTH = 2 * CSHIMS_PAGE_SIZE };

/// Is the page of `address` write-protected by userfaultfd? The page map tells
/// without touching the page; where it cannot be read, `otherwise`.
static bool is_write_protected(uint64_t address, bool otherwise) {
  int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
  if (fd < 0) return otherwise;
  uint64_t entry = 0;
  ssize_t got = pread(fd, &entry, sizeof entry, (off_t)(address / CSHIMS_PAGE_SIZE * sizeof entry));
  close(fd);
  return got == (ssize_t)sizeof entry ? (entry >> 57 & 1) != 0 : otherwise;
}

/// Shows both pages protected, reads one, and lifts the protection. The probe
/// has no thread that could serve a fault, so it touches only what the kernel
/// has said to be there. Returns the failed step, or NULL.
static const char *try_pages(int fd, uint64_t view, int *error) {
  uint64_t done = 0;
  *error = cshims_userfaultfd_continue(fd, view, PROBE_LENGTH, true, &done);
  // Asked twice, the kernel must say that the page is shown already.
  if (*error == 0 && done == PROBE_LENGTH &&
      cshims_userfaultfd_continue(fd, view, CSHIMS_PAGE_SIZE, true, &done) != EEXIST)
    *error = ENOTSUP;
  if (*error == 0 && *(volatile unsigned char *)(uintptr_t)view != 0x5a) *error = EIO;
  if (*error != 0) return "UFFDIO_CONTINUE";
  if (!is_write_protected(view, true)) *error = ENOTSUP;
  if (*error == 0) *error = cshims_userfaultfd_write_protect(fd, view, PROBE_LENGTH, false);
  if (*error == 0 && is_write_protected(view, false)) *error = ENOTSUP;
  if (*error == 0) *error = cshims_userfaultfd_write_protect(fd, view, PROBE_LENGTH, true);
  if (*error != 0) return "UFFDIO_WRITEPROTECT";
  *error = cshims_zap(view, PROBE_LENGTH);
  if (*error == 0) *error = cshims_userfaultfd_continue(fd, view, PROBE_LENGTH, false, &done);
  if (*error == 0 && is_write_protected(view, false)) *error = ENOTSUP;
  if (*error != 0) return "UFFDIO_CONTINUE after MADV_DONTNEED";
  *error = cshims_userfaultfd_wake(fd, view, PROBE_LENGTH);
  return *error != 0 ? "UFFDIO_WAKE" : NULL;
}

static const char *try_mappings(int fd, int memfd, int *error) {
  const char *failed = NULL;
  uint64_t view = 0;
  void *window = NULL;
  *error = cshims_map_memfd(memfd, PROBE_LENGTH, CSHIMS_PAGE_SIZE, &window);
  if (*error != 0) return "mmap(2)";
  *error = cshims_reserve(0, PROBE_LENGTH, &view);
  if (*error == 0) {
    *error = cshims_show(view, PROBE_LENGTH, CSHIMS_PROT_READ_WRITE, memfd, 0);
    if (*error != 0) {
      failed = "mmap(2)";
    } else if ((*error = cshims_userfaultfd_register(fd, view, PROBE_LENGTH)) != 0) {
      failed = "UFFDIO_REGISTER";
    } else {
      memset(window, 0x5a, PROBE_LENGTH);
      failed = try_pages(fd, view, error);
      int last = cshims_userfaultfd_unregister(fd, view, PROBE_LENGTH);
      if (failed == NULL && last != 0) {
        *error = last;
        failed = "UFFDIO_UNREGISTER";
      }
    }
    cshims_unmap(view, PROBE_LENGTH);
  } else {
    failed = "mmap(2)";
  }
  cshims_unmap((uint64_t)(uintptr_t)window, PROBE_LENGTH);
  return failed;
}

static void probe(void) {
  int fd = -1;
  if (cshims_userfaultfd_open(&fd, &probed) != 0) return;
  int memfd = -1;
  probed.error = cshims_memfd_create("gup-probe", PROBE_LENGTH, &memfd);
  if (probed.error != 0) {
    probed.failed_step = "memfd_create(2)";
  } else {
    probed.failed_step = try_mappings(fd, memfd, &probed.error);
    cshims_close(memfd);
  }
  cshims_close(fd);
}

cshims_userfaultfd_report cshims_userfaultfd_probe(void) {
  pthread_once(&probe_once, probe);
  return probed;
}
