//===----------------------------------------------------------------------===//
// Faults that bring large folios in, and faults on them.
//
// A store into untouched memory of an area that wants folios gets the largest
// one that fits around it: nothing of the stretch may be there yet, it must lie
// wholly inside the area, and a block of frames must be free. A folio behind
// small entries has a reference for each of them, one behind a leaf has one.
//
// All under the mmap lock; no malloc, as everywhere in the fault path.
//===----------------------------------------------------------------------===//

internal import CShims
internal import Events
internal import PageFrames

extension MM {
  /// The write fault of an address where nothing is, or the zero page; its table
  /// exists. nil where no folio fits or none is free: single pages then.
  func faultFolio(
    _ address: UInt64, _ end: UInt64, _ area: UnsafeMutablePointer<Area>
  ) -> FaultResult? {
    let wish = unsafe area.pointee.folios
    guard wish != .base, unsafe area.pointee.flags.contains(.anonymous) else { return nil }
    if wish == .huge { return unsafe faultHuge(address, end, area) }
    var order = unsafe area.pointee.flags.folioOrder
    while order >= FolioSize.orders.lowerBound {
      if let result = unsafe faultOrder(order, address, end, area) { return result }
      order -= 1
    }
    return nil
  }

  /// The aligned stretch of 2^order pages around an address, if it lies in the area.
  private func stretch(_ order: Int, around address: UInt64, in area: Area) -> UInt64? {
    let length: UInt64 = 4096 << UInt64(order)
    let start = address & ~(length - 1)
    return start >= area.start && start <= area.end && area.end - start >= length ? start : nil
  }

  /// Is each of `count` entries empty, or, where `zeroes` says so, the zero page's?
  private func isUntouched(_ start: UInt64, _ count: Int, zeroes: Bool) -> Bool {
    let entries = entries(around: start)
    let first = Int(start >> 12) & 511
    for i in first..<(first + count) {
      let value = entries[i]
      if value != 0, !(zeroes && Self.isZeroPage(value)) { return false }
    }
    return true
  }

  /// Where single pages must end, so that the folio behind them has its chance.
  static func singlePagesEnd(
    _ address: UInt64, _ end: UInt64, _ area: Area, _ access: FaultAccess
  ) -> UInt64 {
    let stop = tableEnd(address, end)
    guard access == .write, case .order = area.folios else { return stop }
    let least = UInt64(4096) << UInt64(FolioSize.orders.lowerBound)
    return min(stop, (address | (least - 1)) + 1)
  }

  // MARK: - Bringing in

  /// 2 MiB behind a leaf. Zero pages of the stretch give way to it, as Linux's huge
  /// zero page does.
  private func faultHuge(
    _ address: UInt64, _ end: UInt64, _ area: UnsafeMutablePointer<Area>
  ) -> FaultResult? {
    let order = Int(CSHIMS_PMD_SHIFT - CSHIMS_PAGE_SHIFT)
    let count = 1 << order
    guard let start = unsafe stretch(order, around: address, in: area.pointee),
      isUntouched(start, count, zeroes: true)
    else { return nil }
    guard let middle = unsafe makeMiddle(at: start), let entries = unsafe entry(at: start) else {
      return FaultResult(.outOfMetadata, 0)
    }
    guard
      let frame = unsafe machine.allocateFolio(
        near: area.pointee.home(of: start), order: order, flags: area.pointee.privatePageFlags)
    else { return nil }
    if machine.zero(frame: frame, count: count) != 0 {
      machine.page(frame).releaseUnnoted(.reference)
      return FaultResult(.hostRefused, 0)
    }
    var replaced = false
    for i in 0..<count where unsafe cshims_pte_load(entries + i) != 0 {
      unsafe cshims_pte_store(entries + i, 0)
      replaced = true
    }
    unsafe installLeaf(
      middle,
      Self.entryValue(
        frame: frame, writable: area.pointee.flags.contains(.write), dirty: true,
        accessible: !area.pointee.flags.access.isEmpty))
    if replaced {
      followTable(start, start + Self.leafLength)
      unsafe machine.header.emit(.copy, address: start, frame: frame, pageCount: count)
    }
    return present(start, count, from: address, to: end)
  }

