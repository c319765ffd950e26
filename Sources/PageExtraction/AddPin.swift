//===----------------------------------------------------------------------===//
// One more pin on a page that is pinned: for consumers that pass a page on and
// then drop their own pin.
//===----------------------------------------------------------------------===//

internal import CShims
internal import Events
public import PageFrames

extension Page {
  /// Takes one more pin on a page that already has one (folio_add_pin).
  ///
  /// Dropped by `unpinUserPage`. As in the kernel it is not counted as acquired,
  /// though its drop is counted as released: after each such pair the machine's
  /// `pinsReleased` is one more than what was acquired (C.4, C.10). The zero page
  /// takes none. Thread-safe, as long as the caller's own pin stays.
  ///
  /// - Throws: EINVAL for a page that is not pinned (the kernel warns), ENOMEM
  ///   when its count would overflow. Then nothing has changed.
  /// - Complexity: O(1).
  public func addPin() throws(MemoryError) {
    guard !isZeroPage else { return }
    guard mayBePinned else {
      throw MemoryError(.invalid, .pageNotPinned, frameNumber.rawValue)
    }
    try acquire(.pin)
    if Ledger.isOn { noteTaken(.pin) }
  }

  /// Takes `count` more pins on a page that is held, and counts them as any
  /// other pins (folio_add_pins). The zero page takes none.
  ///
  /// - Throws: EINVAL for a negative count, ENOMEM when the page's count is not
  ///   positive or would overflow. Then nothing has changed.
  public func addPins(_ count: Int) throws(MemoryError) {
    guard count >= 0 else { throw MemoryError(.invalid, .countNegative, count) }
    guard count > 0, !isZeroPage else { return }
    try acquire(.pin, count: count)
    machine.count(CSHIMS_PINS_ACQUIRED, count)
    if Ledger.isOn { noteTaken(.pin, count: count) }
  }
}
