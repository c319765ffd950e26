//===----------------------------------------------------------------------===//
// Distinct types for the numbers of this field, so that an address is never a
// length and a page never a byte.
//===----------------------------------------------------------------------===//

internal import CShims

/// The size of a page: 4,096 bytes.
public let pageSize = 4096
/// log2 of `pageSize`.
public let pageShift = 12

/// An address in an emulated address space. Not a pointer: the program's own
/// pointer for it comes from the address space.
@frozen
public struct UserAddress: RawRepresentable, Hashable, Comparable, Sendable {
  public var rawValue: UInt64

  @inlinable
  public init(rawValue: UInt64) { self.rawValue = rawValue }
  @inlinable
  public init(_ rawValue: UInt64) { self.rawValue = rawValue }

  @inlinable
  public static func < (a: Self, b: Self) -> Bool { a.rawValue < b.rawValue }

  /// The first byte of the page that this address lies in.
  @inlinable
  public var pageStart: UserAddress { UserAddress(rawValue & ~0xfff) }
  /// The distance from `pageStart`: 0 ... 4095.
  @inlinable
  public var pageOffset: Int { Int(rawValue & 0xfff) }
  @inlinable
  public var isPageAligned: Bool { rawValue & 0xfff == 0 }

  /// The address `count` bytes on. Wraps at 2^64, as the kernel's arithmetic
  /// does; whoever takes an address from outside checks its range.
  @inlinable
  public static func + (a: Self, count: ByteCount) -> Self {
    UserAddress(a.rawValue &+ UInt64(bitPattern: Int64(count.rawValue)))
  }
  /// The distance in bytes from `b` up to `a`.
  @inlinable
  public static func - (a: Self, b: Self) -> ByteCount {
    ByteCount(Int(truncatingIfNeeded: a.rawValue &- b.rawValue))
  }
}

extension UserAddress: CustomStringConvertible {
  public var description: String { "0x" + String(rawValue, radix: 16) }
}

/// A number of bytes.
@frozen
public struct ByteCount: RawRepresentable, Hashable, Comparable, Sendable,
  ExpressibleByIntegerLiteral
{
  public var rawValue: Int

  @inlinable
  public init(rawValue: Int) { self.rawValue = rawValue }
  @inlinable
  public init(_ rawValue: Int) { self.rawValue = rawValue }
  @inlinable
  public init(integerLiteral value: Int) { self.rawValue = value }

  @inlinable
  public static func < (a: Self, b: Self) -> Bool { a.rawValue < b.rawValue }
  @inlinable
  public static func + (a: Self, b: Self) -> Self { Self(a.rawValue + b.rawValue) }
  @inlinable
  public static func - (a: Self, b: Self) -> Self { Self(a.rawValue - b.rawValue) }
  @inlinable
  public static func += (a: inout Self, b: Self) { a.rawValue += b.rawValue }
  @inlinable
  public static func -= (a: inout Self, b: Self) { a.rawValue -= b.rawValue }

  @inlinable
  public static func pages(_ count: Int) -> Self { Self(count << 12) }
  @inlinable
  public static func kibibytes(_ count: Int) -> Self { Self(count << 10) }
  @inlinable
  public static func mebibytes(_ count: Int) -> Self { Self(count << 20) }
  @inlinable
  public static func gibibytes(_ count: Int) -> Self { Self(count << 30) }
}

extension ByteCount: CustomStringConvertible {
  public var description: String { String(rawValue) }
}

/// A number of 4 KiB pages.
@frozen
public struct PageCount: RawRepresentable, Hashable, Comparable, Sendable,
  ExpressibleByIntegerLiteral
{
  public var rawValue: Int

  @inlinable
  public init(rawValue: Int) { self.rawValue = rawValue }
  @inlinable
  public init(_ rawValue: Int) { self.rawValue = rawValue }
  @inlinable
  public init(integerLiteral value: Int) { self.rawValue = value }
  /// The pages that `byteCount` bytes from an offset into a page touch:
  /// `ceil(offset + byteCount)`.
  @inlinable
  public init(covering byteCount: ByteCount, from offset: Int = 0) {
    let bytes = UInt(bitPattern: byteCount.rawValue) &+ UInt(bitPattern: offset)
    self.rawValue = Int(bitPattern: (bytes &+ 4095) >> 12)
  }

  @inlinable
  public static func < (a: Self, b: Self) -> Bool { a.rawValue < b.rawValue }
  @inlinable
  public static func + (a: Self, b: Self) -> Self { Self(a.rawValue + b.rawValue) }
  @inlinable
  public static func - (a: Self, b: Self) -> Self { Self(a.rawValue - b.rawValue) }

  /// The bytes of that many whole pages.
  @inlinable
  public var byteCount: ByteCount { ByteCount(rawValue << 12) }
}

extension PageCount: CustomStringConvertible {
  public var description: String { String(rawValue) }
}

/// The number of a frame of a machine's physical memory (the kernel's pfn).
@frozen
public struct PageFrameNumber: RawRepresentable, Hashable, Comparable, Sendable {
  public var rawValue: UInt64

  @inlinable
  public init(rawValue: UInt64) { self.rawValue = rawValue }
  @inlinable
  public init(_ rawValue: UInt64) { self.rawValue = rawValue }

  @inlinable
  public static func < (a: Self, b: Self) -> Bool { a.rawValue < b.rawValue }
}

extension PageFrameNumber: CustomStringConvertible {
  public var description: String { "pfn " + String(rawValue) }
}

/// A half-open range of user addresses.
@frozen
public struct UserRange: Hashable, Sendable {
  public var start: UserAddress
  public var end: UserAddress

  @inlinable
  public init(start: UserAddress, end: UserAddress) {
    self.start = start
    self.end = end
  }
  @inlinable
  public init(start: UserAddress, length: ByteCount) {
    self.start = start
    self.end = start + length
  }

  @inlinable
  public var length: ByteCount { end - start }
  /// The pages it touches, counted from the page its start lies in.
  @inlinable
  public var pageCount: PageCount { PageCount(covering: length, from: start.pageOffset) }
  @inlinable
  public func contains(_ address: UserAddress) -> Bool { address >= start && address < end }
}

extension UserRange: CustomStringConvertible {
  public var description: String { "\(start)..<\(end)" }
}
