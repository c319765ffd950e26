//===----------------------------------------------------------------------===//
// Semantics C.8: pins that may be held for ever. A page that must stay movable is
// moved to a frame that need not before it is pinned.
//===----------------------------------------------------------------------===//

import AddressSpaces
import CShims
import Events
import GUP
import PageFrames
import Testing

@Suite("C.8: LONGTERM")
struct LongTermTests {
  @Test(
    "C.8: pages that may stay where they are are pinned by the walk",
    arguments: [GUPFlags(), .write])
  func pinnable(flags: GUPFlags) throws {
    try withSandbox { box in
      let start = try box.mapWritten(pages: 5)
      let long = flags.union(.longTerm)
      #expect(try box.take(.pinUserPagesFastOnly, start, 5, long).pageCount == 5)
      box.release(.pinUserPagesFastOnly, 5)
    }
  }

  @Test("C.8: the walk refuses a movable page and keeps what it has")
  func walkRefuses() throws {
    try withSandbox { box in
      let start = try box.mapWritten(pages: 5)
      let movable = try box.page(start + .pages(2))
      box.setFlags(movable, CSHIMS_PAGE_MOVABLE)
      #expect(try box.take(.pinUserPagesFastOnly, start, 5, .longTerm).pageCount == 2)
      box.release(.pinUserPagesFastOnly, 2)
      #expect(try box.take(.pinUserPagesFastOnly, start, 5, .write).pageCount == 5)
      box.release(.pinUserPagesFastOnly, 5)
      // Somebody holds it, so it cannot be moved.
      try movable.get()
      let result = try box.take(.pinUserPagesFast, start, 5, .longTerm)
      let stop = MemoryError(.outOfMemory, .movablePage, start + .pages(2))
      #expect(result == GUPResult(pageCount: 2, stop: stop))
      box.release(.pinUserPagesFast, 2)
      movable.put()
      #expect(try box.take(.pinUserPagesFast, start, 5, .longTerm).pageCount == 5)
      #expect(box.taken(2) != movable && movable.isFree)
      box.release(.pinUserPagesFast, 5)
    }
  }

