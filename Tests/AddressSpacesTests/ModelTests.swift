//===----------------------------------------------------------------------===//
// An address space beside the dumbest thing that behaves like one: a dictionary
// from page to what is known of it. After each random step areas, presence,
// protection and bytes must agree.
//===----------------------------------------------------------------------===//

import AddressSpaces
import PageFrames
import TestSupport
import Testing

/// What the model knows of one page of the window.
private struct Cell: Equatable {
  enum Presence { case absent, zero, present }

  var protection: Protection
  var sharing: Sharing
  var flags: AreaFlags = []
  var presence = Presence.absent
  /// The word that every aligned word of the page's bytes holds.
  var word: UInt64 = 0

  var isReadable: Bool { !protection.isEmpty }
  var isWritable: Bool { protection.contains(.write) }
}

/// A window of pages, and what must be true of it.
private struct Model {
  static let pages = 64

  let space: AddressSpace
  let base: UserAddress
  let tier: TrapTier
  var cells: [Int: Cell] = [:]

  func address(_ page: Int) -> UserAddress { base + .pages(page) }

  // MARK: Steps

  mutating func step(_ random: inout SeededRandom) throws {
    let first = random.below(Self.pages)
    let count = min(Self.pages - first, 1 + random.below(random.oneIn(8) ? Self.pages : 6))
    let range = first..<(first + count)
    switch random.below(12) {
    case 0, 1: try map(range, &random)
    case 2: try unmap(range)
    case 3, 4: try protect(range, &random)
    case 5, 6: try advise(range, &random)
    case 7: try copyIn(range, random.next())
    case 8: try copyOut(range)
    default:
      for _ in 0..<4 { try touch(random.below(Self.pages), &random) }
    }
  }

  private mutating func map(_ range: Range<Int>, _ random: inout SeededRandom) throws {
    let protection: Protection = random.oneIn(4) ? .readOnly : random.oneIn(8) ? .none : .readWrite
    let sharing: Sharing = random.oneIn(3) ? .shared : .private
    let start = address(range.lowerBound)
    let isFree = range.allSatisfy { cells[$0] == nil }
    let replaces = random.oneIn(2)
    do {
      let got = try space.map(
        length: .pages(range.count), protection: protection, sharing: sharing,
        at: replaces ? .fixed(start) : .fixedNoReplace(start))
      try mustHold(got == start && (replaces || isFree))
      for page in range { cells[page] = Cell(protection: protection, sharing: sharing) }
    } catch let error as MemoryError {
      try mustHold(!replaces && !isFree && error.number == .exists)
    }
  }

  private mutating func unmap(_ range: Range<Int>) throws {
    try space.unmap(address(range.lowerBound), length: .pages(range.count))
    for page in range { cells[page] = nil }
  }

  private mutating func protect(_ range: Range<Int>, _ random: inout SeededRandom) throws {
    let choices: [Protection] = [.none, .readOnly, .readWrite, .readWrite, .write]
    let protection = choices[random.below(choices.count)]
    let hole = range.first { cells[$0] == nil }
    do {
      try space.protect(address(range.lowerBound), length: .pages(range.count), protection)
      try mustHold(hole == nil)
    } catch let error as MemoryError {
      try mustHold(error == MemoryError(.outOfMemory, .notMapped, address(hole ?? -1)))
    }
    for page in range.lowerBound..<(hole ?? range.upperBound) {
      cells[page]?.protection = protection
    }
  }

  private mutating func advise(_ range: Range<Int>, _ random: inout SeededRandom) throws {
    let choices: [Advice] = [
      .dontNeed, .dontNeed, .populateRead, .populateWrite, .free, .wipeOnFork, .keepOnFork,
      .dontFork, .doFork, .cold, .normal,
    ]
    let advice = choices[random.below(choices.count)]
    var expected: MemoryError?
    let populates = advice == .populateRead || advice == .populateWrite
    var hole: Int?
    pages: for page in range {
      guard let cell = cells[page] else {
        hole = hole ?? page
        if populates { break }
        continue
      }
      let refusal = MemoryError(.invalid, .adviceNotApplicable, address(page))
      switch advice {
      case .free, .wipeOnFork:
        if cell.sharing == .shared {
          expected = refusal
          break pages
        }
        if advice == .wipeOnFork { cells[page]?.flags.insert(.wipeOnFork) }
      case .keepOnFork: cells[page]?.flags.remove(.wipeOnFork)
      case .dontFork: cells[page]?.flags.insert(.dontFork)
      case .doFork: cells[page]?.flags.remove(.dontFork)
      case .dontNeed: drop(page)
      case .populateRead, .populateWrite:
        let write = advice == .populateWrite
        guard cell.protection.contains(write ? .write : .read) else {
          expected = MemoryError(
            .invalid, write ? .writeForbidden : .readForbidden, address(page))
          break pages
        }
        fault(page, write: write)
      default: break
      }
    }
    // A refusal comes when its area is met, a hole is told at the end.
    if expected == nil, let hole {
      expected = MemoryError(.outOfMemory, .notMapped, address(hole))
    }
    let error = MappingTests.refusal { () throws(MemoryError) in
      try space.advise(address(range.lowerBound), length: .pages(range.count), advice)
    }
    try mustHold(error == expected)
  }

