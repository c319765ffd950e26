//===----------------------------------------------------------------------===//
// PIPE: the golden vectors, the ring's rules, and pages that go too early.
//===----------------------------------------------------------------------===//

import Events
import PageExtraction
import PageFrames
import TestSupport
import Testing

@Suite("PIPE")
struct PipeTests {
  /// A pipe and an iterator at its start; the pipe is empty afterwards.
  private func withPipe(
    _ capacity: Int = 16, _ count: ByteCount = .gibibytes(1),
    _ body: (Pipe, inout IOVIter) throws -> Void
  ) throws {
    try withMachine { memory in
      let pipe = try Pipe(memory: memory, capacity: capacity)
      var iterator = try IOVIter(pipe: pipe, count: count)
      try body(pipe, &iterator)
      pipe.removeAll()
      #expect(memory.counters.outstanding == 0)
    }
  }

  /// Extracts, and numbers pages by when they were first seen.
  private func extract(
    _ iterator: inout IOVIter, _ seen: inout [Page], _ maxSize: ByteCount,
    _ maxPages: PageCount = .unlimited
  ) throws -> Golden {
    let before = iterator
    let extraction = try iterator.extractPages(maxSize: maxSize, maxPages: maxPages)
    expectContract(
      extraction.result, from: before, to: iterator, maxSize: maxSize, maxPages: maxPages)
    let numbers = (0..<extraction.pageCount).map { slot in
      if let number = seen.firstIndex(of: extraction[slot]) { return number }
      seen.append(extraction[slot])
      return seen.count - 1
    }
    return Golden(extraction.length.rawValue, extraction.offset, numbers)
  }

