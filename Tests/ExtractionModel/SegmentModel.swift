//===----------------------------------------------------------------------===//
// Iterators over what lies still, beside a plain list of (page, offset, length):
// the model knows nothing of segments, cursors or plans.
//===----------------------------------------------------------------------===//

import PageExtraction
import PageFrames
import TestSupport

struct SegmentModel {
  let setting: Setting
  let ground: Ground
  let pieces: [Piece]
  let emptyStarts: Int
  let total: Int
  var iterator: IOVIter
  /// Bytes behind the iterator, and where its count ends.
  var position = 0
  var end: Int

  /// Makes an iterator and calls it a few dozen times. Returns how often.
  static func walk(
    _ setting: Setting, _ ground: Ground, _ random: inout Dice
  ) throws -> Int {
    let (iterator, pieces, emptyStarts) = try ground.iterator(setting, &random)
    let total = pieces.reduce(0) { $0 + $1.length }
    var model = SegmentModel(
      setting: setting, ground: ground, pieces: pieces, emptyStarts: emptyStarts, total: total,
      iterator: iterator, end: total)
    try mustHold(iterator.count.rawValue == total)
    try mustHold(iterator.kind == setting.kind)
    try mustHold(iterator.extractMode == setting.retention ?? .unretained)
    try mustHold(iterator.canBeExtracted == (setting.retention != nil))
    try mustHold(iterator.extractWillPin == (setting.retention == .pinned))
    var kept = (state: iterator.saveState(), position: 0, end: total)
    let calls = 40
    for _ in 0..<calls {
      switch random.below(12) {
      case 0:
        let size = random.oneIn(9) ? Int.max : random.below(6000)
        try model.iterator.advance(by: ByteCount(size))
        model.position += min(size, model.end - model.position)
      case 1:
        let size = random.below(model.position + 1)
        try model.iterator.revert(by: ByteCount(size))
        // What was cut off stays so: the count grows by what is given back.
        model.position -= size
      case 2:
        let count = random.below(total - model.position + 1)
        try model.iterator.reexpand(to: ByteCount(count))
        model.end = model.position + count
      case 3:
        let count = random.below(2 * total + 2)
        try model.iterator.truncate(to: ByteCount(count))
        model.end = min(model.end, model.position + count)
      case 4 where random.oneIn(2):
        kept = (model.iterator.saveState(), model.position, model.end)
      case 4:
        try model.iterator.restore(kept.state)
        (model.position, model.end) = (kept.position, kept.end)
      case 5: try model.ask(&random)
      case 6: try model.copy(&random)
      case 7: try model.refuse(&random)
      default: try model.extract(&random)
      }
      try mustHold(model.iterator.count.rawValue == model.end - model.position)
    }
    return calls
  }

  /// The piece that a byte lies in, and where in it.
  private func find(_ byte: Int) -> (index: Int, skip: Int) {
    var rest = byte
    var index = 0
    while index < pieces.count, rest >= pieces[index].length {
      rest -= pieces[index].length
      index += 1
    }
    return (index, rest)
  }

  // MARK: - Extraction

  private struct Expected {
    var length = 0
    var offset = 0
    var pages: [Page] = []
    var stop = ExtractionStop.complete
    var error: ErrorNumber?
  }

  private func expect(_ limits: Limits) -> Expected {
    var expected = Expected()
    let left = end - position
    let wanted = min(limits.size.rawValue, 0x7fff_f000, left)
    guard wanted > 0 else {
      expected.stop = left == 0 ? .complete : .sizeLimit
      return expected
    }
    guard setting.retention != nil else {
      expected.error = .badAddress
      return expected
    }
    guard limits.pages > 0 else {
      expected.error = .outOfMemory
      return expected
    }
    var (index, skip) = find(position)
    while true {
      if expected.length == wanted {
        expected.stop = wanted == left ? .complete : .sizeLimit
        return expected
      }
      let piece = pieces[index]
      if expected.length > 0 {
        if !piece.isJoined {
          expected.stop = .segmentEnd
          return expected
        }
        if expected.pages.count == limits.pages.rawValue {
          expected.stop = .pageLimit
          return expected
        }
      }
      guard let page = piece.page else {
        expected.stop = piece.missing
        if case .fault = piece.missing, expected.length == 0 { expected.error = .badAddress }
        return expected
      }
      if expected.length == 0 { expected.offset = piece.offset + skip }
      expected.pages.append(page)
      expected.length += min(piece.length - skip, wanted - expected.length)
      index += 1
      skip = 0
    }
  }

