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
    guard let entry = mapped.entry else {
      return faultAbsent(space, page, mapped, wanted)
    }
    if wanted == .read || entry.isWritable { return true }
    let frame = entry.frame
    switch frame.kind {
    case .shared:
      if mayWrite { setEntry(space, page, Entry(frame: frame, isWritable: true)) }
      return true
    case .anonymous where frame.isExclusive || frame.references == 1:
      if !frame.isExclusive { note(.reused) }
      frame.isExclusive = true
      if wanted == .write { setEntry(space, page, Entry(frame: frame, isWritable: mayWrite)) }
      return true
    case .anonymous, .zero:
      guard let copy = makeFrame(.anonymous, words: frame.words) else { return false }
      copy.maps = 1
      note(
        frame.kind == .zero ? .zeroReplaced : wanted == .write ? .copiedForStore : .copiedForPin)
      clearEntry(space, page)
      setEntry(space, page, Entry(frame: copy, isWritable: mayWrite))
      return true
    }
  }

  private mutating func faultAbsent(
    _ space: Int, _ page: Int, _ mapped: MappedPage, _ wanted: Wanted
  ) -> Bool {
    if let object = mapped.object {
      guard let frame = object.frames[page] ?? makeFrame(.shared) else { return false }
      object.frames[page] = frame
      frame.maps += 1
      setEntry(space, page, Entry(frame: frame, isWritable: mapped.access == .readWrite))
    } else if wanted == .write {
      guard let frame = makeFrame(.anonymous) else { return false }
      frame.maps = 1
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

  mutating func acquire(_ hold: Int, _ place: Place, _ how: Acquisition) -> Outcome? {
    // A long pin for reading shows a run the zero page before it finds no frames
    // to replace it by: how far that reached is not this model's business.
    if how.isLong, !how.writes, freeFrames < place.pages.count { return nil }
    if how.pins { processes[place.space]?.hasPinned = true }
    var frames: [Frame] = []
    var refusal: Outcome.Refusal?
    var walks = how.path != .slow
    for page in place.pages {
      walks = walks && walkTakes(place.space, page, how)
      if !walks {
        if how.path == .fastOnly { break }
        refusal = prepare(place.space, page, how)
        if refusal != nil { break }
      }
      guard let frame = entry(place.space, page)?.frame else { break }
      frames.append(frame)
      if !how.pins {
        frame.gets += 1
      } else if frame.kind != .zero {
        frame.pins += 1
      }
    }
    if !frames.isEmpty, frames.count < place.pages.count { note(.shortAcquisition) }
    guard !frames.isEmpty else { return Outcome(refusal: refusal) }
    holds[hold] = Held(
      frames: frames, pins: how.pins, pages: place.pages, wereExclusive: frames.map(\.isExclusive))
    return Outcome(pageCount: frames.count)
  }

  /// May the walk without locks have the page (C.3)?
  private func walkTakes(_ space: Int, _ page: Int, _ how: Acquisition) -> Bool {
    guard let mapped = mapped(space, page), mapped.access != .none, let entry = mapped.entry,
      entry.frame.kind != .zero
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
