//===----------------------------------------------------------------------===//
// The XArray: kinds of entries, entries of several indices, reservations, the
// array beside a dictionary, and readers beside a writer.
//===----------------------------------------------------------------------===//

import CShims
import TestSupport
import Testing

@testable import PageFrames

/// What must hold of every array: siblings stand right behind their entry, an
/// entry fills a power of two of slots at a multiple of that, no detached slot
/// can be reached, and the count is right.
private func checkInvariants(_ array: XArray) throws {
  var present = 0
  func check(_ node: XArray.Node, _ level: Int) throws {
    var offset = 0
    while offset < 64 {
      let entry = unsafe XArray.slot(node, offset)
      try mustHold(!entry.isDetached && !entry.isSibling)
      var span = 1
      if entry.isNode {
        try mustHold(level > 0)
        try unsafe check(XArray.node(at: entry.word), level - 1)
      } else if !entry.isEmpty {
        span = unsafe XArray.span(node, offset)
        try mustHold(span.nonzeroBitCount == 1 && offset % span == 0)
        if entry.isPresent { present += 1 }
      }
      offset += span
    }
  }
  let head = unsafe cshims_xarray_head_load(array.header)
  if head != 0 { try unsafe check(XArray.node(at: head), Int(head & 511)) }
  try mustHold(present == array.count)
}

/// The dumb model: a dictionary with one item for each index.
private struct Model {
  var items: [UInt64: XArrayItem] = [:]

  /// Items in order, each once.
  var all: [XArrayItem] {
    items.filter { $0.key == $0.value.index }.map(\.value).sorted { $0.index < $1.index }
  }

  mutating func remove(_ item: XArrayItem) {
    for index in item.index...item.last { items[index] = nil }
  }

  mutating func put(_ item: XArrayItem) {
    for index in item.index...item.last { items[index] = item }
  }

  func load(_ index: UInt64) -> XArrayEntry { items[index]?.entry ?? .empty }

  mutating func store(_ index: UInt64, _ entry: XArrayEntry, _ order: Int) -> XArrayEntry {
    let first = index & ~((1 << UInt64(order)) - 1)
    let new = XArrayItem(index: first, order: order, entry: entry)
    let previous = load(first)
    if let around = items[first], around.order > order {
      remove(around)
      if !entry.isEmpty { put(XArrayItem(index: around.index, order: around.order, entry: entry)) }
      return previous
    }
    for index in first...new.last { if let item = items[index] { remove(item) } }
    if !entry.isEmpty { put(new) }
    return previous
  }
}

@Suite("XArray: from an index to an entry (A.7, B.2)")
struct XArrayTests {
  private static func arena(_ memory: ZeroedMemory) -> Arena {
    unsafe Arena.create(at: memory.base, byteCount: memory.byteCount)
  }

  private static func page(_ number: Int, _ memory: ZeroedMemory) -> Page {
    unsafe Page((memory.base + number * 16).assumingMemoryBound(to: cshims_page.self))
  }

  @Test("each kind of entry comes back as what it is (A-27)")
  func kinds() throws {
    let memory = ZeroedMemory(byteCount: 1 << 20)
    let pages = ZeroedMemory(byteCount: 4096)
    let arena = XArrayTests.arena(memory)
    let array = try XArray.create(in: arena)
    let page = XArrayTests.page(7, pages)
    let table: [(XArrayEntry, XArrayEntry.Kind)] = [
      (.page(page), .page), (.value(0), .value), (.value(.max >> 1), .value), (.retry, .retry),
      (.reserved, .reserved),
    ]
    for (index, (entry, kind)) in table.enumerated() {
      #expect(try array.store(UInt64(index), entry) == .empty)
      let loaded = array.load(UInt64(index))
      #expect(loaded == entry && loaded.kind == kind && !loaded.isEmpty)
    }
    #expect(array.load(0).page == page && array.load(0).value == nil)
    #expect(array.load(1).value == 0 && array.load(2).value == .max >> 1)
    #expect(array.load(1).page == nil && array.load(3).page == nil && array.load(9).page == nil)
    #expect(array.load(9).kind == .empty && array.load(.max) == .empty)
    #expect(array.count == 4, "a reserved slot is not present")
    array.destroy()
    #expect(arena.bytesInUse == 0)
  }

