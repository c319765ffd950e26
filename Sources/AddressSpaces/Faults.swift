//===----------------------------------------------------------------------===//
// Faults: what happens when an address is touched that the page table cannot
// serve (the kernel's mm/memory.c). One handler for all comers: native loads
// and stores through the trap, GUP's slow path, explicit copies, populate.
//
// Absent pages are brought in by runs: one allocator call and one host call for
// as many consecutive pages as their homes allow. All under the mmap lock.
//===----------------------------------------------------------------------===//

internal import CShims
internal import Events
internal import PageFrames

/// What is wanted of a page.
public enum FaultAccess: Sendable, Hashable {
  case read
  case write
  /// A page that this address space alone may change, without writing to it
  /// now (FAULT_FLAG_UNSHARE, for read-only pins).
  case unshare
}

public enum FaultOutcome: Sendable, Hashable {
  case done
  /// The area does not allow it.
  case forbidden
  /// No frame is free.
  case outOfMemory
  /// No memory for page tables or index nodes.
  case outOfMetadata
  /// The host has no memory behind the frame.
  case hostRefused
  /// The page cannot be brought in.
  case busError
}

public struct FaultResult: Sendable, Hashable {
  public let outcome: FaultOutcome
  /// Pages that were made right before the outcome.
  public let pages: Int

  init(_ outcome: FaultOutcome, _ pages: Int) {
    self.outcome = outcome
    self.pages = pages
  }
}

extension MM {
  /// Makes up to `pages` pages from `address` serve `access`; the caller has
  /// checked that the area allows it (or forces it). Under the mmap lock.
  ///
  /// A write into an area without WRITE (FOLL_FORCE) gets a page of its own
  /// whose entry stays read-only.
  /// - Complexity: O(pages), with host calls O(runs of consecutive homes).
  public func handleFault(
    at address: UInt64, pages: Int, in area: UnsafeMutablePointer<Area>, access: FaultAccess
  ) -> FaultResult {
    let end = address + UInt64(pages) << 12
    var cursor = address
    var outcome = FaultOutcome.done
    while cursor < end, outcome == .done {
      // A page that serves the access already is no fault.
      if case let value = value(at: cursor), Self.serves(value, access) {
        if access == .write, awaitsStore(value) { noteStore(cursor) }
        cursor += 4096
        continue
      }
      let result = unsafe faultStep(cursor, end, area, access)
      outcome = result.outcome
      if result.pages > 0 { announceFault(cursor, result.pages) }
      cursor += UInt64(result.pages) << 12
    }
    // Without a trap nothing will show the pages later.
    if unsafe state.pointee.tier == .none, cursor > address, reveal(address, cursor) != 0 {
      return FaultResult(.hostRefused, 0)
    }
    return FaultResult(outcome, Int((cursor - address) >> 12))
  }

  /// Does an entry serve an access as it is?
  static func serves(_ value: UInt64, _ access: FaultAccess) -> Bool {
    value & CSHIMS_PTE_PRESENT != 0 && (access == .read || value & CSHIMS_PTE_WRITE != 0)
  }

  private func announceFault(_ address: UInt64, _ pages: Int) {
    machine.count(CSHIMS_FAULTS, pages)
    guard unsafe cshims_instrumented(machine.header) else { return }
    let frame = Self.frame(of: value(at: address))
    unsafe machine.header.emit(.fault, address: address, frame: frame, pageCount: pages)
  }

  /// One page that is there, or one run of pages that are not.
  private func faultStep(
    _ address: UInt64, _ end: UInt64, _ area: UnsafeMutablePointer<Area>, _ access: FaultAccess
  ) -> FaultResult {
    if unsafe machine.header.fails(at: .fault) { return FaultResult(.busError, 0) }
    if let leaf = unsafe leaf(at: address) {
      if let result = unsafe faultLeaf(address, end, leaf, area, access) { return result }
    }
    guard let entry = unsafe makeEntry(at: address) else { return FaultResult(.outOfMetadata, 0) }
    let value = unsafe cshims_pte_load(entry)
    if access == .write, value == 0 || Self.isZeroPage(value),
      let result = unsafe faultFolio(address, end, area)
    {
      return result
    }
    if value == 0 {
      var count = 1
      // With failure points armed every page is a passage of its own.
      let stop = unsafe Self.singlePagesEnd(address, end, area.pointee, access)
      let limit =
        unsafe cshims_any_failure_point_armed(machine.header) ? 1 : Int((stop - address) >> 12)
      while count < limit, unsafe cshims_pte_load(entry + count) == 0 { count += 1 }
      if unsafe area.pointee.flags.contains(.pfnMap) { return FaultResult(.busError, 0) }
      if let cache = unsafe cache(of: area.pointee) {
        return unsafe faultCached(address, count, entry, area, cache, access)
      }
      return unsafe access == .write
        ? faultAnonymous(address, count, entry, area, access) : faultZero(count, entry, area)
    }
    // Present but out of reach is right in an area without any permission.
    guard unsafe value & CSHIMS_PTE_PRESENT != 0 || area.pointee.flags.access.isEmpty else {
      return FaultResult(.forbidden, 0)
    }
    if access == .read { return FaultResult(.done, 1) }
    if Self.isZeroPage(value), unsafe area.pointee.cache == 0 {
      return unsafe replaceZeroes(address, end, entry, area, access)
    }
    return unsafe faultReadOnly(address, entry, value, area, access)
  }

