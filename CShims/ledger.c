//===----------------------------------------------------------------------===//
// The ledger's table: open addressing by page, so that what one page has stands
// together. See cshims_ledger.h.
//===----------------------------------------------------------------------===//
#include "cshims_ledger.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "cshims_process.h"
#include "symbol_internal.h"

typedef struct note {
  const cshims_page *page;  // NULL: free
  const void *site;
  const void *space;
  uint64_t count;
  /// Of those, what the release under way wants to drop.
  uint64_t claimed;
  uint32_t hold;
} note;

_Atomic(uint32_t) cshims_ledgers;
_Thread_local cshims_ledger_call cshims_ledger_caller __attribute__((tls_model("initial-exec")));

static pthread_mutex_t ledger_lock = PTHREAD_MUTEX_INITIALIZER;
static note *notes;
static size_t capacity;  // a power of two, or 0
static size_t used;
static uint64_t held[CSHIMS_HOLDS];
static _Atomic(uint8_t) listed[CSHIMS_MACHINE_PLACES];
static pid_t reporter;

static const char *const hold_names[CSHIMS_HOLDS] = {"reference", "pin"};

static void lock_ledger(void) { pthread_mutex_lock(&ledger_lock); }
static void unlock_ledger(void) { pthread_mutex_unlock(&ledger_lock); }
static size_t place_of(const void *page) { return (uintptr_t)page / CSHIMS_MACHINE_ALIGNMENT; }

/// The first page of the folio of page `i` of a list, or of those from `first`
/// on; NULL for what has no notes.
static const cshims_page *head_of(cshims_page *const *list, const cshims_page *first, size_t i,
                                  uint32_t hold) {
  const cshims_page *page = list ? list[i] : first + i;
  if (!page || atomic_load_explicit(&listed[place_of(page)], memory_order_relaxed) == 0)
    return NULL;
  // A process without a part in the machine holds nothing of it.
  if (cshims_membership_of(page) == CSHIMS_MACHINE_FOREIGN) return NULL;
  uint32_t flags = cshims_page_flags(page);
  if (hold == CSHIMS_HOLD_PIN && (flags & CSHIMS_PAGE_ZERO)) return NULL;
  uint64_t frames = 1ull << ((flags & CSHIMS_PAGE_ORDER_MASK) >> CSHIMS_PAGE_ORDER_SHIFT);
  const cshims_page *pages = cshims_machine_of(page)->pages;
  return pages + ((uint64_t)(page - pages) & ~(frames - 1));
}

//===--- The table --------------------------------------------------------===//

static size_t start_of(const cshims_page *page) {
  uint64_t hash = (uintptr_t)page / sizeof(cshims_page) * 0x9e3779b97f4a7c15ull;
  return (size_t)(hash >> 20) & (capacity - 1);
}

