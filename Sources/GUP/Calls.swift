//===----------------------------------------------------------------------===//
// What all entry points share: the argument checks in the order of semantics
// C.2, the fast walk with its fallback, the slow path with the long-term check,
// and the accounts, kept once a call.
//
// No lock is held here; FastWalk.swift and SlowPath.swift say what they hold.
//===----------------------------------------------------------------------===//

internal import AddressSpaces
internal import CShims
internal import Events
internal import PageFrames

/// One call's arguments, checked.
@safe
struct Call {
  let mm: MM
  let start: UInt64
  let count: Int
  let flags: GUPFlags
  let list: UnsafeMutablePointer<Page?>?

  private init(
    mm: MM, start: UInt64, count: Int, flags: GUPFlags, list: UnsafeMutablePointer<Page?>?
  ) {
    self.mm = mm
    self.start = start
    self.count = count
    self.flags = flags
    unsafe self.list = list
  }

  /// Checks what a caller passed; `own` are the flags that the wrapper adds
  /// (is_valid_gup_args). `count` is positive.
  @inline(__always)
  init(
    _ mm: MM, _ start: UserAddress, _ count: Int, _ flags: GUPFlags, adding own: GUPFlags,
    into list: UnsafeMutablePointer<Page?>?
  ) throws(MemoryError) {
    if !mm.isOwn { throw mm.otherProcess }
    let all = flags.union(own)
    if !flags.isSubset(of: .forCallers) {
      throw MemoryError(.invalid, .flagsNotForThisCall, UInt64(flags.rawValue))
    }
    if all.isSuperset(of: [.get, .pin])
      || all.contains(.longTerm) && !all.contains(.pin)
    {
      throw MemoryError(.invalid, .flagsContradict, UInt64(flags.rawValue))
    }
    if unsafe list == nil, !all.isDisjoint(with: [.get, .pin]) {
      throw MemoryError(.invalid, .listMissing, count)
    }
    if all.isSuperset(of: [.longTerm, .pciP2PDMA]) {
      throw MemoryError(.invalid, .flagsContradict, UInt64(flags.rawValue))
    }
    unsafe self.init(mm: mm, start: start.rawValue & ~0xfff, count: count, flags: all, list: list)
  }

  /// The fast entry (gup_fast_fallback).
  @inline(__always)
  func fast() throws(MemoryError) -> GUPResult {
    if mm.machine.isJoinable { return try fastAndNote() }
    return try fastUnnoted()
  }

  /// On a joinable machine: inside the gate, and the process is noted as holding
  /// what it got.
  @inline(never)
  private func fastAndNote() throws(MemoryError) -> GUPResult {
    try noting { () throws(MemoryError) in try fastUnnoted() }
  }

  /// The slow entry, as `fast`.
  @inline(never)
  func slowEntry() throws(MemoryError) -> GUPResult {
    if !mm.machine.isJoinable { return try slow(adding: .touch) }
    return try noting { () throws(MemoryError) in try slow(adding: .touch) }
  }

  private func noting(
    _ body: () throws(MemoryError) -> GUPResult
  ) throws(MemoryError) -> GUPResult {
    mm.machine.enterGate()
    defer { mm.machine.leaveGate() }
    let result = try body()
    if let list = unsafe list, !flags.isDisjoint(with: [.get, .pin]) {
      let hold: PageHold = flags.contains(.pin) ? .pin : .reference
      for i in 0..<result.pageCount { unsafe list[i]?.note(hold, 1) }
    }
    return result
  }

  @inline(__always)
  private func fastUnnoted() throws(MemoryError) -> GUPResult {
    if !flags.isSubset(of: .forFastWalk) {
      throw MemoryError(
        .invalid, .flagsNotForThisCall,
        UInt64(flags.intersection(.forCallers).subtracting(.forFastWalk).rawValue))
    }
    // Before any address is looked at, and never taken back: fork must believe
    // from now on that this address space may have pins.
    if flags.contains(.pin) { unsafe cshims_mm_set_flags(mm.hot, CSHIMS_MM_HAS_PINNED) }
    guard let length = byteLength, !start.addingReportingOverflow(length).overflow else {
      throw MemoryError(.overflow, .rangeWraps, start)
    }
    if start + length > CSHIMS_TASK_SIZE {
      throw MemoryError(.badAddress, .addressOutsideUserSpace, start)
    }
    let list = unsafe list.unsafelyUnwrapped
    let walk = unsafe FastWalk(mm.hot, flags: flags)
    let taken = unsafe walk.take(from: start, count: count, into: list)
    if taken == count {
      account(taken, taken)
      return GUPResult(pageCount: taken)
    }
    return try unsafe Call.finishFast(mm, start, count, flags, list, taken)
  }

  /// The byte length of the request, if 64 bits hold it.
  private var byteLength: UInt64? {
    let (length, overflow) = UInt64(count).multipliedReportingOverflow(by: 4096)
    return overflow ? nil : length
  }

