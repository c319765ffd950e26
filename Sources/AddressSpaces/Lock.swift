//===----------------------------------------------------------------------===//
// Lock: mlock and its relatives. A locked area's pages are brought in and stay in
// memory: reclaim passes them over, and MADV_DONTNEED, MADV_FREE, MADV_COLD and
// MADV_PAGEOUT refuse them. That is no pin: fork shares a locked page, a copy
// takes its place, migration moves it. Who gives addresses to a device pins.
//
// How many pages are locked is counted by looking at the areas, which are few:
// so unmapping, moving and forking keep no books. What drivers account for pins
// that they hold (account_locked_vm) counts against the same limit.
//===----------------------------------------------------------------------===//

internal import CShims
public import PageFrames

/// What mlockall is to lock (MCL_*, with their values).
public struct LockScope: OptionSet, Hashable, Sendable {
  public let rawValue: Int32
  public init(rawValue: Int32) { self.rawValue = rawValue }

  /// Every area there is.
  public static let current = LockScope(rawValue: 1)
  /// Every area that is mapped from now on.
  public static let future = LockScope(rawValue: 2)
  /// Pages as they are touched, instead of all at once; with one of the others.
  public static let onFault = LockScope(rawValue: 4)
}

extension AddressSpace {
  /// The most bytes that may be locked or accounted for; nil when there is no
  /// limit (RLIMIT_MEMLOCK). Whole pages count. What is locked already stays.
  public var lockLimit: ByteCount? {
    get {
      guard mm.isOwn else { return nil }
      let pages = withLock { unsafe mm.state.pointee.lockLimit }
      return pages > UInt64(Int.max >> 12) ? nil : ByteCount(Int(pages << 12))
    }
    set {
      guard mm.isOwn else { return }
      let pages = newValue.map { UInt64(max(0, $0.rawValue) >> 12) } ?? .max
      withLock { unsafe mm.state.pointee.lockLimit = pages }
    }
  }

  /// Bytes of locked areas, and of pages that drivers account for (VmLck).
  /// - Complexity: O(areas).
  public var lockedBytes: ByteCount {
    ByteCount(mm.isOwn ? Int(withLock { mm.lockedPages } << 12) : 0)
  }

  /// Locks the pages that [start, start + length) touches, and brings them in
  /// (mlock; with `onFault` mlock2 with MLOCK_ONFAULT, which brings in none).
  ///
  /// A lock is not a pin. Secret, device and huge-page areas are passed over, as
  /// on Linux. A child of fork has no locks.
  /// - Throws: EINVAL for a negative length or a range that wraps, EPERM when the
  ///   limit is 0, ENOMEM when it would be passed, or at a hole or a page that
  ///   cannot be brought in, EAGAIN when memory ran out. As on Linux, what stands
  ///   before the failure is locked.
  public func lockPages(
    _ start: UserAddress, length: ByteCount, onFault: Bool = false
  ) throws(MemoryError) {
    let range = try AddressSpace.pagesTouched(start, length)
    try locked { mm throws(MemoryError) in
      try mm.checkMayLockAnything()
      let limit = unsafe mm.state.pointee.lockLimit
      // What is locked already in the range is not locked twice.
      let more = (range.end - range.start) >> 12
      guard mm.mayLock(more) || mm.lockedPages + more - mm.lockedPages(in: range) <= limit else {
        throw MemoryError(.outOfMemory, .lockLimit, length.rawValue)
      }
      let flags: AreaFlags = onFault ? .lockFlags : .locked
      try mm.setLocks(range.start, range.end, flags)
      if let error = mm.populateLocked(range.start, range.end) { throw error }
    }
  }

  /// Unlocks the pages that [start, start + length) touches (munlock).
  ///
  /// - Throws: EINVAL for a negative length or a range that wraps, ENOMEM at a
  ///   hole; what stands before it is unlocked.
  public func unlockPages(_ start: UserAddress, length: ByteCount) throws(MemoryError) {
    let range = try AddressSpace.pagesTouched(start, length)
    try locked { mm throws(MemoryError) in try mm.setLocks(range.start, range.end, []) }
  }

