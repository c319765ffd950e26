//===----------------------------------------------------------------------===//
// FOLIOQ: a queue of folios. The kernel links nodes of 31 slots; where a node
// ends shows in no result, so this is one list.
//===----------------------------------------------------------------------===//

public import PageFrames

/// Whole folios, one behind the other (struct folio_queue).
///
/// A value: an iterator made from it sees the folios that were there then. Holds
/// nothing: whoever appends a folio keeps it alive.
public struct FolioQueue: Sendable {
  var folios: [QueuedFolio] = []

  public init() {}

  /// A queue of these folios; see `append`.
  public init(_ heads: [Page]) throws(MemoryError) {
    for head in heads { try append(head) }
  }

  /// Appends a folio (folio_queue_append).
  ///
  /// - Parameter head: its first page; its order is read now.
  /// - Throws: EINVAL for a page that is not its folio's first.
  public mutating func append(_ head: Page) throws(MemoryError) {
    guard let folio = QueuedFolio(head) else {
      throw MemoryError(.invalid, .notFolioHead, head.frameNumber.rawValue)
    }
    folios.append(folio)
  }

  /// Folios in the queue.
  public var count: Int { folios.count }
  /// The bytes of all folios.
  public var length: ByteCount {
    ByteCount(folios.reduce(into: 0) { sum, folio in sum += folio.byteLength })
  }
  /// The first page of a folio.
  /// - Precondition: 0 <= `index` < `count`.
  public subscript(index: Int) -> Page { folios[index].basePage }
}

/// A folio with the order it had when it was queued.
package struct QueuedFolio: Sendable, BitwiseCopyable {
  package let basePage: Page
  package let order: UInt64

  /// Nil for a page that is not its folio's first.
  package init?(_ head: Page) {
    let order = UInt64(head.folioOrder)
    guard head.frameNumber.rawValue & ((1 << order) - 1) == 0 else { return nil }
    self.basePage = head
    self.order = order
  }
}

extension QueuedFolio: PagedSegment {
  @inline(__always)
  var start: UInt64 { 0 }
  @inline(__always)
  var byteLength: Int { pageSize << Int(order) }
}
