//===----------------------------------------------------------------------===//
// What the tests of the consumers share: large folios behind user addresses,
// and what a list of bvecs must satisfy.
//===----------------------------------------------------------------------===//

import AddressSpaces
import CShims
import PageExtraction
import PageFrames
import Testing

extension AddressSpace {
  /// Runs `body` with a folio of 1 << `order` pages that the program sees at
  /// consecutive addresses, as a 2 MiB mapping in parts would show it. One
  /// counted reference on the folio is out meanwhile.
  func withFolio(
    order: Int, _ body: (_ start: UserAddress, _ folio: Page) throws -> Void
  ) throws {
    let count = 1 << order
    let start = try map(length: .pages(count + 2))
    try fill(start, .pages(count + 2))
    let folio = try memory.allocatePage(order: order)
    let bits =
      CSHIMS_PTE_PRESENT | CSHIMS_PTE_USER | CSHIMS_PTE_WRITE | CSHIMS_PTE_FOLIO
    var before: [UInt64] = []
    for index in 0..<count {
      let page = unsafe Page(folio.descriptor + index)
      unsafe _ = cshims_page_set_flags(
        page.descriptor, CSHIMS_PAGE_ANON | CSHIMS_PAGE_ANON_EXCLUSIVE)
      before.append(try setEntry(start + .pages(index), page.frameNumber.rawValue << 12 | bits))
    }
    defer {
      for index in 0..<count { _ = try? setEntry(start + .pages(index), before[index]) }
      folio.put()
    }
    try body(start, folio)
  }

  private func setEntry(_ address: UserAddress, _ value: UInt64) throws -> UInt64 {
    let entry = unsafe try #require(mm.entry(at: address.rawValue))
    return unsafe cshims_pte_exchange(entry, value)
  }
}

extension Way {
  /// Those whose holds are counted on every page: no pins of the zero page.
  static let countedZeroPage = all.filter {
    $0.direction == .destination || $0.retention == .referenced
  }
}

extension BVec {
  /// The bytes that it covers, as a device sees them.
  var bytes: [UInt8] {
    var bytes: [UInt8] = []
    forEachSegment { part in
      unsafe bytes.append(
        contentsOf: part.page.bytes[part.offset..<part.offset + part.length.rawValue])
    }
    return bytes
  }
}

extension BVecExtraction {
  var bvecs: [BVec] {
    var list: [BVec] = []
    forEachBVec { list.append($0) }
    return list
  }
}

extension Bio {
  var bvecs: [BVec] {
    var list: [BVec] = []
    forEachBVec { list.append($0) }
    return list
  }
}

extension ScatterList {
  var entries: [Entry] {
    var list: [Entry] = []
    forEachEntry { list.append($0) }
    return list
  }
}

/// Bvecs that hold each page they touch: nothing is empty, no two could be one,
/// and as many holds are out as pages are touched. Pages that count no pins, the
/// zero page, must not be among them.
func expectOwned(
  _ bvecs: [BVec], length: ByteCount, in space: AddressSpace, besides: Int = 0,
  sourceLocation: SourceLocation = #_sourceLocation
) {
  #expect(
    bvecs.reduce(0) { $0 + $1.length } == length.rawValue, "bytes", sourceLocation: sourceLocation)
  #expect(
    bvecs.allSatisfy { $0.length > 0 && $0.offset >= 0 && $0.offset < pageSize }, "shape",
    sourceLocation: sourceLocation)
  #expect(
    space.outstanding == besides + bvecs.reduce(0) { $0 + $1.pageCount }, "holds",
    sourceLocation: sourceLocation)
  for (a, b) in zip(bvecs, bvecs.dropFirst()) {
    let end = a.offset + a.length
    let follows =
      unsafe a.page.descriptor + end >> pageShift == b.firstPage.descriptor
      && end & (pageSize - 1) == b.offset
    let inFolio =
      unsafe Page(a.page.descriptor + (end - 1) >> pageShift).folioHead == b.firstPage.folioHead
    #expect(!(follows && inFolio), "could be joined", sourceLocation: sourceLocation)
  }
}

/// Memory of one machine that an iterator of every kind can be made of: a folio
/// of 4 pages, a page and a folio of 2, filled with a pattern, and an area of
/// user memory.
final class MixedMemory {
  let space: AddressSpace
  let folios: [Page]
  let mapping: VirtualMapping
  let cache: XArray
  let pipe: Pipe
  let user: UserAddress
  static let pageCount = 7

