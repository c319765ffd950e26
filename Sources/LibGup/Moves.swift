//===----------------------------------------------------------------------===//
// What is done to mappings that stand: moving them and their pages, locking, and
// taking over memory that the program has already.
//===----------------------------------------------------------------------===//

// swift-format-ignore-file: AlwaysUseLowerCamelCase
// The functions have their C names.

internal import AddressSpaces
public import CGup
internal import CShims
internal import PageFrames

@c @implementation
public func gup_mm_remap(
  _ mm: OpaquePointer?, _ address: UInt64, _ length: UInt64, _ newLength: UInt64, _ flags: Int32,
  _ to: UInt64, _ newAddress: UnsafeMutablePointer<UInt64>?
) -> Int32 {
  guard let newAddress = unsafe newAddress else { return refuse(.outputMissing) }
  return unsafe call(mm, AddressSpace.self) { (space) throws(MemoryError) in
    let (mayMove, fixed) = (Int32(GUP_MREMAP_MAYMOVE), Int32(GUP_MREMAP_FIXED))
    let keepsOld = Int32(GUP_MREMAP_DONTUNMAP)
    guard flags & ~(mayMove | fixed | keepsOld) == 0 else {
      throw MemoryError(.invalid, .flagsNotForThisCall, Int(flags))
    }
    guard flags & (fixed | keepsOld) == 0 || flags & mayMove != 0 else {
      throw MemoryError(.invalid, .flagsContradict, Int(flags))
    }
    let placement: RemapPlacement =
      flags & fixed != 0 ? .fixed(UserAddress(to)) : flags & mayMove != 0 ? .mayMove : .inPlace
    unsafe newAddress.pointee = try space.remap(
      UserAddress(address), length: byteCount(length), newLength: byteCount(newLength),
      to: placement, keepingOld: flags & keepsOld != 0
    ).rawValue
  }
}

@c @implementation
public func gup_mm_lock(
  _ mm: OpaquePointer?, _ address: UInt64, _ length: UInt64, _ onFault: Bool
) -> Int32 {
  unsafe call(mm, AddressSpace.self) { (space) throws(MemoryError) in
    try space.lockPages(UserAddress(address), length: byteCount(length), onFault: onFault)
  }
}

@c @implementation
public func gup_mm_unlock(_ mm: OpaquePointer?, _ address: UInt64, _ length: UInt64) -> Int32 {
  unsafe call(mm, AddressSpace.self) { (space) throws(MemoryError) in
    try space.unlockPages(UserAddress(address), length: byteCount(length))
  }
}

@c @implementation
public func gup_mm_lock_all(_ mm: OpaquePointer?, _ flags: Int32) -> Int32 {
  unsafe call(mm, AddressSpace.self) { (space) throws(MemoryError) in
    try space.lockAllPages(LockScope(rawValue: flags))
  }
}

@c @implementation
public func gup_mm_unlock_all(_ mm: OpaquePointer?) -> Int32 {
  unsafe call(mm, AddressSpace.self) { (space) throws(MemoryError) in try space.unlockAllPages() }
}

@c @implementation
public func gup_mm_set_lock_limit(_ mm: OpaquePointer?, _ bytes: UInt64) -> Int32 {
  unsafe call(mm, AddressSpace.self) { (space) throws(MemoryError) in
    try checkOwn(space)
    space.lockLimit = bytes == .max ? nil : byteCount(bytes)
  }
}

@c @implementation
public func gup_mm_account(_ mm: OpaquePointer?, _ pages: UInt64) -> Int32 {
  unsafe call(mm, AddressSpace.self) { (space) throws(MemoryError) in
    try space.accountPages(PageCount(Int(clamping: pages)))
  }
}

@c @implementation
public func gup_mm_unaccount(_ mm: OpaquePointer?, _ pages: UInt64) -> Int32 {
  unsafe call(mm, AddressSpace.self) { (space) throws(MemoryError) in
    try space.unaccountPages(PageCount(Int(clamping: pages)))
  }
}

@c @implementation
public func gup_mm_migrate(
  _ mm: OpaquePointer?, _ address: UInt64, _ length: UInt64,
  _ movement: UnsafeMutablePointer<gup_movement>?
) -> Int64 {
  unsafe count(mm, AddressSpace.self) { (space) throws(MemoryError) in
    unsafe told(
      try space.migrate(UserAddress(address), length: byteCount(length)), movement)
  }
}

/// Tells what a pass did, if that is asked; the pages that it moved.
func told(_ pass: PageMovement, _ movement: UnsafeMutablePointer<gup_movement>?) -> Int {
  unsafe movement?.pointee = gup_movement(
    moved: UInt64(pass.moved), pinned: UInt64(pass.pinned), referenced: UInt64(pass.referenced),
    dirty: UInt64(pass.dirty), unreachable: UInt64(pass.unreachable),
    unmovable: UInt64(pass.unmovable), without_frame: UInt64(pass.withoutFrame),
    busy_spaces: UInt64(pass.busySpaces))
  return pass.moved
}

@c @implementation
public func gup_mm_adopt(
  _ mm: OpaquePointer?, _ memory: UnsafeMutableRawPointer?, _ length: Int,
  _ adopted: UnsafeMutablePointer<gup_adopted>?
) -> Int32 {
  guard let adopted = unsafe adopted else { return refuse(.outputMissing) }
  return unsafe call(mm, AddressSpace.self) { (space) throws(MemoryError) in
    guard let memory = unsafe memory, length >= 0 else {
      throw MemoryError(.invalid, .listMissing, length)
    }
    let range = try unsafe space.adopt(memory, length: ByteCount(length))
    unsafe UnsafeMutableRawPointer(adopted).storeBytes(of: range, as: AdoptedRange.self)
  }
}

@c @implementation
public func gup_mm_release(_ mm: OpaquePointer?, _ adopted: UnsafePointer<gup_adopted>?) -> Int32 {
  guard let adopted = unsafe adopted else { return refuse(.listMissing) }
  return unsafe call(mm, AddressSpace.self) { (space) throws(MemoryError) in
    try space.release(unsafe UnsafeRawPointer(adopted).load(as: AdoptedRange.self))
  }
}
