//===----------------------------------------------------------------------===//
// What it costs to fault absent pages in, a run at a time, beside the host's own
// allocation of as many pages: of a memory file, which is what ours stand in, and
// of private memory.
//===----------------------------------------------------------------------===//

import CShims
import HostKernel
import SwiftGUP

/// Absent pages of a private area.
final class FaultBench {
  static let name = "fault-in"

  private let pages: Int
  private let space: AddressSpace
  private let start: UserAddress

  init(pages: Int, trap: TrapTier) throws {
    self.pages = pages
    do throws(MemoryError) {
      space = try AddressSpace(memory: PhysicalMemory(trapTier: trap))
      start = try space.map(length: PageCount(pages).byteCount)
    } catch {
      throw Failure("\(Self.name): no such buffer: \(error)")
    }
  }

  /// - Parameter progress: called after each round with the rounds done.
  func measure(rounds: Int, progress: (Int) -> Void) throws -> BenchRow {
    let ours = FaultContender(space, start, pages: pages)
    let columns = try takeTurns(
      [
        { ours }, { [pages] in try FileFaultContender(pages: pages) },
        { [pages] in try HostFaultContender(pages: pages) },
      ], pages: pages, rounds: rounds, progress: progress)
    return BenchRow(
      Self.name, pages: pages, \.take, ours: columns[0], floor: columns[1], host: columns[2],
      hostCalls: ours.hostCalls)
  }
}

/// MADV_POPULATE_WRITE of the emulated address space, and MADV_DONTNEED.
final class FaultContender: Contender {
  private let space: AddressSpace
  private let start: UserAddress
  private let length: ByteCount
  /// Host calls of the last time.
  private(set) var hostCalls = 0
  let blockLimit = 1

  init(_ space: AddressSpace, _ start: UserAddress, pages: Int) {
    self.space = space
    self.start = start
    length = PageCount(pages).byteCount
  }

  func take(_ count: Int) throws {
    let before = space.memory.counters.hostCalls
    try space.advise(start, length: length, .populateWrite)
    hostCalls = space.memory.counters.hostCalls - before
  }

  func give(_ count: Int) throws { try space.advise(start, length: length, .dontNeed) }
}

/// MADV_POPULATE_WRITE of a memory file's mapping, and a hole punched in the file.
@safe final class FileFaultContender: Contender {
  private let file: Int32
  private let size: UInt64
  private let bytes: UnsafeMutableRawPointer
  let blockLimit = 1

  init(pages: Int) throws(HostError) {
    unsafe (file, bytes) = try memoryFile(pages: pages)
    size = UInt64(PageCount(pages).byteCount.rawValue)
  }

  deinit {
    _ = unsafe cshims_unmap(UInt64(UInt(bitPattern: bytes)), size)
    _ = cshims_close(file)
  }

  func take(_ count: Int) throws {
    let error = unsafe cshims_populate_write(bytes, size)
    guard error == 0 else { throw Failure("populating memory failed with errno \(error).") }
  }

  func give(_ count: Int) throws {
    let error = cshims_memfd_punch(file, 0, size)
    guard error == 0 else { throw Failure("punching a hole failed with errno \(error).") }
  }
}

/// MADV_POPULATE_WRITE of private memory of 4 KiB pages, and MADV_DONTNEED.
final class HostFaultContender: Contender {
  private let buffer: HostBuffer
  let blockLimit = 1

  init(pages: Int) throws(HostError) {
    buffer = try HostBuffer(byteCount: PageCount(pages).byteCount.rawValue)
    try give(1)
  }

  func take(_ count: Int) throws {
    let error = unsafe cshims_populate_write(buffer.bytes.baseAddress, UInt64(buffer.byteCount))
    guard error == 0 else { throw Failure("populating memory failed with errno \(error).") }
  }

  func give(_ count: Int) throws(HostError) {
    let base = unsafe UInt64(UInt(bitPattern: buffer.bytes.baseAddress))
    let error = cshims_zap(base, UInt64(buffer.byteCount))
    guard error == 0 else { throw HostError(operation: "MADV_DONTNEED", errno: error, hint: "") }
  }
}

/// A file of memory, mapped, with none of its pages there.
func memoryFile(pages: Int) throws(HostError) -> (file: Int32, bytes: UnsafeMutableRawPointer) {
  let size = UInt64(PageCount(pages).byteCount.rawValue)
  var file: Int32 = -1
  var bytes: UnsafeMutableRawPointer?
  var error = unsafe cshims_memfd_create("bench", size, &file)
  if error == 0 {
    error = unsafe cshims_map_memfd(file, size, UInt64(CSHIMS_PAGE_SIZE), &bytes)
  }
  guard error == 0, let bytes = unsafe bytes else {
    if file >= 0 { _ = cshims_close(file) }
    throw HostError(operation: "a memory file of \(size) bytes", errno: error, hint: "")
  }
  return unsafe (file, bytes)
}
