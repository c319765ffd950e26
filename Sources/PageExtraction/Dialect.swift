//===----------------------------------------------------------------------===//
// The two generations of the interface, so that both can be tried on one buffer.
//===----------------------------------------------------------------------===//

internal import CShims
public import PageFrames

/// Whose rules an iterator's extractions follow (semantics 1.1).
public enum Dialect: UInt8, Sendable, CaseIterable {
  /// The request for comments of October 2022: data that leaves a user buffer
  /// is held by references, data that enters it by pins.
  case rfc
  /// Linux 6.12 and later: user buffers are always pinned.
  case upstream
}

extension PhysicalMemory {
  /// The dialect of iterators that are made without naming one; `.rfc` on a new
  /// machine. Changing it does not change iterators that exist. Thread-safe.
  public var defaultDialect: Dialect {
    get {
      Dialect(
        rawValue: UInt8(truncatingIfNeeded: unsafe cshims_default_dialect(machine.header)))
        ?? .rfc
    }
    set {
      guard machine.isOwn else { return }
      unsafe cshims_default_dialect_set(machine.header, UInt32(newValue.rawValue))
    }
  }
}
