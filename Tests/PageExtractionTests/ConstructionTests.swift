//===----------------------------------------------------------------------===//
// What an iterator refuses to be made from, and what importing makes of a
// program's arguments.
//===----------------------------------------------------------------------===//

import AddressSpaces
import PageExtraction
import PageFrames
import Testing

private func segment(_ base: UInt64, _ length: Int) -> UserSegment {
  UserSegment(base: UserAddress(base), length: ByteCount(length))
}

@Suite("Construction")
struct ConstructionTests {
  struct Refused: Sendable, CustomTestStringConvertible {
    let testDescription: String
    let segments: [UserSegment]
    var count: ByteCount?
    let error: MemoryError
  }

  static let refused = [
    Refused(
      testDescription: "1,025 segments",
      segments: Array(repeating: segment(0x1000, 0), count: 1025),
      error: MemoryError(.invalid, .tooManySegments, 1025)),
    Refused(
      testDescription: "a negative length", segments: [segment(0x1000, 4096), segment(0x3000, -1)],
      error: MemoryError(.invalid, .segmentTooLong, -1)),
    Refused(
      testDescription: "lengths whose sum overflows",
      segments: [segment(0, Int.max), segment(0x3000, 1)],
      error: MemoryError(.invalid, .segmentTooLong, 1)),
    Refused(
      testDescription: "a range that wraps", segments: [segment(UInt64.max - 4095, 8192)],
      error: MemoryError(.invalid, .rangeWraps, UserAddress(UInt64.max - 4095))),
    Refused(
      testDescription: "F-12: count beyond the segments", segments: [segment(0x1000, 4096)],
      count: 4097, error: MemoryError(.invalid, .countBeyondSegments, 4097)),
    Refused(
      testDescription: "A-06: bytes counted in segments without any",
      segments: [segment(0x1000, 0), segment(0x2000, 0)], count: 1,
      error: MemoryError(.invalid, .countBeyondSegments, 1)),
    Refused(
      testDescription: "F-12: count without segments", segments: [], count: 1,
      error: MemoryError(.invalid, .countBeyondSegments, 1)),
    Refused(
      testDescription: "a negative count", segments: [segment(0x1000, 4096)], count: -5,
      error: MemoryError(.invalid, .countNegative, -5)),
  ]

  @Test("1.2: a malformed IOVEC is refused with EINVAL when it is made", arguments: refused)
  func malformedIOVec(_ example: Refused) throws {
    try withSpace { space in
      for direction in Direction.allCases {
        #expect(throws: example.error) {
          try IOVIter(
            iovec: example.segments, count: example.count, direction: direction, in: space)
        }
      }
    }
  }

  @Test("1.2: a malformed UBUF is refused with EINVAL when it is made")
  func malformedUBuf() throws {
    try withSpace { space in
      #expect(throws: MemoryError(.invalid, .segmentTooLong, -1)) {
        try IOVIter(ubuf: UserAddress(0x1000), count: -1, direction: .source, in: space)
      }
      #expect(throws: MemoryError(.invalid, .rangeWraps, UserAddress(UInt64.max))) {
        try IOVIter(ubuf: UserAddress(UInt64.max), count: 1, direction: .source, in: space)
      }
    }
  }

  @Test("1.2: what is at the limits is accepted", arguments: Dialect.allCases)
  func limits(_ dialect: Dialect) throws {
    try withSpace { space in
      let many = Array(repeating: segment(0x1000, 1), count: 1024)
      let iterator = try IOVIter(iovec: many, direction: .source, in: space, dialect: dialect)
      #expect(iterator.count == 1024)
      #expect(iterator.segmentCount == 1024)
      #expect(try IOVIter(iovec: [], direction: .source, in: space).count == 0)
      let long = try IOVIter(
        iovec: [segment(0, Int.max)], direction: .source, in: space, dialect: dialect)
      #expect(long.count == ByteCount(Int.max))
      let short = try IOVIter(iovec: many, count: 3, direction: .source, in: space)
      #expect(short.count == 3)
      #expect(short.dialect == .rfc)
    }
  }
}

