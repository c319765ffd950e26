//===----------------------------------------------------------------------===//
// Remap: mremap. Pages move with their entries, so frames, counts, pins and
// exclusivity stay what they are (rule G5) and a device that holds them keeps
// reaching them; only the address changes. The spans move along, so that a page
// at home stays at home and the new view is shown by as few host calls as the old.
//
// In this order, so that a failure changes nothing and nobody finds a page twice:
// the new areas and their host mapping, the new page tables, then each entry is
// taken from its old place before it is put in the new one, then the old areas go.
//
// What Linux has as one area may be several here, alike but for their homes: a
// run of those is treated as one.
//===----------------------------------------------------------------------===//

internal import CShims
internal import Events
public import PageFrames

/// Where a remapped range may go.
public enum RemapPlacement: Sendable, Hashable {
  /// It stays where it is (no flags).
  case inPlace
  /// It stays where there is room behind it, else it goes anywhere
  /// (MREMAP_MAYMOVE).
  case mayMove
  /// It goes there; areas that are in the way are unmapped (MREMAP_FIXED).
  case fixed(UserAddress)
}

extension AddressSpace {
  /// Moves, grows or shrinks a mapped range (mremap). Pinned pages move like all
  /// others: the pin stays, the frame stays, the address is new.
  ///
  /// - Parameters:
  ///   - length: rounded up to whole pages; the range must lie in one area, but
  ///     see `MemoryPolicy.remapSeveralAreas`. 0 shows what stands at `start` a
  ///     second time, which must be shared memory.
  ///   - newLength: positive; rounded up to whole pages. What is beyond it is
  ///     unmapped; what is new is absent.
  ///   - keepingOld: moves the pages and leaves the old range mapped, but empty
  ///     (MREMAP_DONTUNMAP): it always moves, with equal lengths.
  /// - Returns: the first address of the range now.
  /// - Throws: EINVAL for a misaligned or negative argument, a new length of 0,
  ///   flags that contradict each other, ranges that overlap, a fixed place
  ///   outside user space, or private memory to be shown twice; EFAULT when the
  ///   range is not mapped, crosses areas, or is a device's and grows; EAGAIN
  ///   when more would be locked than the limit allows; EEXIST when a fixed place
  ///   is something else's in this process; EOPNOTSUPP for adopted memory, which
  ///   stays where the program has it; ENOMEM when there is no room. Nothing has
  ///   changed then, but that, as on Linux, what stood at a fixed place and what is
  ///   beyond a shorter new length may be gone, and that of several areas those
  ///   before the one that failed have moved.
  /// - Complexity: O(log areas + pages present), host calls O(runs).
  @discardableResult
  public func remap(
    _ start: UserAddress, length: ByteCount, newLength: ByteCount,
    to placement: RemapPlacement = .mayMove, keepingOld: Bool = false
  ) throws(MemoryError) -> UserAddress {
    if keepingOld, placement == .inPlace || length != newLength {
      throw MemoryError(.invalid, .flagsContradict, newLength.rawValue)
    }
    guard start.isPageAligned else { throw MemoryError(.invalid, .addressMisaligned, start) }
    guard length.rawValue >= 0 else {
      throw MemoryError(.invalid, .lengthNotPositive, length.rawValue)
    }
    guard newLength.rawValue > 0 else {
      throw MemoryError(.invalid, .lengthNotPositive, newLength.rawValue)
    }
    let old = (UInt64(length.rawValue) + 4095) & ~4095
    let new = (UInt64(newLength.rawValue) + 4095) & ~4095
    let from = start.rawValue
    let movesSeveral = memory.policy.contains(.remapSeveralAreas)
    let moved = try locked { mm throws(MemoryError) in
      if case .fixed(let target) = placement, movesSeveral {
        try AddressSpace.checkTarget(target, new, from, old)
      }
      guard unsafe mm.area(containing: from) != nil else {
        throw MemoryError(.badAddress, .notMapped, start)
      }
      guard !mm.meetsAdopted(from, from + min(old, CSHIMS_TASK_SIZE - from)) else {
        throw MemoryError(.notSupported, .adoptedMemory, start)
      }
      if case .fixed(let target) = placement {
        try AddressSpace.checkTarget(target, new, from, old)
        if movesSeveral, old == new {
          return try mm.remapAreas(from, from + old, to: target.rawValue, keepingOld)
        }
      } else if !keepingOld, old >= new {
        if old > new {
          guard old <= CSHIMS_TASK_SIZE - from else {
            throw MemoryError(.invalid, .addressOutsideUserSpace, start)
          }
          try mm.unmap(from + new, from + old)
        }
        return from
      }
      return try mm.remap(from, old, new, placement, keepingOld)
    }
    return UserAddress(moved)
  }

