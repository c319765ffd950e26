//===----------------------------------------------------------------------===//
// The scenarios of semantics D.6: who sees a device's bytes after fork, by GET
// and by PIN, with native and with explicit accesses, of single pages, of folios
// behind small entries, and of 2 MiB leaves.
//===----------------------------------------------------------------------===//

import AddressSpaces
import CShims
import GUP
import PageFrames
import TestSupport
import Testing

@Suite("D.6 scenarios: fork, copy-on-write and what a device holds")
struct ForkScenarioTests {
  typealias S = Sight

  @Test(
    "S1: the parent stores after fork, then the device writes", arguments: ForkCase.onEveryBacking)
  func s1(_ c: ForkCase) throws {
    try Scene.run(c) { scene in
      let page = try scene.acquire(scene.parent, flags: .write)
      let child = try scene.parent.fork()
      try scene.store(1, by: scene.parent)
      scene.deviceWrites(page)
      // GET: the owner was moved away, and the child reads what is not its own.
      let parent = S.original.storing(1)
      #expect(try scene.sight(of: scene.parent) == (c.isPin ? parent.withDeviceBytes : parent))
      #expect(try scene.sight(of: child) == (c.isPin ? .original : .original.withDeviceBytes))
    }
  }

  @Test(
    "S2: the child stores, then the parent, then the device writes",
    arguments: ForkCase.onEveryBacking)
  func s2(_ c: ForkCase) throws {
    try Scene.run(c) { scene in
      let page = try scene.acquire(scene.parent, flags: .write)
      let child = try scene.parent.fork()
      try scene.store(2, by: child)
      try scene.store(1, by: scene.parent)
      scene.deviceWrites(page)
      let parent = S.original.storing(1)
      #expect(try scene.sight(of: scene.parent) == (c.isPin ? parent.withDeviceBytes : parent))
      #expect(try scene.sight(of: child) == .original.storing(2))
    }
  }

  @Test(
    "S3: nobody stores; only a pin keeps the child from seeing", arguments: ForkCase.onEveryBacking)
  func s3(_ c: ForkCase) throws {
    try Scene.run(c) { scene in
      let page = try scene.acquire(scene.parent, flags: .write)
      let child = try scene.parent.fork()
      scene.deviceWrites(page)
      #expect(try scene.sight(of: scene.parent) == .original.withDeviceBytes)
      #expect(try scene.sight(of: child) == (c.isPin ? .original : .original.withDeviceBytes))
    }
  }

  @Test(
    "S4: the child has gone, the parent stores, the device writes",
    arguments: ForkCase.onEveryBacking)
  func s4(_ c: ForkCase) throws {
    try Scene.run(c) { scene in
      let page = try scene.acquire(scene.parent, flags: .write)
      try scene.parent.fork().exit()
      try scene.store(1, by: scene.parent)
      scene.deviceWrites(page)
      let parent = S.original.storing(1)
      #expect(try scene.sight(of: scene.parent) == (c.isPin ? parent.withDeviceBytes : parent))
    }
  }

  @Test(
    "S5: the child has gone, the device writes, the parent reads",
    arguments: ForkCase.onEveryBacking)
  func s5(_ c: ForkCase) throws {
    try Scene.run(c) { scene in
      let page = try scene.acquire(scene.parent, flags: .write)
      try scene.parent.fork().exit()
      scene.deviceWrites(page)
      #expect(try scene.sight(of: scene.parent) == .original.withDeviceBytes)
    }
  }

  @Test("S6: acquired for writing after fork: unshared first", arguments: ForkCase.onEveryBacking)
  func s6(_ c: ForkCase) throws {
    try Scene.run(c) { scene in
      let child = try scene.parent.fork()
      let page = try scene.acquire(scene.parent, flags: .write)
      scene.deviceWrites(page)
      #expect(try scene.sight(of: scene.parent) == .original.withDeviceBytes)
      #expect(try scene.sight(of: child) == .original)
    }
  }

