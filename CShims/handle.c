//===----------------------------------------------------------------------===//
// The table of handles. See cshims_handle.h.
//
// Lock: table_lock, a leaf; looking a handle up takes none.
//===----------------------------------------------------------------------===//
#include "cshims_handle.h"

#include <pthread.h>

cshims_handle_slot cshims_handle_slots[CSHIMS_HANDLE_SLOTS];
_Thread_local cshims_failure cshims_last_failure __attribute__((tls_model("initial-exec")));

static pthread_mutex_t table_lock = PTHREAD_MUTEX_INITIALIZER;
static uint32_t first_free;
static uint32_t used = 1;
static uint64_t opened;

static void lock_table(void) { pthread_mutex_lock(&table_lock); }
static void unlock_table(void) { pthread_mutex_unlock(&table_lock); }

/// A fork must not leave the child a lock that nobody holds.
__attribute__((constructor)) static void prepare(void) {
  pthread_atfork(lock_table, unlock_table, unlock_table);
}

/// The slot of an open handle, or NULL. Under the lock.
static cshims_handle_slot *slot_of(uint64_t handle) {
  cshims_handle_slot *slot = &cshims_handle_slots[handle & (CSHIMS_HANDLE_SLOTS - 1)];
  bool open = handle != 0 && atomic_load_explicit(&slot->word, memory_order_relaxed) == handle;
  return open ? slot : NULL;
}

uint64_t cshims_handle_open(uint32_t kind, void *object, void *state, uint64_t owner) {
  uint64_t handle = 0;
  lock_table();
  cshims_handle_slot *owning = slot_of(owner);
  uint32_t index = first_free != 0 ? first_free : used;
  if ((owner == 0 || owning) && index < CSHIMS_HANDLE_SLOTS) {
    cshims_handle_slot *slot = &cshims_handle_slots[index];
    if (index == used) used++;
    else first_free = slot->next_free;
    handle = ++opened << 20 | (uint64_t)(kind & 15) << 16 | index;
    slot->object = object;
    slot->state = state;
    slot->dependents = 0;
    slot->owner = owning ? (uint32_t)(owning - cshims_handle_slots) : 0;
    if (owning) owning->dependents++;
    atomic_store_explicit(&slot->word, handle, memory_order_release);
  }
  unlock_table();
  return handle;
}

int cshims_handle_close(uint64_t handle, uint32_t kind, void **object) {
  int error = 0;
  lock_table();
  cshims_handle_slot *slot = slot_of(handle);
  if (!slot || (handle >> 16 & 15) != kind) {
    error = EINVAL;
  } else if (slot->dependents != 0) {
    error = EBUSY;
  } else {
    atomic_store_explicit(&slot->word, 0, memory_order_release);
    *object = slot->object;
    slot->object = NULL;
    slot->state = NULL;
    if (slot->owner != 0) cshims_handle_slots[slot->owner].dependents--;
    slot->next_free = first_free;
    first_free = (uint32_t)(slot - cshims_handle_slots);
  }
  unlock_table();
  return error;
}

uint64_t cshims_handle_owner(uint64_t handle) {
  lock_table();
  cshims_handle_slot *slot = slot_of(handle);
  uint64_t owner = 0;
  if (slot && slot->owner != 0)
    owner = atomic_load_explicit(&cshims_handle_slots[slot->owner].word, memory_order_relaxed);
  unlock_table();
  return owner;
}

uint64_t cshims_handle_find(uint32_t kind, const void *object) {
  uint64_t found = 0;
  lock_table();
  for (uint32_t index = 1; index < used && found == 0; index++) {
    const cshims_handle_slot *slot = &cshims_handle_slots[index];
    uint64_t word = atomic_load_explicit(&slot->word, memory_order_relaxed);
    if (word != 0 && (word >> 16 & 15) == kind && slot->object == object) found = word;
  }
  unlock_table();
  return found;
}

/// Are the next four pointers of a list one machine's? One branch for all.
static bool are_four_of(const void *const *list, uintptr_t pages, uint64_t frame_count) {
  unsigned are = cshims_page_is_of(list[0], pages, frame_count);
  are &= cshims_page_is_of(list[1], pages, frame_count);
  are &= cshims_page_is_of(list[2], pages, frame_count);
  are &= cshims_page_is_of(list[3], pages, frame_count);
  return are != 0;
}

const void *cshims_first_unreal_page(const void *const *list, size_t count) {
  // Most of a list is one machine's: what it is compared with is read once.
  uintptr_t pages = 0;
  uint64_t frame_count = 0;
  for (size_t i = 0; i < count;) {
    const void *page = list[i];
    if (count - i >= 4 && are_four_of(&list[i], pages, frame_count)) {
      i += 4;
    } else if (cshims_page_is_of(page, pages, frame_count) || page == NULL) {
      i++;
    } else if (cshims_page_is_real(page)) {
      // It is looked at again, as its machine's.
      const cshims_machine *machine = cshims_machine_of((const cshims_page *)page);
      pages = (uintptr_t)machine->pages;
      frame_count = machine->frame_count;
    } else {
      return page;
    }
  }
  return NULL;
}
