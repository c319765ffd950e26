//===----------------------------------------------------------------------===//
// What an extraction holds, and how it is given back.
//===----------------------------------------------------------------------===//

import AddressSpaces
import CShims
import PageExtraction
import PageFrames
import TestSupport
import TestSupport
import Testing

@Suite("Retention")
struct RetentionTests {
  @Test(
    "1.1, A-22, A-23, A-35: the mode follows the table and outlives the position",
    arguments: Way.all)
  func mode(_ way: Way) throws {
    try withSpace { space in
      let base = try space.filledArea(2)
      var iterator = try way.iterator(base, 8192, in: space)
      #expect(iterator.extractMode == way.retention)
      #expect(iterator.extractWillPin == (way.retention == .pinned))
      let extraction = try iterator.extractPages(maxSize: 5000)
      #expect(extraction.retention == way.retention)
      #expect(iterator.extractMode == way.retention)
      try iterator.advance(by: 5000)
      #expect(iterator.count == 0)
      #expect(iterator.extractMode == way.retention)
    }
  }

  @Test("A-21, A-22, C.4: what is held is counted on each page, once", arguments: Way.all)
  func counts(_ way: Way) throws {
    try withSpace { space in
      let base = try space.filledArea(3)
      let pages = try (0..<3).map { try #require(space.page(at: base + .pages($0))) }
      let before = pages.map(\.referenceCount)
      var iterator = try way.iterator(base + 10, 9000, in: space)
      let extraction = try iterator.extractPages()
      let amount = way.retention == .pinned ? 1024 : 1
      #expect(pages.map(\.referenceCount) == before.map { $0 + amount })
      #expect(pages.map(\.mayBePinned).allSatisfy { $0 == (way.retention == .pinned) })
      let counters = space.memory.counters
      #expect(counters.pinsAcquired == (way.retention == .pinned ? 3 : 0))
      #expect(
        counters.referencesAcquired - counters.referencesReleased
          == (way.retention == .pinned ? 0 : 3))
      extraction.release()
      #expect(pages.map(\.referenceCount) == before)
    }
  }

  @Test("A-36: going on after a part page holds that page a second time", arguments: Way.all)
  func straddledPage(_ way: Way) throws {
    try withSpace { space in
      let base = try space.filledArea(2)
      var iterator = try way.iterator(base, 6000, in: space)
      let first = try iterator.extractPages(maxSize: 5000)
      let second = try iterator.extractPages()
      #expect(second.offset == 5000 - 4096 && second.length == 1000)
      #expect(first[1] == second[0])
      #expect(space.outstanding == 3)
      first.release()
      #expect(space.outstanding == 1)
      second.release()
    }
  }

  @Test(
    "A-24: the zero page as a source is really referenced, but never pinned", arguments: Way.sources
  )
  func zeroPage(_ way: Way) throws {
    try withSpace { space in
      let base = try space.map(length: .pages(2))
      let zero = space.memory.zeroPage
      let before = zero.referenceCount
      var iterator = try way.iterator(base, 8192, in: space)
      let extraction = try iterator.extractPages()
      #expect(extraction[0] == zero && extraction[1] == zero)
      let counters = space.memory.counters
      if way.retention == .referenced {
        #expect(zero.referenceCount == before + 2)
        #expect(counters.outstanding == 2)
      } else {
        #expect(zero.referenceCount == before)
        #expect(counters.pinsAcquired == 0)
      }
      extraction.release()
      #expect(zero.referenceCount == before)
    }
  }

  @Test("A.10: release marks a destination's pages dirty, when it is told to", arguments: Way.all)
  func dirty(_ way: Way) throws {
    try withSpace { space in
      let base = try space.filledArea(1)
      for dirty in [false, true] {
        var iterator = try way.iterator(base, 100, in: space)
        let extraction = try iterator.extractPages()
        let page = extraction[0]
        // As after write-back: the device's bytes must make it dirty again.
        unsafe _ = cshims_page_clear_flags(page.descriptor, CSHIMS_PAGE_DIRTY)
        extraction.release(dirty: dirty)
        #expect(page.isDirty == (dirty && way.direction == .destination))
      }
    }
  }

