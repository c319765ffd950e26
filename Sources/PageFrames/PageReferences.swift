//===----------------------------------------------------------------------===//
// Taking and dropping references and pins (semantics C.4).
//
// A grab adds first and judges what it found; the value it found tells whether
// the page was held, and a grab that did not get the page takes its addition
// back. Whoever brings a count to zero frees the page, an undo included: the
// exchange 0 -> free is tried by each of them and won by one. Between the two a
// late grab may still find zero, add, and bring it to zero again; it then tries
// the same exchange. A grab that found a positive count on such a page has a
// real reference; it drops it when it sees that the page-table entry changed.
//===----------------------------------------------------------------------===//

internal import CShims
internal import Events

/// What is taken on a page.
@frozen
public enum PageHold: UInt8, Sendable {
  /// A plain reference (FOLL_GET), dropped by put.
  case reference
  /// A pin (FOLL_PIN), dropped by unpin.
  case pin
}

extension Page {
  /// Takes `count` holds unless nobody holds the page (try_grab_folio_fast).
  ///
  /// False when the page is free, being freed, or its count would overflow, and
  /// for a `count` below 1, and in a process that the machine does not belong to;
  /// then nothing has changed. Pins on the zero page
  /// succeed and count nothing. Does not bump the machine's counters: the caller
  /// does, once a batch.
  public func tryAcquire(_ hold: PageHold, count: Int = 1) -> Bool {
    switch membership {
    case CSHIMS_MACHINE_FOREIGN: return false
    case CSHIMS_MACHINE_OWN: return tryAcquireUnnoted(hold, count: count)
    default:
      machine.enterGate()
      defer { machine.leaveGate() }
      guard tryAcquireUnnoted(hold, count: count) else { return false }
      note(hold, count)
      return true
    }
  }

  /// The same for what is noted elsewhere, or is no process's: mappings, page
  /// caches, a call of GUP's that notes its pages together.
  package func tryAcquireUnnoted(_ hold: PageHold, count: Int = 1) -> Bool {
    guard count > 0 else { return false }
    if hold == .pin, isZeroPage { return true }
    // Many are added in parts far smaller than the distance from the free
    // sentinel to the counts of held pages, so that several threads that meet a
    // free page at once do not bridge it.
    let part = hold == .pin ? 1 << 16 : 1 << 26
    var taken = 0
    while taken < count {
      let n = min(part, count - taken)
      guard tryAcquirePart(hold, UInt32(n)) else {
        releaseUnnoted(hold, count: taken)
        return false
      }
      taken += n
    }
    return true
  }

  private func tryAcquirePart(_ hold: PageHold, _ n: UInt32) -> Bool {
    while true {
      let head = folioHead
      let order = head.folioOrder
      let amount = hold == .pin && order == 0 ? n &* CSHIMS_PIN_BIAS : n
      guard head.add(amount) else { return false }
      // Did the folio split or form while we added? Then ours is on the wrong
      // page, or of the wrong kind: take it back and look again.
      if folioHead == head, head.folioOrder == order {
        if hold == .pin && order > 0 {
          unsafe _ = cshims_page_pin_fetch_add(head.descriptor, n)
        }
        return true
      }
      head.dropRaw(amount, call: "try_grab_folio")
    }
  }

  /// Takes `count` more holds on a page that the caller knows to be held
  /// (try_grab_folio): a count that is not positive is an error, not a race.
  public func acquire(_ hold: PageHold, count: Int = 1) throws(MemoryError) {
    guard isOwn else { throw machine.otherProcess }
    guard tryAcquire(hold, count: count) else {
      throw MemoryError(.outOfMemory, .countOverflow, Int(frame))
    }
  }

  /// Drops `count` holds; at zero the page is freed. The caller must own them:
  /// dropping what is not held stops the program with the frame and its state.
  /// In a process that the machine does not belong to it does nothing: the holds
  /// are those of the process that took them.
  /// On a joinable machine a process that has joined can only drop what it has
  /// taken itself: what it has copies of was its parent's.
  public func release(_ hold: PageHold, count: Int = 1) { _ = releaseIfHeld(hold, count: count) }

  /// The same, saying whether it did.
  package func releaseIfHeld(_ hold: PageHold, count: Int = 1) -> Bool {
    switch membership {
    case CSHIMS_MACHINE_FOREIGN: return false
    case CSHIMS_MACHINE_OWN: break
    default:
      machine.enterGate()
      defer { machine.leaveGate() }
      guard forget(hold, count) else { return false }
      releaseUnnoted(hold, count: count)
      return true
    }
    releaseUnnoted(hold, count: count)
    return true
  }

