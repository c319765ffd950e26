//===----------------------------------------------------------------------===//
// Detaching a user iterator from its address space.
//===----------------------------------------------------------------------===//

import AddressSpaces
import DMA
import PageExtraction
import PageFrames
import Testing

@Suite("Detached iterators")
struct DetachTests {
  @Test(
    "G: the pages of all segments, one bvec each, as an iterator of the same direction",
    arguments: Way.segmented)
  func whole(_ way: Way) throws {
    try withSpace { space in
      let base = try space.filledArea(6)
      let segments = [
        UserSegment(base: base + 5, length: 0), UserSegment(base: base + 100, length: 5000),
        UserSegment(base: base + .pages(3), length: 8192), UserSegment(base: base + 1, length: 2),
      ]
      var iterator = try way.iterator(segments, in: space)
      let expected = try segments.flatMap { try space.bytes($0.base, $0.length) }
      let detached = try iterator.detach()
      #expect(iterator.count == 0 && detached.length == 13_194)
      #expect(detached.stop == .complete && detached.retention == way.retention)
      #expect(detached.pageCount == 5)
      #expect((0..<5).map { detached[$0].length } == [3996, 1004, 4096, 4096, 2])
      #expect((0..<5).map { detached[$0].offset } == [100, 0, 0, 0, 1])
      #expect(space.outstanding == 5)

      let new = detached.iterator
      #expect(new.kind == .bvec && new.direction == way.direction && new.dialect == way.dialect)
      #expect(new.count == detached.length && new.space == nil)
      #expect(new.extractMode == .unretained)
      #expect((0..<5).flatMap { detached[$0].bytes } == expected)
      detached.release(dirty: true)
      #expect(space.outstanding == 0)
    }
  }

  @Test("G: a detached iterator outlives the mapping that it came from", arguments: Way.all)
  func outlives(_ way: Way) throws {
    try withSpace { space in
      let base = try space.filledArea(2)
      let bytes = try space.bytes(base, 8192)
      var iterator = try way.iterator(base, 8192, in: space)
      var detached = try iterator.detach()
      try space.unmap(base, length: .pages(2))
      space.exit()
      let device = DMAEngine(memory: space.memory)
      var seen: [UInt8] = []
      while detached.iterator.count > 0 {
        let extraction = try detached.iterator.extractPages()
        #expect(extraction.retention == .unretained)
        seen += try device.read(from: extraction)
      }
      #expect(seen == bytes)
      #expect(space.outstanding == 2)
    }
  }

  @Test("F-25: an unmapped tail makes a short iterator, not a failure", arguments: Way.all)
  func tail(_ way: Way) throws {
    try withSpace { space in
      let base = try space.filledArea(4)
      try space.unmap(base + .pages(3), length: .pages(1))
      var iterator = try way.iterator(base + 10, .pages(4) - 10, in: space)
      let detached = try iterator.detach()
      #expect(detached.length == .pages(3) - 10 && detached.iterator.count == .pages(3) - 10)
      #expect(iterator.count == 4096)
      #expect(detached.stop == .fault(MemoryError(.badAddress, .notMapped, base + .pages(3))))
      let place = iterator.saveState()
      #expect(errorNumber { try iterator.detach().release() } == .badAddress)
      #expect(iterator.saveState() == place)
      #expect(space.outstanding == 3)
    }
  }

  @Test("F-25: without memory nothing is detached, and all is given back", arguments: Way.all)
  func memory(_ way: Way) throws {
    try withSpace(capacity: .mebibytes(4)) { space in
      let base = try space.map(length: .mebibytes(8))
      guard way.direction == .destination else { return }
      var iterator = try way.iterator(base, .mebibytes(8), in: space)
      let place = iterator.saveState()
      #expect(errorNumber { try iterator.detach().release() } == .outOfMemory)
      #expect(iterator.saveState() == place)
      #expect(space.outstanding == 0)
    }
  }

  @Test("F-26: no more slots than the request needs, and none beyond", arguments: Way.all)
  func bounds(_ way: Way) throws {
    try withSpace { space in
      let base = try space.filledArea(3)
      var iterator = try way.iterator(base + 4095, 4098, in: space)
      let detached = try iterator.detach(maxSize: 4097)
      #expect(detached.pageCount == 2 && detached.length == 4097 && detached.stop == .sizeLimit)
      let rest = try iterator.detach()
      #expect(rest.pageCount == 1 && rest.length == 1 && rest.stop == .complete)
      #expect(space.outstanding == 3)
      let none = try iterator.detach()
      #expect(none.pageCount == 0 && none.iterator.count == 0 && none.stop == .complete)
      #expect(errorNumber { try iterator.detach(maxSize: -1).release() } == .invalid)
    }
  }

  @Test("G: only user memory is detached")
  func kernelBacked() throws {
    try withSpace { space in
      let page = try space.memory.allocatePage()
      var iterator = try IOVIter(
        bvec: [BVec(page: page, offset: 0, length: 10)], direction: .source, memory: space.memory)
      #expect(errorNumber { try iterator.detach().release() } == .inputOutput)
      #expect(iterator.count == 10)
      page.put()
    }
  }
}
