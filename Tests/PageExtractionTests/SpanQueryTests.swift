//===----------------------------------------------------------------------===//
// Asking how much fits, before anything is extracted.
//===----------------------------------------------------------------------===//

import AddressSpaces
import PageExtraction
import PageFrames
import TestSupport
import Testing

@Suite("Span queries")
struct SpanQueryTests {
  @Test("G: user memory counts the pages' parts", arguments: Way.all)
  func user(_ way: Way) throws {
    try withSpace { space in
      let base = try space.map(length: .pages(3))
      let iterator = try way.iterator(base + 4000, 5000, in: space)
      func span(_ start: ByteCount, _ size: ByteCount, _ segments: Int) throws -> [Int] {
        let span = try iterator.span(from: start, maxSize: size, maxSegments: segments)
        return [span.length.rawValue, span.segmentCount]
      }
      #expect(try span(0, .maximumTransfer, .max) == [5000, 3])
      #expect(try span(0, .maximumTransfer, 1) == [96, 1])
      #expect(try span(0, 97, .max) == [97, 2])
      #expect(try span(96, .maximumTransfer, 1) == [4096, 1])
      #expect(try span(100, .maximumTransfer, 1) == [4092, 1])
      #expect(try span(5000, 10, 10) == [0, 0])
      #expect(try span(0, 0, 10) == [0, 0])
      #expect(try span(0, 10, 0) == [0, 0])
      // Nothing moved, nothing was touched.
      #expect(iterator.count == 5000)
      #expect(space.page(at: base) == nil)
    }
  }

  @Test("G: what is no limit and no start is refused", arguments: Origin.segmented)
  func refused(_ origin: Origin) throws {
    try withMixedMemory { mixed in
      let iterator = try mixed.iterator(origin.kind, origin.direction, origin.dialect)
      let count = iterator.count.rawValue
      #expect(throws: MemoryError(.invalid, .positionOutOfRange, count + 1)) {
        try iterator.span(from: ByteCount(count + 1))
      }
      #expect(throws: MemoryError(.invalid, .positionOutOfRange, -1)) {
        try iterator.span(from: -1)
      }
      #expect(throws: MemoryError(.invalid, .countNegative, -1)) {
        try iterator.span(maxSize: -1)
      }
      #expect(throws: MemoryError(.invalid, .countNegative, -2)) {
        try iterator.span(maxSegments: -2)
      }
      let pipe = try mixed.iterator(.pipe, .destination, .rfc)
      #expect(errorNumber { try pipe.span() } == .inputOutput)
      let discard = try mixed.iterator(.discard, .destination, .rfc)
      #expect(errorNumber { try discard.span() } == .inputOutput)
    }
  }

  @Test(
    "G: a span is what a scatter list with these limits gets", arguments: Origin.segmented, 0..<3)
  func scatterList(_ origin: Origin, _ run: Int) throws {
    try withMixedMemory { mixed in
      try withSeededRandom(stream: UInt64(run)) { random in
        for _ in 0..<60 {
          var iterator = try mixed.iterator(origin.kind, origin.direction, origin.dialect)
          let start = ByteCount(random.below(iterator.count.rawValue + 1))
          let size = ByteCount(random.oneIn(4) ? 100_000 : random.below(12_000))
          let most = random.oneIn(4) ? 100 : random.below(6)
          let span = try iterator.span(from: start, maxSize: size, maxSegments: most)
          try iterator.advance(by: start)
          var list = try ScatterList(capacity: 20, memory: mixed.space.memory)
          let added = try iterator.extractToScatterList(&list, maxSize: size, maxEntries: most)
          try #require(added.length == span.length)
          try #require(list.entryCount == span.segmentCount)
        }
      }
    }
  }

  @Test("G: bvecs, folios and holes")
  func kernelBacked() throws {
    try withMixedMemory { mixed in
      let bvec = try mixed.iterator(.bvec, .source, .rfc)
      #expect(try bvec.span() == IOVIterSpan(length: 17_096, segmentCount: 3))
      #expect(
        try bvec.span(from: 10_000, maxSegments: 1) == IOVIterSpan(length: 4096, segmentCount: 1))
      let queue = try mixed.iterator(.folioQueue, .source, .upstream)
      #expect(try queue.span() == IOVIterSpan(length: .pages(7) - 4100, segmentCount: 3))
      #expect(
        try queue.span(maxSegments: 2) == IOVIterSpan(length: .pages(5) - 4100, segmentCount: 2))
      // The page at index 5 is missing.
      let cache = try mixed.iterator(.xarray, .source, .rfc)
      #expect(try cache.span() == IOVIterSpan(length: .pages(5) - 4200, segmentCount: 2))
      #expect(
        try cache.span(from: .pages(5) - 4200) == IOVIterSpan(length: 0, segmentCount: 0))
    }
  }
}
