//===----------------------------------------------------------------------===//
// Areas that are not ordinary memory: secret memory, which nobody but the program
// may reach (memfd_secret), and frames without pages (remap_pfn_range). GUP takes
// neither (semantics C.5.2); a device's way to either is not through here.
//===----------------------------------------------------------------------===//

internal import CShims
internal import Events
public import PageFrames

/// What the pages of a mapping are.
public enum MemoryKind: Sendable, Hashable, CaseIterable {
  case ordinary
  /// Of frames that must stay movable (ZONE_MOVABLE): a LONGTERM pin moves such a
  /// page to another frame first, a large folio whole where a block is free.
  case movable
  /// Reachable through the program's own mappings only (memfd_secret): shared,
  /// locked from the start, never moved. GUP refuses it in both paths.
  case secret
}

extension MemoryKind {
  func flags(_ sharing: Sharing) throws(MemoryError) -> AreaFlags {
    switch self {
    case .ordinary: return []
    case .movable: return .movable
    case .secret:
      guard sharing == .shared else { throw MemoryError(.invalid, .notPrivate, 0) }
      return [.secret, .locked]
    }
  }
}

extension AddressSpace {
  /// Shows consecutive frames to the program without counting them, as a driver's
  /// mmap does (remap_pfn_range). All are there from the start. GUP says EFAULT.
  ///
  /// The frames must be held (`PhysicalMemory.allocatePage`, for one) and stay so
  /// until they are unmapped here and in every child: the mapping keeps nothing
  /// alive.
  /// - Throws: as `map`; EINVAL for frames that the machine does not have, that
  ///   show the zero page, or that nobody holds.
  /// - Complexity: O(count), host calls O(count / 512).
  public func mapFrames(
    from first: PageFrameNumber, count: PageCount, protection: Protection = .readWrite,
    at placement: Placement = .anywhere
  ) throws(MemoryError) -> UserAddress {
    let frames = memory.machine.frameCount
    guard count.rawValue > 0 else {
      throw MemoryError(.invalid, .lengthNotPositive, count.rawValue)
    }
    guard first.rawValue >= Machine.reservedFrames, first.rawValue < frames,
      UInt64(count.rawValue) <= frames - first.rawValue
    else { throw MemoryError(.invalid, .framesOutsideMachine, first.rawValue) }
    let length = try AddressSpace.checkMapping(count.byteCount, protection, placement)
    for i in 0..<UInt64(count.rawValue) where memory.machine.page(first.rawValue + i).isFree {
      throw MemoryError(.invalid, .pageNotHeld, first.rawValue + i)
    }
    let start = try locked { mm throws(MemoryError) in
      try mm.mapFrames(first.rawValue, length, AreaFlags(access: protection), placement)
    }
    return UserAddress(start)
  }
}

extension MM {
  fileprivate func mapFrames(
    _ first: UInt64, _ length: UInt64, _ access: AreaFlags, _ placement: Placement
  ) throws(MemoryError) -> UInt64 {
    try checkViewHasRoom()
    guard var reserve = makeNodes(1) else {
      throw MemoryError(.outOfMemory, .metadataExhausted, length)
    }
    defer { discard(&reserve) }
    let start = try place(length, placement)
    let end = start + length
    guard let node = unsafe reserve.take() else {
      throw MemoryError(.outOfMemory, .metadataExhausted, length)
    }
    let flags = access.union([.mayRead, .mayWrite, .shared, .io, .pfnMap])
    unsafe insertArea(
      Area(start: start, end: end, flags: flags, homeBase: Area.noHome, cache: 0, cacheBase: 0),
      using: node)
    var failure: MemoryError?
    let error =
      unsafe machine.header.fails(at: .hostMapping)
      ? ErrorNumber.outOfMemory.rawValue : establish(start, end)
    if error != 0 { failure = MemoryError.host(error) }
    var address = start
    while failure == nil, address < end {
      if let entry = unsafe makeEntry(at: address) {
        unsafe cshims_pte_store(
          entry,
          Self.entryValue(
            frame: first + (address - start) >> 12, writable: flags.contains(.write),
            dirty: false, special: true, accessible: !access.isEmpty))
        address += 4096
      } else {
        failure = MemoryError(.outOfMemory, .metadataExhausted, length)
      }
    }
    // Without a trap nothing will show the frames later.
    if failure == nil, unsafe state.pointee.tier == .none, reveal(start, end) != 0 {
      failure = MemoryError(.outOfMemory, .hostRefused, start)
    }
    if let failure {
      unsafe removeArea(node)
      zapAndWithdraw(start, end)
      throw failure
    }
    unsafe state.pointee.searchFrom = end
    unsafe machine.header.emit(.map, address: start, pageCount: Int(length >> 12))
    return start
  }
}