  @Test("A.9, A-28, A-29: the golden vectors of a ring of 16")
  func goldenOf16() throws {
    try withPipe { pipe, iterator in
      var seen: [Page] = []
      #expect(try extract(&iterator, &seen, 10000, 8) == Golden(10000, 0, [0, 1, 2]))
      #expect(iterator.offset == 1808)
      // The partly filled page again, then a new one.
      #expect(try extract(&iterator, &seen, 3000, 8) == Golden(3000, 1808, [2, 3]))
      #expect(try extract(&iterator, &seen, 100_000, 4) == Golden(15672, 712, [3, 4, 5, 6]))
      let rest = try extract(&iterator, &seen, .mebibytes(1), 64)
      #expect(rest == Golden(36864, 0, Array(7...15)))
      #expect(throws: MemoryError(.badAddress, .ringFull, 16)) {
        try iterator.extractPages().release()
      }
      #expect(pipe.bufferCount == 16 && pipe.byteCount == .pages(16))
    }
  }

  @Test("A.9, A-28: the golden vectors of a ring of 2")
  func goldenOf2() throws {
    try withPipe(2) { pipe, iterator in
      var seen: [Page] = []
      #expect(try extract(&iterator, &seen, 6000) == Golden(6000, 0, [0, 1]))
      let last = try iterator.extractPages(maxSize: 6000)
      #expect(last.length == 2192 && last.offset == 1904 && last.pageCount == 1)
      #expect(last[0] == seen[1] && last.stop == .ringFull)
      #expect(errorNumber { try iterator.extractPages(maxSize: 1).release() } == .badAddress)
      // Full or not: no page at all is ENOMEM.
      #expect(errorNumber { try iterator.extractPages(maxPages: 0).release() } == .outOfMemory)
    }
  }

  @Test("A-32: a pipe takes no source, and the upstream dialect extracts from none")
  func refused() throws {
    try withMachine { memory in
      let pipe = try Pipe(memory: memory)
      #expect(
        throws: MemoryError(.invalid, .directionMismatch, Int(Direction.source.rawValue))
      ) {
        try IOVIter(pipe: pipe, count: 1, direction: .source)
      }
      #expect(throws: MemoryError(.invalid, .countNegative, -1)) {
        try IOVIter(pipe: pipe, count: -1)
      }
      for capacity in [0, -1, 1 << 21] {
        #expect(throws: MemoryError(.invalid, .capacityInvalid, capacity)) {
          try Pipe(memory: memory, capacity: capacity)
        }
      }
      var upstream = try IOVIter(pipe: pipe, count: 10, dialect: .upstream)
      #expect(errorNumber { try upstream.extractPages().release() } == .badAddress)
      #expect(pipe.bufferCount == 0)
      // Copying is the same in both.
      #expect(try upstream.write([1, 2, 3]) == CopyResult(length: 3))
      #expect(pipe.byteCount == 3)
    }
  }

  @Test("A-28, 1.3: without frames the first page is ENOMEM, a later one a short result")
  func allocation() throws {
    try withPipe { pipe, iterator in
      for failing in 1...4 {
        let start = iterator.saveState()
        pipe.memory.arm(.frameAllocation, countdown: failing)
        if failing == 1 {
          #expect(
            errorNumber { try iterator.extractPages(maxSize: 12288).release() } == .outOfMemory)
          #expect(iterator.saveState() == start && pipe.bufferCount == 0)
        } else {
          let extraction = try iterator.extractPages(maxSize: 12288)
          #expect(extraction.pageCount == failing - 1)
          if failing < 4 {
            guard case .fault(let error) = extraction.stop else {
              Issue.record("no fault")
              return
            }
            #expect(error.number == .outOfMemory)
          } else {
            #expect(extraction.stop == .sizeLimit)
          }
          let length = extraction.length
          extraction.release()
          try iterator.revert(by: length)
        }
        pipe.memory.arm(.frameAllocation, countdown: 0)
      }
      #expect(pipe.hazardCount == 0)
    }
  }

  @Test("F-04, A.8.4: a revert under an extraction frees its pages and is reported")
  func revertHazard() throws {
    try withPipe { pipe, iterator in
      var result: ExtractionResult?
      var list = try PageBuffer(capacity: 8)
      result = try iterator.extractPages(into: &list, maxSize: 10000)
      let frames = (0..<3).map { list[$0]!.frameNumber }
      // Back into the second page: the third goes.
      try iterator.revert(by: 3000)
      #expect(
        iterator.offset == 2904 && pipe.bufferCount == 2 && iterator.count == .gibibytes(1) - 7000)
      #expect(pipe.hazards == [PipeHazard(frame: frames[2], cause: .revert)])
      #expect(list[2]!.isFree)
      // Exactly to the end of the first page: it stays, and is full.
      try iterator.revert(by: 2904)
      #expect(iterator.offset == 4096 && pipe.hazardCount == 2)
      #expect(try iterator.extractPages(maxSize: 10).offset == 0)
      try iterator.revert(by: 4106)
      #expect(iterator.offset == 0 && pipe.bufferCount == 0)
      #expect(
        pipe.hazards.map(\.frame) == [frames[2], frames[1], frames[0]],
        "the last extraction was released before its page went")
      result?.release(list)
      // A page that comes back to the pipe is not the one that was listed.
      let again = try iterator.extractPages(maxSize: 4096)
      again.release()
      try iterator.revert(by: 4096)
      #expect(pipe.hazardCount == 3)
    }
  }

  @Test("A.8.2, F-04: advancing a kept place lets go of what was published beyond")
  func truncation() throws {
    try withPipe { pipe, iterator in
      let start = iterator
      let extraction = try iterator.extractPages(maxSize: 10000)
      var kept = start
      #expect(throws: MemoryError(.invalid, .positionOutOfRange, 10001)) {
        try kept.advance(by: 10001)
      }
      try kept.advance(by: 5000)
      #expect(kept.offset == 904 && kept.count == .gibibytes(1) - 5000)
      #expect(pipe.bufferCount == 2 && pipe.byteCount == 5000)
      #expect(pipe.hazards == [PipeHazard(frame: extraction[2].frameNumber, cause: .truncation)])
      // The ring does not end where the first iterator stands any more (A.8.3).
      #expect(throws: MemoryError(.badAddress, .ringMoved, 10000)) {
        try iterator.extractPages().release()
      }
      #expect(errorNumber { try iterator.revert(by: 1) } == .invalid)
      #expect(iterator.pageCount() == 0 && kept.pageCount() == 15)
      // At the start, nothing kept: all goes.
      var none = start
      try none.advance(by: 0)
      #expect(pipe.bufferCount == 0 && pipe.hazardCount == 3)
      #expect(try none.extractPages(maxSize: 100).length == 100)
    }
  }

  @Test("F-04: a reader that takes pages under an extraction, and a pipe emptied, are reported")
  func readHazard() throws {
    try withPipe { pipe, iterator in
      let extraction = try iterator.extractPages(maxSize: 9000)
      var bytes = [UInt8](repeating: 1, count: 5000)
      let length = unsafe bytes.withUnsafeMutableBytes { unsafe pipe.read(into: $0) }
      // What was published before the device wrote reads as zeroes.
      #expect(length == 5000 && bytes.allSatisfy { $0 == 0 })
      #expect(pipe.hazards == [PipeHazard(frame: extraction[0].frameNumber, cause: .read)])
      // A revert cannot take back what was read.
      #expect(errorNumber { try iterator.revert(by: 4001) } == .invalid)
      try iterator.revert(by: 4000)
      #expect(pipe.byteCount == 0 && pipe.bufferCount == 0)
      pipe.removeAll()
      #expect(pipe.hazardCount == 3)
      let other = try iterator.extractPages(maxSize: 1)
      pipe.removeAll()
      #expect(pipe.hazards.last == PipeHazard(frame: other[0].frameNumber, cause: .removal))
    }
  }

  @Test("A.8.3: whatever else appends to the ring ends the iterator's turn")
  func otherWriters() throws {
    try withPipe { pipe, iterator in
      #expect(try iterator.write([1, 2, 3]) == CopyResult(length: 3))
      let written = try unsafe [4, 5].withUnsafeBytes { try unsafe pipe.append($0) }
      #expect(written.length == 16)
      #expect(throws: MemoryError(.badAddress, .ringMoved, 3)) {
        try iterator.extractPages().release()
      }
      #expect(errorNumber { try iterator.write([9]) } == .badAddress)
      // A writer fills the last page up.
      #expect(pipe.bufferCount == 1 && pipe.byteCount == 19)
      var other = try IOVIter(pipe: pipe, count: 10)
      // An iterator's first page is always its own.
      #expect(try other.extractPages().offset == 0)
      #expect(pipe.bufferCount == 2)
    }
  }

  @Test("A.6: a borrowed page is linked, merged when it goes on, and never appended to")
  func borrowed() throws {
    try withPipe { pipe, iterator in
      let page = try pipe.memory.allocatePage()
      defer { page.put() }
      unsafe page.bytes.storeBytes(of: 0x0807_0605_0403_0201, toByteOffset: 100, as: UInt64.self)
      #expect(try iterator.copyPage(page, offset: 100, length: 4) == CopyResult(length: 4))
      #expect(iterator.offset == -104 && page.referenceCount == 2)
      #expect(try iterator.copyPage(page, offset: 104, length: 4) == CopyResult(length: 4))
      #expect(pipe.bufferCount == 1 && page.referenceCount == 2)
      #expect(iterator.alignment == UInt64(iterator.count.rawValue))
      #expect(iterator.pageCount() == 15)
      let extraction = try iterator.extractPages(maxSize: 10)
      #expect(extraction.offset == 0 && extraction[0] != page)
      var bytes = [UInt8](repeating: 0, count: 8)
      #expect(unsafe bytes.withUnsafeMutableBytes { unsafe pipe.read(into: $0) } == 8)
      #expect(bytes == [1, 2, 3, 4, 5, 6, 7, 8])
      #expect(page.referenceCount == 1)
      #expect(errorNumber { try iterator.copyPage(page, offset: 4000, length: 97) } == .invalid)
    }
  }

  @Test("A.8.5, A.8.6: slots whatever the count, alignment of the place")
  func questions() throws {
    try withPipe(4, 100) { _, iterator in
      #expect(iterator.pageCount() == 4 && iterator.pageCount(maxPages: 3) == 3)
      #expect(iterator.alignment == 100 && iterator.gapAlignment == .max)
      _ = try iterator.write([1, 2, 3])
      #expect(iterator.pageCount() == 4)
      #expect(iterator.alignment == 97 | 3)
      #expect(!iterator.isAligned(addressMask: 1, lengthMask: 0))
      #expect(iterator.isAligned(addressMask: 4, lengthMask: 2))
      try iterator.truncate(to: 0)
      #expect(iterator.pageCount() == 0 && iterator.alignment == 0)
      #expect(throws: MemoryError(.invalid, .countTooLarge, 98)) { try iterator.reexpand(to: 98) }
      try iterator.reexpand(to: 97)
    }
  }

  @Test("A kept place takes the ring along")
  func restore() throws {
    try withPipe { pipe, iterator in
      _ = try iterator.write([UInt8](repeating: 3, count: 5000))
      let kept = iterator.saveState()
      _ = try iterator.write([UInt8](repeating: 4, count: 9000))
      try iterator.restore(kept)
      #expect(pipe.byteCount == 5000 && iterator.offset == 904)
      _ = try iterator.write([5])
      #expect(pipe.byteCount == 5001)
    }
  }

  @Test("Lock discipline: a reader and an iterator on two threads leave the ring whole")
  func concurrency() throws {
    try withMachine { memory in
      let pipe = try Pipe(memory: memory, capacity: 4)
      let total = 200_000
      let start = try IOVIter(pipe: pipe, count: ByteCount(total))
      onThreads(2) { number in
        if number == 0 {
          var iterator = start
          while iterator.count > 0 {
            let at = total - iterator.count.rawValue
            let bytes = (0..<min(1500, total - at)).map { UInt8(truncatingIfNeeded: (at + $0) / 7) }
            _ = try? iterator.write(bytes)
            // The reader may have taken all: then the place is the ring's end again.
            if pipe.bufferCount == 0, iterator.count > 0 {
              iterator = (try? IOVIter(pipe: pipe, count: iterator.count)) ?? iterator
            }
          }
        } else {
          var read = 0
          var buffer = [UInt8](repeating: 0, count: 3000)
          while read < total {
            let length = unsafe buffer.withUnsafeMutableBytes { unsafe pipe.read(into: $0) }
            for index in 0..<length.rawValue
            where buffer[index] != UInt8(truncatingIfNeeded: (read + index) / 7) {
              Issue.record("byte \(read + index) is wrong")
              return
            }
            read += length.rawValue
          }
        }
      }
      #expect(pipe.bufferCount == 0 && pipe.hazardCount == 0)
    }
  }
}
