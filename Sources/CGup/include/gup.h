//===----------------------------------------------------------------------===//
// gup.h: Linux get_user_pages, pin_user_pages and iov_iter page extraction in
// user space, on real memory, for C11 and C++17. docs/c.md tells how to link.
//
// What holds for every function, unless it says otherwise:
//
// Errors         0 or a count on success, a negative errno on failure. Nothing
//                has changed then. -EINVAL for a handle or page that is NULL, of
//                another kind, or destroyed, for an iterator that was never
//                made, and for an output pointer that is NULL. What was wrong,
//                by name and value, is in gup_last_error().
// Ownership      gup_*_create makes a handle, gup_*_destroy ends it. A handle
//                is a number in a pointer's clothes: never dereference it. A
//                page pointer is borrowed from its machine; who takes a hold
//                on a page drops it by the call that is named at the taking.
// Threads        Every call is thread-safe, except that one thread at a time
//                uses one gup_iter, gup_extraction, gup_sg, gup_bio, gup_bvecs
//                or gup_detached, and that nobody uses what another destroys.
// Never          aborts for an argument, except that a hold which is released
//                more often than it was taken stops the program (SIGABRT) where
//                the page's count shows it; with the ledger it is -EINVAL.
//===----------------------------------------------------------------------===//
#ifndef GUP_H
#define GUP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { GUP_VERSION_MAJOR = 0, GUP_VERSION_MINOR = 1 };

/// "major.minor" of the library that is linked. A static string.
const char *gup_version(void);

/// The text of this thread's last failure: errno name, what was wrong, the
/// value. Writes at most `size` bytes, the final 0 included, and returns the
/// bytes that the whole text needs without it; 0 before the first failure.
size_t gup_last_error(char *buffer, size_t size);

/// Frees a page list that the library allocated. NULL is fine.
void gup_free(void *memory);

typedef struct gup_machine gup_machine;    // physical memory and what hangs on it
typedef struct gup_mm gup_mm;              // an address space (struct mm_struct)
typedef struct gup_page gup_page;          // a page descriptor (struct page)
typedef struct gup_file gup_file;          // a mapped file and its page cache
typedef struct gup_xarray gup_xarray;      // an index of pages (struct xarray)
typedef struct gup_pipe gup_pipe;          // a ring of page buffers
typedef struct gup_vmap gup_vmap;          // scattered pages at consecutive addresses
typedef struct gup_sg gup_sg;              // a scatter list (struct sg_table)
typedef struct gup_bvecs gup_bvecs;        // extracted memory as bvecs
typedef struct gup_bio gup_bio;            // a block transfer (struct bio)
typedef struct gup_detached gup_detached;  // pages that an iterator gave up
typedef struct gup_dma gup_dma;            // a device

//===--- Machines ---------------------------------------------------------===//

/// How plain loads and stores on absent or protected user memory are caught.
enum { GUP_TRAP_BEST = 0, GUP_TRAP_NONE = 1, GUP_TRAP_SIGSEGV = 2, GUP_TRAP_USERFAULTFD = 3 };

/// Whose rules extraction follows: the request for comments of 2022, or Linux
/// 6.12 and later.
enum { GUP_DIALECT_RFC = 0, GUP_DIALECT_UPSTREAM = 1 };

/// All fields 0: the defaults.
struct gup_machine_options {
  uint64_t capacity;       ///< Bytes of physical memory, whole pages, to 1 TiB; 0: 64 GiB, sparse.
  uint64_t host_mappings;  ///< The most of one address space; 0: a quarter of the host's.
  int32_t trap;            ///< GUP_TRAP_*
  int32_t dialect;         ///< GUP_DIALECT_* of iterators that name none.
  bool joinable;           ///< May children made by fork(2) join (gup_mm_join)? Needs a trap.
};

/// Makes a machine; `options` may be NULL. -EINVAL for a capacity, trap or
/// dialect that there is not, or joinable without a trap, -ENOMEM, -EOPNOTSUPP from
/// a library whose values are not laid out as this header's structs. With
/// GUP_LEDGER=1 in the environment it keeps a ledger of holds (see
/// gup_ledger_enable).
int gup_machine_create(const struct gup_machine_options *options, gup_machine **machine);
/// Ends a machine; its page pointers mean nothing afterwards. -EBUSY while it
/// has address spaces, files or other handles. Holds on pages end with it.
int gup_machine_destroy(gup_machine *machine);

