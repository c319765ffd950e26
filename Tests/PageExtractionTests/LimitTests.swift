//===----------------------------------------------------------------------===//
// Limits of an extraction: nothing asked, sizes, pages, segments. The ledger's
// rows that need no fault.
//===----------------------------------------------------------------------===//

import AddressSpaces
import Events
import PageExtraction
import PageFrames
import Testing

@Suite("Extraction limits")
struct LimitTests {
  @Test("A-01: count 0 or maxSize 0 gives nothing and touches nothing", arguments: Way.all)
  func empty(_ way: Way) throws {
    try withSpace { space in
      let base = try space.filledArea(2)
      // The list allocation would be seen: it is armed to fail.
      space.memory.arm(.pageListAllocation, countdown: 1)
      let mark = space.memory.zeroPage
      for (count, maxSize): (ByteCount, ByteCount) in [(0, 100), (0, 0), (8192, 0)] {
        // The address may be anything when nothing is asked of it.
        for address in [base + 5, UserAddress(0x10), UserAddress(0x7fff_ffff_f000)] {
          var iterator = try way.iterator(address, count, in: space)
          let before = iterator
          let extraction = try iterator.extractPages(maxSize: maxSize, maxPages: 0)
          let result = extraction.result
          expectContract(result, from: before, to: iterator, maxSize: maxSize)
          #expect(result.length == 0 && result.offset == 0)
          #expect(result.stop == (count == 0 ? .complete : .sizeLimit))
          #expect(extraction.pageCount == 0)

          var list = try PageBuffer(capacity: 2)
          list.count = 2
          list[0] = mark
          list[1] = mark
          #expect(try iterator.extractPages(into: &list, maxSize: maxSize).length == 0)
          #expect(list.count == 2)
          #expect(list[0] == mark && list[1] == mark)
          // Not even a list is needed.
          let none = try unsafe iterator.extractPages(
            into: UnsafeMutableBufferPointer(start: nil, count: 0), maxSize: maxSize, maxPages: 8)
          #expect(none.length == 0)
        }
      }
      #expect(space.memory.failures(of: .pageListAllocation) == 0)
      #expect(space.outstanding == 0)
      space.memory.arm(.pageListAllocation, countdown: 0)
    }
  }

