//===----------------------------------------------------------------------===//
// UserSpace: an address space as extraction calls it. The iterator that holds
// one holds the object too, so a call need not count it: a retain and a release
// would be a tenth of what 16 pages cost.
//===----------------------------------------------------------------------===//

internal import AddressSpaces
internal import GUP
internal import PageFrames

/// An unowned address space.
@safe
struct UserSpace: @unchecked Sendable {
  private let mm: MM

  init(_ space: AddressSpace) { mm = space.mm }

  /// Takes the pages of a plan as the call does that a retention asks for,
  /// pin_user_pages_fast or get_user_pages_fast, as far as that is plain.
  @inline(__always)
  func takePlainly(
    _ retention: Retention, _ plan: ExtractionPlan, into list: UnsafeMutablePointer<Page?>
  ) -> PlainPart {
    if plan.slotCount == 1 {
      return unsafe takeOne(retention.hold, plan.start, plan.flags, into: list)
    }
    let count = unsafe mm.takePlainPages(
      retention.hold, from: plan.start, count: plan.slotCount, flags: plan.flags, into: list)
    return PlainPart(count: count, spoiled: nil)
  }

  /// Apart, for what it keeps in registers.
  @inline(never)
  private func takeOne(
    _ hold: PageHold, _ start: UInt64, _ flags: GUPFlags, into list: UnsafeMutablePointer<Page?>
  ) -> PlainPart {
    let one = unsafe mm.takePlainPage(hold, at: start, flags: flags, into: list)
    if case .taken = one { return PlainPart(count: 1, spoiled: nil) }
    return PlainPart(count: nil, spoiled: one.spoiled)
  }
}

/// What was plain of the pages of a plan; `finishTake` takes the rest.
struct PlainPart {
  /// Nil: nothing was tried but one page.
  let count: Int?
  let spoiled: Page?
}

extension Retention {
  /// What user pages are taken by.
  @inline(__always)
  var hold: PageHold { self == .pinned ? .pin : .reference }
}
