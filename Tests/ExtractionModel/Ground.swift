//===----------------------------------------------------------------------===//
// The memory that iterators of all kinds describe in the model: blocks of
// frames with bytes in them, seen through an address space, a virtual mapping
// and a page cache.
//===----------------------------------------------------------------------===//

import AddressSpaces
import PageExtraction
import PageFrames
import TestSupport

/// A part of one page, or of a place that has none.
struct Piece {
  let page: Page?
  /// What an extraction says when it gets here and there is no page.
  var missing = ExtractionStop.complete
  let offset: Int
  let length: Int
  /// Does an extraction go on from the piece before it?
  var isJoined: Bool
}

final class Ground {
  static let userPages = 24
  static let order = 3
  static let cachePages = 24

  let memory: PhysicalMemory
  let space: AddressSpace
  let base: UserAddress
  /// Heads of folios of 8 pages, then of smaller ones, down to single pages.
  private(set) var folios: [Page] = []
  let scattered: VirtualMapping
  let scatteredPages: [Page]
  let cache: XArray

  init(_ memory: PhysicalMemory, _ random: inout Dice) throws {
    self.memory = memory
    space = try AddressSpace(memory: memory)
    base = try space.map(length: .pages(Ground.userPages))
    try space.advise(base, length: .pages(Ground.userPages), .populateWrite)
    for order in [3, 3, 3, 2, 1, 1, 0, 0, 0] {
      folios.append(try memory.allocatePage(order: order))
    }
    var pages: [Page] = []
    for head in folios {
      for step in 0..<1 << head.folioOrder { pages.append(Ground.page(head, step)) }
    }
    scatteredPages = (0..<16).map { _ in pages[random.below(pages.count)] }
    scattered = try VirtualMapping(scatteredPages, memory: memory)
    cache = try XArray.create(in: memory.machine.arena)
    try fillCache(&random)
    for index in 0..<Ground.userPages {
      if let page = space.page(at: base + .pages(index)) { pages.append(page) }
    }
    for page in pages {
      for word in 0..<pageSize / 8 {
        let bytes = (page.frameNumber.rawValue << 12 | UInt64(word)) &* 0x9e37_79b9_7f4a_7c15
        unsafe page.bytes.storeBytes(of: bytes, toByteOffset: word * 8, as: UInt64.self)
      }
    }
    for index in 0..<Ground.userPages where random.oneIn(8) {
      try space.unmap(base + .pages(index), length: .pages(1))
    }
  }

  private func fillCache(_ random: inout Dice) throws {
    var index: UInt64 = 0
    while index < Ground.cachePages {
      switch random.below(12) {
      case 0: break
      case 1: try cache.store(index, .value(UInt64(random.below(1 << 20))))
      case 2: try cache.reserve(index)
      default:
        let head = folios[random.below(folios.count)]
        let order = head.folioOrder
        if index & (1 << UInt64(order) - 1) == 0 {
          try cache.store(index, .page(head), order: order)
          index += 1 << UInt64(order)
          continue
        }
        try cache.store(index, .page(folios[folios.count - 1]))
      }
      index += 1
    }
  }

  func tearDown() {
    cache.destroy()
    for head in folios { head.put() }
    space.exit()
  }

  static func page(_ head: Page, _ step: Int) -> Page {
    head.machine.page(head.frameNumber.rawValue + UInt64(step))
  }

  /// A range in `room` bytes: often empty, often at page boundaries.
  private func range(_ room: Int, _ random: inout Dice) -> (start: Int, length: Int) {
    var start = random.below(room)
    if random.oneIn(2) { start &= ~4095 }
    if random.oneIn(4) { return (start, 0) }
    let most = min(room - start, 5 * pageSize)
    var length = 1 + random.below(most)
    if random.oneIn(2) { length = max(1, ((start + length) & ~4095) - start) }
    if random.oneIn(6) { length = min(most, 3) }
    return (start, length)
  }

