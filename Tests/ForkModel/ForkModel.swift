//===----------------------------------------------------------------------===//
// The model: processes, frames and holders in arrays and dictionaries, and for
// each step what must come of it. It shares no code with the emulator and knows
// nothing of page tables, views, traps or locks; it follows the rules of C.3 to
// C.5, D.1 to D.3 and C.11 page by page.
//===----------------------------------------------------------------------===//

/// What the rules are about.
public enum Happening: CaseIterable, Sendable {
  /// Fork: shared with the child, copied for it at once, or without the frame for that copy
  /// after pages were shared.
  case sharedByFork, copiedByFork, forkUndone
  /// A page of one's own for a store, or for a pin for reading.
  case copiedForStore, copiedForPin, zeroReplaced
  /// Nobody else holds it any more.
  case reused
  /// A page that only a device holds.
  case orphaned
  /// An acquisition that got fewer pages than it asked for.
  case shortAcquisition
  /// A store brought in a folio behind small entries, or a leaf.
  case folioCame, leafCame
  /// A page that leaves its folio behind: copied for a store or a pin, or for a child while
  /// a device holds the folio; and one that need not, because all references are mappings here.
  case copiedOutOfFolio, copiedOutOfPinnedFolio, reusedInFolio
  /// A leaf that small entries replaced; folios made single pages, or not.
  case leafSplit, folioSplit, splitRefused
  case collapsed, collapseRefused
  /// Pages that mremap moved, pinned ones apart, and a range that grew.
  case moved, movedPinned, grown
  /// Pages that got another frame, that a pin kept where they were, and that reclaim took.
  case migrated, pinStayed, reclaimed
  /// The same of large folios, and one that was split because there was no block for it.
  case folioMigrated, pinKeptFolio, splitToMove, folioReclaimed
  /// A long pin had a page or a folio moved first, or could not have it.
  case movedToPin, folioMovedToPin, longPinRefused
  /// Memory of the program's that came and went, or was pinned and stayed.
  case adopted, gaveBack, giveBackRefused

  /// Those that take folios.
  public static let ofFolios: [Happening] = [
    .folioCame, .copiedOutOfFolio, .copiedOutOfPinnedFolio, .folioSplit, .splitRefused,
    .moved, .movedPinned, .grown, .migrated, .pinStayed, .reclaimed, .folioMigrated, .pinKeptFolio,
    .folioReclaimed, .movedToPin, .folioMovedToPin, .longPinRefused,
    .adopted, .gaveBack,
  ]
  /// Those that take leaves.
  public static let ofLeaves: [Happening] = [.leafCame, .leafSplit, .collapsed, .collapseRefused]
  /// Those of single pages.
  public static let ofPages: [Happening] = [
    .sharedByFork, .copiedByFork, .copiedForStore, .copiedForPin, .zeroReplaced, .reused,
    .orphaned, .shortAcquisition,
  ]
}

public struct ForkModel {
  public let window: Window
  /// Row 3 of D.3 as kernels newer than 6.14 have it.
  let reusesLargeFolios: Bool
  /// There are frames for every folio that could come.
  let isAmple: Bool
  public internal(set) var processes: [Process?]
  public internal(set) var holds: [Held?]
  /// Frames that nobody holds.
  public internal(set) var freeFrames: Int
  public let zeroFrame = Frame(.zero)
  /// How often each thing happened that a run should not be without.
  public internal(set) var happenings: [Happening: Int] = [:]

  /// What came of the step that is under way, and what is wrong with that.
  var findings = Findings(refusal: nil, order: { _, _ in 0 }, areas: { _ in [] })
  public internal(set) var objection: String?

  public init(
    window: Window, frames: Int, isAmple: Bool = false, reusesLargeFolios: Bool = false
  ) {
    self.window = window
    self.isAmple = isAmple
    self.reusesLargeFolios = reusesLargeFolios
    processes = Array(repeating: nil, count: window.spaces)
    holds = Array(repeating: nil, count: Limits.holds)
    freeFrames = frames
  }

  /// Does a step mean anything in this state?
  public func hasMeaning(_ operation: Operation) -> Bool {
    switch operation {
    case .begin(let space): processes[space] == nil
    case .adopt(let space, _):
      processes[space] == nil && freeFrames >= window.adopted.count
    case .giveBack(let space): !(processes[space]?.adopted.isEmpty ?? true)
    case .fork(let space, let child): processes[space] != nil && processes[child] == nil
    case .exit(let space), .splitFolio(let space, _): processes[space] != nil
    case .map(let place, _, _, _, _), .unmap(let place), .protect(let place, _),
      .advise(let place, _), .wish(let place, _), .collapse(let place), .copyIn(let place, _),
      .copyOut(let place):
      processes[place.space] != nil
    case .move(let place, let target, _):
      processes[place.space] != nil && target + place.pages.count <= window.pages
    case .resize(let place, let count):
      // Behind a shared object's end there is nothing to show.
      processes[place.space] != nil && place.pages.lowerBound + count <= window.pages
        && !(count > place.pages.count
          && mapped(place.space, place.pages.lowerBound)?.isShared == true)
    case .migrate(let place): processes[place.space] != nil
    case .compact, .reclaim: true
    case .store(let space, let page, _, _): mayStore(space, page)
    case .load(let space, let page, _): mayLoad(space, page)
    case .acquire(let hold, let place, let how):
      // A long pin for reading shows a run the zero page before it finds no frames
      // to replace it by: how far that reached is not this model's business.
      processes[place.space] != nil && holds[hold] == nil
        && !(how.isLong && !how.writes && freeFrames < place.pages.count)
    case .release(let hold): holds[hold] != nil
    // Nobody may store to the zero page.
    case .deviceStore(let hold, let page, _, _): frame(hold, page).map { $0.kind != .zero } ?? false
    case .deviceLoad(let hold, let page, _): frame(hold, page) != nil
    }
  }

