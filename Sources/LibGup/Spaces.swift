//===----------------------------------------------------------------------===//
// Address spaces: life, areas, the program's side.
//===----------------------------------------------------------------------===//

// swift-format-ignore-file: AlwaysUseLowerCamelCase
// The functions have their C names.

internal import AddressSpaces
public import CGup
internal import CShims
internal import PageFrames

@c @implementation
public func gup_mm_create(
  _ machine: OpaquePointer?, _ mm: UnsafeMutablePointer<OpaquePointer?>?
) -> Int32 {
  unsafe make(machine, PhysicalMemory.self, into: mm) { (memory) throws(MemoryError) in
    try AddressSpace(memory: memory)
  }
}

@c @implementation
public func gup_mm_destroy(_ mm: OpaquePointer?) -> Int32 {
  do throws(MemoryError) {
    unsafe try close(mm, AddressSpace.self).exit()
    return 0
  } catch {
    return fail(error)
  }
}

@c @implementation
public func gup_mm_exit(_ mm: OpaquePointer?) -> Int32 {
  unsafe call(mm, AddressSpace.self) { space in space.exit() }
}

@c @implementation
public func gup_mm_fork(
  _ parent: OpaquePointer?, _ child: UnsafeMutablePointer<OpaquePointer?>?
) -> Int32 {
  unsafe make(parent, AddressSpace.self, into: child) { (space) throws(MemoryError) in
    try space.fork()
  }
}

@c @implementation
public func gup_mm_join(
  _ mm: OpaquePointer?, _ own: UnsafeMutablePointer<OpaquePointer?>?
) -> Int32 {
  unsafe make(mm, AddressSpace.self, into: own) { (space) throws(MemoryError) in
    try space.joinAfterFork()
  }
}

// MARK: - Areas

private let movable = Int32(GUP_MAP_MOVABLE)
private let secret = Int32(GUP_MAP_SECRET)

/// Where and how to map, as mmap's flags say it; `more` are bits that the caller
/// takes besides.
private func mapping(
  _ flags: Int32, _ hint: UInt64, more: Int32 = 0
) throws(MemoryError) -> (sharing: Sharing, placement: Placement) {
  let shared = Int32(GUP_MAP_SHARED)
  let exclusive = Int32(GUP_MAP_PRIVATE)
  let fixed = Int32(GUP_MAP_FIXED)
  let noReplace = Int32(GUP_MAP_FIXED_NOREPLACE)
  guard flags & ~(shared | exclusive | fixed | noReplace | more) == 0 else {
    throw MemoryError(.invalid, .flagsNotForThisCall, Int(flags))
  }
  guard flags & (shared | exclusive) != shared | exclusive else {
    throw MemoryError(.invalid, .flagsContradict, Int(flags))
  }
  let address = UserAddress(hint)
  let placement: Placement =
    flags & noReplace != 0
    ? .fixedNoReplace(address)
    : flags & fixed != 0 ? .fixed(address) : hint == 0 ? .anywhere : .hint(address)
  return (flags & shared != 0 ? .shared : .private, placement)
}

@c @implementation
public func gup_mm_map(
  _ mm: OpaquePointer?, _ hint: UInt64, _ length: UInt64, _ protection: Int32, _ flags: Int32,
  _ address: UnsafeMutablePointer<UInt64>?
) -> Int32 {
  guard let address = unsafe address else { return refuse(.outputMissing) }
  return unsafe call(mm, AddressSpace.self) { (space) throws(MemoryError) in
    let (sharing, placement) = try mapping(flags, hint, more: movable | secret)
    guard flags & (movable | secret) != movable | secret else {
      throw MemoryError(.invalid, .flagsContradict, Int(flags))
    }
    let kind: MemoryKind =
      flags & secret != 0 ? .secret : flags & movable != 0 ? .movable : .ordinary
    unsafe address.pointee = try space.map(
      length: byteCount(length), protection: Protection(rawValue: UInt32(bitPattern: protection)),
      sharing: sharing, of: kind, at: placement
    ).rawValue
  }
}

