//===----------------------------------------------------------------------===//
// A random model test: an iterator beside a plain array that has one entry per
// byte. The model knows nothing of pages, slots or segments but what it reads
// off each byte's address.
//===----------------------------------------------------------------------===//

import AddressSpaces
import DMA
import PageExtraction
import PageFrames
import TestSupport
import Testing

/// What the model believes of the area under the segments.
private struct Ground {
  enum Access { case absent, readOnly, readWrite }

  let space: AddressSpace
  let base: UserAddress
  var access: [Access]
  var bytes: [UInt8]

  init(pages: Int, in space: AddressSpace, _ random: inout SeededRandom) throws {
    self.space = space
    base = try space.map(length: .pages(pages))
    access = Array(repeating: .readWrite, count: pages)
    bytes = Array(repeating: 0, count: pages << pageShift)
    for page in 0..<pages {
      if !random.oneIn(3) {
        try space.fill(base + .pages(page), .pages(1))
        for index in page << pageShift..<(page + 1) << pageShift {
          bytes[index] = pattern(base.rawValue + UInt64(index))
        }
      }
      if random.oneIn(8) {
        access[page] = .readOnly
        try space.protect(base + .pages(page), length: .pages(1), .readOnly)
      } else if random.oneIn(8) {
        try unmap(page)
      }
    }
  }

  func index(of address: UInt64) -> Int { Int(address - base.rawValue) }

  mutating func unmap(_ page: Int) throws {
    try space.unmap(base + .pages(page), length: .pages(1))
    access[page] = .absent
  }

  mutating func mapAgain(_ page: Int) throws {
    let start = base + .pages(page)
    #expect(try space.map(length: .pages(1), at: .fixed(start)) == start)
    access[page] = .readWrite
    for index in page << pageShift..<(page + 1) << pageShift { bytes[index] = 0 }
  }

  /// Can the page of this byte be had?
  func offers(_ address: UInt64, for iterator: IOVIter) -> Bool {
    let writes = iterator.direction == .destination
    let allowed = access[index(of: address) >> pageShift]
    guard allowed == .readWrite || allowed == .readOnly && !writes else { return false }
    guard iterator.noFault else { return true }
    guard let page = space.page(at: UserAddress(address)) else { return false }
    return !writes || !page.isZeroPage
  }
}

/// One byte of an iterator.
private struct Spot {
  let segment: Int
  let address: UInt64
}

@Suite("Extraction beside a model")
struct ModelTests {
  @Test(
    "I1-I7: random segments, limits and moves beside a plain array of bytes",
    arguments: Way.all, 0..<6)
  func extraction(_ way: Way, _ run: Int) throws {
    try withSpace { space in
      try withSeededRandom(stream: UInt64(run)) { random in
        var ground = try Ground(pages: 12, in: space, &random)
        for _ in 0..<4 { try walk(way, &ground, &random) }
      }
    }
  }