  @Test(
    "C.8, C.11 G6: movable memory is moved before it is pinned for long, with its bytes",
    arguments: [Sharing.private, .shared], [Entry.pinUserPagesFast, .pinUserPages])
  func migrates(sharing: Sharing, entry: Entry) throws {
    try withSandbox { box in
      let start = try box.space.map(length: .pages(70), sharing: sharing, of: .movable)
      try box.store(start, pages: 70)
      let before = try (0..<70).map { try box.page(start + .pages($0)) }
      for page in before { #expect(page.flags & CSHIMS_PAGE_MOVABLE != 0) }
      // A short pin takes them where they are.
      #expect(try box.take(entry, start, 70, .write).pageCount == 70)
      #expect(box.taken(69) == before[69])
      box.release(entry, 70)
      for flags in [GUPFlags.longTerm, [.longTerm, .write]] {
        #expect(try box.take(entry, start, 70, flags).pageCount == 70)
        for i in 0..<70 {
          let page = try #require(box.taken(i))
          #expect(page != before[i] && page.flags & CSHIMS_PAGE_MOVABLE == 0)
          #expect(try box.page(start + .pages(i)) == page)
          #expect(page.referenceCount == 1 + 1024 + (sharing == .shared ? 1 : 0))
          #expect(box.word(page) == UInt64(i) + 1)
        }
        // Held for long, nothing moves it.
        #expect(try box.space.migrate(start, length: .pages(70)).pinned == 70)
        box.release(entry, 70)
      }
    }
  }

  @Test("C.8, C.6: without a frame to move to, nothing is pinned, and ENOMEM says so")
  func withoutFrames() throws {
    try withSandbox(capacity: .pages(10)) { box in
      let start = try box.space.map(length: .pages(10), of: .movable)
      try box.store(start, pages: 10)
      let error = box.refusal(.pinUserPages, start, 10, [.longTerm, .write])
      #expect(error == MemoryError(.outOfMemory, .framesExhausted, start))
      for i in 0..<10 {
        #expect(box.taken(i) == nil)
        let page = try box.page(start + .pages(i))
        #expect(page.referenceCount == 1 && box.word(page) == UInt64(i) + 1)
      }
      #expect(box.memory.counters.pinsAcquired == 0)
    }
  }

  @Test("C.8, F: a migration that fails at its 1st, 2nd, 3rd ... frame leaves no pin behind")
  func failNth() throws {
    try withSandbox { box in
      var failures = 0
      for nth in 1..<20 {
        let start = try box.space.map(length: .pages(6), of: .movable)
        try box.store(start, pages: 6)
        box.memory.arm(.frameAllocation, countdown: nth)
        let error = box.refusal(.pinUserPages, start, 6, .longTerm)
        box.memory.arm(.frameAllocation, countdown: 0)
        for i in 0..<6 {
          let page = try box.page(start + .pages(i))
          #expect(page.referenceCount == 1 && box.word(page) == UInt64(i) + 1)
        }
        guard let error else { break }
        failures += 1
        #expect(error.number == .outOfMemory && error.reason == .framesExhausted)
      }
      #expect(failures == 6)
    }
  }

  @Test("C.8: a movable page anywhere unpins all of the slow path's pages, slots emptied")
  func allOrNothing() throws {
    try withSandbox { box in
      let start = try box.mapWritten(pages: 100)
      let movable = try box.page(start + .pages(90))
      box.setFlags(movable, CSHIMS_PAGE_MOVABLE)
      // It cannot be moved as long as somebody holds it, a pin or a reference.
      for hold in [PageHold.reference, .pin] {
        try movable.acquire(hold)
        let error = box.refusal(.pinUserPages, start, 100, [.longTerm, .write])
        #expect(error == MemoryError(.outOfMemory, .movablePage, start + .pages(90)))
        movable.release(hold)
        for i in 0..<100 {
          #expect(box.taken(i) == nil)
          #expect(try box.page(start + .pages(i)).referenceCount == 1)
        }
      }
      #expect(box.memory.counters.pinsAcquired == 0)
      #expect(try box.take(.pinUserPages, start, 100, [.longTerm, .write]).pageCount == 100)
      #expect(box.taken(90) != movable && box.taken(89) != nil)
      box.release(.pinUserPages, 100)
    }
  }

  @Test(
    "C.8, G-05: a long pin for reading breaks sharing of the zero page first",
    arguments: [Entry.pinUserPagesFast, .pinUserPages])
  func zeroPage(entry: Entry) throws {
    try withSandbox { box in
      let start = try box.map(pages: 2)
      try box.load(start, pages: 1)
      #expect(try box.take(entry, start, 2, .longTerm).pageCount == 2)
      for i in 0..<2 {
        let page = try #require(box.taken(i))
        #expect(!page.isZeroPage)
        #expect(page.isAnonymousExclusive)
        #expect(page.referenceCount == 1 + 1024)
      }
      box.release(entry, 2)
      // The program's later store goes where the pin looks.
      let pinned = try box.page(start)
      try box.store(start, pages: 1)
      #expect(try box.page(start) == pinned)
    }
  }

  @Test(
    "C.8: without LONGTERM the zero page is good enough",
    arguments: [Entry.pinUserPagesFast, .pinUserPages])
  func zeroPageShortTerm(entry: Entry) throws {
    try withSandbox { box in
      let start = try box.map(pages: 1)
      #expect(try box.take(entry, start, 1).pageCount == 1)
      #expect(box.taken(0) == box.memory.zeroPage)
      box.release(entry, 1)
    }
  }

  @Test("C.8, C.3: NOFAULT and LONGTERM leave the zero page alone and say why")
  func zeroPageNoFault() throws {
    try withSandbox { box in
      let start = try box.map(pages: 1)
      try box.load(start, pages: 1)
      let error = box.refusal(.pinUserPagesFast, start, 1, [.longTerm, .noFault])
      #expect(error == MemoryError(.badAddress, .breakingSharingForbidden, start))
    }
  }

  @Test("C.8: shared memory is not copy-on-write: read-only long pins take its own pages")
  func sharedMemory() throws {
    try withSandbox { box in
      let start = try box.mapWritten(pages: 2, .shared)
      try box.space.protect(start, length: .pages(2), .readOnly)
      let page = try box.page(start)
      // Without the area the walk cannot know that, and leaves it.
      #expect(try box.take(.pinUserPagesFastOnly, start, 2, .longTerm).pageCount == 0)
      #expect(try box.take(.pinUserPagesFast, start, 2, .longTerm).pageCount == 2)
      #expect(box.taken(0) == page)
      box.release(.pinUserPagesFast, 2)
    }
  }
}
