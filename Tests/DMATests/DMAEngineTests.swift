//===----------------------------------------------------------------------===//
// The device: bytes through the window, and what it is not allowed to do.
//===----------------------------------------------------------------------===//

import AddressSpaces
import DMA
import PageExtraction
import PageFrames
import Testing

/// Runs `body` on an address space and a device of a machine of their own, and
/// proves that every pin, reference and frame came back.
private func withDevice(_ body: (AddressSpace, DMAEngine) throws -> Void) throws {
  let memory = try PhysicalMemory(capacity: .mebibytes(16), trapTier: .none)
  let free = memory.freeFrameCount
  let space = try AddressSpace(memory: memory)
  let failure = Result { try body(space, DMAEngine(memory: memory)) }
  space.exit()
  if case .failure(let error) = failure { throw error }
  let counters = memory.counters
  #expect(counters.pinsAcquired == counters.pinsReleased)
  #expect(counters.referencesAcquired == counters.referencesReleased)
  #expect(memory.freeFrameCount == free)
}

extension AddressSpace {
  fileprivate func store(_ bytes: [UInt8], at address: UserAddress) throws {
    try unsafe bytes.withUnsafeBytes { try unsafe copyToUser(address, from: $0) }
  }
  fileprivate func load(_ count: Int, at address: UserAddress) throws -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: count)
    try unsafe bytes.withUnsafeMutableBytes { try unsafe copyFromUser($0, from: address) }
    return bytes
  }
  fileprivate func extract(
    _ base: UserAddress, _ count: ByteCount, _ direction: Direction, _ dialect: Dialect
  ) throws -> Extraction {
    var iterator = try IOVIter(
      ubuf: base, count: count, direction: direction, in: self, dialect: dialect)
    return try iterator.extractPages()
  }
}

private let text = (0..<9000).map { UInt8(truncatingIfNeeded: $0 &* 13 &+ 1) }

@Suite("DMA engine")
struct DMAEngineTests {
  @Test(
    "C.4, B.3, S1: a folio is one bvec, and what the device writes is the parent's after fork",
    arguments: [FolioSize.order(4), .huge])
  func folio(_ size: FolioSize) throws {
    try withDevice { space, device in
      let length = size.pageCount.byteCount
      let base = try space.map(length: length, folios: size)
      try space.store([7], at: base)
      let head = try #require(space.page(at: base))
      let mapped = head.referenceCount
      var iterator = try IOVIter(
        ubuf: base + 3000, count: length - 3000, direction: .destination, in: space,
        dialect: .upstream)
      let bvecs = try iterator.extractBVecs()
      #expect(bvecs.count == 1 && bvecs[0].length == length.rawValue - 3000)
      #expect(head.pinCount == size.pageCount.rawValue)
      bvecs.release(dirty: false)
      #expect(head.pinCount == 0 && head.referenceCount == mapped)

      let extraction = try space.extract(base + 3000, 9000, .destination, .upstream)
      #expect(head.pinCount == 3)
      let child = try space.fork()
      try device.write(text, to: extraction)
      try space.store([8], at: base + 1)
      #expect(try space.load(9000, at: base + 3000) == text)
      #expect(try space.load(2, at: base) == [7, 8])
      #expect(try child.load(9000, at: base + 3000).allSatisfy { $0 == 0 })
      #expect(try child.load(2, at: base) == [7, 0])
      extraction.release(dirty: true)
      #expect(head.isDirty && head.pinCount == 0)
      child.exit()
    }
  }

  @Test("What the device writes, the program reads", arguments: Dialect.allCases)
  func write(_ dialect: Dialect) throws {
    try withDevice { space, device in
      let base = try space.map(length: .pages(4))
      let extraction = try space.extract(base + 3000, 9000, .destination, dialect)
      try device.write(text, to: extraction)
      #expect(try space.load(9000, at: base + 3000) == text)
      #expect(try space.load(3000, at: base).allSatisfy { $0 == 0 })
      // Into the middle, across a page boundary of the extraction.
      try device.write([1, 2, 3, 4], to: extraction, at: 1094)
      #expect(try space.load(4, at: base + 4094) == [1, 2, 3, 4])
      let page = extraction[1]
      extraction.release(dirty: true)
      #expect(page.isDirty)
    }
  }

