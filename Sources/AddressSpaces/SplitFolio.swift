//===----------------------------------------------------------------------===//
// Splitting a folio: a large folio becomes single pages in place (split_folio).
//
// The count is taken from what the mappings account for to the free sentinel in
// one step. It succeeds only when nobody else holds the folio, and from there on
// every late grab fails, so that nobody counts on a head that is about to be no
// head any more. Whoever fails comes again by the slow path, and waits for the
// mmap lock: all address spaces that show the folio are locked.
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
    guard machine.page(Self.frame(of: found)).folioOrder > 0 else { return }
    if !splitUnheld(at: address) { throw MemoryError(.tryAgain, .inUse, address) }
  }

  /// Splits the large folio behind an address if only its mappings hold it and all
  /// of them can be reached. Returns whether it did.
  func splitUnheld(at address: UInt64) -> Bool {
    let page = machine.page(Self.frame(of: value(at: address)))
    return machine.withAddressSpaces {
      guard let shown = FolioMappings(self, page, at: address) else { return false }
      defer { shown.unlock() }
      return shown.split()
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

extension FolioMappings {
  /// Makes the folio single pages, each held by its mappings; those that nobody
  /// maps are freed. False, and nothing has changed, when anybody else holds it.
  func split() -> Bool {
    let machine = own.machine
    let order = head.folioOrder
    guard unsafe cshims_page_ref_exchange(head.descriptor, UInt32(count), CSHIMS_REF_FREE) else {
      return false
    }
    forEachRun { run in
      guard run.isLeaf else { return }
      // The references that it adds for the small entries are not wanted here.
      run.mm.splitLeaf(at: run.address)
      unsafe _ = cshims_page_ref_fetch_sub(head.descriptor, UInt32(pageCount) - 1)
    }
    let common =
      head.flags & ~(CSHIMS_PAGE_ORDER_MASK | CSHIMS_PAGE_ANON_EXCLUSIVE | CSHIMS_PAGE_STALE)
    let descriptor = unsafe head.descriptor
    machine.dissolve(head.frame, order: order) { i in
      guard unsafe cshims_page_map_load(descriptor + i) > 0 else { return nil }
      return unsafe common | cshims_page_flags(descriptor + i) & CSHIMS_PAGE_ANON_EXCLUSIVE
    }
    for i in 0..<pageCount {
      // Each came with one.
      let maps = unsafe cshims_page_map_load(descriptor + i)
      if maps > 1 { unsafe _ = cshims_page_ref_fetch_add(descriptor + i, maps - 1) }
    }
    // Guarded pages must be looked at whatever their size.
    let guarded = CSHIMS_PAGE_SECRET | CSHIMS_PAGE_POISONED | CSHIMS_PAGE_P2PDMA
    guard common & guarded == 0 else { return true }
    forEachRun { run in
      for i in 0..<run.count {
        let value = unsafe cshims_pte_load(run.entries + i)
        unsafe _ = cshims_pte_exchange(run.entries + i, value & ~CSHIMS_PTE_FOLIO)
      }
    }
    return true
  }
}