  @Test("I5: what is forgotten is released when the value goes", arguments: Way.all)
  func forgotten(_ way: Way) throws {
    try withSpace { space in
      let base = try space.filledArea(2)
      var iterator = try way.iterator(base, 8192, in: space)
      do {
        let extraction = try iterator.extractPages()
        #expect(space.outstanding == 2)
        #expect(extraction.pageCount == 2)
      }
      #expect(space.outstanding == 0)
      try iterator.revert(by: 8192)
      _ = try iterator.extractPages()
      #expect(space.outstanding == 0)
    }
  }

  @Test(
    "Pages outlive their mapping, and the machine outlives the program's hold on it",
    arguments: Way.all)
  func lifetime(_ way: Way) throws {
    func extract() throws -> (Extraction) {
      let memory = try PhysicalMemory(capacity: .mebibytes(4), trapTier: .none)
      let space = try AddressSpace(memory: memory)
      let base = try space.filledArea(1)
      var iterator = try way.iterator(base + 8, 16, in: space)
      let extraction = try iterator.extractPages()
      try space.unmap(base, length: .pages(1))
      space.exit()
      return extraction
    }
    let extraction = try extract()
    #expect(extraction[0].referenceCount == (way.retention == .pinned ? 1024 : 1))
    let memory = extraction.memory
    extraction.release()
    #expect(memory.counters.outstanding == 0)
    #expect(memory.freeFrameCount == memory.totalFrameCount)
  }

  @Test("Each part is told with page, offset and length, in order", arguments: Way.all)
  func segments(_ way: Way) throws {
    try withSpace { space in
      let base = try space.filledArea(3)
      var iterator = try way.iterator(base + 4000, 5000, in: space)
      let extraction = try iterator.extractPages()
      var parts: [PageSegment] = []
      extraction.forEachSegment { parts.append($0) }
      #expect(parts.map(\.page) == (0..<3).map { extraction[$0] })
      #expect(parts.map(\.offset) == [4000, 0, 0])
      #expect(parts.map(\.length) == [96, 4096, 808])
    }
  }
}

@Suite("1.1: the machine's default dialect")
struct DefaultDialectTests {
  @Test("1.1: an iterator that is not told follows its machine's default, from then on")
  func machineDefault() throws {
    try withAddressSpace(tier: .none) { space in
      func dialect() throws -> Dialect {
        try IOVIter(ubuf: UserAddress(0x1000), count: 1, direction: .source, in: space).dialect
      }
      #expect(try dialect() == .rfc)
      let before = try IOVIter(
        ubuf: UserAddress(0x1000), count: 1, direction: .source, in: space)
      space.memory.defaultDialect = .upstream
      #expect(try dialect() == .upstream)
      #expect(
        try IOVIter.importUBuf(
          UserAddress(0x1000), count: 1, direction: .source, in: space
        ).dialect == .upstream)
      // A pipe's is as others, though the upstream dialect extracts from none; these
      // are of the one dialect that has them.
      let pipe = try Pipe(memory: space.memory)
      #expect(try IOVIter(pipe: pipe, count: 1).dialect == .upstream)
      space.memory.defaultDialect = .rfc
      #expect(try IOVIter(pipe: pipe, count: 1).dialect == .rfc)
      #expect(
        try IOVIter(folioQueue: FolioQueue(), direction: .source, memory: space.memory).dialect
          == .upstream)
      #expect(
        try IOVIter(kvec: [], direction: .source, memory: space.memory).dialect == .upstream)
      // What exists, and what is told, stays.
      #expect(before.dialect == .rfc)
      #expect(
        try IOVIter(
          ubuf: UserAddress(0x1000), count: 1, direction: .source, in: space, dialect: .rfc
        ).dialect == .rfc)
    }
  }
}
