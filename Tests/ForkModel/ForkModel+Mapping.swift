//===----------------------------------------------------------------------===//
// mmap, munmap, mprotect, madvise and fork, page by page (D.1, D.2).
//===----------------------------------------------------------------------===//

extension ForkModel {
  mutating func map(
    _ place: Place, _ access: Access, _ shared: Bool, _ folios: FolioWish, _ movable: Bool
  ) -> Outcome {
    if shared, folios != .base { return Outcome(refusal: .invalid) }
    if meetsAdopted(place.space, place.pages) { return Outcome(refusal: .exists) }
    unmap(place)
    let object = shared ? SharedObject() : nil
    object?.users = place.pages.count
    for page in place.pages {
      processes[place.space]?.pages[page] = MappedPage(
        access: access, object: object, objectPage: page, folios: folios, isMovable: movable)
    }
    return Outcome()
  }

  @discardableResult
  mutating func exit(_ space: Int) -> Outcome {
    let bytes = bytesBack(space)
    unmap(Place(space, 0..<window.pages))
    processes[space] = nil
    return Outcome(value: bytes)
  }

  mutating func unmap(_ place: Place) {
    clearEntries(place.space, place.pages)
    for page in place.pages {
      guard let mapped = mapped(place.space, page) else { continue }
      processes[place.space]?.pages[page] = nil
      guard let object = mapped.object else { continue }
      object.users -= 1
      guard object.users == 0 else { continue }
      for frame in object.frames.values {
        frame.folio.isKept = false
        freeIfUnheld(frame.folio)
      }
    }
  }

  /// Takes pages out of the page table; whoever else holds them keeps them (G5).
  mutating func clearEntries(_ space: Int, _ pages: Range<Int>) {
    splitLeafAcross(space, pages.lowerBound)
    splitLeafAcross(space, pages.upperBound)
    for page in pages { clearEntry(space, page) }
  }

  /// The same of one page; of a leaf, whose pages must all go, the first counts.
  mutating func clearEntry(_ space: Int, _ page: Int) {
    guard let entry = entry(space, page) else { return }
    setEntry(space, page, nil)
    let frame = entry.frame
    if frame.kind == .zero { return }
    if !entry.isLeaf {
      frame.maps -= 1
      frame.folio.maps -= 1
    } else if frame.index == 0 {
      frame.folio.leaves -= 1
    } else {
      return
    }
    if frame.kind == .anonymous, frame.mappings == 0, frame.references > 0 { note(.orphaned) }
    freeIfUnheld(frame.folio)
  }

  mutating func setEntry(_ space: Int, _ page: Int, _ entry: Entry?) {
    processes[space]?.pages[page]?.entry = entry
  }

  /// Changes the pages up to the first hole.
  mutating func protect(_ place: Place, _ access: Access) -> Outcome {
    for page in place.pages {
      guard let mapped = mapped(place.space, page) else { return Outcome(refusal: .outOfMemory) }
      guard mapped.access != access else { continue }
      splitCutLeaf(place, page)
      processes[place.space]?.pages[page]?.access = access
      guard var entry = entry(place.space, page) else { continue }
      // Without a fault only where nothing would have to be copied.
      let frame = entry.frame
      let isExclusive = entry.isLeaf ? frame.folio.isLeafExclusive : frame.isMarkedExclusive
      let atOnce = frame.kind == .shared || frame.kind == .anonymous && isExclusive
      entry.isWritable = access == .readWrite && atOnce
      setEntry(place.space, page, entry)
    }
    return Outcome()
  }

  mutating func advise(_ place: Place, _ advice: ModelAdvice) -> Outcome {
    if advice == .free { return giveUp(place) }
    let populates = advice == .populateRead || advice == .populateWrite
    var metHole = false
    for page in place.pages {
      guard let mapped = mapped(place.space, page) else {
        metHole = true
        if populates { break }
        continue
      }
      if changes(mapped, advice) { splitCutLeaf(place, page) }
      if let refusal = advise(place.space, page, mapped, advice) {
        return Outcome(refusal: refusal)
      }
    }
    return Outcome(refusal: metHole ? .outOfMemory : nil)
  }

  /// Does it change the entry, or what is known of the page? Only that splits.
  private func changes(_ mapped: MappedPage, _ advice: ModelAdvice) -> Bool {
    switch advice {
    case .dontNeed: true
    case .free: false
    case .dontFork: !mapped.isLeftOutByFork
    case .doFork: mapped.isLeftOutByFork
    case .wipeOnFork: !mapped.isWipedByFork
    case .keepOnFork: mapped.isWipedByFork
    case .populateRead, .populateWrite: false
    }
  }

