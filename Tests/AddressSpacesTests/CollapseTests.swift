//===----------------------------------------------------------------------===//
// Making folios of pages (MADV_COLLAPSE) and pages of folios (split_folio): what
// they keep, and whom they refuse.
//===----------------------------------------------------------------------===//

import AddressSpaces
import PageFrames
import TestSupport
import Testing

@Suite("Collapse and split")
struct CollapseTests {
  private static let length = ByteCount.mebibytes(2)

  private static func refusal(
    _ space: AddressSpace, _ start: UserAddress, _ length: ByteCount = length
  ) -> MemoryError? {
    MappingTests.refusal { () throws(MemoryError) in
      try space.advise(start, length: length, .collapse)
    }
  }

  private static func splitRefusal(_ space: AddressSpace, _ at: UserAddress) -> MemoryError? {
    MappingTests.refusal { () throws(MemoryError) in try space.splitFolio(at: at) }
  }

  @Test(
    "MADV_COLLAPSE: pages, zero pages and holes become one leaf with the same bytes",
    arguments: TrapTier.all, [FolioSize.base, .order(3)])
  func collapses(tier: TrapTier, folios: FolioSize) throws {
    try withAddressSpace(tier: tier) { space in
      let start = try space.map(length: Self.length, folios: folios)
      try space.putEach(start + .pages(8), 200, from: 1)
      for i in 300..<310 { #expect(try space.look(start + .pages(i)) == 0) }
      let free = space.memory.freeFrameCount.rawValue
      try space.advise(start, length: Self.length, .collapse)
      let head = try #require(space.page(at: start))
      #expect(head.folioOrder == 9 && head.referenceCount == 1 && head.isAnonymousExclusive)
      #expect(space.isWritable(at: start + .pages(511)))
      #expect(space.memory.freeFrameCount.rawValue == free + 200 - 512)
      try space.expectEach(start + .pages(8), 200, from: 1)
      for i in [0, 7, 208, 305, 511] { #expect(try space.look(start + .pages(i)) == 0) }
      try space.putEach(start, 512, from: 5)
      try space.expectEach(start, 512, from: 5)
      #expect(AddressSpace.hostMappings(start, pages: 512) <= 3)
      // Again is no work.
      try space.advise(start, length: Self.length, .collapse)
      #expect(space.page(at: start) == head)
    }
  }

  @Test(
    "MADV_COLLAPSE: a page that somebody holds is EAGAIN, and all stays", arguments: TrapTier.all)
  func held(tier: TrapTier) throws {
    try withAddressSpace(tier: tier) { space in
      let start = try space.map(length: Self.length)
      try space.putEach(start, 20, from: 1)
      let pages = (0..<20).map { space.page(at: start + .pages($0)) }
      for hold in [PageHold.reference, .pin] {
        try pages[11]?.acquire(hold)
        let free = space.memory.freeFrameCount
        #expect(
          Self.refusal(space, start) == MemoryError(.tryAgain, .inUse, start + .pages(11)))
        pages[11]?.release(hold)
        #expect(space.memory.freeFrameCount == free)
        #expect((0..<20).map { space.page(at: start + .pages($0)) } == pages)
        for i in 0..<20 { #expect(space.isWritable(at: start + .pages(i))) }
        try space.expectEach(start, 20, from: 1)
      }
      try space.advise(start, length: Self.length, .collapse)
      try space.expectEach(start, 20, from: 1)
    }
  }

  @Test("MADV_COLLAPSE: pages that a child shows, too, are copied", arguments: TrapTier.all)
  func sharedWithChild(tier: TrapTier) throws {
    try withAddressSpace(tier: tier) { space in
      let start = try space.map(length: Self.length)
      try space.putEach(start, 12, from: 1)
      let page = try #require(space.page(at: start))
      let child = try space.fork()
      try space.advise(start, length: Self.length, .collapse)
      #expect(space.page(at: start)?.folioOrder == 9)
      #expect(child.page(at: start) == page && page.referenceCount == 1)
      try space.putEach(start, 12, from: 60)
      try child.expectEach(start, 12, from: 1)
      try space.expectEach(start, 12, from: 60)
      child.exit()
    }
  }

  @Test("MADV_COLLAPSE: a read-only stretch stays read-only")
  func readOnly() throws {
    try withAddressSpace(tier: .sigsegv) { space in
      let start = try space.map(length: Self.length)
      try space.putEach(start, 3, from: 1)
      try space.protect(start, length: Self.length, .readOnly)
      try space.advise(start, length: Self.length, .collapse)
      #expect(space.page(at: start)?.folioOrder == 9 && !space.isWritable(at: start))
      try space.expectEach(start, 3, from: 1)
      try space.protect(start, length: Self.length, .readWrite)
      try space.putEach(start, 3, from: 9)
      #expect(space.page(at: start)?.referenceCount == 1)
    }
  }

  @Test("MADV_COLLAPSE: what Linux refuses, by its errno, with nothing changed")
  func refused() throws {
    try withAddressSpace(capacity: .mebibytes(4), tier: .none) { space in
      func invalid(_ at: UserAddress, _ reason: MemoryError.Reason = .adviceNotApplicable)
        -> MemoryError
      {
        MemoryError(.invalid, reason, at)
      }
      let start = try space.map(length: .mebibytes(4))
      // Nothing there; dropped again.
      #expect(Self.refusal(space, start) == invalid(start, .notPresent))
      try space.write([1], to: start)
      try space.advise(start, length: 4096, .dontNeed)
      #expect(Self.refusal(space, start) == invalid(start, .notPresent))
      try space.write([1], to: start)
      // Within one stretch is refused, across or up to a boundary is nothing to do.
      #expect(Self.refusal(space, start + 4096, 4096) == invalid(start + 4096))
      #expect(Self.refusal(space, start, 4096) == nil)
      #expect(Self.refusal(space, start + .pages(511), .pages(2)) == nil)
      #expect(space.page(at: start)?.folioOrder == 0)
      try space.advise(start, length: Self.length, .noHugePage)
      #expect(Self.refusal(space, start) == invalid(start))
      try space.advise(start, length: Self.length, .hugePage)
      // No block of frames.
      let taken = try space.memory.allocatePage(order: 9)
      #expect(Self.refusal(space, start) == MemoryError(.outOfMemory, .framesExhausted, start))
      taken.put()
      #expect(Self.refusal(space, start) == nil)
      try space.unmap(start, length: .mebibytes(4))
      let small = try space.map(length: .mebibytes(1))
      try space.write([1], to: small)
      #expect(Self.refusal(space, small, 4096) == invalid(small))
      let shared = try space.map(length: Self.length, sharing: .shared)
      try space.write([1], to: shared)
      #expect(Self.refusal(space, shared) == invalid(shared))
      // The part that can be done is done, the hole and the last failure are told.
      try space.unmap(shared, length: Self.length)
      try space.unmap(small, length: .mebibytes(1))
      let wide = try space.map(length: .mebibytes(6))
      try space.write([2], to: wide + .mebibytes(2))
      #expect(
        Self.refusal(space, wide, .mebibytes(6)) == invalid(wide + .mebibytes(4), .notPresent))
      #expect(space.page(at: wide + .mebibytes(2))?.folioOrder == 9)
    }
  }

  @Test("split_folio: single pages in place, unmapped ones freed", arguments: FolioCase.all)
  func splits(_ c: FolioCase) throws {
    try withAddressSpace(tier: c.tier) { space in
      let start = try space.map(length: c.length, folios: c.size)
      try space.putEach(start, c.pages, from: 1)
      let frames = (0..<c.pages).map { space.page(at: start + .pages($0)) }
      let free = space.memory.freeFrameCount.rawValue
      try space.unmap(start + .pages(1), length: .pages(1))
      #expect(space.memory.freeFrameCount.rawValue == free)
      try space.splitFolio(at: start + .pages(2))
      #expect(space.memory.freeFrameCount.rawValue == free + 1)
      #expect(frames[1]?.isFree == true)
      for i in 0..<c.pages where i != 1 {
        let page = try #require(space.page(at: start + .pages(i)))
        #expect(page == frames[i] && page.folioOrder == 0 && page.referenceCount == 1)
        #expect(page.mapCount == 1 && page.isAnonymousExclusive && !page.mayBePinned)
      }
      try space.expectEach(start + .pages(2), c.pages - 2, from: 3)
      try space.putEach(start + .pages(2), c.pages - 2, from: 30)
      try space.expectEach(start + .pages(2), c.pages - 2, from: 30)
      // A single page is one already.
      try space.splitFolio(at: start)
      space.exit()
      #expect(space.memory.freeFrameCount == space.memory.totalFrameCount)
    }
  }

  @Test("split_folio: EAGAIN while anybody else holds it, and all stays", arguments: FolioCase.all)
  func splitRefused(_ c: FolioCase) throws {
    try withAddressSpace(tier: c.tier) { space in
      let start = try space.map(length: c.length, folios: c.size)
      try space.putEach(start, c.pages, from: 1)
      let page = try #require(space.page(at: start + .pages(2)))
      let refused = MemoryError(.tryAgain, .inUse, start + .pages(1))
      for hold in [PageHold.reference, .pin] {
        try page.acquire(hold)
        #expect(Self.splitRefusal(space, start + .pages(1)) == refused)
        page.release(hold)
      }
      let child = try space.fork()
      child.mm.lock()
      #expect(Self.splitRefusal(space, start + .pages(1)) == refused)
      child.mm.unlock()
      child.exit()
      #expect(1 << page.folioOrder == c.pages && page.folioHead.referenceCount == c.references)
      try space.expectEach(start, c.pages, from: 1)
      try space.splitFolio(at: start + .pages(1))
      #expect(page.folioOrder == 0)
      try space.unmap(start, length: .pages(1))
      #expect(
        Self.splitRefusal(space, start) == MemoryError(.badAddress, .notPresent, start))
    }
  }

