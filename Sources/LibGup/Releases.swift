//===----------------------------------------------------------------------===//
// Giving pages back. Every pointer of a list is looked at before the first hold
// goes; then the list goes to GUP as it is.
//===----------------------------------------------------------------------===//

// swift-format-ignore-file: AlwaysUseLowerCamelCase
// The functions have their C names.

internal import CGup
internal import CShims
internal import GUP
internal import PageFrames

/// What GUP warns of is an error here.
@inline(__always)
private func outcome(_ warning: MemoryError?) -> Int32 {
  guard let warning else { return 0 }
  return fail(warning)
}

/// Checks a list and hands it to `body`.
@inline(__always)
private func release(
  _ list: UnsafePointer<OpaquePointer?>?, _ count: Int64,
  _ body: (UnsafePointer<Page?>, Int) -> MemoryError?
) -> Int32 {
  guard count > 0 else { return 0 }
  guard let list = unsafe list else { return refuse(.listMissing, UInt64(count)) }
  if let bad = unsafe cshims_first_unreal_page(
    UnsafeRawPointer(list).assumingMemoryBound(to: UnsafeRawPointer?.self), Int(count))
  {
    return refuse(.pageInvalid, UInt64(UInt(bitPattern: bad)))
  }
  return outcome(
    unsafe body(
      UnsafeRawPointer(list).assumingMemoryBound(to: Page?.self), Int(count)))
}

extension OpaquePointer {
  fileprivate var number: UInt64 { UInt64(UInt(bitPattern: self)) }
}

/// One plain page: no call but this one.
@inline(__always)
private func dropPlainly(_ page: OpaquePointer?, _ hold: PageHold) -> PlainDrop {
  let membership = unsafe cshims_page_standing(UnsafeRawPointer(page))
  guard membership == CSHIMS_MACHINE_OWN.rawValue, let page = unsafe page else {
    return .notPlain
  }
  return unsafe Page(UnsafeMutablePointer(page)).dropPlainly(hold, membership: membership)
}

/// The long way of one page: through the list's call, whose answer says what the
/// ledger says. `old`: the page was dropped from there already.
@inline(__always)
private func release(
  _ page: OpaquePointer?, after plain: PlainDrop, _ hold: PageHold,
  _ body: (UnsafePointer<Page?>, Int) -> MemoryError?
) -> Int32 {
  guard let page = unsafe real(page) else { return unsafe refuse(.pageInvalid, page.number) }
  if case .unfinished(let old) = plain {
    page.finishPlainDrop(hold, old: old)
    return 0
  }
  var slot: Page? = page
  return outcome(unsafe withUnsafePointer(to: &slot) { unsafe body($0, 1) })
}

@c @implementation
public func gup_put_page(_ page: OpaquePointer?) -> Int32 {
  let plain = unsafe dropPlainly(page, .reference)
  if case .dropped = plain { return 0 }
  cshims_ledger_enter(0)
  return unsafe putPage(page, after: plain)
}

@inline(never)
private func putPage(_ page: OpaquePointer?, after plain: PlainDrop) -> Int32 {
  unsafe release(page, after: plain, .reference) { unsafe putPages($0, count: $1) }
}

@c @implementation
public func gup_put_pages(_ pages: UnsafePointer<OpaquePointer?>?, _ count: Int64) -> Int32 {
  cshims_ledger_enter(0)
  return unsafe release(pages, count) { unsafe putPages($0, count: $1) }
}

@c @implementation
public func gup_unpin_user_page(_ page: OpaquePointer?) -> Int32 {
  let plain = unsafe dropPlainly(page, .pin)
  if case .dropped = plain { return 0 }
  cshims_ledger_enter(0)
  return unsafe unpinUserPage(page, after: plain)
}

@inline(never)
private func unpinUserPage(_ page: OpaquePointer?, after plain: PlainDrop) -> Int32 {
  unsafe release(page, after: plain, .pin) { unsafe unpinUserPages($0, count: $1) }
}

@c @implementation
public func gup_unpin_user_pages(_ pages: UnsafePointer<OpaquePointer?>?, _ count: Int64) -> Int32 {
  cshims_ledger_enter(0)
  return unsafe release(pages, count) { unsafe unpinUserPages($0, count: $1) }
}

@c @implementation
public func gup_unpin_user_pages_dirty_lock(
  _ pages: UnsafePointer<OpaquePointer?>?, _ count: Int64, _ dirty: Bool
) -> Int32 {
  cshims_ledger_enter(0)
  return unsafe release(pages, count) {
    unsafe unpinUserPagesDirtyLock($0, count: $1, dirty: dirty)
  }
}

@c @implementation
public func gup_unpin_user_page_range_dirty_lock(
  _ page: OpaquePointer?, _ count: Int64, _ dirty: Bool
) -> Int32 {
  cshims_ledger_enter(0)
  guard let real = unsafe real(page) else { return unsafe refuse(.pageInvalid, page.number) }
  guard count > 0 else { return 0 }
  return outcome(unpinUserPageRangeDirtyLock(real, count: Int(count), dirty: dirty))
}

@c @implementation
public func gup_unpin_user_folio(_ page: OpaquePointer?, _ count: Int64) -> Int32 {
  cshims_ledger_enter(0)
  guard let real = unsafe real(page) else { return unsafe refuse(.pageInvalid, page.number) }
  guard count > 0 else { return 0 }
  return outcome(unpinUserFolio(real, count: Int(count)))
}

@c @implementation
public func gup_unpin_folios(_ folios: UnsafePointer<OpaquePointer?>?, _ count: Int64) -> Int32 {
  cshims_ledger_enter(0)
  return unsafe release(folios, count) { unsafe unpinFolios($0, count: $1) }
}
