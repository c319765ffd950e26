//===----------------------------------------------------------------------===//
// What the tests of this room share: a machine of one's own that must be left
// as it was found, the four ways to extract, and the contract I1 to I7.
//===----------------------------------------------------------------------===//

import AddressSpaces
import PageExtraction
import PageFrames
import Testing

/// Runs `body` on an address space of a machine of its own, and then proves that
/// every pin and reference was given back and every frame is free again.
func withSpace(
  capacity: ByteCount = .mebibytes(32), _ body: (AddressSpace) throws -> Void
) throws {
  let memory = try PhysicalMemory(capacity: capacity, trapTier: .none)
  let free = memory.freeFrameCount
  let space = try AddressSpace(memory: memory)
  let failure = Result { try body(space) }
  space.exit()
  if case .failure(let error) = failure { throw error }
  let counters = memory.counters
  #expect(counters.pinsAcquired == counters.pinsReleased)
  #expect(counters.referencesAcquired == counters.referencesReleased)
  #expect(memory.freeFrameCount == free)
}

/// A way to extract from a user buffer.
struct Way: Sendable, CustomTestStringConvertible {
  let kind: IOVIter.Kind
  let direction: Direction
  let dialect: Dialect

  static let all: [Way] = IOVIter.Kind.allCases.filter(\.isUserBacked).flatMap { kind in
    Direction.allCases.flatMap { direction in
      Dialect.allCases.map { Way(kind: kind, direction: direction, dialect: $0) }
    }
  }
  /// The ways that take pages for a device to write.
  static let destinations = all.filter { $0.direction == .destination }
  static let sources = all.filter { $0.direction == .source }
  static let segmented = all.filter { $0.kind == .iovec }

  var testDescription: String { "\(dialect) \(kind) \(direction)" }

  /// What table 1.1 says that it holds.
  var retention: Retention {
    dialect == .rfc && direction == .source ? .referenced : .pinned
  }

  /// An iterator over one buffer: of the way's kind.
  func iterator(_ base: UserAddress, _ count: ByteCount, in space: AddressSpace) throws -> IOVIter {
    kind == .ubuf
      ? try IOVIter(ubuf: base, count: count, direction: direction, in: space, dialect: dialect)
      : try iterator([UserSegment(base: base, length: count)], in: space)
  }

  func iterator(
    _ segments: [UserSegment], count: ByteCount? = nil, in space: AddressSpace
  ) throws -> IOVIter {
    try IOVIter(
      iovec: segments, count: count, direction: direction, in: space, dialect: dialect)
  }
}

/// The byte that `fill` puts at an address.
func pattern(_ address: UInt64) -> UInt8 {
  UInt8(truncatingIfNeeded: address &* 0x9e37_79b9_7f4a_7c15 >> 56)
}

extension AddressSpace {
  /// Writes each byte's pattern into a range by explicit faults.
  func fill(_ start: UserAddress, _ length: ByteCount) throws {
    let bytes = (0..<length.rawValue).map { pattern(start.rawValue + UInt64($0)) }
    try unsafe bytes.withUnsafeBytes { try unsafe copyToUser(start, from: $0) }
  }

  func bytes(_ start: UserAddress, _ length: ByteCount) throws -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: length.rawValue)
    try unsafe bytes.withUnsafeMutableBytes { try unsafe copyFromUser($0, from: start) }
    return bytes
  }

  /// A fresh area of `pages` pages filled with the pattern.
  func filledArea(_ pages: Int) throws -> UserAddress {
    let base = try map(length: .pages(pages))
    try fill(base, .pages(pages))
    return base
  }

  /// Holds that are out now.
  var outstanding: Int { memory.counters.outstanding }
}

/// The contract of semantics part A, for one extraction that took `before` to
/// `after`.
func expectContract(
  _ result: ExtractionResult, from before: IOVIter, to after: IOVIter,
  maxSize: ByteCount = .maximumTransfer, maxPages: PageCount = .unlimited,
  sourceLocation: SourceLocation = #_sourceLocation
) {
  func check(_ condition: Bool, _ rule: Comment) {
    #expect(condition, rule, sourceLocation: sourceLocation)
  }
  let length = result.length
  check(
    length >= 0 && length <= maxSize && length <= before.count && length <= .maximumTransfer, "I1")
  check(result.offset >= 0 && result.offset < pageSize, "I2")
  let needed = length == 0 ? 0 : PageCount(covering: length, from: result.offset)
  check(result.pageCount == needed.rawValue && needed <= maxPages, "I3")
  check(after.count == before.count - length, "I4: count")
  var moved = before
  try? moved.advance(by: length)
  let standsThere =
    length == 0
    ? after.saveState() == before.saveState() : after.saveState() == moved.saveState()
  check(standsThere, "I4: position")
  check(result.retention == before.extractMode, "I5")
  if length == 0 {
    switch result.stop {
    case .complete, .sizeLimit, .hole, .entry: break
    default: check(false, "I7")
    }
  }
}
