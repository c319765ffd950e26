//===----------------------------------------------------------------------===//
// Fault injection: named places that can be told to fail on their n-th passage.
//
// The points of a machine live in its header, so tests that run side by side
// do not meet. Off, a point costs the same predicted branch as an event.
//===----------------------------------------------------------------------===//

public import CShims

/// A place that can be told to fail.
public enum FailurePoint: UInt32, Sendable, CaseIterable {
  /// The frame allocator has no frame.
  case frameAllocation
  /// The metadata arena has no memory (page tables, areas, index nodes).
  case metadataAllocation
  /// A page list cannot be allocated.
  case pageListAllocation
  /// The fault handler cannot bring the page in.
  case fault
  /// A page refuses the count that GUP wants to take.
  case grab
  /// The host refuses a mapping.
  case hostMapping
  /// A list that must grow while pages are held cannot.
  case listGrowth
}

extension UnsafeMutablePointer<cshims_machine> {
  /// Counts a passage of `point` and says whether it must fail now.
  @inlinable
  public func fails(at point: FailurePoint) -> Bool {
    guard unsafe cshims_instrumented(self) else { return false }
    return unsafe cshims_failure_point_fires(self, point.rawValue)
  }
}
