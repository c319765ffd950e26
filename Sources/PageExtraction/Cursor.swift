//===----------------------------------------------------------------------===//
// Cursor: where an iterator stands. The backing says what that means.
//===----------------------------------------------------------------------===//

/// The moving part of an iterator.
struct Cursor: Equatable, Sendable {
  /// The current segment; the number of segments when all are behind. For a
  /// pipe the buffer that ends here, or the next one. 0 for kinds without either.
  var index = 0
  /// Bytes into the current segment, or into the whole (iov_offset). For a pipe
  /// see `PipePlace`.
  var offset = 0
  /// Bytes that may still be moved.
  var count: Int
  /// Bytes between the start and here: what revert can give back.
  var consumed = 0

  /// Steps over bytes of one buffer, at most `count`.
  @inline(__always)
  mutating func stepInBuffer(_ size: Int) {
    // None of the three can overflow: their sums are the buffer's (IOVIter).
    offset &+= size
    count &-= size
    consumed &+= size
  }
}
