//===----------------------------------------------------------------------===//
// A segment of physical memory (struct bio_vec).
//===----------------------------------------------------------------------===//

public import PageFrames

/// Bytes of consecutive pages (struct bio_vec).
///
/// Covers `length` bytes from byte `offset` of `page` on; both may reach beyond
/// that page, into the ones that follow it in physical memory. Holds nothing:
/// whoever makes one keeps the pages alive.
@frozen
public struct BVec: Hashable, Sendable, BitwiseCopyable {
  /// The page that `offset` counts from (bv_page).
  public var page: Page
  /// Bytes, from 0 (bv_len).
  public var length: Int
  /// Bytes from the page's start, from 0; a page and more is fine (bv_offset).
  public var offset: Int

  @inlinable
  public init(page: Page, offset: Int, length: Int) {
    self.page = page
    self.offset = offset
    self.length = length
  }
}
