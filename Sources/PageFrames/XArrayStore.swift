//===----------------------------------------------------------------------===//
// The writer's side of the XArray: making and ending one, storing, erasing.
//
// Lock: none of its own. The caller holds the lock of whatever the array
// belongs to, so that there is one writer at a time; readers hold nothing.
//===----------------------------------------------------------------------===//

internal import CShims

extension XArray {
  /// An empty array whose head and nodes come from `arena`. The caller owns it
  /// and ends it by `destroy`.
  public static func create(in arena: Arena) throws(ArenaExhausted) -> XArray {
    guard let block = unsafe arena.allocate(byteCount: MemoryLayout<cshims_xarray>.size) else {
      throw ArenaExhausted()
    }
    let header = unsafe block.bindMemory(to: cshims_xarray.self, capacity: 1)
    unsafe header.pointee.arena = arena.base
    return unsafe XArray(header)
  }

  /// Frees every node and the head. Nobody may be looking, now or later.
  ///
  /// - Complexity: O(nodes).
  public func destroy() {
    let head = unsafe cshims_xarray_head_load(header)
    if head != 0 { unsafe freeSubtree(XArray.node(at: head)) }
    freeDetached()
    unsafe arena.free(
      UnsafeMutableRawPointer(header), byteCount: MemoryLayout<cshims_xarray>.size)
  }

  /// Frees the nodes that hold nothing, and those that larger entries replaced.
  /// The array keeps its content. Nobody may be looking meanwhile.
  ///
  /// - Complexity: O(nodes).
  public func reclaim() {
    let head = unsafe cshims_xarray_head_load(header)
    if head != 0, unsafe freeEmptyChildren(XArray.node(at: head)) {
      unsafe cshims_xarray_head_store(header, 0)
      unsafe freeNode(XArray.node(at: head))
    }
    freeDetached()
  }

  /// Puts `entry` at the 1 << order indices around `index` (rounded down to a
  /// multiple of that), in place of all that is there. An entry there that
  /// covers more keeps its whole range: all of it holds `entry` afterwards.
  /// `.empty` erases.
  ///
  /// - Parameter order: 0 to `largestOrder`.
  /// - Precondition: `entry` is no sibling.
  /// - Returns: what `load` gave for the first of the indices before.
  /// - Throws: `ArenaExhausted`; nothing has changed then. It never does where
  ///   `reserve` succeeded and for `.empty`.
  /// - Complexity: O(log of the highest index + entries replaced). The kernel's
  ///   name: `xa_store`, `xa_store_order`.
  @discardableResult
  public func store(
    _ index: UInt64, _ entry: XArrayEntry, order: Int = 0
  ) throws(ArenaExhausted) -> XArrayEntry {
    precondition(
      order >= 0 && order <= XArray.largestOrder, "an entry's order is 0 to 9")
    precondition(entry.kind != .sibling, "a sibling cannot be stored by itself")
    let first = XArray.floor(index, order: order)
    let previous = load(first)
    if entry.isEmpty {
      eraseAll(first, through: first | ((1 << UInt64(order)) - 1))
    } else {
      let target = order / 6
      var spares = try Spares(arena, count: missingNodes(first, target))
      write(entry, first, target: target, span: 1 << (order % 6), &spares)
    }
    return previous
  }

  /// Erases the entry that covers `index`, at all indices it covers, and returns
  /// it. Never fails, frees no node. The kernel's name: `xa_erase`.
  @discardableResult
  public func erase(_ index: UInt64) -> XArrayEntry {
    guard let position = locate(index), !position.entry.isEmpty else { return .empty }
    var offset = unsafe position.offset + XArray.span(position.node, position.offset)
    while offset > position.offset {
      offset -= 1
      unsafe XArray.set(position.node, offset, .empty)
    }
    if position.entry.isPresent { addToCount(-1) }
    return position.entry
  }

  /// Makes sure that a later `store` at `index` cannot fail: a hole becomes a
  /// reserved entry. Does nothing where an entry stands.
  ///
  /// - Throws: `ArenaExhausted`; nothing has changed then. The kernel's name:
  ///   `xa_reserve`.
  public func reserve(_ index: UInt64) throws(ArenaExhausted) {
    if load(index).isEmpty { try store(index, .reserved) }
  }