@c @implementation
public func gup_mm_map_frames(
  _ mm: OpaquePointer?, _ hint: UInt64, _ frame: UInt64, _ pages: UInt64, _ protection: Int32,
  _ flags: Int32, _ address: UnsafeMutablePointer<UInt64>?
) -> Int32 {
  guard let address = unsafe address else { return refuse(.outputMissing) }
  return unsafe call(mm, AddressSpace.self) { (space) throws(MemoryError) in
    guard flags & Int32(GUP_MAP_PRIVATE) == 0 else {
      throw MemoryError(.invalid, .flagsNotForThisCall, Int(flags))
    }
    unsafe address.pointee = try space.mapFrames(
      from: PageFrameNumber(frame), count: PageCount(Int(clamping: pages)),
      protection: Protection(rawValue: UInt32(bitPattern: protection)),
      at: mapping(flags, hint).placement
    ).rawValue
  }
}

@c @implementation
public func gup_mm_map_file(
  _ mm: OpaquePointer?, _ hint: UInt64, _ length: UInt64, _ protection: Int32, _ flags: Int32,
  _ file: OpaquePointer?, _ offset: UInt64, _ address: UnsafeMutablePointer<UInt64>?
) -> Int32 {
  guard let address = unsafe address else { return refuse(.outputMissing) }
  return unsafe call(mm, AddressSpace.self) { (space) throws(MemoryError) in
    let (sharing, placement) = try mapping(flags, hint)
    let object = unsafe cshims_handle_object(file.number, MappedFile.kind.rawValue)
    guard let object = unsafe object else {
      throw unsafe MemoryError(.invalid, .handleInvalid, file.number)
    }
    unsafe address.pointee = try space.map(
      file: Unmanaged<MappedFile>.fromOpaque(object).takeUnretainedValue(),
      offset: byteCount(offset), length: byteCount(length),
      protection: Protection(rawValue: UInt32(bitPattern: protection)), sharing: sharing,
      at: placement
    ).rawValue
  }
}

@c @implementation
public func gup_mm_unmap(_ mm: OpaquePointer?, _ address: UInt64, _ length: UInt64) -> Int32 {
  unsafe call(mm, AddressSpace.self) { (space) throws(MemoryError) in
    try space.unmap(UserAddress(address), length: byteCount(length))
  }
}

@c @implementation
public func gup_mm_protect(
  _ mm: OpaquePointer?, _ address: UInt64, _ length: UInt64, _ protection: Int32
) -> Int32 {
  unsafe call(mm, AddressSpace.self) { (space) throws(MemoryError) in
    try space.protect(
      UserAddress(address), length: byteCount(length),
      Protection(rawValue: UInt32(bitPattern: protection)))
  }
}

@c @implementation
public func gup_mm_advise(
  _ mm: OpaquePointer?, _ address: UInt64, _ length: UInt64, _ advice: Int32
) -> Int32 {
  unsafe call(mm, AddressSpace.self) { (space) throws(MemoryError) in
    guard let advice = Advice(rawValue: advice) else {
      throw MemoryError(.invalid, .adviceUnknown, Int(advice))
    }
    try space.advise(UserAddress(address), length: byteCount(length), advice)
  }
}

@c @implementation
public func gup_mm_advise_folios(
  _ mm: OpaquePointer?, _ address: UInt64, _ length: UInt64, _ order: Int32
) -> Int32 {
  unsafe call(mm, AddressSpace.self) { (space) throws(MemoryError) in
    let size: FolioSize =
      order == 0 ? .base : Int(order) == GUP_FOLIO_HUGE ? .huge : .order(Int(order))
    try space.advise(UserAddress(address), length: byteCount(length), folios: size)
  }
}

@c @implementation
public func gup_mm_split_folio(_ mm: OpaquePointer?, _ address: UInt64) -> Int32 {
  unsafe call(mm, AddressSpace.self) { (space) throws(MemoryError) in
    try space.splitFolio(at: UserAddress(address))
  }
}

@c @implementation
public func gup_mm_sync(_ mm: OpaquePointer?, _ address: UInt64, _ length: UInt64) -> Int32 {
  unsafe call(mm, AddressSpace.self) { (space) throws(MemoryError) in
    try space.sync(UserAddress(address), length: byteCount(length))
  }
}

// MARK: - The program's side

@c @implementation
public func gup_mm_pointer(_ mm: OpaquePointer?, _ address: UInt64) -> UnsafeMutableRawPointer? {
  var pointer: UnsafeMutableRawPointer?
  _ = unsafe call(mm, AddressSpace.self) { space in
    unsafe pointer = space.pointer(at: UserAddress(address))
  }
  return unsafe pointer
}

@c @implementation
public func gup_mm_copy_to(
  _ mm: OpaquePointer?, _ to: UInt64, _ from: UnsafeRawPointer?, _ length: Int
) -> Int32 {
  unsafe call(mm, AddressSpace.self) { (space) throws(MemoryError) in
    try unsafe space.copyToUser(UserAddress(to), from: bytes(from, length))
  }
}

