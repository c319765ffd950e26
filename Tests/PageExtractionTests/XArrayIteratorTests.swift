//===----------------------------------------------------------------------===//
// XARRAY: the golden vectors, and entries that are not pages.
//===----------------------------------------------------------------------===//

import AddressSpaces
import PageExtraction
import PageFrames
import Synchronization
import TestSupport
import Testing

@Suite("XARRAY")
struct XArrayIteratorTests {
  /// Frame n stands at index n of the cache, for these n.
  private func withCache(
    _ present: [Int], _ body: (Frames, XArray) throws -> Void
  ) throws {
    try withFrames { frames in
      let cache = try XArray.create(in: frames.memory.machine.arena)
      defer { cache.destroy() }
      for index in present { try cache.store(UInt64(index), .page(frames[index])) }
      try body(frames, cache)
    }
  }

  private func iterator(
    _ cache: XArray, _ start: Int, _ count: Int, _ frames: Frames,
    _ direction: Direction = .source, _ dialect: Dialect = .rfc
  ) throws -> IOVIter {
    try IOVIter(
      xarray: cache, start: ByteCount(start), count: ByteCount(count), direction: direction,
      memory: frames.memory, dialect: dialect)
  }

  struct Vector: Sendable, CustomTestStringConvertible {
    let start: Int
    let present: [Int]
    let count: Int
    var maxPages = PageCount(8)
    let expected: Golden
    let stop: ExtractionStop
    var testDescription: String { "\(present) from \(start)" }
  }

  static let vectors = [
    Vector(
      start: 100, present: [0, 1, 2], count: 8192, expected: Golden(8192, 100, [0, 1, 2]),
      stop: .complete),
    Vector(
      start: 100, present: [0, 1], count: 20000, expected: Golden(8092, 100, [0, 1]),
      stop: .hole(index: 2)),
    // F-13: the RFC says 8192 with no page.
    Vector(
      start: 100, present: [1], count: 8192, expected: Golden(0, 0, []), stop: .hole(index: 0)),
    Vector(start: 0, present: [1], count: 8192, expected: Golden(0, 0, []), stop: .hole(index: 0)),
    Vector(
      start: 4103, present: [1, 2], count: 9000, maxPages: 2, expected: Golden(8185, 7, [1, 2]),
      stop: .pageLimit),
  ]

  @Test(
    "A.9, F-13, A-25, A-26: the golden vectors of XARRAY", arguments: vectors, Dialect.allCases)
  func golden(_ vector: Vector, _ dialect: Dialect) throws {
    try withCache(vector.present) { frames, cache in
      for direction in Direction.allCases {
        let start = try iterator(cache, vector.start, vector.count, frames, direction, dialect)
        var iterator = start
        let extraction = try iterator.extractPages(maxSize: 102_400, maxPages: vector.maxPages)
        #expect(extraction.stop == vector.stop)
        iterator = start
        #expect(try iterator.golden(frames, maxPages: vector.maxPages) == vector.expected)
        if vector.expected.length == 0 { #expect(iterator.saveState() == start.saveState()) }
      }
    }
  }

  @Test(
    "A-27: values, reserved entries and a retry entry that stays end it with their kind",
    arguments: Dialect.allCases)
  func oddEntries(_ dialect: Dialect) throws {
    try withCache([0, 1]) { frames, cache in
      for (entry, kind): (XArrayEntry, XArrayEntry.Kind) in [
        (.value(7), .value), (.reserved, .reserved), (.retry, .retry),
      ] {
        try cache.store(2, entry)
        var iterator = try iterator(cache, 10, 16384, frames, .source, dialect)
        let extraction = try iterator.extractPages()
        #expect(extraction.length == 8182 && extraction.stop == .entry(index: 2, kind))
        let before = iterator.saveState()
        let nothing = try iterator.extractPages()
        #expect(nothing.isEmpty && nothing.stop == .entry(index: 2, kind))
        #expect(iterator.saveState() == before)
        #expect(errorNumber { try iterator.readAll() } == .badAddress)
        cache.erase(2)
      }
    }
  }

  @Test("A.7: a retry entry is looked at again until the page is there")
  func retry() throws {
    try withCache([0, 2]) { frames, cache in
      for _ in 0..<20 {
        try cache.store(1, .retry)
        let start = try iterator(cache, 0, 12288, frames)
        let page = frames[1]
        let failures = Failures()
        onThreads(2) { number in
          if number == 0 {
            if (try? cache.store(1, .page(page))) == nil { failures.add() }
          } else {
            var iterator = start
            var extraction = try? iterator.extractPages()
            // The machine may have run this thread alone for long.
            if extraction?.stop == .entry(index: 1, .retry) { return }
            if extraction?.length != 12288 { failures.add() }
            extraction = nil
          }
        }
        #expect(failures.count == 0)
      }
    }
  }

  @Test("A.7: an entry of several indices lists the folio's pages, from the middle too")
  func folios() throws {
    try withMachine { memory in
      let head = try memory.allocatePage(order: 3)
      let single = try memory.allocatePage()
      let cache = try XArray.create(in: memory.machine.arena)
      let frames = Frames(memory: memory, head: head)
      try cache.store(8, .page(head), order: 3)
      try cache.store(16, .page(single))
      var iterator = try iterator(cache, 10 << 12 + 5, 7 << 12, frames)
      // The last byte lies at index 17, where nothing is.
      #expect(
        try iterator.golden(frames)
          == Golden(7 << 12 - 5, 5, [2, 3, 4, 5, 6, 7, frames.number(single)]))
      #expect(try iterator.extractPages().stop == .hole(index: 17))
      // A sub-page stored by itself is what its index shows.
      try cache.store(20, .page(frames[5]))
      var other = try self.iterator(cache, 20 << 12, 4096, frames)
      #expect(try other.golden(frames) == Golden(4096, 0, [5]))
      cache.destroy()
      head.put()
      single.put()
    }
  }

