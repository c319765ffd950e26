//===----------------------------------------------------------------------===//
// Migrate: giving a page another frame, or taking it away, while the program
// runs (the kernel's migrate_pages and shrink_folio_list; design decision 12).
//
//   hide      every entry that shows the page becomes not present and leaves the
//             host's view: a store that comes now waits in the trap for the mmap
//             lock, so there is none in flight
//   barrier   the exchange of the entry is sequentially consistent: a lock-free
//             walk whose count is not seen below sees the entry changed and
//             undoes it (rule G3)
//   refuse    unless the count is exactly the mappings', and the cache's one: a
//             pin or a reference keeps the page where it is (rule G6)
//   copy      to the new frame, through the window
//   install   the cache's index, then the entries, as they were but for the frame
//   let go    of the old frame's counts, then of the locks: who waits in the trap
//             finds the new page, which is shown when it is touched
//
// A device that holds no count must not use a page: of page-cache pages that
// includes an XARRAY extraction, which takes none.
//
// Locks: all mmap locks of the address spaces that show the page, the list lock,
// and the cache's lock if it is a cache's. Nothing is allocated but the frame.
// Without a trap (tier `none`) a thread that touches the page meanwhile gets
// SIGSEGV, as everywhere in that tier.
//===----------------------------------------------------------------------===//

internal import CShims
internal import Events
internal import PageFrames

/// Where a page is to go.
public enum MigrationGoal: Sendable, Hashable {
  /// Any other frame, which need not stay movable: what a LONGTERM pin wants.
  case unmovable
  /// Any other frame of the same kind.
  case elsewhere
  /// The area's home for it.
  case home
  /// Away: its bytes can be had again, or nobody needs them.
  case nowhere
}

/// What became of a page that was to go.
public enum MigrationOutcome: Sendable, Hashable, CaseIterable {
  case moved
  /// There is no page, or it is at the goal already.
  case nothingToDo
  /// Somebody holds a pin, or may (rule G6).
  case pinned
  /// Somebody holds a reference.
  case referenced
  /// Its bytes would be lost.
  case dirty
  /// Not all entries that show it were found, or somebody works on them.
  case unreachable
  /// Pages of this kind stay where they are.
  case unmovable
  /// There is no frame for it.
  case noFrame
}

extension MM {
  /// Moves the page at `address`, if there is one. Under the mmap lock.
  ///
  /// - Complexity: O(entries that show it), of a page shown more than once also
  ///   O(address spaces); two host calls an entry.
  public func migrate(at address: UInt64, to goal: MigrationGoal) -> MigrationOutcome {
    machine.withAddressSpaces { migrateListed(address & ~0xfff, to: goal) }
  }

  /// The same under the list lock.
  func migrateListed(_ address: UInt64, to goal: MigrationGoal) -> MigrationOutcome {
    if unsafe leaf(at: address) != nil { return .unmovable }
    guard let entry = unsafe entry(at: address), let area = unsafe area(containing: address)
    else { return .nothingToDo }
    let value = unsafe cshims_pte_load(entry)
    guard Self.holdsPage(value), value & CSHIMS_PTE_SPECIAL == 0 else { return .nothingToDo }
    let page = machine.page(Self.frame(of: value))
    let stays = CSHIMS_PAGE_SECRET | CSHIMS_PAGE_POISONED | CSHIMS_PAGE_P2PDMA
    if page.folioOrder > 0 || page.flags & stays != 0 { return .unmovable }
    // What the program has for malloc must never be out of reach under a lock.
    if unsafe area.pointee.flags.contains(.adopted) { return .unmovable }
    if goal == .unmovable, page.flags & CSHIMS_PAGE_MOVABLE == 0 { return .nothingToDo }
    // A private page of a file's area is a copy: the cache has no part in it.
    let cache = unsafe page.isAnonymous ? nil : cache(of: area.pointee)
    if cache == nil, !page.isAnonymous { return .unmovable }
    let index = unsafe area.pointee.cacheIndex(of: address)
    cache?.lock()
    defer { cache?.unlock() }
    if let refusal = refusal(of: page, cache) { return refusal }
    if goal == .nowhere, let loss = loss(of: page, value, cache) { return loss }
    guard let shown = mappings(of: page, at: address, cache: cache, index: index) else {
      return .unreachable
    }
    defer { shown.unlock() }
    for i in 0..<shown.count where shown[i].mm.isAdopted(shown[i].address) { return .unmovable }
    var target: Page?
    if goal != .nowhere {
      target = unsafe takeTarget(goal, home: area.pointee.home(of: address))
      if target == nil { return .noFrame }
    }
    return carry(page, to: target, shown, cache, index, keepsMovable: goal != .unmovable)
  }

  /// Is it held by more than its mappings and its cache?
  private func refusal(of page: Page, _ cache: PageCacheHandle?) -> MigrationOutcome? {
    if page.mayBePinned { return .pinned }
    return page.referenceCount == page.mapCount + (cache == nil ? 0 : 1) ? nil : .referenced
  }