  /// Extracts in one of the three ways, and compares with the model: I1 to I7.
  private mutating func extract(_ random: inout Dice) throws {
    let limits = Limits(&random)
    let expected = expect(limits)
    let before = iterator
    let outstanding = ground.memory.counters.outstanding
    let way = random.below(3)
    let slots = 64
    var list = try PageBuffer(capacity: slots)
    let own = UnsafeMutableBufferPointer<Page?>.allocate(capacity: slots)
    defer { unsafe own.deallocate() }
    unsafe own.initialize(repeating: ground.memory.zeroPage)
    let maxPages = way == 0 ? limits.pages : min(limits.pages, PageCount(slots))

    if let error = expected.error {
      let thrown = try number {
        switch way {
        case 0:
          try iterator.extractPages(maxSize: limits.size, maxPages: maxPages).release()
        case 1:
          _ = try unsafe iterator.extractPages(
            into: own, maxSize: limits.size, maxPages: maxPages)
        default:
          _ = try iterator.extractPages(into: &list, maxSize: limits.size, maxPages: maxPages)
        }
      }
      try mustHold(thrown == error)
      // I6: nothing held, nothing moved.
      try mustHold(iterator.saveState() == before.saveState())
      try mustHold(ground.memory.counters.outstanding == outstanding)
      return
    }

    switch way {
    case 0:
      let extraction = try iterator.extractPages(maxSize: limits.size, maxPages: maxPages)
      try compare(extraction.result, expected, before, outstanding, limits)
      for (slot, page) in expected.pages.enumerated() { try mustHold(extraction[slot] == page) }
      if expected.length > 0 {
        let slot = random.below(expected.pages.count)
        let part = extraction.segment(at: slot)
        let offset = slot == 0 ? expected.offset : 0
        let done = slot == 0 ? 0 : slot << pageShift - expected.offset
        try mustHold(part.offset == offset)
        try mustHold(part.length.rawValue == min(pageSize - offset, expected.length - done))
      }
      extraction.release(dirty: random.oneIn(2))
    case 1:
      let result = try unsafe iterator.extractPages(
        into: own, maxSize: limits.size, maxPages: maxPages)
      try compare(result, expected, before, outstanding, limits)
      for slot in 0..<slots {
        let page = unsafe own[slot]
        if slot < expected.pages.count {
          try mustHold(page == expected.pages[slot])
        } else if result.length == 0 {
          try mustHold(page == ground.memory.zeroPage)
        }
      }
      unsafe result.release(own, dirty: random.oneIn(2))
    default:
      let result = try iterator.extractPages(
        into: &list, maxSize: limits.size, maxPages: maxPages)
      try compare(result, expected, before, outstanding, limits)
      try mustHold(list.count == expected.pages.count)
      for (slot, page) in expected.pages.enumerated() { try mustHold(list[slot] == page) }
      result.release(list, dirty: random.oneIn(2))
    }
    try mustHold(ground.memory.counters.outstanding == outstanding)
    position += expected.length
  }

  private func compare(
    _ result: ExtractionResult, _ expected: Expected, _ before: IOVIter, _ outstanding: Int,
    _ limits: Limits
  ) throws {
    let length = result.length
    try mustHold(length >= 0 && length <= limits.size && length <= before.count)
    try mustHold(length <= .maximumTransfer)
    try mustHold(length.rawValue == expected.length)
    try mustHold(result.offset == (expected.length > 0 ? expected.offset : 0))
    try mustHold(result.pageCount == expected.pages.count)
    try mustHold(PageCount(result.pageCount) <= limits.pages)
    if length > 0 {
      try mustHold(
        result.pageCount == PageCount(covering: length, from: result.offset).rawValue)
    } else {
      try mustHold(result.pageCount == 0 && iterator.saveState() == before.saveState())
    }
    try mustHold(iterator.count == before.count - length)
    try mustHold(result.retention == setting.retention ?? .unretained)
    try mustHold(result.direction == setting.direction)
    if case .fault = expected.stop, case .fault = result.stop {
    } else {
      try mustHold(result.stop == expected.stop)
    }
    // I5: one hold a slot where the table says so. Faulted pages count nothing.
    let held = setting.retention == .unretained || setting.retention == nil ? 0 : result.pageCount
    try mustHold(ground.memory.counters.outstanding == outstanding + held)
  }

