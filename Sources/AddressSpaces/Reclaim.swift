//===----------------------------------------------------------------------===//
// Reclaim and compaction: going over the pages of a range, an address space or
// the machine and moving those that may be moved. Which those are, and how one
// of them moves, is Migrate.swift's. Nothing runs by itself: there is no
// background thread, and an allocation that fails does not reclaim.
//
// Locks: the list lock for the whole pass, and under it one mmap lock at a time,
// tried; an address space that is busy is passed over and counted.
//===----------------------------------------------------------------------===//

internal import CShims
public import PageFrames

/// What a pass over pages did, in pages.
public struct PageMovement: Equatable, Sendable {
  /// Moved, or taken back.
  public var moved = 0
  /// Left alone because somebody holds a pin, or may (rule G6).
  public var pinned = 0
  /// Left alone because somebody holds a reference.
  public var referenced = 0
  /// Left alone because their bytes would be lost.
  public var dirty = 0
  /// Left alone because not every entry that shows them could be reached.
  public var unreachable = 0
  /// Left alone because of their kind: secret, locked, adopted.
  public var unmovable = 0
  /// Left alone because no frame was free for them.
  public var withoutFrame = 0
  /// Address spaces that were passed over because somebody worked in them.
  public var busySpaces = 0

  public init() {}

  mutating func note(_ outcome: MigrationOutcome, _ pages: Int = 1) {
    switch outcome {
    case .moved: moved += pages
    case .nothingToDo: break
    case .pinned: pinned += pages
    case .referenced: referenced += pages
    case .dirty: dirty += pages
    case .unreachable: unreachable += pages
    case .unmovable: unmovable += pages
    case .noFrame: withoutFrame += pages
    }
  }
}

extension PhysicalMemory {
  /// Takes back up to `count` pages whose bytes nobody can miss: private pages
  /// given up by MADV_FREE and not stored to since, large folios whole, and clean
  /// pages of mapped files, which are read again when they are touched
  /// (shrink_folio_list; there is no swap). Locked areas are passed over. Pages that
  /// are held stay.
  ///
  /// - Throws: EINVAL for a negative count, ESRCH in another process.
  /// - Complexity: O(pages mapped), two host calls a page taken. Thread-safe.
  public func reclaim(_ count: PageCount) throws(MemoryError) -> PageMovement {
    guard count.rawValue >= 0 else {
      throw MemoryError(.invalid, .countNegative, count.rawValue)
    }
    return try forEachAddressSpace { mm, movement in
      mm.forEachArea { area in
        mm.evict(area, area.start, area.end, upTo: count.rawValue, &movement)
        return movement.moved >= count.rawValue
      }
    }
  }

  /// Moves private pages, large folios whole, that stand elsewhere back to their
  /// areas' homes where those are free, so that neighbours are neighbours again:
  /// the host then needs fewer mappings (compaction). What is held stays, and so do
  /// pages in each other's homes, and what is at home with a relative.
  ///
  /// - Throws: ESRCH in another process.
  /// - Complexity: O(pages mapped), two host calls a page moved. Thread-safe.
  public func compact() throws(MemoryError) -> PageMovement {
    try forEachAddressSpace { mm, movement in
      mm.forEachArea { area in
        mm.moveHome(area, &movement)
        return false
      }
    }
  }

  private func forEachAddressSpace(
    _ body: (MM, inout PageMovement) -> Void
  ) throws(MemoryError) -> PageMovement {
    try checkOwn()
    var movement = PageMovement()
    machine.withAddressSpaces {
      machine.forEachAddressSpace { mm in
        guard mm.isOwn else { return false }
        if mm.tryLock() {
          body(mm, &movement)
          mm.unlock()
        } else {
          movement.busySpaces += 1
        }
        return false
      }
    }
    return movement
  }
}

extension AddressSpace {
  /// Moves each page of a range to another frame, its bytes, entry and kind as
  /// they were (move_pages, without nodes). Holes are passed over. Pages that are
  /// held stay where they are.
  ///
  /// Of a large folio all pages move, in the range or not; where no block is free
  /// for it, it is split, and those in the range move by themselves. Counted are
  /// pages of the range.
  ///
  /// - Throws: EINVAL for a misaligned start or a negative length, ESRCH.
  public func migrate(
    _ start: UserAddress, length: ByteCount
  ) throws(MemoryError) -> PageMovement {
    guard length.rawValue >= 0 else {
      throw MemoryError(.invalid, .lengthNotPositive, length.rawValue)
    }
    let range = try AddressSpace.checkRange(start, length, beyond: .invalid)
    return try locked { mm throws(MemoryError) in
      var movement = PageMovement()
      mm.machine.withAddressSpaces {
        mm.moveElsewhere(range.start, range.end, &movement)
      }
      return movement
    }
  }
}

extension MM {
  /// Calls `body` with each area until it says that this was enough.
  fileprivate func forEachArea(_ body: (Area) -> Bool) {
    var node = unsafe state.pointee.areas.first
    while let current = unsafe node {
      if unsafe body(current.pointee.payload) { return }
      unsafe node = state.pointee.areas.next(after: current)
    }
  }

  /// Calls `body` with the address of each page that stands in [start, end), of a
  /// folio's pages that stand there in order with the first, and how many those
  /// are; it says how many of them are seen to. Absent tables are stepped over.
  func forEachFolio(_ start: UInt64, _ end: UInt64, _ body: (UInt64, Int) -> Int) {
    var address = start
    while address < end {
      let stop = Self.tableEnd(address, end)
      while address < stop {
        let limit = Int((stop - address) >> 12)
        let (empty, count) = pagesOfOneFolio(at: address, limit)
        address += UInt64(empty) << 12
        if count > 0 { address += UInt64(body(address, count)) << 12 }
      }
    }
  }

