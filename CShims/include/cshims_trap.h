//===----------------------------------------------------------------------===//
// The fault trap: a plain load or store on an absent or protected user address
// becomes a call of the machine's fault service.
//
// Two tiers, chosen per trap:
//   userfaultfd  the kernel parks the toucher; also serves system calls
//   SIGSEGV      a signal handler parks the toucher on a futex
// Both deliver to one service thread per trap (own stack from mmap, all signals
// blocked but those of its own faults, which go to the program's handlers), which
// calls the service function. The SIGSEGV handler is installed
// for both tiers: a view is PROT_NONE for a moment while it is replaced, and a
// toucher then waits in the handler.
//
// The handler only reads a lock-free table of regions, links a record on its
// own stack into its trap's list, wakes the service thread, and waits. What is
// not ours, and what the service denies, goes to the handler that was there
// before, with the original siginfo; with the default disposition the program
// ends by SIGSEGV at the original instruction and address.
//
// Limits of the SIGSEGV tier: a thread that blocks SIGSEGV is killed by the
// kernel when it touches an absent page, and system calls see EFAULT.
//
// A copy of the process (fork(2), a bare clone(2)) has neither the views nor the
// service thread: its faults there go straight to the handler that was there
// before. A child that shares the parent's memory (vfork(2)) has both.
//
// Trap structures come from a static pool that is never unmapped, so a handler
// that raced with the end of a machine never reads freed memory.
//===----------------------------------------------------------------------===//
#ifndef CSHIMS_TRAP_H
#define CSHIMS_TRAP_H

#include "cshims_basics.h"

typedef enum cshims_trap_tier {
  /// Only explicit faults are seen; touching an absent page ends the program.
  CSHIMS_TRAP_NONE = 0,
  CSHIMS_TRAP_SIGSEGV = 1,
  CSHIMS_TRAP_USERFAULTFD = 2,
} cshims_trap_tier;

typedef enum cshims_trap_verdict {
  /// The page is there now, or the mapping changed meanwhile: touch it again.
  CSHIMS_TRAP_RETRY = 0,
  /// The program may not do that: its SIGSEGV.
  CSHIMS_TRAP_DENIED = 1,
  /// No memory behind the page: its SIGBUS.
  CSHIMS_TRAP_BUS = 2,
} cshims_trap_verdict;

typedef struct cshims_trap cshims_trap;

/// Called on the service thread, one call at a time per trap. `cookie` is the
/// region's. `in_handler` tells the tiers apart: true, the toucher waits in the
/// SIGSEGV handler and DENIED or BUS is carried out there; false, it waits in
/// userfaultfd and is woken to touch again whatever the verdict, so a denial
/// must have been made visible in the host's protection before returning.
/// `is_write` is false also where the tier cannot tell.
typedef cshims_trap_verdict (*cshims_trap_service)(cshims_context context, cshims_context cookie,
                                                   uint64_t address, bool is_write,
                                                   bool in_handler);

/// Opens a trap of `tier` (SIGSEGV or USERFAULTFD) and starts its thread.
/// Returns 0, EINVAL for another tier, ENOMEM/EAGAIN, the errno of userfaultfd,
/// or EMFILE when the pool of traps (256) is used up. Thread-safe.
int cshims_trap_open(cshims_trap_tier tier, cshims_trap_service service, cshims_context context,
                     cshims_trap **trap);
/// Stops the thread, closes the descriptor, forgets the regions; whoever waits
/// touches again. The last trap of the process puts the previous SIGSEGV action
/// back if ours still stands. Not to be called by the service function. In a
/// copy of the process it does nothing.
void cshims_trap_close(cshims_trap *trap);
/// The trap's userfaultfd, or -1.
int cshims_trap_userfaultfd(const cshims_trap *trap);

/// Makes [start, start + length) the trap's. A region of this trap with the same
/// start gets the new length and cookie in one step, so a region can be cut with
/// no address uncovered: add the later part first, then shorten the earlier.
/// EINVAL when the range is empty or wraps, EEXIST when it meets a region of
/// another trap, ENOSPC when the table (4,096 regions in the process) is full.
int cshims_trap_add_region(cshims_trap *trap, uint64_t start, uint64_t length,
                           cshims_context cookie);
/// Takes a region back and waits until the service is not inside a call for it
/// (from inside the service function it does not wait). A start that is no
/// region's is ignored. Must not be called with a lock held that the service function takes.
void cshims_trap_remove_region(cshims_trap *trap, uint64_t start);

/// Takes a region back without waiting, for a caller who knows that nobody can
/// have touched it.
void cshims_trap_forget_region(cshims_trap *trap, uint64_t start);

/// True when the SIGSEGV action of the process is still ours.
bool cshims_trap_handler_installed(void);

#endif
