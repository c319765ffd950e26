//===----------------------------------------------------------------------===//
// Iterators over what a program hands in: checked against user space, and cut
// to what one transfer may move (semantics A.8.7).
//===----------------------------------------------------------------------===//

internal import CShims
public import AddressSpaces
public import PageFrames

extension IOVIter {
  /// An iterator over a buffer that a program named (import_ubuf): cut to what
  /// one transfer may move.
  ///
  /// - Throws: EINVAL for a negative count, EFAULT for a range that does not
  ///   lie in user space.
  public static func importUBuf(
    _ base: UserAddress, count: ByteCount, direction: Direction, in space: AddressSpace,
    dialect: Dialect? = nil
  ) throws(MemoryError) -> IOVIter {
    guard count >= 0 else { throw MemoryError(.invalid, .countNegative, count.rawValue) }
    let count = min(count, .maximumTransfer)
    try UserSegment(base: base, length: count).checkAccess()
    return IOVIter(
      .ubuf(UserBuffer(base: base.rawValue)), count: count.rawValue, direction: direction,
      in: space, dialect: dialect ?? space.memory.defaultDialect)
  }

  /// An iterator over segments that a program named (import_iovec): lengths are
  /// cut so that the sum stays within one transfer, the last ones down to 0.
  ///
  /// - Throws: EINVAL for more than 1,024 segments or a negative length, EFAULT
  ///   for a segment that does not lie in user space.
  /// - Complexity: O(segments).
  public static func importIOVec(
    _ segments: [UserSegment], direction: Direction, in space: AddressSpace,
    dialect: Dialect? = nil
  ) throws(MemoryError) -> IOVIter {
    guard segments.count <= UserSegment.limit else {
      throw MemoryError(.invalid, .tooManySegments, segments.count)
    }
    for segment in segments where segment.length < 0 {
      throw MemoryError(.invalid, .segmentTooLong, segment.length.rawValue)
    }
    var segments = segments
    var total: ByteCount = 0
    for index in segments.indices {
      try segments[index].checkAccess()
      let length = min(segments[index].length, .maximumTransfer - total)
      segments[index].length = length
      total += length
    }
    return IOVIter(
      .iovec(Segments(list: SegmentList(segments))), count: total.rawValue, direction: direction,
      in: space, dialect: dialect ?? space.memory.defaultDialect)
  }

  /// The same, with the segments themselves read from user memory: `count`
  /// entries of 16 bytes, pointer then length, from `address` on.
  ///
  /// - Throws: also EFAULT where the entries cannot be read.
  public static func importIOVec(
    from address: UserAddress, segmentCount: Int, direction: Direction, in space: AddressSpace,
    dialect: Dialect? = nil
  ) throws(MemoryError) -> IOVIter {
    try importIOVec(
      segmentsFromUser(address, count: segmentCount, in: space), direction: direction, in: space,
      dialect: dialect)
  }

  /// Reads segments from user memory (iovec_from_user). No count at all is an
  /// empty list.
  ///
  /// - Throws: EINVAL for a negative count, more than 1,024, or a negative
  ///   length; EFAULT where the entries cannot be read.
  public static func segmentsFromUser(
    _ address: UserAddress, count: Int, in space: AddressSpace
  ) throws(MemoryError) -> [UserSegment] {
    guard count >= 0 else { throw MemoryError(.invalid, .countNegative, count) }
    guard count <= UserSegment.limit else {
      throw MemoryError(.invalid, .tooManySegments, count)
    }
    guard count > 0 else { return [] }
    let entries = UnsafeMutableRawBufferPointer.allocate(
      byteCount: count * UserSegment.stride, alignment: 8)
    defer { unsafe entries.deallocate() }
    try unsafe space.copyFromUser(entries, from: address)
    var segments: [UserSegment] = []
    segments.reserveCapacity(count)
    for index in 0..<count {
      let entry = index * UserSegment.stride
      let length = unsafe entries.load(fromByteOffset: entry + 8, as: Int.self)
      guard length >= 0 else { throw MemoryError(.invalid, .segmentTooLong, length) }
      segments.append(
        UserSegment(
          base: UserAddress(unsafe entries.load(fromByteOffset: entry, as: UInt64.self)),
          length: ByteCount(length)))
    }
    return segments
  }
}

extension UserSegment {
  /// Refuses what does not lie in user space (access_ok). `length` >= 0.
  func checkAccess() throws(MemoryError) {
    let length = UInt64(length.rawValue)
    guard length <= CSHIMS_TASK_SIZE, base.rawValue <= CSHIMS_TASK_SIZE - length else {
      throw MemoryError(.badAddress, .addressOutsideUserSpace, base)
    }
  }
}
