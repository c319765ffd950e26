//===----------------------------------------------------------------------===//
// BVEC: the golden vectors, joins, and bytes that really move.
//===----------------------------------------------------------------------===//

import PageExtraction
import PageFrames
import TestSupport
import Testing

private let page = 4096

@Suite("BVEC")
struct BVecTests {
  struct Vector: Sendable, CustomTestStringConvertible {
    /// Page, offset, length.
    let bvecs: [(Int, Int, Int)]
    let rfc: [Golden]
    let upstream: [Golden]
    var testDescription: String { "\(bvecs)" }
  }

  /// A.9, corrected by 1.2: bvecs without bytes are transparent.
  static let vectors = [
    Vector(
      bvecs: [(9, 0, 0), (9, 0, 0), (1, 0, page)],
      rfc: [Golden(4096, 0, [1])], upstream: [Golden(4096, 0, [1])]),
    Vector(
      bvecs: [(9, 5, 0), (1, 0, page)],
      rfc: [Golden(4096, 0, [1])], upstream: [Golden(4096, 0, [1])]),
    Vector(
      bvecs: [(1, 0, page), (9, 0, 0), (2, 0, page)],
      rfc: [Golden(4096, 0, [1]), Golden(4096, 0, [2])], upstream: [Golden(8192, 0, [1, 2])]),
    Vector(
      bvecs: [(1, 4095, 2)],
      rfc: [Golden(2, 4095, [1, 2])], upstream: [Golden(2, 4095, [1, 2])]),
    Vector(
      bvecs: [(1, 4095, 8194)],
      rfc: [Golden(8194, 4095, [1, 2, 3, 4])], upstream: [Golden(8194, 4095, [1, 2, 3, 4])]),
    Vector(
      bvecs: [(10, 0, 12288), (50, 0, page)],
      rfc: [Golden(12288, 0, [10, 11, 12]), Golden(4096, 0, [50])],
      upstream: [Golden(16384, 0, [10, 11, 12, 50])]),
    Vector(
      bvecs: [(10, 0, page), (50, 100, 3996), (60, 0, page)],
      rfc: [Golden(4096, 0, [10]), Golden(3996, 100, [50]), Golden(4096, 0, [60])],
      upstream: [Golden(4096, 0, [10]), Golden(8092, 100, [50, 60])]),
    Vector(
      bvecs: [(10, 8208, 5000)],
      rfc: [Golden(5000, 16, [12, 13])], upstream: [Golden(5000, 16, [12, 13])]),
    // Any number without bytes, also inside a page, does not break a join.
    Vector(
      bvecs: [(1, 0, page), (9, 7, 0), (9, 0, 0), (8, 4095, 0), (2, 0, 10), (9, 3, 0)],
      rfc: [Golden(4096, 0, [1]), Golden(10, 0, [2])], upstream: [Golden(4106, 0, [1, 2])]),
    // Ends inside a page, or starts there: no join.
    Vector(
      bvecs: [(1, 0, 4095), (2, 0, page), (3, 1, 1)],
      rfc: [Golden(4095, 0, [1]), Golden(4096, 0, [2]), Golden(1, 1, [3])],
      upstream: [Golden(4095, 0, [1]), Golden(4096, 0, [2]), Golden(1, 1, [3])]),
  ]

  @Test(
    "A.9, F-01, F-02, F-08, F-17, F-18, A-07, A-08: the golden vectors of BVEC",
    arguments: vectors, Direction.allCases)
  func golden(_ vector: Vector, _ direction: Direction) throws {
    try withFrames { frames in
      for dialect in Dialect.allCases {
        var iterator = try IOVIter(
          bvec: vector.bvecs.map { frames.bvec($0.0, $0.1, $0.2) }, direction: direction,
          memory: frames.memory, dialect: dialect)
        let expected = dialect == .rfc ? vector.rfc : vector.upstream
        #expect(try iterator.allGolden(frames) == expected)
        #expect(iterator.count == 0)
        // And back by all of it, byte by byte the same again.
        let total = expected.reduce(0) { $0 + $1.length }
        try iterator.revert(by: ByteCount(total))
        #expect(try iterator.allGolden(frames) == expected)
      }
    }
  }

