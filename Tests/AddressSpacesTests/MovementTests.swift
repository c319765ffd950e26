//===----------------------------------------------------------------------===//
// Migration, compaction and reclaim: pages change frames or go, held ones never
// (rule G6), and no byte and no store is lost.
//===----------------------------------------------------------------------===//

import AddressSpaces
import CShims
import Events
import Glibc
import PageFrames
import Synchronization
import TestSupport
import Testing

@Suite("Pages that move and go")
struct MovementTests {
  private static func written(
    _ space: AddressSpace, _ pages: Int, _ sharing: Sharing = .private
  ) throws -> UserAddress {
    let start = try space.map(length: .pages(pages), sharing: sharing)
    for i in 0..<pages { try space.write([UInt8(i + 1)], to: start + .pages(i)) }
    return start
  }

  @Test(
    "G6: migration gives a page another frame, its bytes, counts and kind as they were",
    arguments: TrapTier.all, [Sharing.private, .shared])
  func migrate(tier: TrapTier, sharing: Sharing) throws {
    try withAddressSpace(tier: tier) { space in
      let start = try Self.written(space, 6, sharing)
      try space.protect(start + .pages(5), length: .pages(1), .none)
      let before = (0..<6).map { space.page(at: start + .pages($0)) }
      let free = space.memory.freeFrameCount
      #expect(try space.migrate(start, length: .pages(8)).moved == 6)
      #expect(space.memory.freeFrameCount == free)
      for i in 0..<6 {
        let page = try #require(space.page(at: start + .pages(i)))
        #expect(page != before[i])
        #expect(page.mapCount == 1 && page.referenceCount == (sharing == .shared ? 2 : 1))
        #expect(page.isAnonymousExclusive == (sharing == .private))
        #expect(unsafe page.bytes[0] == UInt8(i + 1))
        #expect(space.isWritable(at: start + .pages(i)) == (i < 5))
      }
      try space.protect(start + .pages(5), length: .pages(1), .readWrite)
      for i in 0..<6 {
        #expect(try space.read(1, at: start + .pages(i)) == [UInt8(i + 1)])
        if tier != .none {
          #expect(space.load(start + .pages(i)) == UInt8(i + 1))
          space.store(0xee, at: start + .pages(i) + 1)
          #expect(space.peek(start + .pages(i) + 1) == 0xee)
        }
      }
    }
  }

