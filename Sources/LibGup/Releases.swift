//===----------------------------------------------------------------------===//
// Giving pages back. Every pointer of a list is looked at before the first hold
// goes; then the list goes to GUP as it is.
//===----------------------------------------------------------------------===//

// swift-format-ignore-file: AlwaysUseLowerCamelCase
// The functions have their C names.

internal import CGup
internal import CShims
internal import Events
internal import GUP
internal import PageFrames

/// What GUP warns of is an error here.
@inline(__always)
private func outcome(_ warning: MemoryError?) -> Int32 {
  guard let warning else { return 0 }
  return fail(warning)
}

/// The first pointer of a list that is neither NULL nor a page, or nil.
private func firstBad(_ list: UnsafePointer<OpaquePointer?>, _ count: Int) -> OpaquePointer? {
  for index in 0..<count {
    let page = unsafe list[index]
    if unsafe page != nil, unsafe real(page) == nil { return unsafe page }
  }
  return nil
}

/// Checks a list and hands it to `body`.
@inline(__always)
private func release(
  _ list: UnsafePointer<OpaquePointer?>?, _ count: Int64,
  _ body: (UnsafePointer<Page?>, Int) -> MemoryError?
) -> Int32 {
  guard count > 0 else { return 0 }
  guard let list = unsafe list else { return refuse(.listMissing, UInt64(count)) }
  if let bad = unsafe firstBad(list, Int(count)) { return unsafe refuse(.pageInvalid, bad.number) }
  return outcome(
    unsafe body(
      UnsafeRawPointer(list).assumingMemoryBound(to: Page?.self), Int(count)))
}

extension OpaquePointer {
  fileprivate var number: UInt64 { UInt64(UInt(bitPattern: self)) }
}

/// One page through the list's call, whose answer says what the ledger says.
@inline(never)
private func releaseWatched(
  _ page: Page, _ body: (UnsafePointer<Page?>, Int) -> MemoryError?
) -> Int32 {
  var slot: Page? = page
  return outcome(unsafe withUnsafePointer(to: &slot) { unsafe body($0, 1) })
}

@c @implementation
public func gup_put_page(_ page: OpaquePointer?) -> Int32 {
  cshims_ledger_enter(0)
  guard let real = unsafe real(page) else { return unsafe refuse(.pageInvalid, page.number) }
  if Ledger.isOn { return unsafe releaseWatched(real) { unsafe putPages($0, count: $1) } }
  putPage(real)
  return 0
}

@c @implementation
public func gup_put_pages(_ pages: UnsafePointer<OpaquePointer?>?, _ count: Int64) -> Int32 {
  cshims_ledger_enter(0)
  return unsafe release(pages, count) { unsafe putPages($0, count: $1) }
}

@c @implementation
public func gup_unpin_user_page(_ page: OpaquePointer?) -> Int32 {
  cshims_ledger_enter(0)
  guard let real = unsafe real(page) else { return unsafe refuse(.pageInvalid, page.number) }
  if Ledger.isOn { return unsafe releaseWatched(real) { unsafe unpinUserPages($0, count: $1) } }
  unpinUserPage(real)
  return 0
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
