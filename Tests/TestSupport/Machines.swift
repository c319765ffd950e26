//===----------------------------------------------------------------------===//
// A machine for a test: small, its own, and held to account at the end. What a
// test took must have been given back, or the test fails.
//===----------------------------------------------------------------------===//

public import AddressSpaces
internal import CShims
public import PageFrames

#if canImport(Glibc)
  import Glibc
#endif

extension TrapTier {
  /// The tiers that trap native loads and stores on this host.
  public static let testable: [TrapTier] = {
    let report = unsafe cshims_userfaultfd_probe()
    if unsafe report.error == 0 { return [.userfaultfd, .sigsegv] }
    let step = unsafe report.failed_step.map { unsafe String(cString: $0) } ?? "userfaultfd"
    print("tier userfaultfd is not tested here: \(step) says errno \(unsafe report.error)")
    return [.sigsegv]
  }()

  /// Those, and the tier that sees explicit faults only.
  public static let all: [TrapTier] = testable + [.none]
}

/// What a machine's books say.
public struct Account: Equatable, CustomStringConvertible, Sendable {
  public let freeFrames: Int
  public let arenaBytes: Int
  public let outstandingPins: Int
  public let outstandingReferences: Int

  public init(_ memory: PhysicalMemory) {
    let counters = memory.counters
    freeFrames = memory.freeFrameCount.rawValue
    arenaBytes = memory.machine.arena.bytesInUse
    outstandingPins = counters.pinsAcquired - counters.pinsReleased
    outstandingReferences = counters.referencesAcquired - counters.referencesReleased
  }

  public var description: String {
    "\(freeFrames) free frames, \(arenaBytes) arena bytes, \(outstandingPins) pins and"
      + " \(outstandingReferences) references outstanding"
  }
}

/// Runs `body` with a machine of its own and throws when, after it, frames,
/// arena bytes, pins or references are not back where they began. Address spaces
/// that `body` makes must be gone when it returns.
@discardableResult
public func withMachine<R>(
  capacity: ByteCount = .mebibytes(16), tier: TrapTier = .none, budget: Int? = nil,
  _ body: (PhysicalMemory) throws -> R
) throws -> R {
  let memory = try PhysicalMemory(
    capacity: capacity, trapTier: tier, hostMappingBudget: budget)
  let before = Account(memory)
  let result = try body(memory)
  let after = Account(memory)
  guard after == before else {
    throw Mismatch(description: "the machine began with \(before) and ended with \(after)")
  }
  return result
}

/// The same with one address space, which has gone when the books are looked at.
@discardableResult
public func withAddressSpace<R>(
  capacity: ByteCount = .mebibytes(16), tier: TrapTier, budget: Int? = nil,
  _ body: (AddressSpace) throws -> R
) throws -> R {
  try withMachine(capacity: capacity, tier: tier, budget: budget) { memory in
    try withExtendedLifetime(AddressSpace(memory: memory)) { space in try body(space) }
  }
}

extension AddressSpace {
  /// The program's own load.
  public func load(_ address: UserAddress) -> UInt8 {
    unsafe pointer(at: address).load(as: UInt8.self)
  }
  /// The program's own store.
  public func store(_ value: UInt8, at address: UserAddress) {
    unsafe pointer(at: address).storeBytes(of: value, as: UInt8.self)
  }
  /// The program's own load of eight bytes.
  public func loadWord(_ address: UserAddress) -> UInt64 {
    unsafe pointer(at: address).load(as: UInt64.self)
  }
  /// The program's own store of eight bytes.
  public func storeWord(_ value: UInt64, at address: UserAddress) {
    unsafe pointer(at: address).storeBytes(of: value, as: UInt64.self)
  }

  /// copy_to_user of an array.
  public func write(_ bytes: [UInt8], to address: UserAddress) throws(MemoryError) {
    let source = UnsafeMutableRawBufferPointer.allocate(byteCount: bytes.count, alignment: 16)
    defer { unsafe source.deallocate() }
    unsafe source.copyBytes(from: bytes)
    try unsafe copyToUser(address, from: UnsafeRawBufferPointer(source))
  }
  /// copy_from_user of `count` bytes.
  public func read(_ count: Int, at address: UserAddress) throws(MemoryError) -> [UInt8] {
    let target = UnsafeMutableRawBufferPointer.allocate(byteCount: count, alignment: 16)
    defer { unsafe target.deallocate() }
    try unsafe copyFromUser(target, from: address)
    return unsafe [UInt8](target)
  }

  /// Touches every page of a range for writing, as the tier allows it.
  public func writeEveryPage(_ start: UserAddress, _ count: Int, _ value: UInt8) throws {
    for i in 0..<count { try write([value], to: start + .pages(i)) }
  }

  /// What the frame under an address holds, without a fault; nil when absent.
  public func peek(_ address: UserAddress) -> UInt8? {
    guard let page = page(at: address) else { return nil }
    return unsafe page.bytes[address.pageOffset]
  }
}

extension AddressSpace {
  /// Host address space that nobody has now, though another thread may be quicker.
  public static func freeHostAddress(pages: Int) -> UserAddress {
    var base: UInt64 = 0
    let length = UInt64(pages) << 12
    let failure = unsafe cshims_reserve(0, length, &base)
    precondition(failure == 0, "no address space for a test: errno \(failure)")
    _ = cshims_unmap(base, length)
    return UserAddress(base)
  }

  /// Host mappings that overlap a range now.
  public static func hostMappings(_ start: UserAddress, pages: Int) -> Int {
    var count: UInt64 = 0
    _ = unsafe cshims_mapping_count_in(
      start.rawValue, start.rawValue + UInt64(pages) << 12, &count)
    return Int(count)
  }
}
