//===----------------------------------------------------------------------===//
// gup/mm.h: address spaces. A part of gup.h, which includes it and says what
// holds for every function.
//===----------------------------------------------------------------------===//
#ifndef GUP_MM_H
#define GUP_MM_H

#include "../gup.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { GUP_PROT_NONE = 0, GUP_PROT_READ = 1, GUP_PROT_WRITE = 2, GUP_PROT_EXEC = 4 };
/// As in mmap(2). Neither SHARED nor PRIVATE means PRIVATE. Ours, and for anonymous
/// memory: of frames that must stay movable (ZONE_MOVABLE), which a LONGTERM pin
/// moves first; secret memory (memfd_secret), which must be SHARED and is locked
/// from the start: GUP refuses it.
enum {
  GUP_MAP_SHARED = 0x1, GUP_MAP_PRIVATE = 0x2, GUP_MAP_FIXED = 0x10,
  GUP_MAP_FIXED_NOREPLACE = 0x100000, GUP_MAP_MOVABLE = 1 << 28, GUP_MAP_SECRET = 1 << 29,
};
/// As in madvise(2).
enum {
  GUP_MADV_NORMAL = 0, GUP_MADV_RANDOM = 1, GUP_MADV_SEQUENTIAL = 2, GUP_MADV_WILLNEED = 3,
  GUP_MADV_DONTNEED = 4, GUP_MADV_FREE = 8, GUP_MADV_DONTFORK = 10, GUP_MADV_DOFORK = 11,
  GUP_MADV_HUGEPAGE = 14, GUP_MADV_NOHUGEPAGE = 15, GUP_MADV_WIPEONFORK = 18,
  GUP_MADV_KEEPONFORK = 19, GUP_MADV_COLD = 20, GUP_MADV_PAGEOUT = 21,
  GUP_MADV_POPULATE_READ = 22, GUP_MADV_POPULATE_WRITE = 23, GUP_MADV_DONTNEED_LOCKED = 24,
  GUP_MADV_COLLAPSE = 25,
};

/// An empty address space. -EINVAL when the machine's trap does not work here.
int gup_mm_create(gup_machine *machine, gup_mm **mm);
/// Leaves an address space and ends its handle; pinned pages live on.
int gup_mm_destroy(gup_mm *mm);
/// Leaves it, but keeps the handle: later calls give -ESRCH.
int gup_mm_exit(gup_mm *mm);
/// A child with the same user addresses, whose bytes are those of this moment
/// (fork, within the process). Pinned pages stay the parent's; the child gets
/// copies. Its own pointers come from gup_mm_pointer. -ENOMEM.
int gup_mm_fork(gup_mm *parent, gup_mm **child);
/// In a child made by fork(2), of a joinable machine: the child's own copy of its
/// parent's address space, with the bytes of the fork, at the same addresses
/// (docs/fork.md). `mm` stays the parent's; its pins and references too. Once an
/// address space and child. -EINVAL where `mm` is the process's own, -EOPNOTSUPP
/// for a machine that is not joinable, -ESRCH where no copy was made, -EEXIST,
/// -ENOMEM.
int gup_mm_join(gup_mm *mm, gup_mm **own);

/// Maps anonymous memory (mmap). `length` is rounded up to whole pages; `hint`
/// is where, 0: anywhere. -EEXIST for a fixed address that belongs to something
/// else in this process; -ENOMEM without room.
int gup_mm_map(gup_mm *mm, uint64_t hint, uint64_t length, int protection, int flags,
               uint64_t *address);
/// Maps part of a file. Also -EACCES for a writable shared mapping of a file
/// that was opened for reading.
int gup_mm_map_file(gup_mm *mm, uint64_t hint, uint64_t length, int protection, int flags,
                    gup_file *file, uint64_t offset, uint64_t *address);
/// Shows `count` frames from `frame` on without counting them, as a driver's mmap
/// does (remap_pfn_range); GUP gives -EFAULT there. `flags`: SHARED, FIXED,
/// FIXED_NOREPLACE. Somebody must hold the frames (gup_page_alloc) as long as they
/// are shown. -EINVAL for frames that are not there or that nobody holds.
int gup_mm_map_frames(gup_mm *mm, uint64_t hint, uint64_t frame, uint64_t count, int protection,
                      int flags, uint64_t *address);