struct gup_machine_info {
  uint64_t total_frames, free_frames;  ///< 4 KiB frames that can be handed out, and are free.
  uint64_t resident_bytes;             ///< Host memory behind the frames.
  uint64_t host_mappings;              ///< The most that one address space may have.
  int32_t trap, dialect;               ///< GUP_TRAP_*, GUP_DIALECT_*
  uint32_t policy;                     ///< GUP_POLICY_*
  bool joinable;
};
int gup_machine_get_info(gup_machine *machine, struct gup_machine_info *info);
/// The dialect of iterators that are made from now on without naming one.
int gup_machine_set_dialect(gup_machine *machine, int dialect);
/// How copy-on-write is decided, and what mremap may move; 0 is right, the first
/// four are wrong as kernels of their time were (docs/architecture.md), the last
/// two are choices: Linux from 6.15 and from 6.17 on. Any time; changes no page.
enum {
  GUP_POLICY_REUSE_BY_MAPPING_COUNT = 1, GUP_POLICY_NO_UNSHARE = 2,
  GUP_POLICY_COPY_REFERENCED_AT_FORK = 4, GUP_POLICY_SHARE_AT_FORK = 8,
  GUP_POLICY_REUSE_LARGE_FOLIOS = 16, GUP_POLICY_REMAP_SEVERAL_AREAS = 32,
};
int gup_machine_set_policy(gup_machine *machine, uint32_t policy);

/// What was counted since the machine was made (nr_foll_pin_acquired and its
/// like); pins count 4 KiB pages. Exact when other threads are quiet.
struct gup_counters {
  uint64_t pins_acquired, pins_released, refs_acquired, refs_released, faults, host_calls;
};
int gup_machine_counters(gup_machine *machine, struct gup_counters *counters);

/// Places that can be told to fail.
enum {
  GUP_FAIL_FRAME = 0, GUP_FAIL_METADATA = 1, GUP_FAIL_PAGE_LIST = 2, GUP_FAIL_FAULT = 3,
  GUP_FAIL_GRAB = 4, GUP_FAIL_HOST_MAPPING = 5, GUP_FAIL_LIST_GROWTH = 6,
};
/// Makes the `countdown`-th passage of a point from now fail, once; 0 disarms it.
int gup_machine_arm(gup_machine *machine, int point, uint64_t countdown);
/// How often a point has failed since it was armed last.
int64_t gup_machine_failures(gup_machine *machine, int point);

/// Kinds of events.
enum {
  GUP_EVENT_FAULT = 0, GUP_EVENT_GET = 1, GUP_EVENT_PIN = 2, GUP_EVENT_PUT = 3,
  GUP_EVENT_UNPIN = 4, GUP_EVENT_MAP = 5, GUP_EVENT_UNMAP = 6, GUP_EVENT_PROTECT = 7,
  GUP_EVENT_ADVISE = 8, GUP_EVENT_COPY = 9, GUP_EVENT_FORK = 10, GUP_EVENT_MOVE = 11,
  GUP_EVENT_MIGRATE = 12, GUP_EVENT_RECLAIM = 13, GUP_EVENT_ADOPT = 14,
  GUP_EVENT_GIVE_BACK = 15, GUP_EVENT_ADOPTION_LOST = 16,
};
/// Called as things happen, on the thread that does them, inside the fault path
/// too: it must not allocate, block, or touch user memory.
typedef void (*gup_event_sink)(void *context, uint32_t kind, uint64_t address, uint64_t frame,
                               uint64_t pages);
/// Attaches the machine's one sink, NULL: none. No call of the one before is
/// left when this returns. Not to be called from a sink.
int gup_machine_set_event_sink(gup_machine *machine, gup_event_sink sink, void *context);

