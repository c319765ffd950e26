//===----------------------------------------------------------------------===//
// The slow path (__get_user_pages, semantics C.5): under the mmap lock it looks
// up the area, follows the entry, faults where it must, and takes the page.
//
// Lock: the mmap lock, for a batch of pages at a time. Under it nothing is
// allocated, retained, or stored outside the stack: the caller's list may lie
// in memory of this very address space, and a store to it may fault. So a batch
// is collected on the stack and copied out after the lock is dropped.
//
// Faults are asked for all that is left of the request in the area, so that the
// host is called once a run and not once a page.
//===----------------------------------------------------------------------===//

internal import AddressSpaces
internal import CShims
internal import Events
internal import PageFrames

/// How far a slow walk came.
struct SlowProgress {
  /// Pages done: in the list, or only faulted in where there is none.
  var pageCount = 0
  /// Holds taken: the zero page takes no pins.
  var holdCount = 0
  /// Why it stopped early.
  var stop: MemoryError?
}

/// Runs of pages of one turn under the lock.
private let batchCapacity = 64

/// Pages of one folio, in order, or one page.
private struct PageRun {
  var first: Page?
  var count = 0
}

struct SlowWalk {
  let mm: MM
  let flags: GUPFlags
  private var batch = InlineArray<64, PageRun>(repeating: PageRun())
  private var batchCount = 0

  init(_ mm: MM, flags: GUPFlags) {
    self.mm = mm
    self.flags = flags
  }

  private var hold: PageHold { flags.contains(.pin) ? .pin : .reference }
  private var takes: Bool { flags.contains(.get) || flags.contains(.pin) }
  private var writes: Bool { flags.contains(.write) }

  /// Takes up to `count` pages from `start` on, into `list` if there is one.
  /// Stops at the first that cannot be taken.
  mutating func take(
    from start: UInt64, count: Int, into list: UnsafeMutablePointer<Page?>?
  ) -> SlowProgress {
    var all = SlowProgress()
    while all.pageCount < count, all.stop == nil {
      mm.lock()
      let turn = takeTurn(from: start &+ UInt64(all.pageCount) << 12, left: count - all.pageCount)
      mm.unlock()
      if let list = unsafe list { unsafe copyOut(list + all.pageCount) }
      all.pageCount += turn.pageCount
      all.holdCount += turn.holdCount
      all.stop = turn.stop
    }
    return all
  }

  /// Stores what a turn took. Outside the lock: the list may be user memory.
  private func copyOut(_ list: UnsafeMutablePointer<Page?>) {
    var done = 0
    for k in 0..<batchCount {
      let run = batch[k]
      guard let first = run.first else { continue }
      for i in 0..<run.count { unsafe list[done + i] = Page(first.descriptor + i) }
      done += run.count
    }
  }

  /// One turn under the lock, of at most a batch.
  private mutating func takeTurn(from start: UInt64, left: Int) -> SlowProgress {
    var turn = SlowProgress()
    batchCount = 0
    var area: UnsafeMutablePointer<Area>?
    if mm.hasExited {
      turn.stop = MemoryError(.noSuchProcess, .exited, start)
      return turn
    }
    while turn.pageCount < left, batchCount < batchCapacity {
      let address = start &+ UInt64(turn.pageCount) << 12
      // Addresses that wrap around belong to no area of this walk.
      guard address >= start else {
        turn.stop = MemoryError(.badAddress, .notMapped, address)
        break
      }
      if unsafe area == nil || address >= area.unsafelyUnwrapped.pointee.end {
        unsafe area = mm.area(containing: address)
        guard let area = unsafe area else {
          turn.stop = MemoryError(.badAddress, .notMapped, address)
          break
        }
        if let refusal = unsafe refusal(of: area.pointee, at: address) {
          turn.stop = refusal
          break
        }
      }
      let inArea = unsafe Int((area.unsafelyUnwrapped.pointee.end - address) >> 12)
      turn.stop = unsafe takeNext(
        at: address, in: area.unsafelyUnwrapped, remaining: min(left - turn.pageCount, inArea),
        turn: &turn)
      if turn.stop != nil { break }
    }
    return turn
  }

