//===----------------------------------------------------------------------===//
// What an extraction did: how much, and what it holds.
//===----------------------------------------------------------------------===//

internal import GUP
public import PageFrames

/// What an extraction put into a list of the caller's.
///
/// Owes what `retention` says for each of the first `pageCount` slots: `release`
/// pays it, or the calls of GUP do. Never releases by itself; see `Extraction`
/// for a form that does.
public struct ExtractionResult: Equatable, Sendable {
  /// Bytes extracted, 0 for nothing. The iterator has advanced by as many.
  public let length: ByteCount
  /// Where they start in the first page: 0 ... 4095. Later pages start at 0.
  public let offset: Int
  /// Slots in use: ceil(offset + length) pages.
  public let pageCount: Int
  private let outcome: PackedOutcome
  /// What a pipe knows of it, until it is released.
  let listing: PipeListingHandle?

  @inline(__always)
  init(
    length: Int, offset: Int, pageCount: Int, _ outcome: PackedOutcome,
    listing: PipeListingHandle? = nil
  ) {
    self.length = ByteCount(length)
    self.offset = offset
    self.pageCount = pageCount
    self.outcome = outcome
    self.listing = listing
  }

  /// What is held on each page.
  public var retention: Retention { outcome.retention }
  /// Which way the data goes.
  public var direction: Direction { outcome.direction }
  /// Why it ended there.
  public var stop: ExtractionStop { outcome.stop }

  /// Drops what is held on the pages: put or unpin, or nothing. Tells the pipe,
  /// if they are in one.
  ///
  /// - Parameters:
  ///   - pages: the list that was filled, from its first slot. The slots keep
  ///     their values; nil ones are skipped.
  ///   - dirty: the device wrote: marks the pages dirty first. Ignored for a
  ///     source, whose pages no device may have written.
  /// - Precondition: `pages` has at least `pageCount` slots, and this was not
  ///   done before for these.
  /// - Complexity: O(pages).
  public func release(_ pages: UnsafeMutableBufferPointer<Page?>, dirty: Bool = false) {
    precondition(pages.count >= pageCount, "list is shorter than the extraction")
    guard let slots = pages.baseAddress else { return }
    let dirty = dirty && direction == .destination
    switch retention {
    case .unretained:
      if dirty {
        for index in 0..<pageCount { unsafe slots[index]?.markDirty() }
      }
      listing?.end()
    case .referenced:
      unsafe putPages(slots, count: pageCount)
    case .pinned:
      unsafe unpinUserPagesDirtyLock(slots, count: pageCount, dirty: dirty)
    }
  }

  /// Ends what a pipe knows of it, though its pages may be in use on: for
  /// callers who have no call at which they are done with them.
  package func forget() { listing?.end() }

  /// The same for a list in a buffer; leaves the buffer as it is.
  public func release(_ pages: borrowing PageBuffer, dirty: Bool = false) {
    unsafe release(
      UnsafeMutableBufferPointer(start: pages.baseAddress, count: pages.count), dirty: dirty)
  }

  /// The bytes of slot `index`: where they start in the page, and how many.
  @inline(__always)
  func extent(ofSlot index: Int) -> (offset: Int, length: Int) {
    let start = index == 0 ? offset : 0
    return (start, min(pageSize, offset + length.rawValue - index << pageShift) - start)
  }
}
