//===----------------------------------------------------------------------===//
// Fork: a second address space with the same user addresses and, so far, the
// same bytes (dup_mmap and copy_page_range; semantics D.1 and D.2).
//
// Within the process the child's view stands at other host addresses; its user
// addresses are its parent's. Pages are shared read-only and copied when either
// side stores, except those that are pinned and exclusive: a device may be
// writing them, so the parent keeps them as they are and the child gets a copy
// at once. That is what a pin is for.
//
// Locks: the child's mmap lock, then the parent's; nobody else knows the child
// yet. The parent's write_protect_seq is odd while its page table is copied
// (rule G4): a lock-free pin that began before that, or begins during it, sees
// the sequence change, gives back what it took, and waits for the mmap lock in
// the slow path. Its count is visible before it looks at the sequence, and the
// sequence is advanced before we look at counts, so one of the two sees the
// other.
//===----------------------------------------------------------------------===//

internal import CShims
internal import Events
public import PageFrames

extension AddressSpace {
  /// Forks: a child with the same user addresses, whose bytes are those of this
  /// moment. Stores of either side after it stay its own, except in shared
  /// mappings.
  ///
  /// The child has no pins, whoever holds pins on the parent's pages; pages that
  /// are pinned stay the parent's, bytes and frames, and the child gets copies.
  /// Areas advised `dontFork` are left out, `wipeOnFork` ones are empty. The
  /// child's own pointers come from its `pointer(at:)`.
  ///
  /// - Throws: ENOMEM when frames, metadata or host mappings run out, with the
  ///   parent as before; ESRCH after `exit`.
  /// - Complexity: O(areas + pages present), host calls O(areas + runs).
  public func fork() throws(MemoryError) -> AddressSpace {
    let child = try AddressSpace(forkedFrom: self)
    do throws(MemoryError) {
      child.mm.lock()
      unsafe child.mm.state.pointee.isForked = true
      defer { child.mm.unlock() }
      try locked { parent throws(MemoryError) in try child.mm.copyFrom(parent) }
    } catch {
      child.exit()
      throw error
    }
    return child
  }
}

extension MM {
  /// Makes this empty address space a copy of `parent`. Both are locked. On
  /// error the copy is partial; the caller lets it exit.
  func copyFrom(_ parent: MM) throws(MemoryError) {
    try copyRegions(of: parent)
    unsafe cshims_mm_write_protect_advance(parent.hot)
    defer { unsafe cshims_mm_write_protect_advance(parent.hot) }
    var pages = 0
    var node = unsafe parent.state.pointee.areas.first
    while let current = unsafe node {
      let area = unsafe current.pointee.payload
      if !area.flags.contains(.dontFork) {
        let copy = unsafe try copyArea(area)
        // A shared mapping faults its pages in again from the cache; frames
        // without pages have none.
        if !area.flags.contains(.shared) || area.flags.contains(.pfnMap),
          !area.flags.contains(.wipeOnFork)
        {
          let result = unsafe copyEntries(area, of: parent, to: copy)
          pages += result.pages
          // What was write-protected so far must show in the parent's view,
          // also when the rest fails.
          parent.followTable(area.start, area.end)
          if let error = result.outcome.error(at: area.start) { throw error }
        }
      }
      unsafe node = parent.state.pointee.areas.next(after: current)
    }
    unsafe state.pointee.lockLimit = parent.state.pointee.lockLimit
    unsafe state.pointee.searchFrom = parent.state.pointee.searchFrom
    unsafe machine.header.emit(.fork, address: 0, pageCount: pages)
  }

  /// The same user addresses, elsewhere in the host's address space.
  private func copyRegions(of parent: MM) throws(MemoryError) {
    var node = unsafe parent.state.pointee.regions.first
    while let region = unsafe node {
      let payload = unsafe region.pointee.payload
      let (start, length) = unsafe (region.pointee.start, region.pointee.length)
      if payload.kind.rawValue < ViewRegion.Kind.gone.rawValue {
        if unsafe state.pointee.hasView {
          try addTwin(of: start, length: length)
        } else {
          // A child of fork(2) will show it where its parent does.
          try addRegion(user: start, host: start &+ payload.hostDelta, length: length)
        }
      }
      unsafe node = parent.state.pointee.regions.next(after: region)
    }
  }

