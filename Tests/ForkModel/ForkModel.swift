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
}

public struct ForkModel {
  public internal(set) var processes: [Process?]
  public internal(set) var holds: [Held?]
  /// Frames that nobody holds.
  public internal(set) var freeFrames: Int
  public let zeroFrame = Frame(.zero)
  /// How often each thing happened that a run should not be without.
  public internal(set) var happenings: [Happening: Int] = [:]

  public init(frames: Int) {
    processes = Array(repeating: nil, count: Limits.spaces)
    holds = Array(repeating: nil, count: Limits.holds)
    freeFrames = frames
  }

  /// Takes a step, and says what must come of it; nil, and nothing has changed,
  /// when it means nothing now.
  public mutating func apply(_ operation: Operation) -> Outcome? {
    switch operation {
    case .begin(let space):
      guard processes[space] == nil else { return nil }
      processes[space] = Process()
      return Outcome()
    case .fork(let space, let child):
      guard processes[space] != nil, processes[child] == nil else { return nil }
      return fork(space, child)
    case .exit(let space):
      guard processes[space] != nil else { return nil }
      for page in 0..<Limits.pages { unmap(space, page) }
      processes[space] = nil
      return Outcome()
    case .map(let place, let access, let shared):
      return onProcess(place) { $0.map(place, access, shared) }
    case .unmap(let place):
      return onProcess(place) { model in
        for page in place.pages { model.unmap(place.space, page) }
        return Outcome()
      }
    case .protect(let place, let access):
      return onProcess(place) { $0.protect(place, access) }
    case .advise(let place, let advice):
      return onProcess(place) { $0.advise(place, advice) }
    case .store(let space, let page, let word, let value):
      guard mayStore(space, page) else { return nil }
      fault(space, page, .write)
      entry(space, page)!.frame.words[word] = value
      return Outcome()
    case .load(let space, let page, let word):
      guard mayLoad(space, page) else { return nil }
      fault(space, page, .read)
      return Outcome(value: entry(space, page)!.frame.words[word])
    case .copyIn(let place, let value):
      return onProcess(place) { $0.copyIn(place, value) }
    case .copyOut(let place):
      return onProcess(place) { $0.copyOut(place) }
    case .acquire(let hold, let place, let how):
      guard processes[place.space] != nil, holds[hold] == nil else { return nil }
      return acquire(hold, place, how)
    case .release(let hold):
      guard let held = holds[hold] else { return nil }
      holds[hold] = nil
      for frame in held.frames { drop(frame, pin: held.pins) }
      return Outcome()
    case .deviceStore(let hold, let page, let word, let value):
      // Nobody may store to the zero page.
      guard let frame = frame(hold, page), frame.kind != .zero else { return nil }
      frame.words[word] = value
      return Outcome()
    case .deviceLoad(let hold, let page, let word):
      return frame(hold, page).map { Outcome(value: $0.words[word]) }
    }
  }

  /// The pages of every window that a step may have changed; nil for all.
  public func touchedPages(by operation: Operation) -> Range<Int>? {
    switch operation {
    case .begin, .fork, .exit: nil
    case .map(let place, _, _), .unmap(let place), .protect(let place, _), .advise(let place, _),
      .copyIn(let place, _), .copyOut(let place), .acquire(_, let place, _):
      place.pages
    case .store(_, let page, _, _), .load(_, let page, _): page..<(page + 1)
    case .release(let hold), .deviceStore(let hold, _, _, _), .deviceLoad(let hold, _, _):
      holds[hold]?.pages ?? 0..<0
    }
  }

  // MARK: - Looking things up

  private mutating func onProcess(
    _ place: Place, _ body: (inout ForkModel) -> Outcome
  ) -> Outcome? {
    processes[place.space] == nil ? nil : body(&self)
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

  mutating func makeFrame(_ kind: Frame.Kind, words: [UInt64]? = nil) -> Frame? {
    guard freeFrames > 0 else { return nil }
    freeFrames -= 1
    return Frame(kind, words: words)
  }

  /// To be called after a holder has gone.
  mutating func freeIfUnheld(_ frame: Frame) {
    if frame.references == 0 { freeFrames += 1 }
  }

  mutating func drop(_ frame: Frame, pin: Bool) {
    if !pin {
      frame.gets -= 1
    } else if frame.kind != .zero {
      frame.pins -= 1
    }
    freeIfUnheld(frame)
  }
}
