//===----------------------------------------------------------------------===//
// The next piece of memory as scatter lists and span queries count pieces: a
// page's part of user memory or KVEC, a bvec, a folio.
//===----------------------------------------------------------------------===//

internal import PageFrames

extension IOVIter {
  /// Refuses kinds that have no such pieces, or none in this dialect.
  func checkSegments() throws(MemoryError) {
    guard kind != .pipe, kind != .discard else {
      throw MemoryError(.inputOutput, .unsupportedKind, Int(kind.rawValue))
    }
    guard isExtractable else {
      throw MemoryError(.badAddress, .unsupportedKind, Int(kind.rawValue))
    }
  }

  /// The next piece of a kind that holds nothing, up to the count; nil where
  /// the next page cannot be had. `count` > 0.
  var nextBVec: BVec? {
    switch backing {
    case .bvec(let segments): segments.piece(at: cursor)
    case .folioQueue(let segments): segments.piece(at: cursor)
    case .kvec(let segments):
      segments.part(at: cursor, memory.machine).map {
        BVec(page: $0.page, offset: $0.offset, length: $0.length)
      }
    case .xarray(let range): range.piece(at: cursor, memory.machine)
    case .ubuf, .iovec, .pipe, .discard: nil
    }
  }

  /// The bytes of the next piece, nil where it cannot be had. `count` > 0.
  var nextSegmentLength: Int? {
    switch backing {
    case .ubuf(let buffer): pagePart(buffer.stretch(at: cursor))
    case .iovec(let segments): pagePart(segments.stretch(at: cursor))
    default: nextBVec?.length
    }
  }

  private func pagePart(_ stretch: Stretch) -> Int {
    min(stretch.length, pageSize - Int(stretch.start & 0xfff))
  }

  /// Why there is no next piece of a kind that holds nothing. Nil when it has
  /// come meanwhile: an index may change while we look.
  func stopHere() throws(MemoryError) -> ExtractionStop? {
    var probe = self
    var list = try PageBuffer(capacity: 1)
    let result = try probe.extractPages(into: &list, maxSize: 1)
    return result.length > 0 ? nil : result.stop
  }
}

extension Segments where Element: PagedSegment {
  /// What is left of the segment at the cursor. `count` > 0.
  fileprivate func piece(at cursor: Cursor) -> BVec {
    let (index, offset) = skipExhausted(cursor)
    return BVec(
      page: list[index].basePage, offset: Int(truncatingIfNeeded: list[index].start) + offset,
      length: min(list[index].byteLength - offset, cursor.count))
  }
}

extension FileRange {
  /// What is left of the folio at the cursor, as far as its entry covers it
  /// (F-21: from this position, not from the folio's start). `count` > 0.
  fileprivate func piece(at cursor: Cursor, _ machine: Machine) -> BVec? {
    guard let part = try? part(at: cursor, machine) else { return nil }
    var pages = 1
    let index = position(at: cursor) >> 12
    let head = part.page.folioHead
    if part.page.folioOrder > 0, let item = self.pages.item(at: index),
      item.entry.page?.folioHead == head
    {
      let behind = (1 << UInt64(head.folioOrder)) - (part.page.frame - head.frame)
      pages = Int(min(item.last - index + 1, behind))
    }
    return BVec(
      page: part.page, offset: part.offset,
      length: min(cursor.count, pages << pageShift - part.offset))
  }
}
