//===----------------------------------------------------------------------===//
// How much of an iterator fits a transfer's limits, asked before anything is
// extracted.
//===----------------------------------------------------------------------===//

public import PageFrames

/// Bytes that fit, and the segments they make.
public struct IOVIterSpan: Equatable, Sendable {
  public let length: ByteCount
  public let segmentCount: Int

  public init(length: ByteCount, segmentCount: Int) {
    self.length = length
    self.segmentCount = segmentCount
  }
}

extension IOVIter {
  /// How many bytes from `start` on fit into `maxSize` bytes and `maxSegments`
  /// segments (netfs_limit_iter). Holds nothing, moves nothing.
  ///
  /// A segment is what `extractToScatterList` makes an entry of: a page's part of
  /// user memory or KVEC, a bvec, a folio of an XARRAY or FOLIOQ. So that call,
  /// with these limits, adds as many bytes, unless a page cannot be had. A hole
  /// in an XARRAY ends the span.
  ///
  /// - Parameters:
  ///   - start: bytes from the iterator's place on, at most the count.
  ///   - maxSize: the most bytes.
  ///   - maxSegments: the most segments.
  /// - Throws: EINVAL for a negative limit or a start outside the count; EIO for
  ///   PIPE and DISCARD.
  /// - Complexity: O(segments passed).
  public func span(
    from start: ByteCount = 0, maxSize: ByteCount = .maximumTransfer, maxSegments: Int = .max
  ) throws(MemoryError) -> IOVIterSpan {
    guard start >= 0, start <= count else {
      throw MemoryError(.invalid, .positionOutOfRange, start.rawValue)
    }
    guard maxSize >= 0 else { throw MemoryError(.invalid, .countNegative, maxSize.rawValue) }
    guard maxSegments >= 0 else { throw MemoryError(.invalid, .countNegative, maxSegments) }
    try checkSegments()
    var walk = self
    try walk.advance(by: start)
    let wanted = min(maxSize, walk.count).rawValue
    var length = 0
    var segments = 0
    while length < wanted, segments < maxSegments {
      guard let next = walk.nextSegmentLength else { break }
      let part = min(next, wanted - length)
      walk.step(part)
      length += part
      segments += 1
    }
    return IOVIterSpan(length: ByteCount(length), segmentCount: segments)
  }
}
