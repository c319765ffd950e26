//===----------------------------------------------------------------------===//
// Semantics C.9: giving back.
//===----------------------------------------------------------------------===//

import AddressSpaces
import CShims
import GUP
import PageFrames
import TestSupport
import Testing

@Suite("C.9: release")
struct ReleaseTests {
  @Test("C.9: one page, one hold", arguments: Entry.fast)
  func one(entry: Entry) throws {
    try withSandbox { box in
      let start = try box.mapWritten(pages: 1)
      try box.take(entry, start, 1)
      let page = try box.page(start)
      if entry.pins { unpinUserPage(page) } else { putPage(page) }
      #expect(page.referenceCount == 1)
    }
  }

  @Test("C.9, G-13: nil slots are skipped, wherever they stand")
  func nilSlots() throws {
    try withSandbox { box in
      let start = try box.mapWritten(pages: 6)
      try box.take(.pinUserPagesFast, start, 6)
      let kept = [0, 3, 5].map { box.taken($0) }
      for i in [0, 3, 5] { unsafe box.list[i] = nil }
      #expect(unsafe unpinUserPages(box.list, count: 6) == nil)
      #expect(box.memory.counters.outstanding == 3)
      for i in 0..<6 {
        let held = [0, 3, 5].contains(i)
        #expect(try box.page(start + .pages(i)).referenceCount == (held ? 1025 : 1))
      }
      for i in 0..<3 { unsafe box.list[i * 2] = kept[i] }
      for i in [1, 3] { unsafe box.list[i] = nil }
      box.release(.pinUserPagesFast, 5)
    }
  }

  @Test(
    "C.9, G-16: a count that is an errno is reported and ignored", arguments: [-1, -14, Int.min])
  func negativeCount(count: Int) throws {
    try withSandbox { box in
      let start = try box.mapWritten(pages: 1)
      try box.take(.pinUserPagesFast, start, 1)
      let warning = MemoryError(.invalid, .countNegative, count)
      let page = try box.page(start)
      #expect(unsafe unpinUserPages(box.list, count: count) == warning)
      #expect(unsafe unpinUserPagesDirtyLock(box.list, count: count, dirty: true) == warning)
      #expect(unsafe unpinFolios(box.list, count: count) == warning)
      #expect(unsafe putPages(box.list, count: count) == warning)
      #expect(unpinUserPageRangeDirtyLock(page, count: count, dirty: true) == warning)
      #expect(unpinUserFolio(page, count: count) == warning)
      #expect(page.referenceCount == 1025)
      box.release(.pinUserPagesFast, 1)
    }
  }

