//===----------------------------------------------------------------------===//
// Design decision 8: memory that the program already has becomes pages where it
// stands, and plain memory again. Here with memory of the test's own; what malloc,
// threads and fork(2) do to it is tried in a process of its own.
//===----------------------------------------------------------------------===//

import AddressSpaces
import CShims
import Events
import Glibc
import PageFrames
import TestSupport
import Testing

/// Private anonymous memory with a byte of its own on each page.
@safe struct OwnMemory: ~Copyable {
  let base: UnsafeMutableRawPointer
  let pages: Int
  /// The page that the test unmaps: another thread's mapping may stand there since.
  let hole: Int?

  init(pages: Int, hole: Int? = nil) throws {
    self.hole = hole
    var memory: UnsafeMutableRawPointer?
    try #require(unsafe cshims_anonymous(UInt64(pages) << 12, &memory) == 0)
    unsafe base = memory!
    self.pages = pages
    for page in 0..<pages { self[page * 4096 + 7] = UInt8(truncatingIfNeeded: page + 1) }
  }

  deinit {
    let hole = hole ?? pages
    unsafe munmap(base, hole << 12)
    if hole + 1 < pages { unsafe munmap(base + (hole + 1) << 12, (pages - hole - 1) << 12) }
  }

  var start: UserAddress { unsafe UserAddress(UInt64(UInt(bitPattern: base))) }
  var length: ByteCount { .pages(pages) }

  subscript(offset: Int) -> UInt8 {
    get { unsafe base.load(fromByteOffset: offset, as: UInt8.self) }
    nonmutating set { unsafe base.storeBytes(of: newValue, toByteOffset: offset, as: UInt8.self) }
  }

  /// Pages whose byte is not what it was.
  func changed() -> [Int] {
    (0..<pages).filter { self[$0 * 4096 + 7] != UInt8(truncatingIfNeeded: $0 + 1) }
  }

  /// Is it one private mapping of the program's, or several?
  var isPrivate: Bool {
    cshims_is_private(start.rawValue, start.rawValue + UInt64(pages) << 12)
  }
}

