//===----------------------------------------------------------------------===//
// TrapService: what the fault-service thread does with a native touch. It runs
// the same handler as explicit faults, then shows the page, and the present
// neighbours that the same host call can show, so that a buffer which GUP faulted
// in does not trap once a page.
//
// Runs on the trap's own thread. It must not allocate, retain, release, or touch
// user memory: the toucher may sit anywhere, inside malloc for one.
//===----------------------------------------------------------------------===//

internal import CShims
internal import PageFrames

/// Of so many pages around a touched one those are shown with it that one host
/// call can show.
private let showAround: UInt64 = 64

/// The trap's service function; `cookie` is a view region's tree node.
let serviceNativeFault: cshims_trap_service = { _, cookie, host, isWrite, inHandler in
  guard let cookie = unsafe cookie else { return CSHIMS_TRAP_DENIED }
  let node = unsafe cookie.assumingMemoryBound(to: IntervalTree<ViewRegion>.Node.self)
  let mm = unsafe MM(node.pointee.payload.mm)
  // Not `lock()`: fork(2) takes the locks of malloc, and whoever holds one may
  // wait for us.
  unsafe cshims_mm_lock(mm.hot)
  let region = unsafe node.pointee.payload
  let verdict: cshims_trap_verdict
  switch region.kind {
  case .reserved, .adopted:
    verdict = mm.serviceFault(
      at: host &- region.hostDelta, write: isWrite, inHandler: inHandler)
  case .suspended, .gone, .going:
    // The program's memory again: what the host allows now is what counts.
    verdict = cshims_is_accessible(host, isWrite) ? CSHIMS_TRAP_RETRY : CSHIMS_TRAP_DENIED
  }
  mm.unlock()
  return verdict
}

extension MM {
  fileprivate func serviceFault(
    at address: UInt64, write: Bool, inHandler: Bool
  ) -> cshims_trap_verdict {
    let page = address & ~0xfff
    // Outside areas the view is untouchable already.
    guard !hasExited, let area = unsafe area(containing: page) else { return CSHIMS_TRAP_DENIED }
    guard unsafe area.pointee.allows(write: write) else {
      if !inHandler { deny(page, readable: unsafe area.pointee.allows(write: false)) }
      return CSHIMS_TRAP_DENIED
    }
    let clock = unsafe state.pointee.view.clock
    let result = unsafe handleFault(
      at: page, pages: 1, in: area, access: write ? .write : .read)
    guard result.outcome == .done else {
      // No memory behind it. Under userfaultfd the toucher must come again
      // through the handler, which can raise SIGBUS.
      if !inHandler { deny(page, readable: false) }
      return CSHIMS_TRAP_BUS
    }
    // Unless the fault itself has just shown it, the record cannot be right.
    if unsafe clock == state.pointee.view.clock { distrust(page) }
    // A leaf is one run, wherever it stands: all of it at once.
    let length = unsafe leaf(at: page) == nil ? showAround << 12 : MM.leafLength
    let around = page & ~(length - 1)
    let error = unsafe reveal(
      touched: page, within: max(around, area.pointee.start),
      min(around + length, area.pointee.end))
    if error != 0 {
      if !inHandler { deny(page, readable: false) }
      return CSHIMS_TRAP_BUS
    }
    return CSHIMS_TRAP_RETRY
  }
}
