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
  /// pin_user_pages_fast or get_user_pages_fast, as far as they are plain;
  /// `finishTake` takes the rest. Returns how many, or nil as `takePlainPages`.
  @inline(__always)
  func takePages(
    _ retention: Retention, _ plan: ExtractionPlan, into list: UnsafeMutablePointer<Page?>
  ) -> Int? {
    unsafe mm.takePlainPages(
      retention.hold, from: plan.start, count: plan.slotCount, flags: plan.flags, into: list)
  }

  /// The same for a plan of one page: taken, or what must be given back. Apart, for
  /// what it keeps in registers.
  @inline(never)
  func takeOne(
    _ retention: Retention, _ plan: ExtractionPlan, into list: UnsafeMutablePointer<Page?>
  ) -> PlainTake {
    let one = unsafe mm.takePlainPage(
      retention.hold, at: plan.start, flags: plan.flags, into: list)
    if case .notPlain = one, unsafe takePages(retention, plan, into: list) == 1 { return .taken }
    return one
  }
}

extension Retention {
  /// What user pages are taken by.
  @inline(__always)
  var hold: PageHold { self == .pinned ? .pin : .reference }
}
