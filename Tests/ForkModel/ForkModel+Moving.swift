//===----------------------------------------------------------------------===//
// What moves: ranges to other addresses (mremap), pages to other frames
// (migration, compaction), and pages away that MADV_FREE gave up (reclaim).
//===----------------------------------------------------------------------===//

extension ForkModel {
  // MARK: - mremap

  /// Moves pages to another place of the window, with all that they are.
  mutating func move(_ place: Place, to target: Int, keepsOld: Bool) -> Outcome {
    let (space, pages) = (place.space, place.pages)
    guard mapped(space, pages.lowerBound) != nil else { return Outcome(refusal: .badAddress) }
    if meetsAdopted(space, pages) { return Outcome(refusal: .notSupported) }
    let there = target..<(target + pages.count)
    if there.overlaps(pages) { return Outcome(refusal: .invalid) }
    guard pages.upperBound <= endOfAlike(space, pages.lowerBound) else {
      return Outcome(refusal: .badAddress)
    }
    if meetsAdopted(space, there) { return Outcome(refusal: .exists) }
    unmap(Place(space, there))
    for page in pages {
      splitLeaf(space, page)
      guard var old = mapped(space, page) else { continue }
      if let frame = old.entry?.frame { note(frame.folio.pins > 0 ? .movedPinned : .moved) }
      processes[space]?.pages[target + page - pages.lowerBound] = old
      old.entry = nil
      processes[space]?.pages[page] = keepsOld ? old : nil
      if keepsOld { old.object?.users += 1 }
    }
    return Outcome()
  }

  /// Lets a range end elsewhere, where it is.
  mutating func resize(_ place: Place, to count: Int) -> Outcome {
    let (space, pages) = (place.space, place.pages)
    guard let first = mapped(space, pages.lowerBound) else { return Outcome(refusal: .badAddress) }
    if meetsAdopted(space, pages) { return Outcome(refusal: .notSupported) }
    let end = pages.lowerBound + count
    if count <= pages.count {
      if end < pages.upperBound { unmap(Place(space, end..<pages.upperBound)) }
      return Outcome()
    }
    let last = endOfAlike(space, pages.lowerBound)
    guard pages.upperBound <= last else { return Outcome(refusal: .badAddress) }
    let fresh = pages.upperBound..<end
    guard pages.upperBound == last, !meetsAdopted(space, fresh),
      fresh.allSatisfy({ mapped(space, $0) == nil })
    else { return Outcome(refusal: .outOfMemory) }
    for page in fresh {
      var more = first
      more.entry = nil
      processes[space]?.pages[page] = more
    }
    note(.grown)
    return Outcome()
  }

  /// Where the pages from one on end that one area could hold.
  private func endOfAlike(_ space: Int, _ page: Int) -> Int {
    var end = page + 1
    while end < window.pages, let one = mapped(space, end - 1), let next = mapped(space, end),
      one.isAlike(next)
    { end += 1 }
    return end
  }

  // MARK: - Other frames

  /// move_pages: to any other frame, all that nobody holds. A large folio moves
  /// whole, or is split, as the machine had a block of frames for it, and then its
  /// pages in the range move by themselves.
  mutating func migrate(_ place: Place) -> Outcome {
    var counts = [UInt64](repeating: 0, count: 5)
    var moved = 0
    // The folio that has just moved: its other pages went with it.
    var last: Folio?
    for page in place.pages {
      guard let frame = entry(place.space, page)?.frame else { continue }
      let folio = frame.folio
      if folio === last {
        moved += 1
        continue
      }
      last = nil
      if frame.kind == .zero { continue }
      if let reason = stays(place.space, frame, page) {
        counts[reason] += 1
      } else if freeFrames == 0 {
        counts[4] += 1
      } else if folio.order > 0, findings.folioOrder(place.space, page) > 0 {
        folio.moves += 1
        last = folio
        moved += 1
        note(.folioMigrated)
      } else {
        if folio.order > 0 { splitToMove(folio) }
        frame.ownMoves += 1
        moved += 1
        note(.migrated)
      }
    }
    return Outcome(pageCount: moved, value: Outcome.digest(counts))
  }

  /// A page that a long pin wants gets a frame that need not be movable, with all of
  /// its folio if there is a block for it. False when it must stay.
  mutating func moveToPin(_ space: Int, _ page: Int, _ frame: Frame) -> Bool {
    guard stays(space, frame, page) == nil, freeFrames > 0 else { return false }
    let folio = frame.folio
    if folio.order > 0, findings.folioOrder(space, page) > 0 {
      folio.moves += 1
      folio.isMovable = false
      note(.folioMovedToPin)
      return true
    }
    if folio.order > 0 { splitToMove(folio) }
    frame.ownMoves += 1
    frame.folio.isMovable = false
    note(.movedToPin)
    return true
  }

