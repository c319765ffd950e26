//===----------------------------------------------------------------------===//
// Migrate: giving a folio, mostly a single page, other frames, or taking it away,
// while the program runs (the kernel's migrate_pages and shrink_folio_list;
// design decision 12). A large folio moves whole or not at all: all its pages, by
// all that shows them, leaves and small entries, parts of it anywhere.
//
//   hide      every entry that shows it becomes not present and leaves the host's
//             view: a store that comes now waits in the trap for the mmap lock,
//             so there is none in flight
//   barrier   the exchange of the entry is sequentially consistent: a lock-free
//             walk whose count is not seen below sees the entry changed and
//             undoes it (rule G3)
//   refuse    unless the count is exactly the mappings', and the cache's one: a
//             pin or a reference keeps it where it is (rule G6). Then the count is
//             the free sentinel, in one step: who finds the page in its cache's
//             index from here on gets no count on it
//   copy      to the new frames, through the window, with each page's exclusive bit
//   install   the cache's index, then the entries, as they were but for the frame
//   let go    of the old folio's counts, then of the locks: who waits in the trap
//             finds the new one, which is shown when it is touched
//
// Where no block of frames is free for a large folio, it is made single pages in
// place (SplitFolio.swift), and the one that was asked for moves.
//
// A device that holds no count must not use a page: of page-cache pages that
// includes an XARRAY extraction, which takes none.
//
// Locks: all mmap locks of the address spaces that show it, the list lock, and the
// cache's lock if it is a cache's. Nothing is allocated but the frames.
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
  /// Moves the folio of the page at `address`, if there is one. Under the mmap lock.
  ///
  /// A large folio moves whole. Where no block of frames is free for it, it is
  /// split, and the page at `address` alone moves.
  ///
  /// - Complexity: O(entries that show it), of a folio shown more than once also
  ///   O(address spaces); two host calls a run of entries.
  public func migrate(at address: UInt64, to goal: MigrationGoal) -> MigrationOutcome {
    machine.withAddressSpaces { migrateListed(address & ~0xfff, to: goal) }
  }

  /// The same under the list lock.
  func migrateListed(_ address: UInt64, to goal: MigrationGoal) -> MigrationOutcome {
    if let outcome = migrateWhole(address, to: goal) { return outcome }
    return migrateWhole(address, to: goal) ?? .noFrame
  }

  /// The same; nil when the folio had to be split.
  private func migrateWhole(_ address: UInt64, to goal: MigrationGoal) -> MigrationOutcome? {
    let value = value(at: address)
    guard Self.holdsPage(value), value & CSHIMS_PTE_SPECIAL == 0,
      let area = unsafe area(containing: address)
    else { return .nothingToDo }
    let page = machine.page(Self.frame(of: value))
    let head = page.folioHead
    // What the program has for malloc must never be out of reach under a lock.
    if unsafe stays(head) || area.pointee.flags.contains(.adopted) { return .unmovable }
    if goal == .unmovable, head.flags & CSHIMS_PAGE_MOVABLE == 0 { return .nothingToDo }
    // A private page of a file's area is a copy: the cache has no part in it.
    let cache = unsafe head.isAnonymous ? nil : cache(of: area.pointee)
    if cache == nil, !head.isAnonymous { return .unmovable }
    let index = unsafe area.pointee.cacheIndex(of: address)
    cache?.lock()
    defer { cache?.unlock() }
    let references = head.folioMapCount + (cache == nil ? 0 : 1)
    if let refusal = refusal(of: head, besides: references) { return refusal }
    if goal == .nowhere, let loss = loss(of: head, value, cache) { return loss }
    guard let shown = FolioMappings(self, page, at: address, cache: cache, index: index) else {
      return .unreachable
    }
    defer { shown.unlock() }
    var isAdopted = false
    shown.forEachRun { isAdopted = isAdopted || $0.mm.meetsAdopted($0.address, $0.end) }
    if isAdopted { return .unmovable }
    if goal == .home, shown.isAtHome { return .nothingToDo }
    var target: Page?
    if goal != .nowhere {
      let first = address &- (page.frame - head.frame) << 12
      target = unsafe takeTarget(head.folioOrder, goal, home: area.pointee.home(of: first))
      if target == nil {
        guard head.folioOrder > 0, goal != .home, machine.freeFrameCount > 0 else {
          return .noFrame
        }
        return shown.split() ? nil : refusal(of: head, besides: references) ?? .referenced
      }
    }
    return carry(shown, to: target, keepsMovable: goal != .unmovable)
  }

  /// Must a folio keep its frames, whatever is asked?
  private func stays(_ head: Page) -> Bool {
    let kinds = CSHIMS_PAGE_SECRET | CSHIMS_PAGE_POISONED | CSHIMS_PAGE_P2PDMA
    for i in 0..<(1 << head.folioOrder)
    where unsafe cshims_page_flags(head.descriptor + i) & kinds != 0 { return true }
    return false
  }

  /// Is it held by more than the references of its mappings and its cache?
  private func refusal(of head: Page, besides references: Int) -> MigrationOutcome? {
    if head.mayBePinned { return .pinned }
    return head.referenceCount == references ? nil : .referenced
  }

  /// Would bytes be lost if it went away? Private bytes go only where MADV_FREE
  /// gave them up and nothing was stored since; a file's where they are clean.
  /// `value` is one of its entries.
  private func loss(
    of head: Page, _ value: UInt64, _ cache: PageCacheHandle?
  ) -> MigrationOutcome? {
    if let cache {
      if !cache.isFile { return .unmovable }
    } else if head.flags & CSHIMS_PAGE_LAZY_FREE == 0 || isShownTwice(head) {
      return .unmovable
    }
    return head.isDirty || value & CSHIMS_PTE_DIRTY != 0 ? .dirty : nil
  }

  /// Do several entries show one of the folio's pages? Then others may need them.
  func isShownTwice(_ head: Page) -> Bool {
    let size = 1 << head.folioOrder
    let leaves = size > 1 ? unsafe cshims_page_leaf_load(head.descriptor) : 0
    for i in 0..<size where unsafe cshims_page_map_load(head.descriptor + i) + leaves > 1 {
      return true
    }
    return false
  }

  /// Frames for the copy, held once, their host memory there.
  private func takeTarget(_ order: Int, _ goal: MigrationGoal, home: UInt64?) -> Page? {
    let goesHome = goal == .home
    guard
      let frame = machine.allocateFolio(
        near: goesHome ? home : nil, order: order, flags: 0, onlyThere: goesHome)
    else { return nil }
    let page = machine.page(frame)
    if machine.zero(frame: frame, count: 1 << order) == 0 { return page }
    page.releaseUnnoted(.reference)
    return nil
  }

  /// Carries the folio over, or away where there is no target.
  private func carry(
    _ shown: FolioMappings, to target: Page?, keepsMovable: Bool
  ) -> MigrationOutcome {
    let (head, cache) = (shown.head, shown.cache)
    shown.hide()
    let isFrozen = !head.mayBePinned && shown.freeze()
    var outcome: MigrationOutcome =
      isFrozen ? .moved : refusal(of: head, besides: shown.references) ?? .referenced
    if outcome == .moved, target == nil {
      // Entries are still now; all of them must be clean.
      shown.forEachRun { run in
        for i in 0..<run.count where outcome == .moved {
          outcome = unsafe loss(of: head, cshims_pte_load(run.entries + i), cache) ?? .moved
        }
      }
    }
    if outcome == .moved, let target { copy(shown, to: target, keepsMovable: keepsMovable) }
    if outcome == .moved, let cache {
      let pages = unsafe cache.state.pointee.pages
      if let target {
        if (try? pages.store(shown.index, .page(target))) == nil { outcome = .noFrame }
      } else {
        pages.erase(shown.index)
      }
    }
    if isFrozen { shown.thaw() }
    guard outcome == .moved else {
      shown.show(head)
      target?.releaseUnnoted(.reference)
      return outcome
    }
    if let target {
      moveCounts(of: shown, to: target)
      shown.show(target)
      unsafe machine.header.emit(
        .migrate, address: shown.address, frame: target.frame, pageCount: shown.pageCount)
    } else {
      shown.clear()
      unsafe machine.header.emit(
        .reclaim, address: shown.address, frame: head.frame, pageCount: shown.pageCount)
    }
    head.releaseUnnoted(.reference, count: shown.references)
    return .moved
  }

  /// The bytes, and what is known of each page.
  private func copy(_ shown: FolioMappings, to target: Page, keepsMovable: Bool) {
    let (old, new) = unsafe (shown.head.descriptor, target.descriptor)
    unsafe cshims_copy(
      machine.address(ofFrame: target.frame), machine.address(ofFrame: shown.head.frame),
      UInt64(shown.pageCount) << 12)
    var flags =
      CSHIMS_PAGE_ANON | CSHIMS_PAGE_ANON_EXCLUSIVE | CSHIMS_PAGE_DIRTY | CSHIMS_PAGE_REFERENCED
      | CSHIMS_PAGE_CACHE | CSHIMS_PAGE_WRITEBACK | CSHIMS_PAGE_LAZY_FREE
    if keepsMovable { flags |= CSHIMS_PAGE_MOVABLE }
    for i in 0..<shown.pageCount {
      unsafe _ = cshims_page_set_flags(new + i, cshims_page_flags(old + i) & flags)
    }
  }

  /// The counts of the mappings, which leave the old folio with nothing but their
  /// references.
  private func moveCounts(of shown: FolioMappings, to target: Page) {
    let (old, new) = unsafe (shown.head.descriptor, target.descriptor)
    for i in 0..<shown.pageCount {
      let maps = unsafe cshims_page_map_load(old + i)
      if maps == 0 { continue }
      unsafe _ = cshims_page_map_fetch_add(new + i, maps)
      unsafe _ = cshims_page_map_fetch_sub(old + i, maps)
    }
    if shown.pageCount > 1, case let leaves = unsafe cshims_page_leaf_load(old), leaves > 0 {
      unsafe _ = cshims_page_leaf_fetch_add(new, leaves)
      unsafe _ = cshims_page_leaf_fetch_sub(old, leaves)
    }
    // It comes with one.
    unsafe _ = cshims_page_ref_fetch_add(new, UInt32(shown.references - 1))
  }
}

