//===----------------------------------------------------------------------===//
// The lockless walk's second half: entries that one compare cannot decide.
// 2 MiB leaves, runs of a folio's sub-pages, guarded pages, long-term pins, and
// every entry while failures are injected. The protocol and its order are those
// of FastWalk.swift; one count per folio, never one per 4 KiB inside it.
//===----------------------------------------------------------------------===//

internal import AddressSpaces
internal import CShims
internal import Events
internal import PageFrames

extension FastWalk {
  /// Takes `count` sub-pages from a 2 MiB leaf, or none.
  @inline(never)
  func takeLeaf(
    _ pmd: UnsafeMutablePointer<cshims_pte>, _ value: UInt64, first: Int, count: Int,
    into list: UnsafeMutablePointer<Page?>
  ) -> Int {
    guard value & (needed | refused | CSHIMS_PTE_HUGE) == needed | CSHIMS_PTE_HUGE else { return 0 }
    if unsafe machine.fails(at: .grab) { return 0 }
    let page = unsafe page(of: value) + first
    guard unsafe Page(page).tryAcquireUnnoted(hold, count: count) else { return 0 }
    let head = unsafe Page(page).folioHead
    // The leaf is one mapping: its head answers for all of it.
    guard unsafe cshims_pte_load(pmd) == value, mayKeep(head, head.flags, head.flags, value) else {
      unsafe Page(page).releaseUnnoted(hold, count: count)
      return 0
    }
    for i in 0..<count { unsafe list[i] = Page(page + i) }
    return count
  }

  /// Takes the page of the first of `limit` entries and those of the same folio
  /// that follow it. Returns how many; 0 ends the walk.
  @inline(never)
  func takeCarefully(
    _ entries: UnsafeMutablePointer<cshims_pte>, _ limit: Int,
    into list: UnsafeMutablePointer<Page?>
  ) -> Int {
    let value = unsafe cshims_pte_load(entries)
    guard value & (needed | refused) == needed else { return 0 }
    let page = unsafe page(of: value)
    let order = unsafe Page(page).folioOrder
    var run = 1
    if value & CSHIMS_PTE_FOLIO != 0, order > 0, unsafe !cshims_instrumented(machine) {
      let size = 1 << order
      let most = min(limit, size - Int(unsafe Page(page).frameNumber.rawValue) & (size - 1))
      while run < most, unsafe cshims_pte_load(entries + run) == value + UInt64(run) << 12 {
        run += 1
      }
    }
    if unsafe machine.fails(at: .grab) { return 0 }
    guard unsafe Page(page).tryAcquireUnnoted(hold, count: run) else { return 0 }
    var kept = 0
    // A large folio that is held cannot be split: its order stands from here on.
    if unsafe Page(page).folioOrder == order {
      let headFlags = unsafe Page(page).folioHead.flags
      while kept < run,
        unsafe cshims_pte_load(entries + kept) == value + UInt64(kept) << 12,
        unsafe mayKeep(Page(page), headFlags, cshims_page_flags(page + kept), value)
      {
        unsafe list[kept] = Page(page + kept)
        kept += 1
      }
    }
    unsafe Page(page).releaseUnnoted(hold, count: run - kept)
    return kept
  }

  private func page(of value: UInt64) -> UnsafeMutablePointer<cshims_page> {
    unsafe cshims_pte_page(machine.pointee.pages, value).unsafelyUnwrapped
  }

  /// Rows 8, 10 and 11 of C.3 for a page that we hold: may it stay taken?
  /// `folio` are the flags of the folio's head, `own` those of the page.
  private func mayKeep(_ page: Page, _ folio: UInt32, _ own: UInt32, _ entry: UInt64) -> Bool {
    if (folio | own) & (CSHIMS_PAGE_SECRET | CSHIMS_PAGE_POISONED) != 0 { return false }
    if (folio | own) & CSHIMS_PAGE_P2PDMA != 0, !flags.contains(.pciP2PDMA) { return false }
    let isAnonymous = folio & CSHIMS_PAGE_ANON != 0
    if flags.contains(.longTerm) {
      if folio & CSHIMS_PAGE_MOVABLE != 0 { return false }
      // For long writing: anonymous memory and shared memory objects only.
      let isObjectMemory =
        folio & (CSHIMS_PAGE_CACHE | CSHIMS_PAGE_WRITEBACK) == CSHIMS_PAGE_CACHE
      if writes, !isAnonymous, !isObjectMemory { return false }
    }
    return entry & CSHIMS_PTE_WRITE != 0
      || !mustUnshare(
        flags, isAnonymous: isAnonymous, isExclusive: own & CSHIMS_PAGE_ANON_EXCLUSIVE != 0,
        isCopyOnWrite: nil, unsafe Machine(machine))
  }
}