  /// Takes the page at `address`, and with it what is wanted of its leaf.
  /// Faults and looks again until the entry will do.
  private mutating func takeNext(
    at address: UInt64, in area: UnsafeMutablePointer<Area>, remaining: Int,
    turn: inout SlowProgress
  ) -> MemoryError? {
    // Absent, then shared: two faults are the most that one entry can need.
    var faultsLeft = 3
    while true {
      let fault: FaultAccess
      let faultsAlone: Bool
      switch unsafe follow(address, in: area) {
      case .page(let page, let entry, let leafPages):
        return grab(page, min(leafPages, remaining), entry, at: address, turn: &turn)
      case .pageless:
        // Without a list there is nothing to refuse.
        if takes { return MemoryError(.exists, .pageless, address) }
        batchCount += 1
        turn.pageCount += 1
        return nil
      case .refused(let error): return error
      case .needsFault(let access, let isAlone):
        fault = access
        faultsAlone = isAlone
      }
      if flags.contains(.noFault) {
        return MemoryError(
          .badAddress, fault == .unshare ? .breakingSharingForbidden : .notPresent, address)
      }
      if faultsLeft == 0 { return MemoryError(.badAddress, .notPresent, address) }
      faultsLeft -= 1
      // Whatever follows and needs the same is brought in by the same call.
      var run = 1
      while !faultsAlone, run < remaining,
        case .needsFault(fault, alone: false) = unsafe follow(
          address + UInt64(run) << 12, in: area)
      { run += 1 }
      let result = unsafe mm.handleFault(at: address, pages: run, in: area, access: fault)
      if result.pages == 0, let error = result.outcome.error(at: address) { return error }
    }
  }

  // MARK: - Areas

  /// check_vma_flags, in its order (C.5.2).
  private func refusal(of area: Area, at address: UInt64) -> MemoryError? {
    func refuse(_ reason: MemoryError.Reason) -> MemoryError {
      MemoryError(.badAddress, reason, address)
    }
    let area = area.flags
    if area.contains(.io) || area.contains(.pfnMap) { return refuse(.deviceAccess) }
    if flags.contains(.anonymous), !area.contains(.anonymous) { return refuse(.anonymousOnly) }
    if flags.contains(.longTerm), area.contains(.fsdax) {
      return MemoryError(.notSupported, .fileSystemMemory, address)
    }
    if flags.contains(.splitPMD), area.contains(.hugetlb) {
      return MemoryError(.notSupported, .hugePageArea, address)
    }
    if area.contains(.secret) { return refuse(.directAccessForbidden) }
    if writes {
      if !area.contains(.anonymous), flags.contains(.pin), flags.contains(.longTerm),
        area.contains(.shared), area.contains(.write), area.contains(.dirtyTracking)
      {
        return refuse(.dirtyTrackingNeeded)
      }
      if !area.contains(.write) {
        if !flags.contains(.force) { return refuse(.writeForbidden) }
        if area.contains(.hugetlb) { return refuse(.hugePageArea) }
        if area.contains(.shared) || !area.contains(.mayWrite) {
          return refuse(.forcedWriteForbidden)
        }
      }
    } else if !area.contains(.read) {
      if !flags.contains(.force) { return refuse(.readForbidden) }
      if !area.contains(.mayRead) { return refuse(.forcedReadForbidden) }
    }
    return nil
  }

  // MARK: - Entries

  private enum Followed {
    /// A page that may be taken, and how many of its leaf from it on.
    case page(Page, entry: UInt64, leafPages: Int)
    /// A frame without a page.
    case pageless
    /// `alone`: a page of a folio. Holds on its other pages decide whether it is
    /// reused or copied (D.3 row 3), so those are taken before it faults.
    case needsFault(FaultAccess, alone: Bool)
    case refused(MemoryError)
  }

