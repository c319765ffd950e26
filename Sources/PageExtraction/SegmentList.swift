//===----------------------------------------------------------------------===//
// SegmentList: the segments of an iterator, its own or somebody else's memory.
// A C caller's segments stay where they are, as in the kernel: an iterator that
// lives on a C stack has no end at which a copy could be freed.
//===----------------------------------------------------------------------===//

/// Segments in consecutive memory. An access beyond the last one traps, so that
/// no change of the segments makes a walk leave them.
@safe
struct SegmentList<Element: BitwiseCopyable>: @unchecked Sendable {
  private let base: UnsafePointer<Element>?
  let count: Int
  /// Whose memory it is; nil where the iterator's maker keeps it.
  private let owner: SegmentMemory<Element>?

  /// A copy of an array.
  init(_ segments: [Element]) {
    let owner = segments.isEmpty ? nil : SegmentMemory(segments)
    unsafe self.base = owner.map { unsafe UnsafePointer($0.base) }
    self.count = segments.count
    self.owner = owner
  }

  /// Memory that outlives every copy of this and does not change meanwhile.
  init(borrowing segments: UnsafeBufferPointer<Element>) {
    unsafe self.base = segments.baseAddress
    self.count = segments.count
    self.owner = nil
  }

  @inline(__always)
  subscript(index: Int) -> Element {
    precondition(index >= 0 && index < count, "no such segment")
    return unsafe base.unsafelyUnwrapped[index]
  }
}

/// The memory of a list that is its own.
@safe
private final class SegmentMemory<Element: BitwiseCopyable>: @unchecked Sendable {
  let base: UnsafeMutablePointer<Element>

  init(_ segments: [Element]) {
    unsafe base = .allocate(capacity: segments.count)
    for index in segments.indices { unsafe (base + index).initialize(to: segments[index]) }
  }

  deinit { unsafe base.deallocate() }
}
