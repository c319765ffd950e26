//===----------------------------------------------------------------------===//
// The page table: four levels of 512 entries over the whole user address
// space. Tables come from the arena, zeroed, and are freed only with the
// address space, so the lock-free walk needs no grace periods.
//
// Entries are stored with release (a reader that follows a fresh interior entry
// finds a zeroed table) and cleared by a sequentially consistent exchange (rule
// G3: whoever takes a count through the old value is seen, or sees the change).
//
// A middle-level table is followed by 512 words that keep its last-level tables:
// where a leaf stands in a table's place, the table waits there (Leaves.swift).
//===----------------------------------------------------------------------===//

public import CShims
internal import PageFrames

extension MM {
  /// The last-level entry of an address, if its table exists and no leaf stands
  /// in its place. Safe without a lock: tables are never freed while the address
  /// space lives.
  public func entry(at address: UInt64) -> UnsafeMutablePointer<cshims_pte>? {
    guard let middle = unsafe cshims_pmd_offset(hot.pointee.pgd, address) else { return nil }
    let value = unsafe cshims_pte_load(middle)
    guard value & CSHIMS_PTE_PRESENT != 0, value & CSHIMS_PTE_HUGE == 0 else { return nil }
    return unsafe cshims_pte_table(value) + cshims_pte_index(address, UInt32(CSHIMS_PAGE_SHIFT))
  }

  /// The same, making what is missing; no leaf may stand there. nil when the
  /// arena is exhausted.
  func makeEntry(at address: UInt64) -> UnsafeMutablePointer<cshims_pte>? {
    guard let middle = unsafe makeMiddle(at: address) else { return nil }
    let table = unsafe cshims_pte_table(cshims_pte_load(Self.keptTable(middle)))!
    return unsafe table + cshims_pte_index(address, UInt32(CSHIMS_PAGE_SHIFT))
  }

  /// The middle-level entry of an address with a last-level table, which it shows
  /// unless a leaf stands there, made if missing. nil when the arena is exhausted.
  func makeMiddle(at address: UInt64) -> UnsafeMutablePointer<cshims_pte>? {
    let top = unsafe hot.pointee.pgd! + cshims_pte_index(address, UInt32(CSHIMS_PGD_SHIFT))
    guard let upper = unsafe makeTable(in: top, byteCount: pageSize),
      let lower = unsafe makeTable(
        in: upper + cshims_pte_index(address, UInt32(CSHIMS_PUD_SHIFT)),
        byteCount: Self.middleTableSize)
    else { return nil }
    let middle = unsafe lower + cshims_pte_index(address, UInt32(CSHIMS_PMD_SHIFT))
    let kept = unsafe Self.keptTable(middle)
    guard unsafe makeTable(in: kept, byteCount: pageSize) != nil else { return nil }
    if unsafe cshims_pte_load(middle) == 0 {
      unsafe cshims_pte_store(middle, cshims_pte_load(kept))
    }
    return unsafe middle
  }

  /// The table that an interior entry shows, made if it is empty.
  private func makeTable(
    in slot: UnsafeMutablePointer<cshims_pte>, byteCount: Int
  ) -> UnsafeMutablePointer<cshims_pte>? {
    let value = unsafe cshims_pte_load(slot)
    if value != 0 { return unsafe cshims_pte_table(value) }
    guard let fresh = unsafe machine.arena.allocate(byteCount: byteCount) else { return nil }
    let made = UInt64(UInt(bitPattern: fresh)) | Self.interior
    unsafe cshims_pte_store(slot, made)
    return unsafe cshims_pte_table(made)
  }

  /// Where a middle-level table keeps the last-level table of an entry.
  static func keptTable(
    _ middle: UnsafeMutablePointer<cshims_pte>
  ) -> UnsafeMutablePointer<cshims_pte> {
    unsafe middle + Int(CSHIMS_PTE_ENTRIES)
  }

  private static var middleTableSize: Int { 2 * pageSize }

  private static var interior: UInt64 {
    CSHIMS_PTE_PRESENT | CSHIMS_PTE_WRITE | CSHIMS_PTE_USER
  }

  /// Where the table that covers `address` ends, or `end` if that is nearer.
  static func tableEnd(_ address: UInt64, _ end: UInt64) -> UInt64 {
    min(end, (address | ((1 << UInt64(CSHIMS_PMD_SHIFT)) - 1)) + 1)
  }

  /// Calls `body` with each entry of [start, end) that is not empty and with what
  /// it holds, in address order. Tables that do not exist, and leaves, are stepped
  /// over.
  @inline(__always)
  func forEachEntry(
    _ start: UInt64, _ end: UInt64, _ body: (UnsafeMutablePointer<cshims_pte>, UInt64) -> Void
  ) {
    var address = start
    while address < end {
      let stop = Self.tableEnd(address, end)
      if let entries = unsafe entry(at: address) {
        for i in 0..<Int((stop - address) >> 12) {
          let value = unsafe cshims_pte_load(entries + i)
          if value != 0 { unsafe body(entries + i, value) }
        }
      }
      address = stop
    }
  }

  /// The entry that shows `frame`; without `accessible` it only remembers it, as
  /// in an area without any permission.
  static func entryValue(
    frame: UInt64, writable: Bool, dirty: Bool, special: Bool = false, accessible: Bool = true
  ) -> UInt64 {
    var value = frame << 12 | CSHIMS_PTE_USER | CSHIMS_PTE_ACCESSED
    value |= accessible ? CSHIMS_PTE_PRESENT : CSHIMS_PTE_PROTNONE
    if writable { value |= CSHIMS_PTE_WRITE }
    if dirty { value |= CSHIMS_PTE_DIRTY }
    if special { value |= CSHIMS_PTE_SPECIAL }
    return value
  }

  /// The frame that an entry names, present or PROT_NONE.
  static func frame(of value: UInt64) -> UInt64 { (value & CSHIMS_PTE_FRAME_MASK) >> 12 }

  /// Does the entry hold a page, whether or not it may be touched now?
  static func holdsPage(_ value: UInt64) -> Bool {
    value & (CSHIMS_PTE_PRESENT | CSHIMS_PTE_PROTNONE) != 0
  }

  /// Frees every table. Nobody may walk any more.
  func freeTables() {
    guard let top = unsafe hot.pointee.pgd else { return }
    unsafe freeTable(top, level: 3)
    unsafe hot.pointee.pgd = nil
  }

  private func freeTable(_ table: UnsafeMutablePointer<cshims_pte>, level: Int) {
    if level > 0 {
      // The middle level's tables are those it keeps.
      let slots = level == 1 ? unsafe Self.keptTable(table) : unsafe table
      for i in 0..<Int(CSHIMS_PTE_ENTRIES) {
        if let next = unsafe cshims_pte_table(cshims_pte_load(slots + i)) {
          unsafe freeTable(next, level: level - 1)
        }
      }
    }
    unsafe machine.arena.free(
      UnsafeMutableRawPointer(table), byteCount: level == 1 ? Self.middleTableSize : pageSize)
  }
}
