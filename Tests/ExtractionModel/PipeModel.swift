//===----------------------------------------------------------------------===//
// Iterators at the end of a pipe's ring, beside a plain list of buffers, with a
// reader and other writers about.
//===----------------------------------------------------------------------===//

import PageExtraction
import PageFrames
import TestSupport

struct PipeModel {
  private struct Buffer {
    var page: Page
    var offset: Int
    var length: Int
    let isAnonymous: Bool
    let number: Int
    var last: Int { isAnonymous ? offset + length : -(offset + length) }
  }

  let setting: Setting
  let pipe: Pipe
  let borrowed: Page
  private var ring: [Buffer] = []
  private var nextNumber = 0
  /// Numbers of buffers that extractions list, which are out.
  private var listed: [[Int]] = []
  private var results: [ExtractionResult] = []
  private var hazards = 0

  var iterator: IOVIter
  private var constructed: Int
  private var count: Int
  private var consumed = 0
  /// The numbers of the iterator's own buffers start here.
  private var start = 0
  /// The number of the buffer that ends where the iterator stands, and where
  /// that is in its page: 0 before anything was appended.
  private var place = (number: 0, last: 0)

  private init(_ setting: Setting, _ pipe: Pipe, _ borrowed: Page, _ count: Int) throws {
    self.setting = setting
    self.pipe = pipe
    self.borrowed = borrowed
    self.count = count
    constructed = count
    iterator = try IOVIter(pipe: pipe, count: ByteCount(count), dialect: setting.dialect)
  }

  static func walk(
    _ setting: Setting, _ memory: PhysicalMemory, _ random: inout Dice
  ) throws -> Int {
    let borrowed = try memory.allocatePage()
    defer { borrowed.put() }
    let pipe = try Pipe(memory: memory, capacity: 1 + random.below(12))
    var model = try PipeModel(setting, pipe, borrowed, random.below(90_000))
    let calls = 60
    do {
      for _ in 0..<calls {
        try model.step(&random)
        try model.compare()
      }
    } catch {
      model.releaseAll()
      throw error
    }
    model.releaseAll()
    pipe.removeAll()
    return calls
  }

  private mutating func releaseAll() {
    let none = UnsafeMutableBufferPointer<Page?>.allocate(capacity: 32)
    unsafe none.initialize(repeating: nil)
    for result in results { unsafe result.release(none) }
    unsafe none.deallocate()
    (results, listed) = ([], [])
  }

  private var isSane: Bool {
    guard place.last != 0 else { return place.number == nextPlace }
    guard let buffer = ring.last, buffer.number == place.number else { return false }
    return buffer.offset + buffer.length == abs(place.last)
  }

  /// Where an iterator stands that was made now: after the last buffer. Numbers
  /// are taken back with their buffers, as the ring's head is.
  private var nextPlace: Int { nextNumber }

  private mutating func step(_ random: inout Dice) throws {
    switch random.below(14) {
    case 0: try remake(&random)
    case 1: try revert(&random)
    case 2: try truncateOrExpand(&random)
    case 3: try read(&random)
    case 4 where random.oneIn(4): try write(&random)
    case 5: try copy(&random)
    case 6: try link(&random)
    case 7: try keepLess(&random)
    case 8: try releaseOne(&random)
    case 9: try ask(&random)
    default: try extract(&random)
    }
  }

  private func compare() throws {
    let parts = pipe.segments
    try mustHold(parts.count == ring.count)
    for (part, buffer) in zip(parts, ring) {
      try mustHold(part.page == buffer.page)
      try mustHold(part.offset == buffer.offset && part.length.rawValue == buffer.length)
    }
    try mustHold(pipe.bufferCount == ring.count)
    try mustHold(pipe.hazardCount == hazards)
    try mustHold(iterator.count.rawValue == count)
    if isSane { try mustHold(iterator.offset.rawValue == place.last) }
  }

  /// A fresh iterator at the ring's end.
  private mutating func remake(_ random: inout Dice) throws {
    count = random.below(90_000)
    (constructed, consumed) = (count, 0)
    iterator = try IOVIter(pipe: pipe, count: ByteCount(count), dialect: setting.dialect)
    start = nextNumber
    place = (nextNumber, 0)
  }

  private mutating func push(_ page: Page, _ offset: Int, _ length: Int, _ isAnonymous: Bool) {
    ring.append(
      Buffer(
        page: page, offset: offset, length: length, isAnonymous: isAnonymous, number: nextNumber))
    nextNumber += 1
  }

  private mutating func letGo(_ number: Int) {
    if listed.contains(where: { $0.contains(number) }) { hazards += 1 }
    // A number comes back with the next buffer; a page that went is listed by
    // nobody's buffer any more.
    for index in listed.indices { listed[index].removeAll { $0 == number } }
  }

  private mutating func pop() {
    let buffer = ring.removeLast()
    nextNumber = buffer.number
    letGo(buffer.number)
  }