/// What a pass over pages did, in pages; address spaces in the last row.
struct gup_movement {
  uint64_t moved;               ///< Or taken back.
  uint64_t pinned, referenced;  ///< Left alone: somebody holds them, or may.
  uint64_t dirty;               ///< Their bytes would be lost.
  uint64_t unreachable;         ///< Shown in places that were not found.
  uint64_t unmovable;           ///< Secret, locked, of a large folio.
  uint64_t without_frame;       ///< No frame was free for them.
  uint64_t busy_spaces;         ///< Passed over: somebody worked in them.
};
/// Takes back up to `pages` pages whose bytes nobody can miss: given up by
/// MADV_FREE, or clean pages of mapped files. Returns the pages taken; `movement`
/// may be NULL. Nothing runs by itself.
int64_t gup_machine_reclaim(gup_machine *machine, uint64_t pages, struct gup_movement *movement);
/// Moves private pages back to their areas' own stretches of frames, so that
/// neighbours are neighbours again (compaction). Returns the pages moved.
int64_t gup_machine_compact(gup_machine *machine, struct gup_movement *movement);
/// Gives back what processes held that joined a joinable machine and have died.
/// Returns how many. The library does so by itself a few times a second.
int64_t gup_machine_reap(gup_machine *machine);

//===--- The ledger of holds ----------------------------------------------===//

/// Notes from now on who takes holds on the machine's pages; 0 also when it is
/// on, -ENOMEM. Holds taken before are not known to it and would be refused when
/// they are dropped, so call it first. Then a release of a hold that a page has
/// not got (too many, or of the wrong kind) is -EINVAL and reported on stderr, and
/// a program that exits or destroys the machine with holds left gets a report
/// there: how many pins and refs, of which address space, taken from which calls.
int gup_ledger_enable(gup_machine *machine);
/// Holds that the ledger knows of and that were not dropped, in all machines.
int gup_ledger_counts(uint64_t *pins, uint64_t *refs);
/// Writes the report to a file descriptor; nothing when no hold is left.
/// Returns the holds that were reported.
int64_t gup_ledger_report(int fd);

//===--- Pages ------------------------------------------------------------===//

enum { GUP_PAGE_SHIFT = 12, GUP_PAGE_SIZE = 4096 };

/// Takes a zeroed block of 2^order frames (alloc_pages), with one reference,
/// dropped by gup_put_page. -EINVAL for an order above 10, -ENOMEM.
int gup_page_alloc(gup_machine *machine, unsigned order, gup_page **page);
/// The page of a frame number (pfn_to_page), or NULL when there is none.
gup_page *gup_page_of_frame(gup_machine *machine, uint64_t frame);
/// The page that an address of gup_page_address or gup_vmap_address shows
/// (virt_to_page, vmalloc_to_page), or NULL for any other address.
gup_page *gup_page_of_address(gup_machine *machine, const void *address);
/// The page that every untouched private address reads (ZERO_PAGE), or NULL.
gup_page *gup_zero_page(gup_machine *machine);
/// The page's 4,096 bytes as a device sees them: no fault, no protection
/// (page_address). NULL for what is no page. Valid as long as the page is held.
void *gup_page_address(const gup_page *page);
/// The frame number (page_to_pfn); UINT64_MAX for what is no page.
uint64_t gup_page_frame(const gup_page *page);

/// A page as it was when asked.
struct gup_page_state {
  uint64_t frame;
  gup_page *head;       ///< The first page of its folio (compound_head).
  int64_t references;   ///< page_ref_count: a pin on a single page counts 1,024.
  int64_t pins;         ///< Exact on folios of several pages, else references / 1,024.
  int64_t mappings;     ///< Page-table entries that show it (page_mapcount).
  int64_t folio_mappings;  ///< The same of all of its folio's pages (folio_mapcount).
  uint32_t order;       ///< log2 of its folio's pages.
  bool may_be_pinned;   ///< folio_maybe_dma_pinned
  bool is_zero_page, is_anonymous, is_exclusive, is_dirty, is_free;
};
int gup_page_get_state(const gup_page *page, struct gup_page_state *state);
/// Marks the page's folio dirty (folio_mark_dirty). Returns 1 if it was clean.
int gup_page_mark_dirty(gup_page *page);

//===--- Address spaces: gup/mm.h ------------------------------------------===//

//===--- Files ------------------------------------------------------------===//

/// Opens a regular file for mapping. The errno of open(2).
int gup_file_open(gup_machine *machine, const char *path, bool writable, gup_file **file);
/// Ends the handle; the last mapping's end writes back and closes.
int gup_file_close(gup_file *file);
/// Bytes when it was opened.
int64_t gup_file_length(gup_file *file);
/// Reads the pages of a range into the cache. -EINVAL outside the file, -EIO.
int gup_file_bring_in(gup_file *file, uint64_t offset, uint64_t length);
int gup_file_sync(gup_file *file);