  @Test("C.9: counts that no page can have are reported and ignored")
  func impossibleCount() throws {
    try withSandbox { box in
      let start = try box.mapWritten(pages: 1)
      let page = try box.page(start)
      #expect(Refusal(unpinUserFolio(page, count: .max)) == Refusal(.invalid, .countOverflow))
      #expect(
        Refusal(unpinUserPageRangeDirtyLock(page, count: .max, dirty: false))
          == Refusal(.invalid, .framesOutsideMachine))
      #expect(page.referenceCount == 1)
    }
  }

  @Test(
    "C.9: dirty marks what is clean, and nothing when it is not asked", arguments: [false, true])
  func dirty(dirty: Bool) throws {
    try withSandbox { box in
      let start = try box.mapWritten(pages: 3)
      let pages = try (0..<3).map { try box.page(start + .pages($0)) }
      for page in pages { box.clearFlags(page, CSHIMS_PAGE_DIRTY) }
      box.setFlags(pages[1], CSHIMS_PAGE_DIRTY)
      try box.take(.pinUserPagesFast, start, 3, .write)
      #expect(unsafe unpinUserPagesDirtyLock(box.list, count: 3, dirty: dirty) == nil)
      #expect(pages.map(\.isDirty) == [dirty, true, dirty])
    }
  }

  @Test("C.9: a buffer is released dirty and emptied")
  func dirtyBuffer() throws {
    try withSandbox { box in
      let start = try box.mapWritten(pages: 3)
      let page = try box.page(start)
      box.clearFlags(page, CSHIMS_PAGE_DIRTY)
      var buffer = try PageBuffer(capacity: 3)
      _ = try box.space.pinUserPagesFast(start, count: 3, into: &buffer)
      unpinUserPagesDirtyLock(&buffer, dirty: true)
      #expect(buffer.count == 0)
      #expect(page.isDirty)
    }
  }

  @Test("C.9: a range of consecutive frames is released by number", arguments: [false, true])
  func range(dirty: Bool) throws {
    try withSandbox { box in
      let start = try box.mapWritten(pages: 8)
      let first = try box.page(start)
      for i in 0..<8 {
        #expect(
          try box.page(start + .pages(i)).frameNumber.rawValue == first.frameNumber.rawValue
            + UInt64(i))
      }
      box.clearFlags(first, CSHIMS_PAGE_DIRTY)
      try box.take(.pinUserPagesFast, start, 8)
      #expect(unpinUserPageRangeDirtyLock(first, count: 8, dirty: dirty) == nil)
      #expect(first.isDirty == dirty)
      #expect(box.memory.counters.outstanding == 0)
    }
  }

  @Test("C.9: a folio's slots are one drop each run; its tails are marked dirty as one")
  func folio() throws {
    try withSandbox { box in
      let folio = try box.memory.allocatePage(order: 4)
      let single = try box.memory.allocatePage()
      func sub(_ i: Int) -> Page { box.machine.page(folio.frameNumber.rawValue + UInt64(i)) }
      // The same sub-page twice, another page between: three runs.
      let slots = [sub(3), sub(4), sub(4), single, sub(0), sub(15)]
      for (i, page) in slots.enumerated() {
        unsafe box.list[i] = page
        try page.acquire(.pin)
        box.machine.count(CSHIMS_PINS_ACQUIRED, 1)
      }
      #expect(folio.pinCount == 5)
      #expect(unsafe unpinUserPagesDirtyLock(box.list, count: 6, dirty: true) == nil)
      #expect(folio.pinCount == 0)
      #expect(folio.referenceCount == 1)
      #expect(single.referenceCount == 1)
      #expect(sub(9).isDirty && single.isDirty)
      // By folio, by range, and by list of folios.
      try folio.acquire(.pin, count: 20)
      box.machine.count(CSHIMS_PINS_ACQUIRED, 20)
      #expect(unpinUserFolio(sub(7), count: 2) == nil)
      unpinFolio(sub(1))
      #expect(unpinUserPageRangeDirtyLock(sub(0), count: 16, dirty: false) == nil)
      unsafe box.list[0] = folio
      unsafe box.list[1] = nil
      #expect(unsafe unpinFolios(box.list, count: 2) == nil)
      #expect(folio.pinCount == 0)
      // References, too, count on the head.
      try folio.acquire(.reference, count: 2)
      box.machine.count(CSHIMS_REFS_ACQUIRED, 2)
      unsafe box.list[0] = sub(2)
      unsafe box.list[1] = sub(3)
      #expect(unsafe putPages(box.list, count: 2) == nil)
      #expect(folio.referenceCount == 1)
      putPage(sub(5))
      #expect(folio.isFree)
      single.put()
    }
  }

  @Test("C.9: of lists of folios' pages, others and nil slots in any order each hold goes once")
  func mixedLists() throws {
    var random = SeededRandom(stream: 9)
    try withSandbox { box in
      let owners = [
        try box.memory.allocatePage(order: 5), try box.memory.allocatePage(order: 2),
        try box.memory.allocatePage(),
      ]
      for _ in 0..<300 {
        var slots: [Page?] = []
        while slots.count < 70 {
          let owner = owners.randomElement(using: &random)
          // Runs of lengths around those that are looked at by one branch.
          for _ in 0..<Int.random(in: 1...20, using: &random) {
            guard let owner, Int.random(in: 0..<12, using: &random) > 0 else {
              slots.append(nil)
              continue
            }
            let i = UInt64.random(in: 0..<(1 << UInt64(owner.folioOrder)), using: &random)
            slots.append(box.machine.page(owner.frameNumber.rawValue + i))
          }
        }
        let held = slots.compactMap { $0 }
        for page in held { try page.acquire(.pin) }
        box.machine.count(CSHIMS_PINS_ACQUIRED, held.count)
        let refusal = unsafe slots.withUnsafeBufferPointer {
          unsafe unpinUserPages($0.baseAddress!, count: $0.count)
        }
        #expect(refusal == nil && owners.map(\.pinCount) == [0, 0, 0], "\(howToRepeat)")
      }
      for owner in owners { owner.put() }
    }
  }

  @Test("C.9: one list may hold pages of several machines; each counts its own")
  func machines() throws {
    try withSandbox { box in
      try withSandbox { other in
        for i in 0..<6 {
          unsafe box.list[i] = try (i % 3 == 1 ? other : box).memory.allocatePage()
        }
        #expect(unsafe putPages(box.list, count: 6) == nil)
        #expect(box.memory.counters.referencesReleased == 4)
        #expect(other.memory.counters.referencesReleased == 2)
      }
    }
  }

  @Test("C.9: the zero page is skipped by unpin among others, and put by put")
  func zeroPage() throws {
    try withSandbox { box in
      let start = try box.map(pages: 4)
      try box.store(start + .pages(1), pages: 1)
      for entry in [Entry.pinUserPagesFast, .getUserPagesFast] {
        try box.take(entry, start, 4)
        box.release(entry, 4)
        #expect(box.memory.zeroPage.referenceCount == 1)
      }
      unpinUserPage(box.memory.zeroPage)
      #expect(unpinUserFolio(box.memory.zeroPage, count: 5) == nil)
      #expect(unpinUserPageRangeDirtyLock(box.memory.zeroPage, count: 1, dirty: true) == nil)
      #expect(box.memory.zeroPage.referenceCount == 1)
      #expect(box.memory.counters.pinsReleased == 1)
    }
  }

  @Test("C.4, C.9: a pin too many stops the program and names the frame")
  func overRelease() async {
    let result = await #expect(
      processExitsWith: .signal(6), observing: [\.standardErrorContent]
    ) {
      let memory = try PhysicalMemory(capacity: .mebibytes(1), trapTier: .none)
      let page = try memory.allocatePage()
      unpinUserPage(page)
    }
    let text = String(decoding: result?.standardErrorContent ?? [], as: UTF8.self)
    #expect(text.contains("unpin_user_page"))
  }
}