  /// What appending `length` bytes does: the parts' lengths, the first of which
  /// may lie in the last buffer. Pages come from what the ring shows afterwards.
  private mutating func append(_ length: Int) throws -> (length: Int, pages: [Page]) {
    var done = 0
    var pages: [Page] = []
    let parts = pipe.segments
    while done < length {
      if done == 0, place.last > 0, place.last < pageSize {
        let part = min(length, pageSize - place.last)
        ring[ring.count - 1].length += part
        place.last += part
        pages.append(ring[ring.count - 1].page)
        done += part
        continue
      }
      guard ring.count < pipe.capacity else { break }
      let part = min(length - done, pageSize)
      try mustHold(parts.count > ring.count)
      push(parts[ring.count].page, 0, part, true)
      place = (ring[ring.count - 1].number, part)
      pages.append(ring[ring.count - 1].page)
      done += part
    }
    count -= done
    consumed += done
    return (done, pages)
  }

  private mutating func extract(_ random: inout Dice) throws {
    let limits = Limits(&random)
    let wanted = min(limits.size.rawValue, count)
    let slots = UnsafeMutableBufferPointer<Page?>.allocate(capacity: 32)
    defer { unsafe slots.deallocate() }
    let maxPages = min(limits.pages, 32)
    let canGrow = place.last > 0 && place.last < pageSize
    let offset = canGrow ? place.last : 0
    let room = pipe.capacity - ring.count + (canGrow ? 1 : 0)

    var error: ErrorNumber?
    if wanted > 0 {
      if setting.retention == nil {
        error = .badAddress
      } else if maxPages == 0 {
        error = .outOfMemory
      } else if !isSane || room == 0 {
        error = .badAddress
      }
    }
    let before = iterator.saveState()
    if let error {
      let thrown = try number {
        _ = try unsafe iterator.extractPages(
          into: slots, maxSize: limits.size, maxPages: maxPages)
      }
      try mustHold(thrown == error)
      try mustHold(iterator.saveState() == before)
      return
    }
    let result = try unsafe iterator.extractPages(
      into: slots, maxSize: limits.size, maxPages: maxPages)
    guard wanted > 0 else {
      try mustHold(result.length == 0 && result.pageCount == 0)
      try mustHold(iterator.saveState() == before)
      return
    }
    let most = min(wanted, min(room, maxPages.rawValue) << pageShift - offset)
    let left = count
    let (length, pages) = try append(most)
    try mustHold(result.length.rawValue == length && length == most)
    try mustHold(result.offset == offset && result.pageCount == pages.count)
    for (slot, page) in pages.enumerated() { try mustHold(unsafe slots[slot] == page) }
    try mustHold(result.retention == .unretained)
    let stop: ExtractionStop =
      length == left
      ? .complete
      : length == wanted ? .sizeLimit : maxPages.rawValue < room ? .pageLimit : .ringFull
    try mustHold(result.stop == stop || room == maxPages.rawValue && result.stop == .ringFull)
    results.append(result)
    listed.append(ring.suffix(pages.count).map(\.number))
  }

  private mutating func releaseOne(_ random: inout Dice) throws {
    guard !results.isEmpty else { return }
    let index = random.below(results.count)
    let none = UnsafeMutableBufferPointer<Page?>.allocate(capacity: 32)
    defer { unsafe none.deallocate() }
    unsafe none.initialize(repeating: nil)
    unsafe results.remove(at: index).release(none)
    listed.remove(at: index)
  }

  private mutating func revert(_ random: inout Dice) throws {
    let size = random.below(consumed + 2)
    let own = ring.filter { $0.number >= start }.reduce(0) { $0 + $1.length }
    guard size <= consumed, size == 0 || isSane && size <= own else {
      let before = iterator.saveState()
      try mustHold(try number { try iterator.revert(by: ByteCount(size)) } == .invalid)
      try mustHold(iterator.saveState() == before)
      return
    }
    try iterator.revert(by: ByteCount(size))
    guard size > 0 else { return }
    count += size
    consumed -= size
    unpublish(size)
  }

  private mutating func unpublish(_ size: Int) {
    var rest = size
    while let last = ring.last, last.number >= start {
      if rest < last.length {
        ring[ring.count - 1].length -= rest
        place = (last.number, ring[ring.count - 1].last)
        return
      }
      rest -= last.length
      pop()
    }
    place = (nextNumber, 0)
  }

  private mutating func truncateOrExpand(_ random: inout Dice) throws {
    if random.oneIn(2) {
      let to = random.below(count + 1)
      try iterator.truncate(to: ByteCount(to))
      count = to
    } else {
      let to = random.below(constructed - consumed + 1)
      try iterator.reexpand(to: ByteCount(to))
      count = to
    }
  }