  private func copyArea(_ area: Area) throws(MemoryError) -> UnsafeMutablePointer<Area> {
    guard var reserve = makeNodes(1), let node = unsafe reserve.take() else {
      throw MemoryError(.outOfMemory, .metadataExhausted, area.start)
    }
    var copy = area
    copy.secondBase = Area.noHome
    copy.flags.subtract(.lockFlags)
    // The child's view stands elsewhere; no memory of the program's goes with it.
    copy.flags.remove(.adopted)
    if let cache = cache(of: area) {
      cache.retain()
    } else {
      // Homes of its own, for the pages that it will not share.
      let count = Int((area.end - area.start) >> 12)
      let previous = unsafe state.pointee.areas.last(before: area.start)
      var preferred: UInt64? = nil
      if let previous = unsafe previous, unsafe previous.pointee.end == area.start {
        preferred = unsafe previous.pointee.payload.home(of: area.start)
      }
      copy.homeBase =
        machine.reserveSpan(
          count: count, preferred: preferred, page: area.start >> 12,
          forFolios: area.flags.folios != .base
        ).map { $0 &- area.start >> 12 } ?? Area.noHome
    }
    unsafe insertArea(copy, using: node)
    let error =
      unsafe machine.header.fails(at: .hostMapping)
      ? ErrorNumber.outOfMemory.rawValue : establish(copy.start, copy.end)
    guard error == 0 else { throw MemoryError.host(error) }
    return unsafe Self.area(of: node)
  }

  /// Copies the entries of a private area (copy_present_ptes).
  private func copyEntries(_ area: Area, of parent: MM, to copy: UnsafeMutablePointer<Area>)
    -> FaultResult
  {
    let mayBePinned = unsafe cshims_mm_flags(parent.hot) & CSHIMS_MM_HAS_PINNED != 0
    var pages = 0
    var address = area.start
    while address < area.end {
      let stop = Self.tableEnd(address, area.end)
      if let leaf = unsafe parent.leaf(at: address) {
        let outcome = unsafe copyLeaf(leaf, of: parent, at: address, parentHasPinned: mayBePinned)
        if outcome != .done { return FaultResult(outcome, pages) }
      }
      if let source = unsafe parent.entry(at: address) {
        let count = Int((stop - address) >> 12)
        var i = 0
        while i < count {
          let value = unsafe cshims_pte_load(source + i)
          guard value != 0 else {
            i += 1
            continue
          }
          let target = address + UInt64(i) << 12
          guard let entry = unsafe makeEntry(at: target) else {
            return FaultResult(.outOfMetadata, pages)
          }
          let run =
            value & CSHIMS_PTE_FOLIO == 0 ? 1 : parent.folioRun(at: target, limit: count - i)
          let result = unsafe copyRun(
            value, run, source + i, to: entry, at: target, copy, parentHasPinned: mayBePinned)
          pages += result.pages
          if result.outcome != .done { return FaultResult(result.outcome, pages) }
          i += run
        }
      } else if unsafe parent.leaf(at: address) != nil {
        pages += Int(CSHIMS_PTE_ENTRIES)
      }
      address = stop
    }
    return FaultResult(.done, pages)
  }

  /// Copies the entries of one page, or of a run of one folio's pages.
  private func copyRun(
    _ value: UInt64, _ count: Int, _ source: UnsafeMutablePointer<cshims_pte>,
    to entry: UnsafeMutablePointer<cshims_pte>, at address: UInt64,
    _ area: UnsafeMutablePointer<Area>,
    parentHasPinned: Bool
  ) -> FaultResult {
    if value & CSHIMS_PTE_SPECIAL != 0 {
      unsafe cshims_pte_store(entry, value)
      return FaultResult(.done, 1)
    }
    let page = machine.page(Self.frame(of: value))
    guard page.isAnonymous, staysWithParent(page, parentHasPinned) else {
      unsafe shareRun(value, count, source, to: entry)
      return FaultResult(.done, count)
    }
    // A pin anywhere in a folio: each page of it that is exclusive is copied.
    for i in 0..<count {
      let own = value + UInt64(i) << 12
      if machine.page(Self.frame(of: own)).isAnonymousExclusive {
        let outcome = unsafe copyAtOnce(own, to: entry + i, at: address + UInt64(i) << 12, area)
        if outcome != .done { return FaultResult(outcome, i) }
      } else {
        unsafe shareRun(own, 1, source + i, to: entry + i)
      }
    }
    return FaultResult(.done, count)
  }