//===--- get_user_pages and its like --------------------------------------===//

/// What a caller may ask (FOLL_*), with Linux's values since 6.3.
enum {
  GUP_FOLL_WRITE = 1 << 0, GUP_FOLL_DUMP = 1 << 2, GUP_FOLL_FORCE = 1 << 3,
  GUP_FOLL_NOWAIT = 1 << 4, GUP_FOLL_NOFAULT = 1 << 5, GUP_FOLL_HWPOISON = 1 << 6,
  GUP_FOLL_ANON = 1 << 7, GUP_FOLL_LONGTERM = 1 << 8, GUP_FOLL_SPLIT_PMD = 1 << 9,
  GUP_FOLL_PCI_P2PDMA = 1 << 10, GUP_FOLL_INTERRUPTIBLE = 1 << 11,
  GUP_FOLL_HONOR_NUMA_FAULT = 1 << 12,
};

/// Take a reference on each page of a range, from the page that `start` lies in
/// (get_user_pages_fast, get_user_pages_fast_only, get_user_pages). `pages` has
/// room for `count`; only the last form takes NULL, and then only faults.
/// Return the pages taken, each dropped by gup_put_page; fewer than asked is a
/// success, and 0 for a `count` of 0 or less. -EINVAL for flags, -EOVERFLOW for
/// a range that wraps, -EFAULT, -ENOMEM, -EREMOTEIO, -EHWPOISON, -ESRCH. The
/// fast form enters no lock or host while all entries are present; the fast-only
/// form never does, and gives 0 where it would have to.
int64_t gup_get_user_pages_fast(gup_mm *mm, uint64_t start, int64_t count, unsigned flags,
                                gup_page **pages);
int64_t gup_get_user_pages_fast_only(gup_mm *mm, uint64_t start, int64_t count, unsigned flags,
                                     gup_page **pages);
int64_t gup_get_user_pages(gup_mm *mm, uint64_t start, int64_t count, unsigned flags,
                           gup_page **pages);
/// The same with pins (pin_user_pages_fast and its like), for whoever reads or
/// writes the bytes; LONGTERM too. Dropped by gup_unpin_user_page.
int64_t gup_pin_user_pages_fast(gup_mm *mm, uint64_t start, int64_t count, unsigned flags,
                                gup_page **pages);
int64_t gup_pin_user_pages_fast_only(gup_mm *mm, uint64_t start, int64_t count, unsigned flags,
                                     gup_page **pages);
int64_t gup_pin_user_pages(gup_mm *mm, uint64_t start, int64_t count, unsigned flags,
                           gup_page **pages);

/// Takes one more reference on a held page (get_page). -ENOMEM on overflow.
int gup_get_page(gup_page *page);
/// Takes one more pin on a pinned page (folio_add_pin). -EINVAL when it has none.
int gup_add_pin(gup_page *page);
/// Drop references (put_page) and pins (unpin_user_page and its like) that the
/// caller has. NULL slots are skipped; a `count` that is not positive does
/// nothing, so a GUP call's error may come along. With `dirty`, folios are
/// marked dirty first. A bad page anywhere in a list: -EINVAL, none is dropped.
int gup_put_page(gup_page *page);
int gup_put_pages(gup_page *const *pages, int64_t count);
int gup_unpin_user_page(gup_page *page);
int gup_unpin_user_pages(gup_page *const *pages, int64_t count);
int gup_unpin_user_pages_dirty_lock(gup_page *const *pages, int64_t count, bool dirty);
/// `count` physically consecutive pages from `page` on.
int gup_unpin_user_page_range_dirty_lock(gup_page *page, int64_t count, bool dirty);
/// `count` pins of one folio (unpin_user_folio); one pin of each folio of a list.
int gup_unpin_user_folio(gup_page *page, int64_t count);
int gup_unpin_folios(gup_page *const *folios, int64_t count);

//===--- Page indices, pipes, virtual mappings ----------------------------===//

