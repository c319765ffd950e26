//===----------------------------------------------------------------------===//
// UBUF: one contiguous user buffer, and IOVEC: a list of user segments.
//===----------------------------------------------------------------------===//

import PageFrames

/// The backing of a UBUF iterator. The cursor's offset counts from `base`.
struct UserBuffer: Sendable {
  var base: UInt64

  @inline(__always)
  func stretch(at cursor: Cursor) -> Stretch {
    Stretch(start: base &+ UInt64(cursor.offset), length: cursor.count)
  }
}

extension UserSegment: Segment {
  @inline(__always)
  var start: UInt64 { base.rawValue }
  @inline(__always)
  var byteLength: Int { length.rawValue }
}

extension Segments<UserSegment> {
  /// The bytes that user segments hold.
  /// - Throws: EINVAL as `IOVIter.init(iovec:)` says.
  static func checkedTotal(of list: SegmentList<UserSegment>) throws(MemoryError) -> Int {
    guard list.count <= UserSegment.limit else {
      throw MemoryError(.invalid, .tooManySegments, list.count)
    }
    for index in 0..<list.count { try list[index].check() }
    return try total(of: list)
  }
}
