//===----------------------------------------------------------------------===//
// A user segment (struct iovec) and the limits of one transfer.
//===----------------------------------------------------------------------===//

public import PageFrames

/// A stretch of user memory (struct iovec). Any length from 0 is fine; it is
/// the iterator that refuses what it cannot use.
@frozen
public struct UserSegment: Hashable, Sendable, BitwiseCopyable {
  public var base: UserAddress
  public var length: ByteCount

  @inlinable
  public init(base: UserAddress, length: ByteCount) {
    self.base = base
    self.length = length
  }

  /// The most segments that one iterator takes (UIO_MAXIOV).
  public static var limit: Int { 1024 }
  /// Bytes that one entry takes in user memory: pointer and length.
  public static var stride: Int { 16 }
}

extension ByteCount {
  /// The most that one transfer moves: 0x7ffff000 (MAX_RW_COUNT).
  @inlinable
  public static var maximumTransfer: ByteCount { ByteCount(0x7fff_f000) }
}

extension PageCount {
  /// No limit on pages.
  @inlinable
  public static var unlimited: PageCount { PageCount(Int.max) }
}

extension UserSegment {
  /// Refuses what no call could use: negative lengths and ranges that wrap.
  func check() throws(MemoryError) {
    guard length >= 0 else { throw MemoryError(.invalid, .segmentTooLong, length.rawValue) }
    guard !base.rawValue.addingReportingOverflow(UInt64(length.rawValue)).overflow else {
      throw MemoryError(.invalid, .rangeWraps, base)
    }
  }
}
