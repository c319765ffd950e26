//===----------------------------------------------------------------------===//
// Table 1.1: which kinds can be extracted in which dialect, and what all kinds
// that cannot do instead.
//===----------------------------------------------------------------------===//

import Events
import ExtractionModel
import PageExtraction
import PageFrames
import TestSupport
import Testing

@Suite("Kinds")
struct KindTableTests {
  @Test("1.1, B.2, A-30, A-31: the table of kinds, dialects and what an extraction holds")
  func table() {
    func row(_ kind: IOVIter.Kind, _ dialect: Dialect) -> [Retention?] {
      [kind.extraction(in: dialect, .source), kind.extraction(in: dialect, .destination)]
    }
    for kind in [IOVIter.Kind.ubuf, .iovec] {
      #expect(row(kind, .rfc) == [.referenced, .pinned])
      #expect(row(kind, .upstream) == [.pinned, .pinned])
    }
    for kind in [IOVIter.Kind.bvec, .xarray] {
      for dialect in Dialect.allCases { #expect(row(kind, dialect) == [.unretained, .unretained]) }
    }
    for kind in [IOVIter.Kind.kvec, .folioQueue] {
      #expect(row(kind, .rfc) == [nil, nil])
      #expect(row(kind, .upstream) == [.unretained, .unretained])
    }
    #expect(row(.pipe, .rfc) == [nil, .unretained])
    #expect(row(.pipe, .upstream) == [nil, nil])
    for dialect in Dialect.allCases { #expect(row(.discard, dialect) == [nil, nil]) }
  }

  @Test("I1-I7: every setting beside its model, 112,000 calls", arguments: Setting.all)
  func model(_ setting: Setting) throws {
    var dice = Dice(
      seed: SeededRandom.seed,
      stream: UInt64(Setting.all.firstIndex { $0.description == setting.description } ?? 0))
    do {
      try runModel(setting, calls: 4000, &dice)
    } catch {
      print(howToRepeat)
      throw error
    }
  }

  /// One iterator of each kind over 5,000 bytes or nothing.
  private func iterators(
    _ count: Int, _ dialect: Dialect, _ frames: Frames, _ cache: XArray
  ) throws -> [IOVIter] {
    let memory = frames.memory
    let pipe = try Pipe(memory: memory)
    let size = ByteCount(count)
    return try [
      IOVIter(
        bvec: [frames.bvec(0, 0, count)], direction: .destination, memory: memory,
        dialect: dialect),
      IOVIter(
        kvec: [unsafe KVec(base: frames.address(0), length: count)], direction: .destination,
        memory: memory, dialect: dialect),
      IOVIter(
        xarray: cache, start: 0, count: size, direction: .destination, memory: memory,
        dialect: dialect),
      IOVIter(
        folioQueue: FolioQueue([frames.head]), count: size, direction: .destination,
        memory: memory, dialect: dialect),
      IOVIter(pipe: pipe, count: size, dialect: dialect),
      IOVIter(discard: size, memory: memory, dialect: dialect),
    ]
  }

  @Test(
    "1.2, A-01, A-02: nothing asked for gives nothing, no page allowed gives ENOMEM",
    arguments: Dialect.allCases)
  func limits(_ dialect: Dialect) throws {
    try withFrames { frames in
      let cache = try XArray.create(in: frames.memory.machine.arena)
      defer { cache.destroy() }
      for index in 0..<4 { try cache.store(UInt64(index), .page(frames[index])) }
      let canary = frames[63]
      for count in [5000, 0] {
        for start in try iterators(count, dialect, frames, cache) {
          var iterator = start
          let list = UnsafeMutableBufferPointer<Page?>.allocate(capacity: 4)
          defer { unsafe list.deallocate() }
          unsafe list.initialize(repeating: canary)
          let nothing = try unsafe iterator.extractPages(into: list, maxSize: 0, maxPages: 0)
          #expect(nothing.length == 0 && nothing.pageCount == 0)
          #expect(nothing.stop == (count == 0 ? .complete : .sizeLimit))
          let isExtractable = start.kind.extraction(in: dialect, .destination) != nil
          #expect(start.canBeExtracted == isExtractable)
          #expect(iterator.saveState() == start.saveState())
          #expect(unsafe list.allSatisfy { $0 == canary })
          guard count > 0 else { continue }
          for way in 0..<2 {
            #expect(
              errorNumber {
                if way == 0 {
                  try iterator.extractPages(maxPages: 0).release()
                } else {
                  _ = try unsafe iterator.extractPages(into: list, maxPages: 0)
                }
              } == (isExtractable ? .outOfMemory : .badAddress))
          }
          if isExtractable {
            #expect(throws: MemoryError(.invalid, .listTooShort, 4)) {
              try unsafe iterator.extractPages(into: list, maxPages: 5)
            }
          } else {
            #expect(
              throws: MemoryError(.badAddress, .unsupportedKind, Int(start.kind.rawValue))
            ) {
              try iterator.extractPages().release()
            }
          }
          #expect(throws: MemoryError(.invalid, .countNegative, -1)) {
            try iterator.extractPages(maxSize: -1).release()
          }
          #expect(throws: MemoryError(.invalid, .countNegative, -2)) {
            try iterator.extractPages(maxPages: -2).release()
          }
          let flagged = errorNumber {
            try iterator.extractPages(maxSize: 0, options: .allowP2PDMA).release()
          }
          #expect(flagged == (dialect == .rfc ? .invalid : nil))
          #expect(iterator.saveState() == start.saveState())
          #expect(unsafe list.allSatisfy { $0 == canary })
        }
      }
    }
  }

  @Test(
    "6, I6: a list that cannot be allocated leaves everything as it was",
    arguments: Dialect.allCases)
  func listAllocation(_ dialect: Dialect) throws {
    try withFrames { frames in
      let cache = try XArray.create(in: frames.memory.machine.arena)
      defer { cache.destroy() }
      for index in 0..<4 { try cache.store(UInt64(index), .page(frames[index])) }
      for start in try iterators(5000, dialect, frames, cache) where start.canBeExtracted {
        var iterator = start
        frames.memory.arm(.pageListAllocation, countdown: 1)
        #expect(errorNumber { try iterator.extractPages().release() } == .outOfMemory)
        frames.memory.arm(.pageListAllocation, countdown: 0)
        #expect(iterator.saveState() == start.saveState())
        #expect(try iterator.extractPages().length > 0)
      }
    }
  }

  @Test("A-33: MAX_RW_COUNT ends a call on more than 4 GiB", arguments: Dialect.allCases)
  func maximumTransfer(_ dialect: Dialect) throws {
    try withMachine(capacity: .gibibytes(3)) { memory in
      // Frames of nobody: no hold is taken and no byte is touched.
      let page = memory.machine.page(600)
      let many = BVec(page: page, offset: 100, length: 1 << 31)
      var iterator = try IOVIter(
        bvec: [many, many, many], direction: .source, memory: memory, dialect: dialect)
      #expect(iterator.count == .gibibytes(6))
      var result = try iterator.extractPages()
      #expect(result.length == 0x7fff_f000 && result.pageCount == 1 << 19)
      #expect(result.stop == .sizeLimit)
      result.release()
      result = try iterator.extractPages()
      #expect(result.length == 4096 && result.stop == .segmentEnd)
      result.release()
      #expect(iterator.count == .gibibytes(4))
      #expect(throws: MemoryError(.invalid, .transferTooLarge, 1 << 31)) {
        try iterator.revert(by: .gibibytes(2))
      }
      try iterator.revert(by: .maximumTransfer)
      #expect(iterator.count == .gibibytes(4) + .maximumTransfer)
    }
  }

  @Test(
    "F-05, F-10: a fresh iterator of each kind stands at its own start",
    arguments: Dialect.allCases)
  func freshStart(_ dialect: Dialect) throws {
    try withFrames { frames in
      let cache = try XArray.create(in: frames.memory.machine.arena)
      defer { cache.destroy() }
      for index in 0..<4 { try cache.store(UInt64(index), .page(frames[index])) }
      for start in try iterators(5000, dialect, frames, cache) {
        #expect(start.offset == 0 && start.count == 5000 && start.segmentCount == 1)
        #expect(throws: MemoryError(.invalid, .positionOutOfRange, 1)) {
          var iterator = start
          try iterator.revert(by: 1)
        }
        guard start.canBeExtracted else { continue }
        var iterator = start
        let extraction = try iterator.extractPages()
        #expect(extraction.length == 5000 && extraction.offset == 0 && extraction.pageCount == 2)
        if start.kind != .pipe {
          #expect(extraction[0] == frames[0] && extraction[1] == frames[1])
        }
      }
    }
  }

  @Test("I2: the part of a page ends where the extraction ends")
  func parts() throws {
    try withFrames { frames in
      var iterator = try IOVIter(
        bvec: [frames.bvec(0, 100, 50), frames.bvec(1, 4000, 200)], direction: .source,
        memory: frames.memory)
      let inside = try iterator.extractPages()
      #expect(inside.segment(at: 0) == PageSegment(page: frames[0], offset: 100, length: 50))
      let across = try iterator.extractPages()
      #expect(across.segment(at: 0) == PageSegment(page: frames[1], offset: 4000, length: 96))
      #expect(across.segment(at: 1) == PageSegment(page: frames[2], offset: 0, length: 104))
    }
  }
}
