//===----------------------------------------------------------------------===//
// The frame allocator: a binary buddy system over orders 0 to 10, whose free
// lists are linked through the frame records.
//
// Lock: `Zone.lock`, a leaf: nothing else is taken under it and no system call
// is made. Descriptors of free frames change under it only, but for their
// counts, which a late grab may bump and take back at any time: a count goes
// from the free sentinel to 1 by addition, never by a store.
//
// A frame that comes back keeps its bytes (STALE) until it is allocated again
// and zeroed, or until a long enough run of them is punched out of the memfd.
// Fresh and punched frames are holes: they read as zeroes.
//
// Booting touches no descriptor: a 4 MiB block that nobody has asked for yet is
// free without standing in a list. One bit a block says that it has been seen.
//
// "Any" frame comes from the smallest listed block that is large enough, so that
// frames which were freed are used again before the host has to give memory;
// when none is listed, from the highest block that nobody has asked for yet.
// Within a block frames come in ascending order, so copies made in order are
// consecutive. Exact frames come from wherever the caller says.
//===----------------------------------------------------------------------===//

internal import CShims
internal import Events

/// The allocator's state, in the metadata mapping.
struct Zone {
  var lock: cshims_lock
  var freeFrames: UInt64
  var totalFrames: UInt64
  /// First frame of each order's list; `FrameRecord.none` when empty.
  var heads: InlineArray<11, UInt32>
  /// Whole blocks at or above this index have all been seen.
  var freshEnd: UInt64

  static let maxOrder = 10
}

/// What is known of a frame beside its descriptor: list links while it is
/// free, its owner and index while it is held.
struct FrameRecord {
  /// Free: next and previous. Held: the page cache that owns it, or 0.
  var first: UInt64
  /// Held: its index in that cache, or the user page number.
  var second: UInt64

  static let none = UInt32.max

  var next: UInt32 {
    get { UInt32(truncatingIfNeeded: first) }
    set { first = first & ~0xffff_ffff | UInt64(newValue) }
  }
  var previous: UInt32 {
    get { UInt32(truncatingIfNeeded: first >> 32) }
    set { first = first & 0xffff_ffff | UInt64(newValue) << 32 }
  }
}

/// Runs of freed frames at least this long are given back to the host.
private let punchThreshold = 32

extension Machine {
  var zone: UnsafeMutablePointer<Zone> {
    unsafe header.pointee.zone.assumingMemoryBound(to: Zone.self)
  }
  var records: UnsafeMutablePointer<FrameRecord> {
    unsafe header.pointee.records.assumingMemoryBound(to: FrameRecord.self)
  }

  func initialiseZone() -> Int32 {
    let zone = unsafe zone
    let error = unsafe cshims_lock_init(&zone.pointee.lock)
    guard error == 0 else { return error }
    for order in 0...Zone.maxOrder { unsafe zone.pointee.heads[order] = FrameRecord.none }
    unsafe zone.pointee.totalFrames = frameCount - Machine.reservedFrames
    unsafe zone.pointee.freeFrames = frameCount - Machine.reservedFrames
    // The blocks at both ends are not whole; the others wait until asked for.
    let wholeEnd = frameCount >> UInt64(Zone.maxOrder)
    unsafe zone.pointee.freshEnd = wholeEnd
    let firstEnd = min(frameCount, 1 << UInt64(Zone.maxOrder))
    insertRun(Machine.reservedFrames, Int(firstEnd - Machine.reservedFrames))
    if wholeEnd > 0 {
      markSeen(0)
      let tail = wholeEnd << UInt64(Zone.maxOrder)
      insertRun(tail, Int(frameCount - tail))
    }
    return 0
  }

  private var seenBlocks: UnsafeMutablePointer<UInt8> {
    unsafe header.pointee.fresh_blocks.assumingMemoryBound(to: UInt8.self)
  }
  private func isFresh(_ block: UInt64) -> Bool {
    guard block < frameCount >> UInt64(Zone.maxOrder) else { return false }
    return unsafe seenBlocks[Int(block >> 3)] & (1 << UInt8(block & 7)) == 0
  }
  private func markSeen(_ block: UInt64) {
    unsafe seenBlocks[Int(block >> 3)] |= 1 << UInt8(block & 7)
  }

  /// Frames that nobody holds now.
  public var freeFrameCount: Int {
    let zone = unsafe zone
    // In a copy of the process no lock of the machine's is taken.
    guard isOwn else { return unsafe Int(zone.pointee.freeFrames) }
    lockZone()
    let count = unsafe zone.pointee.freeFrames
    unsafe cshims_lock_release(&zone.pointee.lock)
    return Int(count)
  }
  public var totalFrameCount: Int { unsafe Int(zone.pointee.totalFrames) }