extension FolioMappings {
  /// Makes the count, if it is what mappings and cache account for, the free
  /// sentinel: every grab fails until `thaw`. False when anybody else holds it.
  func freeze() -> Bool {
    unsafe cshims_page_ref_exchange(head.descriptor, UInt32(references), CSHIMS_REF_FREE)
  }

  /// Gives the count back, whatever late grabs add to it.
  func thaw() {
    unsafe _ = cshims_page_ref_fetch_add(head.descriptor, UInt32(references) &- CSHIMS_REF_FREE)
  }

  /// Makes every entry not present, in table and view. What it held stays in it.
  func hide() {
    forEachRun { run in
      for i in 0..<run.count {
        let value = unsafe cshims_pte_load(run.entries + i)
        // Out of everybody's reach already in an area without permissions.
        guard value & CSHIMS_PTE_PRESENT != 0 else { continue }
        let hidden = value & ~CSHIMS_PTE_PRESENT | CSHIMS_PTE_PROTNONE | CSHIMS_PTE_MOVING
        unsafe _ = cshims_pte_exchange(run.entries + i, hidden)
      }
      run.mm.followTable(run.address, run.end)
    }
  }

  /// Does the folio stand at home in one of the address spaces that show it?
  var isAtHome: Bool {
    var isAtHome = false
    forEachRun { run in
      let area = unsafe run.mm.area(containing: run.address)
      let frame = unsafe MM.frame(of: cshims_pte_load(run.entries))
      if unsafe area?.pointee.home(of: run.address) == frame { isAtHome = true }
    }
    return isAtHome
  }

  /// Makes the entries what they were, showing the folio from `head` on.
  func show(_ target: Page) {
    forEachRun { run in
      for i in 0..<run.count {
        var value = unsafe cshims_pte_load(run.entries + i)
        value = value &+ (target.frame &- head.frame) &<< 12
        if value & CSHIMS_PTE_MOVING != 0 {
          value &= ~(CSHIMS_PTE_MOVING | CSHIMS_PTE_PROTNONE)
          value |= CSHIMS_PTE_PRESENT
        }
        unsafe cshims_pte_store(run.entries + i, value)
      }
      if unsafe run.mm.state.pointee.tier == .none { _ = run.mm.reveal(run.address, run.end) }
    }
  }

  /// Empties the entries of a folio that goes away, and its counts of them.
  func clear() {
    forEachRun { run in
      for i in 0..<run.count {
        let value = unsafe cshims_pte_load(run.entries + i)
        if run.isLeaf {
          unsafe run.mm.removeLeaf(run.entries, value)
        } else {
          unsafe cshims_pte_store(run.entries + i, 0)
          let page = own.machine.page(MM.frame(of: value))
          unsafe _ = cshims_page_map_fetch_sub(page.descriptor, 1)
        }
      }
    }
  }
}