/// An index of pages, for XARRAY iterators. It holds no reference on them.
int gup_xarray_create(gup_machine *machine, gup_xarray **xarray);
int gup_xarray_destroy(gup_xarray *xarray);
/// Stores a page, at the 2^order indices around `index`, order 0 to 9; NULL erases.
int gup_xarray_store(gup_xarray *xarray, uint64_t index, unsigned order, gup_page *page);
/// Stores a value of 63 bits in place of a page (xa_mk_value).
int gup_xarray_store_value(gup_xarray *xarray, uint64_t index, uint64_t value);
/// Makes a later store at a hole sure to succeed (xa_reserve). -ENOMEM.
int gup_xarray_reserve(gup_xarray *xarray, uint64_t index);
/// The page at an index, or NULL for a hole or what is no page.
gup_page *gup_xarray_load(gup_xarray *xarray, uint64_t index);
/// What an index has: a page, or a value in place of one.
struct gup_xarray_entry {
  uint64_t index;   ///< The first index that it covers, of 2^order.
  gup_page *page;   ///< NULL for a value.
  uint64_t value;
  uint32_t order;
  bool is_value;
};
/// The first entry that covers `index` or a later one, up to `last` (xa_find): 1,
/// or 0 where there is none. From 0 and each `index` + 2^order on it goes over all.
int gup_xarray_find(gup_xarray *xarray, uint64_t index, uint64_t last,
                    struct gup_xarray_entry *entry);

/// A ring of 1 to 1,048,576 page buffers; 0: 16. It owns its pages.
int gup_pipe_create(gup_machine *machine, unsigned buffers, gup_pipe **pipe);
int gup_pipe_destroy(gup_pipe *pipe);
/// Appends bytes as a writer, takes them as a reader; the bytes moved. -EFAULT
/// for a full ring, -ENOMEM.
int64_t gup_pipe_write(gup_pipe *pipe, const void *bytes, size_t length);
int64_t gup_pipe_read(gup_pipe *pipe, void *bytes, size_t length);
/// Bytes in the pipe; buffers in use; how often a page went while an extraction
/// listed it.
int64_t gup_pipe_bytes(gup_pipe *pipe);
int64_t gup_pipe_buffers(gup_pipe *pipe);
int64_t gup_pipe_hazards(gup_pipe *pipe);

/// Shows pages at consecutive addresses (vmap), with a reference on each.
int gup_vmap_create(gup_machine *machine, gup_page *const *pages, size_t count, gup_vmap **vmap);
int gup_vmap_destroy(gup_vmap *vmap);
/// The first byte; NULL for a bad handle.
void *gup_vmap_address(gup_vmap *vmap);

//===--- Iterators --------------------------------------------------------===//

/// A place in a description of memory (struct iov_iter). Its words are the
/// library's; copy it freely, there is nothing to free. It holds nothing: like
/// the kernel's, it points to the segments, which must not change while it is in
/// use, and to what it was made of, whose end makes its calls give -EINVAL.
typedef struct gup_iter {
  uint64_t words[26];
} gup_iter;
/// A place to come back to (struct iov_iter_state).
typedef struct gup_iter_state {
  uint64_t words[4];
} gup_iter_state;

/// Which way the data goes; add GUP_RFC or GUP_UPSTREAM to name a dialect.
enum { GUP_DEST = 0, GUP_SOURCE = 1, GUP_RFC = 2, GUP_UPSTREAM = 4 };
/// What an iterator describes.
enum {
  GUP_ITER_UBUF = 0, GUP_ITER_IOVEC = 1, GUP_ITER_BVEC = 2, GUP_ITER_KVEC = 3,
  GUP_ITER_XARRAY = 4, GUP_ITER_FOLIOQ = 5, GUP_ITER_PIPE = 6, GUP_ITER_DISCARD = 7,
};

/// A user segment, laid out as struct iovec: `base` is a user address.
struct gup_iovec { uint64_t base; size_t length; };
/// A segment of gup_page_address or gup_vmap_address memory (struct kvec).
struct gup_kvec { void *base; size_t length; };
/// `length` bytes from byte `offset` of `page` on, into the following pages too
/// (struct bio_vec).
struct gup_bvec { gup_page *page; size_t length; size_t offset; };
/// A folio in a queue; see gup_folio_slot.
struct gup_folioq_slot { gup_page *head; uint64_t order; };

