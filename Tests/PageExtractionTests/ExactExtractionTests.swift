//===----------------------------------------------------------------------===//
// All bytes or none.
//===----------------------------------------------------------------------===//

import AddressSpaces
import PageExtraction
import PageFrames
import Testing

@Suite("Exact extraction")
struct ExactExtractionTests {
  @Test("F-23, G: exactly what was asked for", arguments: Way.all)
  func whole(_ way: Way) throws {
    try withSpace { space in
      let base = try space.filledArea(4)
      var iterator = try way.iterator(base + 7, 12_000, in: space)
      let pages = try iterator.extractPagesExactly(5000)
      #expect(pages.length == 5000 && pages.pageCount == 2 && iterator.count == 7000)
      let bvecs = try iterator.extractBVecsExactly(7000)
      #expect(bvecs.length == 7000 && bvecs.count == 2 && bvecs.holdsRunsOnce)
      #expect(iterator.count == 0 && space.outstanding == 4)
      #expect(try iterator.extractPagesExactly(0).isEmpty)
      #expect(try iterator.extractBVecsExactly(0).isEmpty)
    }
  }

  @Test("F-23, G: what cannot be had whole is not had at all", arguments: Way.all)
  func short(_ way: Way) throws {
    try withSpace { space in
      let base = try space.filledArea(4)
      try space.unmap(base + .pages(2), length: .pages(1))
      var iterator = try way.iterator(base + 7, 12_000, in: space)
      try iterator.advance(by: 100)
      let place = iterator.saveState()
      let fault = MemoryError(.badAddress, .notMapped, base + .pages(2))
      func expectRefused(_ error: MemoryError, _ body: () throws -> Void) {
        #expect(throws: error) { try body() }
        #expect(space.outstanding == 0)
      }
      expectRefused(fault) { try iterator.extractPagesExactly(10_000).release() }
      expectRefused(fault) { try iterator.extractBVecsExactly(10_000).release() }
      expectRefused(MemoryError(.badAddress, .notExact, 8085)) {
        try iterator.extractPagesExactly(8192, maxPages: 2).release()
      }
      expectRefused(MemoryError(.badAddress, .notExact, 8085)) {
        try iterator.extractBVecsExactly(8192, maxBVecs: 2).release()
      }
      expectRefused(MemoryError(.invalid, .countTooLarge, 11_901)) {
        try iterator.extractPagesExactly(11_901).release()
      }
      expectRefused(MemoryError(.invalid, .countNegative, -1)) {
        try iterator.extractBVecsExactly(-1).release()
      }
      #expect(iterator.saveState() == place)
    }
  }

  @Test("A-09: bytes of several segments are one result as bvecs only", arguments: Way.segmented)
  func segments(_ way: Way) throws {
    try withSpace { space in
      let base = try space.filledArea(2)
      let segments = [
        UserSegment(base: base, length: 10), UserSegment(base: base + 10, length: 10),
        UserSegment(base: base + 5000, length: 10),
      ]
      var iterator = try way.iterator(segments, in: space)
      #expect(throws: MemoryError(.badAddress, .notExact, 10)) {
        try iterator.extractPagesExactly(30).release()
      }
      #expect(iterator.count == 30 && space.outstanding == 0)
      let bvecs = try iterator.extractBVecsExactly(30)
      #expect(bvecs.bvecs.map(\.length) == [20, 10])
      #expect(space.outstanding == 2)
    }
  }

  @Test("G: one hold a bvec: those of a run's later pages are dropped", arguments: Way.all)
  func oneHoldARun(_ way: Way) throws {
    try withSpace { space in
      try space.withFolio(order: 4) { start, folio in
        var iterator = try way.iterator(start + 9, .pages(16), in: space)
        let bvecs = try iterator.extractBVecsExactly(.pages(16))
        #expect(bvecs.count == 2 && bvecs[0].pageCount == 16)
        #expect(folio.referenceCount == 2)
        #expect(folio.pinCount == (way.retention == .pinned ? 1 : 0))
        #expect(folio.mayBePinned == (way.retention == .pinned))
        #expect(space.outstanding == 3)
        bvecs.release(dirty: true)
        #expect(folio.referenceCount == 1 && folio.pinCount == 0)
        #expect(folio.isDirty == (way.direction == .destination))
      }
    }
  }
}
