//===----------------------------------------------------------------------===//
// The interval tree beside an array that is searched from end to end: compared,
// with the tree's invariants, after each change.
//===----------------------------------------------------------------------===//

import TestSupport
import Testing

@testable import PageFrames

/// What must hold of every tree: order, disjointness, parent links, balance,
/// and what each node says of its subtree.
private func checkInvariants<Payload>(_ tree: IntervalTree<Payload>) throws {
  var visited = 0
  var lastEnd: UInt64 = 0
  func check(
    _ node: IntervalTree<Payload>.NodePointer?, under parent: IntervalTree<Payload>.NodePointer?
  ) throws -> (height: Int, longest: UInt64) {
    guard let node = unsafe node else { return (0, 0) }
    try mustHold(unsafe node.pointee.parent == parent)
    let left = try unsafe check(node.pointee.left, under: node)
    try mustHold(unsafe node.pointee.start >= lastEnd)
    try mustHold(unsafe node.pointee.start < node.pointee.end)
    lastEnd = unsafe node.pointee.end
    visited += 1
    let right = try unsafe check(node.pointee.right, under: node)
    try mustHold(abs(left.height - right.height) <= 1)
    let height = 1 + max(left.height, right.height)
    let longest = unsafe max(node.pointee.length, left.longest, right.longest)
    try mustHold(unsafe node.pointee.height == height)
    try mustHold(unsafe node.pointee.longest == longest)
    return (height, longest)
  }
  _ = try unsafe check(tree.root, under: nil)
  try mustHold(visited == tree.count)
}

/// The dumb model: intervals in an array, in order.
private struct Model {
  struct Interval: Equatable {
    var start: UInt64
    var end: UInt64
    var payload: Int
    var node: UInt
  }
  var intervals: [Interval] = []

  func firstIndex(atOrAfter value: UInt64) -> Int? { intervals.firstIndex { $0.end > value } }

  func isFree(_ start: UInt64, _ end: UInt64) -> Bool {
    !intervals.contains { $0.start < end && start < $0.end }
  }
}

extension IntervalTree<Int>.Node {
  fileprivate static func snapshot(
    _ node: IntervalTree<Int>.NodePointer?
  ) -> Model.Interval? {
    guard let node = unsafe node else { return nil }
    return unsafe Model.Interval(
      start: node.pointee.start, end: node.pointee.end, payload: node.pointee.payload,
      node: UInt(bitPattern: node))
  }
}

@Suite("IntervalTree: disjoint intervals in the arena")
struct IntervalTreeTests {
  private typealias Tree = IntervalTree<Int>

  @Test("an interval that contains an address is at it, one that ends there is before it")
  func neighbours() throws {
    let memory = ZeroedMemory(byteCount: 1 << 16)
    let arena = unsafe Arena.create(at: memory.base, byteCount: memory.byteCount)
    var tree = Tree(arena: arena)
    for start: UInt64 in [30, 10, 50] { try unsafe tree.insert(start, start + 10, Int(start)) }
    func starts(_ node: Tree.NodePointer?) -> UInt64? { unsafe node?.pointee.start }
    let table: [(value: UInt64, containing: UInt64?, atOrAfter: UInt64?, before: UInt64?)] = [
      (0, nil, 10, nil), (10, 10, 10, nil), (19, 10, 10, nil), (20, nil, 30, 10),
      (35, 30, 30, 10), (40, nil, 50, 30), (59, 50, 50, 30), (60, nil, nil, 50),
      (.max, nil, nil, 50),
    ]
    for row in table {
      #expect(unsafe starts(tree.find(containing: row.value)) == row.containing)
      #expect(unsafe starts(tree.first(atOrAfter: row.value)) == row.atOrAfter)
      #expect(unsafe starts(tree.last(before: row.value)) == row.before)
    }
    tree.removeAll()
    #expect(tree.isEmpty && arena.bytesInUse == 0)
  }

  @Test("the ends of UInt64 are ordinary numbers")
  func extremes() throws {
    let memory = ZeroedMemory(byteCount: 1 << 16)
    let arena = unsafe Arena.create(at: memory.base, byteCount: memory.byteCount)
    var tree = Tree(arena: arena)
    let top = UInt64.max - 1
    let upper = unsafe try tree.insert(top, .max, 1)
    let lower = unsafe try tree.insert(0, 1, 0)
    unsafe tree.setBounds(lower, 0, top)
    #expect(tree.longest == top)
    #expect(unsafe tree.find(containing: top) == upper)
    #expect(unsafe tree.find(containing: .max) == nil)
    unsafe tree.remove(lower)
    unsafe tree.remove(upper)
    #expect(arena.bytesInUse == 0)
  }

  @Test("a node that nobody inserted goes back; an insertion with it cannot fail")
  func spareNodes() throws {
    let memory = ZeroedMemory(byteCount: 1024)
    let arena = unsafe Arena.create(at: memory.base, byteCount: memory.byteCount)
    var tree = Tree(arena: arena)
    let spare = unsafe try tree.makeNode()
    let unused = unsafe try tree.makeNode()
    while unsafe arena.allocate(byteCount: 64) != nil {}
    let before = arena.bytesInUse
    #expect(throws: ArenaExhausted()) { _ = unsafe try tree.insert(1, 2, 3) }
    #expect(tree.isEmpty)
    unsafe tree.insert(1, 2, 3, using: spare)
    #expect(unsafe tree.find(containing: 1)?.pointee.payload == 3)
    unsafe tree.discardNode(unused)
    tree.removeAll()
    #expect(arena.bytesInUse == before - 2 * 64)
  }

