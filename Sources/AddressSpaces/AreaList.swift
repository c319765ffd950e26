//===----------------------------------------------------------------------===//
// The list of areas: finding, inserting, splitting and merging. Every change
// of it goes through here, because each keeps three things true: an area's
// bounds are its node's, a page cache counts the areas that show it, and the view
// knows how many pieces of host mapping the areas need.
//
// All under the mmap lock.
//===----------------------------------------------------------------------===//

internal import CShims
internal import PageFrames

typealias AreaNode = IntervalTree<Area>.NodePointer

extension MM {
  /// Adds an area in a node that was made before, so that it cannot fail.
  func insertArea(_ area: Area, using node: AreaNode) {
    let next = unsafe state.pointee.areas.first(atOrAfter: area.start)
    let before = unsafe startsPiece(next)
    unsafe state.pointee.areas.insert(area.start, area.end, area, using: node)
    unsafe state.pointee.view.pieces += startsPiece(node) + startsPiece(next) - before
  }

  func removeArea(_ node: AreaNode) {
    let next = unsafe state.pointee.areas.next(after: node)
    let before = unsafe startsPiece(node) + startsPiece(next)
    unsafe state.pointee.areas.remove(node)
    unsafe state.pointee.view.pieces += startsPiece(next) - before
  }

  /// Shrinks or grows an area whose neighbours stay apart or touch it in place.
  private func setBounds(_ node: AreaNode, _ start: UInt64, _ end: UInt64) {
    unsafe state.pointee.areas.setBounds(node, start, end)
    unsafe node.pointee.payload.start = start
    unsafe node.pointee.payload.end = end
  }

  /// Gives an area other spans. The host's mapping is the caller's to change.
  func setHomes(_ node: AreaNode, home: UInt64, second: UInt64) {
    let next = unsafe state.pointee.areas.next(after: node)
    let before = unsafe startsPiece(node) + startsPiece(next)
    unsafe node.pointee.payload.homeBase = home
    unsafe node.pointee.payload.secondBase = second
    unsafe state.pointee.view.pieces += startsPiece(node) + startsPiece(next) - before
  }

  /// 1 when the host mapping of this area cannot be one with its predecessor's.
  private func startsPiece(_ node: AreaNode?) -> Int {
    guard let node = unsafe node else { return 0 }
    guard let previous = unsafe state.pointee.areas.previous(before: node),
      unsafe previous.pointee.end == node.pointee.start,
      unsafe previous.pointee.payload.homeBase == node.pointee.payload.homeBase
    else { return 1 }
    return 0
  }

  /// Nodes for `count` splits, or nil (and nothing taken) when the arena is
  /// exhausted.
  func makeNodes(_ count: Int) -> NodeReserve? {
    var reserve = NodeReserve()
    for _ in 0..<count {
      guard let node = unsafe try? state.pointee.areas.makeNode() else {
        discard(&reserve)
        return nil
      }
      unsafe reserve.put(node)
    }
    return reserve
  }

  func discard(_ reserve: inout NodeReserve) {
    while let node = unsafe reserve.take() { unsafe state.pointee.areas.discardNode(node) }
  }

  /// Makes `address` a boundary between areas, with a node from the reserve.
  func splitArea(at address: UInt64, _ reserve: inout NodeReserve) {
    guard let node = unsafe state.pointee.areas.find(containing: address),
      unsafe node.pointee.start < address, let fresh = unsafe reserve.take()
    else { return }
    // No leaf spans two areas (vma_adjust_trans_huge).
    splitLeafAcross(address)
    var upper = unsafe node.pointee.payload
    upper.start = address
    // One host piece before and after.
    let pieces = unsafe state.pointee.view.pieces
    unsafe setBounds(node, node.pointee.start, address)
    unsafe insertArea(upper, using: fresh)
    unsafe state.pointee.view.pieces = pieces
    cache(of: upper)?.retain()
  }

  /// How many splits making [start, end) a run of whole areas takes.
  func splitsNeeded(_ start: UInt64, _ end: UInt64) -> Int {
    var count = 0
    if let node = unsafe state.pointee.areas.find(containing: start),
      unsafe node.pointee.start < start
    {
      count += 1
    }
    if let node = unsafe state.pointee.areas.find(containing: end),
      unsafe node.pointee.start < end
    {
      count += 1
    }
    return count
  }

  /// Joins neighbours that have become alike, from the one before `start` to
  /// the one at `end`.
  func mergeAreas(_ start: UInt64, _ end: UInt64) {
    var node =
      unsafe state.pointee.areas.last(before: start)
      ?? state.pointee.areas.first(atOrAfter: start)
    while let current = unsafe node, unsafe current.pointee.start <= end {
      guard let next = unsafe state.pointee.areas.next(after: current) else { return }
      if unsafe current.pointee.payload.merges(with: next.pointee.payload) {
        let newEnd = unsafe next.pointee.end
        let cache = unsafe cache(of: next.pointee.payload)
        // Equal homes side by side: the host pieces stay what they are.
        let pieces = unsafe state.pointee.view.pieces
        unsafe removeArea(next)
        unsafe setBounds(current, current.pointee.start, newEnd)
        unsafe state.pointee.view.pieces = pieces
        cache?.release()
      } else {
        unsafe node = next
      }
    }
  }

  /// Is every page of [start, end) in some area? Otherwise the first that is not.
  func firstHole(_ start: UInt64, _ end: UInt64) -> UInt64? {
    var address = start
    while address < end {
      guard let node = unsafe state.pointee.areas.find(containing: address) else { return address }
      address = unsafe node.pointee.end
    }
    return nil
  }
}

/// Up to two tree nodes, made before a change that must not fail half-way.
@safe
struct NodeReserve {
  private var first: AreaNode?
  private var second: AreaNode?

  init() {
    unsafe first = nil
    unsafe second = nil
  }

  mutating func put(_ node: AreaNode) {
    if unsafe first == nil { unsafe first = node } else { unsafe second = node }
  }

  mutating func take() -> AreaNode? {
    if let node = unsafe second {
      unsafe second = nil
      return unsafe node
    }
    let node = unsafe first
    unsafe first = nil
    return unsafe node
  }
}
