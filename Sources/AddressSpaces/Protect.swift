//===----------------------------------------------------------------------===//
// Protect: mprotect. The areas change first, then the page-table entries, then
// the host view follows in one pass over the range.
//===----------------------------------------------------------------------===//

internal import CShims
internal import Events
internal import PageFrames

extension MM {
  /// The body of `AddressSpace.protect`, under the mmap lock. As Linux does, it
  /// changes the areas up to the first hole and then reports ENOMEM, and
  /// reports EACCES at an area that may not have the protection.
  func protect(_ start: UInt64, _ end: UInt64, _ protection: Protection) throws(MemoryError) {
    guard unsafe state.pointee.areas.find(containing: start) != nil else {
      throw MemoryError(.outOfMemory, .notMapped, start)
    }
    guard var reserve = makeNodes(splitsNeeded(start, end)) else {
      throw MemoryError(.outOfMemory, .metadataExhausted, end - start)
    }
    defer { discard(&reserve) }
    let access = AreaFlags(access: protection)
    var address = start
    while address < end {
      guard let node = unsafe state.pointee.areas.find(containing: address) else {
        mergeAreas(start, address)
        throw MemoryError(.outOfMemory, .notMapped, address)
      }
      let old = unsafe node.pointee.payload
      // The may-bits stand three places above the bits they allow.
      if AreaFlags(rawValue: access.rawValue << 3).subtracting(old.flags) != [] {
        mergeAreas(start, address)
        throw MemoryError(.accessDenied, .writeForbidden, address)
      }
      let stop = min(end, old.end)
      let flags = old.flags.subtracting(.anyAccess).union(access)
      if flags != old.flags {
        splitArea(at: address, &reserve)
        splitArea(at: stop, &reserve)
        if let area = unsafe area(containing: address) { unsafe area.pointee.flags = flags }
        protectEntries(address, stop, flags)
        // Without a trap what may be touched again must be shown at once.
        if unsafe state.pointee.tier == .none {
          _ = reveal(address, stop)
        } else {
          followTable(address, stop)
        }
      }
      address = stop
    }
    mergeAreas(start, end)
    unsafe machine.header.emit(.protect, address: start, pageCount: Int((end - start) >> 12))
  }

  func protectEntries(_ start: UInt64, _ end: UInt64, _ flags: AreaFlags) {
    let accessible = !flags.access.isEmpty
    func change(_ entry: UnsafeMutablePointer<cshims_pte>, _ value: UInt64) {
      var changed = value & ~(CSHIMS_PTE_WRITE | CSHIMS_PTE_PRESENT | CSHIMS_PTE_PROTNONE)
      changed |= accessible ? CSHIMS_PTE_PRESENT : CSHIMS_PTE_PROTNONE
      if accessible, flags.contains(.write), mayWriteAtOnce(value, flags) {
        changed |= CSHIMS_PTE_WRITE
      }
      if changed != value { unsafe _ = cshims_pte_exchange(entry, changed) }
    }
    // Areas end where leaves do. A leaf's frame is its head, which answers for it.
    unsafe forEachLeaf(start, end) { leaf, value in unsafe change(leaf, value) }
    unsafe forEachEntry(start, end) { entry, value in unsafe change(entry, value) }
  }

  /// May a page be mapped writable without a write fault that would have to
  /// break sharing (can_change_pte_writable)?
  private func mayWriteAtOnce(_ value: UInt64, _ flags: AreaFlags) -> Bool {
    if value & CSHIMS_PTE_SPECIAL != 0 { return false }
    if flags.contains(.shared) {
      // Where a file tracks dirtying, the first store must be heard of.
      return !flags.contains(.dirtyTracking) || value & CSHIMS_PTE_DIRTY != 0
    }
    let page = machine.page(Self.frame(of: value))
    return page.isAnonymous && page.isAnonymousExclusive
  }
}