/// Make iterators. -EINVAL for what no later call could use: negative or
/// overflowing lengths, ranges that wrap, a count beyond the segments, more than
/// 1,024 user segments, pages or addresses of another machine, a source where
/// data only goes in. KVEC and FOLIOQ are extracted by the upstream dialect
/// alone and have it by default; PIPE by the RFC's alone, where the machine's
/// default or the call must name it.
int gup_iter_ubuf(gup_iter *iter, gup_mm *mm, unsigned direction, uint64_t base, size_t count);
int gup_iter_iovec(gup_iter *iter, gup_mm *mm, unsigned direction,
                   const struct gup_iovec *segments, size_t segment_count, size_t count);
int gup_iter_bvec(gup_iter *iter, gup_machine *machine, unsigned direction,
                  const struct gup_bvec *segments, size_t segment_count, size_t count);
int gup_iter_kvec(gup_iter *iter, gup_machine *machine, unsigned direction,
                  const struct gup_kvec *segments, size_t segment_count, size_t count);
int gup_iter_xarray(gup_iter *iter, gup_xarray *xarray, unsigned direction, uint64_t start,
                    size_t count);
int gup_iter_file(gup_iter *iter, gup_file *file, unsigned direction, uint64_t start,
                  size_t count);
/// Starts `offset` bytes into folio `first`. Slots come from gup_folio_slot.
int gup_iter_folioq(gup_iter *iter, gup_machine *machine, unsigned direction,
                    const struct gup_folioq_slot *slots, size_t slot_count, size_t first,
                    size_t offset, size_t count);
int gup_iter_pipe(gup_iter *iter, gup_pipe *pipe, unsigned direction, size_t count);
int gup_iter_discard(gup_iter *iter, gup_machine *machine, unsigned direction, size_t count);
/// Describes a folio by its first page. -EINVAL for a page that is not the first.
int gup_folio_slot(gup_page *head, struct gup_folioq_slot *slot);
/// import_ubuf, import_iovec: checked against user space (-EFAULT), cut to one
/// transfer of 0x7ffff000 bytes; the latter cuts `segments` in place.
int gup_iter_import_ubuf(gup_iter *iter, gup_mm *mm, unsigned direction, uint64_t base,
                         size_t count);
int gup_iter_import_iovec(gup_iter *iter, gup_mm *mm, unsigned direction,
                          struct gup_iovec *segments, size_t segment_count);
/// Reads segments from user memory (iovec_from_user). -EFAULT, -EINVAL.
int gup_iovec_from_user(gup_mm *mm, uint64_t address, size_t segment_count,
                        struct gup_iovec *segments);

/// An iterator as it stands.
struct gup_iter_info {
  int32_t kind, dialect;   ///< GUP_ITER_*, GUP_DIALECT_*
  uint32_t direction;      ///< GUP_DEST or GUP_SOURCE
  bool nofault;
  uint64_t count;          ///< Bytes left (iov_iter_count).
  int64_t offset;          ///< Into the current segment (iov_offset).
  uint64_t segments;       ///< From the current one on (nr_segs).
};
int gup_iter_get_info(const gup_iter *iter, struct gup_iter_info *info);
/// Bytes left; 0 for what is no iterator.
size_t gup_iter_count(const gup_iter *iter);
/// Extractions take only what is present (iov_iter.nofault).
int gup_iter_set_nofault(gup_iter *iter, bool nofault);

/// Move on by at most the count; back by at most what was moved and 0x7ffff000;
/// lower the count; raise it again to at most what it was made with.
int gup_iter_advance(gup_iter *iter, size_t size);
int gup_iter_revert(gup_iter *iter, size_t size);
int gup_iter_truncate(gup_iter *iter, size_t count);
int gup_iter_reexpand(gup_iter *iter, size_t count);
int gup_iter_save(const gup_iter *iter, gup_iter_state *state);
int gup_iter_restore(gup_iter *iter, const gup_iter_state *state);

/// Page slots that all its bytes need, at most `max_pages` (iov_iter_npages).
int64_t gup_iter_npages(const gup_iter *iter, int64_t max_pages);
/// 1 when all starts and lengths miss the masks, else 0 (iov_iter_is_aligned).
int gup_iter_is_aligned(const gup_iter *iter, uint64_t address_mask, uint64_t length_mask);
/// The bits of all starts and lengths; of all inner boundaries. 0 for what is no
/// iterator.
uint64_t gup_iter_alignment(const gup_iter *iter);
uint64_t gup_iter_gap_alignment(const gup_iter *iter);
/// What fits `max_size` bytes and `max_segments` scatter-list entries from
/// `start` bytes on (netfs_limit_iter): the bytes, and how many entries.
int64_t gup_iter_span(const gup_iter *iter, size_t start, size_t max_size, size_t max_segments,
                      size_t *segments);

