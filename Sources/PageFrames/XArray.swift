//===----------------------------------------------------------------------===//
// The XArray: from an index (a page's place in a file) to an entry, as a page
// cache keeps its pages and ITER_XARRAY walks them.
//
// A radix tree of 64-slot nodes; level 0 is the lowest, a slot of level l
// stands for 64^l indices. The tree grows at the top. An entry of order k
// covers 2^k aligned indices: at level k / 6 it fills 2^(k mod 6) slots, the
// first with the entry, the others with siblings that point to it.
//
// Readers take no lock. Who changes the array holds its owner's lock (one
// writer). Every change of a slot or the head is one release store, in an order
// that leaves the tree walkable at each point, also when the writer dies:
//   grow     the new top points to the old one before it is published
//   store    the entry first, then its siblings; a subtree that it replaces is
//            detached after that
//   erase    siblings first, then the entry
// A detached node keeps its memory until `reclaim` or `destroy`; its slots send
// a reader who is still inside back to the head. So a reader may find what was
// there a moment ago, never what was never there. Siblings carry the number of
// the store that tied them, so a reader knows whether the entry it went on to
// is still the one its index belongs to. Who takes a count on a page it found
// must load again and compare, as with the kernel's.
//
// The file of readers; XArrayStore.swift has the writer's side.
//===----------------------------------------------------------------------===//

public import CShims

/// A handle on an array; copies of it mean the same array.
///
/// Looking is safe from every thread and process at any time between `create`
/// and `destroy`; see the top of the file for what it may see.
@frozen
@safe
public struct XArray: @unchecked Sendable, BitwiseCopyable {
  @usableFromInline internal let header: UnsafeMutablePointer<cshims_xarray>

  /// Entries cover at most 1 << largestOrder indices: 2 MiB of pages.
  public static let largestOrder = 9

  @usableFromInline internal typealias Node = UnsafeMutablePointer<cshims_xarray_node>

  /// The level of the top node of the tallest tree: 11 levels hold 64 bits.
  @usableFromInline internal static var highestLevel: Int { 10 }

  @inlinable
  internal init(_ header: UnsafeMutablePointer<cshims_xarray>) { unsafe self.header = header }

  /// A place in the tree: what stands in the slot for an index.
  @safe
  @usableFromInline
  internal struct Position {
    @usableFromInline let node: Node
    @usableFromInline let level: Int
    /// Never a sibling's slot: where its entry stands.
    @usableFromInline let offset: Int
    /// Never a sibling, a node or a mark of detachment.
    @usableFromInline let entry: XArrayEntry

    @inlinable
    init(node: Node, level: Int, offset: Int, entry: XArrayEntry) {
      unsafe self.node = node
      self.level = level
      self.offset = offset
      self.entry = entry
    }
  }

  /// How many entries are present; one of several indices counts once.
  @inlinable public var count: Int { unsafe Int(cshims_xarray_count_load(header)) }

  /// The entry of `index`; of every index that an entry covers, that entry.
  ///
  /// - Complexity: O(log of the highest index); four levels for 64 GiB of pages.
  ///   The kernel's name: `xas_load` (`xa_load` does not show reserved entries).
  @inlinable
  public func load(_ index: UInt64) -> XArrayEntry {
    locate(index)?.entry ?? .empty
  }

  /// The entry of `index` with the indices it covers; `nil` for a hole.
  /// The kernel's name: `xa_get_order`, in part.
  public func item(at index: UInt64) -> XArrayItem? {
    guard let position = locate(index), !position.entry.isEmpty else { return nil }
    return item(at: position, for: index)
  }

  /// The first present entry that covers `index` or a later one. Its `index` may
  /// be lower than the one asked for; go on from `last + 1`.
  ///
  /// - Complexity: O(log of the highest index + slots and nodes passed). The
  ///   kernel's name: `xa_find`.
  public func next(from index: UInt64) -> XArrayItem? {
    var index = index
    while let position = locate(index) {
      if position.entry.isPresent { return item(at: position, for: index) }
      // Skip the empty and reserved slots beside this one, then look afresh.
      let level = position.level
      var offset = XArray.offset(of: index, atLevel: level)
      var start = XArray.floor(index, order: level * 6)
      repeat {
        offset += 1
        let wraps: Bool
        (start, wraps) = start.addingReportingOverflow(1 << XArray.shift(level))
        if wraps { return nil }
      } while unsafe offset < Int(CSHIMS_XARRAY_SLOTS) && isSkippable(position.node, offset)
      index = start
    }
    return nil
  }