  private static func checkTarget(
    _ target: UserAddress, _ new: UInt64, _ from: UInt64, _ old: UInt64
  ) throws(MemoryError) {
    guard target.isPageAligned else { throw MemoryError(.invalid, .addressMisaligned, target) }
    guard target.rawValue > 0, new <= CSHIMS_TASK_SIZE, target.rawValue <= CSHIMS_TASK_SIZE - new
    else { throw MemoryError(.invalid, .addressOutsideUserSpace, target) }
    // Nothing wraps: a length is below 2^63, an address below 2^47.
    if from + old > target.rawValue, target.rawValue + new > from {
      throw MemoryError(.invalid, .rangesOverlap, target)
    }
  }
}

extension MM {
  /// The part of mremap that checks the area, and grows or moves it.
  fileprivate func remap(
    _ start: UInt64, _ old: UInt64, _ new: UInt64, _ placement: RemapPlacement,
    _ keepingOld: Bool
  ) throws(MemoryError) -> UInt64 {
    var length = old
    var isFixed = false
    if case .fixed = placement { isFixed = true }
    let end = endOfAlike(start)
    try checkResize(start, min(old, new), new, end, keepingOld)
    if old > new {
      // Only of a fixed place.
      try unmap(start + new, start + old)
      length = new
    }
    if !isFixed, !keepingOld, old > 0, start + old == end, growInPlace(end, new - old) {
      return start
    }
    let target: Placement
    switch placement {
    case .inPlace: throw MemoryError(.outOfMemory, .addressTaken, end)
    case .mayMove: target = .anywhere
    case .fixed(let address): target = .fixed(address)
    }
    return try move(start, length, new, target, keepingOld)
  }

  /// Moves what is mapped of [start, end), area by area, to the same distances from
  /// `target`; what lies there across from a hole stays.
  fileprivate func remapAreas(
    _ start: UInt64, _ end: UInt64, to target: UInt64, _ keepingOld: Bool
  ) throws(MemoryError) -> UInt64 {
    var address = start
    while let node = unsafe state.pointee.areas.first(atOrAfter: address) {
      let first = unsafe max(address, node.pointee.start)
      guard first < end else { break }
      let length = min(end, endOfAlike(first)) - first
      let place = UserAddress(target + (first - start))
      _ = try remap(first, length, length, .fixed(place), keepingOld)
      address = first + length
    }
    return target
  }

  /// Where the run of areas ends that `address` lies in and that Linux would
  /// have as one.
  private func endOfAlike(_ address: UInt64) -> UInt64 {
    guard var node = unsafe state.pointee.areas.find(containing: address) else { return address }
    while let next = unsafe state.pointee.areas.next(after: node),
      unsafe next.pointee.start == node.pointee.end,
      unsafe Self.areAlike(node.pointee.payload, next.pointee.payload)
    { unsafe node = next }
    return unsafe node.pointee.end
  }

  private static func areAlike(_ a: Area, _ b: Area) -> Bool {
    a.flags == b.flags && a.cache == b.cache && (a.cache == 0 || a.cacheBase == b.cacheBase)
      && !a.flags.contains(.pfnMap)
  }

  /// vma_to_resize, in its order.
  private func checkResize(
    _ start: UInt64, _ old: UInt64, _ new: UInt64, _ end: UInt64, _ keepingOld: Bool
  ) throws(MemoryError) {
    guard let area = unsafe area(containing: start)?.pointee else { return }
    let device = !area.flags.isDisjoint(with: .device)
    if old == 0, !area.flags.contains(.shared) { throw MemoryError(.invalid, .notShared, start) }
    if keepingOld, device { throw MemoryError(.invalid, .deviceAccess, start) }
    guard old <= end - start else {
      let isMapped = unsafe self.area(containing: end) != nil
      throw MemoryError(.badAddress, isMapped ? .crossesAreas : .notMapped, end)
    }
    if old == new { return }
    if device { throw MemoryError(.badAddress, .deviceAccess, start) }
    if area.flags.contains(.locked), !mayLock((new - old) >> 12) {
      throw MemoryError(.tryAgain, .lockLimit, new - old)
    }
    guard new <= CSHIMS_TASK_SIZE else { throw MemoryError(.outOfMemory, .lengthTooLarge, new) }
  }