/// Doubles the table when it is two thirds full. False without memory.
static bool make_room(void) {
  if (capacity != 0 && used < capacity / 3 * 2) return true;
  size_t larger = capacity == 0 ? 1 << 12 : capacity * 2;
  note *fresh = mmap(NULL, larger * sizeof(note), PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (fresh == MAP_FAILED) return false;
  note *old = notes;
  size_t old_capacity = capacity;
  notes = fresh;
  capacity = larger;
  for (size_t i = 0; i < old_capacity; i++) {
    if (!old[i].page) continue;
    size_t at = start_of(old[i].page);
    while (notes[at].page) at = (at + 1) & (capacity - 1);
    notes[at] = old[i];
  }
  if (old) munmap(old, old_capacity * sizeof(note));
  return true;
}

/// Frees a slot and moves up what would not be found any more.
static void erase(size_t at) {
  used--;
  for (;;) {
    notes[at].page = NULL;
    size_t next = at;
    size_t start;
    do {
      next = (next + 1) & (capacity - 1);
      if (!notes[next].page) return;
      start = start_of(notes[next].page);
      // Does its way from its start to where it is lead over the free slot?
    } while (((next - start) & (capacity - 1)) < ((next - at) & (capacity - 1)));
    notes[at] = notes[next];
    at = next;
  }
}

int cshims_ledger_open(cshims_machine *machine) {
  lock_ledger();
  int error = make_room() ? 0 : ENOMEM;
  if (error == 0 && atomic_exchange(&listed[place_of(machine)], 1) == 0) {
    atomic_fetch_add(&cshims_ledgers, 1);
    cshims_attention_set(machine, CSHIMS_ATTENTION_LEDGER);
  }
  unlock_ledger();
  return error;
}

/// Switches itself off for good. Under the lock.
static void give_up(void) {
  static const char sorry[] = "gup: ledger: no memory for more notes; it is off from here on\n";
  // Off also where nobody can be told.
  ssize_t written = write(STDERR_FILENO, sorry, sizeof sorry - 1);
  (void)written;
  for (size_t i = 0; i < CSHIMS_MACHINE_PLACES; i++) atomic_store(&listed[i], 0);
  atomic_store(&cshims_ledgers, 0);
}

/// In a child: what is noted are its parent's holds. It begins with an empty table,
/// and has its own report if it exits with holds. The table is emptied where it
/// stands: the addresses of views are free until a later handler keeps them.
static void start_anew(void) {
  if (capacity != 0 &&
      mmap(notes, capacity * sizeof(note), PROT_READ | PROT_WRITE,
           MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED)
    give_up();
  used = 0;
  held[CSHIMS_HOLD_REFERENCE] = held[CSHIMS_HOLD_PIN] = 0;
  if (reporter != 0) reporter = getpid();
  unlock_ledger();
}
__attribute__((constructor)) static void prepare(void) {
  pthread_atfork(lock_ledger, unlock_ledger, start_anew);
}

static bool add(const cshims_page *head, uint32_t hold, uint64_t count, const void *space) {
  if (!make_room()) return false;
  size_t at = start_of(head);
  const void *site = cshims_ledger_caller.site;
  while (notes[at].page && (notes[at].page != head || notes[at].hold != hold ||
                            notes[at].site != site || notes[at].space != space))
    at = (at + 1) & (capacity - 1);
  if (!notes[at].page) {
    notes[at] = (note){head, site, space, 0, 0, hold};
    used++;
  }
  notes[at].count += count;
  held[hold] += count;
  return true;
}

void cshims_ledger_take(cshims_page *const *list, const cshims_page *first, size_t n,
                        uint32_t hold, uint64_t each, const void *space) {
  if (cshims_ledger_caller.space != 0 && space)
    space = (const void *)(uintptr_t)cshims_ledger_caller.space;
  lock_ledger();
  for (size_t i = 0; i < n; i++) {
    const cshims_page *head = head_of(list, first, i, hold);
    if (head && !add(head, hold, each, space)) {
      give_up();
      break;
    }
  }
  unlock_ledger();
}

//===--- Writing ----------------------------------------------------------===//

/// Reports go out by write(2), a line at a time: they may be made at exit, and
/// from a thread that holds stdio's lock.
__attribute__((format(printf, 2, 3))) static void say(int fd, const char *format, ...) {
  char line[512];
  va_list arguments;
  va_start(arguments, format);
  int length = vsnprintf(line, sizeof line, format, arguments);
  va_end(arguments);
  if (length <= 0) return;
  if ((size_t)length >= sizeof line) length = (int)sizeof line - 1;
  for (int done = 0; done < length;) {
    ssize_t put = write(fd, line + done, (size_t)(length - done));
    if (put < 0 && errno == EINTR) continue;
    if (put <= 0) return;
    done += (int)put;
  }
}

static void describe_site(const void *site, char *text, size_t size) {
  if (site) cshims_describe_site(site, text, size);
  else snprintf(text, size, "a call that was not by the C interface");
}

static uint64_t frame_of(const cshims_page *page) {
  return (uint64_t)(page - cshims_machine_of(page)->pages);
}

/// What the caller of a release that has nothing to drop should know.
static void complain(const cshims_page *page, uint32_t hold, const char *call) {
  char site[256];
  describe_site(cshims_ledger_caller.site, site, sizeof site);
  say(STDERR_FILENO, "gup: ledger: %s of frame %llu, which has no such %s, in %s\n", call,
      (unsigned long long)frame_of(page), hold_names[hold], site);
  for (size_t at = start_of(page); notes[at].page; at = (at + 1) & (capacity - 1)) {
    if (notes[at].page != page) continue;
    describe_site(notes[at].site, site, sizeof site);
    say(STDERR_FILENO, "gup: ledger:   it has %llu %s%s taken in %s\n",
        (unsigned long long)notes[at].count, hold_names[notes[at].hold],
        notes[at].count == 1 ? "" : "s", site);
  }
}

//===--- Dropping ---------------------------------------------------------===//

/// Claims `count` holds of a page; returns how many there were.
static uint64_t claim(const cshims_page *page, uint32_t hold, uint64_t count) {
  uint64_t got = 0;
  for (size_t at = start_of(page); notes[at].page && got < count; at = (at + 1) & (capacity - 1)) {
    if (notes[at].page != page || notes[at].hold != hold) continue;
    uint64_t part = notes[at].count - notes[at].claimed;
    if (part > count - got) part = count - got;
    notes[at].claimed += part;
    got += part;
  }
  return got;
}

/// Ends the claims on a page, by dropping what was claimed or by forgetting it.
static void settle(const cshims_page *page, uint32_t hold, bool drops) {
  size_t at = start_of(page);
  while (notes[at].page) {
    if (notes[at].page == page && notes[at].hold == hold && notes[at].claimed != 0) {
      if (drops) {
        notes[at].count -= notes[at].claimed;
        held[hold] -= notes[at].claimed;
      }
      notes[at].claimed = 0;
      if (notes[at].count == 0) {
        erase(at);
        continue;
      }
    }
    at = (at + 1) & (capacity - 1);
  }
}

size_t cshims_ledger_drop(cshims_page *const *list, const cshims_page *first, size_t n,
                          uint32_t hold, uint64_t each, const char *call) {
  size_t lacking = 0;
  lock_ledger();
  size_t seen = 0;
  for (; seen < n && lacking == 0; seen++) {
    const cshims_page *head = head_of(list, first, seen, hold);
    if (!head || claim(head, hold, each) == each) continue;
    complain(head, hold, call);
    lacking = seen + 1;
  }
  for (size_t i = 0; i < seen; i++) {
    const cshims_page *head = head_of(list, first, i, hold);
    if (head) settle(head, hold, lacking == 0);
  }
  unlock_ledger();
  return lacking;
}

//===--- Reports ----------------------------------------------------------===//

uint64_t cshims_ledger_count(uint32_t hold) {
  lock_ledger();
  uint64_t count = hold < CSHIMS_HOLDS ? held[hold] : 0;
  unlock_ledger();
  return count;
}

typedef struct line {
  const void *space;
  const void *site;
  uint64_t counts[CSHIMS_HOLDS];
} line;

static int by_space_and_site(const void *a, const void *b) {
  const line *left = a, *right = b;
  if (left->space != right->space) return left->space < right->space ? -1 : 1;
  if (left->site != right->site) return left->site < right->site ? -1 : 1;
  return 0;
}

static void count_out(const uint64_t counts[CSHIMS_HOLDS], char *text, size_t size) {
  snprintf(text, size, "%llu pin%s and %llu reference%s",
           (unsigned long long)counts[CSHIMS_HOLD_PIN],
           counts[CSHIMS_HOLD_PIN] == 1 ? "" : "s",
           (unsigned long long)counts[CSHIMS_HOLD_REFERENCE],
           counts[CSHIMS_HOLD_REFERENCE] == 1 ? "" : "s");
}

static void write_lines(int fd, const line *lines, size_t count) {
  char text[64], site[256];
  for (size_t i = 0; i < count;) {
    uint64_t sum[CSHIMS_HOLDS] = {0, 0};
    size_t end = i;
    for (; end < count && lines[end].space == lines[i].space; end++)
      for (unsigned hold = 0; hold < CSHIMS_HOLDS; hold++) sum[hold] += lines[end].counts[hold];
    count_out(sum, text, sizeof text);
    if (lines[i].space) {
      say(fd, "gup: ledger:   address space %p: %s\n", lines[i].space, text);
    } else {
      say(fd, "gup: ledger:   of no address space: %s\n", text);
    }
    for (; i < end; i++) {
      count_out(lines[i].counts, text, sizeof text);
      describe_site(lines[i].site, site, sizeof site);
      say(fd, "gup: ledger:     %s taken in %s\n", text, site);
    }
  }
}

/// Reports the holds of one machine, or of all for NULL. Under the lock.
static uint64_t report(int fd, const cshims_machine *machine) {
  uint64_t total = 0;
  size_t count = 0;
  line *lines = used == 0 ? NULL : malloc(used * sizeof *lines);
  uint64_t sum[CSHIMS_HOLDS] = {0, 0};
  for (size_t at = 0; at < capacity; at++) {
    const note *it = &notes[at];
    if (!it->page || (machine && cshims_machine_of(it->page) != machine)) continue;
    total += it->count;
    sum[it->hold] += it->count;
    if (!lines) continue;
    lines[count] = (line){it->space, it->site, {0, 0}};
    lines[count++].counts[it->hold] = it->count;
  }
  if (total != 0) {
    char text[64];
    count_out(sum, text, sizeof text);
    say(fd, "gup: ledger: %s not released\n", text);
  }
  if (lines) {
    qsort(lines, count, sizeof *lines, by_space_and_site);
    size_t kept = 0;
    for (size_t i = 0; i < count; i++) {
      if (kept > 0 && by_space_and_site(&lines[kept - 1], &lines[i]) == 0) {
        for (unsigned hold = 0; hold < CSHIMS_HOLDS; hold++)
          lines[kept - 1].counts[hold] += lines[i].counts[hold];
      } else {
        lines[kept++] = lines[i];
      }
    }
    write_lines(fd, lines, kept);
    free(lines);
  }
  return total;
}

uint64_t cshims_ledger_report(int fd) {
  lock_ledger();
  uint64_t total = report(fd, NULL);
  unlock_ledger();
  return total;
}

uint64_t cshims_ledger_close(cshims_machine *machine) {
  lock_ledger();
  // Under the lock: it may be giving up, which counts every machine out.
  if (atomic_exchange(&listed[place_of(machine)], 0) == 0) {
    unlock_ledger();
    return 0;
  }
  atomic_fetch_sub(&cshims_ledgers, 1);
  uint64_t total = report(STDERR_FILENO, machine);
  for (size_t at = 0; at < capacity;) {
    if (notes[at].page && cshims_machine_of(notes[at].page) == machine) {
      held[notes[at].hold] -= notes[at].count;
      erase(at);
    } else {
      at++;
    }
  }
  unlock_ledger();
  return total;
}

static void at_exit(void) {
  if (getpid() == reporter) cshims_ledger_report(STDERR_FILENO);
}

bool cshims_ledger_is_wanted(void) {
  const char *value = getenv("GUP_LEDGER");
  return value && strcmp(value, "1") == 0;
}

void cshims_ledger_report_at_exit(void) {
  lock_ledger();
  bool first = reporter == 0;
  if (first) reporter = getpid();
  unlock_ledger();
  if (first) atexit(at_exit);
}
