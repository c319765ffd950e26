//===----------------------------------------------------------------------===//
// Folios: physical memory that the program owns, of which an extraction job
// builds the buffers that are no user's.
//===----------------------------------------------------------------------===//

import SwiftGUP

/// Folios of one machine, held until this goes away.
final class Folios {
  let memory: PhysicalMemory
  private var heads: [Page] = []

  /// The largest that are taken: 2 MiB.
  static let largestOrder = 9

  /// - Parameter pages: how many will be taken in all.
  /// - Throws: what is wrong with `--size` or `--memory`.
  init(_ memory: PhysicalMemory, pages: Int) throws {
    self.memory = memory
    try memory.require(pages: PageCount(pages))
  }

  deinit { for head in heads { head.put() } }

  /// Takes one of 2^`order` pages.
  func take(order: Int) throws -> Page {
    do throws(MemoryError) {
      let head = try memory.allocatePage(order: order)
      heads.append(head)
      return head
    } catch {
      throw Failure(
        "--memory \(ByteSize(memory.capacity.rawValue)): no folio of \(1 << order) pages: "
          + "\(error).")
    }
  }

  /// The smallest order whose folios have so many bytes.
  static func order(covering bytes: Int) -> Int {
    var order = 0
    while pageSize << order < bytes { order += 1 }
    return order
  }

  /// The largest order whose folios have no more pages, and that is at most `limit`.
  static func order(within pages: Int, atMost limit: Int) -> Int {
    min(limit, Int.bitWidth - 1 - max(pages, 1).leadingZeroBitCount)
  }
}

extension PhysicalMemory {
  /// - Throws: what is wrong with `--size` or `--memory` if there are not so many free frames.
  func require(pages: PageCount) throws {
    guard pages <= freeFrameCount else {
      throw Failure(
        "the buffer needs \(pages) pages, but --memory \(ByteSize(capacity.rawValue)) has "
          + "\(freeFrameCount): ENOMEM, physical memory would be exhausted.")
    }
  }
}

extension Page {
  /// The pages of its folio.
  var folio: [Page] {
    let first = folioHead.frameNumber.rawValue
    return (first..<first + (1 << UInt64(folioOrder))).map { machine.page($0) }
  }
}
