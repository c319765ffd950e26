//===----------------------------------------------------------------------===//
// What is taken and dropped, told to the ledger. Callers ask `Ledger.isOn`
// first, so that this costs nothing when it is off.
//===----------------------------------------------------------------------===//

internal import CShims
internal import Events

extension Page {
  /// Notes `count` holds that were taken on the page.
  @inline(never)
  package func noteTaken(_ hold: PageHold, count: Int = 1) {
    unsafe cshims_ledger_take(nil, descriptor, 1, hold.code, UInt64(count), nil)
  }

  /// Strikes out what is about to be dropped: `count` holds of the page. False
  /// when it has not got them; that was reported, and they must not be dropped.
  @inline(never)
  package func mayDrop(_ hold: PageHold, count: Int = 1, call: StaticString) -> Bool {
    unsafe cshims_ledger_drop(nil, descriptor, 1, hold.code, UInt64(count), call.characters) == 0
  }

  /// The same for one hold on each of `pageCount` pages from this one on.
  /// - Returns: nil, or the first page that has none.
  @inline(never)
  package func firstUnheld(_ hold: PageHold, pageCount: Int, call: StaticString) -> Page? {
    let index = unsafe cshims_ledger_drop(
      nil, descriptor, pageCount, hold.code, 1, call.characters)
    return unsafe index == 0 ? nil : Page(descriptor + (index - 1))
  }
}

/// Notes one hold on each page of a list, taken in an address space.
@inline(never)
package func noteTaken(
  _ hold: PageHold, _ list: UnsafePointer<Page?>, count: Int, in space: UnsafeRawPointer
) {
  unsafe cshims_ledger_take(slots(list), nil, count, hold.code, 1, space)
}

/// Strikes out one hold on each page of a list, or none.
/// - Returns: nil, or the first page that has none.
@inline(never)
package func firstUnheld(
  _ hold: PageHold, _ list: UnsafePointer<Page?>, count: Int, call: StaticString
) -> Page? {
  let index = unsafe cshims_ledger_drop(
    slots(list), nil, count, hold.code, 1, call.characters)
  return unsafe index == 0 ? nil : list[index - 1]
}

/// A list as C has it: `Page?` is a pointer to a descriptor.
private func slots(
  _ list: UnsafePointer<Page?>
) -> UnsafePointer<UnsafeMutablePointer<cshims_page>?> {
  unsafe UnsafeRawPointer(list)
    .assumingMemoryBound(to: UnsafeMutablePointer<cshims_page>?.self)
}

extension PageHold {
  fileprivate var code: UInt32 {
    UInt32(self == .pin ? CSHIMS_HOLD_PIN : CSHIMS_HOLD_REFERENCE)
  }
}

extension StaticString {
  fileprivate var characters: UnsafePointer<CChar> {
    unsafe UnsafeRawPointer(utf8Start).assumingMemoryBound(to: CChar.self)
  }
}
