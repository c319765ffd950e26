//===----------------------------------------------------------------------===//
// DISCARD: what goes in is dropped.
//===----------------------------------------------------------------------===//

import PageExtraction
import PageFrames
import TestSupport
import Testing

@Suite("DISCARD")
struct DiscardTests {
  @Test(
    "A-31, A.8: bytes go nowhere, the place moves, nothing is extracted",
    arguments: Dialect.allCases)
  func discard(_ dialect: Dialect) throws {
    try withMachine { memory in
      var iterator = try IOVIter(discard: 1000, memory: memory, dialect: dialect)
      #expect(errorNumber { try iterator.extractPages().release() } == .badAddress)
      #expect(try iterator.extractPages(maxSize: 0).isEmpty)
      #expect(try iterator.write([UInt8](repeating: 1, count: 300)) == CopyResult(length: 300))
      #expect(try iterator.zeroFill(100) == CopyResult(length: 100))
      #expect(iterator.count == 600)
      try iterator.advance(by: 5000)
      #expect(iterator.count == 0)
      #expect(try iterator.write([1]) == CopyResult(length: 0))
      try iterator.revert(by: 1000)
      #expect(iterator.count == 1000)
      #expect(throws: MemoryError(.invalid, .positionOutOfRange, 1)) { try iterator.revert(by: 1) }
      try iterator.truncate(to: 7)
      let kept = iterator.saveState()
      try iterator.advance(by: 7)
      try iterator.restore(kept)
      #expect(iterator.count == 7 && iterator.segmentCount == 1)
      #expect(iterator.pageCount() == 0 && iterator.alignment == 0)
      #expect(iterator.isAligned(addressMask: .max, lengthMask: .max))
      #expect(iterator.gapAlignment == .max)
      #expect(throws: MemoryError(.invalid, .countNegative, -1)) {
        try IOVIter(discard: -1, memory: memory)
      }
      #expect(
        throws: MemoryError(.invalid, .directionMismatch, Int(Direction.source.rawValue))
      ) {
        try IOVIter(discard: 1, direction: .source, memory: memory)
      }
    }
  }
}
