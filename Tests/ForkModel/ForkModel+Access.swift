//===----------------------------------------------------------------------===//
// Faults, copies to and from user memory, and the acquiring of pages (C.3 to
// C.6, D.3, D.4), page by page.
//===----------------------------------------------------------------------===//

enum Wanted {
  case read, write
  /// A page of one's own, without storing to it now.
  case unshare
}

extension ForkModel {
  /// Brings in what an access needs; the page is mapped and allows it. False,
  /// and nothing has changed, when there is no frame.
  @discardableResult
  mutating func fault(_ space: Int, _ page: Int, _ wanted: Wanted) -> Bool {
    guard let mapped = mapped(space, page) else { return false }
    let mayWrite = wanted == .write && mapped.access == .readWrite
    if wanted == .write, !mapped.isShared, mapped.entry.map({ $0.frame.kind == .zero }) ?? true,
      bringInFolio(space, page, mapped)
    {
      return true
    }
    guard let found = mapped.entry else { return faultAbsent(space, page, mapped, wanted) }
    if wanted == .write, found.isWritable { noteStore(space, page, found) }
    if wanted == .read || found.isWritable { return true }
    if found.isLeaf, faultLeaf(space, page, found, wanted, mayWrite: mayWrite) { return true }
    let frame = found.frame
    switch frame.kind {
    case .shared:
      if mayWrite { setEntry(space, page, Entry(frame: frame, isWritable: true)) }
      return true
    case .anonymous where frame.isMarkedExclusive || isOnlyHeldHere(space, page, frame):
      if !frame.isMarkedExclusive { note(frame.folio.order > 0 ? .reusedInFolio : .reused) }
      frame.isMarkedExclusive = true
      if wanted == .write { frame.isGivenUp = false }
      if wanted == .write { setEntry(space, page, Entry(frame: frame, isWritable: mayWrite)) }
      return true
    case .anonymous, .zero:
      guard let copy = makePrivateFrame(words: frame.words, movable: mapped.isMovable) else {
        return false
      }
      note(
        frame.kind == .zero ? .zeroReplaced : wanted == .write ? .copiedForStore : .copiedForPin)
      if frame.folio.order > 0 { note(.copiedOutOfFolio) }
      clearEntry(space, page)
      setEntry(space, page, Entry(frame: copy, isWritable: mayWrite))
      return true
    }
  }

  /// Makes a leaf this process's own if nobody else holds it; else the small
  /// entries that replace it decide, and the answer is false.
  private mutating func faultLeaf(
    _ space: Int, _ page: Int, _ found: Entry, _ wanted: Wanted, mayWrite: Bool
  ) -> Bool {
    let folio = found.frame.folio
    if !folio.isLeafExclusive {
      guard folio.references == 1 else {
        splitLeaf(space, page)
        return false
      }
      folio.isLeafExclusive = true
      note(.reused)
    }
    guard wanted == .write else { return true }
    let start = window.leafStart(page)
    for page in start..<(start + Window.leafPages) {
      guard var entry = entry(space, page) else { continue }
      entry.isWritable = mayWrite
      entry.frame.isGivenUp = false
      setEntry(space, page, entry)
    }
    return true
  }

  /// A page that was given up stays; of a leaf all do.
  private func noteStore(_ space: Int, _ page: Int, _ found: Entry) {
    found.frame.isGivenUp = false
    guard found.isLeaf else { return }
    let start = window.leafStart(page)
    for page in start..<(start + Window.leafPages) {
      entry(space, page)?.frame.isGivenUp = false
    }
  }

  /// Row 2 of D.3, and for large folios row 3.
  private func isOnlyHeldHere(_ space: Int, _ page: Int, _ frame: Frame) -> Bool {
    if frame.folio.order == 0 { return frame.references == 1 }
    return reusesLargeFolios
      && mappingsInPlace(space, page, frame).count == frame.references
  }

  private mutating func faultAbsent(
    _ space: Int, _ page: Int, _ mapped: MappedPage, _ wanted: Wanted
  ) -> Bool {
    if let object = mapped.object {
      let index = mapped.objectPage
      guard let frame = object.frames[index] ?? makeFrame(.shared, movable: mapped.isMovable)
      else { return false }
      object.frames[index] = frame
      frame.maps += 1
      frame.folio.maps += 1
      setEntry(space, page, Entry(frame: frame, isWritable: mapped.access == .readWrite))
    } else if wanted == .write {
      guard let frame = makePrivateFrame(movable: mapped.isMovable) else { return false }
      setEntry(space, page, Entry(frame: frame, isWritable: mapped.access == .readWrite))
    } else {
      setEntry(space, page, Entry(frame: zeroFrame, isWritable: false))
    }
    return true
  }

  // MARK: - Copies

