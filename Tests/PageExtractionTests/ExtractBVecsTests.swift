//===----------------------------------------------------------------------===//
// Extraction into bvecs: what is joined, and what each bvec owes.
//===----------------------------------------------------------------------===//

import AddressSpaces
import Events
import PageExtraction
import PageFrames
import TestSupport
import Testing

@Suite("Extraction into bvecs")
struct ExtractBVecsTests {
  @Test("B.3: pages of their own are bvecs of their own, each held once", arguments: Way.all)
  func smallPages(_ way: Way) throws {
    try withSpace { space in
      let base = try space.filledArea(3)
      var iterator = try way.iterator(base + 100, 9000, in: space)
      let extraction = try iterator.extractBVecs()
      #expect(extraction.length == 9000 && iterator.count == 0)
      #expect(extraction.stop == .complete)
      #expect(extraction.retention == way.retention && extraction.direction == way.direction)
      #expect(extraction.bvecs.map(\.length) == [3996, 4096, 908])
      #expect(extraction.bvecs.map(\.offset) == [100, 0, 0])
      expectOwned(extraction.bvecs, length: 9000, in: space)
      #expect(try extraction.bvecs.flatMap(\.bytes) == space.bytes(base + 100, 9000))
      extraction.release()
      #expect(space.outstanding == 0)
    }
  }

  @Test("B.3, C.4: a folio's pages that follow each other are one bvec", arguments: Way.all)
  func folio(_ way: Way) throws {
    try withSpace { space in
      try space.withFolio(order: 4) { start, folio in
        // Three pages into the folio, to one page of another kind behind it.
        var iterator = try way.iterator(start + .pages(3) + 5, .pages(14) - 5, in: space)
        let extraction = try iterator.extractBVecs()
        #expect(extraction.count == 2)
        #expect(unsafe extraction[0].page.descriptor == folio.descriptor + 3)
        #expect(extraction[0].offset == 5 && extraction[0].length == 13 * 4096 - 5)
        #expect(extraction[0].pageCount == 13)
        #expect(folio.referenceCount == 14)
        #expect(folio.pinCount == (way.retention == .pinned ? 13 : 0))
        expectOwned(extraction.bvecs, length: .pages(14) - 5, in: space, besides: 1)
        extraction.release(dirty: true)
        #expect(folio.referenceCount == 1 && folio.pinCount == 0)
        #expect(folio.isDirty == (way.direction == .destination))
      }
    }
  }

  @Test("B.3: a page from elsewhere in a folio's middle breaks the run", arguments: Way.all)
  func brokenRun(_ way: Way) throws {
    try withSpace { space in
      try space.withFolio(order: 3) { start, folio in
        let other = try space.filledArea(1)
        let segments = [
          UserSegment(base: start, length: .pages(3)),
          UserSegment(base: other, length: .pages(1)),
          UserSegment(base: start + .pages(4), length: .pages(4)),
          // A page of the folio again, not the one that follows.
          UserSegment(base: start + .pages(1), length: 10),
        ]
        guard way.kind == .iovec else { return }
        var iterator = try way.iterator(segments, in: space)
        let extraction = try iterator.extractBVecs()
        #expect(extraction.bvecs.map(\.length) == [3 * 4096, 4096, 4 * 4096, 10])
        expectOwned(extraction.bvecs, length: .pages(8) + 10, in: space, besides: 1)
        #expect(folio.referenceCount == 1 + 8)
      }
    }
  }

  @Test(
    "F-24, A-36: where two extractions meet inside a page, it is held once",
    arguments: Way.segmented)
  func samePage(_ way: Way) throws {
    try withSpace { space in
      let base = try space.filledArea(3)
      let page = try #require(space.page(at: base))
      let count = page.referenceCount
      let pieces: [(UserAddress, ByteCount)] = [
        (base, 1000), (base + 1000, 0), (base + 1000, 3), (base + 1003, 4000),
      ]
      var iterator = try way.iterator(
        pieces.map { UserSegment(base: $0.0, length: $0.1) }, in: space)
      let extraction = try iterator.extractBVecs()
      #expect(extraction.bvecs.map(\.length) == [4096, 907])
      expectOwned(extraction.bvecs, length: 5003, in: space)
      #expect(page.referenceCount == count + (way.retention == .pinned ? 1024 : 1))
      extraction.release()
      #expect(page.referenceCount == count)

      // Parts of a page that do not follow each other hold it twice.
      var apart = try way.iterator(
        [UserSegment(base: base, length: 10), UserSegment(base: base + 20, length: 10)], in: space)
      let two = try apart.extractBVecs()
      #expect(two.bvecs.map(\.length) == [10, 10])
      expectOwned(two.bvecs, length: 20, in: space)
    }
  }