  @Test("F-11, F-18, B.2: joins go as far as the limits and no further")
  func limits() throws {
    try withFrames { frames in
      var iterator = try IOVIter(
        bvec: (0..<8).map { frames.bvec(2 * $0, 0, page) }, direction: .source,
        memory: frames.memory, dialect: .upstream)
      try iterator.advance(by: 100)
      #expect(
        try iterator.golden(frames, maxSize: 5000) == Golden(5000, 100, [0, 2]))
      #expect(try iterator.golden(frames, maxPages: 3) == Golden(11284, 1004, [2, 4, 6]))
      #expect(try iterator.extractPages(maxPages: 2).stop == .pageLimit)
      #expect(try iterator.extractPages(maxSize: 4096).stop == .sizeLimit)
      #expect(try iterator.extractPages().stop == .complete)
    }
  }

  @Test("F-12, A-10, A-32: a malformed BVEC is refused with EINVAL when it is made")
  func malformed() throws {
    try withFrames { frames in
      try withMachine { other in
        func make(_ bvecs: [BVec], _ count: ByteCount? = nil) throws {
          _ = try IOVIter(
            bvec: bvecs, count: count, direction: .source, memory: frames.memory)
        }
        let foreign = other.machine.page(600)
        #expect(throws: MemoryError(.invalid, .machineMismatch, 600)) {
          try make([BVec(page: foreign, offset: 0, length: 1)])
        }
        #expect(throws: MemoryError(.invalid, .segmentTooLong, -1)) {
          try make([frames.bvec(0, 0, 1), frames.bvec(0, 0, -1)])
        }
        #expect(throws: MemoryError(.invalid, .positionOutOfRange, -5)) {
          try make([frames.bvec(0, -5, 1)])
        }
        let machine = frames.memory.machine
        let last = machine.page(machine.frameCount - 1)
        try make([BVec(page: last, offset: 0, length: 4096)])
        #expect(throws: MemoryError(.invalid, .segmentTooLong, 4097)) {
          try make([BVec(page: last, offset: 0, length: 4097)])
        }
        #expect(throws: MemoryError(.invalid, .segmentTooLong, Int.max)) {
          try make([BVec(page: last, offset: 4096, length: Int.max)])
        }
        #expect(throws: MemoryError(.invalid, .positionOutOfRange, 4097)) {
          try make([BVec(page: last, offset: 4097, length: 0)])
        }
        #expect(throws: MemoryError(.invalid, .countBeyondSegments, 11)) {
          try make([frames.bvec(0, 0, 10)], 11)
        }
        #expect(throws: MemoryError(.invalid, .countBeyondSegments, 1)) { try make([], 1) }
        #expect(throws: MemoryError(.invalid, .countNegative, -1)) {
          try make([frames.bvec(0, 0, 10)], -1)
        }
        try make([])
      }
    }
  }

  @Test("A.8.5, A.8.6: slots and alignment, bvecs without bytes included")
  func questions() throws {
    try withFrames { frames in
      func make(_ bvecs: [BVec], _ count: ByteCount? = nil) throws -> IOVIter {
        try IOVIter(bvec: bvecs, count: count, direction: .source, memory: frames.memory)
      }
      let bvecs = [frames.bvec(0, 4608, 512), frames.bvec(3, 7, 0), frames.bvec(9, 0, 8192)]
      var iterator = try make(bvecs)
      // One without bytes that starts inside a page counts one.
      #expect(iterator.pageCount() == 4)
      #expect(iterator.pageCount(maxPages: 2) == 2)
      #expect(iterator.alignment == 4608 | 512 | 7 | 8192)
      #expect(!iterator.isAligned(addressMask: 3, lengthMask: 511))
      #expect(iterator.isAligned(addressMask: 0, lengthMask: 511))
      #expect(iterator.gapAlignment == .max)
      #expect(try make(bvecs, 512).isAligned(addressMask: 511, lengthMask: 511))
      try iterator.advance(by: 512 + 100)
      #expect(iterator.segmentCount == 1 && iterator.offset == 100)
      #expect(iterator.alignment == 100 | 8092)
      #expect(iterator.pageCount() == 2)
      #expect(try make([frames.bvec(3, 0, 0)]).pageCount() == 0)
    }
  }

  @Test("A.8.2, A.8.4: bytes move in order over bvecs, and what is copied is passed")
  func copy() throws {
    try withFrames { frames in
      let bvecs = [frames.bvec(1, 4000, 200), frames.bvec(9, 9, 0), frames.bvec(20, 5000, 300)]
      let expected =
        unsafe bytes(frames.address(1, 4000), 200) + bytes(frames.address(20, 5000), 300)
      var source = try IOVIter(bvec: bvecs, direction: .source, memory: frames.memory)
      #expect(try source.readAll() == expected)
      #expect(source.count == 0 && source.segmentCount == 0)
      var into = try IOVIter(bvec: bvecs, direction: .destination, memory: frames.memory)
      let new = (0..<600).map { UInt8(truncatingIfNeeded: $0 &* 13) }
      #expect(try into.write(new) == CopyResult(length: 500))
      #expect(
        unsafe bytes(frames.address(1, 4000), 200) + bytes(frames.address(20, 5000), 300)
          == Array(new[..<500]))
      try into.revert(by: 400)
      #expect(try into.zeroFill(150) == CopyResult(length: 150))
      #expect(unsafe bytes(frames.address(1, 4100), 100) == [UInt8](repeating: 0, count: 100))
      #expect(unsafe bytes(frames.address(20, 5050), 1) == [new[250]])
      #expect(errorNumber { try source.zeroFill(1) } == .invalid)
    }
  }

  @Test("The zero page and free frames are not written through a BVEC")
  func protected() throws {
    try withFrames { frames in
      let zero = BVec(page: frames.memory.zeroPage, offset: 0, length: 10)
      var iterator = try IOVIter(
        bvec: [frames.bvec(0, 0, 5), zero], direction: .destination, memory: frames.memory)
      let part = try iterator.zeroFill(15)
      #expect(part.length == 5 && part.stop?.number == .accessDenied)
      #expect(errorNumber { try iterator.zeroFill(10) } == .accessDenied)
      var reader = try IOVIter(bvec: [zero], direction: .source, memory: frames.memory)
      #expect(try reader.readAll() == [UInt8](repeating: 0, count: 10))
      let free = frames.memory.machine.page(frames.memory.machine.frameCount - 1)
      #expect(free.isFree)
      var lost = try IOVIter(
        bvec: [BVec(page: free, offset: 0, length: 10)], direction: .destination,
        memory: frames.memory)
      #expect(errorNumber { try lost.write([1]) } == .badAddress)
    }
  }
}