  /// Folios of one order behind small entries: the one around the address, and as
  /// many after it as the fault asks for and consecutive blocks are free for, so
  /// that the host is asked for memory once.
  private func faultOrder(
    _ order: Int, _ address: UInt64, _ end: UInt64, _ area: UnsafeMutablePointer<Area>
  ) -> FaultResult? {
    let size = 1 << order
    let length = UInt64(size) << 12
    guard let start = unsafe stretch(order, around: address, in: area.pointee) else { return nil }
    var stop = unsafe min(Self.tableEnd(start, area.pointee.end), end + length - 1)
    if unsafe cshims_any_failure_point_armed(machine.header) {
      stop = start + length
    } else if unsafe order < area.pointee.flags.folioOrder {
      // What follows the larger stretch around has a chance of its own.
      stop = min(stop, (start | (2 * length - 1)) + 1)
    }
    var first: UInt64 = 0
    var folios = 0
    var next = start
    while next < stop, stop - next >= length, isUntouched(next, size, zeroes: false),
      let frame = unsafe machine.allocateFolio(
        near: area.pointee.home(of: next), order: order, flags: area.pointee.privatePageFlags)
    {
      if folios == 0 { first = frame }
      guard frame == first + UInt64(folios << order) else {
        machine.page(frame).releaseUnnoted(.reference)
        break
      }
      folios += 1
      next += length
    }
    if folios == 0 { return nil }
    let count = folios << order
    if machine.zero(frame: first, count: count) != 0 {
      for i in 0..<folios { machine.page(first + UInt64(i << order)).releaseUnnoted(.reference) }
      return FaultResult(.hostRefused, 0)
    }
    guard let entries = unsafe entry(at: start) else { return FaultResult(.outOfMetadata, 0) }
    let value = unsafe Self.entryValue(
      frame: first, writable: area.pointee.flags.contains(.write), dirty: true,
      accessible: !area.pointee.flags.access.isEmpty)
    for i in 0..<count {
      let page = machine.page(first + UInt64(i))
      if i & (size - 1) == 0 {
        unsafe _ = cshims_page_ref_fetch_add(page.descriptor, UInt32(size - 1))
      }
      unsafe _ = cshims_page_set_flags(page.descriptor, CSHIMS_PAGE_ANON_EXCLUSIVE)
      unsafe _ = cshims_page_map_fetch_add(page.descriptor, 1)
      unsafe cshims_pte_store(entries + i, value + UInt64(i) << 12 | CSHIMS_PTE_FOLIO)
    }
    return present(start, count, from: address, to: end)
  }

  /// What a fault that brought in `count` pages from `start` on has to say.
  private func present(
    _ start: UInt64, _ count: Int, from address: UInt64, to end: UInt64
  ) -> FaultResult {
    let stop = start + UInt64(count) << 12
    // Without a trap nothing shows later what the fault did not ask for.
    if unsafe state.pointee.tier == .none, reveal(start, stop) != 0 {
      return FaultResult(.hostRefused, 0)
    }
    return FaultResult(.done, Int((min(stop, end) - address) >> 12))
  }

  // MARK: - Faults on what is there

  /// A fault on a leaf. nil when the leaf had to be split: the small entries
  /// decide then (do_huge_pmd_wp_page).
  func faultLeaf(
    _ address: UInt64, _ end: UInt64, _ leaf: UnsafeMutablePointer<cshims_pte>,
    _ area: UnsafeMutablePointer<Area>, _ access: FaultAccess
  ) -> FaultResult? {
    let value = unsafe cshims_pte_load(leaf)
    // Present but out of reach is right in an area without any permission.
    guard unsafe value & CSHIMS_PTE_PRESENT != 0 || area.pointee.flags.access.isEmpty else {
      return FaultResult(.forbidden, 0)
    }
    let start = Self.leafStart(address)
    let done = FaultResult(.done, Int((min(start + Self.leafLength, end) - address) >> 12))
    if access == .read { return done }
    let head = machine.page(Self.frame(of: value))
    if !head.isAnonymousExclusive {
      guard isOnlyHeldHere(head, at: address) else {
        splitLeaf(at: address)
        return nil
      }
      unsafe _ = cshims_page_set_flags(head.descriptor, CSHIMS_PAGE_ANON_EXCLUSIVE)
    }
    if access == .write {
      let writable = unsafe area.pointee.flags.contains(.write)
      let bits = (writable ? CSHIMS_PTE_WRITE : 0) | CSHIMS_PTE_DIRTY
      unsafe cshims_pte_store(leaf, value | bits)
      followTable(start, start + Self.leafLength)
    }
    return done
  }

  /// Row 3 of D.3, as kernels newer than 6.14 have it: is each reference to the
  /// folio of the page at `address` a mapping of this address space? Those that
  /// stand where the folio was mapped are counted; elsewhere there may be more,
  /// and then the page is copied.
  func areAllReferencesHere(_ page: Page, at address: UInt64) -> Bool {
    let head = page.folioHead
    let start = address &- (page.frame - head.frame) << 12
    return unsafe cshims_page_ref_load(head.descriptor) == mappingCount(of: head, from: start)
  }
}
