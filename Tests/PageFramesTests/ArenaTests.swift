//===----------------------------------------------------------------------===//
// The arena: size classes, zeroing, reuse, exhaustion, and that random use never
// hands out a byte twice. Every test ends with nothing in use.
//===----------------------------------------------------------------------===//

import CShims
import PageFrames
import TestSupport
import Testing

@Suite("Arena: zeroed blocks of the metadata mapping")
struct ArenaTests {
  private static func isZero(_ block: UnsafeMutableRawPointer, _ byteCount: Int) -> Bool {
    unsafe UnsafeRawBufferPointer(start: block, count: byteCount).allSatisfy { $0 == 0 }
  }

  @Test(
    "a block is zeroed, aligned to its class or to 4096, and counted as its class",
    arguments: [
      (1, 64), (64, 64), (65, 128), (512, 512), (513, 1024), (4096, 4096), (4097, 8192),
      (3 << 20, 4 << 20), (1 << 30, 1 << 30),
    ])
  func sizeClasses(byteCount: Int, classSize: Int) throws {
    let memory = ZeroedMemory(byteCount: 1 << 32)
    let arena = unsafe Arena.create(at: memory.base, byteCount: memory.byteCount)
    _ = unsafe try #require(arena.allocate(byteCount: 64))
    let before = arena.bytesInUse
    let block = unsafe try #require(arena.allocate(byteCount: byteCount))
    #expect(UInt(bitPattern: block) % UInt(min(classSize, 4096)) == 0)
    #expect(arena.bytesInUse - before == classSize)
    // Two pages say enough of a fresh block, and leave the rest untouched.
    #expect(unsafe ArenaTests.isZero(block, min(byteCount, 8192)))
    unsafe arena.free(block, byteCount: byteCount)
    #expect(arena.bytesInUse == before)
    #expect(unsafe arena.allocate(byteCount: byteCount) == block, "the block is used again")
  }

  @Test(
    "a size that no class has is refused, and nothing changes",
    arguments: [0, -1, Int.min, (1 << 30) + 1, Int.max])
  func refusedSizes(byteCount: Int) {
    let memory = ZeroedMemory(byteCount: 1 << 20)
    let arena = unsafe Arena.create(at: memory.base, byteCount: memory.byteCount)
    let mark = arena.highWater
    #expect(unsafe arena.allocate(byteCount: byteCount) == nil)
    #expect(arena.bytesInUse == 0 && arena.highWater == mark)
  }

  @Test("what was freed comes back zeroed")
  func reuseIsZeroed() throws {
    let memory = ZeroedMemory(byteCount: 1 << 20)
    let arena = unsafe Arena.create(at: memory.base, byteCount: memory.byteCount)
    let block = unsafe try #require(arena.allocate(byteCount: 1000))
    unsafe block.initializeMemory(as: UInt8.self, repeating: 0xa5, count: 1000)
    unsafe arena.free(block, byteCount: 1000)
    #expect(unsafe arena.allocate(byteCount: 900) == block)
    #expect(unsafe ArenaTests.isZero(block, 900))
    unsafe arena.free(block, byteCount: 900)
    #expect(arena.bytesInUse == 0)
  }

  @Test("an exhausted arena halves bigger free blocks, to the last byte")
  func splitting() throws {
    let memory = ZeroedMemory(byteCount: 1 << 16)
    let arena = unsafe Arena.create(at: memory.base, byteCount: memory.byteCount)
    var big: [UnsafeMutableRawPointer] = unsafe []
    while let block = unsafe arena.allocate(byteCount: 4096) { unsafe big.append(block) }
    let whole = unsafe big.count * 4096
    #expect(arena.bytesInUse == whole)
    for index in unsafe big.indices { unsafe arena.free(big[index], byteCount: 4096) }
    var small = 0
    while unsafe arena.allocate(byteCount: 64) != nil { small += 1 }
    // 384 bytes are the header's; all others can be had.
    #expect(small * 64 == memory.byteCount - 384)
    #expect(arena.highWater == arena.capacity)
  }

