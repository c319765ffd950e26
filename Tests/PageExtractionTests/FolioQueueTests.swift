//===----------------------------------------------------------------------===//
// FOLIOQ: whole folios, one behind the other.
//===----------------------------------------------------------------------===//

import PageExtraction
import PageFrames
import TestSupport
import Testing

@Suite("FOLIOQ")
struct FolioQueueTests {
  /// Folios of these orders, and numbers for their pages in that order.
  private func withFolios(
    _ orders: [Int], _ body: (FolioQueue, [Page], PhysicalMemory) throws -> Void
  ) throws {
    try withMachine { memory in
      var queue = FolioQueue()
      var pages: [Page] = []
      for order in orders {
        let head = try memory.allocatePage(order: order)
        try queue.append(head)
        for step in 0..<1 << order {
          let page = memory.machine.page(head.frameNumber.rawValue + UInt64(step))
          unsafe page.bytes.storeBytes(of: UInt64(pages.count), as: UInt64.self)
          pages.append(page)
        }
      }
      try body(queue, pages, memory)
      for index in 0..<queue.count { queue[index].put() }
    }
  }

  private func extract(
    _ iterator: inout IOVIter, _ pages: [Page], _ maxSize: ByteCount = .maximumTransfer,
    _ maxPages: PageCount = .unlimited
  ) throws -> Golden {
    let before = iterator
    let extraction = try iterator.extractPages(maxSize: maxSize, maxPages: maxPages)
    expectContract(
      extraction.result, from: before, to: iterator, maxSize: maxSize, maxPages: maxPages)
    return Golden(
      extraction.length.rawValue, extraction.offset,
      (0..<extraction.pageCount).map { pages.firstIndex(of: extraction[$0]) ?? -1 })
  }

  @Test("B.2, F-22: an extraction goes over folios, and the next one starts behind its last byte")
  func acrossFolios() throws {
    try withFolios([0, 2, 1]) { queue, pages, memory in
      #expect(queue.length == .pages(7))
      for direction in Direction.allCases {
        var iterator = try IOVIter(folioQueue: queue, direction: direction, memory: memory)
        // Ends exactly where a folio ends, and starts with the next (F-22).
        #expect(try extract(&iterator, pages, 4096) == Golden(4096, 0, [0]))
        #expect(try extract(&iterator, pages, .pages(4)) == Golden(16384, 0, [1, 2, 3, 4]))
        #expect(try extract(&iterator, pages) == Golden(8192, 0, [5, 6]))
        #expect(iterator.count == 0 && iterator.segmentCount == 0)
        try iterator.revert(by: .pages(7) - 100)
        #expect(try extract(&iterator, pages, 9000) == Golden(9000, 100, [0, 1, 2]))
        #expect(iterator.extractMode == .unretained)
        #expect(try extract(&iterator, pages, .pages(9), 2) == Golden(7284, 908, [2, 3]))
      }
    }
  }

  @Test("A.8.2: any number of folios, as many nodes as the kernel would need")
  func manyNodes() throws {
    try withFolios(Array(repeating: 0, count: 100)) { queue, pages, memory in
      var iterator = try IOVIter(
        folioQueue: queue, slot: 30, offset: 4095, count: ByteCount(1 + 4096 * 40 + 1),
        direction: .source, memory: memory)
      #expect(iterator.segmentCount == 70 && iterator.offset == 4095)
      #expect(throws: MemoryError(.invalid, .positionOutOfRange, 1)) { try iterator.revert(by: 1) }
      let state = iterator.saveState()
      #expect(
        try extract(&iterator, pages) == Golden(1 + 4096 * 40 + 1, 4095, Array(30...71)))
      #expect(throws: MemoryError(.invalid, .countTooLarge, 1)) { try iterator.reexpand(to: 1) }
      try iterator.restore(state)
      try iterator.advance(by: 1 + 4096)
      #expect(iterator.segmentCount == 68 && iterator.offset == 0)
      try iterator.revert(by: 2)
      #expect(iterator.segmentCount == 69 && iterator.offset == 4094)
    }
  }

  @Test("A-30: FOLIOQ is refused in the RFC's dialect")
  func rfc() throws {
    try withFolios([1]) { queue, _, memory in
      var iterator = try IOVIter(
        folioQueue: queue, direction: .source, memory: memory, dialect: .rfc)
      #expect(errorNumber { try iterator.extractPages().release() } == .badAddress)
      #expect(iterator.count == 8192)
    }
  }

  @Test("1.2: what is not a queue of whole folios of this machine is refused")
  func malformed() throws {
    try withFolios([2, 0]) { queue, pages, memory in
      var broken = queue
      #expect(throws: MemoryError(.invalid, .notFolioHead, pages[1].frameNumber.rawValue)) {
        try broken.append(pages[1])
      }
      #expect(broken.count == 2)
      func make(_ slot: Int, _ offset: ByteCount, _ count: ByteCount?) throws {
        _ = try IOVIter(
          folioQueue: queue, slot: slot, offset: offset, count: count, direction: .source,
          memory: memory)
      }
      try make(2, 0, nil)
      #expect(throws: MemoryError(.invalid, .positionOutOfRange, 3)) { try make(3, 0, nil) }
      #expect(throws: MemoryError(.invalid, .positionOutOfRange, -1)) { try make(-1, 0, nil) }
      #expect(throws: MemoryError(.invalid, .positionOutOfRange, 4097)) { try make(1, 4097, nil) }
      #expect(throws: MemoryError(.invalid, .positionOutOfRange, 1)) { try make(2, 1, nil) }
      #expect(throws: MemoryError(.invalid, .countBeyondSegments, 4097)) { try make(1, 0, 4097) }
      #expect(throws: MemoryError(.invalid, .countNegative, -1)) { try make(0, 0, -1) }
      try withMachine { other in
        #expect(
          throws: MemoryError(.invalid, .machineMismatch, pages[0].frameNumber.rawValue)
        ) {
          try IOVIter(folioQueue: queue, direction: .source, memory: other)
        }
      }
    }
  }

  @Test("A.8.5, A.8.6: slots and alignment; bytes move over folios")
  func operations() throws {
    try withFolios([0, 1]) { queue, pages, memory in
      var iterator = try IOVIter(
        folioQueue: queue, offset: 4000, count: 5000, direction: .destination, memory: memory)
      #expect(iterator.pageCount() == 3 && iterator.pageCount(maxPages: 1) == 1)
      #expect(iterator.alignment == 4000 | 5000)
      #expect(iterator.gapAlignment == .max)
      #expect(iterator.isAligned(addressMask: 31, lengthMask: 7))
      let new = (0..<5000).map { UInt8(truncatingIfNeeded: $0) }
      #expect(try iterator.write(new) == CopyResult(length: 5000))
      var there: [UInt8] = []
      for (page, start, count) in [(0, 4000, 96), (1, 0, 4096), (2, 0, 808)] {
        there += unsafe bytes(pages[page].bytes.baseAddress! + start, count)
      }
      #expect(there == new)
      var source = try IOVIter(
        folioQueue: queue, offset: 4000, count: 5000, direction: .source, memory: memory)
      #expect(try source.readAll() == new)
    }
  }
}