  @Test("adding in order keeps the tree flat", arguments: [false, true])
  func sortedInsertion(descending: Bool) throws {
    let memory = ZeroedMemory(byteCount: 1 << 24)
    let arena = unsafe Arena.create(at: memory.base, byteCount: memory.byteCount)
    var tree = Tree(arena: arena)
    for step in 0..<UInt64(1 << 14) {
      let start = descending ? (1 << 14) - step : step
      try unsafe tree.insert(start, start + 1, 0)
    }
    try checkInvariants(tree)
    #expect(unsafe tree.root?.pointee.height == 15)
    tree.removeAll()
    #expect(arena.bytesInUse == 0)
  }

  @Test(
    "the tree agrees with an array after each of 20,000 random changes",
    arguments: [(range: UInt64(200), arena: 1 << 20), (1_000, 1 << 20), (1_000, 1 << 12)])
  func fuzz(range: UInt64, arenaBytes: Int) throws {
    let memory = ZeroedMemory(byteCount: arenaBytes)
    let arena = unsafe Arena.create(at: memory.base, byteCount: memory.byteCount)
    var tree = Tree(arena: arena)
    var model = Model()
    var refused = 0
    try withSeededRandom(stream: range &+ UInt64(arenaBytes)) { random in
      for step in 0..<20_000 {
        // Waves: mostly growing, then mostly shrinking.
        let grows = random.below(100) < (step / 2_500 % 2 == 0 ? 65 : 35)
        if grows || model.intervals.isEmpty {
          let start = UInt64.random(in: 0..<range, using: &random)
          let end = start + 1 + UInt64(random.below(12))
          guard model.isFree(start, end) else { continue }
          do {
            let node = unsafe try tree.insert(start, end, step)
            let place = model.firstIndex(atOrAfter: start) ?? model.intervals.count
            model.intervals.insert(
              .init(start: start, end: end, payload: step, node: UInt(bitPattern: node)),
              at: place)
          } catch {
            refused += 1
          }
        } else {
          let victim = random.below(model.intervals.count)
          let old = model.intervals[victim]
          let node = unsafe try #require(tree.find(containing: old.end - 1))
          if random.oneIn(3) {
            // Move the bounds, as far as the neighbours let them.
            let floor = victim > 0 ? model.intervals[victim - 1].end : 0
            let ceiling =
              victim + 1 < model.intervals.count ? model.intervals[victim + 1].start : range + 20
            let start = UInt64.random(
              in: max(floor, old.start &- min(old.start, 3))...(old.end - 1), using: &random)
            let end = UInt64.random(in: (start + 1)...min(ceiling, old.end + 3), using: &random)
            unsafe tree.setBounds(node, start, end)
            unsafe node.pointee.payload = -step
            (model.intervals[victim].start, model.intervals[victim].end) = (start, end)
            model.intervals[victim].payload = -step
          } else {
            unsafe tree.remove(node)
            model.intervals.remove(at: victim)
          }
        }
        try compare(tree, model, &random, range)
        try mustHold(arena.bytesInUse == 64 * model.intervals.count)
      }
    }
    #expect((refused > 0) == (arenaBytes == 1 << 12), "only the tiny arena is exhausted")
    tree.removeAll()
    #expect(tree.isEmpty && arena.bytesInUse == 0)
  }

  private func compare(
    _ tree: Tree, _ model: Model, _ random: inout SeededRandom, _ range: UInt64
  ) throws {
    try checkInvariants(tree)
    // Every interval with its address, upwards and downwards.
    var node = unsafe tree.first
    for index in model.intervals.indices {
      try mustHold(unsafe Tree.Node.snapshot(node) == model.intervals[index])
      unsafe node = tree.next(after: try #require(node))
    }
    try mustHold(unsafe node == nil)
    unsafe node = tree.last
    for index in model.intervals.indices.reversed() {
      try mustHold(unsafe Tree.Node.snapshot(node) == model.intervals[index])
      unsafe node = tree.previous(before: try #require(node))
    }
    try mustHold(unsafe node == nil)
    // Searches from a random number.
    let value = UInt64.random(in: 0..<(range + 20), using: &random)
    let place = model.firstIndex(atOrAfter: value)
    let above = place.map { model.intervals[$0] }
    let below = (place ?? model.intervals.count) - 1
    let containing = above.flatMap { $0.start <= value ? $0 : nil }
    try mustHold(unsafe Tree.Node.snapshot(tree.first(atOrAfter: value)) == above)
    try mustHold(unsafe Tree.Node.snapshot(tree.find(containing: value)) == containing)
    try mustHold(
      unsafe Tree.Node.snapshot(tree.last(before: value))
        == (below >= 0 ? model.intervals[below] : nil))
    // First fits by length, from the start and from one on.
    let length = UInt64(1 + random.below(14))
    var fit = unsafe tree.first(ofLengthAtLeast: length)
    for interval in model.intervals where interval.end - interval.start >= length {
      try mustHold(unsafe Tree.Node.snapshot(fit) == interval)
      unsafe fit = tree.next(after: try #require(fit), ofLengthAtLeast: length)
    }
    try mustHold(unsafe fit == nil)
  }
}