  /// Adds `length` bytes behind the area that ends at `end`, if there is room.
  private func growInPlace(_ end: UInt64, _ length: UInt64) -> Bool {
    guard length <= CSHIMS_TASK_SIZE - end, isFree(end, end + length),
      let last = unsafe area(containing: end - 4096)?.pointee
    else { return false }
    do throws(MemoryError) {
      try checkViewHasRoom()
      try cover(end, end + length)
      try extend(last, from: end, length)
    } catch {
      return false
    }
    mergeAreas(end, end + length)
    _ = populateLocked(end, end + length)
    unsafe machine.header.emit(.map, address: end, pageCount: Int(length >> 12))
    return true
  }

  /// Maps `length` bytes from `start` as more of the same as `area`, whose bases
  /// hold at `start`: absent, with homes that go on where the area's end if those
  /// are free. On error nothing has changed.
  private func extend(_ area: Area, from start: UInt64, _ length: UInt64) throws(MemoryError) {
    guard var reserve = makeNodes(1), let node = unsafe reserve.take() else {
      throw MemoryError(.outOfMemory, .metadataExhausted, length)
    }
    var piece = area
    piece.start = start
    piece.end = start + length
    piece.secondBase = Area.noHome
    let count = Int(length >> 12)
    if let cache = cache(of: area) {
      cache.retain()
      // The cache's own homes, as far as it has them.
      if cache.home(of: area.cacheIndex(of: piece.end - 4096)) == nil {
        piece.homeBase = Area.noHome
      }
    } else {
      let home = machine.reserveSpan(
        count: count, preferred: area.home(of: start), page: start >> 12,
        forFolios: area.flags.folios != .base)
      piece.homeBase = home.map { $0 &- start >> 12 } ?? Area.noHome
    }
    unsafe insertArea(piece, using: node)
    let error = establishOrFail(start, piece.end)
    guard error == 0 else {
      unsafe removeArea(node)
      withdraw(start, piece.end)
      releaseBacking(piece)
      throw MemoryError.host(error)
    }
  }

  private func establishOrFail(_ start: UInt64, _ end: UInt64) -> Int32 {
    unsafe machine.header.fails(at: .hostMapping)
      ? ErrorNumber.outOfMemory.rawValue : establish(start, end)
  }

  // MARK: - Moving

  private func move(
    _ start: UInt64, _ old: UInt64, _ new: UInt64, _ placement: Placement, _ keepingOld: Bool
  ) throws(MemoryError) -> UInt64 {
    try checkViewHasRoom()
    guard var reserve = makeNodes(2) else {
      throw MemoryError(.outOfMemory, .metadataExhausted, old)
    }
    defer { discard(&reserve) }
    let folios = unsafe area(containing: start)?.pointee.flags.folios ?? .base
    let target = try place(new, placement, folios)
    splitArea(at: start, &reserve)
    if old > 0 { splitArea(at: start + old, &reserve) }
    do throws(MemoryError) {
      try prepare(start, old, new, target)
    } catch {
      mergeAreas(start, start + old)
      throw error
    }
    moveEntries(start, start + old, to: target)
    if keepingOld {
      empty(start, start + old)
    } else {
      removeMoved(start, start + old)
    }
    if case .anywhere = placement { unsafe state.pointee.searchFrom = target + new }
    // A page that cannot be shown now will be when it is touched.
    _ = reveal(target, target + old)
    mergeAreas(target, target + new)
    mergeAreas(start, start + old)
    if new > old { _ = populateLocked(target + old, target + new) }
    unsafe machine.header.emit(.move, address: target, pageCount: Int(new >> 12))
    return target
  }

