//===----------------------------------------------------------------------===//
// FolioSize: how large the folios are that an area wants, kept in its flags so
// that splitting, merging and fork carry it along.
//===----------------------------------------------------------------------===//

public import PageFrames

/// What a store into untouched private memory brings in.
///
/// A wish: it is met where an aligned stretch of that size lies wholly inside the
/// area, nothing of it was touched, and a block of frames is free; else smaller
/// folios, at last single pages, do.
public enum FolioSize: Sendable, Hashable {
  /// Single pages.
  case base
  /// 2^order pages behind an entry each (multi-size THP); 2 to 9.
  case order(Int)
  /// 2 MiB behind one entry, a leaf of the middle level (THP).
  case huge

  /// The pages of one folio.
  public var pageCount: PageCount {
    switch self {
    case .base: 1
    case .order(let order): PageCount(1 << order)
    case .huge: 512
    }
  }
}

extension FolioSize {
  /// Orders that folios behind small entries can have.
  static var orders: ClosedRange<Int> { 2...9 }

  /// The area flags that say so. EINVAL for an order that is none.
  func areaFlags() throws(MemoryError) -> AreaFlags {
    switch self {
    case .base: return []
    case .huge: return .hugePage
    case .order(let order):
      guard FolioSize.orders ~= order else {
        throw MemoryError(.invalid, .folioOrderInvalid, order)
      }
      return AreaFlags(rawValue: UInt32(order) << AreaFlags.folioOrderShift)
    }
  }
}

extension AreaFlags {
  var folioOrder: Int {
    Int(intersection(.folioOrderMask).rawValue >> AreaFlags.folioOrderShift)
  }

  var folios: FolioSize {
    if contains(.hugePage) { return .huge }
    return folioOrder > 0 ? .order(folioOrder) : .base
  }
}
