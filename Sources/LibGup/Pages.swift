//===----------------------------------------------------------------------===//
// Pages: pointers that are checked before they are followed.
//===----------------------------------------------------------------------===//

// swift-format-ignore-file: AlwaysUseLowerCamelCase
// The functions have their C names.

public import CGup
internal import CShims
internal import GUP
internal import PageExtraction
internal import PageFrames

/// The page of a C caller's pointer; nil for what is no page of a machine that
/// lives.
@inline(__always)
func real(_ page: OpaquePointer?) -> Page? {
  guard unsafe cshims_page_is_real(UnsafeRawPointer(page)) else { return nil }
  return unsafe Page(UnsafeMutablePointer(page.unsafelyUnwrapped))
}

/// A page as C has it.
@inline(__always)
func pointer(_ page: Page?) -> OpaquePointer? {
  unsafe page.map { unsafe OpaquePointer($0.descriptor) }
}

/// A list as C has it: `Page?` is a pointer to a descriptor.
@inline(__always)
func pages(_ list: UnsafeMutablePointer<OpaquePointer?>) -> UnsafeMutablePointer<Page?> {
  unsafe UnsafeMutableRawPointer(list).assumingMemoryBound(to: Page?.self)
}

/// Calls `body` with a page.
@inline(__always)
func call(_ page: OpaquePointer?, _ body: (Page) throws(MemoryError) -> Void) -> Int32 {
  guard let page = unsafe real(page) else { return unsafe refuse(.pageInvalid, page.number) }
  do throws(MemoryError) {
    try body(page)
    return 0
  } catch {
    return fail(error)
  }
}

@c @implementation
public func gup_page_alloc(
  _ machine: OpaquePointer?, _ order: UInt32, _ page: UnsafeMutablePointer<OpaquePointer?>?
) -> Int32 {
  cshims_ledger_enter(0)
  guard let page = unsafe page else { return refuse(.outputMissing) }
  return unsafe call(machine, PhysicalMemory.self) { (memory) throws(MemoryError) in
    unsafe page.pointee = pointer(try memory.allocatePage(order: Int(order)))
  }
}

/// What a machine has at a place, nil for a bad handle too.
private func lookUp(
  _ machine: OpaquePointer?, _ body: (PhysicalMemory) -> Page?
) -> OpaquePointer? {
  var found: Page?
  _ = unsafe call(machine, PhysicalMemory.self) { memory in found = body(memory) }
  return unsafe pointer(found)
}

@c @implementation
public func gup_page_of_frame(_ machine: OpaquePointer?, _ frame: UInt64) -> OpaquePointer? {
  unsafe lookUp(machine) { $0.page(PageFrameNumber(frame)) }
}

@c @implementation
public func gup_page_of_address(
  _ machine: OpaquePointer?, _ address: UnsafeRawPointer?
) -> OpaquePointer? {
  guard let address = unsafe address else { return nil }
  return unsafe lookUp(machine) { unsafe $0.page(atKernelAddress: address) }
}

@c @implementation
public func gup_zero_page(_ machine: OpaquePointer?) -> OpaquePointer? {
  unsafe lookUp(machine) { $0.zeroPage }
}

@c @implementation
public func gup_page_address(_ page: OpaquePointer?) -> UnsafeMutableRawPointer? {
  guard let page = unsafe real(page) else { return nil }
  return unsafe page.bytes.baseAddress
}

@c @implementation
public func gup_page_frame(_ page: OpaquePointer?) -> UInt64 {
  guard let page = unsafe real(page) else { return .max }
  return page.frameNumber.rawValue
}

@c @implementation
public func gup_page_get_state(
  _ page: OpaquePointer?, _ state: UnsafeMutablePointer<gup_page_state>?
) -> Int32 {
  guard let state = unsafe state else { return refuse(.outputMissing) }
  return unsafe call(page) { page in
    unsafe state.pointee = gup_page_state(
      frame: page.frameNumber.rawValue, head: pointer(page.folioHead),
      references: Int64(page.referenceCount), pins: Int64(page.pinCount),
      mappings: Int64(page.mapCount), folio_mappings: Int64(page.folioMapCount),
      order: UInt32(page.folioOrder),
      may_be_pinned: page.mayBePinned, is_zero_page: page.isZeroPage,
      is_anonymous: page.isAnonymous, is_exclusive: page.isAnonymousExclusive,
      is_dirty: page.isDirty, is_free: page.isFree)
  }
}

@c @implementation
public func gup_page_mark_dirty(_ page: OpaquePointer?) -> Int32 {
  var wasClean = false
  let error = unsafe call(page) { page in wasClean = page.markDirty() }
  return error != 0 ? error : wasClean ? 1 : 0
}

@c @implementation
public func gup_get_page(_ page: OpaquePointer?) -> Int32 {
  cshims_ledger_enter(0)
  return unsafe call(page) { (page) throws(MemoryError) in try page.get() }
}

@c @implementation
public func gup_add_pin(_ page: OpaquePointer?) -> Int32 {
  cshims_ledger_enter(0)
  return unsafe call(page) { (page) throws(MemoryError) in try page.addPin() }
}
