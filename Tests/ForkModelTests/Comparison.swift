//===----------------------------------------------------------------------===//
// Holds a world against its model. Which frame stands for which is found out as
// it goes: a frame of the model is one page of the machine for all its life, and
// no two frames that live are the same page.
//===----------------------------------------------------------------------===//

import AddressSpaces
import ForkModel
import PageFrames
import TestSupport

struct Comparison {
  private var pages: [ObjectIdentifier: (frame: Frame, page: Page)] = [:]
  private var frames: [Page: Frame] = [:]

  /// Some pages of every window, or all; and every page that is held.
  mutating func check(_ world: World, _ model: ForkModel, pages touched: Range<Int>?) throws {
    for space in model.processes.indices {
      guard let process = model.processes[space], let real = world.spaces[space] else {
        try mustHold(model.processes[space] == nil && world.spaces[space] == nil)
        continue
      }
      for page in touched ?? 0..<Limits.pages {
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
      for (index, frame) in held.frames.enumerated() {
        let place = "hold \(hold)[\(index)]"
        try check(real[index], frame, at: place)
        // G5: whatever was unmapped or dropped meanwhile.
        try require(!real[index].isFree, "G5: \(place) is free")
        if held.pins, held.wereExclusive[index] {
          try require(real[index].isAnonymousExclusive, "G1: \(place) is not exclusive any more")
        }
      }
    }
    try require(
      world.memory.freeFrameCount.rawValue == model.freeFrames,
      "\(world.memory.freeFrameCount) are free, not \(model.freeFrames)")
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
      try require(page.isAnonymousExclusive, "G2: \(place) is writable but not exclusive")
    }
  }

  private mutating func check(_ page: Page, _ frame: Frame, at place: String) throws {
    if let known = pages[ObjectIdentifier(frame)] {
      try require(known.page == page, "\(place): \(page), which should be \(known.page)")
    } else {
      try require(
        frames[page].map { $0.references == 0 } ?? true, "\(place): \(page) is somebody else's")
      pages[ObjectIdentifier(frame)] = (frame, page)
      frames[page] = frame
    }
    try require(
      page.referenceCount == frame.references,
      "\(place): \(page.referenceCount) references, not \(frame.references)")
    try require(
      page.mapCount == frame.maps, "\(place): \(page.mapCount) mappings, not \(frame.maps)")
    try require(page.isZeroPage == (frame.kind == .zero), "\(place): the zero page or not")
    try require(page.isAnonymous == (frame.kind == .anonymous), "\(place): anonymous or not")
    try require(
      page.isAnonymousExclusive == frame.isExclusive,
      "\(place): \(page.isAnonymousExclusive ? "" : "not ")exclusive")
    for word in 0..<Limits.words {
      let value = World.word(word, of: page)
      try require(
        value == frame.words[word], "\(place), word \(word): \(value), not \(frame.words[word])")
    }
  }

  /// Everything, down to the last byte, and through the program's own pointers.
  mutating func checkAll(_ world: World, _ model: ForkModel) throws {
    try check(world, model, pages: nil)
    for space in model.processes.indices {
      guard let process = model.processes[space], let real = world.spaces[space] else { continue }
      for (page, mapped) in process.pages.enumerated() {
        guard let mapped, mapped.access != .none, let entry = mapped.entry else { continue }
        for word in 0..<Limits.words {
          let value = real.loadWord(world.address(space, page, word))
          try require(
            value == entry.frame.words[word],
            "process \(space) sees \(value) at page \(page), word \(word),"
              + " not \(entry.frame.words[word])")
        }
      }
    }
    pages = pages.filter { $0.value.frame.references > 0 }
    frames = frames.filter { $0.value.references > 0 }
    for (_, page) in pages.values {
      try require(World.hasZeroesBetweenWords(page), "\(page) has bytes that nobody stored")
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
}
