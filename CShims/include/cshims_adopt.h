//===----------------------------------------------------------------------===//
// Adoption of the program's own memory: what stands at an address, what may be
// adopted, moving mappings over it in one step, and fork(2).
//
// The functions that answer an errno do as those of cshims_host.h: no lock, no
// allocation. The survey takes the loader's lock and is called outside of ours.
//===----------------------------------------------------------------------===//
#ifndef CSHIMS_ADOPT_H
#define CSHIMS_ADOPT_H

#include "cshims_basics.h"

static const uint32_t CSHIMS_MAPPING_READ = 1u << 0;
static const uint32_t CSHIMS_MAPPING_WRITE = 1u << 1;
static const uint32_t CSHIMS_MAPPING_EXECUTE = 1u << 2;
static const uint32_t CSHIMS_MAPPING_SHARED = 1u << 3;

/// One host mapping, as /proc/self/maps has it.
typedef struct cshims_mapping {
  uint64_t start, end;
  /// The byte of the file that stands at the start.
  uint64_t offset;
  uint64_t inode;
  uint32_t device_major, device_minor;
  uint32_t flags;
  /// Bytes of its pages; 4096 where the host does not say.
  uint32_t page_size;
  /// File or kind ("[stack]"), cut; empty for anonymous memory.
  char name[64];
} cshims_mapping;

/// The mapping that holds `address`, or the next one above. ENOENT when there is
/// none, an errno when the host does not show its mappings.
int cshims_mapping_find(uint64_t address, cshims_mapping *mapping);
/// Does all of [start, end) show the file, shared? An errno when the host cannot say.
int cshims_shows_file(uint64_t start, uint64_t end, int fd, bool *shows);
/// The same, from byte `offset` of the file on.
int cshims_shows_file_from(uint64_t start, uint64_t end, int fd, uint64_t offset, bool *shows);
/// May the program's access pass now, as far as the host's mapping says?
bool cshims_is_accessible(uint64_t address, bool is_write);
/// Is all of [start, end) private memory that can be read?
bool cshims_is_private(uint64_t start, uint64_t end);

/// Why memory cannot be adopted.
typedef enum cshims_refusal {
  CSHIMS_REFUSE_NOTHING = 0,
  CSHIMS_REFUSE_UNMAPPED,
  /// Shared with others by its mapping.
  CSHIMS_REFUSE_SHARED,
  /// A machine's own: adopted already, a view, a window.
  CSHIMS_REFUSE_MACHINE,
  /// Executable, inaccessible, or not all of one protection.
  CSHIMS_REFUSE_PROTECTION,
  CSHIMS_REFUSE_STACK,
  /// The stack or thread-local data of some thread.
  CSHIMS_REFUSE_THREAD,
  /// The loader's, the C library's, the Swift runtime's, or the kernel's.
  CSHIMS_REFUSE_LOADER,
  /// A page that this library's own variables may stand on.
  CSHIMS_REFUSE_LIBRARY,
  CSHIMS_REFUSE_HUGE_PAGES,
} cshims_refusal;

typedef struct cshims_survey {
  cshims_refusal refusal;
  /// Where it was met.
  uint64_t address;
  bool writable;
} cshims_survey;

/// Looks at the whole pages that hold [start, end). Returns 0 and the findings, or
/// an errno where the host does not let us look.
int cshims_adoption_survey(uint64_t start, uint64_t end, cshims_survey *survey);

/// Copies memory into a file. EFAULT where it cannot be read; never a signal.
int cshims_copy_into_file(int fd, uint64_t offset, uint64_t source, uint64_t length);
/// Registers private memory for events of stores into write-protected pages.
int cshims_userfaultfd_register_stores(int fd, uint64_t address, uint64_t length);
/// Maps `fd` shared, left out of fork(2), where there is room, with every page of
/// it there if `populate`.
int cshims_view_aside(uint64_t length, uint32_t protection, int fd, uint64_t offset,
                      bool populate, uint64_t *base);
/// Moves a mapping over what stands at `to`, in one step for whoever touches it.
int cshims_move_over(uint64_t from, uint64_t length, uint64_t to);

bool cshims_pages_differ(const void *one, const void *other);
/// Stores into `page` the bytes that have changed from `before` to `now`; a device
/// may be storing others.
void cshims_merge_page(void *page, const void *before, const void *now);

//===--- fork(2) ----------------------------------------------------------===//

/// What is to be done around fork(2).
typedef void (*cshims_adoption_act)(cshims_context context);

/// Has `before` done before each fork(2), and `after` in the parent, with this
/// context, unless they are there already; ENOMEM. Both wait for a fork(2) that is
/// under way. Not to be called with a lock held that an act takes.
int cshims_adoption_hook_add(cshims_context context, cshims_adoption_act before,
                             cshims_adoption_act after);
/// Takes off what was added with this context, if it is there.
void cshims_adoption_hook_remove(cshims_context context);
/// True on the thread that is inside fork(2), from before its hooks to after them.
bool cshims_is_forking(void);
/// Lets a moment pass.
void cshims_wait_a_moment(void);

#endif
