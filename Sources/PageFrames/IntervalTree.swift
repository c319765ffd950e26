//===----------------------------------------------------------------------===//
// Disjoint intervals of UInt64 with something attached to each: the areas of an
// address space, the free extents of a range. The kernel's maple tree and
// interval trees stand in this place.
//
// An AVL tree with parent pointers, so that nothing recurses and the deepest
// path among n intervals is 1.44 log2(n). Nodes come from the arena and keep
// their address from insertion to removal, whatever else comes and goes. Each
// node also knows the longest interval below it, which makes "the first one
// that is long enough" a walk down the tree.
//
// No locks: the owner of a tree holds one while it reads or changes it.
//===----------------------------------------------------------------------===//

/// A set of disjoint, non-empty, half-open intervals, each with a `Payload`.
///
/// The tree is a root in the place where its owner keeps it (raw shared memory,
/// as a rule) and is changed there. A copy is good for nothing but looking, and
/// that only until the next change. Whoever is done with it calls `removeAll`.
///
/// An interval is *before* an address when it ends at or before it; all others
/// are *at or after* it. So an interval that contains an address is at it.
@safe
public struct IntervalTree<Payload: BitwiseCopyable>: BitwiseCopyable {
  /// One interval. `payload` may be changed in place at any time; the bounds
  /// through `setBounds`.
  @safe
  public struct Node {
    @usableFromInline internal var lower: UInt64
    @usableFromInline internal var upper: UInt64
    @usableFromInline internal var left: UnsafeMutablePointer<Node>?
    @usableFromInline internal var right: UnsafeMutablePointer<Node>?
    @usableFromInline internal var parent: UnsafeMutablePointer<Node>?
    /// The length of the longest interval in this subtree.
    @usableFromInline internal var longest: UInt64
    /// Nodes on the longest way down, this one included.
    @usableFromInline internal var height: Int
    public var payload: Payload

    @inlinable
    internal init(start: UInt64, end: UInt64, payload: Payload) {
      lower = start
      upper = end
      unsafe left = nil
      unsafe right = nil
      unsafe parent = nil
      longest = end &- start
      height = 1
      self.payload = payload
    }

    /// The first number of the interval.
    @inlinable public var start: UInt64 { lower }
    /// One past the last number of the interval.
    @inlinable public var end: UInt64 { upper }
    @inlinable public var length: UInt64 { upper &- lower }
    @inlinable
    public func contains(_ value: UInt64) -> Bool { value >= lower && value < upper }
  }

  /// A node's address: stable until the node is removed.
  public typealias NodePointer = UnsafeMutablePointer<Node>

  @usableFromInline internal var root: NodePointer?
  @usableFromInline internal var nodeCount: Int
  /// Where the nodes come from.
  public let arena: Arena

  /// An empty tree; allocates nothing.
  @inlinable
  public init(arena: Arena) {
    unsafe root = nil
    nodeCount = 0
    self.arena = arena
  }

  /// How many intervals there are.
  @inlinable public var count: Int { nodeCount }
  @inlinable public var isEmpty: Bool { nodeCount == 0 }
  /// The length of the longest interval; 0 when there is none. O(1).
  @inlinable public var longest: UInt64 { unsafe root?.pointee.longest ?? 0 }

  // MARK: Looking

  /// The interval that contains `value`.
  ///
  /// - Complexity: O(log n). The kernel's name: `vma_lookup`.
  @inlinable
  public func find(containing value: UInt64) -> NodePointer? {
    var cursor = unsafe root
    while let node = unsafe cursor {
      if unsafe value < node.pointee.lower {
        unsafe cursor = node.pointee.left
      } else if unsafe value < node.pointee.upper {
        return unsafe node
      } else {
        unsafe cursor = node.pointee.right
      }
    }
    return nil
  }

  /// The lowest interval that ends after `value`: the one that contains it, or
  /// else the next one up.
  ///
  /// - Complexity: O(log n). The kernel's name: `find_vma`.
  @inlinable
  public func first(atOrAfter value: UInt64) -> NodePointer? {
    var cursor = unsafe root
    var best: NodePointer?
    while let node = unsafe cursor {
      if unsafe value < node.pointee.upper {
        unsafe best = node
        unsafe cursor = node.pointee.left
      } else {
        unsafe cursor = node.pointee.right
      }
    }
    return unsafe best
  }

