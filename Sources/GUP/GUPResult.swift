//===----------------------------------------------------------------------===//
// GUPResult: progress and error together. Any collected page wins over a later
// error (semantics C.6), but the reason for stopping is not lost.
//===----------------------------------------------------------------------===//

public import PageFrames

/// What a GUP call took.
@frozen
public struct GUPResult: Sendable, Equatable {
  /// Pages taken, in address order from the page that the start lies in: the
  /// first `pageCount` slots of the list hold them, the others are
  /// indeterminate.
  public let pageCount: Int
  /// Nil when every page was taken; else why it stopped, with the address of
  /// the first page that was not taken as its value.
  public let stop: MemoryError?

  @inlinable
  public init(pageCount: Int, stop: MemoryError? = nil) {
    self.pageCount = pageCount
    self.stop = stop
  }

  /// Did it take every page that was asked for?
  @inlinable
  public var isComplete: Bool { stop == nil }
}
