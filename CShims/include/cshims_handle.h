//===----------------------------------------------------------------------===//
// Handles of the C interface: numbers that look like pointers. The number says
// which slot of one table of the process it means, what kind of thing it is, and
// which use of the slot; so a handle that is NULL, of another kind, or closed is
// found by one load and one compare, and never followed.
//
//     bits  0 ... 15  slot, from 1
//          16 ... 19  kind
//          20 ... 63  a number that no other handle has had
//
// Beside it: page pointers, which are checked before they are followed; and each
// thread's last failure.
//
// Order: a slot's object is written before its word (release), and read after it
// (acquire). Closing clears the word first. Who uses a handle while another
// thread closes it is not protected: that would cost an atomic a call.
//===----------------------------------------------------------------------===//
#ifndef CSHIMS_HANDLE_H
#define CSHIMS_HANDLE_H

#include "cshims_basics.h"
#include "cshims_machine.h"
#include "cshims_process.h"

enum { CSHIMS_HANDLE_SLOTS = 1 << 16 };

typedef enum cshims_handle_kind {
  CSHIMS_HANDLE_MACHINE = 1,
  CSHIMS_HANDLE_MM,
  CSHIMS_HANDLE_FILE,
  CSHIMS_HANDLE_XARRAY,
  CSHIMS_HANDLE_PIPE,
  CSHIMS_HANDLE_VMAP,
  CSHIMS_HANDLE_SG,
  CSHIMS_HANDLE_BVECS,
  CSHIMS_HANDLE_BIO,
  CSHIMS_HANDLE_DETACHED,
  CSHIMS_HANDLE_DMA,
} cshims_handle_kind;

typedef struct cshims_handle_slot {
  /// The handle that means this slot; 0: free.
  _Atomic(uint64_t) word;
  void *object;
  /// What of the object a call reads that has no time to go through it; may be
  /// NULL.
  void *state;
  union {
    /// The slot of the handle that this one keeps from being closed; 0: none.
    uint32_t owner;
    /// In a free slot.
    uint32_t next_free;
  };
  /// Handles that keep this one from being closed.
  uint32_t dependents;
} cshims_handle_slot;
_Static_assert(sizeof(cshims_handle_slot) == 32, "two slots a cache line, none across two");

extern cshims_handle_slot cshims_handle_slots[CSHIMS_HANDLE_SLOTS]
    __attribute__((aligned(CSHIMS_CACHE_LINE)));

/// The slot of a handle, or NULL for one that is not open or of another kind.
static inline const cshims_handle_slot *cshims_handle_slot_of(uint64_t handle, uint32_t kind) {
  const cshims_handle_slot *slot = &cshims_handle_slots[handle & (CSHIMS_HANDLE_SLOTS - 1)];
  uint64_t word = atomic_load_explicit(&slot->word, memory_order_acquire);
  if (cshims_unlikely(word != handle || (handle >> 16 & 15) != kind)) return NULL;
  return slot;
}
/// What a handle means, or NULL for one that is not open or of another kind.
static inline void *cshims_handle_object(uint64_t handle, uint32_t kind) {
  const cshims_handle_slot *slot = cshims_handle_slot_of(handle, kind);
  return slot ? slot->object : NULL;
}
/// The state of what a handle means, or NULL as above.
static inline void *cshims_handle_state(uint64_t handle, uint32_t kind) {
  const cshims_handle_slot *slot = cshims_handle_slot_of(handle, kind);
  return slot ? slot->state : NULL;
}
/// Opens a handle that means `object`, which is not NULL, and its `state`.
/// `owner` is a handle that cannot be closed meanwhile, or 0. Returns 0 when the
/// table is full or the owner is not open.
uint64_t cshims_handle_open(uint32_t kind, void *object, void *state, uint64_t owner);
/// Closes a handle and yields what it meant. Returns 0, EINVAL for one that is
/// not open or of another kind, EBUSY while others depend on it.
int cshims_handle_close(uint64_t handle, uint32_t kind, void **object);
/// The handle that an open one depends on; 0: none.
uint64_t cshims_handle_owner(uint64_t handle);
/// The open handle of a kind that means `object`; 0: none. O(slots).
uint64_t cshims_handle_find(uint32_t kind, const void *object);

/// Is this the address of one of a machine's descriptors? The remainder of the
/// division, turned to the top, makes one compare of two.
static inline bool cshims_page_is_of(const void *page, uintptr_t pages, uint64_t frame_count) {
  uintptr_t distance = (uintptr_t)page - pages;
  return (distance >> 4 | distance << 60) < frame_count;
}
_Static_assert(sizeof(cshims_page) == 1 << 4, "as cshims_page_is_of divides");

/// The membership of the machine that a page pointer points into;
/// CSHIMS_MACHINE_FOREIGN also for what is no address of a descriptor of a machine
/// that lives.
static inline uint32_t cshims_page_standing(const void *page) {
  uintptr_t place = (uintptr_t)page / CSHIMS_MACHINE_ALIGNMENT;
  if (cshims_unlikely(place >= CSHIMS_MACHINE_PLACES)) return CSHIMS_MACHINE_FOREIGN;
  uint32_t membership = cshims_membership_of(page);
  if (cshims_unlikely(membership == CSHIMS_MACHINE_FOREIGN)) return membership;
  const cshims_machine *machine = cshims_machine_of((const cshims_page *)page);
  if (cshims_unlikely(!cshims_page_is_of(page, (uintptr_t)machine->pages, machine->frame_count)))
    return CSHIMS_MACHINE_FOREIGN;
  return membership;
}
/// Is this the address of a descriptor of a machine that lives, and is this
/// process's?
static inline bool cshims_page_is_real(const void *page) {
  return cshims_page_standing(page) != CSHIMS_MACHINE_FOREIGN;
}
/// The first pointer of a list that is neither NULL nor real, or NULL.
const void *cshims_first_unreal_page(const void *const *list, size_t count);

/// What went wrong last in this thread's calls of the C interface.
typedef struct cshims_failure {
  uint64_t value;
  /// The argument's name, or NULL. Static.
  const char *argument;
  int32_t number;
  uint32_t reason;
} cshims_failure;
extern _Thread_local cshims_failure cshims_last_failure
    __attribute__((tls_model("initial-exec")));

static inline void cshims_failure_note(int32_t number, uint32_t reason, uint64_t value,
                                       const char *argument) {
  cshims_last_failure = (cshims_failure){value, argument, number, reason};
}
static inline cshims_failure cshims_failure_last(void) { return cshims_last_failure; }

#endif