  @Test("A-01, A-02, I1, I3: limits of bytes and bvecs, and of neither", arguments: Way.all)
  func limits(_ way: Way) throws {
    try withSpace { space in
      let base = try space.filledArea(6)
      var iterator = try way.iterator(base + 1, .pages(5), in: space)
      let place = iterator.saveState()
      #expect(try iterator.extractBVecs(maxSize: 0).isEmpty)
      #expect(try iterator.extractBVecs(maxSize: 0, maxBVecs: 0).stop == .sizeLimit)
      #expect(errorNumber { try iterator.extractBVecs(maxBVecs: 0).release() } == .outOfMemory)
      #expect(errorNumber { try iterator.extractBVecs(maxBVecs: -1).release() } == .invalid)
      #expect(errorNumber { try iterator.extractBVecs(maxSize: -1).release() } == .invalid)
      #expect(iterator.saveState() == place)

      let few = try iterator.extractBVecs(maxBVecs: 2)
      #expect(few.length == 8191 && few.stop == .pageLimit && few.count == 2)
      let some = try iterator.extractBVecs(maxSize: 100)
      #expect(some.length == 100 && some.stop == .sizeLimit && some[0].offset == 0)
      let rest = try iterator.extractBVecs()
      #expect(rest.length == .pages(5) - 8291 && rest.stop == .complete && rest[0].offset == 100)
      // The page that two extractions share is held twice.
      expectOwned(rest.bvecs, length: rest.length, in: space, besides: 3)
      #expect(try iterator.extractBVecs().stop == .complete)
    }
  }

  @Test("A-11, A-12: a hole makes a short result, then an error", arguments: Way.all)
  func hole(_ way: Way) throws {
    try withSpace { space in
      let base = try space.filledArea(4)
      try space.unmap(base + .pages(2), length: .pages(1))
      var iterator = try way.iterator(base + 8, .pages(3), in: space)
      let extraction = try iterator.extractBVecs()
      #expect(extraction.length == 8184 && iterator.count == .pages(3) - 8184)
      #expect(extraction.stop == .fault(MemoryError(.badAddress, .notMapped, base + .pages(2))))
      expectOwned(extraction.bvecs, length: 8184, in: space)
      let place = iterator.saveState()
      #expect(errorNumber { try iterator.extractBVecs().release() } == .badAddress)
      #expect(iterator.saveState() == place)
      expectOwned(extraction.bvecs, length: 8184, in: space)
    }
  }

  @Test(
    "F-20: a list that grows keeps what it has; one that cannot is a short result",
    arguments: Way.all)
  func growth(_ way: Way) throws {
    try withSpace { space in
      let base = try space.filledArea(1000)
      var iterator = try way.iterator(base + 4095, .pages(999), in: space)
      let all = try iterator.extractBVecs()
      #expect(all.count == 1000 && all.length == .pages(999))
      for index in 0..<1000 {
        #expect(all[index].page == space.page(at: base + .pages(index)))
      }
      all.release()
      for nth in 1...4 {
        try iterator.revert(by: .pages(999))
        space.memory.arm(.listGrowth, countdown: nth)
        let some = try iterator.extractBVecs()
        #expect(some.count == 64 << (nth - 1))
        #expect(some.length == .pages(some.count) - 4095)
        #expect(iterator.count == .pages(999) - some.length)
        guard case .fault(let error) = some.stop else {
          Issue.record("stopped by \(some.stop)")
          return
        }
        #expect(error.number == .outOfMemory)
        expectOwned(some.bvecs, length: some.length, in: space)
        space.memory.arm(.listGrowth, countdown: 0)
        try iterator.advance(by: iterator.count)
      }
    }
  }

  @Test(
    "I1-I7, B.3, F-24: random segments, limits and folios beside the plain bytes",
    arguments: Way.segmented, 0..<8)
  func model(_ way: Way, _ run: Int) throws {
    try withSpace { space in
      try withSeededRandom(stream: UInt64(run)) { random in
        try space.withFolio(order: 4) { start, _ in
          // The folio, and two pages of their own behind it.
          try space.fill(start, .pages(18))
          for _ in 0..<40 {
            var at = random.below(17 * 4096)
            let segments = (0..<random.below(8)).map { _ in
              if random.oneIn(3) { at = random.below(17 * 4096) }
              let length = random.oneIn(4) ? 0 : min(random.below(3 * 4096), 18 * 4096 - at)
              defer { at = min(at + length, 17 * 4096) }
              return UserSegment(base: start + ByteCount(at), length: ByteCount(length))
            }
            var iterator = try way.iterator(segments, in: space)
            var bytes = try segments.flatMap { try space.bytes($0.base, $0.length) }
            while iterator.count > 0 {
              let before = iterator.count
              let size = ByteCount(1 + random.below(20_000))
              let most = 1 + random.below(10)
              let extraction = try iterator.extractBVecs(maxSize: size, maxBVecs: most)
              let length = extraction.length
              try #require(length > 0 && length <= size && extraction.count <= most)
              try #require(iterator.count == before - length)
              expectOwned(extraction.bvecs, length: length, in: space, besides: 1)
              let seen = extraction.bvecs.flatMap(\.bytes)
              try #require(seen == Array(bytes.prefix(length.rawValue)))
              bytes.removeFirst(length.rawValue)
              let ended: ExtractionStop =
                iterator.count == 0 ? .complete : length == size ? .sizeLimit : .pageLimit
              try #require(extraction.stop == ended)
              extraction.release(dirty: random.oneIn(2))
              try #require(space.outstanding == 1)
            }
          }
        }
      }
    }
  }
}