  mutating func copyIn(_ place: Place, _ value: UInt64) -> Outcome {
    for page in place.pages {
      guard mapped(place.space, page)?.access == .readWrite else {
        return Outcome(refusal: .badAddress)
      }
      guard fault(place.space, page, .write) else { return Outcome(refusal: .outOfMemory) }
      for word in 0..<Limits.words { entry(place.space, page)?.frame.words[word] = value }
    }
    return Outcome()
  }

  mutating func copyOut(_ place: Place) -> Outcome {
    var words: [UInt64] = []
    var refusal: Outcome.Refusal?
    for page in place.pages {
      if let access = mapped(place.space, page)?.access, access != .none, refusal == nil {
        if !fault(place.space, page, .read) { refusal = .outOfMemory }
      } else {
        refusal = refusal ?? .badAddress
      }
      let frame = refusal == nil ? entry(place.space, page)?.frame : nil
      words += frame?.words ?? zeroFrame.words
    }
    return Outcome(refusal: refusal, value: Outcome.digest(words))
  }

  // MARK: - Acquiring

  mutating func acquire(_ hold: Int, _ place: Place, _ how: Acquisition) -> Outcome {
    if how.pins { processes[place.space]?.hasPinned = true }
    var frames: [Frame] = []
    var refusal: Outcome.Refusal?
    var walks = how.path != .slow
    var walked = 0
    for page in place.pages {
      walks = walks && walkTakes(place.space, page, how)
      if !walks {
        if how.path == .fastOnly { break }
        refusal = prepare(place.space, page, how)
        if refusal != nil { break }
      }
      guard let frame = entry(place.space, page)?.frame else { break }
      frames.append(frame)
      if walks { walked += 1 }
      // The slow path marks what it takes for writing; the walk marks nothing.
      if !walks, how.writes, frame.isGivenUp {
        if frame.folio.order > 0 { frame.folio.isGivenUp = false } else { frame.isGivenUp = false }
      }
      if !how.pins {
        frame.folio.gets += 1
      } else if frame.kind != .zero {
        frame.folio.pins += 1
      }
    }
    if how.isLong, !moveMovable(place.space, place.pages.dropFirst(walked), frames[walked...]) {
      frames.removeSubrange(walked...)
      refusal = .outOfMemory
    }
    if !frames.isEmpty, frames.count < place.pages.count { note(.shortAcquisition) }
    guard !frames.isEmpty else { return Outcome(refusal: refusal) }
    holds[hold] = Held(
      frames: frames, pins: how.pins, pages: place.pages, wereExclusive: frames.map(\.isExclusive))
    return Outcome(pageCount: frames.count)
  }

  /// C.8: of what the slow path has pinned for long, pages that must stay movable are
  /// moved first, all pins dropped meanwhile. When one cannot be moved they stay
  /// dropped, and the answer is false.
  private mutating func moveMovable(
    _ space: Int, _ pages: Range<Int>, _ frames: ArraySlice<Frame>
  ) -> Bool {
    guard frames.contains(where: { $0.folio.isMovable }) else { return true }
    for frame in frames where frame.kind != .zero { frame.folio.pins -= 1 }
    var areAllMoved = true
    for (page, frame) in zip(pages, frames) where frame.folio.isMovable {
      if !moveToPin(space, page, frame) { areAllMoved = false }
    }
    if areAllMoved {
      for frame in frames where frame.kind != .zero { frame.folio.pins += 1 }
    } else {
      note(.longPinRefused)
    }
    return areAllMoved
  }

  /// May the walk without locks have the page (C.3)?
  private func walkTakes(_ space: Int, _ page: Int, _ how: Acquisition) -> Bool {
    guard let mapped = mapped(space, page), mapped.access != .none, let entry = mapped.entry,
      entry.frame.kind != .zero, !(how.isLong && entry.frame.folio.isMovable)
    else { return false }
    if how.writes { return entry.isWritable }
    guard how.pins, !entry.isWritable else { return true }
    return entry.frame.kind == .anonymous ? entry.frame.isExclusive : !how.isLong
  }

  /// What the slow path does before it takes a page (C.5).
  private mutating func prepare(
    _ space: Int, _ page: Int, _ how: Acquisition
  ) -> Outcome.Refusal? {
    guard let mapped = mapped(space, page),
      how.writes ? mapped.access == .readWrite : mapped.access != .none
    else { return .badAddress }
    while let wanted = needed(space, page, how) {
      guard how.mayFault else { return .badAddress }
      guard fault(space, page, wanted) else { return .outOfMemory }
    }
    return nil
  }

  /// The fault that an entry needs before it will do (D.4).
  private func needed(_ space: Int, _ page: Int, _ how: Acquisition) -> Wanted? {
    guard let entry = entry(space, page) else { return how.writes ? .write : .read }
    if entry.isWritable { return nil }
    if how.writes { return .write }
    guard how.pins else { return nil }
    switch entry.frame.kind {
    case .anonymous: return entry.frame.isExclusive ? nil : .unshare
    case .zero: return how.isLong ? .unshare : nil
    case .shared: return nil
    }
  }
}
