//===----------------------------------------------------------------------===//
// Real fork(2) on joinable machines (docs/fork.md): before it, each address space
// of the process is copied as `AddressSpace.fork()` copies, for the child to join
// by; a child that never asks has them for its life, as it has the rest of its
// parent's memory.
//
// Locks, from before the fork(2) until after it, on the thread that forks: the
// turn to fork, the members' lock of each joinable machine, its gate, and the
// mmap locks of its address spaces, the newest first, as `AddressSpace.fork()`
// takes the child's first. So no store that needs a fault comes between the copy
// and the fork(2), and the child reads the bytes of the fork. The child takes
// none of them.
//===----------------------------------------------------------------------===//

internal import CShims
public import PageFrames

extension AddressSpace {
  /// In a child made by fork(2): the child's own copy of this address space of its
  /// parent's, with the bytes of the fork, at the same addresses.
  ///
  /// Stores of either process after the fork(2) stay its own, except in shared
  /// mappings. The copy has no pins: what the parent had pinned or taken stays the
  /// parent's, also where the child has copies of the lists. This object stays
  /// the parent's. Each address space can be joined once in a child; those that
  /// the parent had exited, or made later, cannot.
  ///
  /// - Throws: EINVAL in the process that it belongs to; EOPNOTSUPP for a machine
  ///   that was not made joinable; ESRCH where no copy was made (a bare clone(2), a
  ///   second join); ENOMEM when making the copy failed at fork(2), the value is
  ///   the errno, or the host refuses; EEXIST when something stands at the
  ///   parent's addresses. A call that failed can be made again.
  /// - Complexity: O(areas).
  public func joinAfterFork() throws(MemoryError) -> AddressSpace {
    guard !mm.isOwn else { throw MemoryError(.invalid, .joinedAlready, 0) }
    try memory.join()
    guard let copy = mm.machine.copy(of: mm) else {
      throw MemoryError(.noSuchProcess, .copyMissing, mm.otherProcess.value)
    }
    let trap = unsafe try memory.openTrap(service: serviceNativeFault)
    copy.lock()
    defer { copy.unlock() }
    // Another thread may have been faster.
    guard unsafe copy.hot.pointee.owner == CSHIMS_MM_UNOWNED else {
      throw MemoryError(.noSuchProcess, .copyMissing, mm.otherProcess.value)
    }
    unsafe copy.state.pointee.trap = trap
    try copy.show()
    return AddressSpace(copy, of: memory)
  }
}

extension MM {
  // MARK: - The process's list

  /// Enters the machine's list, and that of its process, or of the child that it is
  /// a copy for; the members' lock is then held. Both in one, so that whoever
  /// counts anew finds an address space in both or none.
  func enrol(copyInSlot slot: Int?) {
    guard machine.isJoinable else { return enlist() }
    if let slot {
      unsafe cshims_mm_link(machine.member(slot), hot)
      return enlist()
    }
    _ = cshims_fork_hook_add(
      cshims_fork_hook(prepare: beforeFork, parent: afterFork, child: cshims_fork_claim))
    unsafe cshims_reaper_set(reapDead)
    _ = machine.lockMembers()
    unsafe cshims_mm_link(machine.member(machine.slot), hot)
    enlist()
    machine.unlockMembers()
  }

  /// Leaves both.
  func strikeOff() {
    guard machine.isJoinable else { return delist() }
    _ = machine.lockMembers()
    delist()
    unsafe cshims_mm_unlink(machine.member(machine.slot), hot)
    machine.unlockMembers()
  }

  // MARK: - A child's copy

  /// The child's copy of this locked address space, listed in a member's slot.
  fileprivate func copyForChild(_ slot: Int) throws(MemoryError) {
    let copy = unsafe try MM.create(
      machine: machine, tier: state.pointee.tier, budget: state.pointee.view.budget,
      owner: CSHIMS_MM_UNOWNED, copyInSlot: slot)
    unsafe copy.state.pointee.isForked = state.pointee.isForked
    unsafe copy.state.pointee.hasView = false
    unsafe copy.hot.pointee.origin = UInt64(UInt(bitPattern: hot))
    copy.lock()
    defer { copy.unlock() }
    try copy.copyFrom(self)
  }

  /// Shows a copy at the addresses that its parent's view has. Under its lock.
  fileprivate func show() throws(MemoryError) {
    var node = unsafe state.pointee.regions.first
    while let region = unsafe node {
      let host = unsafe region.pointee.start &+ region.pointee.payload.hostDelta
      guard cshims_is_kept_empty(host, unsafe region.pointee.length) else {
        throw MemoryError(.exists, .addressTaken, host)
      }
      unsafe node = state.pointee.regions.next(after: region)
    }
    unsafe state.pointee.hasView = true
    let error = showRegions()
    guard error == 0 else {
      unshow()
      throw MemoryError.host(error)
    }
    unsafe cshims_mm_set_owner(hot, cshims_process_identity())
  }

  private func showRegions() -> Int32 {
    var node = unsafe state.pointee.regions.first
    while let region = unsafe node {
      let (start, length) = unsafe (region.pointee.start, region.pointee.length)
      let host = unsafe start &+ region.pointee.payload.hostDelta
      let error = unsafe cshims_trap_add_region(state.pointee.trap, host, length, region)
      guard error == 0 else { return error }
      unsafe node = state.pointee.regions.next(after: region)
    }
    var area = unsafe state.pointee.areas.first
    while let current = unsafe area {
      let error = unsafe establish(current.pointee.start, current.pointee.end)
      guard error == 0 else { return error }
      unsafe area = state.pointee.areas.next(after: current)
    }
    return 0
  }