  @Test("A page of another machine ends it with EINVAL")
  func otherMachine() throws {
    try withCache([0]) { frames, cache in
      try withMachine { other in
        let foreign = try other.allocatePage()
        try cache.store(1, .page(foreign))
        var iterator = try iterator(cache, 0, 8192, frames)
        let extraction = try iterator.extractPages()
        #expect(extraction.pageCount == 1)
        guard case .fault(let error) = extraction.stop else {
          Issue.record("no fault")
          return
        }
        #expect(error.number == .invalid && error.reason == .machineMismatch)
        #expect(errorNumber { try iterator.extractPages().release() } == .invalid)
        #expect(errorNumber { try iterator.readAll() } == .invalid)
        foreign.put()
      }
    }
  }

  @Test("1.2: a range that no file has is refused when it is made")
  func malformed() throws {
    try withCache([]) { frames, cache in
      #expect(errorNumber { try iterator(cache, -1, 1, frames) } == .invalid)
      #expect(errorNumber { try iterator(cache, 0, -1, frames) } == .invalid)
      #expect(throws: MemoryError(.invalid, .rangeWraps, 1)) {
        try iterator(cache, 1, Int.max, frames)
      }
      // At the very end, and nothing there.
      var far = try iterator(cache, Int.max - 4096, 4096, frames)
      #expect(try far.extractPages().stop == .hole(index: UInt64(Int.max - 4096) >> 12))
    }
  }

  @Test("A.8.2 to A.8.6: position, slots, alignment; bytes move up to a hole")
  func operations() throws {
    try withCache([0, 1, 3]) { frames, cache in
      var source = try iterator(cache, 100, 12000, frames)
      #expect(source.pageCount() == 3 && source.pageCount(maxPages: 2) == 2)
      #expect(source.alignment == 100 | 12000)
      #expect(source.isAligned(addressMask: 3, lengthMask: 31))
      #expect(!source.isAligned(addressMask: 7, lengthMask: 0))
      #expect(source.gapAlignment == .max)
      try source.advance(by: 4000)
      #expect(source.offset == 4000 && source.count == 8000 && source.segmentCount == 1)
      #expect(throws: MemoryError(.invalid, .positionOutOfRange, 4001)) {
        try source.revert(by: 4001)
      }
      try source.revert(by: 4000)
      var read = [UInt8](repeating: 0, count: 12000)
      let result = try unsafe read.withUnsafeMutableBytes {
        try unsafe source.copyFromIterator(into: $0)
      }
      #expect(result == CopyResult(length: 8092, stop: MemoryError(.badAddress, .hole, 2)))
      #expect(Array(read[..<8092]) == (unsafe bytes(frames.address(0, 100), 8092)))
      var into = try iterator(cache, 12288 + 7, 100, frames, .destination)
      #expect(try into.write([5, 6, 7]) == CopyResult(length: 3))
      #expect(unsafe bytes(frames.address(3, 7), 3) == [5, 6, 7])
    }
  }

  @Test("A mapped file's pages are what its iterator lists, holes until they are brought in")
  func mappedFile() throws {
    try withMachine { memory in
      // Any file will do; this program is one.
      let file = try MappedFile(path: "/proc/self/exe", memory: memory)
      var iterator = try IOVIter(
        xarray: file.pages, start: 1, count: 5000, direction: .source, memory: memory)
      #expect(try iterator.extractPages().stop == .hole(index: 0))
      try file.bringIn(offset: 0, length: 4096)
      let extraction = try iterator.extractPages()
      #expect(extraction.length == 4095 && extraction.stop == .hole(index: 1))
      #expect(extraction[0] == file.pages.load(0).page)
      try file.bringIn(offset: 4096, length: 4096)
      try iterator.revert(by: 4095)
      #expect(try Array(iterator.readAll()[..<3]) == Array("ELF".utf8))
    }
  }
}

/// A count that threads may raise.
private final class Failures: Sendable {
  private let value = Atomic(0)
  var count: Int { value.load(ordering: .relaxed) }
  func add() { value.add(1, ordering: .relaxed) }
}
