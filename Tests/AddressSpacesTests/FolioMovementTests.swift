//===----------------------------------------------------------------------===//
// Large folios that move: whole or not at all, by all that shows them, and where
// no block of frames is free page by page.
//===----------------------------------------------------------------------===//

import AddressSpaces
import CShims
import Events
import PageFrames
import TestSupport
import Testing

@Suite("Folios that move")
struct FolioMovementTests {
  /// An address space with one folio that was stored to, in the middle of an area
  /// of three, in memory of a kind.
  private static func withFolio(
    _ c: FolioCase, of kind: MemoryKind = .ordinary, capacity: ByteCount = .mebibytes(16),
    _ body: (AddressSpace, UserAddress, Page) throws -> Void
  ) throws {
    try withAddressSpace(capacity: capacity, tier: c.tier) { space in
      let area = try space.map(length: .pages(3 * c.pages), folios: c.size, of: kind)
      let start = area + c.length
      try space.putEach(start, c.pages, from: 1)
      try body(space, start, #require(space.page(at: start)))
      space.exit()
      #expect(space.memory.freeFrameCount == space.memory.totalFrameCount)
    }
  }

  /// Takes every frame, and gives back `count` that do not stand side by side.
  private static func scatter(_ memory: PhysicalMemory, leaving count: Int) throws -> [Page] {
    var taken: [Page] = []
    while memory.freeFrameCount.rawValue > 0 { taken.append(try memory.allocatePage()) }
    for _ in 0..<count { taken.remove(at: taken.count / 2).put() }
    return taken
  }

  @Test(
    "G6: a folio moves whole, as it was mapped, with bytes, order and exclusive marks",
    arguments: FolioCase.all)
  func whole(_ c: FolioCase) throws {
    try Self.withFolio(c) { space, start, head in
      let free = space.memory.freeFrameCount
      let log = EventLog(space.memory)
      // The range names a part of it, and holes.
      var expected = PageMovement()
      expected.moved = c.pages - 1
      #expect(try space.migrate(start + .pages(1), length: .pages(2 * c.pages - 1)) == expected)
      let new = try #require(space.page(at: start))
      #expect(new != head && head.isFree && space.memory.freeFrameCount == free)
      #expect(1 << new.folioOrder == c.pages && new.folioHead == new && new.isAnonymous)
      #expect(new.referenceCount == c.references && new.folioMapCount == c.references)
      #expect(new.pinCount == 0 && new.isAnonymousExclusive)
      #expect(
        log.events.filter { $0.kind == .migrate } == [
          Event(
            kind: .migrate, address: (start + .pages(1)).rawValue,
            frame: new.frameNumber.rawValue, pageCount: UInt64(c.pages))
        ])
      for i in 0..<c.pages {
        let page = try #require(space.page(at: start + .pages(i)))
        #expect(page.frameNumber.rawValue == new.frameNumber.rawValue + UInt64(i))
        #expect(page.mapCount == 1 && space.isWritable(at: start + .pages(i)))
      }
      try space.expectEach(start, c.pages, from: 1)
      try space.putEach(start, c.pages, from: 80)
      try space.expectEach(start, c.pages, from: 80)
      // Nothing was copied on the way, and part of it can go.
      #expect(space.page(at: start) == new && space.peek(start) == 80)
      try space.unmap(start, length: .pages(1))
      #expect(new.referenceCount == c.pages - 1)
    }
  }