  /// Publishes through a copy and keeps a part of that.
  private mutating func keepLess(_ random: inout Dice) throws {
    guard isSane, setting.retention != nil, count > 0 else { return }
    var copy = iterator
    let extraction = try? copy.extractPages(maxSize: ByteCount(1 + random.below(20_000)))
    guard let extraction else { return }
    let published = extraction.length.rawValue
    extraction.release()
    let kept = random.below(published + 1)
    let (wasCount, wasConsumed, wasPlace) = (count, consumed, place)
    _ = try append(published)
    (count, consumed) = (wasCount - kept, wasConsumed + kept)
    try iterator.advance(by: ByteCount(kept))
    if wasPlace.last == 0, kept == 0 {
      while let last = ring.last, last.number >= start { pop() }
      place = (nextNumber, 0)
    } else if kept < published {
      // As if the rest had never been.
      unpublish(published - kept)
    }
  }

  private mutating func read(_ random: inout Dice) throws {
    let wanted = random.below(9000)
    let bytes = UnsafeMutableRawBufferPointer.allocate(byteCount: wanted, alignment: 8)
    defer { unsafe bytes.deallocate() }
    let length = unsafe pipe.read(into: bytes).rawValue
    try mustHold(length == min(wanted, ring.reduce(0) { $0 + $1.length }))
    var rest = length
    while rest > 0 {
      let part = min(rest, ring[0].length)
      ring[0].offset += part
      ring[0].length -= part
      rest -= part
      if ring[0].length == 0 { letGo(ring.removeFirst().number) }
    }
  }

  /// Another writer: the iterator's place is lost where that shows.
  private mutating func write(_ random: inout Dice) throws {
    let bytes = [UInt8](repeating: 7, count: 1 + random.below(3000))
    let canGrow = ring.last.map { $0.last > 0 && $0.last < pageSize } ?? false
    guard ring.count < pipe.capacity || canGrow else {
      let thrown = try number {
        _ = try unsafe bytes.withUnsafeBytes { try unsafe pipe.append($0) }
      }
      try mustHold(thrown == .badAddress)
      return
    }
    let result = try unsafe bytes.withUnsafeBytes { try unsafe pipe.append($0) }
    let mine = (count, consumed, place)
    if let last = ring.last, last.last > 0 {
      place = (last.number, last.last)
    } else {
      place = (nextNumber, 0)
    }
    let (length, _) = try append(bytes.count)
    (count, consumed, place) = mine
    try mustHold(result.length.rawValue == length)
  }

  private mutating func copy(_ random: inout Dice) throws {
    let bytes = (0..<random.below(3000)).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ ring.count) }
    let canGrow = place.last > 0 && place.last < pageSize
    let wanted = min(bytes.count, count)
    guard wanted == 0 || isSane && (ring.count < pipe.capacity || canGrow) else {
      let thrown = try number {
        _ = try unsafe bytes.withUnsafeBytes { try unsafe iterator.copyToIterator(from: $0) }
      }
      try mustHold(thrown == .badAddress)
      return
    }
    let result = try unsafe bytes.withUnsafeBytes { try unsafe iterator.copyToIterator(from: $0) }
    guard wanted > 0 else { return try mustHold(result.length == 0) }
    let first = place.last > 0 && place.last < pageSize ? place.last : 0
    let (length, pages) = try append(wanted)
    try mustHold(result.length.rawValue == length)
    for byte in 0..<length {
      let at = first + byte
      try mustHold(unsafe pages[at >> pageShift].bytes[at & 4095] == bytes[byte])
    }
  }

  /// Links a page that is not the pipe's own.
  private mutating func link(_ random: inout Dice) throws {
    let merges = place.last < 0 && -place.last < pageSize && random.oneIn(2)
    let offset = merges ? -place.last : random.below(pageSize)
    let length = min(1 + random.below(pageSize - offset), count)
    guard length > 0 else { return }
    let before = iterator.saveState()
    let joins = offset > 0 && place.last == -offset
    guard isSane, joins || ring.count < pipe.capacity else {
      let thrown = try number {
        _ = try iterator.copyPage(borrowed, offset: offset, length: ByteCount(length))
      }
      try mustHold(thrown == .badAddress)
      try mustHold(iterator.saveState() == before)
      return
    }
    let result = try iterator.copyPage(borrowed, offset: offset, length: ByteCount(length))
    try mustHold(result == CopyResult(length: ByteCount(length)))
    if joins {
      ring[ring.count - 1].length += length
    } else {
      push(borrowed, offset, length, false)
    }
    place = (ring[ring.count - 1].number, -(offset + length))
    count -= length
    consumed += length
  }

  private func ask(_ random: inout Dice) throws {
    let limit = random.below(20)
    let canGrow = place.last > 0 && place.last < pageSize
    let slots = isSane && count > 0 ? pipe.capacity - ring.count + (canGrow ? 1 : 0) : 0
    try mustHold(iterator.pageCount(maxPages: PageCount(limit)).rawValue == min(slots, limit))
    let start = UInt64(max(0, iterator.offset.rawValue))
    try mustHold(iterator.alignment == (count > 0 ? start | UInt64(count) : 0))
    try mustHold(iterator.gapAlignment == .max)
  }
}
