//===----------------------------------------------------------------------===//
// Iterators over segments that stay where they are, for the C interface. The
// same checks as in IOVIter+Making.swift, whose initialisers copy.
//
// Such an iterator may be copied bit by bit and forgotten without a deinit, as
// long as somebody else keeps its machine, its address space and its segments:
// it owns nothing but references to those.
//===----------------------------------------------------------------------===//

package import AddressSpaces
package import PageFrames

extension IOVIter {
  /// As `init(iovec:…)`. Segments of at least `count` bytes are the caller's to
  /// keep, unchanged, as long as the iterator is used.
  package init(
    borrowingIOVec segments: UnsafeBufferPointer<UserSegment>, count: ByteCount,
    direction: Direction, in space: AddressSpace, dialect: Dialect?
  ) throws(MemoryError) {
    try unsafe self.init(
      SegmentList(borrowing: segments), count: count, direction: direction, in: space,
      dialect: dialect)
  }

  /// As `init(bvec:…)`, borrowing.
  package init(
    borrowingBVec segments: UnsafeBufferPointer<BVec>, count: ByteCount,
    direction: Direction, memory: PhysicalMemory, dialect: Dialect?
  ) throws(MemoryError) {
    try unsafe self.init(
      SegmentList(borrowing: segments), count: count, direction: direction, memory: memory,
      dialect: dialect)
  }

  /// As `init(kvec:…)`, borrowing.
  package init(
    borrowingKVec segments: UnsafeBufferPointer<KVec>, count: ByteCount,
    direction: Direction, memory: PhysicalMemory, dialect: Dialect
  ) throws(MemoryError) {
    try unsafe self.init(
      SegmentList(borrowing: segments), count: count, direction: direction, memory: memory,
      dialect: dialect)
  }

  /// As `init(folioQueue:…)`, borrowing.
  package init(
    borrowingFolios folios: UnsafeBufferPointer<QueuedFolio>, slot: Int, offset: ByteCount,
    count: ByteCount, direction: Direction, memory: PhysicalMemory, dialect: Dialect
  ) throws(MemoryError) {
    for index in folios.indices {
      let folio = unsafe folios[index]
      guard let queued = QueuedFolio(folio.basePage), queued.order == folio.order else {
        throw MemoryError(.invalid, .notFolioHead, folio.basePage.frameNumber.rawValue)
      }
    }
    try unsafe self.init(
      SegmentList(borrowing: folios), slot: slot, offset: offset, count: count,
      direction: direction, memory: memory, dialect: dialect)
  }

  /// As `importIOVec(_:…)`, borrowing: the lengths are cut in place.
  package init(
    importingIOVec segments: UnsafeMutableBufferPointer<UserSegment>, direction: Direction,
    in space: AddressSpace, dialect: Dialect?
  ) throws(MemoryError) {
    let list = UnsafeBufferPointer(segments)
    try unsafe UserSegment.checkImported(list)
    var total: ByteCount = 0
    for index in segments.indices {
      let length = unsafe min(segments[index].length, .maximumTransfer - total)
      unsafe segments[index].length = length
      total += length
    }
    self.init(
      .iovec(Segments(list: unsafe SegmentList(borrowing: list))), count: total.rawValue,
      direction: direction, in: space, dialect: dialect ?? space.memory.defaultDialect)
  }
}

extension UserSegment {
  /// Refuses segments that a program may not name.
  static func checkImported(
    _ segments: UnsafeBufferPointer<UserSegment>
  ) throws(MemoryError) {
    guard segments.count <= UserSegment.limit else {
      throw MemoryError(.invalid, .tooManySegments, segments.count)
    }
    for index in segments.indices {
      let segment = unsafe segments[index]
      guard segment.length >= 0 else {
        throw MemoryError(.invalid, .segmentTooLong, segment.length.rawValue)
      }
    }
    for index in segments.indices { try unsafe segments[index].checkAccess() }
  }
}