  /// The highest interval that ends at or before `value`: the neighbour below
  /// `first(atOrAfter: value)`.
  ///
  /// - Complexity: O(log n).
  @inlinable
  public func last(before value: UInt64) -> NodePointer? {
    var cursor = unsafe root
    var best: NodePointer?
    while let node = unsafe cursor {
      if unsafe value < node.pointee.upper {
        unsafe cursor = node.pointee.left
      } else {
        unsafe best = node
        unsafe cursor = node.pointee.right
      }
    }
    return unsafe best
  }

  /// The lowest interval.
  @inlinable public var first: NodePointer? {
    guard let top = unsafe root else { return nil }
    return unsafe Self.leftmost(top)
  }

  /// The highest interval.
  @inlinable public var last: NodePointer? {
    guard let top = unsafe root else { return nil }
    return unsafe Self.rightmost(top)
  }

  /// The neighbour above `node`. O(log n), O(1) on average over a whole walk.
  @inlinable
  public func next(after node: NodePointer) -> NodePointer? {
    if let right = unsafe node.pointee.right { return unsafe Self.leftmost(right) }
    var child = unsafe node
    while let parent = unsafe child.pointee.parent {
      if unsafe parent.pointee.left == child { return unsafe parent }
      unsafe child = parent
    }
    return nil
  }

  /// The neighbour below `node`. O(log n), O(1) on average over a whole walk.
  @inlinable
  public func previous(before node: NodePointer) -> NodePointer? {
    if let left = unsafe node.pointee.left { return unsafe Self.rightmost(left) }
    var child = unsafe node
    while let parent = unsafe child.pointee.parent {
      if unsafe parent.pointee.right == child { return unsafe parent }
      unsafe child = parent
    }
    return nil
  }

  /// The lowest interval of at least `length`. O(log n).
  @inlinable
  public func first(ofLengthAtLeast length: UInt64) -> NodePointer? {
    guard let top = unsafe root, unsafe top.pointee.longest >= length else { return nil }
    return unsafe Self.leftmost(top, ofLengthAtLeast: length)
  }

  /// The lowest interval above `node` of at least `length`. O(log n).
  @inlinable
  public func next(after node: NodePointer, ofLengthAtLeast length: UInt64) -> NodePointer? {
    if let right = unsafe node.pointee.right, unsafe right.pointee.longest >= length {
      return unsafe Self.leftmost(right, ofLengthAtLeast: length)
    }
    var child = unsafe node
    while let parent = unsafe child.pointee.parent {
      if unsafe parent.pointee.left == child {
        if unsafe parent.pointee.length >= length { return unsafe parent }
        if let right = unsafe parent.pointee.right, unsafe right.pointee.longest >= length {
          return unsafe Self.leftmost(right, ofLengthAtLeast: length)
        }
      }
      unsafe child = parent
    }
    return nil
  }

  // MARK: Changing

  /// Adds [start, end).
  ///
  /// - Precondition: `start < end`, and no interval overlaps it.
  /// - Throws: `ArenaExhausted`; nothing has changed then.
  /// - Complexity: O(log n).
  @inlinable
  @discardableResult
  public mutating func insert(
    _ start: UInt64, _ end: UInt64, _ payload: Payload
  ) throws(ArenaExhausted) -> NodePointer {
    let node = try unsafe makeNode()
    unsafe insert(start, end, payload, using: node)
    return unsafe node
  }

  /// Memory for one node, for a change of several steps that must not fail
  /// half-way: it goes to `insert(_:_:_:using:)` or back by `discardNode`.
  @inlinable
  public func makeNode() throws(ArenaExhausted) -> NodePointer {
    guard let block = unsafe arena.allocate(byteCount: MemoryLayout<Node>.size) else {
      throw ArenaExhausted()
    }
    return unsafe block.bindMemory(to: Node.self, capacity: 1)
  }

  /// Takes back what `makeNode` gave and nobody inserted.
  @inlinable
  public func discardNode(_ node: NodePointer) {
    unsafe arena.free(UnsafeMutableRawPointer(node), byteCount: MemoryLayout<Node>.size)
  }