/// Copy and advance: the bytes moved, fewer where a fault ended it. -EINVAL
/// against the direction; -EFAULT, -EACCES, -ENOMEM when no byte moved.
int64_t gup_iter_copy_to(gup_iter *iter, const void *from, size_t length);
int64_t gup_iter_copy_from(gup_iter *iter, void *to, size_t length);
int64_t gup_iter_zero(gup_iter *iter, size_t length);
int64_t gup_iter_copy_page_to(gup_iter *iter, gup_page *page, size_t offset, size_t length);

//===--- Extraction -------------------------------------------------------===//

/// What is held on each extracted page, and so the call that drops it.
enum {
  GUP_UNRETAINED = 0,  ///< Nothing: the iterator's maker keeps the pages.
  GUP_REFERENCED = 1,  ///< gup_put_page (FOLL_GET)
  GUP_PINNED = 2,      ///< gup_unpin_user_page (FOLL_PIN)
};
/// What an extraction takes beyond the ordinary.
enum { GUP_EXTRACT_P2PDMA = 1 };

/// What an extraction will hold: GUP_UNRETAINED, GUP_REFERENCED or GUP_PINNED
/// (iov_iter_extract_mode, iov_iter_extract_will_pin).
int gup_iter_extract_mode(const gup_iter *iter);

/// Why an extraction ended.
enum {
  GUP_STOP_COMPLETE = 0, GUP_STOP_SIZE = 1, GUP_STOP_SEGMENT = 2, GUP_STOP_PAGES = 3,
  GUP_STOP_RING_FULL = 4, GUP_STOP_HOLE = 5, GUP_STOP_ENTRY = 6, GUP_STOP_FAULT = 7,
};
struct gup_stop {
  int32_t reason;  ///< GUP_STOP_*
  int32_t error;   ///< The negative errno of a fault, else 0.
  uint64_t value;  ///< The address of a fault, the index of a hole or entry.
};

/// Extracts the next pages and advances (iov_iter_extract_pages): at most
/// `max_size` bytes and `max_pages` pages of one segment. With `*pages` NULL a
/// list is allocated (gup_free) and kept only on success, else the caller's is
/// filled, which has `max_pages` slots. `*offset` is where the bytes start in
/// the first page. Returns the bytes; 0 when nothing is left or asked. -EFAULT
/// for a kind that the dialect does not extract, -ENOMEM for no `max_pages` or
/// memory, what GUP says of the first page. The caller owes what
/// gup_iter_extract_mode says on each of ceil(offset + bytes) pages.
int64_t gup_iter_extract_pages(gup_iter *iter, gup_page ***pages, size_t max_size,
                               size_t max_pages, unsigned flags, size_t *offset);

/// Extracted pages and what is held on them. Read the fields; the words are the
/// library's. Not to be copied.
typedef struct gup_extraction {
  gup_page **pages;
  size_t page_count;
  size_t offset;       ///< Into the first page.
  size_t length;       ///< Bytes.
  int32_t retention;   ///< GUP_UNRETAINED, ...
  uint32_t direction;  ///< GUP_DEST or GUP_SOURCE
  struct gup_stop stop;
  uint64_t words[10];
} gup_extraction;
/// The same into a value that owns list and holds, until it is released. Pipes
/// watch its pages meanwhile.
int64_t gup_iter_extract(gup_iter *iter, size_t max_size, size_t max_pages, unsigned flags,
                         gup_extraction *extraction);
/// Exactly `length` bytes by one extraction, or -EFAULT and nothing.
int64_t gup_iter_extract_exactly(gup_iter *iter, size_t length, size_t max_pages, unsigned flags,
                                 gup_extraction *extraction);
/// Drops the holds and frees the list; `dirty`: the device wrote. -EINVAL for
/// what was released already.
int gup_extraction_release(gup_extraction *extraction, bool dirty);

