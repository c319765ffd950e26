//===----------------------------------------------------------------------===//
// What adoption and release cost a page, beside the least that they can be: one
// copy of the bytes, and one mmap(2) over them. Both work on private anonymous
// memory of this program's, each on memory of its own.
//===----------------------------------------------------------------------===//

import CShims
import HostKernel
import SwiftGUP

/// A buffer whose pages are all there. Refused adoption leaves its column empty.
final class AdoptionBench {
  private let pages: Int
  private let trap: TrapTier
  private let space: AddressSpace

  init(pages: Int, trap: TrapTier) throws {
    self.pages = pages
    self.trap = trap
    do throws(MemoryError) {
      space = try AddressSpace(memory: PhysicalMemory(trapTier: trap))
    } catch {
      throw Failure("\(BenchRow.adoptionNames[0]): no such address space: \(error)")
    }
  }

  /// - Parameter progress: called after each round with the rounds done.
  func measure(rounds: Int, progress: (Int) -> Void) throws -> [BenchRow] {
    var columns = try takeTurns(
      [
        { [space, pages] in try AdoptionContender(space, pages: pages) },
        { [pages] in try AdoptionRoofline(pages: pages) },
      ], pages: pages, rounds: rounds, progress: progress)
    if trap == .none, columns[0].why != nil {
      columns[0].why = "EOPNOTSUPP: without a trap nothing can hold stores up."
    }
    return BenchRow.adoption(pages: pages, ours: columns[0], floor: columns[1])
  }
}

/// Adopts a buffer, and releases it.
final class AdoptionContender: Contender {
  private let space: AddressSpace
  private let buffer: HostBuffer
  private var adopted: AdoptedRange?
  let blockLimit = 1

  init(_ space: AddressSpace, pages: Int) throws(HostError) {
    self.space = space
    buffer = try HostBuffer(byteCount: PageCount(pages).byteCount.rawValue)
  }

  func take(_ count: Int) throws {
    // The buffer has a base: it is not empty.
    adopted = try unsafe space.adopt(
      UnsafeRawPointer(buffer.bytes.baseAddress.unsafelyUnwrapped),
      length: ByteCount(buffer.byteCount))
  }

  func give(_ count: Int) throws {
    if let adopted = adopted.take() { try space.release(adopted) }
  }
}

/// The C functions, on a file of memory that stands in for the machine's frames.
@safe final class AdoptionRoofline: Contender {
  private let buffer: HostBuffer
  private let file: Int32
  private let frames: UnsafeMutableRawPointer
  let blockLimit = 1

  init(pages: Int) throws(HostError) {
    let size = PageCount(pages).byteCount.rawValue
    buffer = try HostBuffer(byteCount: size)
    unsafe (file, frames) = try memoryFile(pages: pages)
    // Whatever is lacking then is made by the first copy.
    _ = unsafe cshims_populate_write(frames, UInt64(size))
  }

  deinit {
    _ = unsafe cshims_unmap(UInt64(UInt(bitPattern: frames)), UInt64(buffer.byteCount))
    _ = cshims_close(file)
  }

  func take(_ count: Int) throws {
    let error = unsafe cshims_roofline_adopt(
      buffer.bytes.baseAddress, buffer.pageCount, frames, file)
    guard error == 0 else { throw Failure("mmap failed with errno \(error).") }
  }

  func give(_ count: Int) throws {
    let error = unsafe cshims_roofline_release(
      buffer.bytes.baseAddress, buffer.pageCount, frames)
    guard error == 0 else { throw Failure("mmap failed with errno \(error).") }
  }
}
