//===----------------------------------------------------------------------===//
// Semantics C.4 and C.10: what references and pins do to counts, and what the
// machine counts of them.
//===----------------------------------------------------------------------===//

import AddressSpaces
import CShims
import GUP
import PageFrames
import Testing

@Suite("C.4, C.10: counts")
struct ArithmeticTests {
  @Test("C.4: on a single page a get counts 1 and a pin 1,024", arguments: Entry.allCases)
  func singlePage(entry: Entry) throws {
    try withSandbox { box in
      let start = try box.mapWritten(pages: 1)
      let page = try box.page(start)
      for n in 1...5 {
        try box.take(entry, start, 1, .write)
        #expect(page.referenceCount == 1 + n * entry.bias)
        #expect(page.mayBePinned == entry.pins)
      }
      for n in (0..<5).reversed() {
        box.release(entry, 1)
        #expect(page.referenceCount == 1 + n * entry.bias)
      }
      #expect(!page.mayBePinned)
    }
  }

  @Test("C.4, A-24: the zero page counts gets and no pins", arguments: Entry.falling)
  func zeroPage(entry: Entry) throws {
    try withSandbox { box in
      let start = try box.map(pages: 3)
      try box.load(start, pages: 3)
      #expect(try box.take(entry, start, 3).pageCount == 3)
      #expect(box.memory.zeroPage.referenceCount == (entry.pins ? 1 : 4))
      let counters = box.memory.counters
      #expect(counters.pinsAcquired == 0)
      #expect(counters.referencesAcquired == (entry.pins ? 0 : 3))
      box.release(entry, 3)
      #expect(box.memory.zeroPage.referenceCount == 1)
    }
  }

  @Test("C.4: 1,024 plain references look like a pin, 1,023 do not")
  func falsePositive() throws {
    try withSandbox { box in
      let start = try box.mapWritten(pages: 1)
      let page = try box.page(start)
      for _ in 0..<1022 { try box.take(.getUserPagesFast, start, 1) }
      #expect(page.referenceCount == 1023)
      #expect(!page.mayBePinned)
      try box.take(.getUserPagesFast, start, 1)
      #expect(page.mayBePinned)
      for _ in 0..<1023 { box.release(.getUserPagesFast, 1) }
      #expect(page.referenceCount == 1)
    }
  }

  @Test(
    "C.4: exactly 2^21 - 1 pins fit beside the mapping; the next is refused and harms nothing",
    arguments: Entry.allCases)
  func pinLimit(entry: Entry) throws {
    try withSandbox { box in
      let start = try box.mapWritten(pages: 2)
      let page = try box.page(start)
      let limit = (1 << 21) - 1
      try page.acquire(.pin, count: limit - 2)
      for _ in 0..<2 { #expect(try box.take(.pinUserPagesFast, start, 1).pageCount == 1) }
      let full = 1 + limit * 1024
      #expect(page.referenceCount == full)
      for count in [1, 2] {
        if Entry.fastOnly.contains(entry), entry.pins {
          #expect(try box.take(entry, start, count).pageCount == 0)
        } else if entry.pins {
          let error = box.refusal(entry, start, count)
          #expect(error == MemoryError(.outOfMemory, .countOverflow, start))
        }
        #expect(page.referenceCount == full)
      }
      if !entry.pins {
        // What a pin leaves free, 1,022 references may still take.
        page.release(.pin)
        #expect(try box.take(entry, start, 2).pageCount == 2)
        box.release(entry, 2)
        try page.acquire(.pin)
      }
      // The neighbour is as ever.
      #expect(try box.take(entry, start + .pages(1), 1).pageCount == 1)
      box.release(entry, 1)
      unsafe box.list[0] = page
      for _ in 0..<2 { box.release(.pinUserPages, 1) }
      page.release(.pin, count: limit - 2)
      #expect(page.referenceCount == 1)
    }
  }

  @Test("C.4: put_page on a pinned page leaves 1,023, which still looks pinned")
  func putOfPin() throws {
    try withSandbox { box in
      let start = try box.mapWritten(pages: 1)
      let page = try box.page(start)
      try box.take(.pinUserPagesFast, start, 1)
      putPage(page)
      #expect(page.referenceCount == 1 + 1023)
      #expect(page.mayBePinned == false || page.referenceCount >= 1024)
      // Put the account right again.
      try page.get()
      box.release(.pinUserPagesFast, 1)
    }
  }

  @Test(
    "C.10: counters count base pages, and agree at rest", arguments: Entry.allCases, [1, 7, 700])
  func counters(entry: Entry, count: Int) throws {
    try withSandbox { box in
      let start = try box.mapWritten(pages: count)
      try box.take(entry, start, count, .write)
      var counters = box.memory.counters
      #expect(counters.pinsAcquired == (entry.pins ? count : 0))
      #expect(counters.referencesAcquired == (entry.pins ? 0 : count))
      #expect(counters.outstanding == count)
      box.release(entry, count)
      counters = box.memory.counters
      #expect(counters.outstanding == 0)
      #expect(counters.pinsReleased + counters.referencesReleased == count)
    }
  }

  @Test("C.10: a pin that fork rolled back was never counted")
  func rolledBack() throws {
    try withSandbox { box in
      let start = try box.mapWritten(pages: 3)
      box.advanceSequence()
      #expect(try box.take(.pinUserPagesFastOnly, start, 3).pageCount == 0)
      box.advanceSequence()
      #expect(box.memory.counters.pinsAcquired == 0)
    }
  }

  @Test("G5: a pinned page outlives its mapping and its address space", arguments: Entry.allCases)
  func outlives(entry: Entry) throws {
    try withSandbox { box in
      let start = try box.mapWritten(pages: 2)
      try box.take(entry, start, 2, .write)
      let pages = try (0..<2).map { try #require(box.taken($0)) }
      try box.space.unmap(start, length: .pages(1))
      let again = try box.space.map(length: .pages(1), at: .fixed(start))
      try box.store(again, pages: 1)
      #expect(try box.page(again) != pages[0])
      box.space.exit()
      for (i, page) in pages.enumerated() {
        #expect(page.referenceCount == entry.bias)
        #expect(box.word(page) == UInt64(i) + 1)
        unsafe box.list[i] = page
      }
      box.release(entry, 2)
      #expect(pages.allSatisfy { $0.isFree })
    }
  }
}
