//===----------------------------------------------------------------------===//
// Semantics C.3: the decision table of the lockless walk, row by row. What the
// walk alone decides shows in the fast-only calls; the calls that fall back show
// that the slow path then does what it should. What is tried before the walk, for
// plain pages, must decide as the walk does.
//===----------------------------------------------------------------------===//

import AddressSpaces
import CShims
import Events
import GUP
import PageFrames
import TestSupport
import Testing

@Suite("C.3: the lockless walk")
struct FastWalkTests {
  /// The fast-only calls take `count` of `pages`.
  private func expectWalk(
    _ box: Sandbox, _ entry: Entry, _ start: UserAddress, _ pages: Int, _ flags: GUPFlags = [],
    takes count: Int, sourceLocation: SourceLocation = #_sourceLocation
  ) throws {
    let result = try box.take(entry, start, pages, flags)
    #expect(result.pageCount == count, sourceLocation: sourceLocation)
    if count < pages {
      let stop = MemoryError(.tryAgain, .fastPathOnly, start + .pages(count))
      #expect(result.stop == stop, sourceLocation: sourceLocation)
    }
    for i in 0..<result.pageCount {
      #expect(
        try box.taken(i) == box.page(start + .pages(i)), sourceLocation: sourceLocation)
    }
    box.release(entry, result.pageCount)
    for i in 0..<pages {
      try expectPlainPage(box, entry, start + .pages(i), flags, sourceLocation)
    }
    try expectPlainPages(box, entry, start, pages, flags, takes: count, sourceLocation)
  }

  /// One page is taken as plain only if the walk takes it; and if the walk takes
  /// it by an entry that says all and may be written to, or for a get, it is plain.
  private func expectPlainPage(
    _ box: Sandbox, _ entry: Entry, _ address: UserAddress, _ flags: GUPFlags,
    _ sourceLocation: SourceLocation
  ) throws {
    let attention = unsafe cshims_attention(box.machine.header)
    let value = box.entry(address)
    let inPlace = unsafe box.space.mm.entry(at: address.rawValue) != nil
    let walks = try box.take(entry, address, 1, flags).pageCount == 1
    let page = box.taken(0)
    if walks { box.release(entry, 1) }
    let isSimple =
      attention == 0 && inPlace && value & CSHIMS_PTE_FOLIO == 0
      && (!entry.pins || value & CSHIMS_PTE_WRITE != 0) && !flags.contains(.longTerm)
    let before = page?.referenceCount
    let take = unsafe box.space.mm.takePlainPage(
      entry.hold, at: address.rawValue, flags: flags, into: box.list)
    guard case .taken = take else {
      #expect(!(walks && isSimple), "the walk took it", sourceLocation: sourceLocation)
      #expect(page?.referenceCount == before, sourceLocation: sourceLocation)
      if case .spoiled = take { Issue.record("nothing changed", sourceLocation: sourceLocation) }
      return
    }
    #expect(walks && isSimple, "the walk did not take it", sourceLocation: sourceLocation)
    #expect(box.taken(0) == page, sourceLocation: sourceLocation)
    #expect(page?.referenceCount == before.map { $0 + entry.bias }, sourceLocation: sourceLocation)
    box.release(entry, 1)
  }

  /// Several pages are taken as plain as far as the walk comes, or not tried.
  private func expectPlainPages(
    _ box: Sandbox, _ entry: Entry, _ start: UserAddress, _ pages: Int, _ flags: GUPFlags,
    takes count: Int, _ sourceLocation: SourceLocation
  ) throws {
    let attention = unsafe cshims_attention(box.machine.header)
    let taken = unsafe box.space.mm.takePlainPages(
      entry.hold, from: start.rawValue, count: pages, flags: flags, into: box.list)
    let isTried = attention == 0 && flags.isSubset(of: [.write, .force, .noFault, .pciP2PDMA])
    #expect(taken == (isTried ? count : nil), sourceLocation: sourceLocation)
    if taken == pages {
      box.release(entry, pages)
    } else {
      // Such are counted by whoever goes on.
      for i in 0..<(taken ?? 0) { box.taken(i)?.release(entry.hold) }
    }
  }

  @Test("C.3 row 2: no pin by the walk while fork copies; a get is not kept from it")
  func forkInProgress() throws {
    try withSandbox { box in
      let start = try box.mapWritten(pages: 3)
      box.advanceSequence()
      try expectWalk(box, .pinUserPagesFastOnly, start, 3, .write, takes: 0)
      try expectWalk(box, .getUserPagesFastOnly, start, 3, .write, takes: 3)
      // With the lock it is safe: fork holds it while the sequence is odd.
      #expect(try box.take(.pinUserPagesFast, start, 3, .write).pageCount == 3)
      box.release(.pinUserPagesFast, 3)
      box.advanceSequence()
      try expectWalk(box, .pinUserPagesFastOnly, start, 3, .write, takes: 3)
    }
  }

  @Test("C.3 row 3: an absent table ends the walk", arguments: Entry.fastOnly)
  func absentTables(entry: Entry) throws {
    try withSandbox { box in
      // Nothing was touched: no table below the top one.
      let start = try box.map(pages: 4)
      try expectWalk(box, entry, start, 4, takes: 0)
      // The tables of one 2 MiB stretch, and none of the next.
      let wide = try box.map(pages: 1024)
      try box.store(wide + .pages(510), pages: 2)
      try expectWalk(box, entry, wide + .pages(510), 4, takes: 2)
    }
  }

  @Test("C.3 row 4: PROT_NONE ends the walk", arguments: Entry.fastOnly)
  func protNone(entry: Entry) throws {
    try withSandbox { box in
      let start = try box.mapWritten(pages: 3)
      try box.space.protect(start + .pages(1), length: .pages(1), .none)
      try expectWalk(box, entry, start, 3, takes: 1)
      try expectWalk(box, entry, start + .pages(1), 1, .force, takes: 0)
    }
  }

  @Test("C.3 row 5: an absent entry ends the walk, kept pages stay", arguments: Entry.fastOnly)
  func absentEntry(entry: Entry) throws {
    try withSandbox { box in
      let start = try box.mapWritten(pages: 8)
      try box.space.advise(start + .pages(5), length: .pages(1), .dontNeed)
      try expectWalk(box, entry, start, 8, takes: 5)
      try expectWalk(box, entry, start + .pages(6), 2, takes: 2)
    }
  }

  @Test("C.3 row 5: WRITE needs a writable entry, FORCE or not", arguments: Entry.fastOnly)
  func readOnlyEntry(entry: Entry) throws {
    try withSandbox { box in
      let start = try box.mapWritten(pages: 4)
      try box.space.protect(start + .pages(2), length: .pages(2), .readOnly)
      try expectWalk(box, entry, start, 4, .write, takes: 2)
      try expectWalk(box, entry, start + .pages(2), 2, [.write, .force], takes: 0)
      // Exclusive pages may be read through a read-only entry, pinned or not.
      try expectWalk(box, entry, start, 4, takes: 4)
    }
  }

  @Test("C.3 row 7: the zero page is only had by the slow path", arguments: Entry.fast)
  func zeroPage(entry: Entry) throws {
    let walk: Entry = entry.pins ? .pinUserPagesFastOnly : .getUserPagesFastOnly
    try withSandbox { box in
      let start = try box.map(pages: 2)
      try box.load(start, pages: 2)
      #expect(try box.page(start) == box.memory.zeroPage)
      try expectWalk(box, walk, start, 2, takes: 0)
      #expect(try box.take(entry, start, 2) == GUPResult(pageCount: 2))
      #expect(box.taken(1) == box.memory.zeroPage)
      box.release(entry, 2)
    }
  }

  @Test("C.3 row 8: a page that refuses the count ends the walk", arguments: Entry.fastOnly)
  func grabFails(entry: Entry) throws {
    try withSandbox { box in
      let start = try box.mapWritten(pages: 4)
      box.memory.arm(.grab, countdown: 3)
      try expectWalk(box, entry, start, 4, takes: 2)
      #expect(box.memory.failures(of: .grab) == 1)
      box.memory.arm(.grab, countdown: 0)
      try expectWalk(box, entry, start, 4, takes: 4)
    }
  }

  @Test("C.3 row 10: secret pages end the walk and are put back (G-09)", arguments: Entry.fastOnly)
  func secretPage(entry: Entry) throws {
    try withSandbox { box in
      let start = try box.mapWritten(pages: 3)
      let page = try box.page(start + .pages(1))
      // Guarded pages carry the bit that makes the walk look at the descriptor.
      let old = try box.setEntry(
        start + .pages(1), box.entry(start + .pages(1)) | CSHIMS_PTE_FOLIO)
      box.setFlags(page, CSHIMS_PAGE_SECRET)
      try expectWalk(box, entry, start, 3, takes: 1)
      #expect(page.referenceCount == 1)
      box.clearFlags(page, CSHIMS_PAGE_SECRET)
      try expectWalk(box, entry, start, 3, takes: 3)
      try box.setEntry(start + .pages(1), old)
    }
  }

  @Test("C.3 row 10: long writing of file pages is left to the slow path (G-10)")
  func longTermFilePage() throws {
    try withSandbox { box in
      let start = try box.mapWritten(pages: 2, .shared)
      let page = try box.page(start + .pages(1))
      let flags: GUPFlags = [.longTerm, .write]
      try expectWalk(box, .pinUserPagesFastOnly, start, 2, flags, takes: 2)
      box.setFlags(page, CSHIMS_PAGE_WRITEBACK)
      try expectWalk(box, .pinUserPagesFastOnly, start, 2, flags, takes: 1)
      try expectWalk(box, .pinUserPagesFastOnly, start, 2, .write, takes: 2)
      box.clearFlags(page, CSHIMS_PAGE_WRITEBACK)
    }
  }

  @Test("C.3 row 10: peer-to-peer pages need their flag", arguments: Entry.fastOnly)
  func peerToPeer(entry: Entry) throws {
    try withSandbox { box in
      let start = try box.mapWritten(pages: 1)
      let page = try box.page(start)
      let old = try box.setEntry(start, box.entry(start) | CSHIMS_PTE_FOLIO)
      box.setFlags(page, CSHIMS_PAGE_P2PDMA)
      try expectWalk(box, entry, start, 1, takes: 0)
      try expectWalk(box, entry, start, 1, .pciP2PDMA, takes: 1)
      box.clearFlags(page, CSHIMS_PAGE_P2PDMA)
      try box.setEntry(start, old)
    }
  }

  @Test("C.3 row 11: a shared anonymous page may be got but not pinned for reading")
  func mustUnshare() throws {
    try withSandbox { box in
      let start = try box.mapWritten(pages: 3)
      try box.space.protect(start, length: .pages(3), .readOnly)
      let page = try box.page(start + .pages(1))
      box.clearFlags(page, CSHIMS_PAGE_ANON_EXCLUSIVE)
      try expectWalk(box, .getUserPagesFastOnly, start, 3, takes: 3)
      try expectWalk(box, .pinUserPagesFastOnly, start, 3, takes: 1)
      #expect(page.referenceCount == 1)
      // Nobody else holds it: unsharing makes it exclusive where it is.
      #expect(try box.take(.pinUserPagesFast, start, 3).pageCount == 3)
      #expect(box.taken(1) == page)
      #expect(page.isAnonymousExclusive)
      box.release(.pinUserPagesFast, 3)
    }
  }

  @Test(
    "C.3 row 12: taking a page changes neither its entry nor its bytes", arguments: Entry.allCases)
  func entryUnchanged(entry: Entry) throws {
    try withSandbox { box in
      let start = try box.mapWritten(pages: 1)
      let before = box.entry(start)
      try box.take(entry, start, 1, .write)
      #expect(box.entry(start) == before)
      #expect(box.taken(0).map { box.word($0) } == 1)
      box.release(entry, 1)
    }
  }

  @Test(
    "C.3: a walk over many tables, areas and page kinds stops at the first it may not take",
    arguments: Entry.fastOnly)
  func longWalk(entry: Entry) throws {
    try withSandbox { box in
      let start = try box.mapWritten(pages: 1300)
      try expectWalk(box, entry, start, 1300, takes: 1300)
      try expectWalk(box, entry, start + .pages(511), 2, takes: 2)
      // Two areas, one table: areas are nothing to the walk.
      try box.space.protect(start + .pages(700), length: .pages(10), .readOnly)
      try expectWalk(box, entry, start, 1300, takes: 1300)
      try expectWalk(box, entry, start, 1300, .write, takes: 700)
      // Behind a hole lies nothing.
      try box.space.unmap(start + .pages(1024), length: .pages(1))
      try expectWalk(box, entry, start, 1300, takes: 1024)
    }
  }

  // MARK: - Folios

  /// An area in which `order`'s folio stands behind entries of its own.
  private func withFolio(
    order: Int, _ box: Sandbox, bits: UInt64, flags: UInt32,
    _ body: (UserAddress, Page) throws -> Void
  ) throws {
    let start = try box.map(pages: 1024)
    try box.store(start, pages: 1)
    try box.store(start + .pages(600), pages: 1)
    let folio = try box.memory.allocatePage(order: order)
    let at = start + .pages(64)
    for i in 0..<(1 << order) {
      let page = box.machine.page(folio.frameNumber.rawValue + UInt64(i))
      box.setFlags(page, flags)
      try box.setEntry(
        at + .pages(i), page.frameNumber.rawValue << 12 | bits | CSHIMS_PTE_FOLIO)
    }
    try body(at, folio)
    for i in 0..<(1 << order) { try box.setEntry(at + .pages(i), 0) }
    folio.put()
  }

  private static let writable = CSHIMS_PTE_PRESENT | CSHIMS_PTE_USER | CSHIMS_PTE_WRITE
  private static let readOnly = CSHIMS_PTE_PRESENT | CSHIMS_PTE_USER
  private static let exclusive = CSHIMS_PAGE_ANON | CSHIMS_PAGE_ANON_EXCLUSIVE

  @Test(
    "C.3, C.4: sub-pages of a folio behind small entries count on its head, exactly",
    arguments: Entry.fastOnly)
  func folioEntries(entry: Entry) throws {
    try withSandbox { box in
      try withFolio(order: 4, box, bits: Self.writable, flags: Self.exclusive) { at, folio in
        let result = try box.take(entry, at + .pages(3), 20, .write)
        #expect(result.pageCount == 13)
        for i in 0..<13 {
          #expect(box.taken(i)?.frameNumber.rawValue == folio.frameNumber.rawValue + 3 + UInt64(i))
        }
        #expect(folio.referenceCount == 14)
        #expect(folio.pinCount == (entry.pins ? 13 : 0))
        #expect(folio.mayBePinned == entry.pins)
        box.release(entry, 13)
        #expect(folio.referenceCount == 1)
        #expect(folio.pinCount == 0)
      }
    }
  }

  @Test("C.3 row 11: exclusivity is each sub-page's own")
  func folioExclusivity() throws {
    try withSandbox { box in
      try withFolio(order: 3, box, bits: Self.readOnly, flags: Self.exclusive) { at, folio in
        let fifth = box.machine.page(folio.frameNumber.rawValue + 5)
        box.clearFlags(fifth, CSHIMS_PAGE_ANON_EXCLUSIVE)
        let result = try box.take(.pinUserPagesFastOnly, at, 8)
        #expect(result.pageCount == 5)
        #expect(folio.pinCount == 5)
        box.release(.pinUserPagesFastOnly, 5)
        #expect(try box.take(.getUserPagesFastOnly, at, 8).pageCount == 8)
        box.release(.getUserPagesFastOnly, 8)
        #expect(folio.referenceCount == 1)
      }
    }
  }

  @Test(
    "C.3, C.4: a 2 MiB leaf is one count for the part of it that was asked for",
    arguments: Entry.allCases)
  func leaf(entry: Entry) throws {
    try withSandbox { box in
      let start = try box.map(pages: 1024)
      try box.store(start, pages: 1)
      try box.store(start + .pages(512), pages: 4)
      let folio = try box.memory.allocatePage(order: 9)
      box.setFlags(folio, Self.exclusive)
      let value = folio.frameNumber.rawValue << 12 | Self.writable | CSHIMS_PTE_HUGE
      let old = try box.setMiddleEntry(start, value)
      for (first, count) in [(0, 512), (17, 1), (100, 412), (510, 4)] {
        let result = try box.take(entry, start + .pages(first), count, .write)
        #expect(result == GUPResult(pageCount: count))
        let inLeaf = min(count, 512 - first)
        for i in 0..<inLeaf {
          #expect(
            box.taken(i)?.frameNumber.rawValue == folio.frameNumber.rawValue + UInt64(first + i))
        }
        #expect(folio.referenceCount == 1 + inLeaf)
        #expect(folio.pinCount == (entry.pins ? inLeaf : 0))
        box.release(entry, count)
        #expect(folio.referenceCount == 1)
        #expect(folio.pinCount == 0)
      }
      // Read-only, and shared: the walk does not pin it.
      try box.setMiddleEntry(start, value & ~CSHIMS_PTE_WRITE)
      box.clearFlags(folio, CSHIMS_PAGE_ANON_EXCLUSIVE)
      if Entry.fastOnly.contains(entry) {
        try #expect(box.take(entry, start, 512, .write).pageCount == 0)
        let result = try box.take(entry, start, 512)
        #expect(result.pageCount == (entry.pins ? 0 : 512))
        box.release(entry, result.pageCount)
      }
      try box.setMiddleEntry(start, old)
      folio.put()
    }
  }

  // MARK: - Native access

  @Test(
    "C.3: the walk takes what the program stored natively; a device writes what it loads",
    arguments: TrapTier.testable, Entry.fastOnly)
  func nativeBytes(tier: TrapTier, entry: Entry) throws {
    try withSandbox(tier: tier) { box in
      let start = try box.map(pages: 4)
      let words = unsafe box.space.pointer(at: start).assumingMemoryBound(to: UInt64.self)
      for i in 0..<4 { unsafe words[i * 512] = UInt64(i) + 7 }
      #expect(try box.take(entry, start, 4, .write).pageCount == 4)
      for i in 0..<4 {
        let page = try #require(box.taken(i))
        #expect(box.word(page) == UInt64(i) + 7)
        unsafe page.bytes.storeBytes(of: UInt64(i) + 70, as: UInt64.self)
        #expect(unsafe words[i * 512] == UInt64(i) + 70)
      }
      box.release(entry, 4)
    }
  }
}