  /// Read fault on untouched private memory: the zero page, no count on it.
  private func faultZero(
    _ count: Int, _ entry: UnsafeMutablePointer<cshims_pte>, _ area: UnsafeMutablePointer<Area>
  ) -> FaultResult {
    let value = unsafe Self.entryValue(
      frame: machine.header.pointee.zero_frame, writable: false, dirty: false, special: true,
      accessible: !area.pointee.flags.access.isEmpty)
    for i in 0..<count { unsafe cshims_pte_store(entry + i, value) }
    return FaultResult(.done, count)
  }

  /// Is it the entry of an address that nothing was stored at yet?
  static func isZeroPage(_ value: UInt64) -> Bool {
    value & CSHIMS_PTE_SPECIAL != 0 && frame(of: value) == 0
  }

  /// Write or unshare fault on a run of zero pages (D.3 row 4): pages of one's
  /// own, shown with one change of the view.
  private func replaceZeroes(
    _ address: UInt64, _ end: UInt64, _ entry: UnsafeMutablePointer<cshims_pte>,
    _ area: UnsafeMutablePointer<Area>, _ access: FaultAccess
  ) -> FaultResult {
    let limit =
      unsafe cshims_any_failure_point_armed(machine.header)
      ? 1 : Int((Self.tableEnd(address, end) - address) >> 12)
    var count = 1
    while count < limit, Self.isZeroPage(unsafe cshims_pte_load(entry + count)) { count += 1 }
    let result = unsafe faultAnonymous(address, count, entry, area, access)
    if result.pages > 0 {
      followTable(address, address + UInt64(result.pages) << 12)
      unsafe machine.header.emit(
        .copy, address: address, frame: Self.frame(of: cshims_pte_load(entry)),
        pageCount: result.pages)
    }
    return result
  }

  /// Write fault on untouched private memory: fresh exclusive pages.
  private func faultAnonymous(
    _ address: UInt64, _ count: Int, _ entry: UnsafeMutablePointer<cshims_pte>,
    _ area: UnsafeMutablePointer<Area>, _ access: FaultAccess
  ) -> FaultResult {
    let writable = unsafe access == .write && area.pointee.flags.contains(.write)
    let accessible = unsafe !area.pointee.flags.access.isEmpty
    var done = 0
    while done < count {
      let target = address + UInt64(done) << 12
      guard let (frame, got) = unsafe allocatePrivate(at: target, count - done, in: area) else {
        return FaultResult(.outOfMemory, done)
      }
      if machine.zero(frame: frame, count: got) != 0 {
        for i in 0..<got { machine.page(frame + UInt64(i)).releaseUnnoted(.reference) }
        return FaultResult(.hostRefused, done)
      }
      for i in 0..<got {
        let page = machine.page(frame + UInt64(i))
        unsafe _ = cshims_page_map_fetch_add(page.descriptor, 1)
        unsafe cshims_pte_store(
          entry + done + i,
          Self.entryValue(
            frame: frame + UInt64(i), writable: writable, dirty: access == .write,
            accessible: accessible))
      }
      done += got
    }
    return FaultResult(.done, done)
  }

  /// The page cache behind an area, if it has one.
  func cache(of area: Area) -> PageCacheHandle? { PageCacheHandle(area.cache, machine) }

  /// Fault on an absent page of a mapping with a page cache: show the cache's
  /// page, or, for a store into a private mapping, a copy of it.
  private func faultCached(
    _ address: UInt64, _ count: Int, _ entry: UnsafeMutablePointer<cshims_pte>,
    _ area: UnsafeMutablePointer<Area>, _ cache: PageCacheHandle, _ access: FaultAccess
  ) -> FaultResult {
    let flags = unsafe area.pointee.flags
    let write = access == .write
    let copies = write && !flags.contains(.shared)
    // A copy is made page by page; everything else comes by runs.
    let wanted = copies ? 1 : count
    let index = unsafe area.pointee.cacheIndex(of: address)
    cache.lock()
    let result = cache.bringIn(index, wanted)
    // A page whose file tracks dirtying becomes writable by a write fault only.
    let writable =
      flags.contains(.shared) && flags.contains(.write)
      && (write || !flags.contains(.dirtyTracking))
    for i in 0..<result.pages {
      guard let page = unsafe cache.state.pointee.pages.load(index + UInt64(i)).page else { break }
      unsafe _ = cshims_page_ref_fetch_add(page.descriptor, 1)
      unsafe _ = cshims_page_map_fetch_add(page.descriptor, 1)
      if write && !copies { page.markDirty() }
      unsafe cshims_pte_store(
        entry + i,
        Self.entryValue(
          frame: page.frameNumber.rawValue, writable: writable, dirty: write && !copies,
          accessible: !flags.access.isEmpty)
          | (flags.contains(.secret) ? CSHIMS_PTE_FOLIO : 0))
    }
    cache.unlock()
    guard copies, result.pages == 1 else { return result }
    return unsafe copyPage(
      address, entry, cshims_pte_load(entry), area, writable: flags.contains(.write), dirty: true)
  }

