//===----------------------------------------------------------------------===//
// Extraction: pages that an iterator gave up, owned by one value until they are
// released. One allocation, for the list; nothing is counted or allocated per
// page beyond what GUP holds.
//===----------------------------------------------------------------------===//

internal import CShims
public import PageFrames

/// A part of an extraction within one page.
public struct PageSegment: Equatable, Sendable {
  public let page: Page
  /// Where the part starts in the page: 0 ... 4095.
  public let offset: Int
  /// Its bytes: 1 ... 4096.
  public let length: ByteCount

  public init(page: Page, offset: Int, length: ByteCount) {
    self.page = page
    self.offset = offset
    self.length = length
  }
}

/// Extracted pages and what is held on them.
///
/// Move-only: one owner releases them, by `release(dirty:)` or by letting the
/// value go, which releases what was forgotten as not dirty. The machine lives
/// at least as long. Reading is safe from any thread.
@safe
public struct Extraction: ~Copyable, @unchecked Sendable {
  /// The machine that the pages belong to.
  public let memory: PhysicalMemory
  /// How much, why it ended, what is held.
  public let result: ExtractionResult
  /// The list, freed with the value; nil for an empty extraction, which
  /// allocates nothing.
  @usableFromInline
  let slots: UnsafeMutablePointer<Page?>?
  private var releasesDirty = false

  /// - Parameter slots: what was filled, its own from now on; nil for an empty
  ///   result.
  @inline(__always)
  init(
    _ result: ExtractionResult, slots: UnsafeMutablePointer<Page?>?, memory: PhysicalMemory
  ) {
    self.memory = memory
    self.result = result
    unsafe self.slots = slots
  }

  /// Drops what is held and frees the list.
  ///
  /// - Parameter dirty: the device wrote: marks the pages dirty before they are
  ///   let go. Ignored for a source.
  /// - Complexity: O(pages).
  public consuming func release(dirty: Bool = false) {
    releasesDirty = dirty
  }

  deinit {
    guard let slots = unsafe slots else { return }
    unsafe result.release(
      UnsafeMutableBufferPointer(start: slots, count: result.pageCount), dirty: releasesDirty)
    unsafe cshims_free(slots)
  }
}

extension Extraction {
  /// Bytes extracted, 0 for nothing.
  public var length: ByteCount { result.length }
  /// Where they start in the first page: 0 ... 4095. Later pages start at 0.
  public var offset: Int { result.offset }
  /// What is held on each page, and dropped at release.
  public var retention: Retention { result.retention }
  /// Which way the data goes.
  public var direction: Direction { result.direction }
  /// Why it ended where it did.
  public var stop: ExtractionStop { result.stop }
  public var isEmpty: Bool { result.pageCount == 0 }
  /// Pages listed: ceil(offset + length).
  @inlinable
  public var pageCount: Int { result.pageCount }

  /// The page of a slot.
  /// - Precondition: 0 <= `index` < `pageCount`.
  @inlinable
  public subscript(index: Int) -> Page {
    precondition(index >= 0 && index < result.pageCount, "no such page in this extraction")
    return unsafe slots.unsafelyUnwrapped[index].unsafelyUnwrapped
  }

  /// The part of the extraction that lies in the page of a slot.
  /// - Precondition: 0 <= `index` < `pageCount`.
  public func segment(at index: Int) -> PageSegment {
    let extent = result.extent(ofSlot: index)
    return PageSegment(
      page: self[index], offset: extent.offset, length: ByteCount(extent.length))
  }

  /// Calls `body` with each page's part in order.
  @inlinable
  public func forEachSegment<E: Error>(
    _ body: (PageSegment) throws(E) -> Void
  ) throws(E) {
    for index in 0..<result.pageCount { try body(segment(at: index)) }
  }
}
