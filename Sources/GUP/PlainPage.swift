//===----------------------------------------------------------------------===//
// One plain page: what most calls are about, and where each instruction is felt.
// Plain is a present page of order 0 behind an entry that one compare can decide,
// on a machine that asks for no attention, taken with flags that mean nothing for
// such a page. One conjunction of cheap tests says so; whatever fails it goes the
// long way (Calls.swift, Release.swift), which finds out why.
//
// The protocol and its order are those of FastWalk.swift. Nothing is called here,
// and what is left to do is handed back: so the calls that this is inlined into
// stay in registers, and need no frame.
//===----------------------------------------------------------------------===//

public import AddressSpaces
public import CShims
public import PageFrames

/// How the try for one plain page ended.
@frozen
public enum PlainTake {
  case taken
  /// Nothing was done.
  case notPlain
  /// The page was counted in vain: `undoPlainTake` before anything else.
  case spoiled(Page)

  @inlinable @inline(__always)
  public var spoiled: Page? {
    if case .spoiled(let page) = self { page } else { nil }
  }
}

/// How the drop of one plain page ended.
@frozen
public enum PlainDrop {
  case dropped
  /// Nothing was done.
  case notPlain
  /// Dropped from that count, which `finish` must look at.
  case unfinished(old: UInt32)
}

extension GUPFlags {
  /// What changes nothing about a plain page. Whatever else is asked for, wrong
  /// flags included, is the long way's.
  @inlinable
  static var forPlainPages: Self { [.write, .force, .noFault, .pciP2PDMA, .honorNUMAFault] }
}

extension PageHold {
  @inlinable @inline(__always)
  var bias: UInt32 { self == .pin ? CSHIMS_PIN_BIAS : 1 }

  @inlinable @inline(__always)
  var acquired: cshims_counter { self == .pin ? CSHIMS_PINS_ACQUIRED : CSHIMS_REFS_ACQUIRED }
  @inlinable @inline(__always)
  var released: cshims_counter { self == .pin ? CSHIMS_PINS_RELEASED : CSHIMS_REFS_RELEASED }

  /// The flags of pages that are not simply one page with one count.
  @inlinable @inline(__always)
  var oddities: UInt32 {
    CSHIMS_PAGE_ORDER_MASK | CSHIMS_PAGE_TAIL | (self == .pin ? CSHIMS_PAGE_ZERO : 0)
  }
}

extension MM {
  /// Takes the page at an address if it is plain. For pins that is only a
  /// writable one: its page is exclusive, so no descriptor need be looked at (C.3
  /// row 11).
  ///
  /// - Parameters:
  ///   - hold: better a constant.
  ///   - list: its first slot gets the page.
  @inlinable @inline(__always)
  public func takePlainPage(
    _ hold: PageHold, at address: UInt64, flags: GUPFlags, into list: UnsafeMutablePointer<Page?>
  ) -> PlainTake {
    let pins = hold == .pin
    let machine = unsafe hot.pointee.machine.unsafelyUnwrapped
    let sequence = unsafe cshims_mm_write_protect_seq(hot)
    guard flags.isSubset(of: .forPlainPages), address < CSHIMS_TASK_SIZE, isOwn,
      unsafe cshims_attention(machine) == 0,
      let shard = unsafe cshims_own_shard(machine)
    else { return .notPlain }
    // The first pin says so to fork, by the long way.
    if pins, unsafe sequence & 1 != 0 || cshims_mm_flags(hot) & CSHIMS_MM_HAS_PINNED == 0 {
      return .notPlain
    }
    guard
      let pmd = unsafe cshims_pmd_offset(hot.pointee.pgd.unsafelyUnwrapped, address)
    else { return .notPlain }
    let table = unsafe cshims_pte_load(pmd)
    if table & (CSHIMS_PTE_PRESENT | CSHIMS_PTE_HUGE) != CSHIMS_PTE_PRESENT { return .notPlain }
    let entry =
      unsafe cshims_pte_table(table).unsafelyUnwrapped
      + Int(cshims_pte_index(address, UInt32(CSHIMS_PAGE_SHIFT)))
    let value = unsafe cshims_pte_load(entry)
    let needed =
      CSHIMS_PTE_PRESENT | CSHIMS_PTE_USER
      | (pins || flags.contains(.write) ? CSHIMS_PTE_WRITE : 0)
    let refused = CSHIMS_PTE_PROTNONE | CSHIMS_PTE_SPECIAL | CSHIMS_PTE_FOLIO
    if value & (needed | refused) != needed { return .notPlain }
    let page = unsafe Page(cshims_pte_page(machine.pointee.pages, value).unsafelyUnwrapped)
    let old = unsafe cshims_page_ref_fetch_add(page.descriptor, hold.bias)
    guard cshims_page_grabbed(old, hold.bias), unsafe cshims_pte_load(entry) == value,
      unsafe !pins || cshims_mm_write_protect_seq(hot) == sequence
    else { return .spoiled(page) }
    unsafe list.pointee = page
    unsafe cshims_count_own(shard, hold.acquired, 1)
    return .taken
  }
}

extension MM {
  /// Takes what the lockless walk can have of several pages, and counts them if
  /// that is all. Returns how many; nil, with nothing done, where the call's
  /// arguments, the machine or the address space ask for more than that walk.
  @inlinable @inline(__always)
  public func takePlainPages(
    _ hold: PageHold, from start: UInt64, count: Int, flags: GUPFlags,
    into list: UnsafeMutablePointer<Page?>
  ) -> Int? {
    guard flags.isSubset(of: .forPlainPages) else { return nil }
    let walk = unsafe FastWalk(hot, flags: flags.union(hold == .pin ? .pin : .get))
    let taken = unsafe walk.take(from: start & ~0xfff, count: count, into: list, ifPlain: true)
    return taken >= 0 ? taken : nil
  }
}

extension Page {
  /// Gives back what was counted in vain.
  @inlinable
  public func undoPlainTake(_ hold: PageHold) { finishUndo(hold.bias) }

  /// Drops one hold of a plain page.
  ///
  /// - Parameters:
  ///   - hold: better a constant.
  ///   - membership: its machine's.
  @inlinable @inline(__always)
  public func dropPlainly(_ hold: PageHold, membership: UInt32) -> PlainDrop {
    let machine = unsafe cshims_machine_of(descriptor).unsafelyUnwrapped
    guard membership == CSHIMS_MACHINE_OWN.rawValue, unsafe cshims_attention(machine) == 0,
      flags & hold.oddities == 0,
      let shard = unsafe cshims_own_shard(machine)
    else { return .notPlain }
    let old = unsafe cshims_page_ref_fetch_sub(descriptor, hold.bias)
    unsafe cshims_count_own(shard, hold.released, 1)
    return hold.isFinished(old) ? .dropped : .unfinished(old: old)
  }
}

extension PageHold {
  /// Was a drop from `old` neither the last nor one too many? Both compares in
  /// one, since what is left wraps around at zero.
  @inlinable @inline(__always)
  func isFinished(_ old: UInt32) -> Bool {
    old &- bias &- 1 < CSHIMS_REF_HELD_MAX &- bias
  }
}
