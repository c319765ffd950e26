//===----------------------------------------------------------------------===//
// Folios beside plain arrays of bytes: whatever is cut, joined, shared or copied,
// a parent and its child read what they stored, and every reference of a folio is
// a mapping again.
//===----------------------------------------------------------------------===//

import AddressSpaces
import PageFrames
import TestSupport
import Testing

/// An address space, and what each page of a window must read as.
private struct Person {
  let space: AddressSpace
  /// nil where nothing is mapped.
  var bytes: [UInt8?]
  var writable: [Bool]

  /// The same at a fork.
  func forked() throws -> Person {
    Person(space: try space.fork(), bytes: bytes, writable: writable)
  }
}

private struct World {
  static let pages = 1100
  /// Pages before the first whole 2 MiB of two.
  static let before = 12
  let base: UserAddress
  var people: [Person]

  func address(_ page: Int) -> UserAddress { base + .pages(page) }

  /// Whole 2 MiB, everything, a few pages, or any.
  private static func range(_ random: inout SeededRandom) -> Range<Int> {
    switch random.below(5) {
    case 0, 1:
      let first = before + 512 * random.below(2)
      return first..<(first + 512)
    case 2: return 0..<pages
    case 3:
      let first = random.below(pages)
      return first..<min(pages, first + 1 + random.below(40))
    default:
      let first = random.below(pages)
      return first..<(first + 1 + random.below(pages - first))
    }
  }

  mutating func step(_ random: inout SeededRandom) throws {
    let who = random.below(people.count)
    let space = people[who].space
    let range = Self.range(&random)
    let first = range.lowerBound
    let (start, length) = (address(first), ByteCount.pages(range.count))
    switch random.below(16) {
    case 0:
      let sizes: [FolioSize] = [.base, .order(2), .order(5), .order(9), .huge, .huge]
      let size = sizes[random.below(sizes.count)]
      _ = try space.map(length: length, folios: size, at: .fixed(start))
      for page in range { set(who, page, byte: 0, writable: true) }
    case 1 where random.oneIn(6):
      try space.unmap(start, length: length)
      for page in range { set(who, page, byte: nil, writable: false) }
    case 2:
      try? space.advise(start, length: length, .dontNeed)
      for page in range where people[who].bytes[page] != nil { people[who].bytes[page] = 0 }
    case 3, 4:
      let writable = random.oneIn(2)
      let end = range.first { people[who].bytes[$0] == nil } ?? range.upperBound
      try? space.protect(start, length: length, writable ? .readWrite : .readOnly)
      for page in first..<end { people[who].writable[page] = writable }
    case 5: try? space.advise(start, length: length, .collapse)
    case 6: try? space.splitFolio(at: start)
    case 7: try? space.advise(start, length: length, folios: random.oneIn(2) ? .huge : .order(4))
    case 8 where people.count == 1: people.append(try people[0].forked())
    case 8 where random.oneIn(3): people.removeLast().space.exit()
    case 9: try? space.advise(start, length: length, .populateWrite)
    default:
      for _ in 0..<6 {
        let page = first + random.below(range.count)
        guard people[who].writable[page] else { continue }
        let byte = UInt8(truncatingIfNeeded: random.next())
        try space.put(byte, at: address(page) + ByteCount(page & 0xfff))
        people[who].bytes[page] = byte
      }
    }
  }

  private mutating func set(_ who: Int, _ page: Int, byte: UInt8?, writable: Bool) {
    people[who].bytes[page] = byte
    people[who].writable[page] = writable
  }

  /// What is there, through the window; of some pages also what the program loads.
  func check(_ random: inout SeededRandom) throws {
    for person in people {
      for page in 0..<Self.pages {
        let shown = person.space.peek(address(page) + ByteCount(page & 0xfff))
        guard let byte = person.bytes[page] else {
          try mustHold(shown == nil)
          continue
        }
        try mustHold(shown == byte || (shown == nil && byte == 0))
        try mustHold(person.writable[page] || !person.space.isWritable(at: address(page)))
      }
      for _ in 0..<8 {
        let page = random.below(Self.pages)
        guard let byte = person.bytes[page] else { continue }
        try mustHold(person.space.look(address(page) + ByteCount(page & 0xfff)) == byte)
      }
      for _ in 0..<8 {
        guard let found = person.space.page(at: address(random.below(Self.pages))),
          !found.isZeroPage
        else { continue }
        try mustHold(found.referenceCount == found.folioMapCount && !found.mayBePinned)
      }
    }
  }
}

@Suite("Folios against plain bytes")
struct FolioModelTests {
  @Test(
    "D.2, D.3, G5: random cuts, joins, forks and stores leave everybody's bytes right",
    arguments: TrapTier.all, [MemoryPolicy(), .reuseLargeFolios])
  func randomSteps(tier: TrapTier, policy: MemoryPolicy) throws {
    try withSeededRandom(stream: 700 + UInt64(tier.rawValue) * 2 + UInt64(policy.rawValue >> 4)) {
      random in
      try withMachine(capacity: .mebibytes(20), tier: tier) { memory in
        memory.policy = policy
        let parent = try AddressSpace(memory: memory)
        let area = try parent.map(length: .mebibytes(8))
        try parent.unmap(area, length: .mebibytes(8))
        var world = World(
          base: area + .pages(512 - World.before),
          people: [
            Person(
              space: parent, bytes: [UInt8?](repeating: nil, count: World.pages),
              writable: [Bool](repeating: false, count: World.pages))
          ])
        for _ in 0..<250 {
          try world.step(&random)
          try world.check(&random)
        }
        for person in world.people { person.space.exit() }
        try mustHold(memory.freeFrameCount == memory.totalFrameCount)
      }
    }
  }
}
