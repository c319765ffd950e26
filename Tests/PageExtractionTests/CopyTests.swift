//===----------------------------------------------------------------------===//
// Copying through an iterator: real bytes, and progress with the error.
//===----------------------------------------------------------------------===//

import AddressSpaces
import PageExtraction
import PageFrames
import Testing

@Suite("Copy")
struct CopyTests {
  @Test(
    "Bytes go in and come out across segments; the iterator advances", arguments: Dialect.allCases)
  func roundTrip(_ dialect: Dialect) throws {
    try withSpace { space in
      let base = try space.map(length: .pages(6))
      let segments = [
        UserSegment(base: base + 4000, length: 5000), UserSegment(base: base, length: 0),
        UserSegment(base: base + 20000, length: 300),
      ]
      let bytes = (0..<6000).map { UInt8(truncatingIfNeeded: $0 &* 7) }
      var into = try IOVIter(
        iovec: segments, direction: .destination, in: space, dialect: dialect)
      let written = try unsafe bytes.withUnsafeBytes { try unsafe into.copyToIterator(from: $0) }
      #expect(written == CopyResult(length: 5300))
      #expect(into.count == 0)
      #expect(try space.bytes(base + 4000, 5000) == Array(bytes[..<5000]))
      #expect(try space.bytes(base + 20000, 300) == Array(bytes[5000..<5300]))

      var from = try IOVIter(iovec: segments, direction: .source, in: space, dialect: dialect)
      try from.advance(by: 100)
      var read = [UInt8](repeating: 0, count: 5000)
      let result = try unsafe read.withUnsafeMutableBytes {
        try unsafe from.copyFromIterator(into: $0)
      }
      #expect(result == CopyResult(length: 5000))
      #expect(read == Array(bytes[100..<5100]))
      #expect(from.count == 200)

      var zeroes = try IOVIter(
        iovec: segments, direction: .destination, in: space, dialect: dialect)
      #expect(try zeroes.zeroFill(5100) == CopyResult(length: 5100))
      #expect(try space.bytes(base + 4000, 5000).allSatisfy { $0 == 0 })
      #expect(
        try space.bytes(base + 20000, 300) == [UInt8](repeating: 0, count: 100) + bytes[5100..<5300]
      )
    }
  }

  @Test("A fault after some bytes keeps them and says where; at once, it is thrown")
  func faults() throws {
    try withSpace { space in
      let base = try space.map(length: .pages(4))
      try space.unmap(base + .pages(2), length: .pages(1))
      let hole = (base + .pages(2)).rawValue
      let bytes = [UInt8](repeating: 9, count: 3 * 4096)
      var iterator = try IOVIter(
        ubuf: base + 100, count: .pages(3), direction: .destination, in: space)
      let part = try unsafe bytes.withUnsafeBytes {
        try unsafe iterator.copyToIterator(from: $0)
      }
      #expect(part.length == 8092)
      #expect(part.stop?.number == .badAddress)
      #expect(part.stop?.value == hole)
      #expect(iterator.offset == 8092)
      #expect(try space.bytes(base + 100, 8092) == Array(bytes[..<8092]))
      #expect(errorNumber { try iterator.zeroFill(1) } == .badAddress)
      #expect(iterator.offset == 8092)
      #expect(try iterator.zeroFill(0) == CopyResult(length: 0))

      var source = try IOVIter(
        ubuf: base + .pages(1), count: .pages(2), direction: .source, in: space)
      var read = [UInt8](repeating: 0, count: 8192)
      let result = try unsafe read.withUnsafeMutableBytes {
        try unsafe source.copyFromIterator(into: $0)
      }
      #expect(result.length == 4096)
      #expect(read == [UInt8](repeating: 9, count: 4096) + [UInt8](repeating: 0, count: 4096))
    }
  }

  @Test("A copy against the direction is refused")
  func direction() throws {
    try withSpace { space in
      let base = try space.map(length: .pages(1))
      var source = try IOVIter(ubuf: base, count: 8, direction: .source, in: space)
      var destination = try IOVIter(ubuf: base, count: 8, direction: .destination, in: space)
      var bytes = [UInt8](repeating: 0, count: 8)
      let read = MemoryError(.invalid, .directionMismatch, Int(Direction.source.rawValue))
      let write = MemoryError(.invalid, .directionMismatch, Int(Direction.destination.rawValue))
      #expect(throws: read) { try source.zeroFill(8) }
      #expect(throws: read) {
        try unsafe bytes.withUnsafeBytes { try unsafe source.copyToIterator(from: $0) }
      }
      #expect(throws: write) {
        try unsafe bytes.withUnsafeMutableBytes {
          try unsafe destination.copyFromIterator(into: $0)
        }
      }
      #expect(throws: MemoryError(.invalid, .countNegative, -1)) {
        try destination.zeroFill(-1)
      }
    }
  }
}
