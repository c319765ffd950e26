//===----------------------------------------------------------------------===//
// KVEC: addresses of the window and of virtual mappings.
//===----------------------------------------------------------------------===//

import PageExtraction
import PageFrames
import TestSupport
import Testing

@Suite("KVEC")
struct KVecTests {
  private func iterator(
    _ kvecs: [KVec], _ frames: Frames, _ direction: Direction = .source,
    _ dialect: Dialect = .upstream
  ) throws -> IOVIter {
    try IOVIter(kvec: kvecs, direction: direction, memory: frames.memory, dialect: dialect)
  }

  @Test("A-30: KVEC is refused in the RFC's dialect when it has bytes, and only then")
  func rfc() throws {
    try withFrames { frames in
      let kvec = unsafe KVec(base: frames.address(0), length: 10)
      var some = try iterator([kvec], frames, .source, .rfc)
      #expect(errorNumber { try some.extractPages().release() } == .badAddress)
      #expect(try some.extractPages(maxSize: 0).isEmpty)
      #expect(some.count == 10)
      var none = try iterator(
        [unsafe KVec(base: frames.address(0), length: 0)], frames, .source, .rfc)
      #expect(try none.extractPages().isEmpty)
    }
  }

  @Test("F-01, F-03, B.2: one segment a call, the offset is the address's, empty ones are passed")
  func window() throws {
    try withFrames { frames in
      var iterator = try iterator(
        unsafe [
          KVec(base: frames.address(9, 3), length: 0), KVec(base: frames.address(9), length: 0),
          KVec(base: frames.address(2, 4000), length: 5000),
          KVec(base: frames.address(4, 8), length: 0),
          KVec(base: frames.address(7), length: 4096),
        ], frames)
      #expect(
        try iterator.allGolden(frames) == [
          Golden(5000, 4000, [2, 3, 4]), Golden(4096, 0, [7]),
        ])
      try iterator.revert(by: 4096 + 1000)
      #expect(try iterator.golden(frames) == Golden(1000, 3904, [3, 4]))
    }
  }

  @Test("B.2: a scattered mapping lists its pages in the order of its addresses")
  func scattered() throws {
    try withFrames { frames in
      let numbers = [5, 40, 6, 7, 3, 40]
      let mapping = try VirtualMapping(numbers.map { frames[$0] }, memory: frames.memory)
      let base = unsafe mapping.bytes.baseAddress!
      let kvec = unsafe KVec(base: base + 100, length: 6 * 4096 - 200)
      var iterator = try iterator([kvec], frames)
      #expect(try iterator.golden(frames, maxPages: 4) == Golden(16284, 100, [5, 40, 6, 7]))
      #expect(try iterator.golden(frames) == Golden(8092, 0, [3, 40]))
      try iterator.revert(by: 8092)
      let expected = unsafe bytes(frames.address(3), 4096) + bytes(frames.address(40), 3996)
      #expect(try iterator.readAll() == expected)
      var into = try self.iterator([kvec], frames, .destination)
      try into.advance(by: 3990)
      #expect(try into.write([1, 2, 3, 4, 5, 6, 7, 8, 9]) == CopyResult(length: 9))
      #expect(unsafe bytes(frames.address(5, 4090), 6) == [1, 2, 3, 4, 5, 6])
      #expect(unsafe bytes(frames.address(40), 3) == [7, 8, 9])
    }
  }

  @Test("1.2: addresses that the machine does not show are refused when it is made")
  func malformed() throws {
    try withFrames { frames in
      let own = UnsafeMutableRawPointer.allocate(byteCount: 8, alignment: 8)
      defer { unsafe own.deallocate() }
      #expect(throws: MemoryError(.invalid, .notKernelAddress, UInt64(UInt(bitPattern: own)))) {
        try iterator([unsafe KVec(base: own, length: 8)], frames)
      }
      // Without bytes any address will do.
      _ = try iterator([unsafe KVec(base: own, length: 0)], frames)
      #expect(throws: MemoryError(.invalid, .segmentTooLong, -1)) {
        try iterator([unsafe KVec(base: frames.address(0), length: -1)], frames)
      }
      #expect(throws: MemoryError(.invalid, .segmentTooLong, 1 << 40)) {
        try iterator([unsafe KVec(base: frames.address(0), length: 1 << 40)], frames)
      }
      let mapping = try VirtualMapping([frames[1], frames[0]], memory: frames.memory)
      let base = unsafe mapping.bytes.baseAddress!
      _ = try iterator([unsafe KVec(base: base, length: 8192)], frames)
      let end = UInt64(UInt(bitPattern: base)) + 8192
      #expect(throws: MemoryError(.invalid, .notKernelAddress, end)) {
        try iterator([unsafe KVec(base: base, length: 8193)], frames)
      }
      #expect(throws: MemoryError(.invalid, .countBeyondSegments, 2)) {
        try IOVIter(
          kvec: [unsafe KVec(base: frames.address(0), length: 1)], count: 2, direction: .source,
          memory: frames.memory)
      }
    }
  }

  @Test("A mapping that is gone ends an extraction and a copy; nothing is touched")
  func unmapped() throws {
    try withFrames { frames in
      var mapping: VirtualMapping? = try VirtualMapping([frames[1]], memory: frames.memory)
      let kvec = unsafe KVec(base: mapping!.bytes.baseAddress!, length: 4096)
      var iterator = try iterator([kvec], frames)
      mapping = nil
      #expect(mapping == nil)
      #expect(errorNumber { try iterator.extractPages().release() } == .badAddress)
      #expect(errorNumber { try iterator.readAll() } == .badAddress)
      #expect(iterator.count == 4096)
    }
  }

  @Test("A.8.5, A.8.6: slots and alignment ignore segments without bytes")
  func questions() throws {
    try withFrames { frames in
      let kvecs = unsafe [
        KVec(base: frames.address(1, 512), length: 1024),
        KVec(base: frames.address(1, 3), length: 0),
        KVec(base: frames.address(2, 4095), length: 2),
      ]
      let iterator = try iterator(kvecs, frames)
      #expect(iterator.pageCount() == 3)
      #expect(iterator.alignment & 4095 == 4095)
      #expect(iterator.gapAlignment == .max)
      #expect(!iterator.isAligned(addressMask: 1, lengthMask: 1))
      #expect(iterator.isAligned(addressMask: 0, lengthMask: 1))
    }
  }
}