@Suite("Adoption of the program's memory")
struct AdoptionTests {
  @Test(
    "decision 8: adopted memory has the same bytes at the same address, faults, forks and is given back",
    arguments: TrapTier.testable)
  func inAndBack(tier: TrapTier) throws {
    let own = try OwnMemory(pages: 600)
    try withAddressSpace(tier: tier) { space in
      for round in 0..<3 {
        let adopted = try unsafe space.adopt(own.base + 5, length: own.length - 9)
        #expect(adopted.pages == UserRange(start: own.start, length: own.length))
        #expect(adopted.buffer.length == own.length - 9 && adopted.pages.pageCount == 600)
        #expect(own.changed() == [] && !own.isPrivate)
        #expect(space.areas.map(\.flags) == [space.areas[0].flags])
        #expect(space.areas[0].flags.isSuperset(of: [.anonymous, .adopted, .read, .write]))
        #expect(space.peek(own.start + 4096 + 7) == 2 && space.isWritable(at: own.start))
        // The frame is what the program stores into.
        own[9] = UInt8(round)
        #expect(space.peek(own.start + 9) == UInt8(round))
        let child = try space.fork()
        own[9] = 0xee
        own[599 * 4096] = 1
        #expect(
          child.load(own.start + 9) == UInt8(round) && child.load(own.start + .pages(599)) != 1)
        #expect(child.areas.allSatisfy { !$0.flags.contains(.adopted) })
        own[599 * 4096] = 0
        child.exit()
        try space.release(adopted)
        #expect(own.changed() == [] && own.isPrivate && own[9] == 0xee)
        #expect(space.areas.isEmpty && space.hostMappingCount == 0)
      }
    }
  }

  @Test(
    "decision 8: whatever fails at its n-th passage, adoption and release change nothing",
    arguments: TrapTier.testable,
    [FailurePoint.frameAllocation, .metadataAllocation, .hostMapping])
  func failNth(tier: TrapTier, point: FailurePoint) throws {
    let own = try OwnMemory(pages: 20)
    try withAddressSpace(tier: tier) { space in
      // Page tables stay as long as the address space.
      let before = space.memory.freeFrameCount
      var failures = 0
      for n in 1...200 {
        space.memory.arm(point, countdown: n)
        defer { space.memory.arm(point, countdown: 0) }
        do {
          let adopted = try unsafe space.adopt(own.base, length: own.length)
          do { try space.release(adopted) } catch {
            failures += 1
            #expect(own.changed() == [] && space.areas.count == 1)
            space.memory.arm(point, countdown: 0)
            try space.release(adopted)
            continue
          }
          if space.memory.failures(of: point) == 0 { break }
        } catch {
          failures += 1
        }
        #expect(own.changed() == [] && own.isPrivate && space.areas.isEmpty)
        #expect(space.memory.freeFrameCount == before)
        own[8] = UInt8(n)
      }
      #expect(failures > 0)
      #expect(space.memory.freeFrameCount == before)
    }
  }

  @Test(
    "decision 8: exit gives adopted memory back with its bytes and protections",
    arguments: TrapTier.testable)
  func atExit(tier: TrapTier) throws {
    let own = try OwnMemory(pages: 12, hole: 8)
    try withMachine(tier: tier) { memory in
      let space = try AddressSpace(memory: memory)
      _ = try unsafe space.adopt(own.base, length: own.length)
      try space.protect(own.start + .pages(2), length: .pages(2), .readOnly)
      try space.advise(own.start + .pages(4), length: .pages(1), .dontNeed)
      try space.unmap(own.start + .pages(8), length: .pages(1))
      #expect(own[3 * 4096 + 7] == 4 && own[4 * 4096 + 7] == 0)
      let child = try space.fork()
      own[5 * 4096 + 7] = 99
      space.exit()
      #expect(child.load(own.start + .pages(5) + 7) == 6)
      child.exit()
    }
    #expect(own[7] == 1 && own[3 * 4096 + 7] == 4 && own[4 * 4096 + 7] == 0)
    #expect(own[5 * 4096 + 7] == 99 && own[11 * 4096 + 7] == 12)
    #expect(!cshims_is_accessible(own.start.rawValue + 2 * 4096, true))
    #expect(cshims_is_accessible(own.start.rawValue + 9 * 4096, true))
  }

  @Test(
    "decision 8: what the program has mapped over adopted memory stays its own when the host refuses a change beside it",
    arguments: TrapTier.testable)
  func mappedOver(tier: TrapTier) throws {
    let own = try OwnMemory(pages: 20)
    try withAddressSpace(tier: tier) { space in
      _ = try unsafe space.adopt(own.base, length: own.length)
      let flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED
      let mapped = unsafe mmap(own.base, 4096, PROT_READ | PROT_WRITE, flags, -1, 0)
      try #require(unsafe mapped == own.base)
      own[7] = 77
      space.memory.arm(.hostMapping, countdown: 1)
      try space.protect(own.start + .pages(10), length: .pages(1), .readOnly)
      #expect(space.memory.failures(of: .hostMapping) == 1)
      #expect(own.changed() == [0] && own[7] == 77)
      #expect(space.lostAdoptionCount == 1 && space.areas.isEmpty)
      #expect(!cshims_is_accessible(own.start.rawValue + 10 * 4096, true))
    }
  }

  @Test("decision 8: nothing is mapped over adopted memory", arguments: TrapTier.testable)
  func mapOver(tier: TrapTier) throws {
    let own = try OwnMemory(pages: 8, hole: 4)
    try withAddressSpace(tier: tier) { space in
      let adopted = try unsafe space.adopt(own.base, length: own.length)
      try space.unmap(own.start + .pages(4), length: .pages(1))
      for placement in [
        Placement.fixed(own.start), .fixedNoReplace(own.start + .pages(4)),
        .fixed(own.start + .pages(4)),
      ] {
        let error = #expect(throws: MemoryError.self) {
          try space.map(length: .pages(1), at: placement)
        }
        #expect(error?.number == .exists && error?.reason == .addressTaken)
      }
      let near = try space.map(length: .pages(1), at: .hint(own.start + .pages(4)))
      #expect(!adopted.pages.contains(near))
      try space.release(adopted)
      #expect(own[7] == 1 && own[7 * 4096 + 7] == 8)
    }
  }

  @Test(
    "decision 8: a private mapping of a file is adopted, readable or writable",
    arguments: TrapTier.testable, [PROT_READ, PROT_READ | PROT_WRITE])
  func privateFile(tier: TrapTier, protection: Int32) throws {
    guard let file = unsafe tmpfile() else {
      Issue.record("no temporary file")
      return
    }
    defer { unsafe fclose(file) }
    let bytes = [UInt8](repeating: 0x41, count: 3 * 4096)
    #expect(unsafe write(fileno(file), bytes, bytes.count) == bytes.count)
    let base = unsafe mmap(nil, bytes.count, protection, MAP_PRIVATE, fileno(file), 0)!
    defer { unsafe munmap(base, bytes.count) }
    let start = UserAddress(UInt64(UInt(bitPattern: base)))
    try withAddressSpace(tier: tier) { space in
      let adopted = try unsafe space.adopt(base + 100, length: 5000)
      #expect(adopted.pages.pageCount == 2 && space.load(start + 4096) == 0x41)
      if protection & PROT_WRITE != 0 {
        space.store(0x42, at: start + 200)
        #expect(space.peek(start + 200) == 0x42)
      } else {
        #expect(space.areas[0].protection == .readOnly)
      }
      try space.release(adopted)
      #expect(space.load(start + 300) == 0x41 && space.load(start + .pages(2)) == 0x41)
      #expect(space.load(start + 200) == (protection & PROT_WRITE != 0 ? 0x42 : 0x41))
    }
    var first: UInt8 = 0
    #expect(unsafe pread(fileno(file), &first, 1, 200) == 1 && first == 0x41)
  }

  private func run(_ scenario: String, _ tier: TrapTier) throws {
    // It brings an allocator, handlers and mappings of its own.
    guard Sanitizer.current == nil else {
      print("\(scenario), \(tier): skipped: a sanitizer's allocator is not malloc")
      return
    }
    let run = try runHelper(scenario, tier)
    #expect(run.isDone, "\(run)")
  }

  @Test(
    "decision 8: threads store all over memory that is adopted, forked and released: no store is lost",
    arguments: TrapTier.testable)
  func stores(tier: TrapTier) throws { try run("adoptStores", tier) }

  @Test(
    "decision 8: read(2) and write(2) while memory is adopted and released",
    arguments: TrapTier.testable)
  func transfers(tier: TrapTier) throws { try run("adoptTransfers", tier) }

  @Test(
    "decision 8: malloc and free go on in adopted memory that forks share, an arena's head included",
    arguments: ["adoptAllocations", "adoptArena"], TrapTier.testable)
  func allocations(scenario: String, tier: TrapTier) throws { try run(scenario, tier) }

  @Test(
    "decision 9: a child of fork(2) has adopted memory as its own, with the bytes of the fork",
    arguments: ["adoptFork", "adoptForkPinned"], TrapTier.testable)
  func realFork(scenario: String, tier: TrapTier) throws { try run(scenario, tier) }

  @Test(
    "decision 9: a child that the C library knows nothing of ends when it touches adopted memory",
    arguments: TrapTier.testable)
  func rawFork(tier: TrapTier) throws { try run("adoptRawFork", tier) }

  @Test(
    "decision 8: stacks, thread-local, loader's, library's, shared, taken and absent memory is refused",
    arguments: TrapTier.testable)
  func refusals(tier: TrapTier) throws { try run("adoptRefusals", tier) }

  @Test(
    "decision 8: what was unmapped of adopted memory is a hole after release and after exit",
    arguments: TrapTier.testable)
  func holes(tier: TrapTier) throws { try run("adoptHoles", tier) }

  @Test("decision 8: a static array is adopted", arguments: TrapTier.testable)
  func staticArray(tier: TrapTier) throws { try run("adoptStatic", tier) }

  @Test(
    "decision 8: free() of adopted memory, in an arena or unmapped, corrupts nothing",
    arguments: TrapTier.testable)
  func free(tier: TrapTier) throws { try run("adoptFree", tier) }

  @Test(
    "decision 8: the library's own objects, and a process without descriptors",
    arguments: ["adoptOwnObjects", "adoptDescriptors"], TrapTier.testable)
  func ownObjects(scenario: String, tier: TrapTier) throws { try run(scenario, tier) }
}
