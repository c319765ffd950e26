//===----------------------------------------------------------------------===//
// Design decision 6: a view's host mappings stay within its budget, whatever the
// program touches and in whatever order.
//===----------------------------------------------------------------------===//

import AddressSpaces
import CShims
import PageFrames
import TestSupport

/// Faults an area in in random order, forks it and stores to every second page, then
/// protects every second page, and checks every page's bytes, in frames and by loads, and
/// that the host's own count of mappings never passes a view's, nor that its budget.
func fragment(_ tier: TrapTier, mebibytes: Int, budget: Int?) throws {
  let memory = try PhysicalMemory(
    capacity: .mebibytes(mebibytes + mebibytes / 2 + 64), trapTier: tier,
    hostMappingBudget: budget)
  var random = SeededRandom(stream: 300)
  let parent = try FragmentedView(AddressSpace(memory: memory), mebibytes: mebibytes)
  let (space, start, count) = (parent.space, parent.start, parent.count)
  let half = Array(stride(from: 0, to: count, by: 2))
  let free = memory.freeFrameCount.rawValue
  func used() -> Int { free - memory.freeFrameCount.rawValue }

  parent.phase("stores in random order") {
    for (i, page) in parent.all.shuffled(using: &random).enumerated() {
      parent.store(FragmentedView.word(page), page)
      parent.checkMappings(i)
    }
  }
  let child = try parent.forked()
  // The parent's to the lower half, the child's to the upper, so that both views break up.
  func breaker(_ page: Int) -> FragmentedView { page < count / 2 ? parent : child }
  func other(_ page: Int) -> FragmentedView { page < count / 2 ? child : parent }
  try parent.phase("stores to every second page while both share all") {
    for (i, page) in half.shuffled(using: &random).enumerated() {
      // Every tenth by the kernel's way.
      if i % 10 == 0 {
        try breaker(page).write(~FragmentedView.word(page), page)
      } else {
        breaker(page).store(~FragmentedView.word(page), page)
      }
      parent.checkMappings(i)
      child.checkMappings(i)
    }
  }
  check(used() == count + half.count, "one copy of every second page")
  for (view, name) in [(parent, "the parent's"), (child, "the child's")] {
    view.phase("\(name) loads") {
      for page in view.all {
        view.checkLoad(page)
        view.checkMappings(page)
      }
    }
  }
  child.phase("stores to what is shared no more") {
    for page in stride(from: 0, to: count, by: 16) { other(page).store(7, page) }
  }
  for page in parent.all {
    let (own, other) = (parent.frame(page), child.frame(page))
    check((own == other) == (page & 1 != 0), "page \(page) is shared by both")
    parent.checkFrame(page)
    child.checkFrame(page)
  }
  check(used() == count + half.count, "no further copy")
  parent.checkMappings()
  child.checkMappings()
  child.space.exit()
  check(used() == count, "the child's frames have come back")
  child.report("child")

  try parent.phase("every second page protected") {
    for page in half {
      try space.protect(start + .pages(page), length: .pages(1), .readOnly)
      parent.checkMappings(page)
    }
  }
  parent.phase("loads in random order") {
    for page in parent.all.shuffled(using: &random) { parent.checkLoad(page) }
  }
  parent.phase("stores to the others") {
    for page in stride(from: 1, to: count, by: 2) {
      parent.store(~FragmentedView.word(page), page)
    }
  }
  for page in parent.all { parent.checkFrame(page) }
  try parent.phase("zero pages between pages of its own") {
    try space.protect(start, length: .mebibytes(mebibytes), .readWrite)
    for page in stride(from: 0, to: count, by: 3) {
      try space.advise(start + .pages(page), length: .pages(1), .dontNeed)
      parent.words[page] = 0
      parent.checkLoad(page)
    }
  }
  for page in parent.all.shuffled(using: &random).prefix(10000) { parent.checkLoad(page) }
  parent.checkMappings()
  parent.report("parent")
}

/// A view, what its pages must hold, and the most host mappings that were seen.
@safe final class FragmentedView {
  let space: AddressSpace
  let start: UserAddress
  let count: Int
  /// What the first word of each page must be.
  var words: [UInt64]
  private let pointer: UnsafeMutableRawPointer
  private var most = 0

  init(_ space: AddressSpace, mebibytes: Int) throws {
    self.space = space
    start = try space.map(length: .mebibytes(mebibytes))
    count = mebibytes << 8
    words = Array(repeating: 0, count: count)
    unsafe pointer = space.pointer(at: start)
  }

  private init(_ space: AddressSpace, copyOf other: FragmentedView) {
    self.space = space
    (start, count, words) = (other.start, other.count, other.words)
    unsafe pointer = space.pointer(at: start)
  }

  static func word(_ page: Int) -> UInt64 { UInt64(page) &* 0x9e37_79b9_7f4a_7c15 | 1 }

  var all: Range<Int> { 0..<count }

  /// The same of a child.
  func forked() throws -> FragmentedView {
    var child: AddressSpace?
    try phase("fork") { child = try space.fork() }
    return FragmentedView(child!, copyOf: self)
  }

  func store(_ word: UInt64, _ page: Int) {
    unsafe pointer.storeBytes(of: word, toByteOffset: page << 12, as: UInt64.self)
    words[page] = word
  }

  /// By a copy of the kernel's instead of a store.
  func write(_ word: UInt64, _ page: Int) throws {
    try unsafe withUnsafeBytes(of: word) { bytes in
      try unsafe space.copyToUser(start + .pages(page), from: bytes)
    }
    words[page] = word
  }

  func checkLoad(_ page: Int) {
    let value = unsafe pointer.load(fromByteOffset: page << 12, as: UInt64.self)
    check(value == words[page], "page \(page) \(howToRepeat)")
  }

  func frame(_ page: Int) -> PageFrameNumber? { space.page(at: start + .pages(page))?.frameNumber }

  func checkFrame(_ page: Int) {
    let value = unsafe space.page(at: start + .pages(page))?.bytes.load(as: UInt64.self)
    check(value == words[page], "page \(page)'s frame \(howToRepeat)")
  }

  /// At the step with this number, if it is one in sixteen of all.
  func checkMappings(_ step: Int) {
    if step % (count / 16) == 0 { checkMappings() }
  }

  func checkMappings() {
    let counted = space.hostMappingCount
    let budget = space.memory.hostMappingBudget
    let real = unsafe AddressSpace.hostMappings(
      UserAddress(UInt64(UInt(bitPattern: pointer))), pages: count)
    check(counted <= budget, "\(counted) mappings of \(budget)")
    check(real <= counted, "\(real) real mappings, \(counted) counted")
    most = max(most, real)
  }

  func phase(_ name: String, _ body: () throws -> Void) rethrows {
    let calls = space.memory.counters.hostCalls
    let begin = cshims_monotonic_ns()
    try body()
    let milliseconds = (cshims_monotonic_ns() - begin) / 1_000_000
    checkMappings()
    print(
      "\(name): \(milliseconds) ms, \(space.memory.counters.hostCalls - calls) host calls,"
        + " \(space.hostMappingCount) mappings counted")
  }

  func report(_ name: String) {
    print("\(name): at most \(most) host mappings, budget \(space.memory.hostMappingBudget)")
  }
}
