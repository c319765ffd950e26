//===----------------------------------------------------------------------===//
// PIPE: a ring that extraction appends pages to and a reader takes them from. It
// is smaller than most files, so the two take turns.
//===----------------------------------------------------------------------===//

import SwiftGUP

final class PipeMemory: KernelMemory {
  let settings: ExtractSettings
  private let pipe: Pipe

  init(_ settings: ExtractSettings, in memory: PhysicalMemory) throws {
    self.settings = settings
    do throws(MemoryError) {
      pipe = try Pipe(memory: memory)
    } catch {
      throw Failure("no pipe: \(error).")
    }
    try memory.require(
      pages: min(PageCount(pipe.capacity), PageCount(covering: ByteCount(settings.size))))
  }

  var memory: PhysicalMemory { pipe.memory }
  var place: String { "with room for \(counted(pipe.capacity, "page"))" }
  var segmentCount: Int { 1 }
  var isFull: Bool { pipe.bufferCount == pipe.capacity }

  func iterator(_ direction: Direction) throws(MemoryError) -> IOVIter {
    try IOVIter(
      pipe: pipe, count: ByteCount(settings.size), direction: direction,
      dialect: settings.dialect.dialect)
  }

  /// A ring's iterator stands where the ring ends: there is nothing to advance over.
  func iterator(from position: Int) throws -> IOVIter {
    do throws(MemoryError) {
      var iterator = try iterator(settings.way.direction)
      try iterator.truncate(to: ByteCount(settings.size - position))
      return iterator
    } catch {
      throw Failure("no pipe iterator: \(error).")
    }
  }

  /// What a reader sees. Pages that are used up go.
  func drain(_ range: Range<Int>, to sink: inout some ByteSink) throws {
    try unsafe inChunks(range) { bytes, position in
      let count = unsafe pipe.read(into: bytes).rawValue
      guard count == bytes.count else {
        throw Failure("the pipe has no bytes from byte \(position + count) on.")
      }
      try unsafe sink.take(UnsafeRawBufferPointer(bytes), at: position)
    }
    guard pipe.hazardCount == 0 else {
      throw Failure("\(counted(pipe.hazardCount, "page")) left the pipe under a transfer.")
    }
  }
}
