//===----------------------------------------------------------------------===//
// Holds a world against its model. Which frame stands for which is found out as
// it goes: a frame of the model is one page of the machine for all its life, and
// no two frames that live are the same page.
//===----------------------------------------------------------------------===//

import AddressSpaces
import CShims
import ForkModel
import PageFrames
import TestSupport

struct Comparison {
  private var pages: [ObjectIdentifier: (frame: Frame, page: Page, moves: Int)] = [:]
  private var frames: [Page: Frame] = [:]

  /// How many checks there were: which pages of many are looked at depends on it.
  private var checks = 0

  /// Some pages of every window, or all; and what is held. Of many pages only the
  /// first, the last and some between, unless `isThorough`.
  mutating func check(
    _ world: World, _ model: ForkModel, pages touched: Range<Int>?, isThorough: Bool = false
  ) throws {
    checks += 1
    let touched = touched ?? 0..<model.window.pages
    let few = isThorough ? Array(touched) : some(of: touched, 24)
    for space in model.processes.indices {
      guard let process = model.processes[space], let real = world.spaces[space] else {
        try mustHold(model.processes[space] == nil && world.spaces[space] == nil)
        continue
      }
      for page in few {
        try check(
          real, world.address(space, page), process.pages[page]?.entry,
          at: "process \(space), page \(page)")
      }
    }
    for hold in model.holds.indices {
      let real = world.held[hold]
      guard let held = model.holds[hold] else {
        try require(real.isEmpty, "hold \(hold) should be empty")
        continue
      }
      for index in isThorough ? Array(held.frames.indices) : some(of: held.frames.indices, 8) {
        let frame = held.frames[index]
        let place = "hold \(hold)[\(index)]"
        try check(real[index], frame, at: place)
        // G5: whatever was unmapped or dropped meanwhile.
        try require(!real[index].isFree, "G5: \(place) is free")
        if held.pins, held.wereExclusive[index] {
          // By its own mark or, pinned under a leaf, by its folio's first page's.
          let page = real[index]
          try require(
            page.isAnonymousExclusive || page.folioHead.isAnonymousExclusive,
            "G1: \(place) is not exclusive any more")
        }
      }
    }
    try require(
      world.memory.freeFrameCount.rawValue == model.freeFrames,
      "\(world.memory.freeFrameCount) are free, not \(model.freeFrames)")
  }

  /// Has a frame left a page since it was last looked at?
  private func isElsewhere(_ frame: Frame, _ page: Page) -> Bool {
    frame.references == 0 || pages[ObjectIdentifier(frame)]?.moves != frame.moves
  }

  private func some(of range: Range<Int>, _ most: Int) -> [Int] {
    guard range.count > most else { return Array(range) }
    let ends = most / 4
    let inner = (range.lowerBound + ends)..<(range.upperBound - ends)
    let step = max(1, inner.count / (2 * ends))
    return Array(range.prefix(ends)) + Array(range.suffix(ends))
      + stride(from: inner.lowerBound + checks % step, to: inner.upperBound, by: step)
  }

  /// A leaf's first page answers for all of it.
  private static func isExclusive(_ page: Page, _ frame: Frame) -> Bool {
    page.isAnonymousExclusive || frame.folio.leaves > 0 && page.folioHead.isAnonymousExclusive
  }

  private func require(_ condition: Bool, _ message: @autoclosure () -> String) throws {
    if !condition { throw Mismatch(description: message()) }
  }

  private mutating func check(
    _ space: AddressSpace, _ address: UserAddress, _ entry: Entry?, at place: String
  ) throws {
    let page = space.page(at: address)
    let isWritable = space.isWritable(at: address)
    guard let page, let entry else {
      return try require(
        page == nil && entry == nil && !isWritable,
        "\(place): \(page == nil ? "absent" : "present") unlike the model")
    }
    try check(page, entry.frame, at: place)
    try require(
      isWritable == entry.isWritable, "\(place): \(isWritable ? "" : "not ")writable")
    if isWritable, page.isAnonymous {
      try require(Self.isExclusive(page, entry.frame), "G2: \(place) is writable but not exclusive")
    }
  }