  /// How many entries from that of `address` on, `limit` at most and all in one
  /// table, are empty, and how many after them show a folio's pages in order,
  /// whatever else they say.
  private func pagesOfOneFolio(at address: UInt64, _ limit: Int) -> (empty: Int, count: Int) {
    let entries = entries(around: address)
    let first = Int(cshims_pte_index(address, UInt32(CSHIMS_PAGE_SHIFT)))
    var empty = 0
    while empty < limit, entries[first + empty] == 0 { empty += 1 }
    if empty == limit { return (empty, 0) }
    let value = entries[first + empty]
    let frame = Self.frame(of: value)
    let size = value & CSHIMS_PTE_SPECIAL == 0 ? 1 << machine.page(frame).folioOrder : 1
    let most = min(limit - empty, size - Int(frame) & (size - 1))
    var count = 1
    while count < most, Self.frame(of: entries[first + empty + count]) == frame + UInt64(count) {
      count += 1
    }
    return (empty, count)
  }

  /// The body of `AddressSpace.migrate`. Under the list lock.
  fileprivate func moveElsewhere(
    _ start: UInt64, _ end: UInt64, _ movement: inout PageMovement
  ) {
    // The folio that was moved last: its other pages went with it.
    var last: Page?
    forEachFolio(start, end) { address, count in
      if let last, folio(at: address) == last {
        movement.note(.moved, count)
        return count
      }
      let outcome = migrateListed(address, to: .elsewhere)
      last = outcome == .moved ? folio(at: address) : nil
      // One that had to be split has left the others where they are.
      let pages = outcome == .moved && last == nil ? 1 : count
      movement.note(outcome, pages)
      return pages
    }
  }

  /// The head of the large folio behind an address, if there is one.
  private func folio(at address: UInt64) -> Page? {
    let value = value(at: address)
    guard Self.holdsPage(value), value & CSHIMS_PTE_SPECIAL == 0 else { return nil }
    let page = machine.page(Self.frame(of: value))
    return page.folioOrder > 0 ? page.folioHead : nil
  }

  /// Takes back what may be taken of part of an area. Under the list lock.
  fileprivate func evict(
    _ area: Area, _ start: UInt64, _ end: UInt64, upTo limit: Int, _ movement: inout PageMovement
  ) {
    guard area.flags.isDisjoint(with: AreaFlags.special.union(.locked)) else { return }
    let isFile = cache(of: area)?.isFile ?? false
    guard isFile || area.flags.contains(.anonymous) else { return }
    forEachFolio(start, end) { address, count in
      let value = value(at: address)
      if value & CSHIMS_PTE_SPECIAL != 0 { return count }
      let head = machine.page(Self.frame(of: value)).folioHead
      // What was not given up is nothing that reclaim would look at.
      if head.isAnonymous, head.flags & CSHIMS_PAGE_LAZY_FREE == 0 { return count }
      let size = 1 << head.folioOrder
      guard limit - movement.moved >= size else { return count }
      let outcome = migrateListed(address, to: .nowhere)
      movement.note(outcome, outcome == .moved ? size : count)
      return count
    }
  }

  /// MADV_PAGEOUT on part of one area. Under the mmap lock.
  func evictRange(_ start: UInt64, _ end: UInt64) {
    guard let area = unsafe area(containing: start)?.pointee else { return }
    var movement = PageMovement()
    machine.withAddressSpaces { evict(area, start, end, upTo: .max, &movement) }
  }

  /// Moves the private pages of an area home. Under the list lock.
  fileprivate func moveHome(_ area: Area, _ movement: inout PageMovement) {
    guard area.cache == 0, area.homeBase != Area.noHome,
      area.flags.isDisjoint(with: .special)
    else { return }
    // A folio that is mapped in pieces is asked once.
    var last: Page?
    forEachFolio(area.start, area.end) { first, count in
      if let last, folio(at: first) == last { return count }
      var address = first
      while let left = moveHome(address, area, &movement) {
        // What it left may be a neighbour's home.
        address = (left &- area.homeBase) &<< 12
        if address < area.start || address >= area.end { break }
      }
      last = folio(at: first)
      return count
    }
  }

  /// Moves one private folio home, if that is free. Returns the frame it left, of a
  /// large folio the first.
  private func moveHome(
    _ address: UInt64, _ area: Area, _ movement: inout PageMovement
  ) -> UInt64? {
    let value = value(at: address)
    guard Self.holdsPage(value), value & CSHIMS_PTE_SPECIAL == 0 else { return nil }
    let page = machine.page(Self.frame(of: value))
    let head = page.folioHead
    let size = UInt64(1) << UInt64(head.folioOrder)
    let start = address &- (page.frame - head.frame) << 12
    guard start >= area.start, start <= area.end, (area.end - start) >> 12 >= size,
      let home = area.home(of: start), home & (size - 1) == 0, home != head.frame
    else { return nil }
    // A home that is taken is no failure: somebody shares or holds it.
    for i in 0..<size where !machine.page(home + i).isFree { return nil }
    let left = head.frame
    let outcome = migrateListed(address, to: .home)
    movement.note(outcome, Int(size))
    return outcome == .moved ? left : nil
  }
}