  // MARK: - Allocation

  /// Takes up to `count` consecutive frames from exactly `frame` on, each held
  /// once. Returns how many it got before one was taken already.
  public func allocateRun(at frame: UInt64, count: Int, flags: UInt32) -> Int {
    guard frame >= Machine.reservedFrames, frame < frameCount, count > 0 else { return 0 }
    let limit = min(count, Int(frameCount - frame))
    let zone = unsafe zone
    lockZone()
    let taken = takeRun(frame, limit)
    unsafe zone.pointee.freeFrames -= UInt64(taken)
    unsafe cshims_lock_release(&zone.pointee.lock)
    for i in 0..<taken { hold(frame + UInt64(i), flags) }
    return taken
  }

  /// Takes up to `count` consecutive frames at `home` where they are free, else
  /// one from anywhere: the first and how many. With failure points armed every
  /// frame is a passage of its own, and one that fails is not looked for
  /// elsewhere.
  package func allocateNear(_ home: UInt64?, _ count: Int, flags: UInt32) -> (UInt64, Int)? {
    if unsafe header.fails(at: .frameAllocation) { return nil }
    if let home {
      let wanted = unsafe cshims_any_failure_point_armed(header) ? min(count, 1) : count
      let got = allocateRun(at: home, count: wanted, flags: flags)
      if got > 0 { return (home, got) }
    }
    guard let frame = take(order: 0, flags: flags) else { return nil }
    return (frame, 1)
  }

  /// Takes any aligned block of 2^order frames, its head held once; nil when
  /// there is none, and for an order that is not 0 to 10.
  public func allocate(order: Int = 0, flags: UInt32) -> UInt64? {
    guard order >= 0, order <= Zone.maxOrder else { return nil }
    if unsafe header.fails(at: .frameAllocation) { return nil }
    return take(order: order, flags: flags)
  }

  private func take(order: Int, flags: UInt32) -> UInt64? {
    let zone = unsafe zone
    lockZone()
    let frame = takeBlock(order)
    if frame != nil { unsafe zone.pointee.freeFrames -= 1 << UInt64(order) }
    unsafe cshims_lock_release(&zone.pointee.lock)
    guard let frame else { return nil }
    form(frame, order, flags)
    return frame
  }

  /// Takes an aligned block of 2^order frames as one folio, its head held once:
  /// the one at `home` if that is aligned and free, else any, unless `onlyThere`.
  /// nil when there is none.
  package func allocateFolio(
    near home: UInt64?, order: Int, flags: UInt32, onlyThere: Bool = false
  ) -> UInt64? {
    if unsafe header.fails(at: .frameAllocation) { return nil }
    let count = 1 << order
    if let home, home & UInt64(count - 1) == 0, home >= Machine.reservedFrames,
      home <= frameCount - UInt64(count), takeWhole(home, count)
    {
      form(home, order, flags)
      return home
    }
    return onlyThere ? nil : take(order: order, flags: flags)
  }

  /// Takes exactly these frames, or none of them.
  private func takeWhole(_ frame: UInt64, _ count: Int) -> Bool {
    let zone = unsafe zone
    lockZone()
    defer { unsafe cshims_lock_release(&zone.pointee.lock) }
    let taken = takeRun(frame, count)
    guard taken == count else {
      insertRun(frame, taken)
      return false
    }
    unsafe zone.pointee.freeFrames -= UInt64(count)
    return true
  }

  /// Makes a block that was just taken one folio, held once.
  private func form(_ frame: UInt64, _ order: Int, _ flags: UInt32) {
    let orderBits = UInt32(order) << CSHIMS_PAGE_ORDER_SHIFT
    for i in 1..<max(1, UInt64(1) << UInt64(order)) {
      let page = page(frame + i)
      unsafe cshims_page_reset_flags(
        page.descriptor, CSHIMS_PAGE_TAIL | orderBits | page.flags & CSHIMS_PAGE_STALE)
    }
    hold(frame, flags | orderBits)
  }

  /// Makes a folio that nobody can reach any more, its count on the free
  /// sentinel, single pages. `flagsOf` gives each page's flags; those for which
  /// it gives nil go back to the allocator, the others are held once.
  ///
  /// The head is last: a late grab that found it by a tail's old flags then
  /// either meets the sentinel or sees that the tail is none any more.
  package func dissolve(_ frame: UInt64, order: Int, flagsOf: (Int) -> UInt32?) {
    var end = 1 << order
    var i = end
    while i > 0 {
      i -= 1
      guard let flags = flagsOf(i) else { continue }
      free(run: frame + UInt64(i + 1), count: end - i - 1)
      hold(frame + UInt64(i), flags)
      end = i
    }
    free(run: frame, count: end)
  }

