//===----------------------------------------------------------------------===//
// What the emulator's driver takes and transfers: GUP calls, and extractions
// with a DMA engine behind them.
//===----------------------------------------------------------------------===//

internal import CShims
import Glibc
import SwiftGUP

extension EmulatedScene.Held {
  func covers(_ place: Place) -> Bool {
    place.buffer == stretch.buffer && place.offset >= stretch.offset
      && place.offset < stretch.offset + stretch.length
  }

  func page(of place: Place) -> Page { pages[place.offset >> 12 - stretch.offset >> 12] }
}

extension EmulatedScene {
  mutating func take(
    _ by: String, _ stretch: Stretch, as name: String, _ how: Hold, _ times: Int
  ) throws(MemoryError) -> String {
    let count = stretch.pages.count
    var pages: [Page] = []
    for _ in 0..<times { pages = try take(by, stretch, how) }
    // A registered buffer is pinned as a whole or not at all, and so is what one transfer moves.
    if how == .pin || how == .pinToRead, pages.count < count {
      for page in pages { unpinUserPage(page) }
      throw MemoryError(.badAddress, .notPresent, address(stretch))
    }
    let length = min(stretch.length, pages.count * 4096 - stretch.offset & 4095)
    holds[name] = Held(
      pages: pages, isPin: how.isPin, times: times,
      stretch: Stretch(stretch.buffer, from: stretch.offset, length: length))
    return Words.pages(heldBy: length, of: stretch)
  }

  /// As who takes them does: some ask for the rest until nothing more comes.
  private func take(
    _ by: String, _ stretch: Stretch, _ how: Hold
  ) throws(MemoryError) -> [Page] {
    let count = stretch.pages.count
    var list = try PageBuffer(capacity: count)
    var pages: [Page] = []
    repeat {
      do throws(MemoryError) {
        let taken = try how.take(
          from: space(by), address(stretch) + .pages(pages.count), count - pages.count,
          into: &list)
        pages += (0..<taken).compactMap { list[$0] }
      } catch {
        guard pages.isEmpty else { return pages }
        throw error
      }
    } while how.asksAgain && pages.count < count
    return pages
  }

  mutating func release(_ name: String) {
    guard let held = holds.removeValue(forKey: name) else { return }
    for page in held.pages {
      for _ in 0..<held.times {
        if held.isPin { unpinUserPage(page) } else { putPage(page) }
      }
    }
  }

  func deviceRead(_ name: String) throws(MemoryError) -> String {
    guard let held = holds[name] else { return Words.notHeld }
    var samples: [UInt8] = []
    for offset in stride(
      from: held.stretch.offset, to: held.stretch.offset + held.stretch.length, by: 512)
    {
      let page = held.page(of: Place(held.stretch.buffer, offset))
      samples += try device.read(from: page, offset: offset & 4095, count: 1)
    }
    return Words.pages(samples, of: held.stretch)
  }

  // MARK: - A debugger's accesses

  /// Loads a byte, or stores one, of a page that is taken with FOLL_FORCE. Whatever refuses it is
  /// EIO, as /proc/PID/mem has it.
  func force(_ by: String, _ place: Place, storing value: UInt8? = nil) throws(MemoryError)
    -> String
  {
    let address = address(Stretch(place.buffer, from: place.offset, length: 1))
    var list = try PageBuffer(capacity: 1)
    let flags: GUPFlags = value == nil ? .force : [.write, .force]
    let taken = try? space(by).getUserPagesFast(address, count: 1, flags: flags, into: &list)
    guard taken != nil, let page = list[0] else { return "EIO" }
    defer { putPage(page) }
    if let value {
      try device.write([value], to: page, offset: place.offset & 4095)
      return Words.ok
    }
    return Words.hex(try device.read(from: page, offset: place.offset & 4095, count: 1)[0])
  }

  // MARK: - Transfers

  func directRead(
    _ by: String, _ segments: [Stretch], _ value: UInt8
  ) throws(MemoryError) -> String {
    var block = [UInt8](repeating: 0, count: 512)
    block[0] = value
    let moved = try transfer(by, segments, .destination) { extraction, _ throws(MemoryError) in
      for offset in stride(from: 0, to: extraction.length.rawValue, by: 512) {
        try device.write(block, to: extraction, at: ByteCount(offset))
      }
    }
    return Words.bytes(moved)
  }