  /// Takes a reservation back that no store has used. The kernel's name:
  /// `xa_release`.
  public func release(_ index: UInt64) {
    if load(index) == .reserved { erase(index) }
  }

  // MARK: Nodes

  private var arena: Arena {
    // `create` wrote it, before anybody had the handle.
    unsafe Arena(at: header.pointee.arena.unsafelyUnwrapped)
  }

  private static func set(_ node: Node, _ offset: Int, _ entry: XArrayEntry) {
    unsafe cshims_xarray_slot_store(node, UInt64(truncatingIfNeeded: offset), entry.word)
  }

  private func addToCount(_ n: Int) {
    let count = unsafe Int(cshims_xarray_count_load(header)) + n
    unsafe cshims_xarray_count_store(header, UInt64(count))
  }

  /// Nodes set aside before a change, linked through slot 0, so that the change
  /// itself cannot fail.
  private struct Spares {
    private var top: UInt64 = 0

    init(_ arena: Arena, count: Int) throws(ArenaExhausted) {
      for _ in 0..<count {
        guard
          let block = unsafe arena.allocate(byteCount: MemoryLayout<cshims_xarray_node>.size)
        else {
          while top != 0 {
            let node = unsafe take()
            unsafe arena.free(
              UnsafeMutableRawPointer(node), byteCount: MemoryLayout<cshims_xarray_node>.size)
          }
          throw ArenaExhausted()
        }
        let node = unsafe block.bindMemory(to: cshims_xarray_node.self, capacity: 1)
        unsafe XArray.set(node, 0, XArrayEntry(word: top))
        top = UInt64(UInt(bitPattern: node))
      }
    }

    /// An empty node; there must be one.
    mutating func take() -> Node {
      let node = unsafe XArray.node(at: top)
      top = unsafe XArray.slot(node, 0).word
      unsafe XArray.set(node, 0, .empty)
      return unsafe node
    }
  }

  /// The level that the top must have for an entry at `index` on `target`.
  private static func topLevel(_ index: UInt64, _ target: Int) -> Int {
    var level = target
    while !reaches(index, level: level) { level += 1 }
    return level
  }

  /// How many nodes the way from the head to `target` lacks.
  private func missingNodes(_ index: UInt64, _ target: Int) -> Int {
    let needed = XArray.topLevel(index, target)
    let head = unsafe cshims_xarray_head_load(header)
    guard head != 0 else { return needed - target + 1 }
    var level = Int(head & 511)
    // What is above the present top has nothing but the present top below it.
    if needed > level { return (needed - level) + (needed - target) }
    var node = unsafe XArray.node(at: head)
    while level > target {
      let entry = unsafe XArray.slot(node, XArray.offset(of: index, atLevel: level))
      if entry.isEmpty { return level - target }
      guard entry.isNode else { return 0 }
      unsafe node = XArray.node(at: entry.word)
      level -= 1
    }
    return 0
  }

  /// Stores `entry` in `span` slots of level `target`; cannot fail.
  private func write(
    _ entry: XArrayEntry, _ index: UInt64, target: Int, span: Int, _ spares: inout Spares
  ) {
    let needed = XArray.topLevel(index, target)
    var head = unsafe cshims_xarray_head_load(header)
    if head == 0 {
      head = unsafe UInt64(UInt(bitPattern: spares.take())) | UInt64(needed)
      unsafe cshims_xarray_head_store(header, head)
    }
    while head & 511 < needed {
      let top = unsafe spares.take()
      unsafe XArray.set(top, 0, XArrayEntry.node(XArray.node(at: head)))
      head = UInt64(UInt(bitPattern: top)) | ((head & 511) + 1)
      unsafe cshims_xarray_head_store(header, head)
    }

    var node = unsafe XArray.node(at: head)
    var level = Int(head & 511)
    while true {
      let offset = XArray.offset(of: index, atLevel: level)
      let old = unsafe XArray.slot(node, offset)
      if level > target {
        if old.isNode {
          unsafe node = XArray.node(at: old.word)
        } else if old.isEmpty {
          let below = unsafe spares.take()
          unsafe XArray.set(node, offset, XArrayEntry.node(below))
          unsafe node = below
        } else {
          return unsafe overwrite(node, offset, entry)
        }
        level -= 1
        continue
      }
      // An entry that covers more than we store keeps its range. (From its first
      // slot on, filling fewer slots than it has comes to the same.)
      if old.isSibling { return unsafe overwrite(node, offset, entry) }
      return unsafe fill(node, offset, span, entry)
    }
  }

