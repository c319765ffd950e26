//===----------------------------------------------------------------------===//
// BVEC: segments of physical memory. Each has a folio of its own, and starts at
// an odd offset in it, beyond the folio's first page where it has several.
//===----------------------------------------------------------------------===//

import SwiftGUP

final class BVecMemory: KernelMemory {
  let settings: ExtractSettings
  private let folios: Folios
  private let segments: [BVec]

  init(_ settings: ExtractSettings, in memory: PhysicalMemory) throws {
    self.settings = settings
    // A segment lies in one folio: longer pieces are cut again.
    let most = pageSize << Folios.largestOrder - 2 * pageSize
    let lengths = unevenLengths(of: settings.size, in: settings.segmentCount).flatMap { length in
      stride(from: 0, to: max(length, 1), by: most).map { min(most, length - $0) }
    }
    func offset(_ index: Int) -> Int { index % 3 == 0 ? pageSize + oddOffset : index * 61 % 4096 }
    func order(_ index: Int) -> Int { Folios.order(covering: offset(index) + lengths[index]) }
    folios = try Folios(memory, pages: lengths.indices.reduce(0) { $0 + 1 << order($1) })
    var segments: [BVec] = []
    for index in lengths.indices {
      segments.append(
        BVec(
          page: try folios.take(order: order(index)), offset: offset(index),
          length: lengths[index]))
    }
    self.segments = segments
  }

  var memory: PhysicalMemory { folios.memory }
  var place: String { "from frame \(segments[0].page.frameNumber) on" }
  var segmentCount: Int { segments.count }

  func iterator(_ direction: Direction) throws(MemoryError) -> IOVIter {
    try IOVIter(
      bvec: segments, direction: direction, memory: memory, dialect: settings.dialect.dialect)
  }
}