  @Test("an entry of order k is found at each index it covers", arguments: 0...9)
  func multiIndex(order: Int) throws {
    let memory = ZeroedMemory(byteCount: 1 << 20)
    let arena = XArrayTests.arena(memory)
    let array = try XArray.create(in: arena)
    let length = UInt64(1) << UInt64(order)
    let first = 5 * length
    let item = XArrayItem(index: first, order: order, entry: .value(42))
    try array.store(first + length - 1, .value(42), order: order)
    for index in first...item.last {
      #expect(array.load(index) == .value(42) && array.item(at: index) == item)
      let span = order % 6
      let isFirstSlot = index - first < length >> UInt64(span)
      #expect(array.rawEntry(at: index).kind == (isFirstSlot ? .value : .sibling))
    }
    #expect(array.load(first - 1).isEmpty && array.load(item.last + 1).isEmpty)
    #expect(array.next(from: 0) == item && array.next(from: item.last) == item)
    #expect(array.next(from: item.last + 1) == nil && array.count == 1)
    // A store inside changes all of it; an erasure anywhere dissolves it.
    #expect(try array.store(item.last, .value(43)) == .value(42))
    #expect(array.load(first) == .value(43) && array.count == 1)
    #expect(array.erase(first + length / 2) == .value(43))
    #expect(array.next(from: 0) == nil && array.count == 0)
    array.destroy()
    #expect(arena.bytesInUse == 0)
  }

  @Test("a larger entry replaces all below it; its nodes come back by reclaim")
  func replacing() throws {
    let memory = ZeroedMemory(byteCount: 1 << 20)
    let arena = XArrayTests.arena(memory)
    let array = try XArray.create(in: arena)
    for index in 0..<UInt64(600) { try array.store(index, .value(index)) }
    let before = arena.bytesInUse
    #expect(try array.store(0, .value(1 << 40), order: 9) == .value(0))
    #expect(array.count == 600 - 512 + 1)
    #expect(arena.bytesInUse == before, "readers may still be in the nodes")
    try checkInvariants(array)
    array.reclaim()
    #expect(arena.bytesInUse == before - 8 * 512)
    #expect(array.load(511) == .value(1 << 40) && array.load(512) == .value(512))
    #expect(try array.store(0, .empty, order: 9) == .value(1 << 40))
    #expect(array.next(from: 0)?.index == 512)
    array.destroy()
    #expect(arena.bytesInUse == 0)
  }

  @Test(
    "the first and the last index of each level hold",
    arguments: [0, 63, 64, 4095, 4096, 1 << 36, 1 << 60, UInt64.max - 1, UInt64.max])
  func farIndices(index: UInt64) throws {
    let memory = ZeroedMemory(byteCount: 1 << 20)
    let arena = XArrayTests.arena(memory)
    let array = try XArray.create(in: arena)
    try array.store(index, .value(1))
    #expect(array.load(index) == .value(1) && array.count == 1)
    #expect(array.load(index &+ 1).isEmpty && array.load(index &- 1).isEmpty)
    #expect(array.next(from: 0)?.index == index)
    #expect(array.next(from: index)?.index == index)
    #expect(index == .max || array.next(from: index + 1) == nil)
    // Growing keeps what is there.
    try array.store(0, .value(2), order: 0)
    try array.store(.max, .value(3))
    #expect(array.load(.max) == .value(3) && array.load(0) == .value(2))
    #expect(array.load(index) == .value(index == 0 ? 2 : index == .max ? 3 : 1))
    array.destroy()
    #expect(arena.bytesInUse == 0)
  }

  @Test("a reserved index takes a store when the arena is exhausted")
  func reservation() throws {
    let memory = ZeroedMemory(byteCount: 1 << 13)
    let arena = XArrayTests.arena(memory)
    let array = try XArray.create(in: arena)
    try array.reserve(5)
    try array.reserve(6)
    while unsafe arena.allocate(byteCount: 64) != nil {}
    let full = arena.bytesInUse
    #expect(throws: ArenaExhausted()) { try array.store(1 << 20, .value(1)) }
    #expect(throws: ArenaExhausted()) { try array.reserve(1 << 20) }
    #expect(array.load(5) == .reserved && array.next(from: 0) == nil && array.count == 0)
    #expect(try array.store(5, .value(1)) == .reserved)
    array.release(5)
    array.release(6)
    #expect(array.load(5) == .value(1) && array.load(6).isEmpty && array.count == 1)
    try array.reserve(5)
    #expect(array.load(5) == .value(1), "a reservation leaves an entry alone")
    array.destroy()
    #expect(full - arena.bytesInUse == 64 + 512)
  }