@Suite("Import")
struct ImportTests {
  @Test("A.8.7: a buffer is cut to one transfer and must lie in user space")
  func ubuf() throws {
    try withSpace { space in
      let base = UserAddress(0x1000)
      let huge = try IOVIter.importUBuf(
        base, count: .gibibytes(3), direction: .source, in: space)
      #expect(huge.count == 0x7fff_f000)
      #expect(huge.kind == .ubuf)
      #expect(throws: MemoryError(.invalid, .countNegative, -1)) {
        try IOVIter.importUBuf(base, count: -1, direction: .source, in: space)
      }
      let top = UserAddress(0x7fff_ffff_f000)
      #expect(try IOVIter.importUBuf(top, count: 0, direction: .source, in: space).count == 0)
      for (address, count): (UserAddress, ByteCount) in [
        (top, 1), (UserAddress(0x7fff_ffff_e001), 4096), (UserAddress(UInt64.max), 1),
        (UserAddress(0xffff_8000_0000_0000), 0),
      ] {
        #expect(throws: MemoryError(.badAddress, .addressOutsideUserSpace, address)) {
          try IOVIter.importUBuf(address, count: count, direction: .source, in: space)
        }
      }
    }
  }

  @Test("A.8.7, F-12: segments are cut so that one transfer holds them, the last ones to nothing")
  func iovecTrim() throws {
    try withSpace { space in
      let gib = 1 << 30
      let iterator = try IOVIter.importIOVec(
        [segment(0x1000, gib), segment(1 << 32, gib), segment(0x5000, 100), segment(0x6000, 7)],
        direction: .destination, in: space)
      #expect(iterator.count == 0x7fff_f000)
      #expect(iterator.segmentCount == 4)
      // The second was cut by a page, the others are empty: nothing behind it.
      var moved = iterator
      try moved.advance(by: ByteCount(gib))
      #expect(moved.count == ByteCount(gib - 4096))
      try moved.advance(by: moved.count)
      #expect(moved.segmentCount == 0)
      #expect(moved.count == 0)
    }
  }

  @Test("A.8.7: no segments are fine; too many, negative and foreign ones are not")
  func iovecRefused() throws {
    try withSpace { space in
      let empty = try IOVIter.importIOVec([], direction: .source, in: space)
      #expect(empty.count == 0)
      #expect(throws: MemoryError(.invalid, .tooManySegments, 1025)) {
        try IOVIter.importIOVec(
          Array(repeating: segment(0, 0), count: 1025), direction: .source, in: space)
      }
      // The length is judged before the address.
      #expect(throws: MemoryError(.invalid, .segmentTooLong, -9)) {
        try IOVIter.importIOVec(
          [segment(UInt64.max, 8), segment(0, -9)], direction: .source, in: space)
      }
      #expect(
        throws: MemoryError(.badAddress, .addressOutsideUserSpace, UserAddress(0x7fff_ffff_f000))
      ) {
        try IOVIter.importIOVec(
          [segment(0x1000, 8), segment(0x7fff_ffff_f000, 1)], direction: .source, in: space)
      }
    }
  }

  @Test("A.8.7: the segments themselves are read from user memory")
  func iovecFromUser() throws {
    try withSpace { space in
      let data = try space.filledArea(2)
      let table = try space.map(length: .pages(1))
      let entries: [UInt64] = [data.rawValue + 10, 20, 0, 0, data.rawValue + 4096, 30]
      // Across a page boundary of nothing: the table ends with the page.
      let at = table + ByteCount(4096 - 48)
      try unsafe entries.withUnsafeBytes { try unsafe space.copyToUser(at, from: $0) }
      let iterator = try IOVIter.importIOVec(
        from: at, segmentCount: 3, direction: .source, in: space)
      #expect(iterator.count == 50)
      #expect(
        try IOVIter.segmentsFromUser(at, count: 3, in: space)
          == [segment(data.rawValue + 10, 20), segment(0, 0), segment(data.rawValue + 4096, 30)])
      // A table that runs into a hole, and counts that no table has.
      #expect(errorNumber { try IOVIter.segmentsFromUser(at, count: 4, in: space) } == .badAddress)
      #expect(try IOVIter.segmentsFromUser(UserAddress(8), count: 0, in: space).isEmpty)
      #expect(throws: MemoryError(.invalid, .tooManySegments, 1025)) {
        try IOVIter.segmentsFromUser(at, count: 1025, in: space)
      }
      #expect(throws: MemoryError(.invalid, .countNegative, -1)) {
        try IOVIter.segmentsFromUser(at, count: -1, in: space)
      }
      let negative: [UInt64] = [data.rawValue, UInt64(bitPattern: -2)]
      try unsafe negative.withUnsafeBytes { try unsafe space.copyToUser(table, from: $0) }
      #expect(throws: MemoryError(.invalid, .segmentTooLong, -2)) {
        try IOVIter.importIOVec(from: table, segmentCount: 1, direction: .source, in: space)
      }
      try space.unmap(data, length: .pages(2))
      try space.unmap(table, length: .pages(1))
    }
  }
}

/// The errno that a call throws, nil when it does not.
func errorNumber<R>(_ body: () throws -> R) -> ErrorNumber? {
  do {
    _ = try body()
    return nil
  } catch {
    return (error as? MemoryError)?.number
  }
}
