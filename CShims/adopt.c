//===----------------------------------------------------------------------===//
// What stands at an address: one look at /proc/self/maps, by its query (Linux
// 6.11) where there is one and by reading the text elsewhere. For the query one
// descriptor is kept, so that a program that has used up its own can still be
// looked at; where it does not answer (the program has closed it), or shows
// another process (after fork(2)), the file is opened anew.
//
// Nothing here locks or allocates. `kept` is set once a process: whoever loses
// the race to set it closes his own.
//===----------------------------------------------------------------------===//
#include "cshims_adopt.h"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "cshims_host.h"

//===--- One mapping ------------------------------------------------------===//

/// struct procmap_query of linux/fs.h, which older headers lack.
typedef struct map_query {
  uint64_t size, query_flags, query_addr;
  uint64_t start, end, flags, page_size, offset, inode;
  uint32_t device_major, device_minor, name_size, build_id_size;
  uint64_t name_addr, build_id_addr;
} map_query;
_Static_assert(sizeof(map_query) == 104, "as the kernel has it");

static const unsigned long map_query_request = _IOWR('f', 17, map_query);
static const uint64_t covering_or_next = 0x10;

static int query(int fd, uint64_t address, cshims_mapping *mapping) {
  char name[4096];
  map_query request = {.size = sizeof request, .query_flags = covering_or_next,
                       .query_addr = address, .name_size = sizeof name,
                       .name_addr = (uint64_t)(uintptr_t)name};
  name[0] = 0;
  if (ioctl(fd, map_query_request, &request) != 0) return errno;
  memset(mapping, 0, sizeof *mapping);
  mapping->start = request.start;
  mapping->end = request.end;
  mapping->offset = request.offset;
  mapping->inode = request.inode;
  mapping->device_major = request.device_major;
  mapping->device_minor = request.device_minor;
  mapping->flags = (uint32_t)request.flags & 0xf;
  mapping->page_size = (uint32_t)request.page_size;
  if (request.name_size != 0) memcpy(mapping->name, name, sizeof mapping->name - 1);
  return 0;
}

static const char *number(const char *text, unsigned base, uint64_t *value) {
  *value = 0;
  for (;; text++) {
    unsigned digit = *text >= '0' && *text <= '9'   ? (unsigned)(*text - '0')
                     : *text >= 'a' && *text <= 'f' ? (unsigned)(*text - 'a') + 10
                                                    : 99;
    if (digit >= base) return text;
    *value = *value * base + digit;
  }
}

/// "start-end rwxp offset major:minor inode   name"
static void parse(const char *line, cshims_mapping *mapping) {
  uint64_t major_number, minor_number;
  memset(mapping, 0, sizeof *mapping);
  line = number(line, 16, &mapping->start) + 1;
  line = number(line, 16, &mapping->end) + 1;
  if (line[0] == 'r') mapping->flags |= CSHIMS_MAPPING_READ;
  if (line[1] == 'w') mapping->flags |= CSHIMS_MAPPING_WRITE;
  if (line[2] == 'x') mapping->flags |= CSHIMS_MAPPING_EXECUTE;
  if (line[3] == 's') mapping->flags |= CSHIMS_MAPPING_SHARED;
  line = number(line + 5, 16, &mapping->offset) + 1;
  line = number(line, 16, &major_number) + 1;
  line = number(line, 16, &minor_number) + 1;
  line = number(line, 10, &mapping->inode);
  while (*line == ' ') line++;
  strncpy(mapping->name, line, sizeof mapping->name - 1);
  mapping->device_major = (uint32_t)major_number;
  mapping->device_minor = (uint32_t)minor_number;
  // Private huge pages show as a deleted file of this name.
  bool huge = strncmp(mapping->name, "/anon_hugepage", 14) == 0;
  mapping->page_size = huge ? 1u << 21 : CSHIMS_PAGE_SIZE;
}

static int search_text(int fd, uint64_t address, cshims_mapping *mapping) {
  char line[256], buffer[4096];
  size_t length = 0;
  if (lseek(fd, 0, SEEK_SET) < 0) return errno;
  for (;;) {
    ssize_t got = read(fd, buffer, sizeof buffer);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return errno;
    if (got == 0) return ENOENT;
    for (ssize_t i = 0; i < got; i++) {
      if (buffer[i] != '\n') {
        if (length < sizeof line - 1) line[length++] = buffer[i];
        continue;
      }
      line[length] = 0;
      length = 0;
      parse(line, mapping);
      if (mapping->end > address) return 0;
    }
  }
}

static int find(int fd, uint64_t address, cshims_mapping *mapping) {
  int error = query(fd, address, mapping);
  return error == 0 || error == ENOENT ? error : search_text(fd, address, mapping);
}

static int open_maps(int *fd) {
  while ((*fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC)) < 0) {
    if (errno != EINTR) return errno;
  }
  return 0;
}

/// The kept descriptor and the process that it shows.
typedef struct kept_file {
  int32_t fd;
  int32_t owner;
} kept_file;
static _Atomic(kept_file) kept;