  /// Shared from now on: neither side may store without a fault, and neither is
  /// the only one. Files are shared even when pinned (G-07). One count for the run.
  private func shareRun(
    _ value: UInt64, _ count: Int, _ source: UnsafeMutablePointer<cshims_pte>,
    to entry: UnsafeMutablePointer<cshims_pte>
  ) {
    let page = machine.page(Self.frame(of: value))
    unsafe _ = cshims_page_ref_fetch_add(page.folioHead.descriptor, UInt32(count))
    let protected = value & ~CSHIMS_PTE_WRITE
    for i in 0..<count {
      let step = UInt64(i) << 12
      unsafe _ = cshims_page_map_fetch_add(page.descriptor + i, 1)
      unsafe _ = cshims_page_clear_flags(page.descriptor + i, CSHIMS_PAGE_ANON_EXCLUSIVE)
      if protected != value { unsafe _ = cshims_pte_exchange(source + i, protected + step) }
      unsafe cshims_pte_store(entry + i, protected + step)
    }
  }

  /// Shares a leaf as a leaf (copy_huge_pmd). One that stays with the parent is
  /// split instead, so that its pages can be copied one by one.
  private func copyLeaf(
    _ source: UnsafeMutablePointer<cshims_pte>, of parent: MM, at address: UInt64,
    parentHasPinned: Bool
  ) -> FaultOutcome {
    let value = unsafe cshims_pte_load(source)
    let head = machine.page(Self.frame(of: value))
    if head.isAnonymousExclusive, staysWithParent(head, parentHasPinned) {
      parent.splitLeaf(at: address)
      return .done
    }
    guard let middle = unsafe makeMiddle(at: address) else { return .outOfMetadata }
    unsafe _ = cshims_page_ref_fetch_add(head.descriptor, 1)
    unsafe _ = cshims_page_clear_flags(head.descriptor, CSHIMS_PAGE_ANON_EXCLUSIVE)
    let protected = value & ~CSHIMS_PTE_WRITE
    if protected != value { unsafe _ = cshims_pte_exchange(source, protected) }
    unsafe installLeaf(middle, protected)
    return .done
  }

  /// Are a folio's exclusive pages left to the parent, so that the child needs
  /// copies?
  private func staysWithParent(_ page: Page, _ parentHasPinned: Bool) -> Bool {
    let policy = machine.policy
    if policy.contains(.shareAtFork) { return false }
    if parentHasPinned, page.mayBePinned { return true }
    return policy.contains(.copyReferencedAtFork) && page.referenceCount > page.folioMapCount
  }

  /// The child's own copy of a page that a device may be using; the parent's
  /// entry and page stay exactly as they are.
  private func copyAtOnce(
    _ value: UInt64, to entry: UnsafeMutablePointer<cshims_pte>, at address: UInt64,
    _ area: UnsafeMutablePointer<Area>
  ) -> FaultOutcome {
    guard let (frame, _) = unsafe allocatePrivate(at: address, 1, in: area) else {
      return .outOfMemory
    }
    let page = machine.page(frame)
    guard machine.zero(frame: frame, count: 1) == 0 else {
      page.releaseUnnoted(.reference)
      return .hostRefused
    }
    unsafe cshims_copy(
      machine.address(ofFrame: frame), machine.address(ofFrame: Self.frame(of: value)), 4096)
    unsafe _ = cshims_page_map_fetch_add(page.descriptor, 1)
    // The same protection state as the source: present, or under PROT_NONE. The
    // copy is a single page.
    let state =
      value & ~(CSHIMS_PTE_FRAME_MASK | CSHIMS_PTE_WRITE | CSHIMS_PTE_FOLIO) | CSHIMS_PTE_DIRTY
    let writable = unsafe area.pointee.flags.contains(.write) && value & CSHIMS_PTE_PRESENT != 0
    unsafe cshims_pte_store(
      entry, state | frame << 12 | (writable ? CSHIMS_PTE_WRITE : 0))
    return .done
  }
}