  func directWrite(_ by: String, _ segments: [Stretch]) throws(MemoryError) -> String {
    var arrived = [UInt8](repeating: 0, count: segments.reduce(0) { $0 + $1.length } / 512)
    let moved = try transfer(by, segments, .source) { extraction, start throws(MemoryError) in
      let bytes = try device.read(from: extraction)
      for offset in stride(from: 0, to: bytes.count, by: 512) {
        arrived[(start + offset) / 512] = bytes[offset]
      }
    }
    let file = Stretch("file", from: 0, length: moved)
    return "\(Words.bytes(moved)): \(Words.pages(arrived, of: file))"
  }

  /// Extracts the segments until they end and gives each part to `body`, with how many bytes lie
  /// before it. A transfer that meets a fault fails as a whole, but what came before the fault has
  /// moved.
  private func transfer(
    _ by: String, _ segments: [Stretch], _ direction: Direction,
    _ body: (borrowing Extraction, Int) throws(MemoryError) -> Void
  ) throws(MemoryError) -> Int {
    var iterator = try IOVIter(
      iovec: segments.map { UserSegment(base: address($0), length: ByteCount($0.length)) },
      direction: direction, in: space(by), dialect: .upstream)
    return try transfer(&iterator, from: 0, body)
  }

  /// A device works on all of a transfer at once: no byte moves before everything is held, and
  /// nothing is released before.
  private func transfer(
    _ iterator: inout IOVIter, from start: Int,
    _ body: (borrowing Extraction, Int) throws(MemoryError) -> Void
  ) throws(MemoryError) -> Int {
    guard iterator.count > 0 else { return start }
    let extraction = try iterator.extractPages()
    guard !extraction.isEmpty else { return start }
    var end = start
    var failure: MemoryError?
    do throws(MemoryError) {
      end = try transfer(&iterator, from: start + extraction.length.rawValue, body)
    } catch {
      failure = error
    }
    do throws(MemoryError) {
      try body(extraction, start)
    } catch {
      failure = error
    }
    extraction.release(dirty: true)
    if let failure { throw failure }
    return end
  }
}

extension Hold {
  /// vmsplice and O_DIRECT do.
  fileprivate var asksAgain: Bool { self == .get || self == .pinToRead }

  fileprivate func take(
    from space: AddressSpace, _ start: UserAddress, _ count: Int, into list: inout PageBuffer
  ) throws(MemoryError) -> Int {
    let flags: GUPFlags =
      switch self {
      case .get, .pinToRead: []
      case .getToWrite: .write
      case .pin: [.write, .longTerm]
      case .pinToReadLong: .longTerm
      case .getNoFault, .pinNoFault: .noFault
      case .getToWriteNoFault, .pinToWriteNoFault: [.write, .noFault]
      }
    let result =
      isPin
      ? try space.pinUserPagesFast(start, count: count, flags: flags, into: &list)
      : try space.getUserPagesFast(start, count: count, flags: flags, into: &list)
    return result.pageCount
  }
}

/// A file without a name whose page n of 32 starts with the byte 0x40 + n.
enum PatternFile {
  static func open(for memory: PhysicalMemory) throws(MemoryError) -> MappedFile {
    var bytes = [UInt8](repeating: 0, count: Cast.pageLimit * 4096)
    var descriptor: Int32 = -1
    let error = unsafe cshims_memfd_create("pattern", UInt64(bytes.count), &descriptor)
    guard error == 0 else { throw MemoryError.host(error) }
    defer { _ = cshims_close(descriptor) }
    for page in 0..<Cast.pageLimit { bytes[page * 4096] = UInt8(0x40 + page) }
    let written = unsafe bytes.withUnsafeBytes { raw in
      unsafe pwrite(descriptor, raw.baseAddress, raw.count, 0)
    }
    guard written == bytes.count else { throw MemoryError.host(errno) }
    return try MappedFile(duplicating: descriptor, memory: memory)
  }
}
