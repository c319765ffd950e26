//===----------------------------------------------------------------------===//
// What a bvec covers, page by page.
//===----------------------------------------------------------------------===//

public import PageFrames

extension BVec {
  /// The page that its first byte lies in.
  public var firstPage: Page { unsafe Page(page.descriptor + offset >> pageShift) }

  /// The pages that it touches: the holds that a bvec of its own pages has, 0
  /// without bytes.
  public var pageCount: Int {
    guard length > 0 else { return 0 }
    return (offset + length - 1) >> pageShift - offset >> pageShift + 1
  }

  /// Calls `body` with each page's part in order.
  public func forEachSegment<E: Error>(_ body: (PageSegment) throws(E) -> Void) throws(E) {
    var position = offset
    let end = offset + length
    while position < end {
      let start = position & (pageSize - 1)
      let part = min(pageSize - start, end - position)
      let page = unsafe Page(page.descriptor + position >> pageShift)
      try body(PageSegment(page: page, offset: start, length: ByteCount(part)))
      position += part
    }
  }

  /// Marks the folios that it touches dirty, one flag each.
  func markFoliosDirty() {
    var index = 0
    while index < pageCount {
      let next = unsafe Page(firstPage.descriptor + index)
      next.markDirty()
      let size = 1 << next.folioOrder
      index += size - Int(next.frameNumber.rawValue) & (size - 1)
    }
  }
}