  @Test("What the program wrote, the device reads", arguments: Dialect.allCases, Direction.allCases)
  func read(_ dialect: Dialect, _ direction: Direction) throws {
    try withDevice { space, device in
      let base = try space.map(length: .pages(4))
      try space.store(text, at: base + 10)
      let extraction = try space.extract(base + 10, 9000, direction, dialect)
      #expect(try device.read(from: extraction) == text)
      #expect(try device.read(from: extraction, at: 4080, count: 20) == Array(text[4080..<4100]))
      #expect(try device.read(from: extraction, at: 8999) == [text[8999]])
      #expect(try device.read(from: extraction, at: 9000) == [])
      // What the program stores now, the device sees.
      try space.store([99], at: base + 10)
      #expect(try device.read(from: extraction, count: 1) == [99])
    }
  }

  @Test(
    "1.1: writing to a source is refused, unless stale data is accepted by name",
    arguments: Dialect.allCases)
  func sourceIsReadOnly(_ dialect: Dialect) throws {
    try withDevice { space, device in
      let base = try space.map(length: .pages(1))
      try space.store([7, 7, 7], at: base)
      let extraction = try space.extract(base, 3, .source, dialect)
      let refusal = MemoryError(
        .accessDenied, .directionMismatch, Int(Direction.source.rawValue))
      #expect(error { () throws(MemoryError) in try device.write([1], to: extraction) } == refusal)
      #expect(try space.load(3, at: base) == [7, 7, 7])
      try device.write([1], to: extraction, at: 1, allowingStale: true)
      #expect(try space.load(3, at: base) == [7, 1, 7])
    }
  }

