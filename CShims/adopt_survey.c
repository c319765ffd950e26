//===----------------------------------------------------------------------===//
// What may be adopted. Refused is what the fault path itself needs, because it
// would have to wait for itself: stacks, thread-local data, the loader and the
// runtimes, and pages that this library's variables stand on.
//
// Threads' stacks carry no mark in /proc. A thread's robust list, which the
// kernel tells of any thread of the process, lies in its thread control block,
// at a distance that is the same for all; block, thread-local data and stack are
// one mapping, the stack below and a guard below that. So everything from that
// mapping's start up to the block is refused. The first thread's stack is marked;
// its block and data stand in a mapping without a guard, which a malloc'ed block
// may have become one with, so there the data is measured.
//
// Lock: the loader's, inside dl_iterate_phdr.
//===----------------------------------------------------------------------===//
#include "cshims_adopt.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <gnu/libc-version.h>
#include <link.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/syscall.h>
#include <unistd.h>

typedef struct range {
  uint64_t start, end;
} range;

static bool meets(range a, range b) {
  return a.start < b.end && b.start < a.end;
}

static uint64_t page_of(uint64_t address) {
  return address & ~(uint64_t)(CSHIMS_PAGE_SIZE - 1);
}

static uint64_t page_after(uint64_t address) {
  return page_of(address + CSHIMS_PAGE_SIZE - 1);
}

static void refuse(cshims_survey *survey, cshims_refusal refusal, uint64_t address) {
  if (survey->refusal != CSHIMS_REFUSE_NOTHING) return;
  survey->refusal = refusal;
  survey->address = address;
}

//===--- Mappings ---------------------------------------------------------===//

static cshims_refusal judge(const cshims_mapping *mapping) {
  if (strncmp(mapping->name, "/memfd:gup-", 11) == 0) return CSHIMS_REFUSE_MACHINE;
  if ((mapping->flags & CSHIMS_MAPPING_SHARED) != 0) return CSHIMS_REFUSE_SHARED;
  if (strncmp(mapping->name, "[stack", 6) == 0) return CSHIMS_REFUSE_STACK;
  if (mapping->name[0] == '[' && strcmp(mapping->name, "[heap]") != 0 &&
      strncmp(mapping->name, "[anon", 5) != 0)
    return CSHIMS_REFUSE_LOADER;
  if (mapping->page_size != CSHIMS_PAGE_SIZE) return CSHIMS_REFUSE_HUGE_PAGES;
  if ((mapping->flags & CSHIMS_MAPPING_EXECUTE) != 0 ||
      (mapping->flags & CSHIMS_MAPPING_READ) == 0)
    return CSHIMS_REFUSE_PROTECTION;
  return CSHIMS_REFUSE_NOTHING;
}

static int survey_mappings(range pages, cshims_survey *survey) {
  for (uint64_t at = pages.start; at < pages.end && survey->refusal == CSHIMS_REFUSE_NOTHING;) {
    cshims_mapping mapping;
    int error = cshims_mapping_find(at, &mapping);
    if (error != 0 && error != ENOENT) return error;
    if (error == ENOENT || mapping.start > at) {
      refuse(survey, CSHIMS_REFUSE_UNMAPPED, at);
      return 0;
    }
    bool writable = (mapping.flags & CSHIMS_MAPPING_WRITE) != 0;
    refuse(survey, judge(&mapping), at);
    if (at == pages.start) survey->writable = writable;
    if (survey->writable != writable) refuse(survey, CSHIMS_REFUSE_PROTECTION, at);
    at = mapping.end;
  }
  return 0;
}

//===--- Threads ----------------------------------------------------------===//

/// A thread control block of glibc 2.36, which ends where its stack's last page
/// does; what follows that page is not the thread's.
static const uint64_t control_block_length = 2304;

/// The block of the thread that the program began with; 0 if we came later.
static uint64_t first_block;

__attribute__((constructor)) static void note_first_thread(void) {
  if (syscall(SYS_gettid) == getpid()) first_block = (uint64_t)pthread_self();
}

static int add_thread_data(struct dl_phdr_info *object, size_t size, void *context) {
  (void)size;
  for (int i = 0; i < object->dlpi_phnum; i++) {
    const ElfW(Phdr) *part = &object->dlpi_phdr[i];
    if (part->p_type == PT_TLS) *(uint64_t *)context += part->p_memsz + part->p_align;
  }
  return 0;
}

static uint64_t robust_list(pid_t thread) {
  void *head = NULL;
  size_t length = 0;
  return syscall(SYS_get_robust_list, thread, &head, &length) == 0 ? (uint64_t)(uintptr_t)head : 0;
}

static int survey_thread(pid_t thread, uint64_t distance, uint64_t data_length, range pages,
                         cshims_survey *survey) {
  uint64_t head = robust_list(thread);
  // A thread that is just starting tells in a moment; one that was made without
  // the C library, and one that has gone, never.
  for (int attempt = 0; head == 0 && attempt < 1000; attempt++) {
    if (syscall(SYS_tgkill, getpid(), thread, 0) != 0) return 0;
    sched_yield();
    head = robust_list(thread);
  }
  if (head == 0) return 0;
  uint64_t block = head - distance;
  cshims_mapping mapping;
  int error = cshims_mapping_find(block, &mapping);
  if (error == ENOENT || (error == 0 && mapping.start > block)) return 0;
  if (error != 0) return error;
  uint64_t end = page_after(block + control_block_length);
  range own = {mapping.start, end < mapping.end ? end : mapping.end};
  uint64_t data = page_of(block - data_length);
  if (block == first_block && data > own.start) own.start = data;
  if (meets(own, pages))
    refuse(survey, CSHIMS_REFUSE_THREAD, own.start > pages.start ? own.start : pages.start);
  return 0;
}

