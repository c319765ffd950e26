//===----------------------------------------------------------------------===//
// What every test here stands on: a small machine of its own, one address
// space, a page list, and the settling of accounts at the end.
//===----------------------------------------------------------------------===//

import AddressSpaces
import CShims
import GUP
import PageFrames
import Testing

/// One of the entry points.
enum Entry: String, CaseIterable, Sendable {
  case getUserPagesFast, getUserPagesFastOnly, getUserPages
  case pinUserPagesFast, pinUserPagesFastOnly, pinUserPages

  static let fast: [Entry] = [.getUserPagesFast, .pinUserPagesFast]
  static let fastOnly: [Entry] = [.getUserPagesFastOnly, .pinUserPagesFastOnly]
  static let slow: [Entry] = [.getUserPages, .pinUserPages]
  static let falling: [Entry] = fast + slow

  var pins: Bool { Entry.pinning.contains(self) }
  static let pinning: [Entry] = [.pinUserPagesFast, .pinUserPagesFastOnly, .pinUserPages]
  var isFast: Bool { !Entry.slow.contains(self) }
  var hold: PageHold { pins ? .pin : .reference }
  /// What one page's count grows by.
  var bias: Int { pins ? 1024 : 1 }

  @unsafe
  func take(
    _ space: AddressSpace, _ start: UserAddress, _ count: Int, _ flags: GUPFlags,
    _ list: UnsafeMutablePointer<Page?>?
  ) throws(MemoryError) -> GUPResult {
    switch self {
    case .getUserPagesFast:
      try unsafe space.getUserPagesFast(start, count: count, flags: flags, into: list)
    case .getUserPagesFastOnly:
      try unsafe space.getUserPagesFastOnly(start, count: count, flags: flags, into: list)
    case .getUserPages:
      try unsafe space.getUserPages(start, count: count, flags: flags, into: list)
    case .pinUserPagesFast:
      try unsafe space.pinUserPagesFast(start, count: count, flags: flags, into: list)
    case .pinUserPagesFastOnly:
      try unsafe space.pinUserPagesFastOnly(start, count: count, flags: flags, into: list)
    case .pinUserPages:
      try unsafe space.pinUserPages(start, count: count, flags: flags, into: list)
    }
  }
}

/// What a refused call says, without the value.
struct Refusal: Equatable, Sendable, CustomStringConvertible {
  let number: ErrorNumber
  let reason: MemoryError.Reason
  init(_ number: ErrorNumber, _ reason: MemoryError.Reason) {
    self.number = number
    self.reason = reason
  }
  init?(_ error: MemoryError?) {
    guard let error else { return nil }
    self.init(error.number, error.reason)
  }
  var description: String { "\(number.name) \(reason)" }
}

@safe
final class Sandbox {
  let memory: PhysicalMemory
  let space: AddressSpace
  /// The page list of the test's calls.
  let list: UnsafeMutablePointer<Page?>
  static let listCapacity = 8192

  init(capacity: ByteCount, tier: TrapTier) throws {
    memory = try PhysicalMemory(capacity: capacity, trapTier: tier)
    space = try AddressSpace(memory: memory)
    unsafe list = .allocate(capacity: Sandbox.listCapacity)
    unsafe list.initialize(repeating: nil, count: Sandbox.listCapacity)
  }

  deinit { unsafe list.deallocate() }

  var machine: Machine { memory.machine }

  // MARK: - Calls

  /// Calls an entry point with the sandbox's list.
  @discardableResult
  func take(
    _ entry: Entry, _ start: UserAddress, _ count: Int, _ flags: GUPFlags = []
  ) throws(MemoryError) -> GUPResult {
    precondition(count <= Sandbox.listCapacity)
    return try unsafe entry.take(space, start, count, flags, list)
  }

  /// The refusal of a call that must take nothing.
  func refusal(
    _ entry: Entry, _ start: UserAddress, _ count: Int, _ flags: GUPFlags = []
  ) -> MemoryError? {
    do throws(MemoryError) {
      let result = try unsafe entry.take(space, start, count, flags, list)
      if result.pageCount > 0 { release(entry, result.pageCount) }
      return nil
    } catch {
      return error
    }
  }

  func taken(_ index: Int) -> Page? { unsafe list[index] }

  func release(_ entry: Entry, _ count: Int) {
    if entry.pins {
      unsafe unpinUserPages(list, count: count)
    } else {
      unsafe putPages(list, count: count)
    }
  }

  // MARK: - State

