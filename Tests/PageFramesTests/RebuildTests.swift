//===----------------------------------------------------------------------===//
// The allocator's lists made anew after the death of a process: every frame that
// nobody holds can be had once, and reads as zeroes.
//===----------------------------------------------------------------------===//

import CShims
import TestSupport
import Testing

@testable import PageFrames

@Suite("Free lists made anew")
struct RebuildTests {
  private static let first = Machine.reservedFrames

  /// Makes the lists anew, with those frames held once; then takes all others one by
  /// one, sees that each is zeroed, and gives everything back.
  private static func rebuild(_ memory: PhysicalMemory, holding held: Set<UInt64>) throws {
    let machine = memory.machine
    machine.rebuildZone { held.contains($0) ? 1 : nil }
    #expect(memory.freeFrameCount == memory.totalFrameCount - PageCount(held.count))
    var taken: Set<UInt64> = []
    while let frame = machine.allocate(flags: 0) {
      try mustHold(taken.insert(frame).inserted && !held.contains(frame))
      try mustHold(machine.zero(frame: frame, count: 1) == 0)
      try mustHold(unsafe machine.page(frame).bytes.load(as: UInt64.self) == 0)
    }
    #expect(taken.count == memory.totalFrameCount.rawValue - held.count)
    for frame in taken.union(held) { machine.page(frame).release(.reference) }
  }

  @Test("a block of the old lists that is still to come is not merged with what is free before it")
  func oldBlocks() throws {
    try withMachine(capacity: .pages(4096)) { memory in
      let machine = memory.machine
      // One survives; a thousand frames on, what the dead one held ends beside a block.
      let survivor = Self.first + 88
      try #require(machine.allocateRun(at: survivor, count: 1025, flags: 0) == 1025)
      try #require(machine.allocateRun(at: survivor + 1026, count: 2, flags: 0) == 2)
      try Self.rebuild(memory, holding: [survivor])
    }
  }

  @Test("whatever was held, by whom ever, every free frame is listed once")
  func random() throws {
    for stream in 0..<10 as Range<UInt64> {
      try withSeededRandom(stream: 700 + stream) { random in
        try withMachine(capacity: .pages(3000)) { memory in
          var held: Set<UInt64> = []
          for _ in 0..<200 {
            let start = Self.first + UInt64(random.below(3000))
            let count = memory.machine.allocateRun(
              at: start, count: 1 + random.below(40), flags: 0)
            for i in 0..<UInt64(count) where random.oneIn(3) { held.insert(start + i) }
          }
          try Self.rebuild(memory, holding: held)
        }
      }
    }
  }

  @Test("a frame whose owner was killed between its last reference and the list is zeroed")
  func halfFreed() throws {
    try withMachine(capacity: .pages(8)) { memory in
      let page = try memory.allocatePage()
      unsafe page.bytes.storeBytes(of: 0x77, as: UInt64.self)
      try #require(unsafe cshims_page_ref_exchange(page.descriptor, 1, CSHIMS_REF_FREE))
      try Self.rebuild(memory, holding: [])
      memory.machine.count(CSHIMS_REFS_RELEASED, 1)
    }
  }
}
