//===----------------------------------------------------------------------===//
// Pins and references inside folios of address spaces: counts are exact, one for
// a folio's pages together, whichever path takes them and whatever becomes of the
// mapping meanwhile.
//===----------------------------------------------------------------------===//

import AddressSpaces
import CShims
import Events
import GUP
import PageFrames
import TestSupport
import Testing

@Suite("C.4: pins inside large folios")
struct FolioPinTests {
  static let backings: [FolioSize] = [.order(2), .order(5), .order(9), .huge]

  /// A sandbox with an area of two folios whose every page was stored to.
  private func withFolios(
    _ size: FolioSize, of kind: MemoryKind = .ordinary,
    _ body: (Sandbox, UserAddress, Page) throws -> Void
  ) throws {
    try withSandbox { box in
      let count = 2 * size.pageCount.rawValue
      let start = try box.space.map(length: .pages(count), folios: size, of: kind)
      try box.store(start, pages: count)
      try body(box, start, try box.page(start))
    }
  }

  /// References that the mapping of one whole folio holds.
  private func mapped(_ size: FolioSize) -> Int { size == .huge ? 1 : size.pageCount.rawValue }

  @Test(
    "C.3, C.4, C.5.6: what is taken counts on each folio's head, exactly, and goes again",
    arguments: backings, Entry.allCases)
  func counts(size: FolioSize, entry: Entry) throws {
    try withFolios(size) { box, start, head in
      let count = size.pageCount.rawValue
      let second = try box.page(start + size.pageCount.byteCount)
      let before = box.memory.counters
      for (first, pages) in [(0, count), (1, 1), (count - 1, 2), (1, 2 * count - 2)] {
        #expect(
          try box.take(entry, start + .pages(first), pages, .write) == GUPResult(pageCount: pages))
        let inFirst = min(pages, count - first)
        for (folio, taken) in [(head, inFirst), (second, pages - inFirst)] {
          #expect(folio.referenceCount == mapped(size) + taken)
          #expect(folio.pinCount == (entry.pins ? taken : 0))
          #expect(folio.mayBePinned == (entry.pins && taken > 0))
        }
        for i in 0..<pages {
          #expect(try box.taken(i) == box.page(start + .pages(first + i)))
        }
        box.release(entry, pages)
        #expect(head.referenceCount == mapped(size) && head.pinCount == 0)
      }
      let after = box.memory.counters
      let total = count + 1 + 2 + 2 * count - 2
      #expect(
        entry.pins
          ? after.pinsAcquired - before.pinsAcquired == total
          : after.referencesAcquired - before.referencesAcquired == total)
    }
  }

  @Test(
    "D.3 row 3: a call's own hold on one page of a folio forbids it to reuse the next",
    arguments: [FolioSize.order(2), .order(9)])
  func reuseOfNeighbours(size: FolioSize) throws {
    try withFolios(size) { box, start, head in
      box.memory.policy = .reuseLargeFolios
      try box.space.fork().exit()
      #expect(try box.take(.pinUserPages, start, 2, .write).pageCount == 2)
      #expect(box.taken(0) == head)
      #expect(box.taken(1)?.folioHead != head)
      box.release(.pinUserPages, 2)
    }
  }

  @Test("D.3 row 3: advice that changes nothing leaves a leaf whole, and reused as a whole")
  func advisedLeaf() throws {
    try withFolios(.huge) { box, start, head in
      box.memory.policy = .reuseLargeFolios
      try box.space.fork().exit()
      try box.space.advise(start + .pages(5), length: .pages(1), .keepOnFork)
      #expect(try box.take(.pinUserPages, start, 1, .write).pageCount == 1)
      #expect(box.taken(0) == head)
      #expect(box.space.isWritable(at: start + .pages(7)))
      box.release(.pinUserPages, 1)
    }
  }

  @Test(
    "C.5.6: the slow path takes a folio's pages as one event and one count", arguments: backings)
  func together(size: FolioSize) throws {
    try withFolios(size) { box, start, head in
      let count = size.pageCount.rawValue
      // A grab is one passage of the failure point.
      box.memory.arm(.grab, countdown: Int.max)
      #expect(try box.take(.pinUserPages, start, count, .write).pageCount == count)
      #expect(
        unsafe cshims_failure_point_passages(box.machine.header, FailurePoint.grab.rawValue) == 1)
      box.memory.arm(.grab, countdown: 0)
      box.release(.pinUserPages, count)
      // Read-only, and one page is not exclusive: the run ends there, and goes on.
      try box.space.protect(start, length: size.pageCount.byteCount, .readOnly)
      box.space.mm.lock()
      box.space.mm.splitLeaf(at: start.rawValue)
      box.space.mm.unlock()
      let odd = try box.page(start + .pages(2))
      box.clearFlags(odd, CSHIMS_PAGE_ANON_EXCLUSIVE)
      #expect(try box.take(.getUserPages, start, count).pageCount == count)
      #expect(head.referenceCount == 2 * count)
      box.release(.getUserPages, count)
      #expect(try box.take(.pinUserPages, start, count).pageCount == count)
      // Unsharing copied the one page: its folio has other references.
      #expect(box.taken(2) != odd && box.taken(2)?.folioOrder == 0)
      #expect(head.pinCount == count - 1 && box.taken(2)?.pinCount == 1)
      box.release(.pinUserPages, count)
    }
  }

  @Test("C.11 G6: maybe-pinned is exact on folios, however many references there are")
  func maybePinned() throws {
    for size in Self.backings {
      try withFolios(size) { box, start, head in
        #expect(try box.take(.pinUserPagesFast, start + .pages(1), 1, .write).pageCount == 1)
        let pinned = try #require(box.taken(0))
        #expect(pinned.mayBePinned && pinned.folioHead.mayBePinned)
        // What would move or merge pages must leave it alone.
        #expect(throws: MemoryError.self) { try box.space.splitFolio(at: start + .pages(1)) }
        box.release(.pinUserPagesFast, 1)
        #expect(!pinned.mayBePinned)
        try head.acquire(.reference, count: 5000)
        #expect(!head.mayBePinned)
        // So fork shares it.
        let child = try box.space.fork()
        #expect(child.page(at: start) == head)
        child.exit()
        head.release(.reference, count: 5000)
      }
    }
  }

  @Test(
    "C.11 G5: unmapping half of a pinned folio leaves pin and bytes, and another page behind it",
    arguments: backings, [true, false])
  func unmappedHalf(size: FolioSize, unmaps: Bool) throws {
    try withFolios(size) { box, start, head in
      let half = size.pageCount.rawValue / 2
      #expect(try box.take(.pinUserPagesFast, start, 2, .write).pageCount == 2)
      let page = try #require(box.taken(1))
      if unmaps {
        try box.space.unmap(start, length: .pages(half))
        _ = try box.space.map(length: .pages(half), at: .fixed(start))
      } else {
        try box.space.advise(start, length: .pages(half), .dontNeed)
      }
      #expect(head.pinCount == 2 && page.mapCount == 0 && box.word(page) == 2)
      try box.store(start, pages: 2)
      #expect(try box.page(start + .pages(1)) != page)
      unsafe page.bytes.storeBytes(of: 77, as: UInt64.self)
      #expect(try box.load(start, pages: 2) == 2)
      // The other half is still the folio's.
      #expect(try box.page(start + .pages(half)).folioHead == head)
      box.release(.pinUserPagesFast, 2)
      #expect(head.pinCount == 0 && head.referenceCount == size.pageCount.rawValue - half)
      // The pages that were unmapped under the pin go when the folio is split.
      try box.space.splitFolio(at: start + .pages(half))
      #expect(page.isFree)
    }
  }

  @Test("Collapse and split are EAGAIN while a page is pinned, and change nothing")
  func pinnedStays() throws {
    try withSandbox { box in
      let start = try box.map(pages: 512)
      try box.store(start, pages: 512)
      #expect(try box.take(.pinUserPagesFast, start + .pages(9), 1, .write).pageCount == 1)
      let page = try #require(box.taken(0))
      #expect(throws: MemoryError(.tryAgain, .inUse, start + .pages(9))) {
        try box.space.advise(start, length: .mebibytes(2), .collapse)
      }
      #expect(try box.page(start + .pages(9)) == page && page.isAnonymousExclusive)
      #expect(box.space.isWritable(at: start + .pages(9)))
      box.release(.pinUserPagesFast, 1)
      try box.space.advise(start, length: .mebibytes(2), .collapse)
      #expect(page.isFree)

      #expect(try box.take(.pinUserPagesFast, start, 3, .write).pageCount == 3)
      #expect(throws: MemoryError(.tryAgain, .inUse, start)) {
        try box.space.splitFolio(at: start)
      }
      #expect(try box.page(start).folioOrder == 9 && box.page(start).referenceCount == 4)
      box.release(.pinUserPagesFast, 3)
      try box.space.splitFolio(at: start)
      #expect(try box.take(.pinUserPagesFastOnly, start, 512, .write).pageCount == 512)
      #expect(try box.page(start + .pages(5)).referenceCount == 1025)
      box.release(.pinUserPagesFastOnly, 512)
      #expect(try box.load(start, pages: 512) == 512)
    }
  }

  @Test("C.1: SPLIT_PMD splits a leaf before it is followed", arguments: Entry.slow)
  func splitPMD(entry: Entry) throws {
    try withFolios(.huge) { box, start, head throws in
      #expect(try box.take(entry, start + .pages(7), 3, [.write, .splitPMD]).pageCount == 3)
      #expect(head.referenceCount == 512 + 3 && head.isAnonymousExclusive)
      #expect(head.folioOrder == 9)
      box.release(entry, 3)
    }
  }

  @Test(
    "C.8: a folio that must stay movable moves whole before it is pinned for long",
    arguments: backings, [Entry.pinUserPagesFast, .pinUserPages])
  func longTerm(size: FolioSize, entry: Entry) throws {
    try withFolios(size, of: .movable) { box, start, head throws in
      let count = size.pageCount.rawValue
      let flags: GUPFlags = [.longTerm, .write]
      #expect(head.flags & CSHIMS_PAGE_MOVABLE != 0)
      #expect(try box.take(.pinUserPagesFastOnly, start, 2 * count, flags).pageCount == 0)
      #expect(try box.take(entry, start, 2 * count, .write).pageCount == 2 * count)
      #expect(box.taken(0) == head)
      box.release(entry, 2 * count)
      // Part of the first, all of the second: both move, with all that they are.
      let length = 2 * count - 1
      #expect(try box.take(entry, start + .pages(1), length, flags).pageCount == length)
      #expect(try box.page(start) != head)
      for (at, pins) in [(start, count - 1), (start + size.pageCount.byteCount, count)] {
        let new = try box.page(at)
        #expect(new.folioHead == new && 1 << new.folioOrder == count)
        #expect(new.flags & CSHIMS_PAGE_MOVABLE == 0 && new.isAnonymousExclusive)
        #expect(new.pinCount == pins && new.referenceCount == mapped(size) + pins)
      }
      for i in 1..<(2 * count) {
        let page = try #require(box.taken(i - 1))
        #expect(try box.page(start + .pages(i)) == page && box.word(page) == UInt64(i) + 1)
      }
      #expect(box.space.isWritable(at: start))
      // Held for long, nothing moves them.
      #expect(try box.space.migrate(start, length: .pages(2 * count)).pinned == 2 * count)
      let counters = box.memory.counters
      #expect(counters.pinsAcquired - counters.pinsReleased == length)
      box.release(entry, length)
      #expect(try box.take(.pinUserPagesFastOnly, start, 2 * count, flags).pageCount == 2 * count)
      box.release(.pinUserPagesFastOnly, 2 * count)
    }
  }

  @Test(
    "C.8, G6: a movable folio that somebody holds is refused for long, all pins dropped",
    arguments: backings, [PageHold.reference, .pin])
  func longTermHeld(size: FolioSize, hold: PageHold) throws {
    try withFolios(size, of: .movable) { box, start, head throws in
      let count = size.pageCount.rawValue
      let second = try box.page(start + size.pageCount.byteCount)
      try box.page(start + .pages(2 * count - 1)).acquire(hold)
      #expect(
        box.refusal(.pinUserPagesFast, start + .pages(1), 2 * count - 1, [.longTerm, .write])
          == MemoryError(.outOfMemory, .movablePage, start + .pages(count)))
      #expect(box.taken(0) == nil && box.taken(2 * count - 2) == nil)
      #expect(try box.page(start + .pages(count)) == second && second.folioHead == second)
      #expect(second.referenceCount == mapped(size) + 1)
      #expect(box.memory.counters.pinsAcquired == 0)
      second.release(hold)
      #expect(try box.load(start, pages: 2 * count) == UInt64(2 * count))
    }
  }

  @Test(
    "C.8, C.6: without a block its pages move singly; without a frame ENOMEM, nothing changed",
    arguments: backings)
  func longTermWithoutBlock(size: FolioSize) throws {
    try withFolios(size, of: .movable) { box, start, head throws in
      let count = size.pageCount.rawValue
      let flags: GUPFlags = [.longTerm, .write]
      var taken: [Page] = []
      while box.memory.freeFrameCount.rawValue > 0 { taken.append(try box.memory.allocatePage()) }
      #expect(
        box.refusal(.pinUserPages, start, count, flags)
          == MemoryError(.outOfMemory, .framesExhausted, start))
      #expect(try box.page(start) == head && 1 << head.folioOrder == count)
      #expect(head.referenceCount == mapped(size) && head.pinCount == 0)
      #expect(box.space.isWritable(at: start))
      taken.remove(at: taken.count / 2).put()
      #expect(try box.take(.pinUserPages, start, 3, flags).pageCount == 3)
      for i in 0..<count {
        let page = try box.page(start + .pages(i))
        #expect(page.folioOrder == 0 && (page.flags & CSHIMS_PAGE_MOVABLE == 0) == (i < 3))
        #expect(page.referenceCount == (i < 3 ? 1025 : 1) && box.word(page) == UInt64(i) + 1)
      }
      box.release(.pinUserPages, 3)
      for page in taken { page.put() }
    }
  }

  @Test(
    "C.3 end, C.11 G1, G4: threads pin a leaf while it is split, shared and dropped beside them",
    arguments: backings)
  func races(size: FolioSize) throws {
    try withMachine(capacity: .mebibytes(32)) { memory in
      let space = try AddressSpace(memory: memory)
      defer { space.exit() }
      let count = size.pageCount.rawValue
      let start = try space.map(length: .pages(count), folios: size)
      onThreads(3) { thread in
        if thread == 0 {
          for round in 0..<60 {
            let at = start + .pages(round % count)
            switch round % 5 {
            case 0: try? space.protect(at, length: .pages(1), .readOnly)
            case 1: (try? space.fork())?.exit()
            case 2: try? space.splitFolio(at: at)
            case 3: try? space.protect(start, length: .pages(count), .readWrite)
            default: try? space.advise(start, length: .pages(count), .dontNeed)
            }
          }
          return
        }
        guard var list = try? PageBuffer(capacity: count) else { return }
        for round in 0..<150 {
          let first = round % count
          let wanted = min(count - first, 70)
          guard
            let result = try? space.pinUserPagesFast(
              start + .pages(first), count: wanted, flags: thread == 1 ? .write : [],
              into: &list)
          else { continue }
          for i in 0..<result.pageCount {
            let isPinned = list[i]?.isZeroPage == true || list[i]?.mayBePinned == true
            #expect(isPinned)
          }
          unpinUserPages(&list)
        }
      }
    }
  }
}
