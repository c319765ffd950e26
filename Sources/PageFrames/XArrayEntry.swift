//===----------------------------------------------------------------------===//
// What a slot of an XArray holds: one word, told apart by its low bits.
//
//   ...00             nothing (0), or a page: the address of its descriptor
//   ...1              a value of 63 bits
//   ...10             the array's own, by the low nine bits:
//     0 0000 0010     a node; its address, a multiple of 512, is above them
//     0 0000 0110     a slot of a node that was taken out of the tree while
//                     readers may still stand in it
//     0 0000 1010     retry
//     0 0000 1110     reserved
//     1 oooo oo10     a sibling of the slot at offset o; above them the number
//                     of the store that tied it, so that no two ties look alike
//===----------------------------------------------------------------------===//

public import CShims

/// One entry of an `XArray`, by value: it holds no count on a page.
@frozen
@safe
public struct XArrayEntry: Equatable, Sendable, BitwiseCopyable {
  /// What an entry is.
  @frozen
  public enum Kind: Equatable, Sendable {
    /// Nothing there: a hole.
    case empty
    /// A page's descriptor.
    case page
    /// An integer in place of a page: a shadow, a swap slot, a DAX entry.
    case value
    /// The entry is being changed: load the same index again.
    case retry
    /// A slot kept for a later store; nothing for whoever looks (the kernel's
    /// zero entry).
    case reserved
    /// A slot that belongs to an entry of several indices. `load` never returns
    /// it: it finds the entry.
    case sibling
  }

  /// The word as it stands in the slot.
  public let word: UInt64

  @inlinable
  internal init(word: UInt64) { self.word = word }

  @inlinable public static var empty: XArrayEntry { XArrayEntry(word: 0) }
  @inlinable public static var retry: XArrayEntry { XArrayEntry(word: 10) }
  @inlinable public static var reserved: XArrayEntry { XArrayEntry(word: 14) }

  @inlinable
  public static func page(_ page: Page) -> XArrayEntry {
    unsafe XArrayEntry(word: UInt64(UInt(bitPattern: page.descriptor)))
  }

  /// A value entry of the low 63 bits of `value` (xa_mk_value).
  @inlinable
  public static func value(_ value: UInt64) -> XArrayEntry { XArrayEntry(word: value << 1 | 1) }

  /// A slot whose entry stands at `offset` of the same node.
  internal static func sibling(of offset: Int, tie: UInt64) -> XArrayEntry {
    XArrayEntry(word: tie << 9 | 0x102 | UInt64(truncatingIfNeeded: offset) << 2)
  }

  internal static func node(_ node: UnsafeMutablePointer<cshims_xarray_node>) -> XArrayEntry {
    XArrayEntry(word: UInt64(UInt(bitPattern: node)) | 2)
  }

  /// `next` is the address of the node detached before, for slot 0.
  internal static func detached(next: UInt64 = 0) -> XArrayEntry { XArrayEntry(word: next | 6) }

  @inlinable public var kind: Kind {
    if word & 3 == 0 { return word == 0 ? .empty : .page }
    if word & 1 == 1 { return .value }
    if self == .retry { return .retry }
    if self == .reserved { return .reserved }
    return .sibling
  }

  @inlinable public var isEmpty: Bool { word == 0 }
  /// Something that iteration shows and `count` counts: neither a hole nor a
  /// reserved slot.
  @inlinable public var isPresent: Bool { word != 0 && self != .reserved }

  /// The page of a `.page` entry.
  @inlinable public var page: Page? {
    guard word & 3 == 0,
      let page = unsafe UnsafeMutablePointer<cshims_page>(
        bitPattern: UInt(truncatingIfNeeded: word))
    else { return nil }
    return unsafe Page(page)
  }

  /// The 63 bits of a `.value` entry.
  @inlinable public var value: UInt64? { word & 1 == 1 ? word >> 1 : nil }

  // MARK: The array's own words

  @inlinable internal var isSibling: Bool { word & 0x103 == 0x102 }
  @inlinable internal var siblingOffset: Int { Int(truncatingIfNeeded: word >> 2 & 63) }
  @inlinable internal var isNode: Bool { word & 511 == 2 }
  @inlinable internal var isDetached: Bool { word & 511 == 6 }
}

/// An entry with the indices that it covers.
@frozen
public struct XArrayItem: Equatable, Sendable {
  /// The first index: a multiple of 1 << order.
  public let index: UInt64
  /// The entry covers 1 << order indices.
  public let order: Int
  public let entry: XArrayEntry
  /// The last index.
  @inlinable public var last: UInt64 { index | ((1 << UInt64(order)) - 1) }
}