  /// The free sentinel becomes one reference, whatever late grabs add to it.
  private func hold(_ frame: UInt64, _ flags: UInt32) {
    let page = page(frame)
    let stale = page.flags & CSHIMS_PAGE_STALE
    unsafe cshims_page_reset_flags(page.descriptor, flags | stale)
    unsafe records[Int(frame)] = FrameRecord(first: 0, second: 0)
    unsafe _ = cshims_page_ref_fetch_add(page.descriptor, 1 &- CSHIMS_REF_FREE)
  }

  /// Makes the bytes of freshly allocated frames zero and really there.
  /// Returns 0 or an errno; on error the frames are still the caller's.
  public func zero(frame: UInt64, count: Int) -> Int32 {
    var i = 0
    while i < count {
      let stale = page(frame + UInt64(i)).flags & CSHIMS_PAGE_STALE != 0
      var end = i + 1
      while end < count,
        (page(frame + UInt64(end)).flags & CSHIMS_PAGE_STALE != 0) == stale
      { end += 1 }
      let start = unsafe address(ofFrame: frame + UInt64(i))
      let length = UInt64(end - i) << 12
      if stale {
        unsafe cshims_zero(start, length)
        for k in i..<end {
          unsafe _ = cshims_page_clear_flags(page(frame + UInt64(k)).descriptor, CSHIMS_PAGE_STALE)
        }
      } else {
        self.count(CSHIMS_HOST_CALLS, 1)
        let error = unsafe cshims_populate_write(start, length)
        if error != 0 { return error }
      }
      i = end
    }
    return 0
  }

  /// Declares that the caller overwrites every byte of a fresh frame, so that
  /// its old ones need no zeroing. The host page may still be a hole.
  public func willOverwrite(frame: UInt64) {
    unsafe _ = cshims_page_clear_flags(page(frame).descriptor, CSHIMS_PAGE_STALE)
  }

  // MARK: - Freeing

  /// Returns a block whose count has just gone from zero to the free sentinel.
  func free(frame: UInt64, order: Int) { free(run: frame, count: 1 << order) }

  /// Returns a run of frames whose counts are the free sentinel, punching it out
  /// of the memfd when it is long enough to be worth a system call.
  func free(run frame: UInt64, count: Int) {
    guard count > 0 else { return }
    releaseDescriptors(frame, count)
    if count >= punchThreshold {
      self.count(CSHIMS_HOST_CALLS, 1)
      if unsafe cshims_memfd_punch(header.pointee.memfd, frame << 12, UInt64(count) << 12) == 0 {
        for i in 0..<count { unsafe cshims_page_reset_flags(page(frame + UInt64(i)).descriptor, 0) }
      }
    }
    let zone = unsafe zone
    lockZone()
    insertRun(frame, count)
    unsafe zone.pointee.freeFrames += UInt64(count)
    unsafe cshims_lock_release(&zone.pointee.lock)
  }

  private func releaseDescriptors(_ frame: UInt64, _ count: Int) {
    for i in 0..<count {
      unsafe cshims_page_reset_flags(page(frame + UInt64(i)).descriptor, CSHIMS_PAGE_STALE)
    }
  }

  /// Takes the zone lock. When its owner died (a process of a joinable machine),
  /// the lists are made anew from the descriptors: a block's flags change after
  /// its links when it is listed, and before anybody has it when it is taken, so
  /// what says that it is free is free.
  private func lockZone() {
    if unsafe cshims_lock_acquire(&zone.pointee.lock) { relinkZone() }
  }

  // MARK: - Free lists, under the lock

  private func isFreeBlock(_ frame: UInt64, _ order: Int) -> Bool {
    guard frame < frameCount else { return false }
    let flags = page(frame).flags
    return flags & CSHIMS_PAGE_BUDDY != 0
      && Int((flags & CSHIMS_PAGE_ORDER_MASK) >> CSHIMS_PAGE_ORDER_SHIFT) == order
  }

  private func push(_ frame: UInt64, _ order: Int) {
    let zone = unsafe zone
    let records = unsafe records
    let head = unsafe zone.pointee.heads[order]
    unsafe records[Int(frame)].next = head
    unsafe records[Int(frame)].previous = FrameRecord.none
    if head != FrameRecord.none { unsafe records[Int(head)].previous = UInt32(frame) }
    unsafe zone.pointee.heads[order] = UInt32(frame)
    unsafe _ = cshims_page_set_flags(
      page(frame).descriptor, CSHIMS_PAGE_BUDDY | UInt32(order) << CSHIMS_PAGE_ORDER_SHIFT)
  }