  @Test(
    "A-02, F-15: maxPages 0 is ENOMEM; nothing is allocated, written or moved", arguments: Way.all)
  func noPages(_ way: Way) throws {
    try withSpace { space in
      let base = try space.filledArea(1)
      space.memory.arm(.pageListAllocation, countdown: 1)
      var iterator = try way.iterator(base, 100, in: space)
      let place = iterator.saveState()
      let error = MemoryError(.outOfMemory, .pageLimitZero)
      #expect(throws: error) { try iterator.extractPages(maxSize: 100, maxPages: 0).release() }
      var list = try PageBuffer(capacity: 1)
      list.count = 1
      #expect(throws: error) { try iterator.extractPages(into: &list, maxPages: 0) }
      #expect(list.count == 1 && list[0] == nil)
      #expect(throws: error) {
        try unsafe iterator.extractPages(into: UnsafeMutableBufferPointer(start: nil, count: 0))
      }
      #expect(iterator.saveState() == place)
      #expect(space.memory.failures(of: .pageListAllocation) == 0)
      space.memory.arm(.pageListAllocation, countdown: 0)
    }
  }

  @Test(
    "1.2: limits that are negative, and options of the other dialect, are refused",
    arguments: Way.all)
  func refused(_ way: Way) throws {
    try withSpace { space in
      var iterator = try way.iterator(try space.filledArea(1), 100, in: space)
      let place = iterator.saveState()
      #expect(throws: MemoryError(.invalid, .countNegative, -7)) {
        try iterator.extractPages(maxSize: -7).release()
      }
      #expect(throws: MemoryError(.invalid, .countNegative, -8)) {
        try iterator.extractPages(maxPages: -8).release()
      }
      if way.dialect == .rfc {
        #expect(throws: MemoryError(.invalid, .flagsNotForThisCall, 1)) {
          try iterator.extractPages(options: .allowP2PDMA).release()
        }
      } else {
        var copy = iterator
        try copy.extractPages(options: .allowP2PDMA).release()
      }
      #expect(iterator.saveState() == place)
    }
  }

  @Test("A-03, F-11: no more than was asked for, counted or offset into", arguments: Way.all)
  func sizes(_ way: Way) throws {
    try withSpace { space in
      let base = try space.filledArea(4)
      for (skip, maxSize, length): (ByteCount, ByteCount, ByteCount) in [
        (0, .gibibytes(1000), 10_000), (100, 50, 50), (100, 9_999, 9_900),
        (5000, .gibibytes(1000), 5000), (0, 1, 1),
      ] {
        var iterator = try way.iterator(base + 7, 10_000, in: space)
        try iterator.advance(by: skip)
        let before = iterator
        let extraction = try iterator.extractPages(maxSize: maxSize)
        expectContract(extraction.result, from: before, to: iterator, maxSize: maxSize)
        #expect(extraction.length == length)
        #expect(extraction.offset == (7 + skip.rawValue) % 4096)
        #expect(extraction.stop == (iterator.count == 0 ? .complete : .sizeLimit))
        for index in 0..<extraction.pageCount {
          let address = (base + 7 + skip).pageStart + .pages(index)
          #expect(extraction[index] == space.page(at: address))
        }
      }
    }
  }

  @Test("F-18: slots are ceil(off0 + size), whatever the iterator's own offset", arguments: Way.all)
  func slots(_ way: Way) throws {
    try withSpace { space in
      let base = try space.filledArea(4)
      for (start, skip, maxSize, slots): (ByteCount, ByteCount, ByteCount, Int) in [
        (4095, 0, 2, 2), (4095, 1, 4096, 1), (4095, 0, 8194, 4), (1, 8000, 191, 1),
        (1, 8000, 192, 2),
        (0, 4096, 4096, 1), (0, 0, 8192, 2), (4095, 0, 1, 1),
      ] {
        var iterator = try way.iterator(base + start, .pages(3), in: space)
        try iterator.advance(by: skip)
        let before = iterator
        let extraction = try iterator.extractPages(maxSize: maxSize)
        expectContract(extraction.result, from: before, to: iterator, maxSize: maxSize)
        #expect(extraction.length == maxSize)
        #expect(extraction.pageCount == slots)
        let parts = (0..<extraction.pageCount).map { extraction.segment(at: $0) }
        #expect(parts.map(\.length).reduce(0, +) == maxSize)
        #expect(parts.dropFirst().allSatisfy { $0.offset == 0 })
        #expect(
          parts.dropFirst().dropLast().allSatisfy { $0.length == ByteCount(pageSize) }, "I2")
      }
    }
  }

  @Test("I3: the page limit ends an extraction at a page boundary", arguments: Way.all)
  func pageLimit(_ way: Way) throws {
    try withSpace { space in
      let base = try space.filledArea(4)
      var iterator = try way.iterator(base + 100, 9000, in: space)
      var lengths: [ByteCount] = []
      while iterator.count > 0 {
        let before = iterator
        let extraction = try iterator.extractPages(maxPages: 1)
        expectContract(extraction.result, from: before, to: iterator, maxPages: 1)
        #expect(extraction.stop == (iterator.count == 0 ? .complete : .pageLimit))
        lengths.append(extraction.length)
        extraction.release()
      }
      #expect(lengths == [3996, 4096, 908])
    }
  }

  @Test("A-16: of a caller's list only the slots that are needed are used", arguments: Way.all)
  func callerList(_ way: Way) throws {
    try withSpace { space in
      let base = try space.filledArea(4)
      let mark = space.memory.zeroPage
      var iterator = try way.iterator(base, .pages(4), in: space)
      var list = try PageBuffer(capacity: 6)
      list.count = 6
      for index in 0..<6 { list[index] = mark }
      let before = iterator
      let result = try iterator.extractPages(into: &list, maxSize: 5000)
      expectContract(result, from: before, to: iterator, maxSize: 5000, maxPages: 6)
      #expect(result.pageCount == 2 && list.count == 2)
      #expect(list[0] == space.page(at: base) && list[1] == space.page(at: base + .pages(1)))
      list.count = 6
      for index in 2..<6 { #expect(list[index] == mark) }
      result.release(list)

      // More pages than the list has slots: refused before anything is held.
      let place = iterator.saveState()
      #expect(throws: MemoryError(.invalid, .listTooShort, 6)) {
        try iterator.extractPages(into: &list, maxPages: 7)
      }
      #expect(iterator.saveState() == place)
      #expect(space.outstanding == 0)
      // By default the list is the limit.
      var one = try PageBuffer(capacity: 1)
      let part = try iterator.extractPages(into: &one)
      #expect(part.length == ByteCount(8192 - 5000) && part.stop == .pageLimit)
      part.release(one)
    }
  }

  @Test("A-33, A-34: one transfer moves at most 0x7ffff000 bytes, over 524,288 slots")
  func maximumTransfer() throws {
    // One way is enough: limits are applied before ways part.
    let way = Way(kind: .ubuf, direction: .source, dialect: .rfc)
    // Never touched: the zero page stands for all of it.
    try withSpace { space in
      let base = try space.map(length: .gibibytes(3), protection: .readOnly)
      var iterator = try way.iterator(base + 4095, .gibibytes(2) + 4096, in: space)
      let before = iterator
      let extraction = try iterator.extractPages(maxSize: ByteCount(Int.max))
      expectContract(extraction.result, from: before, to: iterator)
      #expect(extraction.length == 0x7fff_f000)
      #expect(extraction.pageCount == 524_288)
      #expect(extraction.stop == .sizeLimit)
      #expect(extraction[524_287] == space.memory.zeroPage)
      extraction.release()
      let rest = try iterator.extractPages()
      #expect(rest.length == 8192 && rest.stop == .complete)
    }
  }

  // MARK: - Segments

  @Test("A-05, F-01: empty segments are transparent wherever they stand", arguments: Way.segmented)
  func emptySegments(_ way: Way) throws {
    try withSpace { space in
      let base = try space.filledArea(4)
      let nowhere = UserAddress(0x1fff)
      func empty(_ count: Int) -> [UserSegment] {
        Array(repeating: UserSegment(base: nowhere, length: 0), count: count)
      }
      let first = UserSegment(base: base + 10, length: 100)
      let second = UserSegment(base: base + 4090, length: 10)
      for gap in [1, 2, 300] {
        let segments = empty(gap) + [first] + empty(gap) + [second] + empty(gap)
        var iterator = try way.iterator(segments, in: space)
        var parts: [(ByteCount, Int, Int)] = []
        while iterator.count > 0 {
          let before = iterator
          let extraction = try iterator.extractPages()
          expectContract(extraction.result, from: before, to: iterator)
          try #require(extraction.length > 0, "I7")
          parts.append((extraction.length, extraction.offset, extraction.pageCount))
          #expect(extraction.stop == (iterator.count == 0 ? .complete : .segmentEnd))
          extraction.release(dirty: true)
        }
        #expect(parts.map(\.0) == [100, 10])
        #expect(parts.map(\.1) == [10, 4090])
        #expect(parts.map(\.2) == [1, 2])
        #expect(iterator.segmentCount == 0)
      }
      // Nothing but empty segments is simply empty.
      var nothing = try way.iterator(empty(3), in: space)
      #expect(try nothing.extractPages().pageCount == 0)
    }
  }

  @Test(
    "A-09: an extraction never crosses a segment, not even into its own continuation",
    arguments: Way.segmented)
  func crossing(_ way: Way) throws {
    try withSpace { space in
      let base = try space.filledArea(4)
      let segments = [
        UserSegment(base: base, length: 4096), UserSegment(base: base + 4096, length: 4096),
        UserSegment(base: base + 8192, length: 2048), UserSegment(base: base + 10240, length: 2048),
      ]
      var iterator = try way.iterator(segments, in: space)
      for length in [4096, 4096, 2048, 2048] {
        let before = iterator
        let extraction = try iterator.extractPages(maxPages: 8)
        expectContract(extraction.result, from: before, to: iterator, maxPages: 8)
        #expect(extraction.length == ByteCount(length))
        #expect(extraction.pageCount == 1)
      }
      #expect(iterator.count == 0)
    }
  }

  @Test(
    "A-04: both directions take the first segment that has bytes left", arguments: Dialect.allCases)
  func firstSegment(_ dialect: Dialect) throws {
    try withSpace { space in
      let base = try space.filledArea(3)
      let segments = [
        UserSegment(base: base, length: 0), UserSegment(base: base + 1, length: 4096),
        UserSegment(base: base, length: 0), UserSegment(base: base + 8192, length: 50),
      ]
      for skip in [0, 1, 4095, 4096, 4100] {
        var parts: [[Int]] = []
        for direction in Direction.allCases {
          var iterator = try IOVIter(
            iovec: segments, direction: direction, in: space, dialect: dialect)
          try iterator.advance(by: ByteCount(skip))
          let extraction = try iterator.extractPages()
          let frames = (0..<extraction.pageCount).map {
            Int(extraction[$0].frameNumber.rawValue)
          }
          parts.append([extraction.length.rawValue, extraction.offset] + frames)
        }
        #expect(parts[0] == parts[1])
      }
    }
  }

  @Test(
    "F-09: an iterator that stands at a segment's very end goes on in the next",
    arguments: Way.segmented)
  func atSegmentEnd(_ way: Way) throws {
    try withSpace { space in
      let base = try space.filledArea(2)
      let segments = [
        UserSegment(base: base, length: 100), UserSegment(base: base + 4096, length: 100),
      ]
      var iterator = try way.iterator(segments, count: 150, in: space)
      try iterator.advance(by: 100)
      try iterator.revert(by: 100)
      try iterator.advance(by: 99)
      var lengths: [ByteCount] = []
      while iterator.count > 0 {
        let extraction = try iterator.extractPages()
        try #require(extraction.length > 0)
        lengths.append(extraction.length)
      }
      #expect(lengths == [1, 50])
      // Truncated to nothing in the middle, it is empty and not stuck.
      try iterator.revert(by: 20)
      try iterator.truncate(to: 0)
      #expect(try iterator.extractPages().stop == .complete)
    }
  }
}
