//===----------------------------------------------------------------------===//
// AddressSpace: the owner of an address space and its public face. Everything
// it does happens in MM's extensions, one file each; here arguments are checked
// and the mmap lock is taken.
//===----------------------------------------------------------------------===//

internal import CShims
public import PageFrames

/// An address space of a machine (mm_struct).
///
/// Its user addresses are addresses of this process: the program loads and
/// stores there, and what it sees are the machine's frames. Thread-safe.
/// Keeps its machine alive. Pages that are pinned when it goes away live until
/// they are released.
///
/// It belongs to the process that made it. In a copy of that process (fork(2), a
/// bare clone(2)) its views are not there: touching one is that process's
/// SIGSEGV. Every call that can throw throws ESRCH, naming the owner; the others
/// find nothing mapped; `exit`, and dropping the object, do nothing.
@safe
public final class AddressSpace: @unchecked Sendable {
  public let memory: PhysicalMemory
  /// The unowned handle that the rooms below work with.
  public let mm: MM

  /// An empty address space.
  ///
  /// - Throws: EINVAL when the machine's trap tier does not work here (the
  ///   value is the host's errno), ENOMEM when metadata memory is exhausted.
  public convenience init(memory: PhysicalMemory) throws(MemoryError) {
    #if DEBUG
      AddressSpace.rehearseFork(of: memory)
    #endif
    try self.init(unrehearsed: memory)
  }

  convenience init(unrehearsed memory: PhysicalMemory) throws(MemoryError) {
    let trap = unsafe try memory.openTrap(service: serviceNativeFault)
    unsafe self.init(try AddressSpace.makeEmpty(memory, trap), of: memory)
  }

  /// An empty address space beside `parent`, on the same machine.
  convenience init(forkedFrom parent: AddressSpace) throws(MemoryError) {
    guard parent.mm.isOwn else { throw parent.mm.otherProcess }
    let trap = unsafe parent.mm.state.pointee.trap
    unsafe self.init(try AddressSpace.makeEmpty(parent.memory, trap), of: parent.memory)
  }

  private static func makeEmpty(
    _ memory: PhysicalMemory, _ trap: OpaquePointer?
  ) throws(MemoryError) -> MM {
    let mm = try MM.create(
      machine: memory.machine, tier: memory.trapTier, budget: memory.hostMappingBudget)
    unsafe mm.state.pointee.trap = trap
    return mm
  }

  /// Owns what was made: an empty one, or the copy for this process at fork(2).
  init(_ mm: MM, of memory: PhysicalMemory) {
    self.memory = memory
    self.mm = mm
  }

  deinit {
    guard mm.isOwn else { return }
    exit()
    mm.forgetForkHook()
    mm.destroy()
  }

  /// Leaves the address space: every area is unmapped, and every later call but
  /// `exit` fails with ESRCH. Pinned pages live on. Adopted memory is the program's
  /// again, with its bytes. Idempotent.
  public func exit() {
    guard mm.isOwn else { return }
    mm.leave()
  }

  // MARK: - Areas

  /// Maps anonymous memory (mmap with MAP_ANONYMOUS). Nothing is allocated
  /// until it is touched.
  ///
  /// - Parameters:
  ///   - length: positive; rounded up to whole pages.
  ///   - folios: what a store into untouched memory brings in; private memory
  ///     only. Addresses that are not fixed are aligned for it.
  ///   - kind: what its pages are; secret memory must be shared.
  ///   - placement: fixed addresses must be page aligned.
  /// - Returns: the first address.
  /// - Throws: EINVAL for a length, address or folio size that makes no sense, or
  ///   for folios of a shared mapping, EEXIST when
  ///   a fixed address belongs to something else in this process, ENOMEM when
  ///   there is no room, EAGAIN when more would be locked than the limit
  ///   allows, ESRCH after `exit`. Nothing has changed then, but that
  ///   what stood at a `.fixed` place is gone when the host refuses the mapping.
  /// - Complexity: O(log areas), a few host calls.
  public func map(
    length: ByteCount, protection: Protection = .readWrite, sharing: Sharing = .private,
    folios: FolioSize = .base, of kind: MemoryKind = .ordinary,
    at placement: Placement = .anywhere
  ) throws(MemoryError) -> UserAddress {
    let rounded = try AddressSpace.checkMapping(length, protection, placement)
    let wish = try folios.areaFlags()
    guard sharing == .private || wish.isEmpty else {
      throw MemoryError(.invalid, .anonymousOnly, folios.pageCount.rawValue)
    }
    var flags = AreaFlags(access: protection).union([.mayRead, .mayWrite, .mayExecute])
    flags.formUnion(wish)
    flags.insert(sharing == .shared ? .shared : .anonymous)
    flags.formUnion(try kind.flags(sharing))
    let start = try locked { mm throws(MemoryError) in
      try mm.map(length: rounded, flags: flags, placement: placement)
    }
    return UserAddress(start)
  }

