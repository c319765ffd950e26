//===----------------------------------------------------------------------===//
// A segment of the library's own view of memory (struct kvec).
//===----------------------------------------------------------------------===//

/// Bytes at an address of the window or of a `VirtualMapping` (struct kvec).
///
/// Holds nothing: whoever makes one keeps the pages and the mapping alive.
@frozen
@safe
public struct KVec: @unchecked Sendable, BitwiseCopyable {
  /// Where the bytes start: `page.bytes` or `mapping.bytes`, and inside them.
  public var base: UnsafeMutableRawPointer
  /// Bytes, from 0.
  public var length: Int

  @inlinable
  public init(base: UnsafeMutableRawPointer, length: Int) {
    unsafe self.base = base
    self.length = length
  }
}

extension KVec: Hashable {
  @inlinable
  public static func == (a: KVec, b: KVec) -> Bool {
    unsafe a.base == b.base && a.length == b.length
  }
  public func hash(into hasher: inout Hasher) {
    unsafe hasher.combine(UInt(bitPattern: base))
    hasher.combine(length)
  }
}