  /// Makes areas, host mapping and page tables of the target. On error all of
  /// them are gone again.
  private func prepare(
    _ start: UInt64, _ old: UInt64, _ new: UInt64, _ target: UInt64
  ) throws(MemoryError) {
    guard let first = unsafe area(containing: start)?.pointee else { return }
    var made = target
    do throws(MemoryError) {
      var like = Self.shifted(first, from: start, to: target)
      while made < target + old {
        guard let area = unsafe area(containing: start + (made - target))?.pointee else { break }
        guard var reserve = makeNodes(1), let node = unsafe reserve.take() else {
          throw MemoryError(.outOfMemory, .metadataExhausted, old)
        }
        like = Self.shifted(area, from: start, to: target)
        cache(of: like)?.retain()
        unsafe insertArea(like, using: node)
        made = like.end
      }
      let error = old > 0 ? establishOrFail(target, target + old) : 0
      guard error == 0 else { throw MemoryError.host(error) }
      guard makeTables(start, start + old, for: target) else {
        throw MemoryError(.outOfMemory, .metadataExhausted, old)
      }
      if new > old { try extend(like, from: target + old, new - old) }
    } catch {
      // The spans are still the old areas'.
      while let node = unsafe state.pointee.areas.first(atOrAfter: target),
        unsafe node.pointee.start < made
      {
        let cache = unsafe cache(of: node.pointee.payload)
        unsafe removeArea(node)
        cache?.release()
      }
      if old > 0 { withdraw(target, target + old) }
      throw error
    }
  }

  /// An area as it is at its new place: page for page the same homes and indices.
  private static func shifted(_ area: Area, from start: UInt64, to target: UInt64) -> Area {
    let pages = (target >> 12) &- (start >> 12)
    var result = area
    result.start = target &+ (area.start &- start)
    result.end = target &+ (area.end &- start)
    if area.homeBase != Area.noHome { result.homeBase = area.homeBase &- pages }
    if area.secondBase != Area.noHome { result.secondBase = area.secondBase &- pages }
    if area.cache != 0 { result.cacheBase = area.cacheBase &- pages }
    return result
  }

  /// Makes the tables that the entries of [start, end) need at `target`.
  private func makeTables(_ start: UInt64, _ end: UInt64, for target: UInt64) -> Bool {
    var address = start
    while address < end {
      let stop = Self.tableEnd(address, end)
      // A leaf has one place; its entries have any.
      splitLeaf(at: address)
      if unsafe entry(at: address) != nil {
        // Less than one table's reach: its ends lie in one or two.
        guard unsafe makeEntry(at: target + (address - start)) != nil,
          unsafe makeEntry(at: target + (stop - 4096 - start)) != nil
        else { return false }
      }
      address = stop
    }
    return true
  }

  /// Takes each entry from its place and puts it in the new one. A lock-free walk
  /// that read it at the old place sees that it is gone, and undoes its count.
  private func moveEntries(_ start: UInt64, _ end: UInt64, to target: UInt64) {
    var address = start
    while address < end {
      let stop = Self.tableEnd(address, end)
      if let entries = unsafe entry(at: address) {
        for i in 0..<Int((stop - address) >> 12) {
          guard unsafe cshims_pte_load(entries + i) != 0,
            let slot = unsafe entry(at: target + (address - start) + UInt64(i) << 12)
          else { continue }
          unsafe cshims_pte_store(slot, cshims_pte_exchange(entries + i, 0))
        }
      }
      address = stop
    }
  }

  /// Removes areas whose pages and spans have moved.
  private func removeMoved(_ start: UInt64, _ end: UInt64) {
    while let node = unsafe state.pointee.areas.first(atOrAfter: start),
      unsafe node.pointee.start < end
    {
      let cache = unsafe cache(of: node.pointee.payload)
      unsafe removeArea(node)
      cache?.release()
    }
    if start < end { withdraw(start, end) }
  }

  /// Leaves areas whose pages and spans have moved mapped and empty, with homes
  /// of their own. They are not locked any more.
  private func empty(_ start: UInt64, _ end: UInt64) {
    withdraw(start, end)
    var address = start
    while let node = unsafe state.pointee.areas.find(containing: address), address < end {
      unsafe node.pointee.payload.flags.subtract(.lockFlags)
      let area = unsafe node.pointee.payload
      var home = area.homeBase
      if area.cache == 0 {
        let count = Int((area.end - area.start) >> 12)
        home =
          machine.reserveSpan(
            count: count, page: area.start >> 12, forFolios: area.flags.folios != .base
          ).map { $0 &- area.start >> 12 } ?? Area.noHome
      }
      unsafe setHomes(node, home: home, second: Area.noHome)
      if establish(area.start, area.end) != 0 {
        // Out of host mappings: it is a bare reservation, so nothing is at home.
        if area.cache == 0, home != Area.noHome {
          machine.releaseSpan(
            home &+ area.start >> 12, count: Int((area.end - area.start) >> 12))
        }
        unsafe setHomes(node, home: Area.noHome, second: Area.noHome)
        withdraw(area.start, area.end)
      }
      address = area.end
    }
  }
}
