//===----------------------------------------------------------------------===//
// The lockless walk (gup_fast_*): read an entry, check it, count on its page,
// re-read the entry, undo if it changed. It takes no lock, allocates nothing
// and never enters the host.
//
// Order, and why it suffices (semantics C.11, G3 and G4):
//   entry load (acquire)       the page's descriptor is read after it
//   count (seq_cst add)        a full barrier on x86-64: whoever clears the
//                              entry and then looks at the count sees ours, or
//                              our second load sees the entry cleared
//   entry re-load (acquire)
//   sequence load (acquire)    fork advances the sequence (seq_cst) before it
//                              looks at counts; our adds stand before this
//                              load, so it needs no fence of its own
//
// Entries that `grabRun` may take say so in one compare. What needs a look at
// the descriptor carries CSHIMS_PTE_FOLIO: sub-pages of larger folios, and
// guarded pages (secret, poisoned, peer-to-peer). FastWalkCareful.swift decides
// on those, and on every entry of a LONGTERM pin.
//===----------------------------------------------------------------------===//

internal import AddressSpaces
public import CShims
internal import Events
public import PageFrames

/// What a walk keeps in registers: plain copies, nothing that is counted or
/// checked for exclusive access.
@usableFromInline @frozen @safe
struct FastWalk {
  @usableFromInline let mm: UnsafeMutablePointer<cshims_mm>
  @usableFromInline let flags: GUPFlags

  @inlinable @inline(__always)
  init(_ mm: UnsafeMutablePointer<cshims_mm>, flags: GUPFlags) {
    unsafe self.mm = mm
    self.flags = flags
  }

  @inline(__always)
  var machine: UnsafeMutablePointer<cshims_machine> {
    unsafe mm.pointee.machine.unsafelyUnwrapped
  }

  @inline(__always)
  var pins: Bool { flags.contains(.pin) }
  @inline(__always)
  var writes: Bool { flags.contains(.write) }
  @inline(__always)
  var hold: PageHold { pins ? .pin : .reference }

  /// The bits that every entry must have.
  @inline(__always)
  var needed: UInt64 {
    CSHIMS_PTE_PRESENT | CSHIMS_PTE_USER | (writes ? CSHIMS_PTE_WRITE : 0)
  }
  /// The bits that no entry may have: rows 4 and 7 of C.3.
  @inline(__always)
  var refused: UInt64 { CSHIMS_PTE_PROTNONE | CSHIMS_PTE_SPECIAL }

  /// Takes pages from `start`, a page's address, on, up to the first that needs the
  /// slow path. Returns how many it took; 0 where a fork ran meanwhile (C.3).
  ///
  /// - Parameter ifPlain: nobody has looked at the arguments but the flags: -1, with
  ///   nothing done, where they, the machine or the address space ask for more than
  ///   this walk. Counts what it took if that is all.
  @usableFromInline @inline(never)
  func take(
    from start: UInt64, count: Int, into list: UnsafeMutablePointer<Page?>, ifPlain: Bool = false
  ) -> Int {
    var shard: UnsafeMutablePointer<cshims_shard>?
    if ifPlain {
      // The second compare is false for a count of 0 or less, too.
      guard start < CSHIMS_TASK_SIZE,
        UInt64(bitPattern: Int64(count)) &- 1 < (CSHIMS_TASK_SIZE &- start) >> 12,
        unsafe cshims_mm_is_own(mm), unsafe cshims_attention(machine) == 0,
        unsafe !pins || cshims_mm_flags(mm) & CSHIMS_MM_HAS_PINNED != 0,
        let own = unsafe cshims_own_shard(machine)
      else { return -1 }
      unsafe shard = own
    }
    let sequence = unsafe cshims_mm_write_protect_seq(mm)
    if pins, sequence & 1 != 0 { return 0 }
    let taken = unsafe walk(from: start, count: count, into: list)
    if pins, unsafe cshims_mm_write_protect_seq(mm) != sequence {
      unsafe FastWalk.rollBack(list, taken)
      return 0
    }
    if taken == count, let shard = unsafe shard {
      unsafe cshims_count_own(shard, hold.acquired, UInt64(taken))
    }
    return taken
  }

  /// Gives back what was pinned while fork began.
  @inline(never)
  private static func rollBack(_ list: UnsafeMutablePointer<Page?>, _ count: Int) {
    for i in 0..<count { unsafe list[i].unsafelyUnwrapped.releaseUnnoted(.pin) }
  }