  /// Unmaps every area, or part of one, in a range (munmap). Holes are fine.
  ///
  /// Does not wait for pins: a pinned page lives on, out of the program's reach
  /// (rule G5).
  /// - Throws: EINVAL for a misaligned start, a length that is not positive, or
  ///   a range outside user space; ENOMEM when an area cannot be split, nothing
  ///   has changed then.
  public func unmap(_ start: UserAddress, length: ByteCount) throws(MemoryError) {
    guard length.rawValue > 0 else {
      throw MemoryError(.invalid, .lengthNotPositive, length.rawValue)
    }
    let range = try AddressSpace.checkRange(start, length, beyond: .invalid)
    try locked { mm throws(MemoryError) in try mm.unmap(range.start, range.end) }
  }

  /// Changes the protection of a range (mprotect). A length of 0 does nothing.
  ///
  /// - Throws: EINVAL for a misaligned start, a negative length or unknown bits;
  ///   ENOMEM at the first address that is not mapped: as on Linux, the part
  ///   before it has changed.
  public func protect(
    _ start: UserAddress, length: ByteCount, _ protection: Protection
  ) throws(MemoryError) {
    guard length.rawValue >= 0 else {
      throw MemoryError(.invalid, .lengthNotPositive, length.rawValue)
    }
    guard protection.rawValue & ~7 == 0 else {
      throw MemoryError(.invalid, .protectionUnknown, Int(protection.rawValue))
    }
    guard length.rawValue > 0 else { return try AddressSpace.checkAligned(start) }
    let range = try AddressSpace.checkRange(start, length, beyond: .outOfMemory)
    try locked { mm throws(MemoryError) in try mm.protect(range.start, range.end, protection) }
  }

  /// Advises on a range (madvise). A length of 0 does nothing.
  ///
  /// - Throws: EINVAL for a misaligned start, a negative length or an advice
  ///   that does not fit an area; ENOMEM when part of the range is not mapped
  ///   (as on Linux, the rest has been advised) or memory ran out.
  public func advise(
    _ start: UserAddress, length: ByteCount, _ advice: Advice
  ) throws(MemoryError) {
    guard length.rawValue >= 0 else {
      throw MemoryError(.invalid, .lengthNotPositive, length.rawValue)
    }
    guard length.rawValue > 0 else { return try AddressSpace.checkAligned(start) }
    let range = try AddressSpace.checkRange(start, length, beyond: .invalid)
    try locked { mm throws(MemoryError) in try mm.advise(range.start, range.end, advice) }
  }

  /// Says what stores into untouched memory of a range bring in from now on
  /// (per-size transparent huge pages; `.huge` is MADV_HUGEPAGE). What is there
  /// stays as it is. A length of 0 does nothing.
  ///
  /// - Throws: EINVAL for a misaligned start, a negative length, an order outside
  ///   2...9, or an area that is not private and anonymous; ENOMEM when part of
  ///   the range is not mapped, with nothing changed, or an area cannot be split.
  public func advise(
    _ start: UserAddress, length: ByteCount, folios: FolioSize
  ) throws(MemoryError) {
    let wish = try folios.areaFlags()
    guard length.rawValue >= 0 else {
      throw MemoryError(.invalid, .lengthNotPositive, length.rawValue)
    }
    guard length.rawValue > 0 else { return try AddressSpace.checkAligned(start) }
    let range = try AddressSpace.checkRange(start, length, beyond: .invalid)
    try locked { mm throws(MemoryError) in try mm.advise(range.start, range.end, folios: wish) }
  }

  /// Makes the large folio behind an address single pages, if it is one
  /// (split_folio). Pages of it that nothing maps any more are freed.
  ///
  /// - Throws: EFAULT where no page is; EAGAIN when anybody but the folio's
  ///   mappings holds it, pins or references, and when an address space that shows
  ///   it is busy, or another process's; nothing has changed then.
  /// - Complexity: O(pages of the folio x address spaces that show it); where mremap
  ///   has moved some, O(pages mapped in the machine).
  public func splitFolio(at address: UserAddress) throws(MemoryError) {
    try locked { mm throws(MemoryError) in
      try mm.splitFolio(at: address.rawValue & ~UInt64(pageSize - 1))
    }
  }

  // MARK: - The program's side

  /// The program's own pointer for a user address. Loads and stores through it
  /// fault as they would in a process of this address space. Where nothing was
  /// ever mapped it is the address itself.
  public func pointer(at address: UserAddress) -> UnsafeMutableRawPointer {
    var host = address.rawValue
    if mm.isOwn {
      mm.lock()
      host = mm.hostAddress(of: host) ?? host
      mm.unlock()
    }
    return unsafe UnsafeMutableRawPointer(bitPattern: UInt(max(host, 1)))!
  }

  // MARK: - Observation

