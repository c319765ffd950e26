//===----------------------------------------------------------------------===//
// Mapping files into an address space, and writing back what was stored there.
//===----------------------------------------------------------------------===//

internal import CShims
public import PageFrames

extension AddressSpace {
  /// Maps part of a file (mmap of a descriptor). Nothing is read until it is
  /// touched. Stores into a private mapping go to copies; stores into a shared
  /// one reach the file when it is synced or closed. What lies beyond the end
  /// of the file is the program's SIGBUS, EFAULT to GUP.
  ///
  /// - Parameters:
  ///   - offset: where in the file the mapping starts, whole pages.
  ///   - length: positive; rounded up to whole pages.
  /// - Throws: as `map(length:…)`; EINVAL for an offset that is negative or not
  ///   page aligned; EACCES for a writable shared mapping of a file that was
  ///   opened for reading.
  public func map(
    file: MappedFile, offset: ByteCount = 0, length: ByteCount,
    protection: Protection = .readOnly, sharing: Sharing = .shared,
    at placement: Placement = .anywhere
  ) throws(MemoryError) -> UserAddress {
    let rounded = try AddressSpace.checkMapping(length, protection, placement)
    guard offset.rawValue >= 0, offset.rawValue & 4095 == 0 else {
      throw MemoryError(.invalid, .positionOutOfRange, offset.rawValue)
    }
    try file.checkOwn()
    guard file.memory.machine == memory.machine else {
      throw MemoryError(.invalid, .otherMachine, 0)
    }
    var flags = AreaFlags(access: protection).union([.mayRead, .mayExecute])
    if sharing == .private {
      flags.insert(.mayWrite)
    } else {
      flags.insert(.shared)
      if file.isWritable {
        flags.formUnion([.mayWrite, .dirtyTracking])
      } else if protection.contains(.write) {
        throw MemoryError(.accessDenied, .writeForbidden, offset.rawValue)
      }
    }
    let start = try locked { mm throws(MemoryError) in
      try mm.map(
        length: rounded, flags: flags, placement: placement, file: file.cache,
        firstIndex: UInt64(offset.rawValue >> 12))
    }
    return UserAddress(start)
  }

  /// Writes what was stored into shared file mappings of a range back to the
  /// files (msync with MS_SYNC, up to the host's own cache).
  ///
  /// - Throws: EINVAL for a misaligned start, ENOMEM when part of the range is
  ///   not mapped (the rest has been written), the errno of a failed write.
  public func sync(_ start: UserAddress, length: ByteCount) throws(MemoryError) {
    guard length.rawValue >= 0 else {
      throw MemoryError(.invalid, .lengthNotPositive, length.rawValue)
    }
    let range = try AddressSpace.checkRange(start, length, beyond: .outOfMemory)
    guard range.start < range.end else { return }
    try locked { mm throws(MemoryError) in try mm.sync(range.start, range.end) }
  }
}

extension MM {
  fileprivate func sync(_ start: UInt64, _ end: UInt64) throws(MemoryError) {
    var address = start
    var failure: Int32 = 0
    while address < end {
      guard let area = unsafe state.pointee.areas.first(atOrAfter: address)?.pointee.payload,
        area.start < end
      else { break }
      let first = max(address, area.start)
      let stop = min(end, area.end)
      if area.flags.contains(.shared), let cache = cache(of: area), cache.isFile {
        cleanEntries(first, stop)
        let error = cache.writeBack(
          area.cacheIndex(of: first), area.cacheIndex(of: stop - 1)
        ) { index, page in
          // Its one mapping may be somebody else's.
          let value = value(at: (index &- area.cacheBase) &<< 12)
          return Self.holdsPage(value) && Self.frame(of: value) == page.frameNumber.rawValue
        }
        if failure == 0 { failure = error }
      }
      address = stop
    }
    if failure != 0 { throw MemoryError.host(failure) }
    if let hole = firstHole(start, end) { throw MemoryError(.outOfMemory, .notMapped, hole) }
  }

  /// Moves the dirty bits of a range to its pages, and write-protects them so
  /// that the next store is heard of.
  private func cleanEntries(_ start: UInt64, _ end: UInt64) {
    unsafe forEachEntry(start, end) { entry, value in
      guard value & CSHIMS_PTE_DIRTY != 0 else { return }
      machine.page(Self.frame(of: value)).markDirty()
      unsafe _ = cshims_pte_exchange(entry, value & ~(CSHIMS_PTE_WRITE | CSHIMS_PTE_DIRTY))
    }
    followTable(start, end)
  }
}
