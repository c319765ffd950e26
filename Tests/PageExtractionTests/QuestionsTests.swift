//===----------------------------------------------------------------------===//
// Page counts and alignments of an iterator.
//===----------------------------------------------------------------------===//

import AddressSpaces
import PageExtraction
import PageFrames
import Testing

private func iterator(
  _ parts: [(UInt64, Int)], count: ByteCount? = nil, advanced: ByteCount = 0,
  in space: AddressSpace
) throws -> IOVIter {
  var iterator = try IOVIter(
    iovec: parts.map { UserSegment(base: UserAddress($0.0), length: ByteCount($0.1)) },
    count: count, direction: .source, in: space)
  if advanced > 0 { try iterator.advance(by: advanced) }
  return iterator
}

@Suite("Questions")
struct QuestionsTests {
  @Test("A.8.5: the slots of a UBUF are counted from the page offset")
  func pageCountUBuf() throws {
    try withSpace { space in
      for (address, count, slots): (UInt64, Int, Int) in [
        (0x1000, 0, 0), (0x1fff, 0, 0), (0x1000, 1, 1), (0x1000, 4096, 1), (0x1001, 4096, 2),
        (0x1fff, 2, 2), (0x1fff, 4098, 3),
      ] {
        let iterator = try IOVIter(
          ubuf: UserAddress(address), count: ByteCount(count), direction: .source, in: space)
        #expect(iterator.pageCount() == PageCount(slots))
        #expect(iterator.pageCount(maxPages: 2) == PageCount(min(2, slots)))
        #expect(iterator.pageCount(maxPages: 0) == 0)
        #expect(iterator.pageCount(maxPages: -1) == 0)
      }
    }
  }

  @Test("A.8.5: segments add up, empty ones add nothing, a shared page counts twice")
  func pageCountIOVec() throws {
    try withSpace { space in
      let parts: [(UInt64, Int)] = [(0x1800, 0), (0x1800, 0x900), (0x2100, 0x100), (0x9000, 4096)]
      #expect(try iterator(parts, in: space).pageCount() == 4)
      #expect(try iterator(parts, in: space).pageCount(maxPages: 3) == 3)
      // From the middle of the first, to the middle of the second.
      #expect(
        try iterator(parts, count: 0x980, advanced: 0x800, in: space).pageCount() == 2)
      #expect(try iterator([(0x1800, 0)], in: space).pageCount() == 0)
      let ends = try iterator([(0, Int.max)], in: space).pageCount()
      #expect(ends == PageCount(1 << 51))
    }
  }

  @Test("A.8.6: alignment is the bits of the starts and lengths that are used")
  func alignment() throws {
    try withSpace { space in
      var ubuf = try IOVIter(ubuf: UserAddress(0x1000), count: 512, direction: .source, in: space)
      #expect(ubuf.alignment == 0x1200)
      try ubuf.advance(by: 16)
      #expect(ubuf.alignment == 0x1010 | 496)
      try ubuf.advance(by: 496)
      #expect(ubuf.alignment == 0)
      let parts: [(UInt64, Int)] = [(0x1000, 512), (0x3, 0), (0x2000, 1024)]
      #expect(try iterator(parts, in: space).alignment == 0x3600)
      // The count cuts the last length.
      #expect(try iterator(parts, count: 513, in: space).alignment == 0x3201)
      #expect(try iterator(parts, advanced: 520, in: space).alignment == 0x2008 | 1016)
    }
  }

  @Test("A.8.6: is aligned asks empty segments for their start too")
  func isAligned() throws {
    try withSpace { space in
      let ubuf = try IOVIter(ubuf: UserAddress(0x1200), count: 512, direction: .source, in: space)
      #expect(ubuf.isAligned(addressMask: 511, lengthMask: 511))
      #expect(!ubuf.isAligned(addressMask: 1023, lengthMask: 511))
      #expect(!ubuf.isAligned(addressMask: 511, lengthMask: 1023))
      let parts: [(UInt64, Int)] = [(0x1000, 512), (0x3, 0), (0x2000, 1024)]
      #expect(try !iterator(parts, in: space).isAligned(addressMask: 3, lengthMask: 511))
      #expect(try iterator(parts, in: space).isAligned(addressMask: 0, lengthMask: 511))
      // What the count does not reach is not asked.
      #expect(try iterator(parts, count: 512, in: space).isAligned(addressMask: 3, lengthMask: 511))
      #expect(
        try !iterator(parts, count: 100, in: space).isAligned(addressMask: 3, lengthMask: 511))
    }
  }

  @Test("A.8.6: gap alignment is the bits of the inner boundaries")
  func gapAlignment() throws {
    try withSpace { space in
      let ubuf = try IOVIter(ubuf: UserAddress(0x123), count: 5, direction: .source, in: space)
      #expect(ubuf.gapAlignment == 0)
      #expect(try iterator([(0x123, 5)], in: space).gapAlignment == 0)
      let parts: [(UInt64, Int)] = [(0x1234, 0xdcc), (0x7, 0), (0x3000, 0x1000), (0x8000, 5)]
      #expect(try iterator(parts, in: space).gapAlignment == 0x2000 | 0x3000 | 0x4000 | 0x8000)
      // Only boundaries that the count reaches; the place in the first segment
      // does not change where it ends.
      #expect(try iterator(parts, count: 0xdcc, in: space).gapAlignment == 0)
      #expect(
        try iterator(parts, count: 0xdcd, advanced: 0x100, in: space).gapAlignment == 0x3000)
    }
  }
}