  /// The slot's own word for `index`: shows siblings, which `load` resolves.
  public func rawEntry(at index: UInt64) -> XArrayEntry {
    guard let position = locate(index) else { return .empty }
    let offset = XArray.offset(of: index, atLevel: position.level)
    let entry = unsafe XArray.slot(position.node, offset)
    return entry.isSibling ? entry : position.entry
  }

  // MARK: Walking

  @inlinable
  internal static func shift(_ level: Int) -> UInt64 { UInt64(truncatingIfNeeded: level &* 6) }

  @inlinable
  internal static func offset(of index: UInt64, atLevel level: Int) -> Int {
    Int(truncatingIfNeeded: index &>> shift(level)) & 63
  }

  /// The first of the aligned 1 << order indices around `index`.
  internal static func floor(_ index: UInt64, order: Int) -> UInt64 {
    index & ~((1 << UInt64(order)) - 1)
  }

  /// Can a tree whose top has `level` hold `index`?
  @inlinable
  internal static func reaches(_ index: UInt64, level: Int) -> Bool {
    level >= highestLevel || index &>> shift(level &+ 1) == 0
  }

  @inlinable
  internal static func slot(_ node: Node, _ offset: Int) -> XArrayEntry {
    unsafe XArrayEntry(
      word: cshims_xarray_slot_load(node, UInt64(truncatingIfNeeded: offset)))
  }

  @inlinable
  internal static func node(at word: UInt64) -> Node {
    // A word that a writer made of a node's address: never 0 without its tag.
    unsafe UnsafeMutablePointer(bitPattern: UInt(truncatingIfNeeded: word & ~511))
      .unsafelyUnwrapped
  }

  /// The slot that decides about `index`, or `nil` when it lies beyond the tree.
  @inlinable
  internal func locate(_ index: UInt64) -> Position? {
    restart: while true {
      let head = unsafe cshims_xarray_head_load(header)
      var level = Int(truncatingIfNeeded: head & 511)
      guard head != 0, XArray.reaches(index, level: level) else { return nil }
      var node = unsafe XArray.node(at: head)
      while true {
        var offset = XArray.offset(of: index, atLevel: level)
        var entry = unsafe XArray.slot(node, offset)
        if entry.isNode {
          unsafe node = XArray.node(at: entry.word)
          level &-= 1
          continue
        }
        // Siblings point downwards only, so this comes to an end.
        while entry.isSibling {
          let main = unsafe XArray.slot(node, entry.siblingOffset)
          // That it covers `index` is sure only if the tie still stands.
          if unsafe main.isNode || XArray.slot(node, offset) != entry { continue restart }
          offset = entry.siblingOffset
          entry = main
        }
        if entry.isDetached { continue restart }
        return unsafe Position(node: node, level: level, offset: offset, entry: entry)
      }
    }
  }

  /// Slots that the entry at `offset` fills: itself and its siblings.
  internal static func span(_ node: Node, _ offset: Int) -> Int {
    var end = offset + 1
    while end < Int(CSHIMS_XARRAY_SLOTS) {
      let entry = unsafe slot(node, end)
      guard entry.isSibling, entry.siblingOffset == offset else { break }
      end += 1
    }
    return end - offset
  }

  private func item(at position: Position, for index: UInt64) -> XArrayItem {
    let span = unsafe XArray.span(position.node, position.offset)
    // A power of two, except for what a reader sees of a change half-done.
    let order = position.level * 6 + (Int.bitWidth - 1 - span.leadingZeroBitCount)
    return XArrayItem(
      index: XArray.floor(index, order: order), order: order, entry: position.entry)
  }

  private func isSkippable(_ node: Node, _ offset: Int) -> Bool {
    let entry = unsafe XArray.slot(node, offset)
    return entry.isEmpty || entry == .reserved
  }
}

extension XArray: Equatable {
  @inlinable
  public static func == (a: XArray, b: XArray) -> Bool { unsafe a.header == b.header }
}