/// munmap; does not wait for pins. -ENOMEM when an area cannot be split.
int gup_mm_unmap(gup_mm *mm, uint64_t address, uint64_t length);
/// mprotect. -ENOMEM at the first hole: what lies before it has changed.
int gup_mm_protect(gup_mm *mm, uint64_t address, uint64_t length, int protection);
/// madvise. -ENOMEM for a hole: the rest has been advised.
int gup_mm_advise(gup_mm *mm, uint64_t address, uint64_t length, int advice);
/// What stores into untouched private memory of a range bring in from now on:
/// folios of 2^order pages (2 to 9), 2 MiB leaves, or single pages for 0.
enum { GUP_FOLIO_HUGE = 100 };
int gup_mm_advise_folios(gup_mm *mm, uint64_t address, uint64_t length, int order);
/// Makes a large folio single pages (split_folio). -EFAULT, -EAGAIN when held.
int gup_mm_split_folio(gup_mm *mm, uint64_t address);
/// As in mremap(2).
enum { GUP_MREMAP_MAYMOVE = 1, GUP_MREMAP_FIXED = 2, GUP_MREMAP_DONTUNMAP = 4 };
/// Moves, grows or shrinks a mapping; `to` is the place for FIXED. Pins stay.
int gup_mm_remap(gup_mm *mm, uint64_t address, uint64_t length, uint64_t new_length, int flags,
                 uint64_t to, uint64_t *new_address);
/// mlock and munlock; no pin. -EPERM, -ENOMEM, -EAGAIN: what lies before is locked.
int gup_mm_lock(gup_mm *mm, uint64_t address, uint64_t length, bool on_fault);
int gup_mm_unlock(gup_mm *mm, uint64_t address, uint64_t length);
/// As in mlockall(2).
enum { GUP_MCL_CURRENT = 1, GUP_MCL_FUTURE = 2, GUP_MCL_ONFAULT = 4 };
int gup_mm_lock_all(gup_mm *mm, int flags);
int gup_mm_unlock_all(gup_mm *mm);
/// The most bytes that may be locked or accounted for (RLIMIT_MEMLOCK), whole
/// pages; UINT64_MAX: no limit, as at the start. What is locked stays.
int gup_mm_set_lock_limit(gup_mm *mm, uint64_t bytes);
/// Accounts for pages that a driver keeps pinned (account_locked_vm), against the
/// same limit: -ENOMEM beyond it. Takes it back: -EINVAL for more than there is.
int gup_mm_account(gup_mm *mm, uint64_t pages);
int gup_mm_unaccount(gup_mm *mm, uint64_t pages);
/// Moves each page of a range to another frame, bytes and all (move_pages); held
/// pages stay. Returns the pages moved; `movement` may be NULL.
int64_t gup_mm_migrate(gup_mm *mm, uint64_t address, uint64_t length,
                       struct gup_movement *movement);
/// Writes shared file mappings of a range back (msync).
int gup_mm_sync(gup_mm *mm, uint64_t address, uint64_t length);

/// Memory of the program that a machine has taken over.
typedef struct gup_adopted {
  uint64_t words[5];
} gup_adopted;
/// Moves memory that the program has already, such as malloc's, into frames where
/// it stands: from then on it is user memory at its own address. -EFAULT, -EACCES,
/// -EBUSY, -EEXIST or -EOPNOTSUPP for what cannot be (docs/adoption.md), -ENOMEM.
int gup_mm_adopt(gup_mm *mm, void *memory, size_t length, gup_adopted *adopted);
/// Gives it back with the bytes it has. -EBUSY while a page of it is pinned.
int gup_mm_release(gup_mm *mm, const gup_adopted *adopted);

/// The program's own pointer for a user address: loads and stores through it
/// fault as in a process of this address space. NULL for a bad handle.
void *gup_mm_pointer(gup_mm *mm, uint64_t address);
/// copy_to_user, copy_from_user, clear_user: as the program's own stores and
/// loads, by explicit faults. -EFAULT, -ENOMEM: the bytes before have moved.
int gup_mm_copy_to(gup_mm *mm, uint64_t to, const void *from, size_t length);
int gup_mm_copy_from(gup_mm *mm, void *to, uint64_t from, size_t length);
int gup_mm_zero(gup_mm *mm, uint64_t to, size_t length);
/// The page that the page table has at an address, not held; NULL: none.
gup_page *gup_mm_page(gup_mm *mm, uint64_t address);
/// 1 when a store there passes without a fault, else 0.
int gup_mm_is_writable(gup_mm *mm, uint64_t address);

/// An area as it was when asked (struct vm_area_struct).
struct gup_area {
  uint64_t start, end;
  int32_t protection;  ///< GUP_PROT_*
  bool is_shared, is_anonymous, is_locked, is_movable, is_secret, is_adopted;
  bool is_device;      ///< Frames without pages (gup_mm_map_frames).
  bool dont_fork, wipe_on_fork;
};
/// The area that an address lies in, or the next one up (find_vma): 1, or 0 where
/// there is none. From 0 and each `end` on it goes over all.
int gup_mm_area(gup_mm *mm, uint64_t address, struct gup_area *area);

struct gup_mm_info {
  uint64_t locked_bytes;    ///< Locked, or accounted for by drivers (VmLck).
  uint64_t lock_limit;      ///< UINT64_MAX: none.
  uint64_t host_mappings;   ///< An upper bound of what its view uses.
  uint64_t lost_adoptions;  ///< Adopted ranges that the program unmapped by itself.
};
int gup_mm_get_info(gup_mm *mm, struct gup_mm_info *info);

#ifdef __cplusplus
}
#endif

#endif
