//===----------------------------------------------------------------------===//
// Giving back what GUP took (semantics C.9). Lists may have nil slots, pages of
// several machines and of folios in any order; consecutive slots of one folio
// are dropped by one atomic.
//
// In a process that a page's machine does not belong to (a child made by fork(2)
// that has copies of the lists) nothing happens: what was taken is the parent's.
//
// A drop is acq_rel: our writes to the page happen before its next owner's. No
// lock is taken but the allocator's, by whoever drops a page's last count.
//===----------------------------------------------------------------------===//

internal import CShims
internal import Events
public import PageFrames

// MARK: - Pins

/// Drops one pin (unpin_user_page). The caller must hold it; a pin too many
/// stops the program, naming the frame. The zero page has none to drop.
public func unpinUserPage(_ page: Page) { drop(page, .pin) }

/// Drops one pin of each page of a list (unpin_user_pages).
///
/// - Parameter count: slots; a GUP call's negative result may come along and is
///   ignored. Nil slots are skipped.
/// - Returns: nil, or a warning that nothing was done because of `count`.
/// - Complexity: O(count), one atomic per run of slots of one folio.
@discardableResult
public func unpinUserPages(_ pages: UnsafePointer<Page?>, count: Int) -> MemoryError? {
  unsafe drop(pages, count, .pin, dirty: false)
}

/// Drops one pin of each page in the buffer and empties it.
public func unpinUserPages(_ pages: inout PageBuffer) {
  unsafe drop(pages.baseAddress, pages.count, .pin, dirty: false)
  pages.removeAll()
}

/// As `unpinUserPages`; with `dirty`, a folio that is clean is marked dirty
/// before its pins go (unpin_user_pages_dirty_lock). For buffers that were
/// written to through the window.
@discardableResult
public func unpinUserPagesDirtyLock(
  _ pages: UnsafePointer<Page?>, count: Int, dirty: Bool
) -> MemoryError? {
  unsafe drop(pages, count, .pin, dirty: dirty)
}

/// As `unpinUserPages`, marking clean folios dirty first where `dirty`.
public func unpinUserPagesDirtyLock(_ pages: inout PageBuffer, dirty: Bool) {
  unsafe drop(pages.baseAddress, pages.count, .pin, dirty: dirty)
  pages.removeAll()
}

/// Drops one pin of each of `count` physically consecutive pages from `page` on
/// (unpin_user_page_range_dirty_lock).
///
/// - Returns: nil, or a warning that nothing was done: `count` is negative, or
///   the machine has no such frames.
/// - Complexity: O(folios).
@discardableResult
public func unpinUserPageRangeDirtyLock(_ page: Page, count: Int, dirty: Bool) -> MemoryError? {
  if let warning = refusal(of: count) { return warning }
  guard page.isOwn else { return nil }
  let machine = page.machine
  guard UInt64(count) <= machine.frameCount - page.frameNumber.rawValue else {
    return MemoryError(.invalid, .framesOutsideMachine, count)
  }
  if Ledger.isOn, let unheld = page.firstUnheld(.pin, pageCount: count, call: call(.pin)) {
    return missing(unheld)
  }
  var released = 0
  var i = 0
  while i < count {
    let next = unsafe Page(page.descriptor + i)
    let size = 1 << next.folioOrder
    let run = min(count - i, size - Int(next.frameNumber.rawValue) & (size - 1))
    if !next.isZeroPage, dropFolio(next, run, .pin, dirty: dirty) { released += run }
    i += run
  }
  account(machine, .pin, released, page)
  return nil
}

/// Drops `count` pins of the folio that a page belongs to (unpin_user_folio).
/// - Returns: nil, or a warning that nothing was done because of `count`.
@discardableResult
public func unpinUserFolio(_ page: Page, count: Int) -> MemoryError? {
  if let warning = refusal(of: count) { return warning }
  // More pins than a count can hold cannot be held.
  guard count <= Int(CSHIMS_REF_MAX / CSHIMS_PIN_BIAS) || page.folioOrder > 0,
    count <= Int(CSHIMS_REF_MAX)
  else { return MemoryError(.invalid, .countOverflow, count) }
  guard page.isOwn, !page.isZeroPage, count > 0 else { return nil }
  if Ledger.isOn, !page.mayDrop(.pin, count: count, call: "unpin_user_folio") {
    return missing(page)
  }
  if dropFolio(page, count, .pin, dirty: false) { account(page.machine, .pin, count, page) }
  return nil
}

/// Drops one pin of the folio that a page belongs to (unpin_folio).
public func unpinFolio(_ page: Page) { unpinUserFolio(page, count: 1) }

