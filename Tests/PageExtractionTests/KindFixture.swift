//===----------------------------------------------------------------------===//
// What the tests of kernel-backed kinds share: frames with bytes in them, and a
// short way to write what an extraction gave.
//===----------------------------------------------------------------------===//

import PageExtraction
import PageFrames
import TestSupport
import Testing

/// Some frames of a machine, one after the other.
struct Frames {
  let memory: PhysicalMemory
  let head: Page

  /// The page `number` frames from the first.
  subscript(number: Int) -> Page {
    memory.machine.page(head.frameNumber.rawValue + UInt64(number))
  }

  /// How many frames a page is from the first.
  func number(_ page: Page) -> Int {
    Int(page.frameNumber.rawValue) - Int(head.frameNumber.rawValue)
  }

  func bvec(_ page: Int, _ offset: Int, _ length: Int) -> BVec {
    BVec(page: self[page], offset: offset, length: length)
  }

  /// Where a byte of these frames stands in the window.
  func address(_ page: Int, _ offset: Int = 0) -> UnsafeMutableRawPointer {
    unsafe self[page].bytes.baseAddress! + offset
  }
}

/// Runs `body` with 2^order consecutive frames of a machine of their own, and
/// proves that everything is back afterwards.
func withFrames(order: Int = 6, _ body: (Frames) throws -> Void) throws {
  try withMachine { memory in
    let head = try memory.allocatePage(order: order)
    defer { head.put() }
    for frame in 0..<1 << order {
      let page = memory.machine.page(head.frameNumber.rawValue + UInt64(frame))
      for word in 0..<pageSize / 8 {
        unsafe page.bytes.storeBytes(
          of: UInt64(frame) << 32 | UInt64(word), toByteOffset: word * 8, as: UInt64.self)
      }
    }
    try body(Frames(memory: memory, head: head))
  }
}

/// An extraction as the golden vectors write it: bytes, offset, page numbers.
struct Golden: Equatable, CustomStringConvertible {
  let length: Int
  let offset: Int
  let pages: [Int]

  init(_ length: Int, _ offset: Int, _ pages: [Int]) {
    (self.length, self.offset, self.pages) = (length, offset, pages)
  }

  var description: String { "(\(length),\(offset),\(pages))" }
}

extension IOVIter {
  /// Extracts with the vectors' limits, checks I1 to I7, and numbers the pages.
  mutating func golden(
    _ frames: Frames, maxSize: ByteCount = 102_400, maxPages: PageCount = 8,
    sourceLocation: SourceLocation = #_sourceLocation
  ) throws -> Golden {
    let before = self
    let extraction = try extractPages(maxSize: maxSize, maxPages: maxPages)
    expectContract(
      extraction.result, from: before, to: self, maxSize: maxSize, maxPages: maxPages,
      sourceLocation: sourceLocation)
    return Golden(
      extraction.length.rawValue, extraction.offset,
      (0..<extraction.pageCount).map { frames.number(extraction[$0]) })
  }

  /// The same until the count is 0 or a call makes no progress.
  mutating func allGolden(_ frames: Frames) throws -> [Golden] {
    var all: [Golden] = []
    while count > 0 {
      let next = try golden(frames)
      if next.length == 0 { break }
      all.append(next)
    }
    return all
  }

  /// Copies all that is left out of the iterator.
  mutating func readAll() throws -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: count.rawValue)
    let result = try unsafe bytes.withUnsafeMutableBytes {
      try unsafe copyFromIterator(into: $0)
    }
    return Array(bytes.prefix(result.length.rawValue))
  }

  mutating func write(_ bytes: [UInt8]) throws -> CopyResult {
    try unsafe bytes.withUnsafeBytes { try unsafe copyToIterator(from: $0) }
  }
}

/// Bytes of frames through the window.
func bytes(_ address: UnsafeMutableRawPointer, _ count: Int) -> [UInt8] {
  unsafe [UInt8](UnsafeRawBufferPointer(start: address, count: count))
}