  /// Back to reservations. Nobody waits in the trap for these regions yet: their
  /// pages show nothing.
  private func unshow() {
    var node = unsafe state.pointee.regions.first
    while let region = unsafe node {
      let (start, length) = unsafe (region.pointee.start, region.pointee.length)
      let host = unsafe start &+ region.pointee.payload.hostDelta
      unsafe cshims_trap_forget_region(state.pointee.trap, host)
      _ = cshims_rereserve(host, length)
      unsafe node = state.pointee.regions.next(after: region)
    }
    unsafe state.pointee.hasView = false
  }
}

extension Machine {
  /// This process's copy of a parent's address space, that it has not joined by.
  fileprivate func copy(of original: MM) -> MM? {
    _ = lockMembers()
    defer { unlockMembers() }
    var address = unsafe cshims_member_spaces(member(slot))
    while let hot = unsafe cshims_mm_at(address) {
      if unsafe hot.pointee.owner == CSHIMS_MM_UNOWNED,
        unsafe hot.pointee.origin == UInt64(UInt(bitPattern: original.hot))
      {
        return unsafe MM(hot)
      }
      address = unsafe cshims_mm_next(hot)
    }
    return nil
  }

  /// Calls `body` with each address space in a slot's list. Under the members' lock.
  func forEachSpace(_ slot: Int, _ body: (MM) -> Void) {
    var address = unsafe cshims_member_spaces(member(slot))
    while let hot = unsafe cshims_mm_at(address) {
      // `body` may free it.
      address = unsafe cshims_mm_next(hot)
      unsafe body(MM(hot))
    }
  }

  // MARK: - Around fork(2)

  /// Copies this process's address spaces for the child. What it locks stays
  /// locked when the child is expected.
  fileprivate func prepareFork() {
    let died = lockMembers()
    _ = reapLocked(recounting: died)
    let slot = (0..<Int(CSHIMS_MEMBERS)).first {
      unsafe cshims_member_state_load(member($0)) == CSHIMS_MEMBER_NONE.rawValue
    }
    guard let slot, unsafe cshims_fork_expect(header, Int32(slot)) == 0 else {
      return unlockMembers()
    }
    unsafe cshims_member_set(
      member(slot), CSHIMS_MEMBER_EXPECTED, cshims_process_identity(),
      UInt32(ErrorNumber.tryAgain.rawValue))
    enterGate()
    forEachSpace(self.slot) { mm in mm.lock() }
    var failure: MemoryError?
    forEachSpace(self.slot) { mm in
      guard failure == nil, mm.isOwn, !mm.hasExited else { return }
      do throws(MemoryError) { try mm.copyForChild(slot) } catch { failure = error }
    }
    unsafe cshims_member_set_error(member(slot), UInt32(failure?.number.rawValue ?? 0))
  }

  fileprivate func unlockAfterFork() {
    forEachSpace(slot) { mm in mm.unlock() }
    leaveGate()
    unlockMembers()
  }

  /// Without a child that claims it a slot is given up.
  fileprivate func settleFork(_ slot: Int) {
    if unsafe cshims_member_state_load(member(slot)) == CSHIMS_MEMBER_EXPECTED.rawValue {
      giveUp(slot)
    } else {
      unsafe cshims_reaper_start(header)
    }
  }

  /// Discards the copies in a slot that no child will claim.
  fileprivate func giveUp(_ slot: Int) {
    let died = lockMembers()
    defer { unlockMembers() }
    if died { _ = reapLocked(recounting: true) }
    enterGate()
    defer { leaveGate() }
    let first = unsafe cshims_member_spaces(member(slot))
    guard unsafe cshims_member_give_up(member(slot)) else { return }
    var address = first
    while let hot = unsafe cshims_mm_at(address) {
      address = unsafe cshims_mm_next(hot)
      let mm = unsafe MM(hot)
      mm.leave()
      mm.destroy(copy: true)
    }
  }
}

private func forEachExpected(_ body: (Machine, Int) -> Void) {
  var i: UInt32 = 0
  var header: UnsafeMutablePointer<cshims_machine>?
  var slot: Int32 = 0
  while unsafe cshims_fork_expected(i, &header, &slot), let machine = unsafe header {
    unsafe body(Machine(machine), Int(slot))
    i += 1
  }
}

private let beforeFork: @convention(c) () -> Void = {
  cshims_fork_begin()
  var place = cshims_noted_place(0)
  while place < UInt32(CSHIMS_MACHINE_PLACES) {
    let base = UInt(place) << UInt(CSHIMS_MACHINE_SHIFT)
    if let header = unsafe UnsafeMutablePointer<cshims_machine>(bitPattern: base) {
      unsafe Machine(header).prepareFork()
    }
    place = cshims_noted_place(place + 1)
  }
}

private let afterFork: @convention(c) () -> Void = {
  forEachExpected { machine, _ in machine.unlockAfterFork() }
  cshims_fork_wait()
  forEachExpected { machine, slot in machine.settleFork(slot) }
  cshims_fork_end()
}

#if DEBUG
  extension Machine {
    /// What the handlers do for this machine, but for the fork(2) between them. Other
    /// threads may be making and dropping machines of their own.
    func rehearseForkHandlers() {
      cshims_fork_begin()
      prepareFork()
      afterFork()
    }
  }
#endif