  private mutating func copyIn(_ range: Range<Int>, _ word: UInt64) throws {
    let stop = range.first { cells[$0]?.isWritable != true } ?? range.upperBound
    var bytes: [UInt8] = []
    for _ in 0..<(range.count * 512) {
      for shift in 0..<8 { bytes.append(UInt8(truncatingIfNeeded: word >> UInt64(8 * shift))) }
    }
    let error = MappingTests.refusal { () throws(MemoryError) in
      try space.write(bytes, to: address(range.lowerBound))
    }
    let reason: MemoryError.Reason = cells[stop] == nil ? .notMapped : .writeForbidden
    try mustHold(
      error
        == (stop == range.upperBound
          ? nil : MemoryError(.badAddress, reason, address(stop))))
    for page in range.lowerBound..<stop {
      fault(page, write: true)
      cells[page]?.word = word
    }
  }

  private mutating func copyOut(_ range: Range<Int>) throws {
    let stop = range.first { cells[$0]?.isReadable != true } ?? range.upperBound
    let readable = range.lowerBound..<stop
    for page in readable { fault(page, write: false) }
    let bytes = try space.read(readable.count * 4096, at: address(range.lowerBound))
    for page in readable {
      let at = (page - range.lowerBound) * 4096
      for offset in [0, 2048, 4088] {
        let word = bytes[(at + offset)..<(at + offset + 8)].reversed().reduce(UInt64(0)) {
          $0 << 8 | UInt64($1)
        }
        try mustHold(word == cells[page]?.word)
      }
    }
    guard stop < range.upperBound else { return }
    let error = MappingTests.refusal { () throws(MemoryError) in
      _ = try space.read(1, at: address(stop))
    }
    try mustHold(error?.number == .badAddress)
  }

  /// The program's own load or store, where it is allowed and something traps it.
  private mutating func touch(_ page: Int, _ random: inout SeededRandom) throws {
    guard let cell = cells[page], cell.isReadable else { return }
    let stores = cell.isWritable && random.oneIn(2)
    if tier == .none {
      // Only what is there can be touched.
      guard cell.presence == .present || (cell.presence == .zero && !stores) else { return }
    }
    let pointer = unsafe space.pointer(at: address(page)).assumingMemoryBound(to: UInt64.self)
    if stores {
      let word = random.next()
      fault(page, write: true)
      cells[page]?.word = word
      for i in 0..<512 { unsafe pointer[i] = word }
    } else {
      fault(page, write: false)
      for i in stride(from: 0, to: 512, by: 73) {
        try mustHold(unsafe pointer[i] == cells[page]?.word)
      }
    }
  }

  // MARK: What the steps do to a page

  private mutating func fault(_ page: Int, write: Bool) {
    guard let cell = cells[page] else { return }
    if cell.sharing == .shared || write {
      cells[page]?.presence = .present
    } else if cell.presence == .absent {
      cells[page]?.presence = .zero
    }
  }

  private mutating func drop(_ page: Int) {
    cells[page]?.presence = .absent
    if cells[page]?.sharing == .private { cells[page]?.word = 0 }
  }

  // MARK: Checks