/// Drops one pin of each folio of a list, nil slots skipped (unpin_folios).
@discardableResult
public func unpinFolios(_ folios: UnsafePointer<Page?>, count: Int) -> MemoryError? {
  unsafe drop(folios, count, .pin, dirty: false)
}

// MARK: - References

/// Drops one reference (put_page). The caller must hold it.
public func putPage(_ page: Page) { drop(page, .reference) }

/// Drops one reference of each page of a list (put_page on each). Nil slots are
/// skipped, a negative count is ignored.
/// - Returns: nil, or a warning that nothing was done because of `count`.
@discardableResult
public func putPages(_ pages: UnsafePointer<Page?>, count: Int) -> MemoryError? {
  unsafe drop(pages, count, .reference, dirty: false)
}

/// Drops one reference of each page in the buffer and empties it.
public func putPages(_ pages: inout PageBuffer) {
  unsafe drop(pages.baseAddress, pages.count, .reference, dirty: false)
  pages.removeAll()
}

// MARK: - The loops

private func refusal(of count: Int) -> MemoryError? {
  count < 0 ? MemoryError(.invalid, .countNegative, count) : nil
}

/// The ledger knows of no hold that a release would drop.
private func missing(_ page: Page) -> MemoryError {
  MemoryError(.invalid, .holdMissing, page.frameNumber.rawValue)
}

@inline(__always)
private func call(_ hold: PageHold) -> StaticString {
  hold == .pin ? "unpin_user_page" : "put_page"
}

/// Counts and tells what was dropped; once a run, never a page.
@inline(__always)
private func account(_ machine: Machine, _ hold: PageHold, _ released: Int, _ first: Page) {
  guard released > 0 else { return }
  machine.count(hold == .pin ? CSHIMS_PINS_RELEASED : CSHIMS_REFS_RELEASED, released)
  if unsafe cshims_instrumented(machine.header) { tell(hold, released, first) }
}

@inline(never)
private func tell(_ hold: PageHold, _ released: Int, _ first: Page) {
  unsafe first.machine.header.emit(
    hold == .pin ? .unpin : .put, address: 0, frame: first.frameNumber.rawValue,
    pageCount: released)
}

/// Drops one hold of a page.
@inline(__always)
private func drop(_ page: Page, _ hold: PageHold) {
  switch page.dropPlainly(hold, membership: unsafe cshims_membership_of(page.descriptor)) {
  case .dropped: break
  case .notPlain: dropOne(page, hold)
  case .unfinished(let old): page.finishPlainDrop(hold, old: old)
  }
}

/// Drops one hold of a page that is not plain.
@inline(never)
private func dropOne(_ page: Page, _ hold: PageHold) {
  if Ledger.isOn, !page.mayDrop(hold, call: call(hold)) { return }
  // The zero page counts no pins.
  if hold == .pin, page.isZeroPage { return }
  if dropFolio(page, 1, hold, dirty: false) { account(page.machine, hold, 1, page) }
}

extension Page {
  /// The end of a plain drop that was the last one, or one too many.
  @inline(never)
  public func finishPlainDrop(_ hold: PageHold, old: UInt32) {
    finishDrop(old: old, amount: hold.bias, call: call(hold))
  }
}

/// Does the page's machine belong to another process, or note what is released?
@inline(__always)
private func isUnusual(_ page: Page) -> Bool {
  unsafe cshims_membership_of(page.descriptor) != CSHIMS_MACHINE_OWN.rawValue
}

/// Drops one hold of a single page.
@inline(__always)
private func subtract(_ page: UnsafeMutablePointer<cshims_page>, _ hold: PageHold) {
  let old = unsafe cshims_page_ref_fetch_sub(page, hold.bias)
  if !hold.isFinished(old) { unsafe Page(page).finishPlainDrop(hold, old: old) }
}

/// Drops `count` holds of one folio by one atomic. False where they are not this
/// process's.
private func dropFolio(_ page: Page, _ count: Int, _ hold: PageHold, dirty: Bool) -> Bool {
  guard page.isOwn else { return false }
  if dirty, !page.isDirty { page.markDirty() }
  return page.releaseIfHeld(hold, count: count)
}

@inline(__always)
@discardableResult
private func drop(
  _ list: UnsafePointer<Page?>, _ count: Int, _ hold: PageHold, dirty: Bool
) -> MemoryError? {
  if count == 1, !dirty, let page = unsafe list[0] {
    switch page.dropPlainly(hold, membership: unsafe cshims_membership_of(page.descriptor)) {
    case .dropped: return nil
    case .notPlain:
      // With the ledger the answer says what it says.
      if Ledger.isOn { break }
      dropOne(page, hold)
      return nil
    case .unfinished(let old):
      page.finishPlainDrop(hold, old: old)
      return nil
    }
  }
  return unsafe dropMany(list, count, hold, dirty: dirty)
}