  /// Adds [start, end) in `node`, which came from `makeNode`. Cannot fail.
  ///
  /// - Precondition: `start < end`, and no interval overlaps it.
  @inlinable
  public mutating func insert(
    _ start: UInt64, _ end: UInt64, _ payload: Payload, using node: NodePointer
  ) {
    precondition(start < end, "an interval must not be empty")
    var above: NodePointer?
    var below: NodePointer?
    var parent: NodePointer?
    var cursor = unsafe root
    while let here = unsafe cursor {
      unsafe parent = here
      if unsafe start < here.pointee.lower {
        unsafe above = here
        unsafe cursor = here.pointee.left
      } else {
        unsafe below = here
        unsafe cursor = here.pointee.right
      }
    }
    unsafe precondition(
      start >= below?.pointee.upper ?? 0 && end <= above?.pointee.lower ?? .max,
      "intervals must not overlap")
    unsafe node.initialize(to: Node(start: start, end: end, payload: payload))
    unsafe node.pointee.parent = parent
    if let parent = unsafe parent {
      if unsafe start < parent.pointee.lower {
        unsafe parent.pointee.left = node
      } else {
        unsafe parent.pointee.right = node
      }
    } else {
      unsafe root = node
    }
    nodeCount &+= 1
    unsafe retrace(from: parent)
  }

  /// Takes `node` out and frees it. Every other node keeps its address.
  ///
  /// - Complexity: O(log n).
  @inlinable
  public mutating func remove(_ node: NodePointer) {
    guard let left = unsafe node.pointee.left, let right = unsafe node.pointee.right else {
      let child = unsafe node.pointee.left ?? node.pointee.right
      let parent = unsafe node.pointee.parent
      unsafe replace(node, under: parent, by: child)
      unsafe finishRemoval(of: node, retracing: parent)
      return
    }
    // The neighbour above has no left child. It moves into the place of `node`,
    // and takes over what its new parent believes about that place.
    let heir = unsafe Self.leftmost(right)
    var lowest = unsafe heir
    if let parent = unsafe heir.pointee.parent, unsafe parent != node {
      unsafe lowest = parent
      unsafe replace(heir, under: parent, by: heir.pointee.right)
      unsafe heir.pointee.right = right
      unsafe right.pointee.parent = heir
    }
    unsafe heir.pointee.left = left
    unsafe left.pointee.parent = heir
    unsafe replace(node, under: node.pointee.parent, by: heir)
    unsafe heir.pointee.height = node.pointee.height
    unsafe heir.pointee.longest = node.pointee.longest
    // Twice: the first may find nothing changed before it comes up to the heir.
    unsafe retrace(from: lowest)
    unsafe finishRemoval(of: node, retracing: heir)
  }

  /// Moves the bounds of `node` to [start, end).
  ///
  /// - Precondition: `start < end`, and no other interval overlaps it.
  /// - Complexity: O(log n).
  @inlinable
  public mutating func setBounds(_ node: NodePointer, _ start: UInt64, _ end: UInt64) {
    precondition(start < end, "an interval must not be empty")
    let below = unsafe previous(before: node)
    let above = unsafe next(after: node)
    unsafe precondition(
      start >= below?.pointee.upper ?? 0 && end <= above?.pointee.lower ?? .max,
      "intervals must not overlap")
    unsafe node.pointee.lower = start
    unsafe node.pointee.upper = end
    unsafe retrace(from: node)
  }

  /// Frees every node. O(n).
  @inlinable
  public mutating func removeAll() {
    var cursor = unsafe root
    while let node = unsafe cursor {
      if let child = unsafe node.pointee.left ?? node.pointee.right {
        unsafe cursor = child
        continue
      }
      // A leaf now: unhook it, so that the way down does not come here again.
      let parent = unsafe node.pointee.parent
      unsafe replace(node, under: parent, by: nil)
      unsafe discardNode(node)
      unsafe cursor = parent
    }
    nodeCount = 0
  }

  // MARK: Balance

  @inlinable
  internal static func leftmost(_ top: NodePointer) -> NodePointer {
    var node = unsafe top
    while let left = unsafe node.pointee.left { unsafe node = left }
    return unsafe node
  }

