//===----------------------------------------------------------------------===//
// Lists of segments: what IOVEC, KVEC, BVEC and FOLIOQ have in common.
//
// Invariant, kept from construction on: the segments from the cursor on hold at
// least `cursor.count` bytes. So a walk for `count` bytes never runs off the
// end, whatever the arguments of the call.
//===----------------------------------------------------------------------===//

import PageFrames

/// One segment: `byteLength` bytes from `start` on.
protocol Segment: Sendable, BitwiseCopyable {
  /// Where it starts: an address, or an offset that pages are counted from. Its
  /// low 12 bits are the offset in its first page.
  var start: UInt64 { get }
  /// Bytes, from 0.
  var byteLength: Int { get }
}

/// A stretch of memory as extraction and copying want it: not empty, and
/// contiguous in pages from the first one on.
struct Stretch {
  /// The low 12 bits are the offset in the first page.
  var start: UInt64
  var length: Int
}

/// The backing of an iterator over segments. The cursor's offset counts from
/// the start of its segment.
struct Segments<Element: Segment>: Sendable {
  let list: SegmentList<Element>
  /// Bytes of the list that lie before the iterator's own start.
  var before = 0

  /// The bytes that all segments hold.
  /// - Throws: EINVAL for a negative length or a sum that overflows.
  static func total(of list: SegmentList<Element>) throws(MemoryError) -> Int {
    var total = 0
    for index in 0..<list.count {
      let length = list[index].byteLength
      let (sum, overflow) = total.addingReportingOverflow(length)
      guard length >= 0, !overflow else {
        throw MemoryError(.invalid, .segmentTooLong, length)
      }
      total = sum
    }
    return total
  }

  /// The first place that is not exhausted. `count` > 0.
  @inline(__always)
  func skipExhausted(_ cursor: Cursor) -> (index: Int, offset: Int) {
    var index = cursor.index
    var offset = cursor.offset
    while list[index].byteLength == offset {
      index += 1
      offset = 0
    }
    return (index, offset)
  }

  /// What is left of the first segment that is not exhausted. `count` > 0.
  @inline(__always)
  func stretch(at cursor: Cursor) -> Stretch {
    let (index, offset) = skipExhausted(cursor)
    return Stretch(
      start: list[index].start &+ UInt64(offset),
      length: min(list[index].byteLength - offset, cursor.count))
  }

  /// Steps over exactly consumed and zero-length segments too, even for size 0.
  func advance(_ cursor: inout Cursor, by size: Int) {
    var rest = cursor.offset + size
    while cursor.index < list.count, rest >= list[cursor.index].byteLength {
      rest -= list[cursor.index].byteLength
      cursor.index += 1
    }
    cursor.offset = rest
  }

  /// Restores the byte position; with zero-length segments about, not always
  /// the same pair of segment and offset.
  func revert(_ cursor: inout Cursor, by size: Int) {
    if size <= cursor.offset {
      cursor.offset -= size
      return
    }
    var rest = size - cursor.offset
    cursor.index -= 1
    while rest > list[cursor.index].byteLength {
      rest -= list[cursor.index].byteLength
      cursor.index -= 1
    }
    cursor.offset = list[cursor.index].byteLength - rest
  }

  /// Is this a place that the cursor of these segments can have?
  func holds(_ cursor: Cursor) -> Bool {
    guard cursor.index >= 0, cursor.index <= list.count, cursor.offset >= 0 else { return false }
    var bytes = -before
    for index in 0..<cursor.index { bytes += list[index].byteLength }
    let room = cursor.index < list.count ? list[cursor.index].byteLength : 0
    return cursor.offset <= room && bytes + cursor.offset == cursor.consumed
  }

  // MARK: - Questions

  /// Calls `body` with each segment's part until `count` bytes are seen: what
  /// is left of it, cut to the count. Stops when `body` says false.
  @inline(__always)
  private func forEachPart(
    at cursor: Cursor, _ body: (_ start: UInt64, _ length: Int) -> Bool
  ) {
    var rest = cursor.count
    var skip = cursor.offset
    for index in cursor.index..<list.count {
      let length = min(list[index].byteLength - skip, rest)
      guard body(list[index].start &+ UInt64(skip), length) else { return }
      rest -= length
      if rest == 0 { return }
      skip = 0
    }
  }

  /// - Parameter countingEmpty: a part without bytes that starts inside a page
  ///   counts as one page, as the kernel counts bvecs.
  func pageCount(at cursor: Cursor, limit: Int, countingEmpty: Bool) -> Int {
    var sum = 0
    forEachPart(at: cursor) { start, length in
      if length > 0 || countingEmpty { sum += pages(covering: length, from: start) }
      return sum < limit
    }
    return min(sum, limit)
  }

  func isAligned(at cursor: Cursor, startMask: UInt64, lengthMask: UInt64) -> Bool {
    var aligned = true
    forEachPart(at: cursor) { start, length in
      aligned = UInt64(length) & lengthMask == 0 && start & startMask == 0
      return aligned
    }
    return aligned
  }

  /// - Parameter countingEmpty: the starts of parts without bytes count too, as
  ///   the kernel counts bvecs.
  func alignment(at cursor: Cursor, countingEmpty: Bool) -> UInt64 {
    var bits: UInt64 = 0
    forEachPart(at: cursor) { start, length in
      if length > 0 || countingEmpty { bits |= start | UInt64(length) }
      return true
    }
    return bits
  }

  func gapAlignment(at cursor: Cursor) -> UInt64 {
    var bits: UInt64 = 0
    var previousEnd: UInt64?
    forEachPart(at: cursor) { start, length in
      guard length > 0 else { return true }
      if let previousEnd { bits |= start | previousEnd }
      previousEnd = start &+ UInt64(length)
      return true
    }
    return bits
  }
}

/// The pages that `length` bytes from `start` touch: ceil(offset + length).
@inline(__always)
func pages(covering length: Int, from start: UInt64) -> Int {
  Int((UInt64(length) &+ (start & 0xfff) &+ 0xfff) >> 12)
}