  @Test("a handle made from the base means the same arena")
  func attaching() throws {
    let memory = ZeroedMemory(byteCount: 1 << 16)
    let arena = unsafe Arena.create(at: memory.base, byteCount: memory.byteCount)
    let same = unsafe Arena(at: memory.base)
    let block = unsafe try #require(same.allocate(byteCount: 64))
    #expect(arena.bytesInUse == 64)
    unsafe arena.free(block, byteCount: 64)
    #expect(same.bytesInUse == 0)
  }

  @Test(
    "blocks never overlap, keep their bytes, and all come back (random)",
    arguments: [1 << 14, 1 << 18, 1 << 26])
  func fuzz(capacity: Int) throws {
    struct Block {
      var address: UInt
      var byteCount: Int
      var mark: UInt8
    }
    func bytes(_ block: Block) -> UnsafeMutableRawPointer {
      unsafe UnsafeMutableRawPointer(bitPattern: block.address).unsafelyUnwrapped
    }
    func holdsMark(_ block: Block) -> Bool {
      unsafe UnsafeRawBufferPointer(start: bytes(block), count: block.byteCount)
        .allSatisfy { $0 == block.mark }
    }
    let memory = ZeroedMemory(byteCount: capacity)
    let arena = unsafe Arena.create(at: memory.base, byteCount: capacity)
    let end = UInt(bitPattern: unsafe memory.base) + UInt(capacity)
    try withSeededRandom(stream: UInt64(capacity)) { random in
      var out: [Block] = []
      var expected = 0
      var refused = 0
      for step in 0..<20_000 {
        if random.below(100) < (step / 2_000 % 2 == 0 ? 60 : 40) || out.isEmpty {
          let byteCount = 1 + random.below(1 << random.below(14))
          guard let block = unsafe arena.allocate(byteCount: byteCount) else {
            refused += 1
            continue
          }
          try mustHold(unsafe ArenaTests.isZero(block, byteCount))
          let new = Block(
            address: UInt(bitPattern: block), byteCount: byteCount,
            mark: UInt8(1 + random.below(255)))
          try mustHold(new.address + UInt(byteCount) <= end)
          unsafe block.initializeMemory(as: UInt8.self, repeating: new.mark, count: byteCount)
          out.append(new)
          expected += max(64, byteCount.nextPowerOfTwo)
        } else {
          // An overlap with any other block would have changed the marks.
          let block = out.swapRemove(at: random.below(out.count))
          try mustHold(holdsMark(block))
          unsafe arena.free(bytes(block), byteCount: block.byteCount)
          expected -= max(64, block.byteCount.nextPowerOfTwo)
        }
        try mustHold(arena.bytesInUse == expected)
      }
      #expect(capacity > 1 << 18 || refused > 0, "the small arena is exhausted now and then")
      for block in out {
        try mustHold(holdsMark(block))
        unsafe arena.free(bytes(block), byteCount: block.byteCount)
      }
    }
    #expect(arena.bytesInUse == 0)
  }

  @Test("threads share an arena without handing out a block twice")
  func threads() async throws {
    let memory = ZeroedMemory(byteCount: 1 << 24)
    let arena = unsafe Arena.create(at: memory.base, byteCount: memory.byteCount)
    let mistakes = await withTaskGroup(of: Int.self) { group in
      for worker in 1...4 {
        group.addTask {
          var mistakes = 0
          for _ in 0..<2_000 {
            guard let block = unsafe arena.allocate(byteCount: 256) else { return 1 }
            let word = unsafe block.assumingMemoryBound(to: Int.self)
            if unsafe word.pointee != 0 { mistakes += 1 }
            unsafe word.pointee = worker
            if unsafe word.pointee != worker { mistakes += 1 }
            unsafe arena.free(block, byteCount: 256)
          }
          return mistakes
        }
      }
      return await group.reduce(0, +)
    }
    #expect(mistakes == 0)
    #expect(arena.bytesInUse == 0)
  }
}

extension Int {
  fileprivate var nextPowerOfTwo: Int {
    self <= 1 ? 1 : 1 << (Int.bitWidth - (self - 1).leadingZeroBitCount)
  }
}

extension Array {
  fileprivate mutating func swapRemove(at index: Int) -> Element {
    swapAt(index, count - 1)
    return removeLast()
  }
}