  /// Takes a step that has a meaning, and says what must come of it. The rules
  /// leave some things open: `findings` says what the machine made of them.
  public mutating func apply(_ operation: Operation, _ findings: Findings) -> Outcome {
    self.findings = findings
    switch operation {
    case .begin(let space):
      processes[space] = Process(pages: Array(repeating: nil, count: window.pages))
    case .fork(let space, let child): return fork(space, child)
    case .adopt(let space, let seed): adopt(space, seed)
    case .giveBack(let space): return giveBack(space)
    case .exit(let space): return exit(space)
    case .map(let place, let access, let shared, let folios, let movable):
      return map(place, access, shared, folios, movable)
    case .unmap(let place): unmap(place)
    case .protect(let place, let access): return protect(place, access)
    case .advise(let place, let advice): return advise(place, advice)
    case .wish(let place, let folios): return wish(place, folios)
    case .collapse(let place): return collapse(place)
    case .splitFolio(let space, let page): return splitFolio(space, page)
    case .move(let place, let target, let keepsOld):
      return move(place, to: target, keepsOld: keepsOld)
    case .resize(let place, let count): return resize(place, to: count)
    case .migrate(let place): return migrate(place)
    case .compact: compact()
    case .reclaim: return reclaim()
    case .store(let space, let page, let word, let value):
      fault(space, page, .write)
      entry(space, page)?.frame.words[word] = value
    case .load(let space, let page, let word):
      fault(space, page, .read)
      return Outcome(value: entry(space, page)?.frame.words[word] ?? 0)
    case .copyIn(let place, let value): return copyIn(place, value)
    case .copyOut(let place): return copyOut(place)
    case .acquire(let hold, let place, let how): return acquire(hold, place, how)
    case .release(let hold): release(hold)
    case .deviceStore(let hold, let page, let word, let value):
      frame(hold, page)?.words[word] = value
    case .deviceLoad(let hold, let page, let word):
      return Outcome(value: frame(hold, page)?.words[word] ?? 0)
    }
    return Outcome()
  }

  /// The pages of every window that a step may have changed; nil for all.
  public func touchedPages(by operation: Operation) -> Range<Int>? {
    switch operation {
    case .begin, .adopt, .giveBack, .fork, .exit, .compact, .reclaim: nil
    case .move(let place, let target, _):
      around(
        min(
          place.pages.lowerBound, target)..<max(
            place.pages.upperBound, target + place.pages.count))
    case .resize(let place, let count):
      around(place.pages.lowerBound..<(place.pages.lowerBound + max(count, place.pages.count)))
    // A folio may come or go around what a step names.
    case .map(let place, _, _, _, _), .unmap(let place), .protect(let place, _),
      .advise(let place, _), .wish(let place, _), .collapse(let place), .migrate(let place),
      .copyIn(let place, _), .copyOut(let place), .acquire(_, let place, _):
      around(place.pages)
    case .splitFolio(_, let page), .store(_, let page, _, _), .load(_, let page, _):
      around(page..<(page + 1))
    case .release(let hold), .deviceStore(let hold, _, _, _), .deviceLoad(let hold, _, _):
      holds[hold]?.pages ?? 0..<0
    }
  }

  // MARK: - Looking things up

  private func around(_ pages: Range<Int>) -> Range<Int> {
    guard window.hasFolios else { return pages }
    return max(0, pages.lowerBound - 4)..<min(window.pages, pages.upperBound + 4)
  }

  func mapped(_ space: Int, _ page: Int) -> MappedPage? { processes[space]?.pages[page] }
  func entry(_ space: Int, _ page: Int) -> Entry? { mapped(space, page)?.entry }

  private func frame(_ hold: Int, _ page: Int) -> Frame? {
    guard let held = holds[hold], page < held.frames.count else { return nil }
    return held.frames[page]
  }

  /// Would the program's own store pass, once what is missing has been brought in?
  public func mayStore(_ space: Int, _ page: Int) -> Bool {
    guard let mapped = mapped(space, page), mapped.access == .readWrite else { return false }
    return freeFrames > 0 || mapped.entry?.isWritable == true
  }

  public func mayLoad(_ space: Int, _ page: Int) -> Bool {
    guard let mapped = mapped(space, page), mapped.access != .none else { return false }
    return freeFrames > 0 || mapped.entry != nil || !mapped.isShared
  }

  mutating func note(_ happening: Happening) { happenings[happening, default: 0] += 1 }

  // MARK: - Frames

  mutating func makeFrame(
    _ kind: Frame.Kind, words: [UInt64]? = nil, movable: Bool
  ) -> Frame? {
    guard freeFrames > 0 else { return nil }
    freeFrames -= 1
    let frame = Frame(kind, words: words)
    frame.folio.isMovable = movable
    return frame
  }

  /// A fresh page of a process's own, mapped once.
  mutating func makePrivateFrame(words: [UInt64]? = nil, movable: Bool) -> Frame? {
    let frame = makeFrame(.anonymous, words: words, movable: movable)
    frame?.maps = 1
    frame?.folio.maps = 1
    return frame
  }

  /// To be called after a holder has gone.
  mutating func freeIfUnheld(_ folio: Folio) {
    if folio.references == 0 { freeFrames += folio.pageCount }
  }

  private mutating func release(_ hold: Int) {
    guard let held = holds[hold] else { return }
    holds[hold] = nil
    for frame in held.frames {
      if !held.pins {
        frame.folio.gets -= 1
      } else if frame.kind != .zero {
        frame.folio.pins -= 1
      }
      freeIfUnheld(frame.folio)
    }
  }
}
