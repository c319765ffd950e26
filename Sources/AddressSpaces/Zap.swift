//===----------------------------------------------------------------------===//
// Zap: taking pages out of the page table (unmap, MADV_DONTNEED, exit).
//
// In this order, so that nobody reaches a page that is no longer his: first
// every entry becomes not present (the lock-free walk stops there), then the
// host's mapping goes, in one call for the whole range, then the counts are
// dropped. Pins do not hold it up (rule G5): a page whose count stays above
// zero lives on until its holders let go. A folio is freed as a whole, when its
// last mapping and its last holder have gone.
//===----------------------------------------------------------------------===//

internal import CShims
internal import PageFrames

extension MM {
  /// Makes every entry of [start, end) not present but remembers its page.
  /// Returns whether there was any. Under the mmap lock.
  func retireEntries(_ start: UInt64, _ end: UInt64) -> Bool {
    var any = false
    splitLeafAcross(start)
    splitLeafAcross(end)
    unsafe forEachLeaf(start, end) { leaf, value in
      any = true
      unsafe _ = cshims_pte_exchange(leaf, value & ~CSHIMS_PTE_PRESENT | CSHIMS_PTE_PROTNONE)
    }
    unsafe forEachEntry(start, end) { entry, value in
      any = true
      unsafe _ = cshims_pte_exchange(entry, value & ~CSHIMS_PTE_PRESENT | CSHIMS_PTE_PROTNONE)
    }
    return any
  }

  /// Clears retired entries and drops what they held.
  func dropEntries(_ start: UInt64, _ end: UInt64) {
    var batch = FrameBatch(machine)
    unsafe forEachLeaf(start, end) { leaf, value in
      unsafe removeLeaf(leaf, value)
      batch.dropReference(machine.page(Self.frame(of: value)), call: "zap_huge_pmd")
    }
    unsafe forEachEntry(start, end) { entry, value in
      unsafe cshims_pte_store(entry, 0)
      guard value & CSHIMS_PTE_SPECIAL == 0 else { return }
      let page = machine.page(Self.frame(of: value))
      if value & CSHIMS_PTE_DIRTY != 0, page.flags & CSHIMS_PAGE_CACHE != 0 { page.markDirty() }
      unsafe _ = cshims_page_map_fetch_sub(page.descriptor, 1)
      batch.dropReference(page, call: "zap_pte_range")
    }
    batch.flush()
  }

  /// Takes the pages of [start, end) away; the areas stay, and the next touch
  /// is a fault. Under the mmap lock.
  func zapPages(_ start: UInt64, _ end: UInt64) {
    guard retireEntries(start, end) else { return }
    followTable(start, end)
    dropEntries(start, end)
  }

  /// The same for a range whose areas go, too: the view becomes untouchable.
  func zapAndWithdraw(_ start: UInt64, _ end: UInt64) {
    let any = retireEntries(start, end)
    withdraw(start, end)
    if any { dropEntries(start, end) }
  }
}