  @inline(__always)
  private func walk(
    from start: UInt64, count: Int, into list: UnsafeMutablePointer<Page?>
  ) -> Int {
    let pgd = unsafe mm.pointee.pgd.unsafelyUnwrapped
    let pages = unsafe machine.pointee.pages.unsafelyUnwrapped
    let mask = needed | refused | CSHIMS_PTE_FOLIO
    let needed = needed
    let bias = pins ? CSHIMS_PIN_BIAS : 1
    // A writable entry's page is exclusive, so only pins for reading look.
    let looksForShared = pins && !writes
    let careful = unsafe flags.contains(.longTerm) || cshims_instrumented(machine)
    var address = start
    var done = 0
    repeat {
      guard let pmd = unsafe cshims_pmd_offset(pgd, address) else { break }
      let table = unsafe cshims_pte_load(pmd)
      let first = Int(cshims_pte_index(address, UInt32(CSHIMS_PAGE_SHIFT)))
      // Where this table or the request ends, whichever comes first.
      let end = min(done &+ (Int(CSHIMS_PTE_ENTRIES) &- first), count)
      address &+= UInt64(bitPattern: Int64(end &- done)) << 12
      if table & (CSHIMS_PTE_PRESENT | CSHIMS_PTE_HUGE) != CSHIMS_PTE_PRESENT {
        done &+= unsafe takeLeaf(pmd, table, first: first, count: end &- done, into: list + done)
        if done < end { break }
        continue
      }
      // Entry i of the request.
      let entries = unsafe cshims_pte_table(table).unsafelyUnwrapped + (first &- done)
      while true {
        if !careful {
          done =
            looksForShared
            ? unsafe grabRun(
              entries, from: done, to: end, mask: mask, needed: needed, pages: pages, bias: bias,
              looksForShared: true, into: list)
            : unsafe grabRun(
              entries, from: done, to: end, mask: mask, needed: needed, pages: pages, bias: bias,
              looksForShared: false, into: list)
          if done == end { break }
        }
        let got = unsafe takeCarefully(entries + done, end &- done, into: list + done)
        done &+= got
        if got == 0 || done == end { break }
      }
      if done < end { break }
    } while done < count
    return done
  }
}

/// How many entries ahead descriptors are fetched, as in the C roofline.
@inline(__always)
private var prefetchDistance: Int { Int(CSHIMS_PREFETCH_PAGES) }

/// The hot loop: one page per turn by one load, one compare, one locked add, one
/// compare, one re-load and one store. Stops, with nothing taken for that page,
/// where an entry is not plainly takeable, the page is not held, or the entry
/// changed meanwhile. With `looksForShared` (a constant) it also stops at a
/// read-only entry of an anonymous page that is not exclusive (C.3 row 11).
/// Returns the index it stopped at.
@inline(__always)
private func grabRun(
  _ entries: UnsafeMutablePointer<cshims_pte>, from first: Int, to end: Int, mask: UInt64,
  needed: UInt64, pages: UnsafeMutablePointer<cshims_page>, bias: UInt32, looksForShared: Bool,
  into list: UnsafeMutablePointer<Page?>
) -> Int {
  var i = first
  repeat {
    if i &+ prefetchDistance < end {
      unsafe cshims_page_prefetch(pages, cshims_pte_load(entries + (i &+ prefetchDistance)))
    }
    let value = unsafe cshims_pte_load(entries + i)
    if value & mask != needed { break }
    let page = unsafe cshims_pte_page(pages, value).unsafelyUnwrapped
    let old = unsafe cshims_page_ref_fetch_add(page, bias)
    if !cshims_page_grabbed(old, bias) {
      unsafe Page(page).finishUndo(bias)
      break
    }
    var mayKeep = unsafe cshims_pte_load(entries + i) == value
    if looksForShared {
      let kind =
        unsafe cshims_page_flags(page) & (CSHIMS_PAGE_ANON | CSHIMS_PAGE_ANON_EXCLUSIVE)
      mayKeep =
        mayKeep && (kind != CSHIMS_PAGE_ANON || value & CSHIMS_PTE_WRITE != 0)
    }
    if !mayKeep {
      unsafe Page(page).finishUndo(bias)
      break
    }
    unsafe list[i] = Page(page)
    i &+= 1
  } while i < end
  return i
}
