//===----------------------------------------------------------------------===//
// Gathering a block transfer, and giving back what it holds.
//===----------------------------------------------------------------------===//

import AddressSpaces
import PageExtraction
import PageFrames
import Testing

@Suite("Bio")
struct BioTests {
  @Test("G: pages are added until the iterator has none", arguments: Way.all)
  func gather(_ way: Way) throws {
    try withSpace { space in
      let base = try space.filledArea(4)
      var iterator = try way.iterator(base + 512, 8192, in: space)
      var bio = try Bio(memory: space.memory)
      #expect(bio.retention == nil && bio.length == 0)
      let added = try bio.addPages(from: &iterator)
      #expect(added == AdditionResult(length: 8192, stop: .complete))
      #expect(bio.retention == way.retention && bio.direction == way.direction)
      #expect(bio.bvecs.map(\.length) == [3584, 4096, 512] && bio.bvecCount == 3)
      expectOwned(bio.bvecs, length: 8192, in: space)
      #expect(try bio.addPages(from: &iterator).length == 0)
      bio.release(dirty: true)
      #expect(space.outstanding == 0)
    }
  }

  @Test("G: a full one takes no more, and the iterator goes on in the next", arguments: Way.all)
  func full(_ way: Way) throws {
    try withSpace { space in
      let base = try space.filledArea(5)
      var iterator = try way.iterator(base, .pages(5), in: space)
      var first = try Bio(memory: space.memory, maxBVecs: 2)
      #expect(
        try first.addPages(from: &iterator) == AdditionResult(length: 8192, stop: .pageLimit))
      #expect(first.isFull == true)
      #expect(try first.addPages(from: &iterator) == AdditionResult(length: 0, stop: .pageLimit))
      var second = try Bio(memory: space.memory, maxBVecs: 3)
      #expect(
        try second.addPages(from: &iterator) == AdditionResult(length: 12_288, stop: .complete))
      #expect(space.outstanding == 5)
    }
  }

  @Test("F-24: where two additions meet inside a page, one hold is dropped", arguments: Way.all)
  func samePage(_ way: Way) throws {
    try withSpace { space in
      let base = try space.filledArea(2)
      let page = try #require(space.page(at: base))
      let count = page.referenceCount
      var bio = try Bio(memory: space.memory)
      for part in 0..<16 {
        var iterator = try way.iterator(base + ByteCount(part * 512), 512, in: space)
        try #require(try bio.addPages(from: &iterator).length == 512)
      }
      #expect(bio.bvecs.map(\.length) == [4096, 4096])
      expectOwned(bio.bvecs, length: 8192, in: space)
      #expect(page.referenceCount == count + (way.retention == .pinned ? 1024 : 1))
      bio.release()
      #expect(page.referenceCount == count && space.outstanding == 0)
    }
  }

  @Test(
    "G: as many holds are dropped as a folio's bvec touches pages", arguments: Way.all,
    [(0, 1), (4095, 1), (4095, 2), (0, 4096), (1, 4096), (4095, 4098), (512, 40_000)])
  func releaseArithmetic(_ way: Way, _ extent: (offset: Int, length: Int)) throws {
    try withSpace { space in
      try space.withFolio(order: 4) { start, folio in
        var iterator = try way.iterator(
          start + ByteCount(extent.offset), ByteCount(extent.length), in: space)
        var bio = try Bio(memory: space.memory, logicalBlockSize: 1)
        _ = try bio.addPages(from: &iterator)
        let (o, l) = extent
        #expect(bio.bvecCount == 1)
        #expect(folio.referenceCount - 1 == (o + l - 1) / 4096 - o / 4096 + 1)
        bio.release(dirty: true)
        #expect(folio.referenceCount == 1 && folio.pinCount == 0)
        #expect(folio.isDirty == (way.direction == .destination))
      }
    }
  }

  @Test("G: what is beyond the last whole block goes back, with its pages", arguments: Way.all)
  func blocks(_ way: Way) throws {
    try withSpace { space in
      let base = try space.filledArea(4)
      try space.unmap(base + .pages(3), length: .pages(1))
      // The fault leaves 3 pages and a half block less.
      var iterator = try way.iterator(base + 256, .pages(4), in: space)
      var bio = try Bio(memory: space.memory, logicalBlockSize: 512)
      let added = try bio.addPages(from: &iterator)
      #expect(added.length == .pages(3) - 512)
      #expect(iterator.count == .pages(1) + 512)
      expectOwned(bio.bvecs, length: added.length, in: space)
      guard case .fault = added.stop else {
        Issue.record("stopped by \(added.stop)")
        return
      }
      // Pages that hold no whole block are let go.
      var large = try Bio(memory: space.memory, logicalBlockSize: 8192)
      var other = try way.iterator(base + 2048, .pages(3) - 2048, in: space)
      #expect(try large.addPages(from: &other).length == 8192)
      #expect(other.count == 2048 && space.outstanding == 3 + 3)
    }
  }

  @Test("G: not one whole block is EFAULT, and nothing moves", arguments: Way.all)
  func belowBlock(_ way: Way) throws {
    try withSpace { space in
      let base = try space.filledArea(1)
      var iterator = try way.iterator(base + 1, 511, in: space)
      let place = iterator.saveState()
      var bio = try Bio(memory: space.memory)
      #expect(errorNumber { try bio.addPages(from: &iterator) } == .badAddress)
      #expect(iterator.saveState() == place && space.outstanding == 0)
      #expect(bio.length == 0 && bio.retention == nil)
    }
  }

  @Test("G: nothing moves among empty segments either", arguments: Way.segmented)
  func belowBlockAmongEmpty(_ way: Way) throws {
    try withSpace { space in
      let base = try space.filledArea(1)
      let segments = [0, 100, 0, 0, 300, 0, 700].map {
        UserSegment(base: base, length: ByteCount($0))
      }
      var iterator = try way.iterator(segments, in: space)
      try iterator.advance(by: 100)
      try iterator.revert(by: 100)
      for _ in 0..<2 {
        let place = iterator.saveState()
        var bio = try Bio(memory: space.memory)
        #expect(errorNumber { try bio.addPages(from: &iterator) } == .badAddress)
        #expect(iterator.saveState() == place && space.outstanding == 0)
        try iterator.advance(by: 100)
      }
    }
  }

  @Test("G: adding anything is a success; only nothing is an error", arguments: Way.segmented)
  func partial(_ way: Way) throws {
    try withSpace { space in
      let base = try space.filledArea(3)
      try space.unmap(base + .pages(1), length: .pages(1))
      let segments = [
        UserSegment(base: base, length: 1024), UserSegment(base: base + .pages(1), length: 512),
      ]
      var iterator = try way.iterator(segments, in: space)
      var bio = try Bio(memory: space.memory)
      let added = try bio.addPages(from: &iterator)
      #expect(added.length == 1024)
      #expect(added.stop == .fault(MemoryError(.badAddress, .notMapped, base + .pages(1))))
      #expect(errorNumber { try bio.addPages(from: &iterator) } == .badAddress)
      #expect(iterator.count == 512 && bio.length == 1024 && space.outstanding == 1)
      // It goes on elsewhere.
      var other = try way.iterator(base + .pages(2), 512, in: space)
      #expect(try bio.addPages(from: &other).length == 512)
      expectOwned(bio.bvecs, length: 1536, in: space)
    }
  }

  @Test("G: pages that are held otherwise, or of another machine, are refused")
  func mismatch() throws {
    try withSpace { space in
      let base = try space.filledArea(2)
      var bio = try Bio(memory: space.memory)
      var first = try IOVIter(ubuf: base, count: 512, direction: .source, in: space)
      _ = try bio.addPages(from: &first)
      var pinned = try IOVIter(
        ubuf: base, count: 512, direction: .source, in: space, dialect: .upstream)
      #expect(throws: MemoryError(.invalid, .retentionMismatch, 2)) {
        _ = try bio.addPages(from: &pinned)
      }
      var upstream = try Bio(memory: space.memory)
      _ = try upstream.addPages(from: &pinned)
      var into = try IOVIter(ubuf: base, count: 512, direction: .destination, in: space)
      #expect(throws: MemoryError(.invalid, .directionMismatch, 0)) {
        _ = try upstream.addPages(from: &into)
      }
      try withSpace { other in
        var foreign = try IOVIter(
          ubuf: other.filledArea(1), count: 512, direction: .source, in: other)
        #expect(throws: MemoryError(.invalid, .otherMachine, 0)) {
          _ = try bio.addPages(from: &foreign)
        }
      }
      for size in [0, -512, 3] as [ByteCount] {
        #expect(throws: MemoryError(.invalid, .alignmentInvalid, size.rawValue)) {
          try Bio(memory: space.memory, logicalBlockSize: size).release()
        }
      }
      #expect(throws: MemoryError(.invalid, .countNegative, -1)) {
        try Bio(memory: space.memory, maxBVecs: -1).release()
      }
    }
  }

  @Test("G: the pages of a destination are dirty before the transfer", arguments: Way.all)
  func dirtyBefore(_ way: Way) throws {
    try withSpace { space in
      try space.withFolio(order: 2) { start, folio in
        var iterator = try way.iterator(start, .pages(4), in: space)
        var bio = try Bio(memory: space.memory)
        _ = try bio.addPages(from: &iterator)
        #expect(!folio.isDirty)
        bio.markPagesDirty()
        #expect(folio.isDirty == (way.direction == .destination))
      }
    }
  }

  @Test("G, B.4: a BVEC iterator is borrowed as it is: no extraction, no holds")
  func borrowed() throws {
    try withSpace { space in
      let folio = try space.memory.allocatePage(order: 2)
      let page = try space.memory.allocatePage()
      let bvecs = [
        BVec(page: folio, offset: 5000, length: 3000), BVec(page: page, offset: 9, length: 0),
        BVec(page: page, offset: 3, length: 7),
      ]
      var iterator = try IOVIter(
        bvec: bvecs, direction: .destination, memory: space.memory)
      try iterator.advance(by: 1000)
      var bio = try Bio(memory: space.memory, maxBVecs: 0)
      #expect(
        try bio.addPages(from: &iterator) == AdditionResult(length: 2007, stop: .complete))
      #expect(bio.isBorrowed == true && bio.isFull && bio.length == 2007 && iterator.count == 0)
      #expect(bio.retention == .unretained && bio.bvecCount == 3)
      #expect(
        bio.bvecs == [
          BVec(page: folio, offset: 6000, length: 2000), BVec(page: page, offset: 3, length: 7),
        ])
      #expect(folio.referenceCount == 1 && page.referenceCount == 1)
      try iterator.revert(by: 10)
      #expect(errorNumber { try bio.addPages(from: &iterator) } == .invalid)
      #expect(iterator.count == 10)
      bio.release(dirty: true)
      #expect(folio.isDirty && page.isDirty && folio.referenceCount == 1)

      // Not beside others.
      let base = try space.filledArea(1)
      var user = try IOVIter(
        ubuf: base, count: 512, direction: .destination, in: space)
      var mixed = try Bio(memory: space.memory)
      _ = try mixed.addPages(from: &user)
      #expect(errorNumber { try mixed.addPages(from: &iterator) } == .invalid)
      mixed.release()
      folio.put()
      page.put()
    }
  }
}
