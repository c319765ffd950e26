//===----------------------------------------------------------------------===//
// The ledger of holds: which page is held, by which kind of hold, in which
// address space it was taken, and from which call. Off by default; then it costs
// one load of a word that is never written, once a call. On, each call takes one
// process-wide lock.
//
// Holds are known by the head of the page's folio. The ledger's memory is a
// mapping of its own. Where there is no memory for a note the ledger switches
// itself off and says so, rather than accuse anybody of what it has not seen.
//
// Lock: the ledger's own, a leaf. Not to be used on the fault path.
//===----------------------------------------------------------------------===//
#ifndef CSHIMS_LEDGER_H
#define CSHIMS_LEDGER_H

#include "cshims_basics.h"
#include "cshims_machine.h"

enum { CSHIMS_HOLD_REFERENCE = 0, CSHIMS_HOLD_PIN = 1, CSHIMS_HOLDS = 2 };

/// How many machines have a ledger.
extern _Atomic(uint32_t) cshims_ledgers;
/// Where the C interface was called last in this thread, and with which address
/// space's handle (0: none); all 0 where it was not.
typedef struct cshims_ledger_call {
  const void *site;
  uint64_t space;
} cshims_ledger_call;
extern _Thread_local cshims_ledger_call cshims_ledger_caller
    __attribute__((tls_model("initial-exec")));

static inline bool cshims_ledger_is_on(void) {
  return cshims_unlikely(atomic_load_explicit(&cshims_ledgers, memory_order_relaxed) != 0);
}

/// Notes the caller of the function that this is inlined into. Inlined always:
/// else it would note that function itself.
__attribute__((always_inline)) static inline void cshims_ledger_enter(uint64_t space) {
  if (cshims_ledger_is_on())
    cshims_ledger_caller = (cshims_ledger_call){__builtin_return_address(0), space};
}

/// Begins to note the holds of a machine. 0, or ENOMEM. Idempotent.
int cshims_ledger_open(cshims_machine *machine);
/// Forgets a machine and its holds; returns how many there were, after
/// reporting them on standard error.
uint64_t cshims_ledger_close(cshims_machine *machine);
/// Notes `each` more holds on each of `n` pages: those of a list, whose NULL
/// slots are passed over, or where `list` is NULL those from `first` on. `space`
/// is what is said of the address space if no handle was noted. Pages of
/// machines without a ledger, and pins of the zero page, are passed over.
void cshims_ledger_take(cshims_page *const *list, const cshims_page *first, size_t n,
                        uint32_t hold, uint64_t each, const void *space);
/// Strikes out what a release is about to drop, given as above; all of it or,
/// when a page has not got that many, nothing. Then it says so on standard
/// error, with the call's name, and returns that page's index plus 1; else 0.
size_t cshims_ledger_drop(cshims_page *const *list, const cshims_page *first, size_t n,
                          uint32_t hold, uint64_t each, const char *call);

/// Holds that are noted now.
uint64_t cshims_ledger_count(uint32_t hold);
/// Writes what is held and since which calls; nothing when nothing is. Returns
/// the holds that were written of.
uint64_t cshims_ledger_report(int fd);
/// Is GUP_LEDGER=1 in the environment?
bool cshims_ledger_is_wanted(void);
/// Reports on standard error when the program exits, but not in forked children.
void cshims_ledger_report_at_exit(void);

#endif