  @Test("A-24: nobody writes to the zero page, by no argument", arguments: Dialect.allCases)
  func zeroPage(_ dialect: Dialect) throws {
    try withDevice { space, device in
      let base = try space.map(length: .pages(2))
      let zero = space.memory.zeroPage
      let refusal = MemoryError(.accessDenied, .writeForbidden, zero.frameNumber.rawValue)
      try space.store([5], at: base)
      let extraction = try space.extract(base, 8192, .source, dialect)
      #expect(extraction[1] == zero)
      // Checked as a whole: the first page, which could be written, is not.
      #expect(
        error { () throws(MemoryError) in
          try device.write(
            [UInt8](repeating: 1, count: 5000), to: extraction, allowingStale: true)
        } == refusal)
      #expect(try space.load(1, at: base) == [5])
      #expect(error { () throws(MemoryError) in try device.write([1], to: zero) } == refusal)
      #expect(try device.read(from: zero, count: 4) == [0, 0, 0, 0])
      #expect(
        try device.read(from: extraction, at: 4090, count: 10)
          == [UInt8](repeating: 0, count: 10))
    }
  }

  struct Outside: Sendable, CustomTestStringConvertible {
    let offset: ByteCount
    let count: Int
    let error: MemoryError
    var testDescription: String { "\(count) at \(offset)" }
  }
  static let outside = [
    Outside(offset: -1, count: 1, error: MemoryError(.invalid, .positionOutOfRange, -1)),
    Outside(offset: 101, count: 0, error: MemoryError(.invalid, .positionOutOfRange, 101)),
    Outside(
      offset: ByteCount(Int.min), count: 1,
      error: MemoryError(.invalid, .positionOutOfRange, Int.min)),
    Outside(offset: 0, count: 101, error: MemoryError(.invalid, .lengthTooLarge, 101)),
    Outside(offset: 99, count: 2, error: MemoryError(.invalid, .lengthTooLarge, 2)),
  ]

  @Test("I1: no transfer leaves the extraction", arguments: outside)
  func bounds(_ example: Outside) throws {
    try withDevice { space, device in
      let base = try space.map(length: .pages(1))
      let extraction = try space.extract(base + 50, 100, .destination, .rfc)
      let bytes = [UInt8](repeating: 1, count: example.count)
      #expect(
        error { () throws(MemoryError) in
          try device.write(bytes, to: extraction, at: example.offset)
        } == example.error)
      #expect(
        error { () throws(MemoryError) in
          _ = try device.read(
            from: extraction, at: example.offset, count: ByteCount(example.count))
        } == example.error)
      #expect(try space.load(4096, at: base).allSatisfy { $0 == 0 })
    }
  }

  @Test("A page is reached by offset, whoever holds it")
  func pages() throws {
    try withDevice { space, device in
      let page = try space.memory.allocatePage()
      try device.write(Array(text[..<4096]), to: page)
      try device.write([9, 8], to: page, offset: 4094)
      #expect(try device.read(from: page, offset: 4090, count: 6) == text[4090..<4094] + [9, 8])
      #expect(try device.read(from: page, offset: 4096, count: 0) == [])
      for (offset, count, wrong): (Int, Int, MemoryError) in [
        (-1, 1, MemoryError(.invalid, .positionOutOfRange, -1)),
        (4097, 0, MemoryError(.invalid, .positionOutOfRange, 4097)),
        (4095, 2, MemoryError(.invalid, .lengthTooLarge, 2)),
        (0, 4097, MemoryError(.invalid, .lengthTooLarge, 4097)),
      ] {
        let bytes = [UInt8](repeating: 0, count: count)
        #expect(
          error { () throws(MemoryError) in try device.write(bytes, to: page, offset: offset) }
            == wrong)
        #expect(
          error { () throws(MemoryError) in
            _ = try device.read(from: page, offset: offset, count: count)
          } == wrong)
      }
      #expect(
        error { () throws(MemoryError) in _ = try device.read(from: page, count: -1) }
          == MemoryError(.invalid, .lengthTooLarge, -1))
      page.put()
    }
  }

  @Test("A frame that nobody holds, and another machine's, are out of reach")
  func outOfReach() throws {
    try withDevice { space, device in
      let page = try space.memory.allocatePage()
      page.put()
      let frame = page.frameNumber.rawValue
      let gone = MemoryError(.badAddress, .pageNotHeld, frame)
      #expect(error { () throws(MemoryError) in try device.write([1], to: page) } == gone)
      #expect(error { () throws(MemoryError) in _ = try device.read(from: page, count: 1) } == gone)

      try withDevice { other, _ in
        let base = try other.map(length: .pages(1))
        let foreign = try other.extract(base, 10, .destination, .upstream)
        let mismatch = MemoryError(
          .invalid, .machineMismatch, foreign[0].frameNumber.rawValue)
        #expect(error { () throws(MemoryError) in try device.write([1], to: foreign) } == mismatch)
        #expect(
          error { () throws(MemoryError) in _ = try device.read(from: foreign) } == mismatch)
      }
    }
  }

  @Test("G5: after munmap the device still reaches what it holds, and the program does not")
  func unmapped() throws {
    try withDevice { space, device in
      let base = try space.map(length: .pages(1))
      try space.store([1, 2, 3], at: base)
      let extraction = try space.extract(base, 3, .destination, .rfc)
      try space.unmap(base, length: .pages(1))
      try device.write([4], to: extraction)
      #expect(try device.read(from: extraction) == [4, 2, 3])
      let again = try space.map(length: .pages(1), at: .fixed(base))
      #expect(try space.load(3, at: again) == [0, 0, 0])
    }
  }
}

private func error(_ body: () throws(MemoryError) -> Void) -> MemoryError? {
  do throws(MemoryError) {
    try body()
    return nil
  } catch {
    return error
  }
}
