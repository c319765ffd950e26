//===----------------------------------------------------------------------===//
// The scenarios. Those that end the process print "about to end" first, so that
// an earlier end is noticed.
//===----------------------------------------------------------------------===//

import AddressSpaces
import CShims
import CTrapHelper
import Glibc
import PageFrames
import TestSupport

enum Scenario: String, CaseIterable {
  // These end by a signal.
  case storeReadOnly, storeReadOnlyUntouched, loadNone, wildPointer, besideAnArea, afterUnmap
  case afterExit, poolExhausted, absentWithoutTrap, writeAfterReadWithoutTrap
  case putOfFree, unpinOfReference, putOfZeroPage
  // These end well.
  case ownHandler, ownHandlerBus, systemCalls, leftovers, roomIsGivenBack, smallBudget, gibibyte
  // Adoption of the program's own memory.
  case adoptStores, adoptTransfers, adoptAllocations, adoptArena, adoptFork, adoptForkPinned
  case adoptRawFork, adoptRefusals, adoptStatic, adoptFree, adoptHoles, adoptOwnObjects
  case adoptDescriptors

  func run(_ tier: TrapTier) throws {
    switch self {
    case .storeReadOnly: try Ends.storeReadOnly(tier, touched: true)
    case .storeReadOnlyUntouched: try Ends.storeReadOnly(tier, touched: false)
    case .loadNone: try Ends.loadNone(tier)
    case .wildPointer: try Ends.wildPointer(tier)
    case .besideAnArea: try Ends.besideAnArea(tier)
    case .afterUnmap: try Ends.afterUnmap(tier)
    case .afterExit: try Ends.afterExit(tier)
    case .poolExhausted: try Ends.poolExhausted(tier)
    case .absentWithoutTrap: try Ends.absent(tier)
    case .writeAfterReadWithoutTrap: try Ends.writeAfterRead(tier)
    case .putOfFree: try Ends.putOfFree()
    case .unpinOfReference: try Ends.unpinOfReference()
    case .putOfZeroPage: try Ends.putOfZeroPage()
    case .ownHandler: try OwnHandler.segmentationFaults(tier)
    case .ownHandlerBus: try OwnHandler.busErrors(tier)
    case .systemCalls: try Host.systemCalls(tier)
    case .leftovers: try Host.leftovers(tier)
    case .roomIsGivenBack: try Host.roomIsGivenBack(tier)
    case .smallBudget: try fragment(tier, mebibytes: 32, budget: 1000)
    case .gibibyte: try fragment(tier, mebibytes: 1024, budget: nil)
    case .adoptStores: try Adoption.stores(tier)
    case .adoptTransfers: try Adoption.transfers(tier)
    case .adoptAllocations: try Adoption.allocations(tier)
    case .adoptArena: try Adoption.arena(tier)
    case .adoptFork: try Adoption.fork(tier)
    case .adoptForkPinned: try Adoption.forkPinned(tier)
    case .adoptRawFork: try Adoption.rawFork(tier)
    case .adoptRefusals: try Adoption.refusals(tier)
    case .adoptStatic: try Adoption.staticArray(tier)
    case .adoptHoles: try Adoption.holes(tier)
    case .adoptFree: try Adoption.free(tier)
    case .adoptOwnObjects: try Adoption.ownObjects(tier)
    case .adoptDescriptors: try Adoption.withoutDescriptors(tier)
    }
  }
}

/// Scenarios whose last touch ends the process.
enum Ends {
  static func space(_ tier: TrapTier, pages: Int = 64) throws -> AddressSpace {
    try AddressSpace(memory: PhysicalMemory(capacity: .pages(pages), trapTier: tier))
  }

  static func storeReadOnly(_ tier: TrapTier, touched: Bool) throws {
    let space = try space(tier)
    let start = try space.map(length: .pages(4))
    if touched { space.store(1, at: start + .pages(2)) }
    try space.protect(start, length: .pages(4), .readOnly)
    check(space.load(start + .pages(2)) == (touched ? 1 : 0))
    aboutToEnd()
    space.store(2, at: start + .pages(2))
  }

  static func loadNone(_ tier: TrapTier) throws {
    let space = try space(tier)
    let start = try space.map(length: .pages(4), protection: .none)
    aboutToEnd()
    _ = space.load(start)
  }

  static func wildPointer(_ tier: TrapTier) throws {
    let space = try space(tier)
    let start = try space.map(length: .pages(4))
    space.store(1, at: start)
    aboutToEnd()
    unsafe UnsafeMutablePointer<UInt8>(bitPattern: 0x10)!.pointee = 1
  }

  static func besideAnArea(_ tier: TrapTier) throws {
    let space = try space(tier)
    let start = try space.map(length: .pages(4))
    space.store(1, at: start + .pages(3))
    aboutToEnd()
    _ = space.load(start + .pages(4))
  }