  /// Locks all areas of today, or of the future, or both (mlockall). Pages that
  /// cannot be brought in are no error.
  ///
  /// - Throws: EINVAL for no scope, an unknown one or `onFault` alone, EPERM when
  ///   the limit is 0, ENOMEM when today's areas pass it.
  public func lockAllPages(_ scope: LockScope) throws(MemoryError) {
    guard scope.rawValue & ~7 == 0, !scope.isDisjoint(with: [.current, .future]) else {
      throw MemoryError(.invalid, .flagsContradict, Int(scope.rawValue))
    }
    try locked { mm throws(MemoryError) in
      try mm.checkMayLockAnything()
      if scope.contains(.current), unsafe mm.mappedPages > mm.state.pointee.lockLimit {
        throw MemoryError(.outOfMemory, .lockLimit, Int(mm.mappedPages << 12))
      }
      let flags: AreaFlags = scope.contains(.onFault) ? .lockFlags : .locked
      unsafe mm.state.pointee.lockDefault = scope.contains(.future) ? flags : []
      guard scope.contains(.current) else { return }
      mm.setAllLocks(flags)
      mm.populateAllLocked()
    }
  }

  /// Unlocks every area, and those to come (munlockall).
  public func unlockAllPages() throws(MemoryError) {
    try locked { mm throws(MemoryError) in
      unsafe mm.state.pointee.lockDefault = []
      mm.setAllLocks([])
    }
  }

  /// Counts pages that somebody holds for long against the lock limit
  /// (account_locked_vm). GUP does not do it by itself: who takes LONGTERM pins
  /// for a program accounts for them, and takes it back when it unpins.
  ///
  /// - Throws: EINVAL for a negative count, ENOMEM when the limit would be passed, or
  ///   2^50 pages where there is none.
  public func accountPages(_ count: PageCount) throws(MemoryError) {
    guard count.rawValue >= 0 else {
      throw MemoryError(.invalid, .countNegative, count.rawValue)
    }
    try locked { mm throws(MemoryError) in
      // Beyond that the bytes of areas and accounts could not be told in an Int.
      let most: UInt64 = 1 << 50
      let accounted = unsafe mm.state.pointee.accountedPages
      guard mm.mayLock(UInt64(count.rawValue)), UInt64(count.rawValue) <= most - accounted else {
        throw MemoryError(.outOfMemory, .lockLimit, count.byteCount.rawValue)
      }
      unsafe mm.state.pointee.accountedPages += UInt64(count.rawValue)
    }
  }

  /// Takes back what `accountPages` counted, also after `exit`.
  ///
  /// - Throws: EINVAL for a negative count or more than was counted.
  public func unaccountPages(_ count: PageCount) throws(MemoryError) {
    guard mm.isOwn else { throw mm.otherProcess }
    mm.lock()
    defer { mm.unlock() }
    let accounted = unsafe mm.state.pointee.accountedPages
    guard count.rawValue >= 0, UInt64(count.rawValue) <= accounted else {
      throw MemoryError(.invalid, .notAccounted, count.rawValue)
    }
    unsafe mm.state.pointee.accountedPages = accounted - UInt64(count.rawValue)
  }

  /// Of an address space that is this process's, exited or not.
  private func withLock<Value>(_ body: () -> Value) -> Value {
    mm.lock()
    defer { mm.unlock() }
    return body()
  }

  /// The whole pages of a byte range, as mlock rounds it: down and up.
  private static func pagesTouched(
    _ start: UserAddress, _ length: ByteCount
  ) throws(MemoryError) -> (start: UInt64, end: UInt64) {
    guard length.rawValue >= 0 else {
      throw MemoryError(.invalid, .lengthNotPositive, length.rawValue)
    }
    let (end, wraps) = start.rawValue.addingReportingOverflow(UInt64(length.rawValue) + 4095)
    guard !wraps else { throw MemoryError(.invalid, .rangeWraps, length.rawValue) }
    return (start.rawValue & ~4095, end & ~4095)
  }
}

extension MM {
  /// Pages of locked areas, and those accounted for besides.
  var lockedPages: UInt64 {
    unsafe lockedPages(in: (0, .max)) + state.pointee.accountedPages
  }

  func lockedPages(in range: (start: UInt64, end: UInt64)) -> UInt64 {
    sum(range) { $0.contains(.locked) }
  }