  /// An iterator of a setting, and its bytes piece by piece.
  func iterator(
    _ setting: Setting, _ random: inout Dice
  ) throws -> (iterator: IOVIter, pieces: [Piece], emptyStarts: Int) {
    var pieces: [Piece] = []
    let (direction, dialect) = (setting.direction, setting.dialect)
    switch setting.kind {
    case .ubuf:
      let (start, length) = range(Ground.userPages << pageShift, &random)
      add(start, length, to: &pieces, joins: false, userPiece)
      let iterator = try IOVIter(
        ubuf: base + ByteCount(start), count: ByteCount(length), direction: direction, in: space,
        dialect: dialect)
      return (iterator, pieces, 0)
    case .iovec:
      var segments: [UserSegment] = []
      for _ in 0..<random.below(8) {
        let (start, length) = range(Ground.userPages << pageShift, &random)
        add(start, length, to: &pieces, joins: false, userPiece)
        segments.append(
          UserSegment(base: base + ByteCount(start), length: ByteCount(length)))
      }
      let iterator = try IOVIter(
        iovec: segments, direction: direction, in: space, dialect: dialect)
      return (iterator, pieces, 0)
    case .bvec:
      var segments: [BVec] = []
      var emptyStarts = 0
      for _ in 0..<random.below(8) {
        let head = folios[random.below(folios.count)]
        let (start, length) = range(pageSize << head.folioOrder, &random)
        add(start, length, to: &pieces, joins: dialect == .upstream) { index in
          (Ground.page(head, index), .complete)
        }
        // Any page before the start will do.
        let from = random.below(start >> pageShift + 1)
        segments.append(
          BVec(page: Ground.page(head, from), offset: start - from << pageShift, length: length))
        if length == 0 && start & 4095 != 0 { emptyStarts += 1 }
      }
      let iterator = try IOVIter(
        bvec: segments, direction: direction, memory: memory, dialect: dialect)
      return (iterator, pieces, emptyStarts)
    case .kvec:
      var segments: [KVec] = []
      for _ in 0..<random.below(8) {
        let head = folios[random.below(folios.count)]
        let isScattered = random.oneIn(2)
        let room = isScattered ? scatteredPages.count : 1 << head.folioOrder
        let (start, length) = range(room << pageShift, &random)
        add(start, length, to: &pieces, joins: false) { index in
          (isScattered ? self.scatteredPages[index] : Ground.page(head, index), .complete)
        }
        let bytes = unsafe isScattered ? scattered.bytes : head.bytes
        segments.append(unsafe KVec(base: bytes.baseAddress! + start, length: length))
      }
      let iterator = try IOVIter(
        kvec: segments, direction: direction, memory: memory, dialect: dialect)
      return (iterator, pieces, 0)
    case .xarray:
      let (start, length) = range(Ground.cachePages << pageShift, &random)
      add(start, length, to: &pieces, joins: false, cachePiece)
      let iterator = try IOVIter(
        xarray: cache, start: ByteCount(start), count: ByteCount(length), direction: direction,
        memory: memory, dialect: dialect)
      return (iterator, pieces, 0)
    case .folioQueue:
      var queue = FolioQueue()
      for _ in 0..<random.below(6) {
        let head = folios[random.below(folios.count)]
        try queue.append(head)
        add(0, pageSize << head.folioOrder, to: &pieces, joins: true) { index in
          (Ground.page(head, index), .complete)
        }
      }
      let iterator = try IOVIter(
        folioQueue: queue, direction: direction, memory: memory, dialect: dialect)
      return (iterator, pieces, 0)
    case .discard, .pipe:
      let length = random.below(30_000)
      if length > 0 { pieces = [Piece(page: nil, offset: 0, length: length, isJoined: false)] }
      return (try IOVIter(discard: ByteCount(length), memory: memory, dialect: dialect), pieces, 0)
    }
  }

  /// Cuts a segment into pieces.
  private func add(
    _ start: Int, _ length: Int, to pieces: inout [Piece], joins: Bool,
    _ place: (_ index: Int) -> (Page?, ExtractionStop)
  ) {
    var position = start
    while position < start + length {
      let offset = position & 4095
      let part = min(pageSize - offset, start + length - position)
      let (page, missing) = place(position >> pageShift)
      var isJoined = position > start
      if position == start, joins, let last = pieces.last {
        isJoined = last.offset + last.length == pageSize && offset == 0
      }
      pieces.append(
        Piece(page: page, missing: missing, offset: offset, length: part, isJoined: isJoined))
      position += part
    }
  }

  private func userPiece(_ index: Int) -> (Page?, ExtractionStop) {
    let address = base + .pages(index)
    return (space.page(at: address), .fault(MemoryError(.badAddress, .notMapped, address)))
  }

  private func cachePiece(_ index: Int) -> (Page?, ExtractionStop) {
    let index = UInt64(index)
    guard let item = cache.item(at: index) else { return (nil, .hole(index: index)) }
    guard let head = item.entry.page else {
      return (nil, .entry(index: index, item.entry.kind))
    }
    return (Ground.page(head, Int(index - item.index)), .complete)
  }
}