/// struct linux_dirent64, as getdents64(2) fills it.
typedef struct directory_entry {
  uint64_t inode;
  int64_t next;
  uint16_t length;
  unsigned char type;
  char name[];
} directory_entry;

static int survey_threads(range pages, cshims_survey *survey) {
  // Where the current thread runs now, if it has chosen a stack of its own.
  uint64_t here = (uint64_t)(uintptr_t)__builtin_frame_address(0);
  if (here >= pages.start && here < pages.end) refuse(survey, CSHIMS_REFUSE_THREAD, page_of(here));
  stack_t alternate;
  if (sigaltstack(NULL, &alternate) == 0 && (alternate.ss_flags & SS_DISABLE) == 0) {
    uint64_t base = (uint64_t)(uintptr_t)alternate.ss_sp;
    if (meets((range){base, base + alternate.ss_size}, pages))
      refuse(survey, CSHIMS_REFUSE_THREAD, page_of(base));
  }
  uint64_t own = robust_list(0);
  if (own == 0) return ENOSYS;
  uint64_t distance = own - (uint64_t)pthread_self();
  // Libraries that come later find room in a surplus of 1,664 bytes by default.
  uint64_t data_length = 4096;
  dl_iterate_phdr(add_thread_data, &data_length);
  int fd = open("/proc/self/task", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return errno;
  int error = 0;
  _Alignas(directory_entry) char buffer[4096];
  long got;
  while (error == 0 && (got = syscall(SYS_getdents64, fd, buffer, sizeof buffer)) > 0) {
    for (long at = 0; at < got && error == 0;) {
      const directory_entry *entry = (const void *)(buffer + at);
      pid_t thread = 0;
      for (const char *digit = entry->name; *digit >= '0' && *digit <= '9'; digit++)
        thread = thread * 10 + (*digit - '0');
      if (thread != 0) error = survey_thread(thread, distance, data_length, pages, survey);
      at += entry->length;
    }
  }
  if (error == 0 && got < 0) error = errno;
  close(fd);
  return error;
}

//===--- Program and libraries --------------------------------------------===//

typedef struct object_survey {
  range buffer, pages;
  cshims_survey *survey;
  /// An address inside each object that the fault path runs in.
  uint64_t own, c_library, runtime;
} object_survey;

static bool contains(const struct dl_phdr_info *object, uint64_t address) {
  for (int i = 0; i < object->dlpi_phnum; i++) {
    const ElfW(Phdr) *part = &object->dlpi_phdr[i];
    uint64_t start = object->dlpi_addr + part->p_vaddr;
    if (part->p_type == PT_LOAD && address >= start && address < start + part->p_memsz) return true;
  }
  return false;
}

static int survey_object(struct dl_phdr_info *object, size_t size, void *context) {
  (void)size;
  object_survey *it = context;
  for (int i = 0; i < object->dlpi_phnum; i++) {
    const ElfW(Phdr) *part = &object->dlpi_phdr[i];
    uint64_t start = object->dlpi_addr + part->p_vaddr;
    range pages = {page_of(start), page_after(start + part->p_memsz)};
    if (part->p_type != PT_LOAD || !meets(pages, it->pages)) continue;
    uint64_t at = pages.start > it->pages.start ? pages.start : it->pages.start;
    uint64_t loader = getauxval(AT_BASE);
    if (contains(object, it->own)) {
      // Its own pages are the program's alone when its ends are pages' ends.
      bool whole = it->buffer.start == it->pages.start && it->buffer.end == it->pages.end;
      if (!whole) refuse(it->survey, CSHIMS_REFUSE_LIBRARY, at);
    } else if ((loader != 0 && object->dlpi_addr == loader) || contains(object, it->c_library) ||
               (it->runtime != 0 && contains(object, it->runtime))) {
      refuse(it->survey, CSHIMS_REFUSE_LOADER, at);
    }
  }
  return 0;
}

static void survey_objects(range buffer, range pages, cshims_survey *survey) {
  static const char here = 0;
  object_survey objects = {
      .buffer = buffer,
      .pages = pages,
      .survey = survey,
      .own = (uint64_t)(uintptr_t)&here,
      // A string constant of the C library's.
      .c_library = (uint64_t)(uintptr_t)gnu_get_libc_version(),
      .runtime = (uint64_t)(uintptr_t)dlsym(RTLD_DEFAULT, "swift_retain"),
  };
  dl_iterate_phdr(survey_object, &objects);
}

int cshims_adoption_survey(uint64_t start, uint64_t end, cshims_survey *survey) {
  range buffer = {start, end};
  range pages = {page_of(start), page_after(end)};
  memset(survey, 0, sizeof *survey);
  int error = survey_mappings(pages, survey);
  if (error == 0) error = survey_threads(pages, survey);
  if (error == 0) survey_objects(buffer, pages, survey);
  return error;
}