  static func afterUnmap(_ tier: TrapTier) throws {
    let space = try space(tier)
    let start = try space.map(length: .pages(4))
    space.store(1, at: start + .pages(1))
    try space.unmap(start + .pages(1), length: .pages(1))
    check(space.load(start) == 0)
    aboutToEnd()
    _ = space.load(start + .pages(1))
  }

  static func afterExit(_ tier: TrapTier) throws {
    let space = try space(tier)
    let start = try space.map(length: .pages(4))
    space.store(1, at: start)
    let pointer = unsafe space.pointer(at: start).assumingMemoryBound(to: UInt8.self)
    space.exit()
    aboutToEnd()
    unsafe pointer.pointee = 2
  }

  static func poolExhausted(_ tier: TrapTier) throws {
    let space = try space(tier, pages: 4)
    let start = try space.map(length: .pages(8))
    for i in 0..<4 { space.store(1, at: start + .pages(i)) }
    check(space.load(start + .pages(5)) == 0)
    aboutToEnd()
    space.store(1, at: start + .pages(6))
  }

  static func absent(_ tier: TrapTier) throws {
    let space = try space(tier)
    let start = try space.map(length: .pages(8))
    try space.write([7], to: start)
    // What explicit faults brought in can be touched.
    check(space.load(start) == 7)
    space.store(8, at: start)
    check(space.peek(start) == 8)
    aboutToEnd()
    _ = space.load(start + .pages(1))
  }

  static func writeAfterRead(_ tier: TrapTier) throws {
    let space = try space(tier)
    let start = try space.map(length: .pages(8))
    check(try space.read(1, at: start) == [0])
    check(space.load(start) == 0)
    aboutToEnd()
    space.store(1, at: start)
  }

  static func putOfFree() throws {
    let memory = try PhysicalMemory(capacity: .pages(64))
    let page = try memory.allocatePage()
    page.put()
    print("frame \(page.frameNumber.rawValue)")
    aboutToEnd()
    page.put()
  }

  static func unpinOfReference() throws {
    let memory = try PhysicalMemory(capacity: .pages(64))
    let page = try memory.allocatePage()
    print("frame \(page.frameNumber.rawValue)")
    aboutToEnd()
    page.release(.pin)
  }

  static func putOfZeroPage() throws {
    let memory = try PhysicalMemory(capacity: .pages(64))
    aboutToEnd()
    memory.zeroPage.put()
  }
}

/// The program has fault handlers of its own, installed before ours.
enum OwnHandler {
  static func store(_ space: AddressSpace, _ address: UserAddress) -> traphelper_fault {
    unsafe traphelper_store(space.pointer(at: address), 1)
  }
  static func load(_ space: AddressSpace, _ address: UserAddress) -> traphelper_fault {
    var value: UInt8 = 0
    return unsafe traphelper_load(space.pointer(at: address), &value)
  }

  private static let mapError: Int32 = 1
  private static let accessError: Int32 = 2

  static func segmentationFaults(_ tier: TrapTier) throws {
    check(traphelper_install_handler() == 0)
    do {
      let space = try Ends.space(tier)
      check(tier == .none || traphelper_handler_stands() == 0)
      let start = try space.map(length: .pages(8))
      try space.write([1], to: start + .pages(1))
      check(store(space, start + .pages(1)).signal == 0)
      try space.protect(start, length: .pages(8), .readOnly)
      for round in 0..<3 {
        let at = start + .pages(1) + 5
        let fault = store(space, at)
        check(fault.signal == SIGSEGV && fault.address == at.rawValue, "round \(round): \(fault)")
        check(fault.code == accessError, "code \(fault.code)")
        check(load(space, at).signal == 0)
      }
      try space.protect(start, length: .pages(8), .none)
      check(load(space, start + .pages(1)).signal == SIGSEGV)
      check(load(space, start + .pages(6)).address == (start + .pages(6)).rawValue)
      try space.protect(start, length: .pages(8), .readWrite)
      check(store(space, start + .pages(1)).signal == 0)
      check(space.peek(start + .pages(1)) == 1)
      // Where no area is, and where nothing of ours is at all.
      try space.unmap(start + .pages(3), length: .pages(1))
      check(store(space, start + .pages(3)).address == (start + .pages(3)).rawValue)
      _ = try space.map(length: .pages(1), at: .fixed(start + .pages(3)))
      try space.write([1], to: start + .pages(3))
      check(store(space, start + .pages(3)).signal == 0)
      let wild = unsafe traphelper_store(UnsafeMutableRawPointer(bitPattern: 0x18)!, 1)
      check(wild.signal == SIGSEGV && wild.address == 0x18 && wild.code == mapError)
    }
    // The last machine has gone, and with it our handler.
    check(traphelper_handler_stands() != 0)
  }

