//===----------------------------------------------------------------------===//
// The memory that an extraction job's bytes go through, whatever describes it:
// one class for each kind of iterator, in files of their own. Here is what they
// have in common, and what those that are no user memory share.
//===----------------------------------------------------------------------===//

import SwiftGUP

/// Memory that a job fills and takes out again, and makes iterators over.
protocol ExtractMemory: AnyObject {
  var memory: PhysicalMemory { get }
  /// Where it lies, in a few words.
  var place: String { get }
  /// Segments of a list; 1 of what is none.
  var segmentCount: Int { get }
  /// The most bytes that `fill` and `drain` hand out at a time.
  static var chunk: Int { get }
  /// Must what was extracted be taken out before there is room for more?
  var isFull: Bool { get }

  /// Brings in what the settings ask for, before a device writes.
  func populate() throws
  /// Puts the source's bytes there.
  func fill(from source: ByteSource) throws
  /// Takes the bytes out that stand at these positions.
  func drain(_ range: Range<Int>, to sink: inout some ByteSink) throws
  /// An iterator over the bytes from `position` on, for extraction.
  func iterator(from position: Int) throws -> IOVIter
}

extension ExtractMemory {
  static var chunk: Int { 1 << 20 }
  var isFull: Bool { false }
}

/// Where a buffer starts in its first page, unless it is one whole buffer.
let oddOffset = 0x1a3

/// The lengths of `count` uneven pieces of `size` bytes, the same for the same size and count:
/// each is one to three parts of equal size.
func unevenLengths(of size: Int, in count: Int) -> [Int] {
  func weight(_ index: Int) -> Int { 1 + index * 5 % 3 }
  let total = (0..<count).reduce(0) { $0 + weight($1) }
  var lengths: [Int] = []
  var begin = 0
  var parts = 0
  for index in 0..<count {
    parts += weight(index)
    let end = index == count - 1 ? size : size / total * parts + size % total * parts / total
    lengths.append(end - begin)
    begin = end
  }
  return lengths
}

/// Memory without addresses of a user's: it is filled and drained by iterators of the same kind
/// that go the other way.
protocol KernelMemory: ExtractMemory {
  var settings: ExtractSettings { get }
  /// An iterator over all of it.
  func iterator(_ direction: Direction) throws(MemoryError) -> IOVIter
}

extension KernelMemory {
  func populate() throws {}

  func iterator(from position: Int) throws -> IOVIter {
    try iterator(settings.way.direction, from: position)
  }

  private func iterator(_ direction: Direction, from position: Int) throws -> IOVIter {
    do throws(MemoryError) {
      var iterator = try iterator(direction)
      try iterator.advance(by: ByteCount(position))
      return iterator
    } catch {
      throw Failure("no \(settings.kind) iterator over \(place): \(error).")
    }
  }

  func fill(from source: ByteSource) throws {
    var iterator = try iterator(.destination, from: 0)
    try unsafe inChunks(0..<settings.size) { bytes, position in
      try unsafe source.fill(bytes, at: position)
      try move(bytes.count, at: position) { () throws(MemoryError) in
        try unsafe iterator.copyToIterator(from: UnsafeRawBufferPointer(bytes))
      }
    }
  }

  func drain(_ range: Range<Int>, to sink: inout some ByteSink) throws {
    var iterator = try iterator(.source, from: range.lowerBound)
    try unsafe inChunks(range) { bytes, position in
      try move(bytes.count, at: position) { () throws(MemoryError) in
        try unsafe iterator.copyFromIterator(into: bytes)
      }
      try unsafe sink.take(UnsafeRawBufferPointer(bytes), at: position)
    }
  }

  /// Copies all `count` bytes or says why not.
  private func move(
    _ count: Int, at position: Int, _ copy: () throws(MemoryError) -> CopyResult
  ) throws {
    let reason: MemoryError?
    do throws(MemoryError) {
      let result = try copy()
      guard result.length.rawValue < count else { return }
      reason = result.stop
    } catch {
      reason = error
    }
    throw Failure(
      "the \(settings.kind) iterator does not copy at byte \(position): "
        + "\(reason.map { "\($0)" } ?? "it has no more bytes").")
  }

  /// Hands out memory for one chunk of the range after the other.
  func inChunks(
    _ range: Range<Int>, _ body: (UnsafeMutableRawBufferPointer, _ position: Int) throws -> Void
  ) throws {
    let bytes = UnsafeMutableRawBufferPointer.allocate(
      byteCount: min(Self.chunk, range.count), alignment: pageSize)
    defer { unsafe bytes.deallocate() }
    var position = range.lowerBound
    while position < range.upperBound {
      let count = min(bytes.count, range.upperBound - position)
      try unsafe body(UnsafeMutableRawBufferPointer(rebasing: bytes[..<count]), position)
      position += count
    }
  }
}
