//===----------------------------------------------------------------------===//
// A device: bytes in and out of pages, one by one or an extraction's.
//===----------------------------------------------------------------------===//

// swift-format-ignore-file: AlwaysUseLowerCamelCase
// The functions have their C names.

public import CGup
internal import CShims
internal import DMA
internal import PageExtraction
internal import PageFrames

@c @implementation
public func gup_dma_create(
  _ machine: OpaquePointer?, _ dma: UnsafeMutablePointer<OpaquePointer?>?
) -> Int32 {
  unsafe make(machine, PhysicalMemory.self, into: dma) { memory in DMAEngine(memory: memory) }
}

@c @implementation
public func gup_dma_destroy(_ dma: OpaquePointer?) -> Int32 { unsafe destroy(dma, DMAEngine.self) }

@c @implementation
public func gup_dma_write(
  _ dma: OpaquePointer?, _ page: OpaquePointer?, _ offset: Int, _ from: UnsafeRawPointer?,
  _ length: Int
) -> Int32 {
  guard let page = unsafe real(page) else { return unsafe refuse(.pageInvalid, page.number) }
  return unsafe call(dma, DMAEngine.self) { (device) throws(MemoryError) in
    try unsafe device.write(bytes(from, length), to: page, offset: offset)
  }
}

@c @implementation
public func gup_dma_read(
  _ dma: OpaquePointer?, _ page: OpaquePointer?, _ offset: Int, _ to: UnsafeMutableRawPointer?,
  _ length: Int
) -> Int32 {
  guard let page = unsafe real(page) else { return unsafe refuse(.pageInvalid, page.number) }
  return unsafe call(dma, DMAEngine.self) { (device) throws(MemoryError) in
    try unsafe device.read(from: page, offset: offset, into: bytes(to, length))
  }
}

// MARK: - Extractions

/// The pages of an extraction that is not released, and where its bytes start.
private func extent(
  _ extraction: UnsafePointer<gup_extraction>?, _ offset: Int, _ length: Int
) throws(MemoryError) -> ExtractionResult {
  guard let extraction = unsafe extraction, let result = unsafe kept(extraction) else {
    throw MemoryError(.invalid, .extractionInvalid)
  }
  guard offset >= 0, offset <= result.length.rawValue else {
    throw MemoryError(.invalid, .positionOutOfRange, offset)
  }
  guard length <= result.length.rawValue - offset else {
    throw MemoryError(.invalid, .lengthTooLarge, length)
  }
  return result
}

/// Calls `body` with each page's part of a range of an extraction's bytes.
private func forEachPart(
  _ extraction: UnsafePointer<gup_extraction>, _ start: Int, _ length: Int,
  _ body: (Page, _ offset: Int, _ done: Int, _ length: Int) throws(MemoryError) -> Void
) throws(MemoryError) {
  var done = 0
  while done < length {
    let position = start + done
    let part = min(pageSize - position & (pageSize - 1), length - done)
    let slot = unsafe extraction.pointee.pages?[position >> pageShift]
    guard let page = unsafe real(slot ?? nil) else {
      throw MemoryError(.invalid, .pageInvalid, position)
    }
    try body(page, position & (pageSize - 1), done, part)
    done += part
  }
}

@c @implementation
public func gup_dma_write_extraction(
  _ dma: OpaquePointer?, _ extraction: UnsafePointer<gup_extraction>?, _ offset: Int,
  _ from: UnsafeRawPointer?, _ length: Int, _ allowStale: Bool
) -> Int32 {
  unsafe call(dma, DMAEngine.self) { (device) throws(MemoryError) in
    let source = try unsafe bytes(from, length)
    let result = try unsafe extent(extraction, offset, length)
    guard allowStale || result.direction == .destination else {
      throw MemoryError(.accessDenied, .directionMismatch, Int(result.direction.rawValue))
    }
    let start = result.offset + offset
    let nothing = unsafe UnsafeRawBufferPointer(start: nil, count: 0)
    let extraction = unsafe extraction.unsafelyUnwrapped
    // All pages are looked at before the first byte moves.
    try unsafe forEachPart(extraction, start, length) { (page, at, _, _) throws(MemoryError) in
      try unsafe device.write(nothing, to: page, offset: at)
    }
    try unsafe forEachPart(extraction, start, length) { (page, at, done, n) throws(MemoryError) in
      try unsafe device.write(
        UnsafeRawBufferPointer(rebasing: source[done..<done + n]), to: page, offset: at)
    }
  }
}

@c @implementation
public func gup_dma_read_extraction(
  _ dma: OpaquePointer?, _ extraction: UnsafePointer<gup_extraction>?, _ offset: Int,
  _ to: UnsafeMutableRawPointer?, _ length: Int
) -> Int32 {
  unsafe call(dma, DMAEngine.self) { (device) throws(MemoryError) in
    let target = try unsafe bytes(to, length)
    let start = try unsafe extent(extraction, offset, length).offset + offset
    let nothing = unsafe UnsafeMutableRawBufferPointer(start: nil, count: 0)
    guard length > 0, let extraction = unsafe extraction else { return }
    try unsafe forEachPart(extraction, start, length) { (page, at, _, _) throws(MemoryError) in
      try unsafe device.read(from: page, offset: at, into: nothing)
    }
    try unsafe forEachPart(extraction, start, length) { (page, at, done, n) throws(MemoryError) in
      try unsafe device.read(
        from: page, offset: at,
        into: UnsafeMutableRawBufferPointer(rebasing: target[done..<done + n]))
    }
  }
}