  private func walk(_ way: Way, _ ground: inout Ground, _ random: inout SeededRandom) throws {
    let space = ground.space
    let room = ground.bytes.count
    let segments = (0..<(way.kind == .ubuf ? 1 : random.below(9))).map { _ in
      let start = random.oneIn(3) ? random.below(12) << pageShift : random.below(room)
      let length =
        random.oneIn(3)
        ? 0 : min(room - start, random.oneIn(3) ? 4096 : random.below(3 * 4096))
      return UserSegment(base: ground.base + ByteCount(start), length: ByteCount(length))
    }
    var spots: [Spot] = []
    for (number, segment) in segments.enumerated() {
      for offset in 0..<segment.length.rawValue {
        spots.append(
          Spot(segment: number, address: segment.base.rawValue + UInt64(offset)))
      }
    }
    var iterator =
      way.kind == .ubuf
      ? try way.iterator(segments[0].base, segments[0].length, in: space)
      : try way.iterator(segments, in: space)
    var position = 0
    var end = spots.count
    var kept = (state: iterator.saveState(), position: 0, end: end)

    for _ in 0..<40 {
      switch random.below(9) {
      case 0:
        let size = random.below(5000)
        try iterator.advance(by: ByteCount(size))
        position += min(size, end - position)
      case 1:
        let size = random.below(position + 1)
        try iterator.revert(by: ByteCount(size))
        // What was cut off stays cut off: the count grows by what is given back.
        position -= size
      case 2:
        end = position + random.below(spots.count - position + 1)
        try iterator.reexpand(to: ByteCount(end - position))
      case 3:
        if random.oneIn(2) {
          kept = (iterator.saveState(), position, end)
        } else {
          try iterator.restore(kept.state)
          (position, end) = (kept.position, kept.end)
        }
      case 4:
        iterator.noFault.toggle()
      case 5:
        let page = random.below(12)
        ground.access[page] == .absent ? try ground.mapAgain(page) : try ground.unmap(page)
      default:
        position += try extract(&iterator, spots[position..<end], &ground, &random)
      }
      try #require(iterator.count.rawValue == end - position)
    }
  }

  /// Extracts once, compares with the model and uses the pages as a device
  /// would. Returns the bytes extracted.
  private func extract(
    _ iterator: inout IOVIter, _ spots: ArraySlice<Spot>, _ ground: inout Ground,
    _ random: inout SeededRandom
  ) throws -> Int {
    let space = ground.space
    let maxSize = ByteCount(random.oneIn(3) ? random.below(100) : random.below(20_000))
    let maxPages = PageCount(random.below(6))

    // The model: one byte after the other.
    var length = 0
    var pages: [UInt64] = []
    var refused = false
    for spot in spots.prefix(maxSize.rawValue) {
      if spot.segment != spots.first?.segment { break }
      if pages.last != spot.address >> 12 {
        if pages.count == maxPages.rawValue { break }
        refused = !ground.offers(spot.address, for: iterator)
        if refused { break }
        pages.append(spot.address >> 12)
      }
      length += 1
    }
    let before = iterator
    let outstanding = space.outstanding
    guard length > 0 || spots.isEmpty || maxSize == 0 else {
      let number = errorNumber {
        try iterator.extractPages(maxSize: maxSize, maxPages: maxPages).release()
      }
      try #require(number == (maxPages == 0 ? .outOfMemory : .badAddress))
      try #require(iterator.saveState() == before.saveState())
      try #require(space.outstanding == outstanding)
      return 0
    }

    let extraction = try iterator.extractPages(maxSize: maxSize, maxPages: maxPages)
    expectContract(
      extraction.result, from: before, to: iterator, maxSize: maxSize, maxPages: maxPages)
    try #require(extraction.length == ByteCount(length))
    try #require(extraction.pageCount == pages.count)
    for (slot, number) in pages.enumerated() {
      try #require(extraction[slot] == space.page(at: UserAddress(number << 12)))
    }
    let ended = length < spots.count
    var faulted = false
    if case .fault = extraction.stop { faulted = true }
    try #require(faulted == (refused && length > 0))
    try #require((extraction.stop == .complete) == !ended)

    // The device.
    let device = DMAEngine(memory: space.memory)
    let touched = spots.prefix(length).map { ground.index(of: $0.address) }
    if iterator.direction == .destination {
      let bytes = touched.map { _ in UInt8(truncatingIfNeeded: random.next()) }
      try device.write(bytes, to: extraction)
      for (index, byte) in zip(touched, bytes) { ground.bytes[index] = byte }
      extraction.release(dirty: true)
    } else {
      let seen = try device.read(from: extraction)
      try #require(seen == touched.map { ground.bytes[$0] })
    }
    if let first = touched.first {
      let user = try space.bytes(ground.base + ByteCount(first), ByteCount(length))
      try #require(user == Array(ground.bytes[first..<first + length]))
    }
    return length
  }
}