  /// Changes the entry that covers the slot at `offset`, and not what it covers.
  private func overwrite(_ node: Node, _ offset: Int, _ entry: XArrayEntry) {
    let slot = unsafe XArray.slot(node, offset)
    let place = slot.isSibling ? slot.siblingOffset : offset
    let old = unsafe XArray.slot(node, place)
    unsafe XArray.set(node, place, entry)
    addToCount((entry.isPresent ? 1 : 0) - (old.isPresent ? 1 : 0))
  }

  /// Replaces `span` slots from `offset` by one entry.
  private func fill(_ node: Node, _ offset: Int, _ span: Int, _ entry: XArrayEntry) {
    var gone = 0
    let tie = unsafe cshims_xarray_next_tie(header)
    let sibling = XArrayEntry.sibling(of: offset, tie: tie)
    for place in offset..<(offset + span) {
      let old = unsafe XArray.slot(node, place)
      unsafe XArray.set(node, place, place == offset ? entry : sibling)
      if old.isNode {
        gone += unsafe detach(XArray.node(at: old.word))
      } else if old.isPresent && !old.isSibling {
        gone += 1
      }
    }
    addToCount((entry.isPresent ? 1 : 0) - gone)
  }

  private func eraseAll(_ first: UInt64, through last: UInt64) {
    var index = first
    while true {
      let item = item(at: index)
      if item != nil { erase(index) }
      let end = max(item?.last ?? index, index)
      if end >= last { return }
      index = end + 1
    }
  }

  // MARK: Taking nodes out
  //
  // These recurse over the levels of the tree: eleven at most.

  /// Sends the readers of a subtree that has just been replaced back to the
  /// head, and keeps its nodes for `reclaim`. Returns how many present entries
  /// it had.
  private func detach(_ node: Node) -> Int {
    var present = 0
    for offset in 0..<Int(CSHIMS_XARRAY_SLOTS) {
      let entry = unsafe XArray.slot(node, offset)
      if entry.isNode {
        present += unsafe detach(XArray.node(at: entry.word))
      } else if entry.isPresent && !entry.isSibling {
        present += 1
      }
      let next = unsafe offset == 0 ? cshims_xarray_detached(header) : 0
      unsafe XArray.set(node, offset, .detached(next: next))
    }
    unsafe cshims_xarray_set_detached(header, UInt64(UInt(bitPattern: node)))
    return present
  }

  private func freeDetached() {
    while unsafe cshims_xarray_detached(header) != 0 {
      let node = unsafe XArray.node(at: cshims_xarray_detached(header))
      unsafe cshims_xarray_set_detached(header, XArray.slot(node, 0).word & ~511)
      unsafe freeNode(node)
    }
  }

  private func freeNode(_ node: Node) {
    unsafe arena.free(
      UnsafeMutableRawPointer(node), byteCount: MemoryLayout<cshims_xarray_node>.size)
  }

  private func freeSubtree(_ node: Node) {
    for offset in 0..<Int(CSHIMS_XARRAY_SLOTS) {
      let entry = unsafe XArray.slot(node, offset)
      if entry.isNode { unsafe freeSubtree(XArray.node(at: entry.word)) }
    }
    unsafe freeNode(node)
  }

  /// Frees what is empty below `node`; true when `node` itself is empty then.
  private func freeEmptyChildren(_ node: Node) -> Bool {
    var isEmpty = true
    for offset in 0..<Int(CSHIMS_XARRAY_SLOTS) {
      let entry = unsafe XArray.slot(node, offset)
      if entry.isNode, unsafe freeEmptyChildren(XArray.node(at: entry.word)) {
        unsafe XArray.set(node, offset, .empty)
        unsafe freeNode(XArray.node(at: entry.word))
      } else if !entry.isEmpty {
        isEmpty = false
      }
    }
    return isEmpty
  }
}