  /// The same for what was taken unnoted.
  package func releaseUnnoted(_ hold: PageHold, count: Int = 1) {
    guard count > 0 else { return }
    if hold == .pin, isZeroPage { return }
    let call: StaticString = hold == .pin ? "unpin_user_page" : "put_page"
    let head = folioHead
    let large = head.folioOrder > 0
    let most = hold == .pin && !large ? CSHIMS_REF_MAX / CSHIMS_PIN_BIAS : CSHIMS_REF_MAX
    guard count <= Int(most) else {
      head.diesOf(call, unsafe cshims_page_ref_load(head.descriptor))
    }
    head.drop(hold, UInt32(count), large: large, call: call)
  }

  /// Takes a reference and counts it (get_page). The page must be held.
  public func get() throws(MemoryError) {
    try acquire(.reference)
    machine.count(CSHIMS_REFS_ACQUIRED, 1)
    if Ledger.isOn { noteTaken(.reference) }
  }

  /// Drops a reference and counts it (put_page).
  public func put() {
    if Ledger.isOn, !mayDrop(.reference, call: "put_page") { return }
    let machine = machine
    if releaseIfHeld(.reference) { machine.count(CSHIMS_REFS_RELEASED, 1) }
  }

  // MARK: - Notes of a joinable machine's processes

  private var membership: cshims_membership {
    let value = unsafe cshims_membership_of(descriptor)
    return value < CSHIMS_MACHINE_NOTED.rawValue
      ? cshims_membership(value) : CSHIMS_MACHINE_NOTED
  }

  /// Notes that this process has taken holds, on a joinable machine. In the gate.
  package func note(_ hold: PageHold, _ count: Int) {
    let machine = machine
    guard machine.isJoinable, !(hold == .pin && isZeroPage) else { return }
    unsafe cshims_note_add(machine.note(folioHead.frame, hold), UInt32(count))
  }

  /// Takes a note back. False when this process has not taken so much; for the
  /// process that made the machine that is an error that stops it, since no copy
  /// of another's holds can have come to it. In the gate.
  private func forget(_ hold: PageHold, _ count: Int) -> Bool {
    guard count > 0, !(hold == .pin && isZeroPage) else { return true }
    let head = folioHead
    if count <= Int(UInt32.max),
      unsafe cshims_note_drop(machine.note(head.frame, hold), UInt32(count))
    {
      return true
    }
    if machine.isFounded {
      head.diesOf(
        hold == .pin ? "unpin_user_page" : "put_page", unsafe cshims_page_ref_load(head.descriptor))
    }
    return false
  }

  // MARK: - On a folio's head

  /// Adds unless the count is not positive. `self` is a head.
  @inline(__always)
  private func add(_ amount: UInt32) -> Bool {
    let old = unsafe cshims_page_ref_fetch_add(descriptor, amount)
    guard cshims_page_grabbed(old, amount) else {
      undo(amount)
      return false
    }
    return true
  }

  /// Takes back an addition that did not get the page.
  @usableFromInline
  func undo(_ amount: UInt32) {
    let old = unsafe cshims_page_ref_fetch_sub(descriptor, amount)
    if old == amount { freeIfUnheld() }
  }

  /// Drops counts that the caller owns. `self` is a head.
  private func drop(_ hold: PageHold, _ n: UInt32, large: Bool, call: StaticString) {
    if hold == .pin && large {
      let pins = unsafe cshims_page_pin_fetch_sub(descriptor, n)
      if pins < n { diesOf(call, pins) }
    }
    dropRaw(hold == .pin && !large ? n &* CSHIMS_PIN_BIAS : n, call: call)
  }

  /// Drops `amount` from the count itself.
  package func dropRaw(_ amount: UInt32, call: StaticString) {
    let old = unsafe cshims_page_ref_fetch_sub(descriptor, amount)
    if !cshims_page_may_drop(old, amount) { diesOf(call, old) }
    if old == amount { freeIfUnheld() }
  }

  /// The slow end of a drop or an undo that the hot loops inline: they have
  /// already subtracted `amount` from `old`.
  public func finishDrop(old: UInt32, amount: UInt32, call: StaticString) {
    if !cshims_page_may_drop(old, amount) { diesOf(call, old) }
    if old == amount { freeIfUnheld() }
  }

  /// The slow end of a grab that found `old` and did not get the page.
  public func finishUndo(_ amount: UInt32) { undo(amount) }

  private func freeIfUnheld() {
    // The zero page is the machine's own; nobody's put may free it.
    if isZeroPage { diesOf("put_page of the zero page", 0) }
    if unsafe cshims_page_ref_exchange(descriptor, 0, CSHIMS_REF_FREE) {
      machine.free(frame: frame, order: folioOrder)
    }
  }

  private func diesOf(_ call: StaticString, _ state: UInt32) -> Never {
    unsafe cshims_die(
      "a page is released more often than it was taken", frame, UInt64(state),
      UnsafeRawPointer(call.utf8Start).assumingMemoryBound(to: CChar.self))
  }
}
