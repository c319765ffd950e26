//===----------------------------------------------------------------------===//
// mmap, munmap, mprotect, madvise and fork, page by page (D.1, D.2).
//===----------------------------------------------------------------------===//

extension ForkModel {
  mutating func map(_ place: Place, _ access: Access, _ shared: Bool) -> Outcome {
    let object = shared ? SharedObject() : nil
    for page in place.pages {
      unmap(place.space, page)
      object?.users += 1
      processes[place.space]?.pages[page] = MappedPage(access: access, object: object)
    }
    return Outcome()
  }

  /// Takes a page's mapping away, if it has one.
  mutating func unmap(_ space: Int, _ page: Int) {
    guard let mapped = mapped(space, page) else { return }
    clearEntry(space, page)
    processes[space]?.pages[page] = nil
    guard let object = mapped.object else { return }
    object.users -= 1
    guard object.users == 0 else { return }
    for frame in object.frames.values {
      frame.isKept = false
      freeIfUnheld(frame)
    }
  }

  /// Takes the page out of the page table; whoever else holds it keeps it (G5).
  mutating func clearEntry(_ space: Int, _ page: Int) {
    guard let entry = entry(space, page) else { return }
    setEntry(space, page, nil)
    guard entry.frame.kind != .zero else { return }
    entry.frame.maps -= 1
    if entry.frame.kind == .anonymous, entry.frame.maps == 0, entry.frame.references > 0 {
      note(.orphaned)
    }
    freeIfUnheld(entry.frame)
  }

  mutating func setEntry(_ space: Int, _ page: Int, _ entry: Entry?) {
    processes[space]?.pages[page]?.entry = entry
  }

  /// Changes the pages up to the first hole.
  mutating func protect(_ place: Place, _ access: Access) -> Outcome {
    for page in place.pages {
      guard let mapped = mapped(place.space, page) else { return Outcome(refusal: .outOfMemory) }
      guard mapped.access != access else { continue }
      processes[place.space]?.pages[page]?.access = access
      guard let frame = mapped.entry?.frame else { continue }
      // Without a fault only where nothing would have to be copied.
      let atOnce = frame.kind == .shared || frame.kind == .anonymous && frame.isExclusive
      setEntry(
        place.space, page, Entry(frame: frame, isWritable: access == .readWrite && atOnce))
    }
    return Outcome()
  }

  mutating func advise(_ place: Place, _ advice: ModelAdvice) -> Outcome {
    let populates = advice == .populateRead || advice == .populateWrite
    var metHole = false
    for page in place.pages {
      guard let mapped = mapped(place.space, page) else {
        metHole = true
        if populates { break }
        continue
      }
      if let refusal = advise(place.space, page, mapped, advice) {
        return Outcome(refusal: refusal)
      }
    }
    return Outcome(refusal: metHole ? .outOfMemory : nil)
  }

  private mutating func advise(
    _ space: Int, _ page: Int, _ mapped: MappedPage, _ advice: ModelAdvice
  ) -> Outcome.Refusal? {
    switch advice {
    case .dontNeed: clearEntry(space, page)
    case .free: return mapped.isShared ? .invalid : nil
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
    processes[child] = Process()
    var hasShared = false
    for (page, mapped) in parent.pages.enumerated() {
      guard var copy = mapped, !copy.isLeftOutByFork else { continue }
      copy.entry = nil
      copy.object?.users += 1
      processes[child]?.pages[page] = copy
      // Shared mappings fault in again; wiped ones begin empty.
      guard let entry = mapped?.entry, !copy.isShared, !copy.isWipedByFork else { continue }
      if forkEntry(entry, page, copy, parent, from: space, to: child) {
        hasShared = hasShared || self.entry(child, page)?.frame === entry.frame
      } else {
        if hasShared { note(.forkUndone) }
        for page in 0..<Limits.pages { unmap(child, page) }
        processes[child] = nil
        return Outcome(refusal: .outOfMemory)
      }
    }
    return Outcome()
  }

  /// False when there is no frame for the child's own copy.
  private mutating func forkEntry(
    _ entry: Entry, _ page: Int, _ mapped: MappedPage, _ parent: Process, from space: Int,
    to child: Int
  ) -> Bool {
    let frame = entry.frame
    switch frame.kind {
    case .zero:
      setEntry(child, page, entry)
    case .shared:
      preconditionFailure("a private page has no shared frame")
    case .anonymous where frame.isExclusive && parent.hasPinned && frame.looksPinned:
      // A device may be at it: the parent keeps it as it is.
      guard let copy = makeFrame(.anonymous, words: frame.words) else { return false }
      copy.maps = 1
      note(.copiedByFork)
      setEntry(child, page, Entry(frame: copy, isWritable: mapped.access == .readWrite))
    case .anonymous:
      frame.isExclusive = false
      frame.maps += 1
      note(.sharedByFork)
      let shown = Entry(frame: frame, isWritable: false)
      setEntry(space, page, shown)
      setEntry(child, page, shown)
    }
    return true
  }
}