@inline(never)
private func dropMany(
  _ list: UnsafePointer<Page?>, _ count: Int, _ hold: PageHold, dirty: Bool
) -> MemoryError? {
  if let warning = refusal(of: count) { return warning }
  if Ledger.isOn, let unheld = unsafe firstUnheld(hold, list, count: count, call: call(hold)) {
    return missing(unheld)
  }
  var i = 0
  while i < count {
    guard let first = unsafe list[i] else {
      i &+= 1
      continue
    }
    // One machine's pages are counted together.
    let machine = first.machine
    if isUnusual(first) {
      i &+= unsafe dropUnusual(list + i, count &- i, machine, hold, dirty: dirty)
      continue
    }
    var released = 0
    while i < count {
      let plain =
        dirty
        ? unsafe dropRun(list + i, count &- i, machine, hold, dirty: true)
        : unsafe dropRun(list + i, count &- i, machine, hold, dirty: false)
      released &+= plain
      i &+= plain
      guard i < count, let page = unsafe list[i], page.machine == machine else { break }
      if page.isZeroPage {
        // Reached for pins only, which the zero page does not count.
        i &+= 1
        continue
      }
      let run = unsafe folioRun(list + i, count &- i)
      if dropFolio(page, run, hold, dirty: dirty) { released &+= run }
      i &+= run
    }
    account(machine, hold, released, first)
  }
  return nil
}

/// Drops the slots of one machine that this process is not alone on. Returns how
/// many there are.
@inline(never)
private func dropUnusual(
  _ list: UnsafePointer<Page?>, _ count: Int, _ machine: Machine, _ hold: PageHold, dirty: Bool
) -> Int {
  var released = 0
  var i = 0
  while i < count {
    if let page = unsafe list[i] {
      guard page.machine == machine else { break }
      let counts = !(hold == .pin && page.isZeroPage)
      if counts, dropFolio(page, 1, hold, dirty: dirty) { released += 1 }
    }
    i += 1
  }
  if released > 0, let first = unsafe list[0] { account(machine, hold, released, first) }
  return i
}

/// How many slots from the first on show pages of its folio.
private func folioRun(_ list: UnsafePointer<Page?>, _ count: Int) -> Int {
  let head = unsafe list[0].unsafelyUnwrapped.folioHead
  let start = unsafe UInt(bitPattern: head.descriptor)
  let size = UInt(MemoryLayout<cshims_page>.stride) << UInt(head.folioOrder)
  var run = 1
  // Eight by one branch: a folio's descriptors take a power of two of bytes, so that
  // one beyond its end leaves a bit that none of them has.
  while run &+ 8 <= count {
    var distances: UInt = 0
    for i in 0..<8 { unsafe distances |= address(list[run &+ i]) &- start }
    guard distances < size else { break }
    run &+= 8
  }
  while run < count, unsafe address(list[run]) &- start < size { run &+= 1 }
  return run
}

/// A slot as a number; 0 for nil.
@inline(__always)
private func address(_ slot: Page?) -> UInt { unsafe UInt(bitPattern: slot?.descriptor) }

/// The hot loop: single pages of one machine, one locked subtraction each.
/// Stops at what it may not decide: nil, another machine's page, a large folio,
/// for pins the zero page. Returns how many it dropped.
@inline(__always)
private func dropRun(
  _ list: UnsafePointer<Page?>, _ count: Int, _ machine: Machine, _ hold: PageHold, dirty: Bool
) -> Int {
  let base = unsafe UInt(bitPattern: machine.header)
  let shift = UInt(CSHIMS_MACHINE_ALIGNMENT.trailingZeroBitCount)
  let odd = hold.oddities
  let ahead = Int(CSHIMS_PREFETCH_PAGES)
  var i = 0
  while i < count {
    if i &+ ahead < count { unsafe prefetch(list[i &+ ahead]) }
    // Nil lies in no machine's stretch: one compare finds both.
    let raw = unsafe address(list[i])
    if (raw ^ base) >> shift != 0 { return i }
    let page = unsafe UnsafeMutablePointer<cshims_page>(bitPattern: raw).unsafelyUnwrapped
    let flags = unsafe cshims_page_flags(page)
    if flags & odd != 0 { return i }
    if dirty, flags & CSHIMS_PAGE_DIRTY == 0 {
      unsafe _ = cshims_page_set_flags(page, CSHIMS_PAGE_DIRTY)
    }
    unsafe subtract(page, hold)
    i &+= 1
  }
  return i
}

@inline(__always)
private func prefetch(_ slot: Page?) {
  unsafe cshims_page_prefetch(UnsafePointer(slot?.descriptor), 0)
}
