//===----------------------------------------------------------------------===//
// What a transfer asks an iterator before it starts: how many pages, how
// aligned (semantics A.8.5 and A.8.6).
//===----------------------------------------------------------------------===//

public import PageFrames

extension IOVIter {
  /// The page slots that all its bytes need (iov_iter_npages). A page that two
  /// neighbouring segments share counts twice, and a bvec without bytes that
  /// starts inside a page counts one. For a pipe the buffers that can still be
  /// filled, whatever the count; 0 for a discard.
  ///
  /// - Parameter maxPages: the answer is never more; negative means 0.
  /// - Complexity: O(segments).
  public func pageCount(maxPages: PageCount = .unlimited) -> PageCount {
    guard cursor.count > 0, maxPages > 0 else { return 0 }
    let limit = maxPages.rawValue
    let pages =
      switch backing {
      case .iovec(let segments): segments.pageCount(at: cursor, limit: limit, countingEmpty: false)
      case .kvec(let segments): segments.pageCount(at: cursor, limit: limit, countingEmpty: false)
      case .bvec(let segments): segments.pageCount(at: cursor, limit: limit, countingEmpty: true)
      case .ubuf, .xarray, .folioQueue:
        min(PageExtraction.pages(covering: cursor.count, from: whole ?? 0), limit)
      case .pipe(let place): place.pageCount(at: cursor, limit: limit)
      case .discard: 0
      }
    return PageCount(pages)
  }

  /// Do the starts and lengths of all parts miss these masks
  /// (iov_iter_is_aligned)? A part without bytes is asked for its start too.
  /// Bvecs start at their offsets, a page cache at its position. Always true for
  /// a discard.
  public func isAligned(addressMask: UInt64, lengthMask: UInt64) -> Bool {
    switch backing {
    case .iovec(let segments):
      segments.isAligned(at: cursor, startMask: addressMask, lengthMask: lengthMask)
    case .kvec(let segments):
      segments.isAligned(at: cursor, startMask: addressMask, lengthMask: lengthMask)
    case .bvec(let segments):
      segments.isAligned(at: cursor, startMask: addressMask, lengthMask: lengthMask)
    case .ubuf, .xarray, .folioQueue, .pipe:
      UInt64(cursor.count) & lengthMask == 0 && (whole ?? 0) & addressMask == 0
    case .discard: true
    }
  }

  /// The bits of all starts and lengths that will be used (iov_iter_alignment);
  /// 0 when the count is 0. Bvecs without bytes are asked too.
  public var alignment: UInt64 {
    guard cursor.count > 0 else { return 0 }
    return switch backing {
    case .iovec(let segments): segments.alignment(at: cursor, countingEmpty: false)
    case .kvec(let segments): segments.alignment(at: cursor, countingEmpty: false)
    case .bvec(let segments): segments.alignment(at: cursor, countingEmpty: true)
    case .ubuf, .xarray, .folioQueue, .pipe: (whole ?? 0) | UInt64(cursor.count)
    case .discard: 0
    }
  }

  /// The bits of all inner boundaries: each start but the first, each end but
  /// the last (iov_iter_gap_alignment). 0 where there is no boundary; all bits
  /// for kinds that are not user memory, which the kernel warns about.
  public var gapAlignment: UInt64 {
    switch backing {
    case .ubuf: 0
    case .iovec(let segments): segments.gapAlignment(at: cursor)
    default: .max
    }
  }

  /// Where the bytes of a kind start that is described as one whole.
  private var whole: UInt64? {
    switch backing {
    case .ubuf(let buffer): buffer.stretch(at: cursor).start
    case .xarray(let range): range.position(at: cursor)
    case .folioQueue: UInt64(cursor.offset)
    case .pipe: UInt64(max(0, cursor.offset))
    case .iovec, .bvec, .kvec, .discard: nil
    }
  }
}
