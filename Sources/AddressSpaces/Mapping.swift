//===----------------------------------------------------------------------===//
// Mapping: mmap and munmap. An area gets addresses, a span of homes, and a host
// mapping with every page absent; nothing is allocated until it is touched.
//===----------------------------------------------------------------------===//

internal import CShims
internal import Events
internal import PageFrames

extension MM {
  /// New regions are at least this large, so that many areas share one.
  private static var regionLength: UInt64 { 1 << 30 }

  /// The body of `AddressSpace.map`, under the mmap lock; arguments are checked.
  /// `file` is the page cache to show from page `firstIndex` on; without one, a
  /// shared mapping gets a cache of its own.
  func map(
    length: UInt64, flags: AreaFlags, placement: Placement,
    file: PageCacheHandle? = nil, firstIndex: UInt64 = 0
  ) throws(MemoryError) -> UInt64 {
    try checkViewHasRoom()
    let flags = unsafe flags.union(state.pointee.lockDefault)
    if flags.contains(.locked), !mayLock(length >> 12) {
      throw MemoryError(.tryAgain, .lockLimit, length)
    }
    guard var reserve = makeNodes(1) else {
      throw MemoryError(.outOfMemory, .metadataExhausted, length)
    }
    defer { discard(&reserve) }
    let count = Int(length >> 12)
    // Before a fixed place is cleared, so that a failure changes nothing.
    var cache = file
    file?.retain()
    if cache == nil, flags.contains(.shared) {
      var pageFlags: UInt32 = 0
      if flags.contains(.secret) { pageFlags |= CSHIMS_PAGE_SECRET }
      if flags.contains(.movable) { pageFlags |= CSHIMS_PAGE_MOVABLE }
      cache = PageCacheHandle.create(
        machine, pageCount: count, length: length, pageFlags: pageFlags)
      guard cache != nil else { throw MemoryError(.outOfMemory, .metadataExhausted, length) }
    }
    let start: UInt64
    do throws(MemoryError) {
      start = try place(length, placement, flags.folios)
    } catch {
      cache?.release()
      throw error
    }
    let end = start + length
    let page = start >> 12
    var area = Area(
      start: start, end: end, flags: flags, homeBase: Area.noHome,
      cache: cache?.address ?? 0, cacheBase: cache == nil ? 0 : firstIndex &- page)
    if let cache {
      // The cache's homes, if it has one for each page of the area.
      if cache.home(of: firstIndex + UInt64(count) - 1) != nil,
        let home = cache.home(of: firstIndex)
      {
        area.homeBase = home &- page
      }
    } else {
      // Next to an area with homes, continue them: host mappings then merge.
      let previous = unsafe state.pointee.areas.last(before: start)
      var preferred: UInt64? = nil
      if let previous = unsafe previous, unsafe previous.pointee.end == start {
        preferred = unsafe previous.pointee.payload.home(of: start)
      }
      if let home = machine.reserveSpan(
        count: count, preferred: preferred, page: page, forFolios: flags.folios != .base)
      {
        area.homeBase = home &- page
      }
    }
    guard let node = unsafe reserve.take() else {
      throw MemoryError(.outOfMemory, .metadataExhausted, length)
    }
    unsafe insertArea(area, using: node)
    let error =
      unsafe machine.header.fails(at: .hostMapping)
      ? ErrorNumber.outOfMemory.rawValue : establish(start, end)
    guard error == 0 else {
      unsafe removeArea(node)
      withdraw(start, end)
      releaseBacking(area)
      throw MemoryError.host(error)
    }
    unsafe state.pointee.searchFrom = end
    mergeAreas(start, end)
    unsafe machine.header.emit(.map, address: start, pageCount: count)
    // As on Linux, a mapping does not fail because it cannot be populated.
    _ = populateLocked(start, end)
    return start
  }

  /// Areas of a view that is far past its budget cannot become more.
  func checkViewHasRoom() throws(MemoryError) {
    guard unsafe state.pointee.view.mappings + 4 <= state.pointee.view.budget * 4 else {
      throw unsafe MemoryError(.outOfMemory, .hostRefused, state.pointee.view.mappings)
    }
  }

  /// The body of `AddressSpace.unmap`, under the mmap lock.
  func unmap(_ start: UInt64, _ end: UInt64) throws(MemoryError) {
    guard var reserve = makeNodes(splitsNeeded(start, end)) else {
      throw MemoryError(.outOfMemory, .metadataExhausted, end - start)
    }
    splitArea(at: start, &reserve)
    splitArea(at: end, &reserve)
    var any = false
    while let node = unsafe state.pointee.areas.first(atOrAfter: start),
      unsafe node.pointee.start < end
    {
      let area = unsafe node.pointee.payload
      any = true
      unsafe removeArea(node)
      zapAndWithdraw(area.start, area.end)
      releaseBacking(area)
    }
    guard any else { return }
    unsafe machine.header.emit(.unmap, address: start, pageCount: Int((end - start) >> 12))
  }