  /// A folio for which there is no block. An earlier part of the range may have
  /// moved all of it before.
  private mutating func splitToMove(_ folio: Folio) {
    if isAmple { objection = "a folio of order \(folio.order) was split to move" }
    folio.moves += 2
    split(folio)
    note(.splitToMove)
  }

  /// Why a page that is shown at `page` cannot get another frame: pinned,
  /// referenced, or of a kind that stays. All that shows its folio is found.
  private mutating func stays(_ space: Int, _ frame: Frame, _ page: Int) -> Int? {
    let folio = frame.folio
    if mapped(space, page)?.isAdopted == true { return 3 }
    if folio.looksPinned {
      note(folio.order > 0 ? .pinKeptFolio : .pinStayed)
      return 0
    }
    if folio.gets > 0 { return 1 }
    let isAdoptedElsewhere = processes.indices.contains { other in
      (processes[other]?.adopted ?? 0..<0).contains { page in
        mapped(other, page)?.isAdopted == true && entry(other, page)?.frame.folio === folio
      }
    }
    return isAdoptedElsewhere ? 3 : nil
  }

  /// Compaction moves what it may to where it belongs: which pages those are is
  /// the machine's business.
  mutating func compact() {
    for space in processes.indices {
      for page in 0..<window.pages {
        guard let frame = entry(space, page)?.frame, frame.kind == .anonymous,
          stays(space, frame, page) == nil
        else { continue }
        frame.folio.moves += 2
      }
    }
  }

  // MARK: - Going

  /// MADV_FREE. What others show, too, is not this process's to give up; a folio is
  /// given up as a whole, or split for the part that is named.
  mutating func giveUp(_ place: Place) -> Outcome {
    var metHole = false
    var page = place.pages.lowerBound
    while page < place.pages.upperBound {
      guard let mapped = mapped(place.space, page) else {
        metHole = true
        page += 1
        continue
      }
      if mapped.isShared { return Outcome(refusal: .invalid) }
      let end = min(place.pages.upperBound, findings.area(place.space, page).upperBound)
      page += giveUpFolio(place.space, page..<max(end, page + 1))
    }
    return Outcome(refusal: metHole ? .outOfMemory : nil)
  }

  /// Gives up the folio whose page is the first of `pages`, and says how many of
  /// them were its; 0 when it had to be split.
  private mutating func giveUpFolio(_ space: Int, _ pages: Range<Int>) -> Int {
    guard let first = entry(space, pages.lowerBound)?.frame, first.kind == .anonymous else {
      return 1
    }
    let folio = first.folio
    // One page table knows 512 pages.
    let end = min(pages.upperBound, window.leafStart(pages.lowerBound) + Window.leafPages)
    let run = (pages.lowerBound..<end).prefix { page in
      guard let frame = entry(space, page)?.frame else { return false }
      return frame.folio === folio && frame.index == first.index + page - pages.lowerBound
    }
    if isShownTwice(folio, first) { return run.count }
    guard run.count == folio.pageCount else {
      if folio.gets + folio.pins > 0 { return run.count }
      split(folio)
      note(.folioSplit)
      return 0
    }
    folio.isGivenUp = true
    for page in run { entry(space, page)?.frame.isGivenUp = true }
    return run.count
  }

  /// Does more than one entry show one of the folio's pages?
  private func isShownTwice(_ folio: Folio, _ frame: Frame) -> Bool {
    if folio.order == 0 { return frame.mappings > 1 }
    return shown(folio).contains { $0.mappings > 1 }
  }

  /// The pages of a folio that are shown, those that are shown twice twice.
  private func shown(_ folio: Folio) -> [Frame] {
    processes.indices.flatMap { space in
      (0..<window.pages).compactMap { page in
        entry(space, page).flatMap { $0.frame.folio === folio ? $0.frame : nil }
      }
    }
  }

  /// Takes back what MADV_FREE gave up, where nobody stored since or holds it.
  mutating func reclaim() -> Outcome {
    var taken = 0
    for space in processes.indices {
      for page in 0..<window.pages {
        guard let frame = entry(space, page)?.frame, frame.isGivenUp else { continue }
        let folio = frame.folio
        if folio.order > 0 {
          taken += reclaim(folio)
        } else if frame.references == 1, mapped(space, page)?.isAdopted == false {
          clearEntry(space, page)
          taken += 1
          note(.reclaimed)
        }
      }
    }
    return Outcome(pageCount: taken)
  }

  /// A large folio goes whole.
  private mutating func reclaim(_ folio: Folio) -> Int {
    guard folio.isGivenUp, folio.gets + folio.pins == 0 else { return 0 }
    let frames = shown(folio)
    guard frames.allSatisfy({ $0.isGivenUp && $0.mappings == 1 }) else { return 0 }
    for space in processes.indices {
      for page in 0..<window.pages where entry(space, page)?.frame.folio === folio {
        clearEntry(space, page)
      }
    }
    note(.folioReclaimed)
    return folio.pageCount
  }
}
