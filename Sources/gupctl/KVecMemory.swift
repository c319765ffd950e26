//===----------------------------------------------------------------------===//
// KVEC: segments of the library's own addresses. By turns they lie in the
// window, where frames are consecutive, and in a virtual mapping whose pages are
// in the opposite order of their folios.
//===----------------------------------------------------------------------===//

import SwiftGUP

final class KVecMemory: KernelMemory {
  let settings: ExtractSettings
  private let folios: Folios
  private let mappings: [VirtualMapping]
  private let segments: [KVec]

  /// The most folios of one mapping, or so: each is a mapping of the host's.
  private static let scatter = 32

  /// What a segment is to be.
  private struct Piece {
    let length: Int
    let isInWindow: Bool

    var order: Int { Folios.order(covering: oddOffset + length) }
    /// Pages that it takes.
    var pages: Int {
      isInWindow ? 1 << order : (oddOffset + length + pageSize - 1) / pageSize
    }
  }

  init(_ settings: ExtractSettings, in memory: PhysicalMemory) throws {
    self.settings = settings
    let pieces = Self.pieces(settings)
    folios = try Folios(memory, pages: pieces.reduce(0) { $0 + $1.pages })
    var mappings: [VirtualMapping] = []
    var segments: [KVec] = []
    for piece in pieces {
      let bytes: UnsafeMutableRawBufferPointer
      if piece.isInWindow {
        unsafe bytes = try folios.take(order: piece.order).bytes
      } else {
        let mapping = try Self.mapping(pages: piece.pages, of: folios)
        mappings.append(mapping)
        unsafe bytes = mapping.bytes
      }
      let base = unsafe bytes.baseAddress.unsafelyUnwrapped + oddOffset
      unsafe segments.append(KVec(base: base, length: piece.length))
    }
    self.mappings = mappings
    self.segments = segments
  }

  /// Every other one is in the window, as far as a folio reaches.
  private static func pieces(_ settings: ExtractSettings) -> [Piece] {
    let most = pageSize << Folios.largestOrder - pageSize
    let lengths = unevenLengths(of: settings.size, in: settings.segmentCount)
    return lengths.enumerated().flatMap { index, length in
      let first = Piece(
        length: index % 2 == 0 ? min(length, most) : length, isInWindow: index % 2 == 0)
      guard first.length < length else { return [first] }
      return [first, Piece(length: length - first.length, isInWindow: false)]
    }
  }

  private static func mapping(pages: Int, of folios: Folios) throws -> VirtualMapping {
    let order = Folios.order(within: pages / scatter, atMost: Folios.largestOrder)
    var heads: [Page] = []
    var rest = pages
    while rest > 0 {
      let head = try folios.take(order: Folios.order(within: rest, atMost: order))
      heads.append(head)
      rest -= 1 << head.folioOrder
    }
    do throws(MemoryError) {
      return try VirtualMapping(heads.reversed().flatMap(\.folio), memory: folios.memory)
    } catch {
      throw Failure("no virtual mapping of \(counted(pages, "page")): \(error).")
    }
  }

  var memory: PhysicalMemory { folios.memory }
  var place: String {
    mappings.isEmpty
      ? "in the window" : "in the window and \(counted(mappings.count, "virtual mapping"))"
  }
  var segmentCount: Int { segments.count }

  func iterator(_ direction: Direction) throws(MemoryError) -> IOVIter {
    try IOVIter(
      kvec: segments, direction: direction, memory: memory, dialect: settings.dialect.dialect)
  }
}