  // MARK: - The other calls

  /// Calls that must be refused, whatever the place, and change nothing.
  private mutating func refuse(_ random: inout Dice) throws {
    let before = iterator.saveState()
    let negative = ByteCount(-1 - random.below(9))
    let beyond = ByteCount(position + 1 + random.below(100))
    let thrown = try number {
      switch random.below(6) {
      case 0: try iterator.advance(by: negative)
      case 1: try iterator.revert(by: beyond)
      case 2: try iterator.reexpand(to: ByteCount(total - position + 1 + random.below(9)))
      case 3: try iterator.truncate(to: negative)
      case 4: try iterator.extractPages(maxSize: negative).release()
      default: try iterator.extractPages(maxPages: PageCount(negative.rawValue)).release()
      }
    }
    try mustHold(thrown == .invalid)
    try mustHold(iterator.saveState() == before)
  }

  private func ask(_ random: inout Dice) throws {
    let limit = random.oneIn(2) ? Int.max : random.below(6)
    let answer = iterator.pageCount(maxPages: PageCount(limit)).rawValue
    guard position < end, setting.kind != .discard else {
      try mustHold(answer == 0)
      return
    }
    let (first, _) = find(position)
    let (last, _) = find(end - 1)
    let least = min(last - first + 1, limit)
    // Bvecs without bytes that start inside a page count too.
    try mustHold(answer >= least && answer <= min(limit, least + emptyStarts))
    let bits = iterator.alignment
    try mustHold(bits == 0 || !iterator.isAligned(addressMask: bits, lengthMask: bits))
  }

  /// Moves real bytes.
  private mutating func copy(_ random: inout Dice) throws {
    let length = random.oneIn(6) ? random.below(9000) : random.below(200)
    var expected = 0
    var spots: [UInt] = []
    var (index, skip) = find(position)
    let wanted = min(length, end - position)
    while expected < wanted, let page = pieces[index].page {
      let part = min(pieces[index].length - skip, wanted - expected)
      let start = unsafe page.bytes.baseAddress! + pieces[index].offset + skip
      spots += (0..<part).map { unsafe UInt(bitPattern: start + $0) }
      expected += part
      index += 1
      skip = 0
    }
    if setting.kind == .discard { expected = wanted }
    let before = iterator.saveState()
    let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: length, alignment: 8)
    defer { unsafe buffer.deallocate() }
    // The places may overlap, so that all bytes are the same.
    let value = UInt8(random.below(256))
    for byte in 0..<length { unsafe buffer[byte] = value }
    if expected == 0 && wanted > 0 {
      let thrown = try number {
        if setting.direction == .destination {
          _ = try unsafe iterator.copyToIterator(from: UnsafeRawBufferPointer(buffer))
        } else {
          _ = try unsafe iterator.copyFromIterator(into: buffer)
        }
      }
      try mustHold(thrown == .badAddress)
      try mustHold(iterator.saveState() == before)
      return
    }
    let zeroes = random.oneIn(3)
    let result: CopyResult
    if setting.direction == .source {
      result = try unsafe iterator.copyFromIterator(into: buffer)
    } else if zeroes {
      result = try iterator.zeroFill(ByteCount(length))
    } else {
      result = try unsafe iterator.copyToIterator(from: UnsafeRawBufferPointer(buffer))
    }
    try mustHold(result.length.rawValue == expected)
    try mustHold((result.stop == nil) == (expected == wanted))
    for byte in spots.indices {
      let there = unsafe UnsafePointer<UInt8>(bitPattern: spots[byte])!.pointee
      if setting.direction == .source {
        try mustHold(unsafe buffer[byte] == there)
      } else {
        try mustHold(there == (zeroes ? 0 : value))
      }
    }
    position += expected
  }
}