  /// What follows a fast walk that did not get everything. By parts, so that
  /// the call itself stays in registers until here.
  @inline(never)
  static func finishFast(
    _ mm: MM, _ start: UInt64, _ count: Int, _ flags: GUPFlags,
    _ list: UnsafeMutablePointer<Page?>, _ taken: Int
  ) throws(MemoryError) -> GUPResult {
    let call = unsafe Call(mm: mm, start: start, count: count, flags: flags, list: list)
    guard flags.contains(.fastOnly) else {
      return try call.slow(after: taken, adding: [.touch, .unlockable])
    }
    call.account(taken, taken)
    return GUPResult(
      pageCount: taken, stop: MemoryError(.tryAgain, .fastPathOnly, start + UInt64(taken) << 12))
  }

  /// The slow entry (__gup_longterm_locked), for what `taken` pages of the fast
  /// walk left over.
  @inline(never)
  func slow(after taken: Int = 0, adding own: GUPFlags) throws(MemoryError) -> GUPResult {
    if flags.contains(.pin) { unsafe cshims_mm_set_flags(mm.hot, CSHIMS_MM_HAS_PINNED) }
    var walk = SlowWalk(mm, flags: flags.union(own))
    let rest = unsafe list.map { unsafe $0 + taken }
    let from = start &+ UInt64(taken) << 12
    var progress = unsafe walk.take(from: from, count: count - taken, into: rest)
    var triesLeft = 10
    while flags.contains(.longTerm), let rest = unsafe rest,
      unsafe movesMovable(rest, from, &progress, isLast: triesLeft <= 1)
    {
      triesLeft -= 1
      progress = unsafe walk.take(from: from, count: count - taken, into: rest)
    }
    let total = taken + progress.pageCount
    if total == 0, let error = progress.stop { throw error }
    account(total, taken + progress.holdCount)
    return GUPResult(pageCount: total, stop: progress.stop)
  }

  /// A page that must stay movable cannot be pinned for long: all of the slow
  /// path's pins are dropped, slots emptied, and such pages moved to frames that
  /// need not (check_and_migrate_movable_pages, C.8). True when they are to be
  /// taken again; else `progress` is what there is.
  private func movesMovable(
    _ list: UnsafeMutablePointer<Page?>, _ from: UInt64, _ progress: inout SlowProgress,
    isLast: Bool
  ) -> Bool {
    var isMovable = false
    for i in 0..<progress.pageCount {
      guard let page = unsafe list[i] else { continue }
      isMovable = isMovable || Call.mustMove(page)
    }
    guard isMovable else { return false }
    // A large folio moves with all its pages: of those in a row the first is asked
    // for. If it had to be split, the next round asks for the others.
    var folio: Page?
    for i in 0..<progress.pageCount {
      guard let page = unsafe list[i] else { continue }
      let head = page.folioOrder > 0 ? page.folioHead : nil
      if !Call.mustMove(page) || head != nil && head == folio { unsafe list[i] = nil }
      folio = head
      page.releaseUnnoted(.pin)
    }
    var didMove = false
    var stop: MemoryError?
    for i in 0..<progress.pageCount where unsafe list[i] != nil {
      unsafe list[i] = nil
      let address = from + UInt64(i) << 12
      mm.lock()
      let outcome = mm.hasExited ? .nothingToDo : mm.migrate(at: address, to: .unmovable)
      mm.unlock()
      switch outcome {
      case .moved: didMove = true
      // It went away meanwhile, or moved with another of its folio: it is taken
      // anew, but not for ever.
      case .nothingToDo:
        if isLast, !didMove { stop = stop ?? MemoryError(.outOfMemory, .movablePage, address) }
      case .noFrame: stop = stop ?? MemoryError(.outOfMemory, .framesExhausted, address)
      case .pinned, .referenced, .unreachable, .dirty, .unmovable:
        // Who holds it may let go of it soon.
        if isLast { stop = stop ?? MemoryError(.outOfMemory, .movablePage, address) }
      }
    }
    progress = SlowProgress(stop: stop)
    return stop == nil
  }

  private static func mustMove(_ page: Page) -> Bool {
    page.folioHead.flags & CSHIMS_PAGE_MOVABLE != 0 && !page.isZeroPage
  }

  /// Counts what was taken and tells it.
  @inline(__always)
  private func account(_ pageCount: Int, _ holdCount: Int) {
    let pins = flags.contains(.pin)
    guard pins || flags.contains(.get), pageCount > 0 else { return }
    if holdCount > 0 {
      mm.machine.count(pins ? CSHIMS_PINS_ACQUIRED : CSHIMS_REFS_ACQUIRED, holdCount)
    }
    if unsafe cshims_attention(mm.machine.header) != 0, let list = unsafe list {
      unsafe Call.tell(mm, pins ? .pin : .reference, start, list, pageCount)
    }
  }

  /// Tells the ledger and whoever listens.
  @inline(never)
  private static func tell(
    _ mm: MM, _ hold: PageHold, _ start: UInt64, _ list: UnsafeMutablePointer<Page?>,
    _ pageCount: Int
  ) {
    if Ledger.isOn { unsafe noteTaken(hold, list, count: pageCount, in: mm.hot) }
    guard let first = unsafe list[0] else { return }
    unsafe mm.machine.header.emit(
      hold == .pin ? .pin : .get, address: start, frame: first.frameNumber.rawValue,
      pageCount: pageCount)
  }
}