  init(_ space: AddressSpace, userPages: Int = pageCount) throws {
    let memory = space.memory
    self.space = space
    folios = try [2, 0, 1].map { try memory.allocatePage(order: $0) }
    let pages = folios.flatMap { folio in
      (0..<1 << folio.folioOrder).map { unsafe Page(folio.descriptor + $0) }
    }
    for (number, page) in pages.enumerated() {
      for index in 0..<pageSize {
        unsafe page.bytes[index] = pattern(UInt64(number << pageShift + index))
      }
    }
    mapping = try VirtualMapping(pages.reversed(), memory: memory)
    cache = try XArray.create(in: memory.machine.arena)
    var index: UInt64 = 0
    for folio in folios {
      try cache.store(index, .page(folio), order: folio.folioOrder)
      // Entries of several indices start at multiples of their size: index 5 is
      // a hole.
      index += index == 4 ? 2 : 1 << UInt64(folio.folioOrder)
    }
    pipe = try Pipe(memory: memory, capacity: 8)
    user = try space.map(length: .pages(userPages))
  }

  /// Gives all of it back.
  func end() {
    for folio in folios { folio.put() }
    cache.destroy()
    pipe.removeAll()
  }

  /// The dialect that extracts a kind, or the one asked for where both do.
  static func dialect(of kind: IOVIter.Kind, _ wanted: Dialect) -> Dialect {
    switch kind {
    case .kvec, .folioQueue: .upstream
    case .pipe: .rfc
    default: wanted
    }
  }

  /// An iterator over some of it: unaligned starts, segments without bytes.
  func iterator(
    _ kind: IOVIter.Kind, _ direction: Direction, _ wanted: Dialect, userBytes: Int = 20_000
  ) throws -> IOVIter {
    let dialect = MixedMemory.dialect(of: kind, wanted)
    let memory = space.memory
    switch kind {
    case .ubuf:
      return try IOVIter(
        ubuf: user + 100, count: ByteCount(userBytes), direction: direction, in: space,
        dialect: dialect)
    case .iovec:
      let segments = [
        UserSegment(base: user + 7, length: 0), UserSegment(base: user + 100, length: 1000),
        UserSegment(base: user + 1100, length: ByteCount(userBytes - 5000)),
        UserSegment(base: user + 5, length: 4000),
      ]
      return try IOVIter(iovec: segments, direction: direction, in: space, dialect: dialect)
    case .bvec:
      let bvecs = [
        BVec(page: folios[0], offset: 100, length: 10_000),
        BVec(page: folios[1], offset: 9, length: 0),
        BVec(page: folios[1], offset: 0, length: 4096),
        BVec(page: folios[2], offset: 5000, length: 3000),
      ]
      return try IOVIter(bvec: bvecs, direction: direction, memory: memory, dialect: dialect)
    case .kvec:
      let kvecs = unsafe [
        KVec(base: folios[0].bytes.baseAddress! + 100, length: 10_000),
        KVec(base: mapping.bytes.baseAddress! + 1, length: 0),
        KVec(base: mapping.bytes.baseAddress! + 4101, length: 9000),
      ]
      return try IOVIter(kvec: kvecs, direction: direction, memory: memory, dialect: dialect)
    case .xarray:
      return try IOVIter(
        xarray: cache, start: 4200, count: 24_000, direction: direction, memory: memory,
        dialect: dialect)
    case .folioQueue:
      return try IOVIter(
        folioQueue: FolioQueue(folios), offset: 4100, direction: direction, memory: memory,
        dialect: dialect)
    case .pipe:
      return try IOVIter(pipe: pipe, count: 20_000, dialect: dialect)
    case .discard:
      return try IOVIter(discard: 20_000, memory: memory, dialect: dialect)
    }
  }
}

/// A kind, a direction and a dialect that make an extractable iterator.
struct Origin: Sendable, CustomTestStringConvertible {
  let kind: IOVIter.Kind
  let direction: Direction
  let dialect: Dialect

  static let all: [Origin] = IOVIter.Kind.allCases.flatMap { kind in
    Direction.allCases.flatMap { direction in
      Dialect.allCases.compactMap { dialect in
        kind.extraction(in: dialect, direction) == nil
          ? nil : Origin(kind: kind, direction: direction, dialect: dialect)
      }
    }
  }
  /// Those that scatter lists and spans take.
  static let segmented = all.filter { $0.kind != .pipe }

  var testDescription: String { "\(dialect) \(kind) \(direction)" }
}

/// As `withSpace`, with memory for every kind.
func withMixedMemory(
  userPages: Int = MixedMemory.pageCount, _ body: (MixedMemory) throws -> Void
) throws {
  try withSpace { space in
    let mixed = try MixedMemory(space, userPages: userPages)
    defer { mixed.end() }
    try body(mixed)
  }
}