static int query_kept(uint64_t address, cshims_mapping *mapping) {
  kept_file file = atomic_load(&kept);
  int32_t self = (int32_t)getpid();
  if (file.owner != self) {
    kept_file mine = {.owner = self};
    if (open_maps(&mine.fd) != 0) return EBADF;
    if (!atomic_compare_exchange_strong(&kept, &file, mine)) close(mine.fd);
    else file = mine;
  }
  return query(file.fd, address, mapping);
}

int cshims_mapping_find(uint64_t address, cshims_mapping *mapping) {
  int error = query_kept(address, mapping);
  if (error == 0 || error == ENOENT) return error;
  int fd;
  error = open_maps(&fd);
  if (error != 0) return error;
  error = find(fd, address, mapping);
  close(fd);
  return error;
}

static int shows_file(uint64_t start, uint64_t end, int file, const uint64_t *offset,
                      bool *shows) {
  uint64_t first = start;
  struct stat status;
  if (fstat(file, &status) != 0) return errno;
  int error = 0;
  *shows = true;
  while (*shows && start < end) {
    cshims_mapping mapping;
    error = cshims_mapping_find(start, &mapping);
    *shows = error == 0 && mapping.start <= start &&
             (mapping.flags & CSHIMS_MAPPING_SHARED) != 0 && mapping.inode == status.st_ino &&
             mapping.device_major == major(status.st_dev) &&
             mapping.device_minor == minor(status.st_dev) &&
             (!offset || mapping.offset + (start - mapping.start) == *offset + (start - first));
    start = mapping.end;
  }
  return error == ENOENT ? 0 : error;
}

int cshims_shows_file(uint64_t start, uint64_t end, int file, bool *shows) {
  return shows_file(start, end, file, NULL, shows);
}

int cshims_shows_file_from(uint64_t start, uint64_t end, int file, uint64_t offset, bool *shows) {
  return shows_file(start, end, file, &offset, shows);
}

bool cshims_is_accessible(uint64_t address, bool is_write) {
  cshims_mapping mapping;
  uint32_t needed = is_write ? CSHIMS_MAPPING_WRITE : CSHIMS_MAPPING_READ;
  return cshims_mapping_find(address, &mapping) == 0 && mapping.start <= address &&
         (mapping.flags & needed) != 0;
}

bool cshims_is_private(uint64_t start, uint64_t end) {
  while (start < end) {
    cshims_mapping mapping;
    if (cshims_mapping_find(start, &mapping) != 0 || mapping.start > start ||
        (mapping.flags & CSHIMS_MAPPING_SHARED) != 0 ||
        (mapping.flags & CSHIMS_MAPPING_READ) == 0)
      return false;
    start = mapping.end;
  }
  return true;
}

//===--- Moving -----------------------------------------------------------===//

static void *pointer(uint64_t address) {
  return (void *)(uintptr_t)address;
}

int cshims_copy_into_file(int fd, uint64_t offset, uint64_t source, uint64_t length) {
  while (length != 0) {
    ssize_t done = pwrite(fd, pointer(source), length, (off_t)offset);
    if (done < 0 && errno == EINTR) continue;
    if (done < 0) return errno;
    if (done == 0) return EIO;
    offset += (uint64_t)done;
    source += (uint64_t)done;
    length -= (uint64_t)done;
  }
  return 0;
}

int cshims_userfaultfd_register_stores(int fd, uint64_t address, uint64_t length) {
  struct uffdio_register request = {.range = {.start = address, .len = length},
                                    .mode = UFFDIO_REGISTER_MODE_WP};
  return ioctl(fd, UFFDIO_REGISTER, &request) == 0 ? 0 : errno;
}

int cshims_view_aside(uint64_t length, uint32_t protection, int fd, uint64_t offset,
                      bool populate, uint64_t *base) {
  int flags = MAP_SHARED | MAP_NORESERVE | (populate ? MAP_POPULATE : 0);
  void *mapped = mmap(NULL, length, (int)protection, flags, fd, (off_t)offset);
  if (mapped == MAP_FAILED) return errno;
  if (madvise(mapped, length, MADV_DONTFORK) != 0) {
    int error = errno;
    munmap(mapped, length);
    return error;
  }
  *base = (uint64_t)(uintptr_t)mapped;
  return 0;
}

bool cshims_pages_differ(const void *one, const void *other) {
  return memcmp(one, other, CSHIMS_PAGE_SIZE) != 0;
}

void cshims_merge_page(void *page, const void *before, const void *now) {
  volatile unsigned char *bytes = page;
  const unsigned char *old = before, *new = now;
  for (size_t i = 0; i < CSHIMS_PAGE_SIZE; i++) {
    if (old[i] != new[i]) bytes[i] = new[i];
  }
}

int cshims_move_over(uint64_t from, uint64_t length, uint64_t to) {
  void *moved = mremap(pointer(from), length, length, MREMAP_MAYMOVE | MREMAP_FIXED, pointer(to));
  return moved == MAP_FAILED ? errno : 0;
}