  /// What changes a part of a leaf splits it first.
  private mutating func splitCutLeaf(_ place: Place, _ page: Int) {
    guard entry(place.space, page)?.isLeaf == true else { return }
    let start = window.leafStart(page)
    if start < place.pages.lowerBound || start + Window.leafPages > place.pages.upperBound {
      splitLeaf(place.space, page)
    }
  }

  mutating func wish(_ place: Place, _ folios: FolioWish) -> Outcome {
    for page in place.pages {
      guard let mapped = mapped(place.space, page) else { return Outcome(refusal: .outOfMemory) }
      if mapped.isShared || mapped.isAdopted && folios != .base {
        return Outcome(refusal: .invalid)
      }
    }
    for page in place.pages {
      if mapped(place.space, page)?.folios == folios { continue }
      splitCutLeaf(place, page)
      processes[place.space]?.pages[page]?.folios = folios
    }
    return Outcome()
  }

  private mutating func advise(
    _ space: Int, _ page: Int, _ mapped: MappedPage, _ advice: ModelAdvice
  ) -> Outcome.Refusal? {
    switch advice {
    case .dontNeed: clearEntry(space, page)
    case .free: break
    case .dontFork: processes[space]?.pages[page]?.isLeftOutByFork = true
    case .doFork: processes[space]?.pages[page]?.isLeftOutByFork = false
    case .wipeOnFork:
      if mapped.isShared { return .invalid }
      processes[space]?.pages[page]?.isWipedByFork = true
    case .keepOnFork: processes[space]?.pages[page]?.isWipedByFork = false
    case .populateRead:
      if mapped.access == .none { return .invalid }
      return fault(space, page, .read) ? nil : .outOfMemory
    case .populateWrite:
      if mapped.access != .readWrite { return .invalid }
      return fault(space, page, .write) ? nil : .outOfMemory
    }
    return nil
  }

  // MARK: - fork

  mutating func fork(_ space: Int, _ child: Int) -> Outcome {
    guard let parent = processes[space] else { return Outcome() }
    processes[child] = Process(pages: Array(repeating: nil, count: window.pages))
    var hasShared = false
    for (page, mapped) in parent.pages.enumerated() {
      guard var copy = mapped, !copy.isLeftOutByFork else { continue }
      copy.entry = nil
      copy.isAdopted = false
      copy.object?.users += 1
      processes[child]?.pages[page] = copy
      // Shared mappings fault in again; wiped ones begin empty.
      guard let entry = mapped?.entry, !copy.isShared, !copy.isWipedByFork else { continue }
      if forkEntry(entry, page, copy, parent, from: space, to: child) {
        hasShared = hasShared || self.entry(child, page)?.frame === entry.frame
      } else {
        if hasShared { note(.forkUndone) }
        exit(child)
        return Outcome(refusal: .outOfMemory)
      }
    }
    return Outcome()
  }

  /// False when there is no frame for the child's own copy.
  private mutating func forkEntry(
    _ found: Entry, _ page: Int, _ mapped: MappedPage, _ parent: Process, from space: Int,
    to child: Int
  ) -> Bool {
    var entry = found
    let frame = entry.frame
    let stays = parent.hasPinned && frame.folio.looksPinned
    if entry.isLeaf {
      // Pages of a leaf are left to the parent one by one.
      if frame.folio.isLeafExclusive, stays { splitLeaf(space, page) }
      entry = self.entry(space, page) ?? entry
    }
    switch frame.kind {
    case .zero:
      setEntry(child, page, entry)
    case .shared:
      preconditionFailure("a private page has no shared frame")
    case .anonymous where !entry.isLeaf && frame.isMarkedExclusive && stays:
      // A device may be at it: the parent keeps it as it is.
      guard let copy = makePrivateFrame(words: frame.words, movable: mapped.isMovable) else {
        return false
      }
      note(frame.folio.order > 0 ? .copiedOutOfPinnedFolio : .copiedByFork)
      setEntry(child, page, Entry(frame: copy, isWritable: mapped.access == .readWrite))
    case .anonymous:
      if !entry.isLeaf {
        frame.isMarkedExclusive = false
        frame.maps += 1
        frame.folio.maps += 1
      } else if frame.index == 0 {
        frame.folio.isLeafExclusive = false
        frame.folio.leaves += 1
      }
      note(.sharedByFork)
      entry.isWritable = false
      setEntry(space, page, entry)
      setEntry(child, page, entry)
    }
    return true
  }
}