  @Test(
    "G6: all that shows a folio follows it: read-only, inaccessible and moved parts, children",
    arguments: FolioCase.all)
  func pieces(_ c: FolioCase) throws {
    try Self.withFolio(c) { space, start, head in
      let last = c.pages - 1
      let child = try space.fork()
      let grandchild = try child.fork()
      // The child keeps a leaf where there was one; the others are cut up.
      try space.protect(start, length: .pages(1), .none)
      try space.put(99, at: start + .pages(1))
      try grandchild.unmap(start + .pages(1), length: .pages(1))
      let elsewhere = try grandchild.map(length: .pages(4)) + .pages(1)
      try grandchild.remap(
        start + .pages(last), length: .pages(1), newLength: .pages(1), to: .fixed(elsewhere))
      let mappings = head.folioMapCount
      #expect(mappings == c.references + 2 * c.pages - 2)
      let own = try #require(space.page(at: start + .pages(1)))

      var expected = PageMovement()
      expected.moved = 1
      #expect(try grandchild.migrate(elsewhere, length: .pages(1)) == expected)
      let new = try #require(grandchild.page(at: elsewhere)).folioHead
      #expect(new != head && head.isFree)
      #expect(new.folioMapCount == mappings && new.referenceCount == mappings)
      for i in 0..<c.pages {
        let page = unsafe Page(new.descriptor + i)
        #expect(child.page(at: start + .pages(i)) == page && !page.isAnonymousExclusive)
        #expect(space.page(at: start + .pages(i)) == (i == 1 ? own : page))
        #expect(
          grandchild.page(at: start + .pages(i)) == (i == 1 || i == last ? nil : page))
        #expect(!child.isWritable(at: start + .pages(i)))
      }
      try child.expectEach(start, c.pages, from: 1)
      #expect(try grandchild.look(elsewhere) == UInt8(truncatingIfNeeded: c.pages))
      #expect(try space.look(start + .pages(1)) == 99)
      try space.protect(start, length: .pages(1), .readWrite)
      try space.put(70, at: start)
      #expect(try space.look(start) == 70 && child.look(start) == 1)
      grandchild.exit()
      child.exit()
    }
  }

  @Test(
    "G6: a pin or a reference on one page of a folio keeps all of it, and changes nothing",
    arguments: FolioCase.all, [PageHold.pin, .reference])
  func heldStay(_ c: FolioCase, hold: PageHold) throws {
    try Self.withFolio(c) { space, start, head in
      let page = try #require(space.page(at: start + .pages(c.pages - 1)))
      try page.acquire(hold)
      var expected = PageMovement()
      if hold == .pin { expected.pinned = c.pages } else { expected.referenced = c.pages }
      #expect(try space.migrate(start, length: c.length) == expected)
      #expect(space.page(at: start) == head && head.referenceCount == c.references + 1)
      try space.expectEach(start, c.pages, from: 1)
      try space.putEach(start, c.pages, from: 50)
      #expect(unsafe page.bytes[0] == UInt8(truncatingIfNeeded: 49 + c.pages))
      page.release(hold)
      #expect(try space.migrate(start, length: c.length).moved == c.pages)
      #expect(head.isFree)
      try space.expectEach(start, c.pages, from: 50)
    }
  }

  @Test(
    "where no block is free a folio is split, for all who show it, and its pages move singly",
    arguments: FolioCase.all)
  func withoutBlock(_ c: FolioCase) throws {
    try Self.withFolio(c, capacity: .mebibytes(8)) { space, start, head in
      let child = try space.fork()
      let frames = (0..<c.pages).map { space.page(at: start + .pages($0)) }
      let taken = try Self.scatter(space.memory, leaving: 1)
      // No frame at all: nothing has changed.
      let last = try space.memory.allocatePage()
      var expected = PageMovement()
      expected.withoutFrame = 2
      #expect(try space.migrate(start, length: .pages(2)) == expected)
      #expect(head.folioMapCount == 2 * c.references && space.page(at: start) == head)
      last.put()
      #expect(try space.migrate(start, length: .pages(2)).moved == 2)
      for i in 0..<c.pages {
        let page = try #require(space.page(at: start + .pages(i)))
        #expect(page.folioOrder == 0 && page.referenceCount == 2 && page.mapCount == 2)
        #expect((page == frames[i]) == (i > 1) && child.page(at: start + .pages(i)) == page)
      }
      for page in taken { page.put() }
      try child.expectEach(start, c.pages, from: 1)
      try space.putEach(start, c.pages, from: 60)
      try space.expectEach(start, c.pages, from: 60)
      child.exit()
    }
  }

  @Test(
    "G6: compaction brings folios home whole, held ones later, and then has nothing to do",
    arguments: FolioCase.all)
  func compact(_ c: FolioCase) throws {
    try withAddressSpace(capacity: .mebibytes(16), tier: c.tier) { space in
      let memory = space.memory
      let start = try space.map(length: .pages(3 * c.pages), folios: c.size)
      try space.putEach(start, 3 * c.pages, from: 1)
      let home = (0..<3).map { space.page(at: start + .pages($0 * c.pages)) }
      #expect(try memory.compact() == PageMovement())
      #expect(try space.migrate(start, length: .pages(3 * c.pages)).moved == 3 * c.pages)
      let held = try #require(space.page(at: start + .pages(c.pages + 1)))
      try held.acquire(.pin)
      #expect(try memory.compact().moved > 0)
      #expect(space.page(at: start + .pages(c.pages + 1)) == held)
      held.release(.pin)
      _ = try memory.compact()
      #expect((0..<3).map { space.page(at: start + .pages($0 * c.pages)) } == home)
      for page in home { #expect(page.map { 1 << $0.folioOrder } == c.pages) }
      try space.expectEach(start, 3 * c.pages, from: 1)
      #expect(AddressSpace.hostMappings(start, pages: 3 * c.pages) <= 3)
      #expect(try memory.compact() == PageMovement())
    }
  }

  @Test(
    "C.8: memory that must stay movable says so, whatever brings its pages in",
    arguments: FolioCase.sizes)
  func movable(size: FolioSize) throws {
    let c = FolioCase(size: size, tier: .none)
    try Self.withFolio(c, of: .movable) { space, start, head in
      let log = EventLog(space.memory)
      func goal(_ goal: MigrationGoal) -> MigrationOutcome {
        space.mm.lock()
        defer { space.mm.unlock() }
        return space.mm.migrate(at: (start + .pages(2)).rawValue, to: goal)
      }
      #expect(goal(.elsewhere) == .moved && goal(.unmovable) == .moved)
      #expect(goal(.unmovable) == .nothingToDo && log.events.count == 2)
      // What a split leaves behind, and what a collapse makes.
      try space.unmap(start, length: c.length)
      let other = try space.map(length: .mebibytes(4), folios: size, of: .movable)
      let aligned = UserAddress((other.rawValue + 0x1f_ffff) & ~0x1f_ffff)
      for i in 0..<512 { try space.write([1], to: aligned + .pages(i)) }
      try space.splitFolio(at: aligned)
      #expect(try #require(space.page(at: aligned)).folioHead.flags & CSHIMS_PAGE_MOVABLE != 0)
      try space.advise(aligned, length: .mebibytes(2), .collapse)
      #expect(space.page(at: aligned)?.folioOrder == 9)
      #expect(try #require(space.page(at: aligned)).folioHead.flags & CSHIMS_PAGE_MOVABLE != 0)
    }
  }

  @Test(
    "MADV_FREE, G6: reclaim takes a folio whole, unless a page of it was stored to, held or shared",
    arguments: FolioCase.all.filter { $0.tier != .none })
  func lazyFree(_ c: FolioCase) throws {
    try Self.withFolio(c) { space, start, head in
      let memory = space.memory
      #expect(try memory.reclaim(.init(Int.max)) == PageMovement(), "nobody gave it up")
      try space.advise(start, length: c.length, .free)
      try space.expectEach(start, c.pages, from: 1)
      func isLeft(as kind: WritableKeyPath<PageMovement, Int>) throws {
        var expected = PageMovement()
        expected[keyPath: kind] = c.pages
        #expect(try memory.reclaim(.init(Int.max)) == expected)
        #expect(space.page(at: start) == head)
      }
      // It goes as a whole or not at all.
      #expect(try memory.reclaim(.init(c.pages - 1)) == PageMovement())
      let last = try #require(space.page(at: start + .pages(c.pages - 1)))
      for (hold, kind) in [(PageHold.pin, \PageMovement.pinned), (.reference, \.referenced)] {
        try last.acquire(hold)
        try isLeft(as: kind)
        last.release(hold)
      }
      space.store(0x55, at: start + .pages(1) + 8)
      try isLeft(as: \.dirty)
      try space.expectEach(start, c.pages, from: 1)
      #expect(space.load(start + .pages(1) + 8) == 0x55)
      // A child may still want the bytes.
      try space.advise(start, length: c.length, .free)
      let child = try space.fork()
      var expected = PageMovement()
      expected.unmovable = 2 * c.pages
      #expect(try memory.reclaim(.init(Int.max)) == expected)
      child.exit()
      let free = memory.freeFrameCount.rawValue
      #expect(try memory.reclaim(.init(c.pages)).moved == c.pages)
      #expect(head.isFree && memory.freeFrameCount.rawValue == free + c.pages)
      for i in 0..<c.pages { #expect(space.load(start + .pages(i)) == 0) }
    }
  }

  @Test(
    "Failing the 1st, 2nd ... frame or host mapping while folios move loses nothing",
    arguments: FolioCase.sizes, [FailurePoint.frameAllocation, .hostMapping])
  func failNth(size: FolioSize, point: FailurePoint) throws {
    let c = FolioCase(size: size, tier: .sigsegv)
    var countdown = 1
    while countdown < 100 {
      var failures = 0
      try Self.withFolio(c) { space, start, head in
        let child = try space.fork()
        space.memory.arm(point, countdown: countdown)
        _ = try space.migrate(start, length: c.length)
        _ = try space.memory.compact()
        failures = space.memory.failures(of: point)
        space.memory.arm(point, countdown: 0)
        try child.expectEach(start, c.pages, from: 1)
        try space.putEach(start, c.pages, from: 9)
        try space.expectEach(start, c.pages, from: 9)
        child.exit()
      }
      if failures == 0 { return }
      countdown += 1
    }
    Issue.record("\(point) still fails at its 100th passage")
  }
}
