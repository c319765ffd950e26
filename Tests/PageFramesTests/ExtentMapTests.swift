//===----------------------------------------------------------------------===//
// The extent map as a table of requests, and beside an array of bits.
//===----------------------------------------------------------------------===//

import TestSupport
import Testing

@testable import PageFrames

@Suite("ExtentMap: what is free of a range")
struct ExtentMapTests {
  private func extents(_ map: ExtentMap) -> [Range<UInt64>] {
    var found: [Range<UInt64>] = []
    var from: UInt64 = 0
    while let extent = map.extent(atOrAfter: from) {
      found.append(extent.start..<extent.end)
      from = extent.end
    }
    return found
  }

  @Test("the table of an allocator: first fit, exact places, merging, refusals")
  func table() {
    let memory = ZeroedMemory(byteCount: 1 << 16)
    let arena = unsafe Arena.create(at: memory.base, byteCount: memory.byteCount)
    var map = ExtentMap(arena: arena)
    #expect(map.allocate(length: 1) == nil)
    #expect(map.release(start: 100, length: 100) == true)
    #expect(map.allocate(length: 10, alignment: 64) == 128)
    #expect(extents(map) == [100..<128, 138..<200])
    #expect(map.allocate(length: 28) == 100)
    #expect(map.allocate(length: 63) == nil)
    #expect(map.allocate(at: 150, length: 10) == true)
    #expect(map.allocate(at: 150, length: 1) == false)
    #expect(map.allocate(at: 149, length: 2) == false)
    #expect(extents(map) == [138..<150, 160..<200])
    #expect(map.release(start: 149, length: 2) == false)
    #expect(map.release(start: 159, length: 2) == false)
    #expect(map.release(start: 90, length: 200) == false)
    #expect(map.release(start: 150, length: 10) == true)
    #expect(map.release(start: 100, length: 38) == true)
    #expect(extents(map) == [100..<200])
    #expect(map.freeTotal == 100 && map.largest == 100 && map.count == 1)
    map.removeAll()
    #expect(map.freeTotal == 0 && arena.bytesInUse == 0)
  }

  @Test(
    "a request without meaning is refused, and nothing changes",
    arguments: [
      (start: UInt64(0), length: UInt64(0)), (150, 0), (.max, 1), (.max - 1, 2), (150, .max),
    ])
  func refusals(start: UInt64, length: UInt64) {
    let memory = ZeroedMemory(byteCount: 1 << 16)
    let arena = unsafe Arena.create(at: memory.base, byteCount: memory.byteCount)
    var map = ExtentMap(arena: arena)
    #expect(map.release(start: 100, length: 100) == true)
    #expect(map.contains(start: start, length: length) == false)
    #expect(map.allocate(at: start, length: length) == false)
    #expect(map.release(start: start, length: length) == false)
    #expect(map.allocate(length: 1, alignment: 0) == nil)
    #expect(map.allocate(length: 1, alignment: 3) == nil)
    #expect(map.allocate(length: 1, alignment: 1 << 63) == nil)
    #expect(extents(map) == [100..<200])
    map.removeAll()
    #expect(arena.bytesInUse == 0)
  }

