//===----------------------------------------------------------------------===//
// Splitting a folio: a large folio becomes single pages in place (split_folio).
//
// The count is taken from what the mappings account for to the free sentinel in
// one step. It succeeds only when nobody else holds the folio, and from there on
// every late grab fails, so that nobody counts on a head that is about to be no
// head any more. Whoever fails comes again by the slow path, and waits for the
// mmap lock. That is why the mappings must all be this address space's: another's
// slow path would not wait, and its faults would meet a count that is not there.
//===----------------------------------------------------------------------===//

internal import CShims
internal import PageFrames

extension MM {
  /// The body of `AddressSpace.splitFolio`, under the mmap lock.
  func splitFolio(at address: UInt64) throws(MemoryError) {
    let found = value(at: address)
    guard Self.holdsPage(found), found & CSHIMS_PTE_SPECIAL == 0 else {
      throw MemoryError(.badAddress, .notPresent, address)
    }
    let page = machine.page(Self.frame(of: found))
    let order = page.folioOrder
    guard order > 0 else { return }
    let head = page.folioHead
    let start = address &- (page.frame - head.frame) << 12
    let isLeaf = unsafe leaf(at: address) != nil
    let mappings = isLeaf ? 1 : mappingCount(of: head, from: start)
    guard unsafe cshims_page_ref_exchange(head.descriptor, mappings, CSHIMS_REF_FREE) else {
      throw MemoryError(.tryAgain, .inUse, address)
    }
    if isLeaf {
      // The references that it adds for the small entries are not wanted here.
      splitLeaf(at: address)
      unsafe _ = cshims_page_ref_fetch_sub(head.descriptor, UInt32(1 << order) - 1)
    }
    let common =
      head.flags
      & ~(CSHIMS_PAGE_ORDER_MASK | CSHIMS_PAGE_ANON_EXCLUSIVE | CSHIMS_PAGE_STALE)
    machine.dissolve(head.frame, order: order) { i in
      guard isMapped(head.frame + UInt64(i), at: start &+ UInt64(i) << 12) else { return nil }
      let own = unsafe cshims_page_flags(head.descriptor + i)
      return common | own & CSHIMS_PAGE_ANON_EXCLUSIVE
    }
    // Guarded pages must be looked at whatever their size.
    let guarded = CSHIMS_PAGE_SECRET | CSHIMS_PAGE_POISONED | CSHIMS_PAGE_P2PDMA
    guard common & guarded == 0 else { return }
    for i in 0..<(UInt64(1) << UInt64(order)) {
      let at = start &+ i << 12
      guard isMapped(head.frame + i, at: at), let entry = unsafe entry(at: at) else { continue }
      unsafe _ = cshims_pte_exchange(entry, cshims_pte_load(entry) & ~CSHIMS_PTE_FOLIO)
    }
  }

  /// Does this address space show a frame at an address?
  private func isMapped(_ frame: UInt64, at address: UInt64) -> Bool {
    let value = value(at: address)
    return Self.holdsPage(value) && Self.frame(of: value) == frame
  }

  /// How many pages of a folio stand where they stood when the first of them was
  /// mapped at `start`.
  func mappingCount(of head: Page, from start: UInt64) -> UInt32 {
    var count: UInt32 = 0
    for i in 0..<(UInt64(1) << UInt64(head.folioOrder))
    where isMapped(head.frame + i, at: start &+ i << 12) {
      count += 1
    }
    return count
  }
}
