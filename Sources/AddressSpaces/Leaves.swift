//===----------------------------------------------------------------------===//
// Leaves: middle-level entries that show 2 MiB, a whole folio of order 9, by
// themselves (the kernel's PMD-mapped THP).
//
// A leaf is one mapping: one reference, one count of its own on the folio, and
// the head's exclusive bit answers for all 512 pages. Whatever concerns a part
// of it splits it first: 512 last-level entries for the same pages, each a
// mapping with a reference, each page with an exclusive bit of its own. That
// changes nothing that a program, a view or a pin can see, and cannot fail,
// because a leaf is only ever put where the last-level table exists: it is kept,
// empty, behind the middle-level table (the kernel's deposited page table).
//
// A last-level table belongs to its 2 MiB for ever, so a lock-free walk that
// still holds one from before a leaf stood there finds it empty, or filled with
// what is right at that address.
//
// To move a leaf's mapping elsewhere, split it and move the entries: they carry
// what they are (CSHIMS_PTE_FOLIO), wherever they stand.
//===----------------------------------------------------------------------===//

internal import CShims
internal import PageFrames

/// The entries of one 2 MiB as values, whether a table or a leaf holds them.
@safe
struct StretchEntries {
  private let table: UnsafeMutablePointer<cshims_pte>?
  private let leaf: UInt64

  fileprivate init(table: UnsafeMutablePointer<cshims_pte>?, leaf: UInt64) {
    unsafe self.table = table
    self.leaf = leaf
  }

  /// Entry `index` of 0 to 511; 0 where there is none.
  subscript(index: Int) -> UInt64 {
    if let table = unsafe table { return unsafe cshims_pte_load(table + index) }
    return leaf == 0 ? 0 : leaf + UInt64(index) << 12
  }
}

extension MM {
  static var leafLength: UInt64 { 1 << UInt64(CSHIMS_PMD_SHIFT) }

  /// The start of the 2 MiB around an address.
  static func leafStart(_ address: UInt64) -> UInt64 { address & ~(leafLength - 1) }

  /// The middle-level entry of `address` if it is a leaf, present or under
  /// PROT_NONE.
  func leaf(at address: UInt64) -> UnsafeMutablePointer<cshims_pte>? {
    guard let middle = unsafe cshims_pmd_offset(hot.pointee.pgd, address),
      unsafe cshims_pte_load(middle) & CSHIMS_PTE_HUGE != 0
    else { return nil }
    return unsafe middle
  }

  /// The entries of the 2 MiB around an address.
  func entries(around address: UInt64) -> StretchEntries {
    guard let middle = unsafe cshims_pmd_offset(hot.pointee.pgd, address) else {
      return unsafe StretchEntries(table: nil, leaf: 0)
    }
    let value = unsafe cshims_pte_load(middle)
    if value & CSHIMS_PTE_HUGE != 0 {
      return unsafe StretchEntries(table: nil, leaf: Self.smallEntry(of: value))
    }
    let table = value & CSHIMS_PTE_PRESENT != 0 ? unsafe cshims_pte_table(value) : nil
    return unsafe StretchEntries(table: table, leaf: 0)
  }

  /// What the page table holds for an address, of a leaf what a small entry would
  /// hold; 0 where there is nothing.
  public func value(at address: UInt64) -> UInt64 {
    entries(around: address)[cshims_pte_index(address, UInt32(CSHIMS_PAGE_SHIFT))]
  }

  /// The first of the 512 small entries that show what a leaf shows.
  private static func smallEntry(of leaf: UInt64) -> UInt64 {
    leaf & ~CSHIMS_PTE_HUGE | CSHIMS_PTE_FOLIO
  }

  /// Calls `body` with each leaf that lies wholly in [start, end).
  @inline(__always)
  func forEachLeaf(
    _ start: UInt64, _ end: UInt64,
    _ body: (UnsafeMutablePointer<cshims_pte>, UInt64) -> Void
  ) {
    var address = Self.leafStart(start &+ Self.leafLength - 1)
    while address >= start, address < end, end - address >= Self.leafLength {
      if let leaf = unsafe leaf(at: address) { unsafe body(leaf, cshims_pte_load(leaf)) }
      address += Self.leafLength
    }
  }

  /// Puts an order-9 folio that is held once, for this mapping, behind a leaf.
  /// The stretch's table exists and is empty.
  func installLeaf(_ middle: UnsafeMutablePointer<cshims_pte>, _ value: UInt64) {
    let head = machine.page(Self.frame(of: value))
    unsafe _ = cshims_page_leaf_fetch_add(head.descriptor, 1)
    unsafe _ = cshims_pte_exchange(middle, value | CSHIMS_PTE_HUGE)
  }

  /// Puts the stretch's empty table back where a leaf stood. The caller drops the
  /// leaf's reference.
  func removeLeaf(_ middle: UnsafeMutablePointer<cshims_pte>, _ value: UInt64) {
    let head = machine.page(Self.frame(of: value))
    unsafe _ = cshims_pte_exchange(middle, cshims_pte_load(Self.keptTable(middle)))
    unsafe _ = cshims_page_leaf_fetch_sub(head.descriptor, 1)
  }

  /// Makes `address` no leaf's inside (split_huge_pmd on a boundary).
  func splitLeafAcross(_ address: UInt64) {
    if address != Self.leafStart(address) { splitLeaf(at: address) }
  }

  /// Shows the folio of the leaf at an address, if there is one, by 512 entries.
  /// Allowed whoever holds pins: the mapping is split, not the folio. Under the
  /// mmap lock (__split_huge_pmd).
  public func splitLeaf(at address: UInt64) {
    guard let middle = unsafe leaf(at: address) else { return }
    let value = unsafe cshims_pte_load(middle)
    let head = machine.page(Self.frame(of: value))
    let kept = unsafe cshims_pte_load(Self.keptTable(middle))
    guard let table = unsafe cshims_pte_table(kept) else { return }
    let count = Int(CSHIMS_PTE_ENTRIES)
    // Counts and exclusive bits first: the entries must find them.
    unsafe _ = cshims_page_ref_fetch_add(head.descriptor, UInt32(count - 1))
    let exclusive = head.isAnonymousExclusive
    for i in 0..<count {
      let page = unsafe head.descriptor + i
      if exclusive { unsafe _ = cshims_page_set_flags(page, CSHIMS_PAGE_ANON_EXCLUSIVE) }
      unsafe _ = cshims_page_map_fetch_add(page, 1)
    }
    unsafe _ = cshims_page_leaf_fetch_sub(head.descriptor, 1)
    let first = Self.smallEntry(of: value)
    for i in 0..<count { unsafe cshims_pte_store(table + i, first + UInt64(i) << 12) }
    unsafe _ = cshims_pte_exchange(middle, kept)
  }

  /// How many entries from that of `address` on, `limit` at most, show the pages
  /// of one folio in order and are alike in everything else. 1 for a single page.
  public func folioRun(at address: UInt64, limit: Int) -> Int {
    let entries = entries(around: address)
    let index = Int(cshims_pte_index(address, UInt32(CSHIMS_PAGE_SHIFT)))
    let value = entries[index]
    guard value & CSHIMS_PTE_FOLIO != 0 else { return 1 }
    let frame = Self.frame(of: value)
    let size = 1 << machine.page(frame).folioOrder
    let most = min(limit, size - Int(frame) & (size - 1), Int(CSHIMS_PTE_ENTRIES) - index)
    var run = 1
    while run < most, entries[index + run] == value + UInt64(run) << 12 { run += 1 }
    return run
  }
}