/// Extracts bvecs over segments (iov_iter_extract_bvecs); joins pages of one
/// folio. `exactly`: all of `max_size` or -EFAULT and nothing. Returns the bytes.
int64_t gup_iter_extract_bvecs(gup_iter *iter, size_t max_size, size_t max_bvecs, unsigned flags,
                               bool exactly, gup_bvecs **bvecs);
int64_t gup_bvecs_count(gup_bvecs *bvecs);
int gup_bvecs_get(gup_bvecs *bvecs, size_t index, struct gup_bvec *bvec);
/// Drops the holds and ends the handle.
int gup_bvecs_release(gup_bvecs *bvecs, bool dirty);

/// Turns a user iterator into one over its pages (netfs_extract_user_iter).
/// -EIO for other kinds. Returns the bytes.
int64_t gup_iter_detach(gup_iter *iter, size_t max_size, unsigned flags, gup_detached **detached);
/// A BVEC iterator over the pages, valid as long as the handle.
int gup_detached_iter(gup_detached *detached, gup_iter *iter);
int gup_detached_release(gup_detached *detached, bool dirty);

/// A scatter list of `capacity` entries (sg_alloc_table). -ENOMEM.
int gup_sg_create(gup_machine *machine, size_t capacity, gup_sg **sg);
/// Adds the next memory to a list (extract_iter_to_sg): a page, bvec or folio an
/// entry. Returns the bytes; all or none for user pages. -EIO for PIPE and
/// DISCARD, -EINVAL for an ended list or entries that are held otherwise.
int64_t gup_iter_extract_to_sg(gup_iter *iter, gup_sg *sg, size_t max_size, size_t max_entries,
                               unsigned flags);
int64_t gup_sg_count(gup_sg *sg);
struct gup_sg_entry { gup_page *page; size_t offset; size_t length; bool is_last; };
int gup_sg_get(gup_sg *sg, size_t index, struct gup_sg_entry *entry);
/// Marks the last entry as the end, or takes the mark away.
int gup_sg_mark_end(gup_sg *sg, bool end);
/// Drops the holds and ends the handle.
int gup_sg_release(gup_sg *sg, bool dirty);

/// A block transfer of at most `max_bvecs` bvecs, in whole blocks (a power of
/// two; 0: 512). -ENOMEM.
int gup_bio_create(gup_machine *machine, size_t max_bvecs, size_t block_size, gup_bio **bio);
/// Adds pages until iterator or bio is at its end (bio_iov_iter_get_pages). A BVEC
/// iterator is taken whole and by an empty bio only; its segments must stay as
/// they are until the release. Returns the bytes. -EINVAL for what is held
/// otherwise or has no room, -EFAULT for less than a block or no progress.
int64_t gup_bio_add_pages(gup_bio *bio, gup_iter *iter, unsigned flags);
int64_t gup_bio_length(gup_bio *bio);
int64_t gup_bio_count(gup_bio *bio);
int gup_bio_get(gup_bio *bio, size_t index, struct gup_bvec *bvec);
/// bio_set_pages_dirty; bio_release_pages, which ends the handle.
int gup_bio_mark_dirty(gup_bio *bio);
int gup_bio_release(gup_bio *bio, bool dirty);

//===--- A device ---------------------------------------------------------===//

/// A device that reaches pages behind the back of page tables, as hardware does.
int gup_dma_create(gup_machine *machine, gup_dma **dma);
int gup_dma_destroy(gup_dma *dma);
/// Write into, read out of a page. -EINVAL for bytes outside it, -EFAULT for a
/// page that nobody holds, -EACCES for writing to the zero page.
int gup_dma_write(gup_dma *dma, gup_page *page, size_t offset, const void *from, size_t length);
int gup_dma_read(gup_dma *dma, gup_page *page, size_t offset, void *to, size_t length);
/// The same with an extraction's bytes, all or none. -EACCES for writing to a
/// source, unless `allow_stale`.
int gup_dma_write_extraction(gup_dma *dma, const gup_extraction *extraction, size_t offset,
                             const void *from, size_t length, bool allow_stale);
int gup_dma_read_extraction(gup_dma *dma, const gup_extraction *extraction, size_t offset,
                            void *to, size_t length);

#ifdef __cplusplus
}
#endif

#include "gup/mm.h"

#endif