  @Test("an aligned fit is found behind any number of misaligned extents", arguments: [0, 1, 40])
  func misaligned(gaps: Int) {
    let memory = ZeroedMemory(byteCount: 1 << 20)
    let arena = unsafe Arena.create(at: memory.base, byteCount: memory.byteCount)
    var map = ExtentMap(arena: arena)
    // Long enough for 8, never at a multiple of 8; then one exact fit.
    for gap in 0..<UInt64(gaps) { #expect(map.release(start: gap * 32 + 1, length: 14) == true) }
    #expect(map.allocate(length: 8, alignment: 8) == nil)
    #expect(map.release(start: 1 << 20, length: 8) == true)
    #expect(map.allocate(length: 8, alignment: 8) == 1 << 20)
    #expect(map.freeTotal == UInt64(gaps) * 14)
    map.removeAll()
    #expect(arena.bytesInUse == 0)
  }

  @Test("the whole range of 64 bits but its last number can be free")
  func fullRange() {
    let memory = ZeroedMemory(byteCount: 1 << 16)
    let arena = unsafe Arena.create(at: memory.base, byteCount: memory.byteCount)
    var map = ExtentMap(arena: arena)
    #expect(map.release(start: 0, length: .max) == true)
    #expect(map.allocate(length: 1 << 63, alignment: 1 << 63) == 0)
    #expect(map.allocate(length: (1 << 63) - 1, alignment: 1 << 63) == 1 << 63)
    #expect(map.freeTotal == 0 && arena.bytesInUse == 0)
  }

  @Test(
    "the map agrees with an array of bits after each of 20,000 random changes",
    arguments: [(numbers: 96, arena: 1 << 20), (500, 1 << 20), (500, 1_600)])
  func fuzz(numbers: Int, arenaBytes: Int) throws {
    let memory = ZeroedMemory(byteCount: arenaBytes)
    let arena = unsafe Arena.create(at: memory.base, byteCount: memory.byteCount)
    var map = ExtentMap(arena: arena)
    var free = [Bool](repeating: false, count: numbers)
    var refused = 0

    func runs() -> [Range<UInt64>] {
      var found: [Range<UInt64>] = []
      for index in 0..<numbers where free[index] {
        if let last = found.last, last.upperBound == UInt64(index) {
          found[found.count - 1] = last.lowerBound..<UInt64(index + 1)
        } else {
          found.append(UInt64(index)..<UInt64(index + 1))
        }
      }
      return found
    }
    func fill(_ range: Range<Int>, _ value: Bool) { for index in range { free[index] = value } }

    try withSeededRandom(stream: UInt64(numbers + arenaBytes)) { random in
      var before = runs()
      for _ in 0..<20_000 {
        let start = random.below(numbers)
        let range = start..<min(numbers, start + 1 + random.below(1 << random.below(7)))
        let (place, length) = (UInt64(start), UInt64(range.count))
        // The tiny arena may lack the node of a new island or a second half.
        let isFull = before.count >= (arenaBytes - 384) / 64
        switch random.below(4) {
        case 0, 1:
          let isTaken = range.allSatisfy { !free[$0] }
          if map.release(start: place, length: length) {
            try mustHold(isTaken)
            fill(range, true)
          } else {
            try mustHold(!isTaken || isFull)
            if isTaken { refused += 1 }
          }
        case 2:
          let isFree = range.allSatisfy { free[$0] }
          try mustHold(map.contains(start: place, length: length) == isFree)
          if map.allocate(at: place, length: length) {
            try mustHold(isFree)
            fill(range, false)
          } else {
            try mustHold(!isFree || isFull)
            if isFree { refused += 1 }
          }
        default:
          let alignment = UInt64(1) << UInt64(random.below(6))
          let fits = before.compactMap { run -> UInt64? in
            let aligned = (run.lowerBound + alignment - 1) & ~(alignment - 1)
            return aligned + length <= run.upperBound ? aligned : nil
          }
          if let got = map.allocate(length: length, alignment: alignment) {
            try mustHold(got % alignment == 0)
            let taken = Int(got)..<Int(got + length)
            try mustHold(taken.upperBound <= numbers && taken.allSatisfy { free[$0] })
            let candidates = before.filter { UInt64($0.count) >= length }.prefix(16)
            if let lowest = fits.first, candidates.contains(where: { $0.contains(lowest) }) {
              try mustHold(got == lowest)
            }
            fill(taken, false)
          } else {
            try mustHold(fits.isEmpty || isFull)
            if !fits.isEmpty { refused += 1 }
          }
        }
        let expected = runs()
        try mustHold(extents(map) == expected)
        try mustHold(map.count == expected.count)
        try mustHold(map.freeTotal == UInt64(free.count { $0 }))
        try mustHold(map.largest == UInt64(expected.map(\.count).max() ?? 0))
        try mustHold(arena.bytesInUse == 64 * expected.count)
        before = expected
      }
    }
    #expect((refused > 0) == (arenaBytes == 1_600), "only the tiny arena is exhausted")
    map.removeAll()
    #expect(arena.bytesInUse == 0)
  }
}
