//===----------------------------------------------------------------------===//
// The processes of a joinable machine, as the rooms use them: the gate around
// every change of counts, the notes of what a process holds, and how a child
// becomes one of them. CShims/include/cshims_members.h says how they live and
// die; docs/fork.md tells the whole.
//
// Lock: the members' lock, taken before the gate is closed or entered; it guards
// the slots and the lists of address spaces. The cache-list lock is a leaf.
//===----------------------------------------------------------------------===//

public import CShims

extension Machine {
  /// May processes join the machine?
  @inlinable
  public var isJoinable: Bool { unsafe header.pointee.members != nil }

  /// This process's slot; only where the machine is joinable and its own.
  package var slot: Int { Int(unsafe cshims_member_slot(header)) }

  package var members: UnsafeMutablePointer<cshims_members> {
    unsafe header.pointee.members.unsafelyUnwrapped
  }

  package func member(_ slot: Int) -> UnsafeMutablePointer<cshims_member> {
    unsafe UnsafeMutableRawPointer(members).assumingMemoryBound(to: cshims_member.self) + slot
  }

  /// Did this process make the machine?
  package var isFounded: Bool {
    unsafe cshims_member_state_load(member(slot)) == CSHIMS_MEMBER_FOUNDER.rawValue
  }

  /// Enters the gate, where there is one; every entry is left once.
  @inlinable
  public func enterGate() { unsafe cshims_gate_enter(header) }
  @inlinable
  public func leaveGate() { unsafe cshims_gate_leave(header) }

  /// This process's note about the folio whose head has that frame.
  func note(_ frame: UInt64, _ hold: PageHold) -> UnsafeMutablePointer<cshims_note> {
    unsafe cshims_note_of(header, Int32(slot), frame, hold == .pin)
  }

  /// True when the last to hold it died doing so.
  package func lockMembers() -> Bool { unsafe cshims_lock_acquire(&members.pointee.lock) }
  package func unlockMembers() { unsafe cshims_lock_release(&members.pointee.lock) }

  /// Makes this process the first member. Returns 0 or an errno.
  func initialiseMembers() -> Int32 {
    var error = unsafe cshims_lock_init(&members.pointee.lock)
    if error == 0 { error = unsafe cshims_lock_init(&members.pointee.cache_lock) }
    if error == 0 { error = unsafe cshims_member_lock_slot(header, 0) }
    unsafe cshims_member_set(member(0), CSHIMS_MEMBER_FOUNDER, cshims_process_identity(), 0)
    return error
  }
}

extension PhysicalMemory {
  /// Makes this process, a child made by fork(2), one of the machine's. Does
  /// nothing in one that is.
  package func join() throws(MemoryError) {
    guard machine.isJoinable else {
      throw unsafe MemoryError(.notSupported, .notJoinable, UInt64(machine.header.pointee.owner_id))
    }
    _ = unsafe cshims_lock_acquire(trapLock)
    defer { unsafe cshims_lock_release(trapLock) }
    if machine.isOwn { return }
    let slot = unsafe cshims_member_claim(machine.header)
    guard slot >= 0 else {
      throw unsafe MemoryError(
        .noSuchProcess, .copyMissing, UInt64(machine.header.pointee.owner_id))
    }
    let member = unsafe machine.member(Int(slot))
    let failure = unsafe cshims_member_error_load(member)
    guard failure == 0 else { throw MemoryError(.outOfMemory, .copyFailed, Int(failure)) }
    let window = unsafe UInt64(UInt(bitPattern: machine.header.pointee.window))
    guard cshims_is_kept_empty(window, windowLength) else {
      throw MemoryError(.exists, .addressTaken, window)
    }
    var error = unsafe cshims_map_memfd_at(
      machine.header.pointee.memfd, windowLength, window)
    if error == 0 {
      error = unsafe cshims_do_not_inherit(machine.header.pointee.window, windowLength)
    }
    guard error == 0 else { throw MemoryError.host(error) }
    // The one that came along was the parent's; its descriptors are closed.
    unsafe trap = nil
    unsafe cshims_member_set_state(member, CSHIMS_MEMBER_JOINED)
    unsafe cshims_membership_set(
      machine.header, CSHIMS_MACHINE_NOTED.rawValue + UInt32(slot))
    unsafe cshims_reaper_start(machine.header)
  }
}
