//===----------------------------------------------------------------------===//
// Leaving an address space: what ends with it and what outlives it.
//===----------------------------------------------------------------------===//

import AddressSpaces
import PageFrames
import TestSupport
import Testing

@Suite("exit")
struct ExitTests {
  @Test(
    "after exit every call fails with ESRCH and names it; a second exit does nothing",
    arguments: TrapTier.all)
  func callsAfterExit(tier: TrapTier) throws {
    try withAddressSpace(tier: tier) { space in
      let start = try space.map(length: .pages(4))
      try space.writeEveryPage(start, 4, 1)
      space.exit()
      space.exit()
      for call in 0..<9 {
        let error = MappingTests.refusal { () throws(MemoryError) in
          switch call {
          case 0: _ = try space.map(length: 4096)
          case 1: _ = try space.map(length: 4096, at: .fixed(start))
          case 2: try space.unmap(start, length: 4096)
          case 3: try space.protect(start, length: 4096, .readOnly)
          case 4: try space.advise(start, length: 4096, .dontNeed)
          case 5: try space.write([1], to: start)
          case 6: _ = try space.read(1, at: start)
          case 7: _ = try space.fork()
          default: try space.zeroUser(start, count: 1)
          }
        }
        #expect(error?.number == .noSuchProcess && error?.reason == .exited)
      }
      #expect(space.areas.isEmpty && space.page(at: start) == nil && !space.isWritable(at: start))
      #expect(space.memory.freeFrameCount == space.memory.totalFrameCount)
    }
  }

  @Test(
    "G5: held pages outlive exit and the address space: bytes stay, the frame is not reused",
    arguments: TrapTier.all)
  func heldPages(tier: TrapTier) throws {
    try withMachine(capacity: .pages(64), tier: tier) { memory in
      var held: [Page] = []
      do {
        let space = try AddressSpace(memory: memory)
        let start = try space.map(length: .pages(32))
        try space.writeEveryPage(start, 32, 0xab)
        for i in stride(from: 0, to: 32, by: 3) {
          let page = try #require(space.page(at: start + .pages(i)))
          if i % 2 == 0 { try page.get() } else { try page.acquire(.pin) }
          held.append(page)
        }
        if tier == .none { space.exit() }
      }
      #expect(memory.freeFrameCount.rawValue == 64 - held.count)
      // Another address space takes every frame that is left, and writes it.
      do {
        let other = try AddressSpace(memory: memory)
        let count = memory.freeFrameCount.rawValue
        let start = try other.map(length: .pages(64))
        try other.writeEveryPage(start, count, 0xcd)
        #expect(memory.freeFrameCount == 0)
        for i in 0..<count {
          #expect(!held.contains(try #require(other.page(at: start + .pages(i)))))
        }
      }
      for page in held {
        #expect(page.mapCount == 0)
        #expect(unsafe page.bytes.allSatisfy { $0 == 0xab || $0 == 0 } && page.bytes[0] == 0xab)
        if page.mayBePinned { page.release(.pin) } else { page.put() }
        #expect(page.isFree)
      }
      #expect(memory.freeFrameCount == 64)
    }
  }

  @Test("an address space keeps its machine alive, and goes without leaving arena bytes behind")
  func lifetime() throws {
    let space: AddressSpace
    do {
      space = try AddressSpace(memory: PhysicalMemory(capacity: .pages(16), trapTier: .sigsegv))
    }
    let start = try space.map(length: .pages(8))
    space.store(5, at: start)
    #expect(space.load(start) == 5)
    try withMachine(tier: .sigsegv) { memory in
      for _ in 0..<20 {
        let space = try AddressSpace(memory: memory)
        let start = try space.map(length: .mebibytes(3))
        _ = try space.map(length: .pages(3), sharing: .shared)
        space.store(1, at: start + .mebibytes(2))
        try space.protect(start + .pages(5), length: .pages(7), .none)
      }
    }
  }
}