  /// follow_page_pte and follow_page_mask (C.5.4).
  private func follow(_ address: UInt64, in area: UnsafeMutablePointer<Area>) -> Followed {
    let absent = Followed.needsFault(writes ? .write : .read, alone: false)
    let isAnonymousArea = unsafe area.pointee.flags.contains(.anonymous)
    if flags.contains(.splitPMD) { mm.splitLeaf(at: address) }
    var value: UInt64 = 0
    var isLeaf = false
    if let pmd = unsafe cshims_pmd_offset(mm.hot.pointee.pgd, address) {
      value = unsafe cshims_pte_load(pmd)
      let index = cshims_pte_index(address, 12)
      if value & CSHIMS_PTE_HUGE != 0 {
        value += UInt64(index) << 12
        isLeaf = true
      } else if value & CSHIMS_PTE_PRESENT != 0 {
        value = unsafe cshims_pte_load(cshims_pte_table(value) + Int(index))
      }
    }
    // An inaccessible area's entry may be followed: its area was checked.
    guard value & (CSHIMS_PTE_PRESENT | CSHIMS_PTE_PROTNONE) != 0 else {
      if flags.contains(.dump), isAnonymousArea {
        return .refused(MemoryError(.badAddress, .notPresent, address))
      }
      return absent
    }
    let machine = mm.machine
    let page = machine.page((value & CSHIMS_PTE_FRAME_MASK) >> 12)
    let isSpecial = value & CSHIMS_PTE_SPECIAL != 0
    let isAnonymous = !isSpecial && page.isAnonymous
    // One leaf is one mapping: its head answers for it.
    let isExclusive = isAnonymous && (isLeaf ? page.folioHead : page).isAnonymousExclusive
    let isWritable = value & CSHIMS_PTE_WRITE != 0
    if writes, !isWritable, !mayForceWrite(unsafe area.pointee, isExclusive) {
      return .needsFault(.write, alone: page.folioOrder > 0)
    }
    if isSpecial {
      if flags.contains(.dump) { return .refused(MemoryError(.badAddress, .notPresent, address)) }
      if page != machine.zeroPage { return .pageless }
    }
    if !isWritable,
      mustUnshare(
        flags, isAnonymous: isAnonymous, isExclusive: isExclusive,
        isCopyOnWrite: unsafe area.pointee.isCopyOnWrite, machine)
    {
      return .needsFault(.unshare, alone: page.folioOrder > 0)
    }
    return .page(
      page, entry: value, leafPages: leafPages(page, at: address, isLeaf, isExclusive))
  }

  /// How many pages of a folio from `page` on stand behind entries that let them
  /// be taken as it is, together (C.5.6).
  private func leafPages(
    _ page: Page, at address: UInt64, _ isLeaf: Bool, _ isExclusive: Bool
  ) -> Int {
    if isLeaf { return Int(CSHIMS_PTE_ENTRIES) - Int(cshims_pte_index(address, 12)) }
    let run = mm.folioRun(at: address, limit: Int(CSHIMS_PTE_ENTRIES))
    var count = 1
    while count < run,
      unsafe Page(page.descriptor + count).isAnonymousExclusive == isExclusive
    { count += 1 }
    return count
  }

  /// May FORCE write through a read-only entry? Only when the copy is already
  /// the address space's own, and the area forbids the write that would
  /// otherwise make the entry writable.
  private func mayForceWrite(_ area: Area, _ isExclusive: Bool) -> Bool {
    flags.contains(.force) && isExclusive && area.isCopyOnWrite && !area.flags.contains(.write)
  }

  // MARK: - Taking

  private mutating func grab(
    _ page: Page, _ count: Int, _ entry: UInt64, at address: UInt64, turn: inout SlowProgress
  ) -> MemoryError? {
    let pageFlags = page.flags | page.folioHead.flags
    if pageFlags & CSHIMS_PAGE_POISONED != 0 {
      return MemoryError(
        flags.contains(.hardwarePoison) ? .poisoned : .badAddress, .poisonedPage, address)
    }
    if pageFlags & CSHIMS_PAGE_SECRET != 0 {
      return MemoryError(.badAddress, .directAccessForbidden, address)
    }
    if takes {
      if pageFlags & CSHIMS_PAGE_P2PDMA != 0, !flags.contains(.pciP2PDMA) {
        return MemoryError(.remoteIO, .peerToPeerForbidden, address)
      }
      if unsafe mm.machine.header.fails(at: .grab) {
        return MemoryError(.outOfMemory, .injected, address)
      }
      guard page.tryAcquireUnnoted(hold) else {
        return MemoryError(.outOfMemory, .countOverflow, address)
      }
      if count > 1, !page.tryAcquireUnnoted(hold, count: count - 1) {
        page.releaseUnnoted(hold)
        return MemoryError(.badAddress, .countOverflow, address)
      }
      batch[batchCount] = PageRun(first: page, count: count)
      if !(hold == .pin && page.isZeroPage) { turn.holdCount += count }
    }
    touch(page, pageFlags, entry)
    // Without a list, too: a turn ends some time.
    batchCount += 1
    turn.pageCount += count
    return nil
  }

  /// Marks what the program could have marked by touching it itself.
  private func touch(_ page: Page, _ pageFlags: UInt32, _ entry: UInt64) {
    guard flags.contains(.touch), !page.isZeroPage else { return }
    var marks = CSHIMS_PAGE_REFERENCED
    if writes, entry & CSHIMS_PTE_DIRTY == 0 { marks |= CSHIMS_PAGE_DIRTY }
    if pageFlags & marks != marks {
      unsafe _ = cshims_page_set_flags(page.folioHead.descriptor, marks)
    }
  }
}