  static func busErrors(_ tier: TrapTier) throws {
    check(traphelper_install_handler() == 0)
    let space = try Ends.space(tier, pages: 4)
    let start = try space.map(length: .pages(8))
    for i in 0..<4 { check(store(space, start + .pages(i)).signal == 0) }
    for round in 0..<3 {
      let at = start + .pages(5) + 9
      let fault = store(space, at)
      check(fault.signal == SIGBUS, "round \(round): \(fault)")
      check(fault.address == at.rawValue, "address \(fault.address)")
    }
    try space.advise(start, length: .pages(1), .dontNeed)
    check(store(space, start + .pages(5)).signal == 0)
    check(space.peek(start + .pages(5)) == 1)
    check(store(space, start).signal == SIGBUS)
  }
}

/// What the host has and does, process-wide.
enum Host {
  /// read(2) into absent memory and write(2) from it.
  static func systemCalls(_ tier: TrapTier) throws {
    let space = try Ends.space(tier)
    let start = try space.map(length: .pages(8))
    var first: UInt8 = 0xff
    let into = unsafe traphelper_read_into(space.pointer(at: start + .pages(1)), 4096, 0x5c)
    let from = unsafe traphelper_write_from(space.pointer(at: start + .pages(3)), 4096, &first)
    let isServed = unsafe tier == .userfaultfd && cshims_userfaultfd_probe().serves_kernel
    check(into == (isServed ? 0 : EFAULT), "read(2) said \(into)")
    check(from == (isServed ? 0 : EFAULT), "write(2) said \(from)")
    if isServed {
      check(space.load(start + .pages(1) + 4095) == 0x5c && first == 0)
      check(space.page(at: start + .pages(3))?.isZeroPage == true)
    }
    // What is there, writable, serves system calls in every tier.
    try space.writeEveryPage(start, 8, 0x11)
    if tier != .none { for i in 0..<8 { space.store(0x11, at: start + .pages(i)) } }
    check(unsafe traphelper_read_into(space.pointer(at: start + .pages(2)), 4096, 0x6d) == 0)
    check(space.peek(start + .pages(2) + 4095) == 0x6d)
    check(unsafe traphelper_write_from(space.pointer(at: start + .pages(2)), 4096, &first) == 0)
    check(first == 0x6d)
  }

  /// Machines that have gone leave no mapping and no descriptor.
  static func leftovers(_ tier: TrapTier) throws {
    func round(_ i: Int) throws {
      let memory = try PhysicalMemory(capacity: .mebibytes(4 + i % 7), trapTier: tier)
      let space = try AddressSpace(memory: memory)
      let start = try space.map(length: .pages(100))
      try space.writeEveryPage(start, 20, 1)
      if tier != .none { space.store(1, at: start + .pages(70)) }
      let shared = try space.map(length: .pages(10), sharing: .shared)
      try space.writeEveryPage(shared, 3, 1)
      let page = try memory.allocatePage(order: i % 5)
      page.put()
    }
    func mappings() -> UInt64 {
      var count: UInt64 = 0
      _ = unsafe cshims_mapping_count(&count)
      return count
    }
    // The first ones make what the process keeps: buffers, a thread's stack.
    for i in 0..<20 { try round(i) }
    let before = (mappings(), traphelper_descriptors())
    for i in 0..<300 { try round(i) }
    let after = (mappings(), traphelper_descriptors())
    check(after.1 == before.1, "descriptors: \(before.1), then \(after.1)")
    // One a machine would be 300; the C library may keep an arena more.
    check(after.0 < before.0 + 30, "mappings: \(before.0), then \(after.0)")
    for capacity in [0, -4096, 4097, 1 << 41] {
      let machine = try? PhysicalMemory(capacity: ByteCount(capacity), trapTier: tier)
      check(machine == nil)
    }
    check(traphelper_descriptors() == before.1)
  }

  /// A fixed map that meets somebody else's page half-way leaves what is free free.
  static func roomIsGivenBack(_ tier: TrapTier) throws {
    let space = try Ends.space(tier)
    let probe = ZeroedMemory(byteCount: 8 * 4096)
    let base = unsafe UInt64(UInt(bitPattern: probe.base))
    check(cshims_unmap(base, 2 * 4096) == 0 && cshims_unmap(base + 3 * 4096, 4096) == 0)
    do {
      _ = try space.map(length: .pages(6), at: .fixed(UserAddress(base)))
      check(false, "EEXIST")
    } catch {
      check(error.number == .exists && error.reason == .addressTaken, "\(error)")
    }
    for (page, count) in [(0, 2), (3, 1)] as [(UInt64, UInt64)] {
      var stranger: UInt64 = 0
      check(unsafe cshims_reserve(base + page * 4096, count * 4096, &stranger) == 0)
      check(cshims_unmap(base + page * 4096, count * 4096) == 0)
    }
    unsafe probe.base.storeBytes(of: 1, toByteOffset: 5 * 4096, as: UInt8.self)
  }
}
