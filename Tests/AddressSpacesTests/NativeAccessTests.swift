//===----------------------------------------------------------------------===//
// The program's own loads and stores (design decision 7): they fault as explicit
// accesses do, and program, frame and window see the same bytes. What ends the
// program is tried in a process of its own: see ProcessTests.swift.
//===----------------------------------------------------------------------===//

import AddressSpaces
import PageFrames
import TestSupport
import Testing

@Suite("Native loads and stores")
struct NativeAccessTests {
  @Test(
    "a load shows the zero page, a store a page of one's own, and the frame has the byte",
    arguments: TrapTier.testable)
  func touch(tier: TrapTier) throws {
    try withAddressSpace(tier: tier) { space in
      let start = try space.map(length: .pages(200))
      #expect(space.load(start + .pages(7)) == 0)
      #expect(space.page(at: start + .pages(7)) == space.memory.zeroPage)
      #expect(space.memory.freeFrameCount == space.memory.totalFrameCount)
      space.store(1, at: start + .pages(7) + 4095)
      space.store(2, at: start + .pages(9))
      for (page, offset, value) in [(7, 4095, 1), (9, 0, 2)] {
        let frame = try #require(space.page(at: start + .pages(page)))
        #expect(frame.isAnonymousExclusive && frame.referenceCount == 1 && frame.mapCount == 1)
        #expect(unsafe frame.bytes[offset] == UInt8(value))
        // The other way: what a device writes the program reads.
        unsafe frame.bytes[100] = 0x77
        #expect(space.load(start + .pages(page) + 100) == 0x77)
      }
      #expect(space.page(at: start + .pages(8)) == nil && space.page(at: start + .pages(6)) == nil)
      #expect(space.memory.counters.faults == 3)
    }
  }

  @Test(
    "a store right after a load, and loads of a page that a device filled",
    arguments: TrapTier.testable)
  func loadThenStore(tier: TrapTier) throws {
    try withAddressSpace(tier: tier) { space in
      let start = try space.map(length: .pages(64))
      for i in 0..<64 {
        let word = UInt64(i) &* 0x0101_0101_0101_0101
        #expect(space.loadWord(start + .pages(i) + 8) == 0)
        space.storeWord(word, at: start + .pages(i) + 8)
        #expect(space.loadWord(start + .pages(i) + 8) == word)
      }
      for i in 0..<64 { #expect(space.load(start + .pages(i) + 8) == UInt8(i)) }
      #expect(space.memory.counters.faults == 128)
    }
  }

  @Test(
    "a word across a page border faults twice and lands in both frames",
    arguments: TrapTier.testable)
  func straddling(tier: TrapTier) throws {
    try withAddressSpace(tier: tier) { space in
      let start = try space.map(length: .pages(2))
      let border = unsafe space.pointer(at: start + 4092)
      unsafe border.storeBytes(of: 0x0807_0605_0403_0201, as: UInt64.self)
      #expect(unsafe border.loadUnaligned(as: UInt64.self) == 0x0807_0605_0403_0201)
      #expect(space.peek(start + 4095) == 4 && space.peek(start + 4096) == 5)
    }
  }

  @Test(
    "after mprotect, DONTNEED and a new map at the same address the program sees what is there now",
    arguments: TrapTier.testable)
  func followsChanges(tier: TrapTier) throws {
    try withAddressSpace(tier: tier) { space in
      let start = try space.map(length: .pages(8))
      for i in 0..<8 { space.store(1, at: start + .pages(i)) }
      try space.protect(start, length: .pages(8), .readOnly)
      for i in 0..<8 { #expect(space.load(start + .pages(i)) == 1) }
      try space.protect(start, length: .pages(8), .readWrite)
      for i in 0..<8 { space.store(2, at: start + .pages(i)) }
      try space.advise(start, length: .pages(8), .dontNeed)
      for i in 0..<8 { #expect(space.load(start + .pages(i)) == 0) }
      for i in 0..<8 { space.store(3, at: start + .pages(i)) }
      _ = try space.map(length: .pages(8), sharing: .shared, at: .fixed(start))
      for i in 0..<8 { #expect(space.load(start + .pages(i)) == 0) }
      for i in 0..<8 { space.store(4, at: start + .pages(i)) }
      try space.advise(start, length: .pages(8), .dontNeed)
      for i in 0..<8 { #expect(space.load(start + .pages(i)) == 4) }
    }
  }

  @Test(
    "threads that touch the same absent pages at once agree on one frame for each",
    arguments: TrapTier.testable)
  func sameAbsentPages(tier: TrapTier) throws {
    try withAddressSpace(tier: tier) { space in
      let pages = 200
      for round in 0..<3 {
        let start = try space.map(length: .pages(pages), sharing: round == 1 ? .shared : .private)
        let free = space.memory.freeFrameCount.rawValue
        onThreads(4) { thread in
          for i in 0..<pages {
            // Each thread has a byte of its own on every page; half of them load first.
            let address = start + .pages((i * 7 + thread * 50) % pages) + ByteCount(thread)
            if thread & 1 == 0 { _ = space.load(address) }
            space.store(UInt8(thread + 1), at: address)
          }
        }
        for i in 0..<pages {
          #expect(space.loadWord(start + .pages(i)) == 0x0403_0201)
          #expect(space.page(at: start + .pages(i))?.mapCount == 1)
        }
        #expect(space.memory.freeFrameCount.rawValue == free - pages)
      }
    }
  }

  @Test(
    "threads that store while others unmap, protect and drop elsewhere lose nothing",
    arguments: TrapTier.testable)
  func storesBesideChanges(tier: TrapTier) throws {
    try withAddressSpace(tier: tier) { space in
      let still = try space.map(length: .pages(64))
      let moving = try space.map(length: .pages(64))
      onThreads(4) { thread in
        var random = SeededRandom(stream: UInt64(900 + thread))
        for i in 0..<400 {
          let page = random.below(16)
          if thread < 2 {
            let address = still + .pages(16 * thread + page)
            space.storeWord(UInt64(i), at: address)
            if space.loadWord(address) != UInt64(i) { Issue.record("lost a store; \(howToRepeat)") }
          } else {
            let start = moving + .pages(16 * thread + page)
            switch random.below(4) {
            case 0: try? space.protect(start, length: .pages(3), .readOnly)
            case 1: try? space.protect(start, length: .pages(3), .readWrite)
            case 2: try? space.advise(start, length: .pages(3), .dontNeed)
            default: try? space.write([1, 2, 3], to: start)
            }
          }
        }
      }
    }
  }

  @Test(
    "two address spaces of a machine do not see each other's pages",
    arguments: TrapTier.testable)
  func twoSpaces(tier: TrapTier) throws {
    try withMachine(tier: tier) { memory in
      let a = try AddressSpace(memory: memory)
      let b = try AddressSpace(memory: memory)
      let inA = try a.map(length: .pages(8))
      let inB = try b.map(length: .pages(8))
      for i in 0..<8 {
        a.store(1, at: inA + .pages(i))
        b.store(2, at: inB + .pages(i))
      }
      for i in 0..<8 { #expect(a.load(inA + .pages(i)) == 1 && b.load(inB + .pages(i)) == 2) }
      #expect(a.page(at: inB) == nil)
      a.exit()
      for i in 0..<8 { #expect(b.load(inB + .pages(i)) == 2) }
    }
  }
}
