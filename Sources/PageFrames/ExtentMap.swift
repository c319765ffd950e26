//===----------------------------------------------------------------------===//
// What is free of a range of numbers: spans of frames, IO virtual addresses.
// The free extents are an interval tree without a payload, neighbours always
// joined, so there is one node per gap and none when everything is taken.
//
// No locks: the owner holds one.
//===----------------------------------------------------------------------===//

/// The free numbers of a range of UInt64 as maximal extents.
///
/// Like the tree it is made of, it lives and is changed where its owner keeps
/// it, and is ended by `removeAll`. It begins with nothing free: `release` gives
/// it its range. The unit (bytes, frames) is the owner's.
///
/// A change that cuts an extent in two, or frees an island, needs one node. If
/// the arena has none, the call fails and nothing has changed.
@safe
public struct ExtentMap: BitwiseCopyable {
  internal struct Nothing: BitwiseCopyable {}
  internal typealias Extent = IntervalTree<Nothing>.NodePointer

  internal var extents: IntervalTree<Nothing>
  /// How many numbers are free.
  public private(set) var freeTotal: UInt64

  /// A map with nothing free; allocates nothing.
  public init(arena: Arena) {
    extents = IntervalTree(arena: arena)
    freeTotal = 0
  }

  /// The length of the longest free extent; 0 when nothing is free. O(1).
  public var largest: UInt64 { extents.longest }
  /// How many free extents there are.
  public var count: Int { extents.count }

  /// Is all of [start, start + length) free? False for an empty or wrapping
  /// range. O(log n).
  public func contains(start: UInt64, length: UInt64) -> Bool {
    unsafe extent(around: start, length) != nil
  }

  /// The lowest free extent that ends after `value`, as [start, end). O(log n).
  public func extent(atOrAfter value: UInt64) -> (start: UInt64, end: UInt64)? {
    guard let extent = unsafe extents.first(atOrAfter: value) else { return nil }
    return unsafe (extent.pointee.start, extent.pointee.end)
  }

  /// Takes `length` numbers from a multiple of `alignment` on, which must be a
  /// power of two.
  ///
  /// It is the lowest fit when one of the sixteen lowest extents that are long
  /// enough for `length` has an aligned place; else the lowest extent that is
  /// long enough for any place serves, else whatever fits at all.
  ///
  /// - Returns: where, or `nil` when there is no aligned fit, `length` is 0,
  ///   `alignment` is not a power of two, or the arena has no node.
  /// - Complexity: O(log n); O(n log n) when many extents are long enough, but
  ///   every one of them for its misalignment too short.
  public mutating func allocate(length: UInt64, alignment: UInt64 = 1) -> UInt64? {
    guard length > 0, alignment.nonzeroBitCount == 1,
      let (extent, start) = unsafe fit(length, alignment),
      unsafe carve(extent, start, length)
    else { return nil }
    return start
  }

  /// Takes [start, start + length) if all of it is free; false if not, for an
  /// empty or wrapping range, and when the arena has no node. O(log n).
  public mutating func allocate(at start: UInt64, length: UInt64) -> Bool {
    guard let extent = unsafe extent(around: start, length) else { return false }
    return unsafe carve(extent, start, length)
  }

  /// Makes [start, start + length) free. False, and nothing has changed, when
  /// any of it is free already, the range is empty or wraps, or it touches no
  /// free extent and the arena has no node. O(log n).
  public mutating func release(start: UInt64, length: UInt64) -> Bool {
    let (end, wraps) = start.addingReportingOverflow(length)
    guard length > 0, !wraps else { return false }
    let above = unsafe extents.first(atOrAfter: start)
    if let above = unsafe above, unsafe above.pointee.start < end { return false }
    let below = unsafe extents.last(before: start)
    let upper = unsafe above?.pointee.start == end ? above : nil
    let lower = unsafe below?.pointee.end == start ? below : nil
    switch unsafe (lower, upper) {
    case (let lower?, let upper?):
      let upperEnd = unsafe upper.pointee.end
      unsafe extents.remove(upper)
      unsafe extents.setBounds(lower, lower.pointee.start, upperEnd)
    case (let lower?, nil):
      unsafe extents.setBounds(lower, lower.pointee.start, end)
    case (nil, let upper?):
      unsafe extents.setBounds(upper, start, upper.pointee.end)
    case (nil, nil):
      guard let island = try? unsafe extents.makeNode() else { return false }
      unsafe extents.insert(start, end, Nothing(), using: island)
    }
    freeTotal += length
    return true
  }

  /// Forgets every extent and frees the nodes: nothing is free any more. O(n).
  public mutating func removeAll() {
    extents.removeAll()
    freeTotal = 0
  }

  /// The free extent that has all of [start, start + length).
  private func extent(around start: UInt64, _ length: UInt64) -> Extent? {
    let (end, wraps) = start.addingReportingOverflow(length)
    guard length > 0, !wraps, let extent = unsafe extents.find(containing: start),
      unsafe end <= extent.pointee.end
    else { return nil }
    return unsafe extent
  }

  /// Where `length` numbers fit at a multiple of `alignment`.
  private func fit(_ length: UInt64, _ alignment: UInt64) -> (Extent, UInt64)? {
    var candidate = unsafe extents.first(ofLengthAtLeast: length)
    var tries = 0
    while let extent = unsafe candidate {
      if let start = unsafe Self.place(length, alignment, in: extent) {
        return unsafe (extent, start)
      }
      tries += 1
      if tries == 16 {
        // With alignment - 1 to spare an extent fits wherever it begins.
        let (ample, wraps) = length.addingReportingOverflow(alignment - 1)
        if !wraps, let extent = unsafe extents.first(ofLengthAtLeast: ample),
          let start = unsafe Self.place(length, alignment, in: extent)
        {
          return unsafe (extent, start)
        }
      }
      unsafe candidate = extents.next(after: extent, ofLengthAtLeast: length)
    }
    return nil
  }

  private static func place(_ length: UInt64, _ alignment: UInt64, in extent: Extent) -> UInt64? {
    let (lower, upper) = unsafe (extent.pointee.start, extent.pointee.end)
    let (padded, wraps) = lower.addingReportingOverflow(alignment - 1)
    let start = padded & ~(alignment - 1)
    return !wraps && start < upper && upper - start >= length ? start : nil
  }

  /// Cuts [start, start + length) out of `extent`, which has all of it.
  /// False, and nothing has changed, when that needs a node and there is none.
  private mutating func carve(_ extent: Extent, _ start: UInt64, _ length: UInt64) -> Bool {
    let (lower, upper) = unsafe (extent.pointee.start, extent.pointee.end)
    let end = start + length
    switch (start == lower, end == upper) {
    case (true, true):
      unsafe extents.remove(extent)
    case (true, false):
      unsafe extents.setBounds(extent, end, upper)
    case (false, true):
      unsafe extents.setBounds(extent, lower, start)
    case (false, false):
      guard let spare = try? unsafe extents.makeNode() else { return false }
      unsafe extents.setBounds(extent, lower, start)
      unsafe extents.insert(end, upper, Nothing(), using: spare)
    }
    freeTotal -= length
    return true
  }
}