  @Test(
    "G6: what is pinned or referenced stays where it is, and is counted", arguments: TrapTier.all)
  func heldStay(tier: TrapTier) throws {
    try withAddressSpace(tier: tier) { space in
      let start = try Self.written(space, 4)
      let pages = (0..<4).map { space.page(at: start + .pages($0)) }
      try pages[1]?.acquire(.pin)
      try pages[2]?.acquire(.reference)
      let movement = try space.migrate(start, length: .pages(4))
      var expected = PageMovement()
      expected.moved = 2
      expected.pinned = 1
      expected.referenced = 1
      #expect(movement == expected)
      for i in 0..<4 {
        #expect((space.page(at: start + .pages(i)) == pages[i]) == (1...2).contains(i))
      }
      for i in 0..<4 { #expect(try space.read(1, at: start + .pages(i)) == [UInt8(i + 1)]) }
      pages[1]?.release(.pin)
      pages[2]?.release(.reference)
      #expect(try space.migrate(start, length: .pages(4)).moved == 4)
    }
  }

  @Test(
    "G6: a page that a family shares moves for all of them, also a shared object's",
    arguments: TrapTier.all, [Sharing.private, .shared])
  func family(tier: TrapTier, sharing: Sharing) throws {
    try withAddressSpace(tier: tier) { space in
      let start = try Self.written(space, 2, sharing)
      let child = try space.fork()
      let grandchild = try child.fork()
      for it in [child, grandchild] { #expect(try it.read(1, at: start) == [1]) }
      let old = try #require(space.page(at: start))
      #expect(old.mapCount == 3)
      #expect(try child.migrate(start, length: .pages(1)).moved == 1)
      let new = try #require(space.page(at: start))
      #expect(new != old && old.isFree && new.mapCount == 3)
      #expect(new.referenceCount == (sharing == .shared ? 4 : 3))
      for it in [space, child, grandchild] {
        #expect(it.page(at: start) == new)
        #expect(try it.read(1, at: start) == [1])
      }
      // A relative that has moved the page elsewhere is found there.
      if sharing == .private {
        let at = try grandchild.remap(
          start, length: .pages(2), newLength: .pages(2), keepingOld: true)
        #expect(try space.migrate(start, length: .pages(1)).moved == 1)
        #expect(grandchild.page(at: at) == space.page(at: start))
        #expect(space.page(at: start) != new && child.page(at: start) == space.page(at: start))
        #expect(try grandchild.read(1, at: at) == [1])
      }
      try child.write([9], to: start)
      #expect(try space.read(1, at: start) == [sharing == .shared ? 9 : 1])
      grandchild.exit()
      child.exit()
    }
  }

  @Test("a page that very many address spaces show moves for all of them; a busy one keeps it")
  func manyMappings() throws {
    try withAddressSpace(tier: .none) { space in
      let start = try Self.written(space, 1)
      let children = try (0..<40).map { _ in try space.fork() }
      #expect(try space.migrate(start, length: .pages(1)).moved == 1)
      let page = try #require(space.page(at: start))
      #expect(page.mapCount == 41 && page.referenceCount == 41)
      #expect(children.allSatisfy { $0.page(at: start) == page })
      children[20].mm.lock()
      #expect(try space.migrate(start, length: .pages(1)).unreachable == 1)
      children[20].mm.unlock()
      #expect(space.page(at: start) == page)
      for child in children { child.exit() }
    }
  }

  @Test("pages of a joinable machine move, too", arguments: [FolioSize.base, .order(3), .huge])
  func joinable(size: FolioSize) throws {
    let memory = try PhysicalMemory(capacity: .mebibytes(16), trapTier: .sigsegv, joinable: true)
    let space = try AddressSpace(memory: memory)
    let start = try space.map(length: .mebibytes(2), folios: size)
    try space.write([5], to: start + .pages(1))
    let before = space.page(at: start + .pages(1))
    #expect(try space.migrate(start, length: .mebibytes(2)).moved == size.pageCount.rawValue)
    #expect(space.page(at: start + .pages(1)) != before)
    #expect(try space.read(1, at: start + .pages(1)) == [5])
    space.exit()
    #expect(memory.freeFrameCount == memory.totalFrameCount)
  }

  @Test("a migration without a frame for it, or refused by the host, changes nothing")
  func failures() throws {
    try withAddressSpace(capacity: .pages(3), tier: .none) { space in
      let start = try Self.written(space, 3)
      let pages = (0..<3).map { space.page(at: start + .pages($0)) }
      #expect(try space.migrate(start, length: .pages(3)).withoutFrame == 3)
      #expect((0..<3).map { space.page(at: start + .pages($0)) } == pages)
      for i in 0..<3 { #expect(try space.read(1, at: start + .pages(i)) == [UInt8(i + 1)]) }
      let error = MappingTests.refusal { () throws(MemoryError) in
        _ = try space.migrate(start + 1, length: 4096)
      }
      #expect(error == MemoryError(.invalid, .addressMisaligned, start + 1))
    }
  }

  @Test(
    "G6: pages of a machine that processes may join move, too", arguments: TrapTier.testable,
    [Sharing.private, .shared])
  func joinable(tier: TrapTier, sharing: Sharing) throws {
    let memory = try PhysicalMemory(capacity: .pages(64), trapTier: tier, joinable: true)
    let before = Account(memory)
    do {
      let space = try AddressSpace(memory: memory)
      let start = try Self.written(space, 4, sharing)
      let held = try #require(space.page(at: start))
      try held.acquire(.pin)
      let movement = try space.migrate(start, length: .pages(4))
      #expect(movement.moved == 3 && movement.pinned == 1)
      held.release(.pin)
      for i in 0..<4 { #expect(space.load(start + .pages(i)) == UInt8(i + 1)) }
    }
    #expect(Account(memory) == before)
  }

  @Test(
    "compaction brings pages home, and the view needs fewer mappings", arguments: TrapTier.testable)
  func compact(tier: TrapTier) throws {
    try withAddressSpace(tier: tier) { space in
      let start = try Self.written(space, 64)
      let home = (0..<64).map { space.page(at: start + .pages($0)) }
      for i in 0..<64 { #expect(space.load(start + .pages(i)) == UInt8(i + 1)) }
      let mappings = space.hostMappingCount
      #expect(try space.migrate(start, length: .pages(64)).moved == 64)
      // Each went where the one before had been. One is held, in the home of its
      // neighbour, so the ten up to it stay away.
      let held = try #require(space.page(at: start + .pages(9)))
      try held.acquire(.pin)
      for i in 0..<64 { #expect(space.load(start + .pages(i)) == UInt8(i + 1)) }
      #expect(space.hostMappingCount > mappings)
      let movement = try space.memory.compact()
      #expect(movement.moved == 54 && movement.pinned == 1)
      for i in 10..<64 { #expect(space.page(at: start + .pages(i)) == home[i]) }
      #expect(space.page(at: start + .pages(9)) == held)
      for i in 0..<64 { #expect(space.load(start + .pages(i)) == UInt8(i + 1)) }
      held.release(.pin)
      #expect(try space.memory.compact().moved == 10)
      #expect((0..<64).map { space.page(at: start + .pages($0)) } == home)
      for i in 0..<64 { #expect(space.load(start + .pages(i)) == UInt8(i + 1)) }
      #expect(space.hostMappingCount == mappings)
      #expect(try space.memory.compact() == PageMovement())
    }
  }

  @Test(
    "compaction leaves what fork shares at home with one of the family",
    arguments: [FolioSize.base, .order(3), .huge])
  func compactFamily(size: FolioSize) throws {
    try withAddressSpace(tier: .none) { space in
      let pages = size.pageCount.rawValue
      let start = try space.map(length: .pages(pages), folios: size)
      try space.write([1], to: start)
      let home = space.page(at: start)
      let child = try space.fork()
      #expect(try space.memory.compact() == PageMovement())
      #expect(space.page(at: start) == home && child.page(at: start) == home)
      // Away from home it comes back, to whoever is looked at first; any frame may
      // have been the child's home.
      #expect(try child.migrate(start, length: .pages(pages)).moved == pages)
      let moved = try space.memory.compact().moved
      #expect(moved == pages || moved == 0)
      #expect(try space.memory.compact() == PageMovement())
      #expect(try space.read(1, at: start) == [1] && child.read(1, at: start) == [1])
      child.exit()
    }
  }

  @Test(
    "MADV_FREE: reclaim takes what was not stored to since, and nothing that is held",
    arguments: TrapTier.testable)
  func lazyFree(tier: TrapTier) throws {
    try withAddressSpace(tier: tier) { space in
      let start = try Self.written(space, 6)
      #expect(try space.memory.reclaim(100) == PageMovement(), "nobody gave these up")
      try space.advise(start, length: .pages(5), .free)
      for i in 0..<6 { #expect(space.load(start + .pages(i)) == UInt8(i + 1)) }
      space.store(0x55, at: start + 8)  // cancels it natively,
      try space.write([0x66], to: start + .pages(1) + 8)  // or by a copy
      let pinned = try #require(space.page(at: start + .pages(2)))
      try pinned.acquire(.pin)
      let movement = try space.memory.reclaim(100)
      #expect(movement.moved == 2 && movement.pinned == 1 && movement.dirty == 2)
      #expect(
        (0..<6).map { space.load(start + .pages($0)) } == [1, 2, 3, 0, 0, 6])
      #expect(space.peek(start + 8) == 0x55 && space.peek(start + .pages(1) + 8) == 0x66)
      // Locked memory is passed over; a limit is kept.
      pinned.release(.pin)
      try space.lockPages(start + .pages(2), length: 1, onFault: true)
      #expect(try space.memory.reclaim(100).moved == 0)
      try space.unlockAllPages()
      #expect(try space.memory.reclaim(0).moved == 0)
      #expect(try space.memory.reclaim(1).moved == 1)
      #expect(space.load(start + .pages(2)) == 0)
    }
  }

  /// A file without a name, of four pages that hold 1, 2, 3 and 4.
  private static func fileOfFourPages() throws -> Int32 {
    var path = Array("/tmp/gup-test-XXXXXX".utf8CString)
    let descriptor = unsafe path.withUnsafeMutableBufferPointer { unsafe mkstemp($0.baseAddress!) }
    try #require(descriptor >= 0)
    unsafe path.withUnsafeBufferPointer { unsafe _ = unlink($0.baseAddress!) }
    let bytes = (0..<4).flatMap { [UInt8](repeating: UInt8($0 + 1), count: 4096) }
    let written = unsafe bytes.withUnsafeBytes { unsafe write(descriptor, $0.baseAddress!, 16384) }
    try #require(written == 16384)
    return descriptor
  }

  @Test(
    "reclaim and MADV_PAGEOUT take clean file pages, which come back when touched",
    arguments: TrapTier.all)
  func filePages(tier: TrapTier) throws {
    let descriptor = try Self.fileOfFourPages()
    defer { close(descriptor) }
    try withMachine(tier: tier) { memory in
      let file = try MappedFile(duplicating: descriptor, memory: memory)
      let space = try AddressSpace(memory: memory)
      let other = try AddressSpace(memory: memory)
      let start = try space.map(file: file, length: .pages(4), protection: .readWrite)
      let there = try other.map(file: file, length: .pages(4))
      for i in 0..<4 {
        #expect(try space.read(1, at: start + .pages(i)) == [UInt8(i + 1)])
        #expect(try other.read(1, at: there + .pages(i)) == [UInt8(i + 1)])
      }
      try space.write([0x44], to: start + .pages(1))
      let held = try #require(other.page(at: there + .pages(2)))
      try held.acquire(.reference)
      #expect(try memory.reclaim(1).moved == 1)
      try space.advise(start, length: .pages(4), .pageOut)
      for i in 0..<4 {
        let stays = i == 1 || i == 2
        #expect((space.page(at: start + .pages(i)) != nil) == stays)
        #expect((other.page(at: there + .pages(i)) != nil) == stays)
        #expect((file.pages.load(UInt64(i)).page != nil) == stays)
      }
      held.release(.reference)
      for i in 0..<4 {
        #expect(try other.read(1, at: there + .pages(i)) == [i == 1 ? 0x44 : UInt8(i + 1)])
      }
      // A moved page of a file is the file's new page.
      #expect(try other.migrate(there, length: .pages(4)).moved == 4)
      for i in 0..<4 {
        #expect(file.pages.load(UInt64(i)).page == other.page(at: there + .pages(i)))
      }
      space.exit()
      other.exit()
      withExtendedLifetime(file) {}
    }
  }

  @Test(
    "G6: a page found in a file's index, counted, and found again has the file's bytes and stays",
    arguments: [Advice?.none, .pageOut])
  func foundInTheIndex(advice: Advice?) throws {
    let descriptor = try Self.fileOfFourPages()
    defer { close(descriptor) }
    try withMachine { memory in
      let file = try MappedFile(duplicating: descriptor, memory: memory)
      let space = try AddressSpace(memory: memory)
      let start = try space.map(file: file, length: .pages(4))
      let stop = Atomic(false)
      let found = Atomic(0)
      let wrong = Atomic(0)
      let moved = Atomic(0)
      onThreads(3) { thread in
        if thread == 0 {
          var round = 0
          while round < 500 || found.load(ordering: .relaxed) < 500 {
            round += 1
            if (try? space.read(4 * 4096, at: start)) == nil { wrong.add(1, ordering: .relaxed) }
            if let advice {
              try? space.advise(start, length: .pages(4), advice)
              moved.add(1, ordering: .relaxed)
            } else {
              let movement = try? space.migrate(start, length: .pages(4))
              moved.add(movement?.moved ?? 0, ordering: .relaxed)
            }
          }
          stop.store(true, ordering: .releasing)
          return
        }
        var index: UInt64 = 0
        while !stop.load(ordering: .acquiring) {
          index = (index + 1) & 3
          guard let page = file.pages.load(index).page, page.tryAcquire(.reference) else {
            continue
          }
          if file.pages.load(index).page == page {
            let bytes = unsafe page.bytes
            let isRight = unsafe bytes[0] == UInt8(index + 1) && bytes[4095] == UInt8(index + 1)
            let stays = file.pages.load(index).page == page
            if !isRight || !stays { wrong.add(1, ordering: .relaxed) }
            found.add(1, ordering: .relaxed)
          }
          page.release(.reference)
        }
      }
      #expect(wrong.load(ordering: .relaxed) == 0)
      #expect(moved.load(ordering: .relaxed) > 0)
      space.exit()
      withExtendedLifetime(file) {}
    }
  }

  @Test(
    "no store is lost while pages move under it, and no held page moves (G6)",
    arguments: TrapTier.testable, [FolioSize.base, .order(3), .huge])
  func storesWhileMoving(tier: TrapTier, size: FolioSize) throws {
    try withAddressSpace(tier: tier) { space in
      let pages = 24
      let start = try space.map(length: .mebibytes(2), folios: size)
      for i in 0..<pages { try space.write([UInt8(i + 1)], to: start + .pages(i)) }
      let stop = Atomic(false)
      let lost = Atomic(0)
      let moved = Atomic(0)
      onThreads(4) { thread in
        if thread == 3 {
          var round = 0
          // Until something has moved: the pin may have all of it for a while.
          while round < 40 || moved.load(ordering: .relaxed) == 0 && round < 100_000 {
            round += 1
            let movement =
              round & 3 == 3
              ? try? space.memory.compact() : try? space.migrate(start, length: .pages(pages))
            moved.add(movement?.moved ?? 0, ordering: .relaxed)
          }
          stop.store(true, ordering: .releasing)
          return
        }
        var round: UInt64 = 0
        repeat {
          round += 1
          for i in 0..<pages {
            // Each thread has a word of its own on every page.
            let at = start + .pages(i) + ByteCount(8 + thread * 8)
            if thread == 2 {
              guard let page = space.page(at: at), page.tryAcquire(.pin) else { continue }
              // It may have moved before the pin; from here on it must not.
              if space.page(at: at) == page {
                unsafe page.bytes.storeBytes(
                  of: round, toByteOffset: at.pageOffset, as: UInt64.self)
                if space.page(at: at) != page { lost.add(1, ordering: .relaxed) }
                if space.loadWord(at) != round { lost.add(1, ordering: .relaxed) }
              }
              page.release(.pin)
            } else {
              space.storeWord(round, at: at)
              if space.loadWord(at) != round { lost.add(1, ordering: .relaxed) }
            }
          }
        } while !stop.load(ordering: .acquiring)
      }
      #expect(lost.load(ordering: .relaxed) == 0)
      #expect(moved.load(ordering: .relaxed) > 0)
      for i in 0..<pages { #expect(space.load(start + .pages(i)) == UInt8(i + 1)) }
    }
  }
}