  /// Write or unshare fault on a present read-only entry (do_wp_page, D.3).
  private func faultReadOnly(
    _ address: UInt64, _ entry: UnsafeMutablePointer<cshims_pte>, _ value: UInt64,
    _ area: UnsafeMutablePointer<Area>, _ access: FaultAccess
  ) -> FaultResult {
    let write = access == .write
    let writable = unsafe write && area.pointee.flags.contains(.write)
    if unsafe area.pointee.flags.contains(.shared) {
      // Nothing to copy; unsharing a shared mapping is a read fault.
      if writable {
        // A frame without a page has nothing to note it in.
        if value & CSHIMS_PTE_SPECIAL == 0 { machine.page(Self.frame(of: value)).markDirty() }
        unsafe cshims_pte_store(entry, value | CSHIMS_PTE_WRITE | CSHIMS_PTE_DIRTY)
        followTable(address, address + 4096)
      }
      return FaultResult(.done, 1)
    }
    let page = machine.page(Self.frame(of: value))
    if value & CSHIMS_PTE_SPECIAL == 0, page.isAnonymous {
      // Row 1: ours alone. Row 2: only our mapping holds it, so it becomes so.
      let exclusive = page.isAnonymousExclusive
      if exclusive || isOnlyHeldHere(page, at: address) {
        if !exclusive {
          unsafe _ = cshims_page_set_flags(page.descriptor, CSHIMS_PAGE_ANON_EXCLUSIVE)
        }
        if write {
          let bits = (writable ? CSHIMS_PTE_WRITE : 0) | CSHIMS_PTE_DIRTY
          unsafe cshims_pte_store(entry, value | bits)
          followTable(address, address + 4096)
        }
        return FaultResult(.done, 1)
      }
    }
    return unsafe copyPage(address, entry, value, area, writable: writable, dirty: write)
  }

  /// Row 2's question, of a single page or a leaf's head. Never by map count: any
  /// GET, PIN or pipe keeps the old bytes (G-03). The policy that counts mappings
  /// is there to show why. Behind small entries a large folio has many references
  /// by right, and row 3 decides.
  func isOnlyHeldHere(_ page: Page, at address: UInt64) -> Bool {
    let policy = machine.policy
    if policy.contains(.reuseByMappingCount) { return page.mapCount == 1 }
    if page.folioOrder > 0, unsafe leaf(at: address) == nil {
      return policy.contains(.reuseLargeFolios) && areAllReferencesHere(page, at: address)
    }
    return unsafe cshims_page_ref_load(page.descriptor) == 1
  }

  /// Row 4: a page of one's own with the same bytes; the old one loses this
  /// mapping.
  private func copyPage(
    _ address: UInt64, _ entry: UnsafeMutablePointer<cshims_pte>, _ value: UInt64,
    _ area: UnsafeMutablePointer<Area>, writable: Bool, dirty: Bool
  ) -> FaultResult {
    let special = value & CSHIMS_PTE_SPECIAL != 0
    guard let (frame, _) = unsafe allocatePrivate(at: address, 1, in: area) else {
      return FaultResult(.outOfMemory, 0)
    }
    let page = machine.page(frame)
    if machine.zero(frame: frame, count: 1) != 0 {
      page.releaseUnnoted(.reference)
      return FaultResult(.hostRefused, 0)
    }
    let old = machine.page(Self.frame(of: value))
    if !special {
      unsafe cshims_copy(
        machine.address(ofFrame: frame), machine.address(ofFrame: Self.frame(of: value)), 4096)
    }
    unsafe _ = cshims_page_map_fetch_add(page.descriptor, 1)
    // Of a large folio one page is copied: the folio loses this mapping only.
    unsafe _ = cshims_pte_exchange(
      entry,
      Self.entryValue(
        frame: frame, writable: writable, dirty: dirty,
        accessible: !area.pointee.flags.access.isEmpty))
    followTable(address, address + 4096)
    if !special {
      unsafe _ = cshims_page_map_fetch_sub(old.descriptor, 1)
      old.releaseUnnoted(.reference)
    }
    unsafe machine.header.emit(.copy, address: address, frame: frame)
    return FaultResult(.done, 1)
  }
}
