//===----------------------------------------------------------------------===//
// Moving an iterator: forward, back, shorter, longer, and to a place that was
// kept (semantics A.8.2 and A.8.4).
//===----------------------------------------------------------------------===//

public import PageFrames

extension IOVIter {
  /// Moves forward by at most the count (iov_iter_advance).
  ///
  /// Steps over segments that are used up or have no bytes, even for size 0;
  /// nothing happens when the count is 0.
  ///
  /// A pipe's iterator is where its ring ends, so it moves only over what a copy
  /// of it has published: that much is kept, the rest is let go (pipe_advance),
  /// all of it for size 0 at the iterator's start.
  ///
  /// - Parameter size: bytes; more than the count means the count.
  /// - Throws: EINVAL for a negative size, and in a pipe for more than was
  ///   published from here on.
  /// - Complexity: O(segments crossed).
  public mutating func advance(by size: ByteCount) throws(MemoryError) {
    guard size >= 0 else { throw MemoryError(.invalid, .countNegative, size.rawValue) }
    let size = min(size.rawValue, cursor.count)
    if case .pipe(let place) = backing { try place.advance(&cursor, by: size) }
    step(size)
  }

  /// Moves forward by `size` <= count. In a pipe the ring has moved already.
  @inline(__always)
  mutating func step(_ size: Int) {
    guard cursor.count > 0 else { return }
    switch backing {
    case .ubuf: cursor.offset += size
    case .iovec(let segments): segments.advance(&cursor, by: size)
    default: stepInKernel(size)
    }
    cursor.count -= size
    cursor.consumed += size
  }

  @inline(never)
  private mutating func stepInKernel(_ size: Int) {
    switch backing {
    case .bvec(let segments): segments.advance(&cursor, by: size)
    case .kvec(let segments): segments.advance(&cursor, by: size)
    case .folioQueue(let segments): segments.advance(&cursor, by: size)
    case .xarray: cursor.offset += size
    case .ubuf, .iovec, .pipe, .discard: break
    }
  }

  /// Moves back, and gives the bytes back to the count (iov_iter_revert).
  ///
  /// In a pipe the bytes are unpublished, and pages that only they were in are
  /// let go. Pages that an extraction lists are reported (`Pipe.hazards`).
  ///
  /// - Parameter size: bytes, from 0.
  /// - Throws: EINVAL for a negative size, for more than one transfer may move
  ///   (0x7ffff000; the kernel warns and does nothing), for more than lies
  ///   behind (the kernel stops, or leaves its segments), and in a pipe when a
  ///   reader has the bytes or the ring ends elsewhere.
  /// - Complexity: O(segments crossed).
  public mutating func revert(by size: ByteCount) throws(MemoryError) {
    guard size >= 0 else { throw MemoryError(.invalid, .countNegative, size.rawValue) }
    guard size <= .maximumTransfer else {
      throw MemoryError(.invalid, .transferTooLarge, size.rawValue)
    }
    guard size.rawValue <= cursor.consumed else {
      throw MemoryError(.invalid, .positionOutOfRange, size.rawValue)
    }
    guard size > 0 else { return }
    switch backing {
    case .ubuf, .xarray: cursor.offset -= size.rawValue
    case .iovec(let segments): segments.revert(&cursor, by: size.rawValue)
    case .bvec(let segments): segments.revert(&cursor, by: size.rawValue)
    case .kvec(let segments): segments.revert(&cursor, by: size.rawValue)
    case .folioQueue(let segments): segments.revert(&cursor, by: size.rawValue)
    case .pipe(let place): try place.revert(&cursor, by: size.rawValue)
    case .discard: break
    }
    cursor.count += size.rawValue
    cursor.consumed -= size.rawValue
  }

  /// Lowers the count; a count that is not lower changes nothing
  /// (iov_iter_truncate).
  ///
  /// - Throws: EINVAL for a negative count.
  public mutating func truncate(to count: ByteCount) throws(MemoryError) {
    guard count >= 0 else { throw MemoryError(.invalid, .countNegative, count.rawValue) }
    cursor.count = min(cursor.count, count.rawValue)
  }

  /// Sets the count, which may rise again to what it was made with
  /// (iov_iter_reexpand).
  ///
  /// - Throws: EINVAL for a negative count, or one that reaches beyond the
  ///   count of construction.
  public mutating func reexpand(to count: ByteCount) throws(MemoryError) {
    guard count >= 0 else { throw MemoryError(.invalid, .countNegative, count.rawValue) }
    guard count.rawValue <= constructedCount - cursor.consumed else {
      throw MemoryError(.invalid, .countTooLarge, count.rawValue)
    }
    cursor.count = count.rawValue
  }

  /// A place in an iterator, to come back to (struct iov_iter_state).
  public struct State: Sendable, Equatable {
    let cursor: Cursor
  }

  /// Where it stands now (iov_iter_save_state).
  public func saveState() -> State { State(cursor: cursor) }

  /// Goes back, or forward, to a place that was kept (iov_iter_restore).
  ///
  /// A pipe's ring goes along as `revert` and `advance` take it there.
  ///
  /// - Throws: EINVAL for a place that this iterator's segments do not have.
  /// - Complexity: O(segments before the place).
  public mutating func restore(_ state: State) throws(MemoryError) {
    let place = state.cursor
    // A C caller's words can say anything.
    guard place.count >= 0, place.consumed >= 0, place.consumed <= constructedCount else {
      throw MemoryError(.invalid, .positionOutOfRange, place.consumed)
    }
    let fits =
      switch backing {
      case .ubuf, .xarray: place.index == 0 && place.offset == place.consumed
      case .iovec(let segments): segments.holds(place)
      case .bvec(let segments): segments.holds(place)
      case .kvec(let segments): segments.holds(place)
      case .folioQueue(let segments): segments.holds(place)
      case .pipe: true
      case .discard: place.index == 0 && place.offset == 0
      }
    guard fits, place.count <= constructedCount - place.consumed else {
      throw MemoryError(.invalid, .positionOutOfRange, place.consumed)
    }
    if case .pipe(let ring) = backing {
      try ring.move(&cursor, to: place)
    } else {
      cursor = place
    }
  }
}
