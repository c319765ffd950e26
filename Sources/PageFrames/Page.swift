//===----------------------------------------------------------------------===//
// Page: one frame's descriptor as a value (the kernel's struct page *), and
// what can be read off it. Counting lives in PageReferences.swift.
//===----------------------------------------------------------------------===//

public import CShims

/// A page of a machine's physical memory. Copying it does not count.
///
/// The same layout as a C pointer, so `[Page?]` is a `struct page **`. Valid as
/// long as the machine; what it reads is a snapshot. Thread-safe.
@frozen @safe
public struct Page: @unchecked Sendable {
  public let descriptor: UnsafeMutablePointer<cshims_page>

  @inlinable
  public init(_ descriptor: UnsafeMutablePointer<cshims_page>) {
    unsafe self.descriptor = descriptor
  }

  @inlinable
  public var machine: Machine { Machine(of: self) }

  /// Does the page's machine belong to this process?
  @inlinable
  public var isOwn: Bool {
    unsafe cshims_membership_of(descriptor) != CSHIMS_MACHINE_FOREIGN.rawValue
  }

  /// The frame's number (page_to_pfn).
  @inlinable
  public var frameNumber: PageFrameNumber { PageFrameNumber(frame) }

  @inlinable
  package var frame: UInt64 {
    unsafe UInt64(descriptor - cshims_machine_of(descriptor).pointee.pages)
  }

  /// The page's 4,096 bytes through the window (page_address). Reading and
  /// writing them is what a device does: no fault, no protection. The window is
  /// not inherited: in a child made by fork(2) touching them is its SIGSEGV.
  public var bytes: UnsafeMutableRawBufferPointer {
    unsafe UnsafeMutableRawBufferPointer(
      start: machine.address(ofFrame: frame), count: pageSize)
  }

  @inlinable
  public var flags: UInt32 { unsafe cshims_page_flags(descriptor) }

  /// log2 of the pages in the folio this page belongs to.
  @inlinable
  public var folioOrder: Int {
    Int((flags & CSHIMS_PAGE_ORDER_MASK) >> CSHIMS_PAGE_ORDER_SHIFT)
  }

  /// The first page of this page's folio (compound_head); folios are aligned to
  /// their size.
  public var folioHead: Page {
    let order = folioOrder
    guard order > 0 else { return self }
    return machine.page(frame & ~((1 << UInt64(order)) - 1))
  }

  /// References, pins included as C.4 counts them: 1,024 for each on an order-0
  /// page. 0 for a frame that nobody holds (page_ref_count of the folio).
  public var referenceCount: Int {
    let raw = unsafe cshims_page_ref_load(folioHead.descriptor)
    return raw <= CSHIMS_REF_HELD_MAX ? Int(raw) : 0
  }

  /// Exact pins of a large folio. Order-0 pages have no exact count: it reads
  /// as the count divided by 1,024.
  public var pinCount: Int {
    let head = folioHead
    return head.folioOrder > 0
      ? Int(unsafe cshims_page_pin_load(head.descriptor)) : referenceCount >> 10
  }

  /// Page-table entries that show this very page, 2 MiB leaves included
  /// (page_mapcount).
  public var mapCount: Int {
    let head = folioHead
    let leaves = head.folioOrder > 0 ? unsafe cshims_page_leaf_load(head.descriptor) : 0
    return Int(unsafe cshims_page_map_load(descriptor) + leaves)
  }

  /// Page-table entries that show any page of the folio, a leaf counting once
  /// (folio_mapcount). Each holds a reference. - Complexity: O(pages of the folio).
  public var folioMapCount: Int {
    let head = folioHead
    let order = head.folioOrder
    guard order > 0 else { return mapCount }
    var count = unsafe cshims_page_leaf_load(head.descriptor)
    for i in 0..<(1 << order) { count += unsafe cshims_page_map_load(head.descriptor + i) }
    return Int(count)
  }

  /// May a pin be held? Exact on large folios; on order-0 pages 1,024 plain
  /// references look the same (folio_maybe_dma_pinned, C.4).
  public var mayBePinned: Bool {
    let head = folioHead
    if head.folioOrder > 0 { return unsafe cshims_page_pin_load(head.descriptor) > 0 }
    let raw = unsafe cshims_page_ref_load(head.descriptor)
    return raw >= CSHIMS_PIN_BIAS && raw <= CSHIMS_REF_HELD_MAX
  }

  @inlinable
  public var isZeroPage: Bool { flags & CSHIMS_PAGE_ZERO != 0 }
  public var isAnonymous: Bool { folioHead.flags & CSHIMS_PAGE_ANON != 0 }
  /// Only one address space maps it, and may write to it (PageAnonExclusive).
  public var isAnonymousExclusive: Bool { flags & CSHIMS_PAGE_ANON_EXCLUSIVE != 0 }
  /// Written to since it was last known clean (folio_test_dirty).
  public var isDirty: Bool { folioHead.flags & CSHIMS_PAGE_DIRTY != 0 }
  /// The allocator owns it: nobody may hold a count.
  public var isFree: Bool {
    unsafe cshims_page_ref_load(folioHead.descriptor) > CSHIMS_REF_HELD_MAX
  }

  /// Marks the folio dirty (folio_mark_dirty). Returns whether it was clean.
  @discardableResult
  public func markDirty() -> Bool {
    unsafe cshims_page_set_flags(folioHead.descriptor, CSHIMS_PAGE_DIRTY) & CSHIMS_PAGE_DIRTY == 0
  }
}

extension Page: Hashable {
  @inlinable
  public static func == (a: Page, b: Page) -> Bool { unsafe a.descriptor == b.descriptor }
  public func hash(into hasher: inout Hasher) {
    unsafe hasher.combine(UInt(bitPattern: descriptor))
  }
}

extension Page: CustomStringConvertible {
  public var description: String {
    "\(frameNumber) refs \(referenceCount) pins \(pinCount) maps \(mapCount)"
  }
}
