//===----------------------------------------------------------------------===//
// Collapse: MADV_COLLAPSE. The pages of 2 MiB are copied into a folio of their
// own, which takes their place behind a leaf.
//
// In this order: the entries become not present, so that the lock-free walk
// takes nothing more; the view hides them, so that the program's stores wait in
// the trap; then the counts are looked at. A page that somebody holds beyond its
// mappings (a pin, a reference) must stay where it is: everything is put back.
// Pages that a forked child shows, too, may be copied: the child keeps them.
//===----------------------------------------------------------------------===//

internal import CShims
internal import Events
internal import PageFrames

extension MM {
  /// The body of `Advice.collapse` for a part of one area, under the mmap lock.
  /// As Linux does, it collapses what it can and reports the last failure.
  func collapse(_ start: UInt64, _ end: UInt64, in area: Area) throws(MemoryError) {
    let refusal = MemoryError(.invalid, .adviceNotApplicable, start)
    // Does a whole stretch fit into the area at all?
    let first = Self.leafStart(area.start + Self.leafLength - 1)
    guard area.flags.contains(.anonymous), first < area.end,
      area.end - first >= Self.leafLength,
      area.flags.isDisjoint(with: AreaFlags.special.union(.noHugePage))
    else { throw refusal }
    var address = Self.leafStart(start + Self.leafLength - 1)
    let stop = Self.leafStart(end)
    // A range within one stretch is refused, one that touches a boundary is empty.
    if address > stop { throw refusal }
    var failure: MemoryError?
    while address < stop {
      do throws(MemoryError) {
        try collapseStretch(address, in: area)
      } catch {
        failure = error
        if error.number == .outOfMemory { throw error }
      }
      address += Self.leafLength
    }
    if let failure { throw failure }
  }

  private func collapseStretch(_ start: UInt64, in area: Area) throws(MemoryError) {
    if unsafe leaf(at: start) != nil { return }
    let end = start + Self.leafLength
    let count = Int(CSHIMS_PTE_ENTRIES)
    guard let entries = unsafe entry(at: start), holdsAnyPage(around: start) else {
      throw MemoryError(.invalid, .notPresent, start)
    }
    guard let middle = unsafe makeMiddle(at: start) else {
      throw MemoryError(.outOfMemory, .metadataExhausted, start)
    }
    guard
      let frame = machine.allocateFolio(
        near: area.home(of: start), order: Int(CSHIMS_PMD_SHIFT - CSHIMS_PAGE_SHIFT),
        flags: area.privatePageFlags)
    else { throw MemoryError(.outOfMemory, .framesExhausted, start) }
    let folio = machine.page(frame)
    guard machine.zero(frame: frame, count: count) == 0 else {
      folio.releaseUnnoted(.reference)
      throw MemoryError(.outOfMemory, .hostRefused, start)
    }
    unsafe setReach(entries, count, area, taken: true)
    followTable(start, end)
    if let held = unsafe firstHeldPage(entries, count) {
      unsafe setReach(entries, count, area, taken: false)
      if unsafe state.pointee.tier == .none { _ = reveal(start, end) }
      folio.releaseUnnoted(.reference)
      throw MemoryError(.tryAgain, .inUse, start + UInt64(held) << 12)
    }
    unsafe moveIn(entries, count, frame)
    unsafe installLeaf(
      middle,
      Self.entryValue(
        frame: frame, writable: area.flags.contains(.write), dirty: true,
        accessible: !area.flags.access.isEmpty))
    unsafe machine.header.emit(.copy, address: start, frame: frame, pageCount: count)
    if unsafe state.pointee.tier == .none { _ = reveal(start, end) }
  }

  private func holdsAnyPage(around address: UInt64) -> Bool {
    let entries = entries(around: address)
    for i in 0..<Int(CSHIMS_PTE_ENTRIES) where Self.holdsPage(entries[i]) { return true }
    return false
  }

  /// Takes present entries out of everybody's reach, or gives them back. In an
  /// area without permissions they are out of reach already.
  private func setReach(
    _ entries: UnsafeMutablePointer<cshims_pte>, _ count: Int, _ area: Area, taken: Bool
  ) {
    guard !area.flags.access.isEmpty else { return }
    for i in 0..<count {
      let value = unsafe cshims_pte_load(entries + i)
      guard Self.holdsPage(value) else { continue }
      let hidden = value & ~CSHIMS_PTE_PRESENT | CSHIMS_PTE_PROTNONE
      let shown = value & ~CSHIMS_PTE_PROTNONE | CSHIMS_PTE_PRESENT
      unsafe _ = cshims_pte_exchange(entries + i, taken ? hidden : shown)
    }
  }

  /// The first entry whose page has references that are no mappings.
  private func firstHeldPage(
    _ entries: UnsafeMutablePointer<cshims_pte>, _ count: Int
  ) -> Int? {
    // A folio's pages stand side by side: each folio is asked once.
    var last: Page?
    for i in 0..<count {
      let value = unsafe cshims_pte_load(entries + i)
      guard Self.holdsPage(value), value & CSHIMS_PTE_SPECIAL == 0 else { continue }
      let head = machine.page(Self.frame(of: value)).folioHead
      if head == last { continue }
      if head.referenceCount != head.folioMapCount { return i }
      last = head
    }
    return nil
  }

  /// Copies what the entries show into the folio from `frame` on and empties them.
  private func moveIn(
    _ entries: UnsafeMutablePointer<cshims_pte>, _ count: Int, _ frame: UInt64
  ) {
    var batch = FrameBatch(machine)
    for i in 0..<count {
      let value = unsafe cshims_pte_load(entries + i)
      unsafe cshims_pte_store(entries + i, 0)
      guard Self.holdsPage(value), value & CSHIMS_PTE_SPECIAL == 0 else { continue }
      let old = Self.frame(of: value)
      unsafe cshims_copy(
        machine.address(ofFrame: frame + UInt64(i)), machine.address(ofFrame: old), 4096)
      unsafe _ = cshims_page_map_fetch_sub(machine.page(old).descriptor, 1)
      batch.dropReference(machine.page(old), call: "collapse_huge_page")
    }
    batch.flush()
  }
}
