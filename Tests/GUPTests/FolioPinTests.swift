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
    _ size: FolioSize, tier: TrapTier = .none,
    _ body: (Sandbox, UserAddress, Page) throws -> Void
  ) throws {
    try withSandbox(tier: tier) { box in
      let count = 2 * size.pageCount.rawValue
      let start = try box.space.map(length: .pages(count), folios: size)
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
    "C.8: a movable folio is refused for long, its pins dropped; others are pinned",
    arguments: backings)
  func longTerm(size: FolioSize) throws {
    try withFolios(size) { box, start, head throws in
      let count = size.pageCount.rawValue
      let flags: GUPFlags = [.longTerm, .write]
      #expect(try box.take(.pinUserPagesFastOnly, start, count, flags).pageCount == count)
      #expect(head.pinCount == count)
      box.release(.pinUserPagesFastOnly, count)
      box.setFlags(head, CSHIMS_PAGE_MOVABLE)
      #expect(
        box.refusal(.pinUserPagesFast, start + .pages(1), 2, flags)
          == MemoryError(.outOfMemory, .movablePage, start + .pages(1)))
      #expect(head.pinCount == 0 && head.referenceCount == mapped(size))
      box.clearFlags(head, CSHIMS_PAGE_MOVABLE)
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
