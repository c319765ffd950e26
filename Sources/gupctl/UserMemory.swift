//===----------------------------------------------------------------------===//
// The user buffer of an extraction job: where it lies, how it is cut into
// segments, and the program's own pointer for it.
//===----------------------------------------------------------------------===//

import SwiftGUP

/// A buffer in an address space, unmapped at its end (UBUF and IOVEC).
final class UserMemory: ExtractMemory {
  private let settings: ExtractSettings
  private let space: AddressSpace
  /// Where the mapping starts.
  private let mapping: UserAddress
  private let mappingLength: ByteCount
  /// Where the buffer starts: not at a page's start when it is cut into segments.
  private let start: UserAddress

  /// - Throws: what is wrong with `--size`, `--memory` or `--trap`.
  init(_ settings: ExtractSettings, in memory: PhysicalMemory) throws {
    let space = try Self.makeSpace(memory)
    let skip = settings.kind == .iovec ? oddOffset : 0
    let pages = PageCount(covering: ByteCount(settings.size), from: skip)
    try memory.require(pages: pages)
    do throws(MemoryError) {
      mapping = try space.map(length: pages.byteCount)
    } catch {
      throw Failure("the buffer of \(settings.size) bytes cannot be mapped: \(error).")
    }
    mappingLength = pages.byteCount
    self.settings = settings
    self.space = space
    start = mapping + ByteCount(skip)
  }

  deinit { try? space.unmap(mapping, length: mappingLength) }

  /// - Throws: what is wrong with `--trap`.
  static func makeSpace(_ memory: PhysicalMemory) throws -> AddressSpace {
    do throws(MemoryError) {
      return try AddressSpace(memory: memory)
    } catch {
      guard error.reason == .trapUnavailable else { throw Failure("no address space: \(error)") }
      throw Failure(
        "--trap \(TrapName(memory.trapTier)) does not work here",
        errno: Int32(truncatingIfNeeded: error.value))
    }
  }

  var memory: PhysicalMemory { space.memory }
  var place: String { "at \(start)" }
  var segmentCount: Int { settings.segmentCount }

  func populate() throws {
    if settings.populates { try advise(.populateWrite) }
  }

  func fill(from source: ByteSource) throws {
    try advise(.populateWrite)
    try unsafe inChunks(0..<settings.size) { bytes, position in
      try unsafe source.fill(bytes, at: position)
    }
  }

  func drain(_ range: Range<Int>, to sink: inout some ByteSink) throws {
    try advise(.populateRead)
    try unsafe inChunks(range) { bytes, position in
      try unsafe sink.take(UnsafeRawBufferPointer(bytes), at: position)
    }
  }

  func iterator(from position: Int) throws -> IOVIter {
    let direction = settings.way.direction
    let dialect = settings.dialect.dialect
    do throws(MemoryError) {
      var iterator =
        settings.kind == .iovec
        ? try IOVIter(iovec: segments, direction: direction, in: space, dialect: dialect)
        : try IOVIter(
          ubuf: start, count: ByteCount(settings.size), direction: direction, in: space,
          dialect: dialect)
      iterator.noFault = settings.noFault
      try iterator.advance(by: ByteCount(position))
      return iterator
    } catch {
      throw Failure("no iterator over \(counted(segmentCount, "segment")): \(error).")
    }
  }

  private func advise(_ advice: Advice) throws {
    do throws(MemoryError) {
      try space.advise(mapping, length: mappingLength, advice)
    } catch {
      throw Failure("the buffer of \(settings.size) bytes cannot be made present: \(error).")
    }
  }

  /// The buffer in pieces of uneven lengths, most of which start at odd addresses.
  private var segments: [UserSegment] {
    var base = start
    return unevenLengths(of: settings.size, in: settings.segmentCount).map { length in
      defer { base = base + ByteCount(length) }
      return UserSegment(base: base, length: ByteCount(length))
    }
  }

  /// Hands out the program's own view of a range, a chunk at a time.
  private func inChunks(
    _ range: Range<Int>, _ body: (UnsafeMutableRawBufferPointer, _ position: Int) throws -> Void
  ) throws {
    let base = unsafe space.pointer(at: start)
    var position = range.lowerBound
    while position < range.upperBound {
      let count = min(Self.chunk, range.upperBound - position)
      try unsafe body(
        UnsafeMutableRawBufferPointer(start: base + position, count: count), position)
      position += count
    }
  }
}