  func check() throws {
    var seen = 0
    var end = UserAddress(0)
    for area in space.areas {
      try mustHold(area.range.start >= end && area.range.start < area.range.end)
      end = area.range.end
      var at = area.range.start
      while at < end {
        let page = (at - base).rawValue >> 12
        if page >= 0, page < Self.pages {
          guard let cell = cells[page] else { throw Mismatch(description: "page \(page)") }
          let flags = area.flags.intersection([.dontFork, .wipeOnFork])
          try mustHold(
            area.protection == cell.protection && area.sharing == cell.sharing
              && flags == cell.flags)
          seen += 1
        }
        at = at + 4096
      }
    }
    try mustHold(seen == cells.count)
    for page in 0..<Self.pages { try check(page) }
    try mustHold(
      AddressSpace.hostMappings(base, pages: Self.pages) <= space.hostMappingCount || tier == .none)
  }

  private func check(_ page: Int) throws {
    let frame = space.page(at: address(page))
    guard let cell = cells[page], cell.presence != .absent else {
      return try mustHold(frame == nil)
    }
    guard let frame else { throw Mismatch(description: "page \(page) is not there") }
    try mustHold(frame.isZeroPage == (cell.presence == .zero))
    if cell.presence == .present {
      try mustHold(frame.mapCount == 1)
      try mustHold(frame.referenceCount == (cell.sharing == .shared ? 2 : 1))
      try mustHold(frame.isAnonymousExclusive == (cell.sharing == .private))
    }
    try mustHold(
      space.isWritable(at: address(page)) == (cell.presence == .present && cell.isWritable))
    for offset in [0, 1024, 4088] {
      let word = unsafe frame.bytes.load(fromByteOffset: offset, as: UInt64.self)
      try mustHold(word == cell.word)
    }
  }
}

@Suite("Areas, pages and bytes against a plain model")
struct ModelTests {
  /// Where the window lies.
  enum Window: CaseIterable, Sendable {
    /// Across a border of 2 MiB in one region.
    case acrossTables
    /// In regions of their own that touch.
    case acrossRegions
  }

  private static func base(_ window: Window, _ space: AddressSpace) throws -> UserAddress {
    switch window {
    case .acrossTables:
      let start = try space.map(length: .mebibytes(8))
      try space.unmap(start, length: .mebibytes(8))
      return start + (.mebibytes(4) - .pages(Model.pages / 2))
    case .acrossRegions:
      for _ in 0..<100 {
        let start = AddressSpace.freeHostAddress(pages: Model.pages)
        guard try mapQuarters(space, start) else { continue }
        try space.unmap(start, length: .pages(Model.pages))
        return start
      }
      throw Mismatch(description: "no room for a window")
    }
  }

  /// False when another thread was quicker.
  private static func mapQuarters(_ space: AddressSpace, _ start: UserAddress) throws -> Bool {
    for i in 0..<4 {
      let quarter = start + .pages(i * Model.pages / 4)
      let error = MappingTests.refusal { () throws(MemoryError) in
        _ = try space.map(length: .pages(Model.pages / 4), at: .fixedNoReplace(quarter))
      }
      if error?.number == .exists { return false }
      if let error { throw error }
    }
    return true
  }

  @Test("random steps agree with the model", arguments: TrapTier.all, Window.allCases)
  func randomSteps(tier: TrapTier, window: Window) throws {
    try withSeededRandom(
      stream: 100 + UInt64(tier.rawValue) * 2 + (window == .acrossTables ? 0 : 1)
    ) {
      random in
      try withAddressSpace(capacity: .mebibytes(2), tier: tier) { space in
        let base = try Self.base(window, space)
        var model = Model(space: space, base: base, tier: tier)
        for _ in 0..<2000 {
          try model.step(&random)
          try model.check()
        }
        space.exit()
        try mustHold(space.memory.freeFrameCount == space.memory.totalFrameCount)
      }
    }
  }

  @Test(
    "random steps agree with the model when the view's budget is always spent",
    arguments: TrapTier.testable)
  func randomStepsWithoutBudget(tier: TrapTier) throws {
    try withSeededRandom(stream: 200 + UInt64(tier.rawValue)) { random in
      try withAddressSpace(capacity: .mebibytes(2), tier: tier, budget: 64) { space in
        // Areas that do not merge use the budget up.
        for _ in 0..<60 {
          let start = try space.map(length: .pages(2))
          try space.unmap(start, length: .pages(1))
        }
        #expect(space.hostMappingCount > 64)
        let base = try Self.base(.acrossTables, space)
        var model = Model(space: space, base: base, tier: tier)
        for _ in 0..<1000 {
          try model.step(&random)
          try model.check()
        }
      }
    }
  }
}