  private mutating func check(_ page: Page, _ frame: Frame, at place: String) throws {
    let known = pages[ObjectIdentifier(frame)]
    if let known, known.moves == frame.moves {
      try require(known.page == page, "\(place): \(page), which should be \(known.page)")
    } else {
      if let known {
        if known.moves + 1 == frame.moves {
          try require(known.page != page, "\(place): \(page), which should have moved")
        }
        if frames[known.page] === frame { frames[known.page] = nil }
      }
      try require(
        frames[page].map { isElsewhere($0, page) } ?? true, "\(place): \(page) is somebody else's")
      pages[ObjectIdentifier(frame)] = (frame, page, frame.moves)
      frames[page] = frame
    }
    try require(
      page.referenceCount == frame.references,
      "\(place): \(page.referenceCount) references, not \(frame.references)")
    try require(
      page.mapCount == frame.mappings,
      "\(place): \(page.mapCount) mappings, not \(frame.mappings)")
    let folio = frame.folio
    try require(
      (page.folioHead.flags & CSHIMS_PAGE_MOVABLE != 0) == folio.isMovable,
      "\(place): \(folio.isMovable ? "not " : "")movable")
    try require(
      page.folioOrder == folio.order, "\(place): order \(page.folioOrder), not \(folio.order)")
    if folio.order > 0 {
      try require(
        page.pinCount == folio.pins, "\(place): \(page.pinCount) pins, not \(folio.pins)")
      try require(
        page.frameNumber.rawValue - page.folioHead.frameNumber.rawValue == UInt64(frame.index),
        "\(place): not page \(frame.index) of its folio")
    }
    try require(page.isZeroPage == (frame.kind == .zero), "\(place): the zero page or not")
    try require(page.isAnonymous == (frame.kind == .anonymous), "\(place): anonymous or not")
    try require(
      page.isAnonymousExclusive == frame.showsExclusive,
      "\(place): \(page.isAnonymousExclusive ? "" : "not ")exclusive")
    for word in 0..<Limits.words {
      let value = World.word(word, of: page)
      try require(
        value == frame.words[word], "\(place), word \(word): \(value), not \(frame.words[word])")
    }
  }

  /// Everything, down to the last byte, and through the program's own pointers.
  mutating func checkAll(_ world: World, _ model: ForkModel) throws {
    try check(world, model, pages: nil, isThorough: true)
    for space in model.processes.indices {
      guard let process = model.processes[space], let real = world.spaces[space] else { continue }
      for (page, mapped) in process.pages.enumerated() {
        guard let mapped, mapped.access != .none, let entry = mapped.entry else { continue }
        // Every word of a small window, one of each page in a large one.
        for word in stride(
          from: model.window.hasFolios ? page % Limits.words : 0, to: Limits.words,
          by: model.window.hasFolios ? Limits.words : 1)
        {
          let value = real.loadWord(world.address(space, page, word))
          try require(
            value == entry.frame.words[word],
            "process \(space) sees \(value) at page \(page), word \(word),"
              + " not \(entry.frame.words[word])")
        }
      }
    }
    try checkAreas(world, model)
    pages = pages.filter { $0.value.frame.references > 0 }
    frames = frames.filter { $0.value.references > 0 }
    for known in pages.values where known.moves == known.frame.moves {
      try require(
        World.hasZeroesBetweenWords(known.page), "\(known.page) has bytes that nobody stored")
    }
    let counters = world.memory.counters
    let held = model.holds.compactMap { $0 }
    let pins = held.filter(\.pins).reduce(0) { $0 + $1.frames.count { $0.kind != .zero } }
    let gets = held.filter { !$0.pins }.reduce(0) { $0 + $1.frames.count }
    try require(
      counters.pinsAcquired - counters.pinsReleased == pins
        && counters.referencesAcquired - counters.referencesReleased == gets,
      "\(counters), but \(pins) pins and \(gets) references are held")
  }

  /// Each area is a run of pages that the model has as alike.
  private func checkAreas(_ world: World, _ model: ForkModel) throws {
    for space in model.processes.indices {
      guard let process = model.processes[space], let real = world.spaces[space] else { continue }
      var mapped = 0
      for area in real.areas {
        let pages = world.pages(of: area.range, space)
        mapped += pages.count
        for page in pages {
          guard 0..<model.window.pages ~= page, let known = process.pages[page] else {
            throw Mismatch(description: "process \(space), page \(page) should not be mapped")
          }
          try require(
            area.protection == known.access.protection
              && (area.sharing == .shared) == known.isShared
              && area.flags.contains(.dontFork) == known.isLeftOutByFork
              && area.flags.contains(.wipeOnFork) == known.isWipedByFork
              && area.flags.contains(.hugePage) == (known.folios == .leaf)
              && area.flags.contains(.adopted) == known.isAdopted
              && area.flags.contains(.movable) == known.isMovable,
            "process \(space), page \(page): \(area), not \(known)")
        }
      }
      let count = process.pages.count { $0 != nil }
      try require(mapped == count, "process \(space): \(mapped) pages in areas, not \(count)")
    }
  }
}