  @Test("S7: fork, acquire, fork again, store, device writes", arguments: ForkCase.onEveryBacking)
  func s7(_ c: ForkCase) throws {
    try Scene.run(c) { scene in
      let first = try scene.parent.fork()
      let page = try scene.acquire(scene.parent, flags: .write)
      let second = try scene.parent.fork()
      try scene.store(1, by: scene.parent)
      scene.deviceWrites(page)
      let parent = S.original.storing(1)
      #expect(try scene.sight(of: scene.parent) == (c.isPin ? parent.withDeviceBytes : parent))
      #expect(try scene.sight(of: first) == .original)
      #expect(try scene.sight(of: second) == (c.isPin ? .original : .original.withDeviceBytes))
    }
  }

  @Test(
    "S8: the child acquires for writing: the parent keeps its page",
    arguments: ForkCase.onEveryBacking)
  func s8(_ c: ForkCase) throws {
    try Scene.run(c) { scene in
      let child = try scene.parent.fork()
      let page = try scene.acquire(child, flags: .write)
      scene.deviceWrites(page)
      #expect(try scene.sight(of: child) == .original.withDeviceBytes)
      #expect(try scene.sight(of: scene.parent) == .original)
    }
  }

  @Test("S9: has-pinned is not inherited: a grandchild shares", arguments: ForkCase.onEveryBacking)
  func s9(_ c: ForkCase) throws {
    try Scene.run(c) { scene in
      try scene.acquire(scene.parent, flags: .write)
      let child = try scene.parent.fork()
      let grandchild = try child.fork()
      #expect(unsafe cshims_mm_flags(child.mm.hot) & CSHIMS_MM_HAS_PINNED == 0)
      #expect(child.page(at: scene.address) == grandchild.page(at: scene.address))
      #expect(
        (scene.parent.page(at: scene.address) == child.page(at: scene.address)) == !c.isPin)
    }
  }

  @Test(
    "S10: a read-only hold after fork, then the parent stores", arguments: ForkCase.onEveryBacking)
  func s10(_ c: ForkCase) throws {
    try Scene.run(c) { scene in
      let child = try scene.parent.fork()
      let page = try scene.acquire(scene.parent, flags: [])
      try scene.store(1, by: scene.parent)
      // GET holds the shared page, which the store leaves; PIN unshared first.
      #expect(scene.deviceReads(page) == (c.isPin ? .original.storing(1) : .original))
      #expect(try scene.sight(of: child) == .original)
    }
  }

  @Test(
    "S11: a read-only hold before fork, then the parent stores", arguments: ForkCase.onEveryBacking)
  func s11(_ c: ForkCase) throws {
    try Scene.run(c) { scene in
      let page = try scene.acquire(scene.parent, flags: [])
      let child = try scene.parent.fork()
      try scene.store(1, by: scene.parent)
      #expect(scene.deviceReads(page) == (c.isPin ? .original.storing(1) : .original))
      #expect(try scene.sight(of: child) == .original)
    }
  }

  @Test(
    "S12, D.2.4: dontFork leaves the page to the parent; a pin of it, the rest of its folio, too",
    arguments: ForkCase.onEveryBacking)
  func s12(_ c: ForkCase) throws {
    try Scene.run(c) { scene in
      let page = try scene.acquire(scene.parent, flags: .write)
      try scene.parent.advise(scene.address, length: .pages(1), .dontFork)
      let child = try scene.parent.fork()
      try scene.store(1, by: scene.parent)
      scene.deviceWrites(page)
      #expect(
        try scene.sight(of: scene.parent) == .original.storing(1).withDeviceBytes)
      #expect(throws: MemoryError(.badAddress, .notMapped, scene.address)) {
        try child.read(1, at: scene.address)
      }
      guard c.backing != .base else { return }
      // The advice has cut the mapping and not the folio: what is pinned there is
      // pinned for the pages that the child gets, as well.
      let rest = scene.address + .pages(1)
      #expect((child.page(at: rest) == scene.parent.page(at: rest)) == !c.isPin)
      #expect(scene.parent.page(at: rest)?.folioHead == page.folioHead)
      #expect(scene.parent.isWritable(at: rest) == c.isPin)
      #expect(scene.parent.page(at: rest)?.isAnonymousExclusive == c.isPin)
    }
  }

  @Test("S13: wipeOnFork: the child finds zeroes", arguments: ForkCase.onEveryBacking)
  func s13(_ c: ForkCase) throws {
    try Scene.run(c) { scene in
      let page = try scene.acquire(scene.parent, flags: .write)
      try scene.parent.advise(scene.address, length: .pages(1), .wipeOnFork)
      let child = try scene.parent.fork()
      try scene.store(1, by: scene.parent)
      scene.deviceWrites(page)
      #expect(
        try scene.sight(of: scene.parent) == .original.storing(1).withDeviceBytes)
      #expect(try scene.sight(of: child) == Sight(stored: 0, device: 0))
    }
  }

  @Test("S14: a shared mapping is coherent whatever is held", arguments: ForkCase.all)
  func s14(_ c: ForkCase) throws {
    try Scene.run(c, sharing: .shared) { scene in
      let page = try scene.acquire(scene.parent, flags: .write)
      let child = try scene.parent.fork()
      try scene.store(1, by: scene.parent)
      scene.deviceWrites(page)
      let both = Sight.original.storing(1).withDeviceBytes
      #expect(try scene.sight(of: scene.parent) == both)
      #expect(try scene.sight(of: child) == both)
      try scene.store(2, by: child)
      #expect(try scene.sight(of: scene.parent) == both.storing(2))
    }
  }

  @Test(
    "S15, G-03: a child's reference never shows the parent's later secret",
    arguments: ForkCase.onEveryBacking)
  func s15(_ c: ForkCase) throws {
    try Scene.run(c) { scene in
      let child = try scene.parent.fork()
      let page = try scene.acquire(child, flags: [])
      try child.unmap(scene.address, length: .pages(1))
      try scene.store(0x5e, by: scene.parent)
      #expect(scene.deviceReads(page) == .original)
      #expect(try scene.sight(of: scene.parent) == .original.storing(0x5e))
    }
  }

  @Test(
    "S16: what was held stays what it was when the child stores",
    arguments: ForkCase.onEveryBacking,
    [true, false])
  func s16(_ c: ForkCase, heldBeforeFork: Bool) throws {
    try Scene.run(c) { scene in
      var page: Page? = heldBeforeFork ? try scene.acquire(scene.parent, flags: []) : nil
      let child = try scene.parent.fork()
      if page == nil { page = try scene.acquire(scene.parent, flags: []) }
      try scene.parent.unmap(scene.address, length: .pages(1))
      try scene.store(3, by: child)
      #expect(scene.deviceReads(try #require(page)) == .original)
      #expect(try scene.sight(of: child) == .original.storing(3))
    }
  }

  @Test(
    "S18: a read-only hold of untouched memory is the zero page's",
    arguments: ForkCase.onEveryBacking,
    [false, true])
  func s18(_ c: ForkCase, longTerm: Bool) throws {
    // LONGTERM needs PIN.
    guard c.isPin || !longTerm else { return }
    for kind in [MemoryKind.ordinary, .movable] {
      try Scene.run(c, of: kind) { scene in
        try scene.parent.advise(scene.address, length: .pages(1), .dontNeed)
        let page = try scene.acquire(scene.parent, flags: longTerm ? .longTerm : [])
        #expect(page.isZeroPage == !longTerm)
        #expect(page.flags & CSHIMS_PAGE_MOVABLE == 0, "a long pin's page need not move")
        try scene.store(9, by: scene.parent)
        #expect(scene.deviceReads(page).stored == (longTerm ? 9 : 0))
      }
    }
  }

  @Test(
    "S19: 1,024 plain references look pinned once pins were ever taken", arguments: TrapTier.all,
    [false, true])
  func s19(_ tier: TrapTier, hasPinned: Bool) throws {
    try Scene.run(ForkCase(hold: .reference, tier: tier)) { scene in
      let page = try #require(scene.parent.page(at: scene.address))
      if hasPinned { unsafe cshims_mm_set_flags(scene.parent.mm.hot, CSHIMS_MM_HAS_PINNED) }
      try page.acquire(.reference, count: 1024)
      defer { page.release(.reference, count: 1024) }
      let child = try scene.parent.fork()
      #expect((child.page(at: scene.address) == page) == !hasPinned)
    }
  }

  @Test(
    "S20: unmapped or dropped under a hold: a fresh page, D is lost",
    arguments: ForkCase.onEveryBacking,
    [false, true])
  func s20(_ c: ForkCase, unmaps: Bool) throws {
    try Scene.run(c) { scene in
      let page = try scene.acquire(scene.parent, flags: .write)
      if unmaps {
        try scene.parent.unmap(scene.address, length: .pages(1))
        let again = try scene.parent.map(length: .pages(1), at: .fixed(scene.address))
        #expect(again == scene.address)
      } else {
        try scene.parent.advise(scene.address, length: .pages(1), .dontNeed)
      }
      try scene.store(7, by: scene.parent)
      scene.deviceWrites(page)
      #expect(try scene.sight(of: scene.parent) == Sight(stored: 7, device: 0))
      #expect(page.mapCount == 0 && !page.isFree)
      scene.releaseAll()
      // A folio is freed as a whole.
      #expect(page.isFree == (c.backing == .base))
    }
  }

  @Test("S21: read-only and back keeps the held page", arguments: ForkCase.onEveryBacking)
  func s21(_ c: ForkCase) throws {
    try Scene.run(c) { scene in
      let page = try scene.acquire(scene.parent, flags: .write)
      try scene.parent.protect(scene.address, length: .pages(1), .readOnly)
      try scene.parent.protect(scene.address, length: .pages(1), .readWrite)
      try scene.store(4, by: scene.parent)
      #expect(scene.deviceReads(page) == .original.storing(4))
    }
  }

  @Test(
    "S22: the last mapper's read-only pin makes the page its own without a copy",
    arguments: ForkCase.onEveryBacking.filter(\.isPin), [MemoryPolicy(), .reuseLargeFolios])
  func s22(_ c: ForkCase, _ policy: MemoryPolicy) throws {
    try Scene.run(c) { scene in
      scene.memory.policy = policy
      let before = try #require(scene.parent.page(at: scene.address))
      try scene.parent.fork().exit()
      // A leaf's head answers for its pages.
      let isLeaf = c.backing == .huge
      #expect(!before.isAnonymousExclusive && !before.folioHead.isAnonymousExclusive)
      let page = try scene.acquire(scene.parent, flags: [])
      #expect((isLeaf ? page.folioHead : page).isAnonymousExclusive)
      // D.3 row 3: behind small entries only where the policy is a newer kernel's.
      #expect((page == before) == (c.backing != .order(4) || policy == .reuseLargeFolios))
    }
  }

  @Test(
    "S23, D.2.4: a pin of one page of a folio leaves all of its exclusive pages to the parent",
    arguments: ForkCase.onEveryBacking.filter { $0.backing != .base },
    [MemoryKind.ordinary, .movable])
  func s23(_ c: ForkCase, kind: MemoryKind) throws {
    try Scene.run(c, of: kind) { scene in
      let count = c.backing.pageCount.rawValue
      // One page is shared already: it is shared again, whatever is pinned.
      let shared = scene.start + .pages(1)
      try scene.parent.write([0x44], to: shared)
      try scene.parent.advise(scene.start, length: .pages(1), .dontFork)
      try scene.parent.advise(
        scene.start + .pages(2), length: .pages(count - 2), .dontFork)
      let first = try scene.parent.fork()
      try scene.parent.advise(scene.start, length: .pages(count), .doFork)

      // Of movable memory a long pin, so that the folio has moved, with the child.
      let before = scene.parent.page(at: scene.address)
      let isLong = kind == .movable && c.isPin
      let page = try scene.acquire(scene.parent, flags: isLong ? [.write, .longTerm] : .write)
      #expect((page != before) == isLong && first.page(at: shared)?.folioHead == page.folioHead)
      let child = try scene.parent.fork()
      for i in 0..<count {
        let at = scene.start + .pages(i)
        let (own, childs) = (scene.parent.page(at: at), child.page(at: at))
        #expect(own?.folioHead == page.folioHead)
        #expect((own == childs) == (!c.isPin || i == 1))
        #expect(own?.isAnonymousExclusive == (c.isPin && i != 1))
        #expect(scene.parent.isWritable(at: at) == (c.isPin && i != 1))
        if own != childs { #expect(childs?.folioOrder == 0 && childs?.referenceCount == 1) }
      }
      try scene.store(1, by: scene.parent)
      scene.deviceWrites(page)
      let parent = S.original.storing(1)
      #expect(try scene.sight(of: scene.parent) == (c.isPin ? parent.withDeviceBytes : parent))
      #expect(try scene.sight(of: child) == (c.isPin ? .original : .original.withDeviceBytes))
      #expect(try first.read(1, at: shared) == [0x44] && child.read(1, at: shared) == [0x44])
    }
  }

  @Test(
    "S24: no frame for the eager copy: fork fails, the parent is as before",
    arguments: ForkCase.onEveryBacking
  )
  func s24(_ c: ForkCase) throws {
    try Scene.run(c, capacity: c.backing.pageCount.byteCount) { scene in
      let page = try scene.acquire(scene.parent, flags: .write)
      #expect(scene.memory.freeFrameCount == 0)
      if c.isPin {
        #expect(throws: MemoryError(.outOfMemory, .framesExhausted, scene.start)) {
          try scene.parent.fork()
        }
        try scene.store(1, by: scene.parent)
        scene.deviceWrites(page)
        #expect(
          try scene.sight(of: scene.parent) == .original.storing(1).withDeviceBytes)
        #expect(page.mapCount == 1)
      } else {
        let child = try scene.parent.fork()
        #expect(child.page(at: scene.address) == page)
      }
    }
  }

  @Test(
    "S25: no pin left: shared, although pins were taken once", arguments: ForkCase.onEveryBacking)
  func s25(_ c: ForkCase) throws {
    try Scene.run(c) { scene in
      let page = try scene.acquire(scene.parent, flags: .write)
      scene.releaseAll()
      let child = try scene.parent.fork()
      #expect(child.page(at: scene.address) == page)
    }
  }

  @Test(
    "S17, G4: pins that race with fork are taken before or after it", arguments: TrapTier.testable,
    [FolioSize.base, .order(4), .huge])
  func s17(_ tier: TrapTier, backing: FolioSize) throws {
    try withMachine(capacity: .mebibytes(16), tier: tier) { memory in
      let parent = try AddressSpace(memory: memory)
      defer { parent.exit() }
      let count = max(64, backing.pageCount.rawValue)
      let start = try parent.map(length: .pages(count), folios: backing)
      try parent.advise(start, length: .pages(count), .populateWrite)
      // Two threads pin, check that their pages stay theirs, and unpin; one forks.
      onThreads(3) { thread in
        if thread == 0 {
          for _ in 0..<(count > 64 ? 20 : 60) { (try? parent.fork())?.exit() }
          return
        }
        guard var list = try? PageBuffer(capacity: count) else { return }
        for round in 0..<400 {
          guard
            let result = try? parent.pinUserPagesFast(
              start, count: count, flags: .write, into: &list)
          else { continue }
          #expect(result.pageCount == count)
          let probe = (round &* 7) % count
          let page = list[probe]
          // G1 and G2: pinned, exclusive, and still what the parent maps.
          let isExclusive =
            page?.isAnonymousExclusive == true || page?.folioHead.isAnonymousExclusive == true
          #expect(isExclusive)
          #expect(parent.page(at: start + .pages(probe)) == page)
          unpinUserPages(&list)
        }
      }
    }
  }
}
