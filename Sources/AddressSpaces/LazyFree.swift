//===----------------------------------------------------------------------===//
// MADV_FREE: bytes that may go until the next store. Pages are marked, their
// entries made clean, and reclaim may take them. A large folio is marked as a
// whole, and goes so: a store to one of its pages keeps all of them.
//
// A processor would set an entry's dirty bit at the store. Ours has none: the view
// shows a page that was given up read-only, and the trap sets the bit.
//
// All under the mmap lock; a folio is split under the list lock, too.
//===----------------------------------------------------------------------===//

internal import CShims
internal import PageFrames

extension MM {
  /// MADV_FREE on part of one private area: the bytes may go until the next
  /// store. Pages that others show, too, are left alone, as Linux does. Without a
  /// trap nothing would hear of that store, so the bytes stay.
  func freeLazily(_ start: UInt64, _ end: UInt64) {
    let hearsStores = unsafe state.pointee.tier != .none
    forEachFolio(start, end) { address, count in
      let value = value(at: address)
      guard value & CSHIMS_PTE_SPECIAL == 0 else { return count }
      let head = machine.page(Self.frame(of: value)).folioHead
      guard head.isAnonymous, !isShownTwice(head) else { return count }
      guard count == 1 << head.folioOrder else {
        // Of a folio that is named in part the part can go only as single pages.
        return hearsStores && splitUnheld(at: address) ? 0 : count
      }
      if let leaf = unsafe leaf(at: address) {
        unsafe _ = cshims_pte_exchange(leaf, cshims_pte_load(leaf) & ~CSHIMS_PTE_DIRTY)
      } else {
        unsafe forEachEntry(address, address + UInt64(count) << 12) { entry, value in
          unsafe _ = cshims_pte_exchange(entry, value & ~CSHIMS_PTE_DIRTY)
        }
      }
      unsafe _ = cshims_page_clear_flags(head.descriptor, CSHIMS_PAGE_DIRTY)
      if hearsStores { unsafe _ = cshims_page_set_flags(head.descriptor, CSHIMS_PAGE_LAZY_FREE) }
      return count
    }
    if hearsStores { followTable(start, end) }
  }

  /// Is it a writable entry of a page that was given up and not stored to since?
  func awaitsStore(_ value: UInt64) -> Bool {
    value & (CSHIMS_PTE_WRITE | CSHIMS_PTE_DIRTY | CSHIMS_PTE_SPECIAL) == CSHIMS_PTE_WRITE
      && machine.page(Self.frame(of: value)).folioHead.flags & CSHIMS_PAGE_LAZY_FREE != 0
  }

  /// The store has come: the page stays, and with it its folio.
  func noteStore(_ address: UInt64) {
    if let leaf = unsafe leaf(at: address) {
      unsafe cshims_pte_store(leaf, cshims_pte_load(leaf) | CSHIMS_PTE_DIRTY)
      let start = Self.leafStart(address)
      followTable(start, start + Self.leafLength)
    } else if let entry = unsafe entry(at: address) {
      unsafe cshims_pte_store(entry, cshims_pte_load(entry) | CSHIMS_PTE_DIRTY)
      followTable(address, address + 4096)
    }
  }
}