  @inlinable
  internal static func rightmost(_ top: NodePointer) -> NodePointer {
    var node = unsafe top
    while let right = unsafe node.pointee.right { unsafe node = right }
    return unsafe node
  }

  /// The lowest interval under `top`, which has one of at least `length`.
  @inlinable
  internal static func leftmost(
    _ top: NodePointer, ofLengthAtLeast length: UInt64
  ) -> NodePointer? {
    var cursor: NodePointer? = unsafe top
    while let node = unsafe cursor {
      if let left = unsafe node.pointee.left, unsafe left.pointee.longest >= length {
        unsafe cursor = left
      } else if unsafe node.pointee.length >= length {
        return unsafe node
      } else {
        unsafe cursor = node.pointee.right
      }
    }
    return nil
  }

  /// Hangs `child` where `node` hangs under `parent` (the root's place if nil).
  @inlinable
  internal mutating func replace(
    _ node: NodePointer, under parent: NodePointer?, by child: NodePointer?
  ) {
    if let parent = unsafe parent {
      if unsafe parent.pointee.left == node {
        unsafe parent.pointee.left = child
      } else {
        unsafe parent.pointee.right = child
      }
    } else {
      unsafe root = child
    }
    unsafe child?.pointee.parent = parent
  }

  @inlinable
  internal mutating func finishRemoval(of node: NodePointer, retracing parent: NodePointer?) {
    nodeCount &-= 1
    unsafe retrace(from: parent)
    unsafe discardNode(node)
  }

  /// Restores height, longest and balance from `node` upwards, until a subtree
  /// looks to its parent as it did before.
  @inlinable
  internal mutating func retrace(from node: NodePointer?) {
    var cursor = unsafe node
    while let node = unsafe cursor {
      let height = unsafe node.pointee.height
      let longest = unsafe node.pointee.longest
      let top = unsafe rebalance(node)
      if unsafe top.pointee.height == height && top.pointee.longest == longest { return }
      unsafe cursor = top.pointee.parent
    }
  }

  /// Restores one subtree whose two sides are in order and differ in height by
  /// two at most. Returns its top.
  @inlinable
  internal mutating func rebalance(_ node: NodePointer) -> NodePointer {
    let left = unsafe node.pointee.left
    let right = unsafe node.pointee.right
    let lean = unsafe (left?.pointee.height ?? 0) &- (right?.pointee.height ?? 0)
    if lean > 1, let left = unsafe left {
      if let inner = unsafe left.pointee.right,
        unsafe inner.pointee.height > left.pointee.left?.pointee.height ?? 0
      {
        unsafe rotate(left, up: inner)
        return unsafe rotate(node, up: inner)
      }
      return unsafe rotate(node, up: left)
    }
    if lean < -1, let right = unsafe right {
      if let inner = unsafe right.pointee.left,
        unsafe inner.pointee.height > right.pointee.right?.pointee.height ?? 0
      {
        unsafe rotate(right, up: inner)
        return unsafe rotate(node, up: inner)
      }
      return unsafe rotate(node, up: right)
    }
    unsafe Self.update(node)
    return unsafe node
  }

  /// Makes `child` the parent of its parent `node`; returns `child`.
  @inlinable
  @discardableResult
  internal mutating func rotate(_ node: NodePointer, up child: NodePointer) -> NodePointer {
    unsafe replace(node, under: node.pointee.parent, by: child)
    let inner: NodePointer?
    if unsafe node.pointee.left == child {
      unsafe inner = child.pointee.right
      unsafe child.pointee.right = node
      unsafe node.pointee.left = inner
    } else {
      unsafe inner = child.pointee.left
      unsafe child.pointee.left = node
      unsafe node.pointee.right = inner
    }
    unsafe inner?.pointee.parent = node
    unsafe node.pointee.parent = child
    unsafe Self.update(node)
    unsafe Self.update(child)
    return unsafe child
  }

  @inlinable
  internal static func update(_ node: NodePointer) {
    let left = unsafe node.pointee.left
    let right = unsafe node.pointee.right
    unsafe node.pointee.height =
      1 &+ max(left?.pointee.height ?? 0, right?.pointee.height ?? 0)
    unsafe node.pointee.longest = max(
      node.pointee.length, left?.pointee.longest ?? 0, right?.pointee.longest ?? 0)
  }
}