  private func remove(_ frame: UInt64, _ order: Int) {
    let records = unsafe records
    let next = unsafe records[Int(frame)].next
    let previous = unsafe records[Int(frame)].previous
    if previous == FrameRecord.none {
      unsafe zone.pointee.heads[order] = next
    } else {
      unsafe records[Int(previous)].next = next
    }
    if next != FrameRecord.none { unsafe records[Int(next)].previous = previous }
    unsafe _ = cshims_page_clear_flags(
      page(frame).descriptor, CSHIMS_PAGE_BUDDY | CSHIMS_PAGE_ORDER_MASK)
  }

  /// Adds a block and merges it with its buddy as long as that is free, too.
  private func insert(_ frame: UInt64, _ order: Int) {
    var frame = frame
    var order = order
    while order < Zone.maxOrder {
      let buddy = frame ^ (1 << UInt64(order))
      guard isFreeBlock(buddy, order) else { break }
      remove(buddy, order)
      frame &= ~(1 << UInt64(order))
      order += 1
    }
    push(frame, order)
  }

  private func insertRun(_ frame: UInt64, _ count: Int) {
    var frame = frame
    let end = frame + UInt64(count)
    while frame < end {
      var order = min(Zone.maxOrder, frame.trailingZeroBitCount)
      while frame + (1 << UInt64(order)) > end { order -= 1 }
      insert(frame, order)
      frame += 1 << UInt64(order)
    }
  }

  private func takeBlock(_ wanted: Int) -> UInt64? {
    var order = wanted
    while order <= Zone.maxOrder, unsafe zone.pointee.heads[order] == FrameRecord.none {
      order += 1
    }
    let frame: UInt64
    if order <= Zone.maxOrder {
      frame = unsafe UInt64(zone.pointee.heads[order])
      remove(frame, order)
    } else {
      guard let fresh = takeFreshBlock() else { return nil }
      frame = fresh
      order = Zone.maxOrder
    }
    while order > wanted {
      order -= 1
      push(frame + 1 << UInt64(order), order)
    }
    return frame
  }

  /// The highest block that nobody has asked for yet.
  private func takeFreshBlock() -> UInt64? {
    let zone = unsafe zone
    while unsafe zone.pointee.freshEnd > 0 {
      unsafe zone.pointee.freshEnd -= 1
      let block = unsafe zone.pointee.freshEnd
      if isFresh(block) {
        markSeen(block)
        return block << UInt64(Zone.maxOrder)
      }
    }
    return nil
  }

  private func takeRun(_ frame: UInt64, _ count: Int) -> Int {
    var frame = frame
    let end = frame + UInt64(count)
    var taken = 0
    while frame < end {
      guard var (head, order) = blockContaining(frame) else { break }
      remove(head, order)
      // Split down until the block starts at the frame and ends within the run.
      while head != frame || head + (1 << UInt64(order)) > end {
        order -= 1
        let half = head + (1 << UInt64(order))
        if frame >= half {
          push(head, order)
          head = half
        } else {
          push(half, order)
        }
      }
      taken += 1 << order
      frame += 1 << UInt64(order)
    }
    return taken
  }

  private func blockContaining(_ frame: UInt64) -> (UInt64, Int)? {
    let whole = frame >> UInt64(Zone.maxOrder)
    if isFresh(whole) {
      markSeen(whole)
      push(whole << UInt64(Zone.maxOrder), Zone.maxOrder)
    }
    for order in 0...Zone.maxOrder {
      let head = frame & ~((1 << UInt64(order)) - 1)
      if isFreeBlock(head, order) { return (head, order) }
    }
    return nil
  }
}

// MARK: - After the death of a process

extension Machine {
  /// Calls `body` with each frame that may be allocated and was ever looked at.
  func forEachSeenFrame(_ body: (UInt64) -> Void) {
    body(0)
    var frame = Machine.reservedFrames
    while frame < frameCount {
      if frame & 1023 == 0, isFresh(frame >> UInt64(Zone.maxOrder)) {
        frame += 1024
      } else {
        body(frame)
        frame += 1
      }
    }
  }

  private func forgetLists() {
    for order in 0...Zone.maxOrder { unsafe zone.pointee.heads[order] = FrameRecord.none }
  }