  func map(
    pages: Int, _ protection: Protection = .readWrite, _ sharing: Sharing = .private
  ) throws -> UserAddress {
    try space.map(length: .pages(pages), protection: protection, sharing: sharing)
  }

  /// An area whose pages have all been stored to.
  func mapWritten(pages: Int, _ sharing: Sharing = .private) throws -> UserAddress {
    let start = try map(pages: pages, .readWrite, sharing)
    try store(start, pages: pages)
    return start
  }

  /// Stores the page's number into each page, as the program would.
  func store(_ start: UserAddress, pages: Int) throws {
    for i in 0..<pages {
      let value = UInt64(i) + 1
      try unsafe withUnsafeBytes(of: value) { bytes in
        try unsafe space.copyToUser(start + .pages(i), from: bytes)
      }
    }
  }

  /// Loads the first word of each page, and returns that of the last.
  @discardableResult
  func load(_ start: UserAddress, pages: Int) throws -> UInt64 {
    var value: UInt64 = 0
    for i in 0..<pages {
      try unsafe withUnsafeMutableBytes(of: &value) { bytes in
        try unsafe space.copyFromUser(bytes, from: start + .pages(i))
      }
    }
    return value
  }

  func page(_ address: UserAddress) throws -> Page { try #require(space.page(at: address)) }

  func word(_ page: Page) -> UInt64 { unsafe page.bytes.load(as: UInt64.self) }

  /// The last-level entry as it is now, of a leaf what one would hold; 0 where
  /// there is none.
  func entry(_ address: UserAddress) -> UInt64 { space.mm.value(at: address.rawValue) }

  /// Puts an entry that no room makes yet, and returns the one before. The
  /// address must have a table.
  @discardableResult
  func setEntry(_ address: UserAddress, _ value: UInt64) throws -> UInt64 {
    let slot = unsafe try #require(space.mm.entry(at: address.rawValue))
    return unsafe cshims_pte_exchange(slot, value)
  }

  /// Puts a middle-level entry, and returns the one before.
  @discardableResult
  func setMiddleEntry(_ address: UserAddress, _ value: UInt64) throws -> UInt64 {
    let slot = unsafe try #require(
      cshims_pmd_offset(space.mm.hot.pointee.pgd, address.rawValue))
    return unsafe cshims_pte_exchange(slot, value)
  }

  func setFlags(_ page: Page, _ flags: UInt32) {
    unsafe _ = cshims_page_set_flags(page.descriptor, flags)
  }
  func clearFlags(_ page: Page, _ flags: UInt32) {
    unsafe _ = cshims_page_clear_flags(page.descriptor, flags)
  }

  /// Changes an area's flags, for kinds of areas that no room makes yet.
  func changeArea(_ start: UserAddress, insert: AreaFlags = [], remove: AreaFlags = []) {
    space.mm.lock()
    if let area = unsafe space.mm.area(containing: start.rawValue) {
      unsafe area.pointee.flags = area.pointee.flags.subtracting(remove).union(insert)
    }
    space.mm.unlock()
  }

  var hasPinned: Bool { unsafe cshims_mm_flags(space.mm.hot) & CSHIMS_MM_HAS_PINNED != 0 }

  /// Begins or ends what fork does around its copying.
  func advanceSequence() { unsafe cshims_mm_write_protect_advance(space.mm.hot) }
}

/// Runs a test in a sandbox and settles the accounts: every hold that was
/// counted as taken is counted as dropped, and once the address space has gone
/// every frame is free again.
func withSandbox(
  capacity: ByteCount = .mebibytes(16), tier: TrapTier = .none,
  sourceLocation: SourceLocation = #_sourceLocation, _ body: (Sandbox) throws -> Void
) throws {
  let sandbox = try Sandbox(capacity: capacity, tier: tier)
  let memory = sandbox.memory
  do {
    try body(sandbox)
  } catch {
    sandbox.space.exit()
    throw error
  }
  sandbox.space.exit()
  let counters = memory.counters
  #expect(
    counters.pinsAcquired == counters.pinsReleased, "pins leaked", sourceLocation: sourceLocation)
  #expect(
    counters.referencesAcquired == counters.referencesReleased, "references leaked",
    sourceLocation: sourceLocation)
  #expect(
    memory.freeFrameCount == memory.totalFrameCount, "frames leaked",
    sourceLocation: sourceLocation)
  #expect(
    memory.zeroPage.referenceCount == 1, "holds on the zero page leaked",
    sourceLocation: sourceLocation)
}
