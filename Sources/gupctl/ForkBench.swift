//===----------------------------------------------------------------------===//
// What fork costs: a populated address space, beside the least that it can be
// (the host's write-protection of as much memory, and a C loop that copies as
// many entries and counts their pages), and beside the host's own fork(2).
//===----------------------------------------------------------------------===//

import CShims
import HostKernel
import SwiftGUP

/// 64 MiB of pages that are present, writable, and nobody else's.
final class ForkBench {
  static let pages = 1 << 14
  static let name = "fork-64m"

  private let space: AddressSpace
  private let start: UserAddress

  init(trap: TrapTier) throws {
    let size = PageCount(Self.pages).byteCount
    do throws(MemoryError) {
      space = try AddressSpace(memory: PhysicalMemory(trapTier: trap))
      start = try space.map(length: size)
      try space.advise(start, length: size, .populateWrite)
    } catch {
      throw Failure("\(Self.name): no such buffer: \(error)")
    }
  }

  /// - Parameter progress: called after each round with the rounds done.
  func measure(rounds: Int, progress: (Int) -> Void) throws -> BenchRow {
    let ours = ForkContender(space, start)
    let columns = try takeTurns(
      [
        { ours }, { [space, start] in try ForkRoofline(space, start) },
        { try HostForkContender() },
      ], pages: Self.pages, rounds: rounds, progress: progress)
    return BenchRow(
      Self.name, pages: Self.pages, \.take, ours: columns[0], floor: columns[1], host: columns[2],
      hostCalls: ours.hostCalls)
  }
}

/// Forks, and lets the child exit.
final class ForkContender: Contender {
  private let space: AddressSpace
  private let start: UserAddress
  private var child: AddressSpace?
  /// Host calls of the last fork.
  private(set) var hostCalls = 0
  let blockLimit = 1

  init(_ space: AddressSpace, _ start: UserAddress) {
    self.space = space
    self.start = start
  }

  func take(_ count: Int) throws {
    let before = space.memory.counters.hostCalls
    child = try space.fork()
    hostCalls = space.memory.counters.hostCalls - before
  }

  func give(_ count: Int) {
    child?.exit()
    child = nil
  }

  /// Every page becomes the parent's own again.
  func reset(_ count: Int) throws {
    try space.advise(start, length: PageCount(ForkBench.pages).byteCount, .populateWrite)
  }
}

/// mprotect(2) of as much of the host's memory, and the C loop.
@safe final class ForkRoofline: Contender {
  private let space: AddressSpace
  private let start: UserAddress
  private let host: HostBuffer
  private let copy: UnsafeMutablePointer<cshims_pte>
  let blockLimit = 1

  init(_ space: AddressSpace, _ start: UserAddress) throws(HostError) {
    self.space = space
    self.start = start
    host = try HostBuffer(byteCount: PageCount(ForkBench.pages).byteCount.rawValue)
    unsafe copy = .allocate(capacity: ForkBench.pages)
    unsafe copy.initialize(repeating: cshims_pte(), count: ForkBench.pages)
  }

  deinit { unsafe copy.deallocate() }

  private func protect(_ protection: cshims_protection) throws {
    let base = unsafe UInt64(UInt(bitPattern: host.bytes.baseAddress))
    let error = cshims_protect(base, UInt64(host.byteCount), protection)
    guard error == 0 else { throw Failure("mprotect failed with errno \(error).") }
  }

  private var descriptors: UnsafeMutablePointer<cshims_page>? {
    unsafe space.mm.hot.pointee.machine.pointee.pages
  }

  func take(_ count: Int) throws {
    try protect(CSHIMS_PROT_READ)
    let copied = unsafe cshims_roofline_fork(
      space.mm.hot.pointee.pgd, start.rawValue, ForkBench.pages, descriptors, copy)
    guard copied == ForkBench.pages else { throw Failure("the C loop copied \(copied) pages.") }
  }

  func give(_ count: Int) throws {
    unsafe cshims_roofline_unfork(copy, ForkBench.pages, descriptors)
    try protect(CSHIMS_PROT_READ_WRITE)
  }
}

/// fork(2) of this process, with as much private memory in it.
final class HostForkContender: Contender {
  private let buffer: HostBuffer
  private var child: HostChild?
  let blockLimit = 1

  init() throws(HostError) {
    buffer = try HostBuffer(byteCount: PageCount(ForkBench.pages).byteCount.rawValue)
  }

  func take(_ count: Int) throws { child = try HostChild() }

  func give(_ count: Int) {
    if let child = child.take() { child.wait() }
  }

  /// Every page becomes this process's own again.
  func reset(_ count: Int) throws {
    let error = unsafe cshims_populate_write(buffer.bytes.baseAddress, UInt64(buffer.byteCount))
    guard error == 0 else { throw Failure("populating memory failed with errno \(error).") }
  }
}