  // MARK: - Finding room

  func place(
    _ length: UInt64, _ placement: Placement, _ folios: FolioSize = .base
  ) throws(MemoryError) -> UInt64 {
    switch placement {
    case .anywhere:
      return try placeAnywhere(length, folios)
    case .hint(let address):
      let start = address.rawValue & ~0xfff
      if start != 0, start < CSHIMS_TASK_SIZE, length <= CSHIMS_TASK_SIZE - start,
        isFree(start, start + length)
      {
        // Whatever is the matter there, a hint is no more than that.
        do throws(MemoryError) {
          try cover(start, start + length)
          return start
        } catch {}
      }
      return try placeAnywhere(length, folios)
    case .fixed(let address):
      let start = address.rawValue
      guard !meetsAdopted(start, start + length) else {
        throw MemoryError(.exists, .addressTaken, address)
      }
      try cover(start, start + length)
      try unmap(start, start + length)
      return start
    case .fixedNoReplace(let address):
      let start = address.rawValue
      guard isFree(start, start + length) else {
        throw MemoryError(.exists, .addressTaken, address)
      }
      try cover(start, start + length)
      return start
    }
  }

  func isFree(_ start: UInt64, _ end: UInt64) -> Bool {
    if meetsAdopted(start, end) { return false }
    guard let next = unsafe state.pointee.areas.first(atOrAfter: start) else { return true }
    return unsafe next.pointee.start >= end
  }

  private func placeAnywhere(
    _ length: UInt64, _ folios: FolioSize
  ) throws(MemoryError) -> UInt64 {
    let alignment =
      length >= Self.leafLength ? Self.leafLength : UInt64(folios.pageCount.rawValue) << 12
    let hint = unsafe state.pointee.searchFrom
    if let start = gap(length, alignment, from: hint) ?? gap(length, alignment, from: 0) {
      return start
    }
    // A new region, aligned by taking more than is needed.
    let size = max(Self.regionLength, (length + (1 << 21) - 1) & ~((1 << 21) - 1)) + 1 << 21
    let base = try addRegion(length: size)
    return (base + alignment - 1) & ~(alignment - 1)
  }

  /// The first free stretch at or after `from` in any region.
  private func gap(_ length: UInt64, _ alignment: UInt64, from: UInt64) -> UInt64? {
    var region = unsafe state.pointee.regions.first(atOrAfter: from)
    while let current = unsafe region {
      // What is free in the midst of adopted memory stays the program's.
      let isReserved = unsafe current.pointee.payload.kind == .reserved
      let end = unsafe isReserved ? current.pointee.end : 0
      var start = unsafe max(from, current.pointee.start)
      var area = unsafe state.pointee.areas.first(atOrAfter: start)
      while true {
        start = (start + alignment - 1) & ~(alignment - 1)
        let limit = unsafe min(end, area?.pointee.start ?? end)
        if start <= limit, limit - start >= length { return start }
        guard let occupied = unsafe area, unsafe occupied.pointee.start < end else { break }
        start = unsafe occupied.pointee.end
        unsafe area = state.pointee.areas.next(after: occupied)
      }
      unsafe region = state.pointee.regions.next(after: current)
    }
    return nil
  }

  /// Makes sure that all of [start, end) is host address space of this view.
  /// A region cannot be given back under the lock, so all that is lacking is
  /// reserved before the first becomes one: refused, the range is as it was.
  func cover(_ start: UInt64, _ end: UInt64) throws(MemoryError) {
    let isForked = unsafe state.pointee.isForked
    var address = start
    while !isForked, let gap = gapInRegions(address, end) {
      do throws(MemoryError) {
        _ = try reserve(gap.start, gap.end - gap.start)
      } catch {
        releaseGaps(start, gap.start)
        throw error
      }
      address = gap.end
    }
    address = start
    while let gap = gapInRegions(address, end) {
      let length = gap.end - gap.start
      do throws(MemoryError) {
        if isForked {
          try addTwin(of: gap.start, length: length)
        } else {
          try addRegion(user: gap.start, host: gap.start, length: length)
        }
      } catch {
        if !isForked { releaseGaps(gap.end, end) }
        throw error
      }
      address = gap.end
    }
  }

  /// The first stretch of [start, end) that lies in no region.
  private func gapInRegions(_ start: UInt64, _ end: UInt64) -> (start: UInt64, end: UInt64)? {
    var address = start
    while address < end, let region = unsafe state.pointee.regions.find(containing: address) {
      address = unsafe region.pointee.end
    }
    guard address < end else { return nil }
    let next = unsafe state.pointee.regions.first(atOrAfter: address)
    return (address, unsafe min(end, next?.pointee.start ?? end))
  }

  private func releaseGaps(_ start: UInt64, _ end: UInt64) {
    var address = start
    while let gap = gapInRegions(address, end) {
      _ = cshims_unmap(gap.start, gap.end - gap.start)
      address = gap.end
    }
  }
}