  /// Pages of all areas (total_vm).
  var mappedPages: UInt64 { sum((0, .max)) { _ in true } }

  private func sum(
    _ range: (start: UInt64, end: UInt64), _ counts: (AreaFlags) -> Bool
  ) -> UInt64 {
    var pages: UInt64 = 0
    var node = unsafe state.pointee.areas.first(atOrAfter: range.start)
    while let current = unsafe node, unsafe current.pointee.start < range.end {
      if unsafe counts(current.pointee.payload.flags) {
        let (start, end) = unsafe (current.pointee.start, current.pointee.end)
        pages += (min(end, range.end) - max(start, range.start)) >> 12
      }
      unsafe node = state.pointee.areas.next(after: current)
    }
    return pages
  }

  /// May so many pages more be locked (mlock_future_ok)?
  func mayLock(_ pages: UInt64) -> Bool {
    let limit = unsafe state.pointee.lockLimit
    return limit == .max || pages <= limit && lockedPages <= limit - pages
  }

  /// can_do_mlock.
  fileprivate func checkMayLockAnything() throws(MemoryError) {
    if unsafe state.pointee.lockLimit == 0 { throw MemoryError(.notPermitted, .lockLimit, 0) }
  }

  /// Gives the areas of [start, end) other locks, up to the first hole.
  fileprivate func setLocks(
    _ start: UInt64, _ end: UInt64, _ locks: AreaFlags
  ) throws(MemoryError) {
    var address = start
    while address < end {
      guard let area = unsafe area(containing: address)?.pointee else {
        throw MemoryError(.outOfMemory, .notMapped, address)
      }
      let stop = min(end, area.end)
      let flags = area.flags.subtracting(.lockFlags).union(locks)
      if flags != area.flags, area.flags.isDisjoint(with: .special) {
        try setFlags(address, stop, flags)
      }
      address = stop
    }
  }

  /// The same for whole areas, which cannot fail.
  fileprivate func setAllLocks(_ locks: AreaFlags) {
    var node = unsafe state.pointee.areas.first
    while let current = unsafe node {
      let flags = unsafe current.pointee.payload.flags
      if flags.isDisjoint(with: .special) {
        unsafe current.pointee.payload.flags = flags.subtracting(.lockFlags).union(locks)
      }
      unsafe node = state.pointee.areas.next(after: current)
    }
    mergeAreas(0, .max)
  }

  fileprivate func populateAllLocked() {
    var address: UInt64 = 0
    while let node = unsafe state.pointee.areas.first(atOrAfter: address) {
      let (start, end) = unsafe (node.pointee.start, node.pointee.end)
      _ = populateLocked(start, end)
      address = end
    }
  }

  /// Brings the pages of the locked areas of [start, end) in and shows them
  /// (__mm_populate), private writable ones as pages of their own. Returns what
  /// mlock says of the first that cannot be.
  func populateLocked(_ start: UInt64, _ end: UInt64) -> MemoryError? {
    var address = start
    while address < end, let area = unsafe area(containing: address) {
      let flags = unsafe area.pointee.flags
      let stop = unsafe min(end, area.pointee.end)
      defer { address = stop }
      guard flags.contains(.locked), !flags.contains(.lockedOnFault),
        flags.isDisjoint(with: .device)
      else { continue }
      // GUP is what Linux populates by: it takes neither.
      if flags.contains(.secret) {
        return MemoryError(.outOfMemory, .directAccessForbidden, address)
      }
      if flags.access.isEmpty { return MemoryError(.outOfMemory, .readForbidden, address) }
      let copies = flags.contains(.write) && !flags.contains(.shared)
      let result = unsafe handleFault(
        at: address, pages: Int((stop - address) >> 12), in: area,
        access: copies ? .write : .read)
      let done = address + UInt64(result.pages) << 12
      _ = reveal(address, done)
      switch result.outcome {
      case .done: break
      case .outOfMemory, .outOfMetadata, .hostRefused:
        return MemoryError(.tryAgain, result.outcome.error(at: done)?.reason ?? .inUse, done)
      case .forbidden, .busError:
        return MemoryError(.outOfMemory, result.outcome.error(at: done)?.reason ?? .inUse, done)
      }
    }
    return nil
  }
}