@c @implementation
public func gup_mm_copy_from(
  _ mm: OpaquePointer?, _ to: UnsafeMutableRawPointer?, _ from: UInt64, _ length: Int
) -> Int32 {
  unsafe call(mm, AddressSpace.self) { (space) throws(MemoryError) in
    try unsafe space.copyFromUser(bytes(to, length), from: UserAddress(from))
  }
}

@c @implementation
public func gup_mm_zero(_ mm: OpaquePointer?, _ to: UInt64, _ length: Int) -> Int32 {
  unsafe call(mm, AddressSpace.self) { (space) throws(MemoryError) in
    try space.zeroUser(UserAddress(to), count: ByteCount(clamped(length)))
  }
}

@c @implementation
public func gup_mm_page(_ mm: OpaquePointer?, _ address: UInt64) -> OpaquePointer? {
  var page: Page?
  _ = unsafe call(mm, AddressSpace.self) { space in page = space.page(at: UserAddress(address)) }
  return unsafe pointer(page)
}

@c @implementation
public func gup_mm_is_writable(_ mm: OpaquePointer?, _ address: UInt64) -> Int32 {
  unsafe Int32(
    truncatingIfNeeded: count(mm, AddressSpace.self) { space in
      space.isWritable(at: UserAddress(address)) ? 1 : 0
    })
}

// MARK: - What it is like

/// Throws for an address space of another process, of which nothing can be told.
func checkOwn(_ space: AddressSpace) throws(MemoryError) {
  guard space.mm.isOwn else { throw space.mm.otherProcess }
}

@c @implementation
public func gup_mm_area(
  _ mm: OpaquePointer?, _ address: UInt64, _ area: UnsafeMutablePointer<gup_area>?
) -> Int32 {
  guard let area = unsafe area else { return refuse(.outputMissing) }
  return unsafe Int32(
    truncatingIfNeeded: count(mm, AddressSpace.self) { (space) throws(MemoryError) in
      try checkOwn(space)
      guard let found = space.area(atOrAfter: UserAddress(address)) else { return 0 }
      let flags = found.flags
      unsafe area.pointee = gup_area(
        start: found.range.start.rawValue, end: found.range.end.rawValue,
        protection: Int32(bitPattern: found.protection.rawValue),
        is_shared: found.sharing == .shared, is_anonymous: flags.contains(.anonymous),
        is_locked: flags.contains(.locked), is_movable: flags.contains(.movable),
        is_secret: flags.contains(.secret), is_adopted: flags.contains(.adopted),
        is_device: flags.contains(.pfnMap), dont_fork: flags.contains(.dontFork),
        wipe_on_fork: flags.contains(.wipeOnFork))
      return 1
    })
}

@c @implementation
public func gup_mm_get_info(
  _ mm: OpaquePointer?, _ info: UnsafeMutablePointer<gup_mm_info>?
) -> Int32 {
  guard let info = unsafe info else { return refuse(.outputMissing) }
  return unsafe call(mm, AddressSpace.self) { (space) throws(MemoryError) in
    try checkOwn(space)
    unsafe info.pointee = gup_mm_info(
      locked_bytes: UInt64(space.lockedBytes.rawValue),
      lock_limit: space.lockLimit.map { UInt64($0.rawValue) } ?? .max,
      host_mappings: UInt64(space.hostMappingCount),
      lost_adoptions: UInt64(space.lostAdoptionCount))
  }
}

// MARK: - Bytes of C callers

/// The caller's bytes.
/// - Throws: EINVAL where there are none, and for a length that is no memory's.
func bytes(
  _ start: UnsafeRawPointer?, _ length: Int
) throws(MemoryError) -> UnsafeRawBufferPointer {
  guard length >= 0, unsafe start != nil || length == 0 else {
    throw MemoryError(.invalid, .listMissing, length)
  }
  return unsafe UnsafeRawBufferPointer(start: start, count: length)
}

/// The caller's memory to be filled.
func bytes(
  _ start: UnsafeMutableRawPointer?, _ length: Int
) throws(MemoryError) -> UnsafeMutableRawBufferPointer {
  guard length >= 0, unsafe start != nil || length == 0 else {
    throw MemoryError(.invalid, .listMissing, length)
  }
  return unsafe UnsafeMutableRawBufferPointer(start: start, count: length)
}
