//===----------------------------------------------------------------------===//
// The memory of an XArray: its head and its nodes of 64 slots.
//
// One writer at a time stores (its caller holds a lock); readers walk without
// one. Each slot is one atomic word. A store is a release, so that a reader
// that follows a fresh node finds zeroed slots, and one that follows a page
// pointer finds what was written to the descriptor before; a load is an acquire
// for the other half of that. On x86-64 both are plain moves.
//
// A node is exactly its slots: its level follows from the way down and nodes
// are freed only when nobody reads, so it needs no parent and no count.
//===----------------------------------------------------------------------===//
#ifndef CSHIMS_XARRAY_H
#define CSHIMS_XARRAY_H

#include "cshims_basics.h"

enum { CSHIMS_XARRAY_SLOTS = 64 };

typedef struct cshims_xarray_node {
  _Atomic(uint64_t) slots[CSHIMS_XARRAY_SLOTS];
} cshims_xarray_node;
_Static_assert(sizeof(cshims_xarray_node) == 512, "nodes are aligned to their size: tags fit below");

typedef struct cshims_xarray {
  /// The top node's address plus its level; 0 while there is none.
  _Atomic(uint64_t) head;
  /// Entries that are present; written by the writer alone.
  _Atomic(uint64_t) count;
  /// Nodes that readers may still be in, linked through slot 0. The writer's.
  uint64_t detached;
  /// How many stores have tied slots together. The writer's.
  uint64_t ties;
  /// Where nodes come from.
  void *arena;
} cshims_xarray;

// The writer's words are changed by functions, so that Swift takes no access to
// the whole struct that readers look at meanwhile.

/// Numbers the next tie of slots.
static inline uint64_t cshims_xarray_next_tie(cshims_xarray *array) { return ++array->ties; }
static inline uint64_t cshims_xarray_detached(const cshims_xarray *array) {
  return array->detached;
}
static inline void cshims_xarray_set_detached(cshims_xarray *array, uint64_t node) {
  array->detached = node;
}

static inline uint64_t cshims_xarray_head_load(const cshims_xarray *array) {
  return atomic_load_explicit(&array->head, memory_order_acquire);
}
static inline void cshims_xarray_head_store(cshims_xarray *array, uint64_t head) {
  atomic_store_explicit(&array->head, head, memory_order_release);
}
/// Relaxed: a number for its own sake, ordered with nothing.
static inline uint64_t cshims_xarray_count_load(const cshims_xarray *array) {
  return atomic_load_explicit(&array->count, memory_order_relaxed);
}
static inline void cshims_xarray_count_store(cshims_xarray *array, uint64_t count) {
  atomic_store_explicit(&array->count, count, memory_order_relaxed);
}
static inline uint64_t cshims_xarray_slot_load(const cshims_xarray_node *node, uint64_t offset) {
  return atomic_load_explicit(&node->slots[offset], memory_order_acquire);
}
static inline void cshims_xarray_slot_store(cshims_xarray_node *node, uint64_t offset,
                                            uint64_t word) {
  atomic_store_explicit(&node->slots[offset], word, memory_order_release);
}

#endif
