//===----------------------------------------------------------------------===//
// FOLIOQ: a queue of folios of several sizes, from an odd byte of the first on.
//===----------------------------------------------------------------------===//

import SwiftGUP

final class FolioQueueMemory: KernelMemory {
  let settings: ExtractSettings
  private let folios: Folios
  private let queue: FolioQueue

  init(_ settings: ExtractSettings, in memory: PhysicalMemory) throws {
    self.settings = settings
    let pages = PageCount(covering: ByteCount(settings.size), from: oddOffset).rawValue
    folios = try Folios(memory, pages: pages)
    var queue = FolioQueue()
    let sizes = [0, 2, 1, 4, 0, Folios.largestOrder]
    var rest = pages
    while rest > 0 {
      let order = Folios.order(within: rest, atMost: sizes[queue.count % sizes.count])
      let head = try folios.take(order: order)
      do throws(MemoryError) {
        try queue.append(head)
      } catch {
        throw Failure("a folio of \(1 << order) pages cannot be queued: \(error).")
      }
      rest -= 1 << order
    }
    self.queue = queue
  }

  var memory: PhysicalMemory { folios.memory }
  var place: String { "of \(counted(queue.count, "folio"))" }
  var segmentCount: Int { 1 }

  func iterator(_ direction: Direction) throws(MemoryError) -> IOVIter {
    try IOVIter(
      folioQueue: queue, offset: ByteCount(oddOffset), count: ByteCount(settings.size),
      direction: direction, memory: memory, dialect: settings.dialect.dialect)
  }
}
