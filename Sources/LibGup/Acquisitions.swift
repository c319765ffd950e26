//===----------------------------------------------------------------------===//
// get_user_pages and its like.
//===----------------------------------------------------------------------===//

// swift-format-ignore-file: AlwaysUseLowerCamelCase
// The functions have their C names.

internal import AddressSpaces
internal import CGup
internal import CShims
internal import GUP
internal import PageFrames

/// A GUP call of an address space.
private typealias Taker =
  (AddressSpace, UserAddress, Int, GUPFlags, UnsafeMutablePointer<Page?>?) throws(MemoryError) ->
  GUPResult

@inline(__always)
private func take(
  _ mm: OpaquePointer?, _ start: UInt64, _ pageCount: Int64, _ flags: UInt32,
  _ list: UnsafeMutablePointer<OpaquePointer?>?, _ taker: Taker
) -> Int64 {
  unsafe count(mm, AddressSpace.self) { (space) throws(MemoryError) in
    try unsafe taker(
      space, UserAddress(start), Int(pageCount), GUPFlags(rawValue: flags),
      list.map { unsafe pages($0) }
    ).pageCount
  }
}

/// One plain page, by the address space's state alone: no object, no frame.
@inline(__always)
private func takePlainly(
  _ hold: PageHold, _ mm: OpaquePointer?, _ start: UInt64, _ count: Int64, _ flags: UInt32,
  _ list: UnsafeMutablePointer<OpaquePointer?>?
) -> PlainTake {
  guard count == 1, let list = unsafe list,
    let state = unsafe cshims_handle_state(mm.number, AddressSpace.kind.rawValue)
  else { return .notPlain }
  return unsafe MM(state.assumingMemoryBound(to: cshims_mm.self)).takePlainPage(
    hold, at: start, flags: GUPFlags(rawValue: flags), into: pages(list))
}

@c @implementation
public func gup_get_user_pages_fast(
  _ mm: OpaquePointer?, _ start: UInt64, _ count: Int64, _ flags: UInt32,
  _ pages: UnsafeMutablePointer<OpaquePointer?>?
) -> Int64 {
  let plain = unsafe takePlainly(.reference, mm, start, count, flags, pages)
  if case .taken = plain { return 1 }
  unsafe cshims_ledger_enter(mm.number)
  return unsafe getUserPagesFast(mm, start, count, flags, pages, after: plain.spoiled)
}

/// The long way of the call above.
@inline(never)
private func getUserPagesFast(
  _ mm: OpaquePointer?, _ start: UInt64, _ count: Int64, _ flags: UInt32,
  _ pages: UnsafeMutablePointer<OpaquePointer?>?, after spoiled: Page?
) -> Int64 {
  spoiled?.undoPlainTake(.reference)
  return unsafe take(mm, start, count, flags, pages) {
    (space, at, n, flags, list) throws(MemoryError) in
    try unsafe space.getUserPagesFast(at, count: n, flags: flags, into: list)
  }
}

@c @implementation
public func gup_get_user_pages_fast_only(
  _ mm: OpaquePointer?, _ start: UInt64, _ count: Int64, _ flags: UInt32,
  _ pages: UnsafeMutablePointer<OpaquePointer?>?
) -> Int64 {
  unsafe cshims_ledger_enter(mm.number)
  return unsafe take(mm, start, count, flags, pages) {
    (space, at, n, flags, list) throws(MemoryError) in
    try unsafe space.getUserPagesFastOnly(at, count: n, flags: flags, into: list)
  }
}

@c @implementation
public func gup_get_user_pages(
  _ mm: OpaquePointer?, _ start: UInt64, _ count: Int64, _ flags: UInt32,
  _ pages: UnsafeMutablePointer<OpaquePointer?>?
) -> Int64 {
  unsafe cshims_ledger_enter(mm.number)
  return unsafe take(mm, start, count, flags, pages) {
    (space, at, n, flags, list) throws(MemoryError) in
    try unsafe space.getUserPages(at, count: n, flags: flags, into: list)
  }
}

@c @implementation
public func gup_pin_user_pages_fast(
  _ mm: OpaquePointer?, _ start: UInt64, _ count: Int64, _ flags: UInt32,
  _ pages: UnsafeMutablePointer<OpaquePointer?>?
) -> Int64 {
  let plain = unsafe takePlainly(.pin, mm, start, count, flags, pages)
  if case .taken = plain { return 1 }
  unsafe cshims_ledger_enter(mm.number)
  return unsafe pinUserPagesFast(mm, start, count, flags, pages, after: plain.spoiled)
}

/// The long way of the call above.
@inline(never)
private func pinUserPagesFast(
  _ mm: OpaquePointer?, _ start: UInt64, _ count: Int64, _ flags: UInt32,
  _ pages: UnsafeMutablePointer<OpaquePointer?>?, after spoiled: Page?
) -> Int64 {
  spoiled?.undoPlainTake(.pin)
  return unsafe take(mm, start, count, flags, pages) {
    (space, at, n, flags, list) throws(MemoryError) in
    try unsafe space.pinUserPagesFast(at, count: n, flags: flags, into: list)
  }
}

@c @implementation
public func gup_pin_user_pages_fast_only(
  _ mm: OpaquePointer?, _ start: UInt64, _ count: Int64, _ flags: UInt32,
  _ pages: UnsafeMutablePointer<OpaquePointer?>?
) -> Int64 {
  unsafe cshims_ledger_enter(mm.number)
  return unsafe take(mm, start, count, flags, pages) {
    (space, at, n, flags, list) throws(MemoryError) in
    try unsafe space.pinUserPagesFastOnly(at, count: n, flags: flags, into: list)
  }
}

@c @implementation
public func gup_pin_user_pages(
  _ mm: OpaquePointer?, _ start: UInt64, _ count: Int64, _ flags: UInt32,
  _ pages: UnsafeMutablePointer<OpaquePointer?>?
) -> Int64 {
  unsafe cshims_ledger_enter(mm.number)
  return unsafe take(mm, start, count, flags, pages) {
    (space, at, n, flags, list) throws(MemoryError) in
    try unsafe space.pinUserPages(at, count: n, flags: flags, into: list)
  }
}