  @Test("split_folio: of a family's folio each keeps its mappings", arguments: FolioCase.all)
  func splitsShared(_ c: FolioCase) throws {
    try withAddressSpace(tier: c.tier) { space in
      let start = try space.map(length: c.length, folios: c.size)
      try space.putEach(start, c.pages, from: 1)
      let frames = (0..<c.pages).map { space.page(at: start + .pages($0)) }
      let child = try space.fork()
      // A leaf here and small entries there; one page is the child's alone.
      try child.put(77, at: start + .pages(2))
      try space.unmap(start + .pages(1), length: .pages(1))
      try child.splitFolio(at: start)
      for i in 0..<c.pages {
        let page = try #require(frames[i])
        let mappings = i == 1 || i == 2 ? 1 : 2
        #expect(page.folioOrder == 0 && page.mapCount == mappings)
        #expect(page.referenceCount == mappings && !page.isAnonymousExclusive)
        if i != 2 { #expect(child.page(at: start + .pages(i)) == page) }
        if i != 1 { #expect(space.page(at: start + .pages(i)) == page) }
      }
      #expect(try child.look(start + .pages(2)) == 77)
      #expect(try space.look(start + .pages(2)) == 3)
      child.exit()
      #expect(frames[1]?.isFree == true)
      try space.putEach(start + .pages(2), c.pages - 2, from: 30)
      #expect((2..<c.pages).allSatisfy { space.page(at: start + .pages($0)) == frames[$0] })
      space.exit()
      #expect(space.memory.freeFrameCount == space.memory.totalFrameCount)
    }
  }

  @Test("split_folio beside pins by other threads: each split is whole or refused")
  func splitRaces() throws {
    try withMachine(tier: .none) { memory in
      let space = try AddressSpace(memory: memory)
      let start = try space.map(length: .pages(64), folios: .order(4))
      for round in 0..<60 {
        try space.advise(start, length: .pages(64), .populateWrite)
        onThreads(2) { thread in
          for i in 0..<64 {
            let at = start + .pages((i * 7 + round) & 63)
            if thread == 0 {
              try? space.splitFolio(at: at)
            } else if let page = space.page(at: at), page.tryAcquire(.pin, count: 3) {
              page.release(.pin, count: 3)
            }
          }
        }
        for i in 0..<64 {
          let head = try #require(space.page(at: start + .pages(i))).folioHead
          #expect(head.referenceCount == 1 << head.folioOrder)
          #expect(!head.mayBePinned)
        }
        try space.advise(start, length: .pages(64), .dontNeed)
      }
      space.exit()
    }
  }
}