  /// Would bytes be lost if it went away? Private bytes go only where MADV_FREE
  /// gave them up and nothing was stored since; a file's where they are clean.
  private func loss(of page: Page, _ value: UInt64, _ cache: PageCacheHandle?)
    -> MigrationOutcome?
  {
    if let cache {
      if !cache.isFile { return .unmovable }
    } else if page.flags & CSHIMS_PAGE_LAZY_FREE == 0 || page.mapCount > 1 {
      return .unmovable
    }
    return page.isDirty || value & CSHIMS_PTE_DIRTY != 0 ? .dirty : nil
  }

  /// A frame for the copy, held once, its host memory there.
  private func takeTarget(_ goal: MigrationGoal, home: UInt64?) -> Page? {
    var frame: UInt64?
    if goal == .home {
      if let home, machine.allocateRun(at: home, count: 1, flags: 0) == 1 { frame = home }
    } else {
      frame = machine.allocateNear(nil, 1, flags: 0)?.0
    }
    guard let frame else { return nil }
    let page = machine.page(frame)
    if machine.zero(frame: frame, count: 1) == 0 { return page }
    page.releaseUnnoted(.reference)
    return nil
  }

  /// Carries the page over, or away where there is no target.
  private func carry(
    _ page: Page, to target: Page?, _ found: PageMappings, _ cache: PageCacheHandle?,
    _ index: UInt64, keepsMovable: Bool
  ) -> MigrationOutcome {
    var shown = found
    hide(&shown)
    var outcome = refusal(of: page, cache) ?? .moved
    if outcome == .moved, target == nil {
      // Entries are still now; all of them must be clean.
      for i in 0..<shown.count where outcome == .moved {
        outcome = loss(of: page, shown[i].value, cache) ?? .moved
      }
    }
    if outcome == .moved, let cache {
      let pages = unsafe cache.state.pointee.pages
      if let target {
        if (try? pages.store(index, .page(target))) == nil { outcome = .noFrame }
      } else {
        pages.erase(index)
      }
    }
    guard outcome == .moved else {
      show(shown, page)
      target?.releaseUnnoted(.reference)
      return outcome
    }
    let count = shown.count + (cache == nil ? 0 : 1)
    if let target {
      copy(page, to: target, shown.count, count, keepsMovable: keepsMovable)
      show(shown, target)
      unsafe machine.header.emit(
        .migrate, address: shown.count > 0 ? shown[0].address : 0,
        frame: target.frameNumber.rawValue)
    } else {
      for i in 0..<shown.count { unsafe cshims_pte_store(shown[i].entry, 0) }
      unsafe machine.header.emit(
        .reclaim, address: shown.count > 0 ? shown[0].address : 0,
        frame: page.frameNumber.rawValue)
    }
    unsafe _ = cshims_page_map_fetch_sub(page.descriptor, UInt32(shown.count))
    page.releaseUnnoted(.reference, count: count)
    return .moved
  }

  /// Makes every entry not present, in table and view, and notes what it held.
  private func hide(_ shown: inout PageMappings) {
    for i in 0..<shown.count {
      let it = shown[i]
      let value = unsafe cshims_pte_exchange(
        it.entry, it.value & ~CSHIMS_PTE_PRESENT | CSHIMS_PTE_PROTNONE)
      shown.setValue(value, of: i)
      it.mm.followTable(it.address, it.address + 4096)
    }
  }

  /// Makes the entries what they were, showing `page`.
  private func show(_ shown: PageMappings, _ page: Page) {
    for i in 0..<shown.count {
      let it = shown[i]
      let value = it.value & ~CSHIMS_PTE_FRAME_MASK | page.frameNumber.rawValue << 12
      unsafe cshims_pte_store(it.entry, value)
      if unsafe it.mm.state.pointee.tier == .none {
        _ = it.mm.reveal(it.address, it.address + 4096)
      }
    }
  }

  private func copy(
    _ page: Page, to target: Page, _ mappings: Int, _ count: Int, keepsMovable: Bool
  ) {
    unsafe cshims_copy(
      machine.address(ofFrame: target.frameNumber.rawValue),
      machine.address(ofFrame: page.frameNumber.rawValue), 4096)
    var flags =
      CSHIMS_PAGE_ANON | CSHIMS_PAGE_ANON_EXCLUSIVE | CSHIMS_PAGE_DIRTY | CSHIMS_PAGE_REFERENCED
      | CSHIMS_PAGE_CACHE | CSHIMS_PAGE_WRITEBACK | CSHIMS_PAGE_LAZY_FREE
    if keepsMovable { flags |= CSHIMS_PAGE_MOVABLE }
    unsafe _ = cshims_page_set_flags(target.descriptor, page.flags & flags)
    unsafe _ = cshims_page_map_fetch_add(target.descriptor, UInt32(mappings))
    // It comes with one.
    unsafe _ = cshims_page_ref_fetch_add(target.descriptor, UInt32(count - 1))
  }
}