  @Test(
    "the array agrees with a dictionary after each of 20,000 random changes",
    arguments: [false, true], [1 << 22, 10_000])
  func fuzz(sparse: Bool, arenaBytes: Int) throws {
    let bases: [UInt64] = sparse ? [0, 1 << 13, 1 << 40, .max - 4095] : [0]
    let memory = ZeroedMemory(byteCount: arenaBytes)
    let pages = ZeroedMemory(byteCount: 1 << 16)
    let arena = XArrayTests.arena(memory)
    let array = try XArray.create(in: arena)
    var model = Model()
    var refused = 0
    try withSeededRandom(stream: UInt64(bases.count * arenaBytes)) { random in
      func randomEntry() -> XArrayEntry {
        switch random.below(8) {
        case 0: .reserved
        case 1: .retry
        case 2, 3: .value(random.next() >> 1)
        default: .page(XArrayTests.page(random.below(4096), pages))
        }
      }
      for step in 0..<20_000 {
        let base = bases[random.below(bases.count)]
        let index = base + UInt64(random.below(random.oneIn(2) ? 4096 : 256))
        let order = random.oneIn(2) ? 0 : random.below(10)
        let inUse = arena.bytesInUse
        switch random.below(step / 2_000 % 2 == 0 ? 5 : 9) {
        case 0...3:
          let entry = random.oneIn(8) ? XArrayEntry.empty : randomEntry()
          do {
            let previous = try array.store(index, entry, order: order)
            try mustHold(previous == model.store(index, entry, order))
          } catch let error as ArenaExhausted {
            refused += 1
            try mustHold(error == ArenaExhausted() && !entry.isEmpty)
            try mustHold(arena.bytesInUse == inUse)
            if random.oneIn(4) { array.reclaim() }
          }
        case 4:
          if (try? array.reserve(index)) == nil {
            refused += 1
            try mustHold(arena.bytesInUse == inUse)
          } else if model.load(index).isEmpty {
            _ = model.store(index, .reserved, 0)
          }
        case 5 where random.oneIn(20):
          array.reclaim()
        case 6:
          array.release(index)
          if model.load(index) == .reserved { _ = model.store(index, .empty, 0) }
        default:
          try mustHold(array.erase(index) == model.store(index, .empty, 0))
        }
        for probe in [index, index ^ 1, index ^ UInt64(random.below(512)), random.next()] {
          try mustHold(array.load(probe) == model.load(probe))
          try mustHold(array.item(at: probe) == model.items[probe])
        }
        if step % 50 == 0 {
          try checkInvariants(array)
          let present = model.all.filter { $0.entry.isPresent }
          try mustHold(array.count == present.count)
          var found: [XArrayItem] = []
          var from: UInt64? = 0
          while let start = from, let item = array.next(from: start) {
            found.append(item)
            from = item.last == .max ? nil : item.last + 1
          }
          try mustHold(found == present)
          try mustHold(array.next(from: index) == present.first { $0.last >= index })
        }
      }
    }
    #expect((refused > 0) == (arenaBytes == 10_000), "only the tiny arena is exhausted")
    for item in model.all { array.erase(item.index) }
    #expect(array.count == 0)
    array.reclaim()
    #expect(arena.bytesInUse == 64, "an empty array is its head")
    array.destroy()
    #expect(arena.bytesInUse == 0)
  }

  @Test("a reader beside a writer finds only entries that cover its index")
  func readers() async throws {
    let memory = ZeroedMemory(byteCount: 1 << 28)
    let arena = XArrayTests.arena(memory)
    let array = try XArray.create(in: arena)
    // A value says which indices it was stored for.
    func covers(_ value: UInt64, _ index: UInt64) -> Bool {
      index >> (value & 15) == (value >> 4) >> (value & 15)
    }
    let mistakes = await withTaskGroup(of: Int.self) { group in
      group.addTask {
        var random = SeededRandom(stream: 99)
        for step in 0..<100_000 {
          // Half of the stores fight over eight slots.
          let isHot = step % 2 == 0
          let order = isHot ? 3 * random.below(2) : random.below(10)
          let index = isHot ? 0 : UInt64(random.below(1024)) & ~((1 << UInt64(order)) - 1)
          array.erase(index)
          if !isHot && random.oneIn(3) { continue }
          do {
            try array.store(index, .value(index << 4 | UInt64(order)), order: order)
          } catch {
            return 1
          }
        }
        return 0
      }
      for reader in 0..<2 {
        group.addTask {
          var random = SeededRandom(stream: UInt64(reader))
          var mistakes = 0
          for _ in 0..<400_000 {
            let index = UInt64(random.below(random.oneIn(2) ? 8 : 1024))
            if let value = array.load(index).value, !covers(value, index) { mistakes += 1 }
          }
          return mistakes
        }
      }
      return await group.reduce(0, +)
    }
    #expect(mistakes == 0, "\(howToRepeat)")
    try checkInvariants(array)
    array.destroy()
    #expect(arena.bytesInUse == 0)
  }
}