  private var freshFrameCount: UInt64 {
    var count: UInt64 = 0
    for block in 0..<(frameCount >> UInt64(Zone.maxOrder)) where isFresh(block) { count += 1024 }
    return count
  }

  /// Links the blocks that say that they are free. Under the zone lock.
  private func relinkZone() {
    forgetLists()
    var free = freshFrameCount
    var next: UInt64 = 0
    forEachSeenFrame { frame in
      let flags = page(frame).flags
      guard frame >= next, flags & CSHIMS_PAGE_BUDDY != 0 else { return }
      let order = Int((flags & CSHIMS_PAGE_ORDER_MASK) >> CSHIMS_PAGE_ORDER_SHIFT)
      push(frame, order)
      next = frame + 1 << UInt64(order)
      free += 1 << UInt64(order)
    }
    unsafe zone.pointee.freeFrames = free
  }

  /// Makes the lists anew: `held` puts a frame that is held right and says how many
  /// it and its folio are; nil is free. While nothing else moves.
  ///
  /// What the old lists say is read on the way, frame by frame. So nothing may be
  /// inserted whose buddy is still to come: a run ends at a frame that is held, or
  /// where the largest blocks end.
  func rebuildZone(_ held: (UInt64) -> Int?) {
    lockZone()
    forgetLists()
    unsafe zone.pointee.freeFrames = freshFrameCount
    var run: (start: UInt64, count: Int) = (0, 0)
    var next: UInt64 = 0
    var listedEnd: UInt64 = 0
    func flush() {
      guard run.count > 0 else { return }
      insertRun(run.start, run.count)
      unsafe zone.pointee.freeFrames += UInt64(run.count)
      run.count = 0
    }
    forEachSeenFrame { frame in
      // The zero page has no lists to go to, and the machine's own reference.
      guard frame >= Machine.reservedFrames, frame >= next else { return }
      let flags = page(frame).flags
      if flags & CSHIMS_PAGE_BUDDY != 0 { listedEnd = frame + 1 << UInt64(page(frame).folioOrder) }
      if let count = held(frame) {
        next = frame + UInt64(count)
        return
      }
      makeFree(frame, wasListed: frame < listedEnd)
      if run.count > 0, frame != run.start + UInt64(run.count) { flush() }
      if run.count == 0 { run.start = frame }
      run.count += 1
      if frame & 1023 == 1023 { flush() }
    }
    flush()
    unsafe cshims_lock_release(&zone.pointee.lock)
  }

  private func makeFree(_ frame: UInt64, wasListed: Bool) {
    let page = page(frame)
    // What stood in a list keeps what is known of its bytes. Of the rest some have a
    // free frame's count and flags, but were killed on their way there.
    let stale = wasListed ? page.flags & CSHIMS_PAGE_STALE : CSHIMS_PAGE_STALE
    unsafe cshims_page_reset_flags(page.descriptor, stale)
    unsafe cshims_page_restore(page.descriptor, CSHIMS_REF_FREE, 0, 0)
  }
}

/// Frames on their way back, gathered so that neighbours are returned (and
/// punched) as one run, and a folio's references are dropped by one atomic.
/// `flush` must be called before it is forgotten.
public struct FrameBatch {
  let machine: Machine
  private var start: UInt64 = 0
  private var length = 0
  /// The folio whose references are being gathered, if `folioDrops` is not 0.
  private var folio: UInt64 = 0
  private var folioDrops: UInt32 = 0

  public init(_ machine: Machine) { self.machine = machine }

  /// Drops one reference of a page, or will at `flush`: the folio's memory may
  /// be reached until then.
  public mutating func dropReference(_ page: Page, call: StaticString) {
    guard page.folioOrder == 0 else {
      let head = page.folioHead.frame
      if head != folio { flushFolio() }
      folio = head
      folioDrops += 1
      return
    }
    let old = unsafe cshims_page_ref_fetch_sub(page.descriptor, 1)
    guard old == 1 else {
      page.finishDrop(old: old, amount: 1, call: call)
      return
    }
    guard unsafe cshims_page_ref_exchange(page.descriptor, 0, CSHIMS_REF_FREE) else { return }
    let frame = page.frame
    if length > 0, frame == start + UInt64(length) {
      length += 1
    } else {
      flush()
      start = frame
      length = 1
    }
  }

  /// Returns what was gathered.
  public mutating func flush() {
    flushFolio()
    machine.free(run: start, count: length)
    length = 0
  }

  private mutating func flushFolio() {
    if folioDrops > 0 { machine.page(folio).dropRaw(folioDrops, call: "zap_pte_range") }
    folioDrops = 0
  }
}