  /// The page that the page table has at an address, the zero page and pages
  /// under PROT_NONE included; nil where there is none.
  public func page(at address: UserAddress) -> Page? {
    guard mm.isOwn else { return nil }
    mm.lock()
    defer { mm.unlock() }
    let value = mm.value(at: address.rawValue)
    return MM.holdsPage(value) ? mm.machine.page(MM.frame(of: value)) : nil
  }

  /// Would a store through the page table at this address pass without a fault?
  public func isWritable(at address: UserAddress) -> Bool {
    guard mm.isOwn else { return false }
    let value = mm.value(at: address.rawValue)
    return value & CSHIMS_PTE_PRESENT != 0 && value & CSHIMS_PTE_WRITE != 0
  }

  /// One area as it was when asked.
  public struct AreaInfo: Equatable, Sendable {
    public let range: UserRange
    public let protection: Protection
    public let sharing: Sharing
    public let flags: AreaFlags
  }

  /// The areas in address order, each as it was when it was looked at.
  /// - Complexity: O(areas · log areas).
  public var areas: [AreaInfo] {
    var list: [AreaInfo] = []
    var address = UserAddress(0)
    while let area = area(atOrAfter: address) {
      // The list grows outside the lock: malloc's memory may belong to an
      // address space, and touching it may need the lock.
      list.append(area)
      address = area.range.end
    }
    return list
  }

  /// The area that an address lies in, or the next one up (find_vma).
  /// - Complexity: O(log areas).
  public func area(atOrAfter address: UserAddress) -> AreaInfo? {
    guard mm.isOwn else { return nil }
    mm.lock()
    defer { mm.unlock() }
    let found = unsafe mm.state.pointee.areas.first(atOrAfter: address.rawValue)
    guard let area = unsafe found?.pointee.payload else { return nil }
    return AreaInfo(
      range: UserRange(start: UserAddress(area.start), end: UserAddress(area.end)),
      protection: area.protection, sharing: area.flags.contains(.shared) ? .shared : .private,
      flags: area.flags)
  }

  /// An upper bound of the host mappings that this address space's view has now
  /// (design decision 6). - Complexity: O(1).
  public var hostMappingCount: Int {
    guard mm.isOwn else { return 0 }
    mm.lock()
    defer { mm.unlock() }
    return unsafe mm.state.pointee.view.mappings
  }

  // MARK: - Checks

  /// Runs `body` under the mmap lock, unless the address space has exited or is
  /// another process's.
  func locked<Value>(
    _ body: (MM) throws(MemoryError) -> Value
  ) throws(MemoryError) -> Value {
    guard mm.isOwn else { throw mm.otherProcess }
    mm.lock()
    defer { mm.unlock() }
    if mm.hasExited { throw MemoryError(.noSuchProcess, .exited) }
    return try body(mm)
  }

  /// Checks what every kind of mapping takes; returns the length in whole pages.
  static func checkMapping(
    _ length: ByteCount, _ protection: Protection, _ placement: Placement
  ) throws(MemoryError) -> UInt64 {
    guard length.rawValue > 0 else {
      throw MemoryError(.invalid, .lengthNotPositive, length.rawValue)
    }
    guard UInt64(length.rawValue) <= CSHIMS_TASK_SIZE else {
      throw MemoryError(.outOfMemory, .lengthTooLarge, length.rawValue)
    }
    guard protection.rawValue & ~7 == 0 else {
      throw MemoryError(.invalid, .protectionUnknown, Int(protection.rawValue))
    }
    let rounded = UInt64(length.rawValue + 4095) & ~4095
    switch placement {
    case .fixed(let address), .fixedNoReplace(let address):
      try AddressSpace.checkAligned(address)
      guard address.rawValue > 0, rounded <= CSHIMS_TASK_SIZE,
        address.rawValue <= CSHIMS_TASK_SIZE - rounded
      else { throw MemoryError(.outOfMemory, .addressOutsideUserSpace, address) }
    case .anywhere, .hint:
      break
    }
    return rounded
  }

  private static func checkAligned(_ address: UserAddress) throws(MemoryError) {
    guard address.isPageAligned else {
      throw MemoryError(.invalid, .addressMisaligned, address)
    }
  }

  /// The page-aligned range of `length` bytes, rounded up to whole pages.
  static func checkRange(
    _ start: UserAddress, _ length: ByteCount, beyond: ErrorNumber
  ) throws(MemoryError) -> (start: UInt64, end: UInt64) {
    try checkAligned(start)
    let (end, wraps) = start.rawValue.addingReportingOverflow(
      (UInt64(length.rawValue) + 4095) & ~4095)
    guard !wraps else { throw MemoryError(beyond, .rangeWraps, length.rawValue) }
    guard end <= CSHIMS_TASK_SIZE else {
      throw MemoryError(beyond, .addressOutsideUserSpace, start)
    }
    return (start.rawValue, end)
  }
}
