//===----------------------------------------------------------------------===//
// madvise: every advice, where it fits and where it does not.
//===----------------------------------------------------------------------===//

import AddressSpaces
import PageFrames
import TestSupport
import Testing

@Suite("advise")
struct AdviseTests {
  private static func refusal(
    _ space: AddressSpace, _ start: UserAddress, pages: Int, _ advice: Advice
  ) -> MemoryError? {
    MappingTests.refusal { () throws(MemoryError) in
      try space.advise(start, length: .pages(pages), advice)
    }
  }

  @Test("advice has Linux's numbers, and unknown numbers are none")
  func numbers() {
    let known: [Int32: Advice] = [
      0: .normal, 1: .random, 2: .sequential, 3: .willNeed, 4: .dontNeed, 8: .free,
      10: .dontFork, 11: .doFork, 18: .wipeOnFork, 19: .keepOnFork, 20: .cold, 21: .pageOut,
      22: .populateRead, 23: .populateWrite,
    ]
    for (number, advice) in known { #expect(Advice(rawValue: number) == advice) }
    for number in [-1, 5, 6, 7, 26, 100, 999, Int32.min, Int32.max] as [Int32] {
      #expect(Advice(rawValue: number) == nil)
    }
  }

  @Test(
    "MADV_DONTNEED: private memory reads as zeroes, shared memory keeps its bytes",
    arguments: TrapTier.all)
  func dontNeed(tier: TrapTier) throws {
    try withAddressSpace(tier: tier) { space in
      for sharing in [Sharing.private, .shared] {
        let start = try space.map(length: .pages(5), sharing: sharing)
        try space.writeEveryPage(start, 5, 2)
        let free = space.memory.freeFrameCount.rawValue
        try space.advise(start + .pages(1), length: .pages(3), .dontNeed)
        let isPrivate = sharing == .private
        #expect(space.memory.freeFrameCount.rawValue == free + (isPrivate ? 3 : 0))
        for i in 0..<5 {
          let dropped = (1..<4).contains(i)
          #expect((space.page(at: start + .pages(i)) == nil) == dropped)
          #expect(try space.read(1, at: start + .pages(i)) == [dropped && isPrivate ? 0 : 2])
        }
      }
    }
  }

  @Test(
    "G5: MADV_DONTNEED does not wait for who holds a page; the next touch is another page",
    arguments: TrapTier.all)
  func dontNeedHeld(tier: TrapTier) throws {
    try withAddressSpace(tier: tier) { space in
      let start = try space.map(length: .pages(1))
      try space.write([1], to: start)
      let page = try #require(space.page(at: start))
      try page.get()
      try space.advise(start, length: 4096, .dontNeed)
      #expect(page.referenceCount == 1 && page.mapCount == 0)
      try space.write([2], to: start)
      #expect(space.page(at: start) != page)
      #expect(unsafe page.bytes[0] == 1)
      page.put()
      #expect(page.isFree)
    }
  }

  @Test(
    "MADV_FREE keeps the bytes until memory is short, and fits private memory only",
    arguments: TrapTier.all)
  func free(tier: TrapTier) throws {
    try withAddressSpace(tier: tier) { space in
      let start = try space.map(length: .pages(2))
      try space.writeEveryPage(start, 2, 3)
      try space.advise(start, length: .pages(2), .free)
      #expect(try space.read(1, at: start) == [3])
      try space.write([4], to: start)
      #expect(try space.read(1, at: start) == [4])
      let shared = try space.map(length: .pages(1), sharing: .shared)
      #expect(
        Self.refusal(space, shared, pages: 1, .free)
          == MemoryError(.invalid, .adviceNotApplicable, shared))
    }
  }

  @Test("MADV_WIPEONFORK fits private anonymous memory only; the other fork advice fits all")
  func forkAdvice() throws {
    try withAddressSpace(tier: .none) { space in
      let own = try space.map(length: .pages(1))
      let shared = try space.map(length: .pages(1), sharing: .shared)
      #expect(
        Self.refusal(space, shared, pages: 1, .wipeOnFork)
          == MemoryError(.invalid, .adviceNotApplicable, shared))
      func flags(_ start: UserAddress) -> AreaFlags {
        space.areas.first { $0.range.contains(start) }?.flags ?? []
      }
      try space.advise(own, length: 4096, .wipeOnFork)
      #expect(flags(own).contains(.wipeOnFork))
      try space.advise(own, length: 4096, .keepOnFork)
      #expect(!flags(own).contains(.wipeOnFork))
      for start in [own, shared] {
        try space.advise(start, length: 4096, .dontFork)
        #expect(flags(start).contains(.dontFork))
        try space.advise(start, length: 4096, .doFork)
        #expect(!flags(start).contains(.dontFork))
        try space.advise(start, length: 4096, .keepOnFork)
      }
    }
  }

  @Test(
    "populate brings every page in, by runs, and shows it: no fault is left",
    arguments: TrapTier.testable)
  func populate(tier: TrapTier) throws {
    try withAddressSpace(tier: tier) { space in
      let memory = space.memory
      let start = try space.map(length: .pages(1024))
      try space.advise(start, length: .pages(600), .populateRead)
      #expect(memory.freeFrameCount == memory.totalFrameCount)
      #expect(space.page(at: start + .pages(599)) == memory.zeroPage)
      #expect(space.page(at: start + .pages(600)) == nil)
      let calls = memory.counters.hostCalls
      try space.advise(start, length: .pages(1024), .populateWrite)
      #expect(memory.totalFrameCount - memory.freeFrameCount == 1024)
      #expect(memory.counters.hostCalls - calls < 2500)
      let faults = memory.counters.faults
      for i in 0..<1024 { space.store(UInt8(i & 255), at: start + .pages(i) + 5) }
      for i in 0..<1024 { #expect(space.peek(start + .pages(i) + 5) == UInt8(i & 255)) }
      #expect(memory.counters.faults == faults)
    }
  }

  @Test(
    "populating absent memory needs host calls by the run, not by the page",
    arguments: TrapTier.all)
  func populateByRuns(tier: TrapTier) throws {
    try withAddressSpace(tier: tier) { space in
      let start = try space.map(length: .pages(1024))
      let calls = space.memory.counters.hostCalls
      try space.advise(start, length: .pages(1024), .populateWrite)
      #expect(space.memory.counters.hostCalls - calls <= 12)
    }
  }

  @Test(
    "populate refuses what the area forbids with EINVAL, and a hole with ENOMEM",
    arguments: TrapTier.all)
  func populateErrors(tier: TrapTier) throws {
    try withAddressSpace(tier: tier) { space in
      let start = try space.map(length: .pages(8))
      try space.protect(start + .pages(4), length: .pages(1), .readOnly)
      try space.protect(start + .pages(5), length: .pages(1), .none)
      try space.unmap(start + .pages(6), length: .pages(1))
      #expect(
        Self.refusal(space, start, pages: 8, .populateWrite)
          == MemoryError(.invalid, .writeForbidden, start + .pages(4)))
      #expect(space.page(at: start + .pages(3)) != nil && space.page(at: start + .pages(7)) == nil)
      #expect(
        Self.refusal(space, start, pages: 8, .populateRead)
          == MemoryError(.invalid, .readForbidden, start + .pages(5)))
      #expect(
        Self.refusal(space, start + .pages(6), pages: 2, .populateRead)
          == MemoryError(.outOfMemory, .notMapped, start + .pages(6)))
      #expect(space.page(at: start + .pages(7)) == nil, "populate stops at a hole")
      try space.protect(start + .pages(5), length: .pages(1), .write)
      #expect(
        Self.refusal(space, start + .pages(5), pages: 1, .populateRead)?.reason == .readForbidden)
      try space.advise(start + .pages(5), length: .pages(1), .populateWrite)
    }
  }

  @Test(
    "populate reports ENOMEM when frames run out, and keeps what it made",
    arguments: TrapTier.all)
  func populateExhaustion(tier: TrapTier) throws {
    try withAddressSpace(capacity: .pages(6), tier: tier) { space in
      let start = try space.map(length: .pages(9))
      #expect(
        Self.refusal(space, start, pages: 9, .populateWrite)
          == MemoryError(.outOfMemory, .framesExhausted, start + .pages(6)))
      #expect(space.page(at: start + .pages(5)) != nil && space.page(at: start + .pages(6)) == nil)
    }
  }

  @Test("advice over holes does the rest and says ENOMEM", arguments: TrapTier.all)
  func holes(tier: TrapTier) throws {
    try withAddressSpace(tier: tier) { space in
      let start = try space.map(length: .pages(9))
      try space.writeEveryPage(start, 9, 1)
      try space.unmap(start + .pages(2), length: .pages(1))
      try space.unmap(start + .pages(5), length: .pages(2))
      #expect(
        Self.refusal(space, start, pages: 9, .dontNeed)
          == MemoryError(.outOfMemory, .notMapped, start + .pages(2)))
      for i in 0..<9 { #expect(space.page(at: start + .pages(i)) == nil) }
      #expect(
        Self.refusal(space, start, pages: 9, .dontFork)
          == MemoryError(.outOfMemory, .notMapped, start + .pages(2)))
      #expect(space.areas.allSatisfy { $0.flags.contains(.dontFork) })
      #expect(Self.refusal(space, start + .pages(9), pages: 1, .normal)?.number == .outOfMemory)
    }
  }

  @Test("arguments: misaligned, negative, wrapping, outside", arguments: Advice.allCases)
  func badArguments(advice: Advice) throws {
    try withAddressSpace(tier: .none) { space in
      let start = try space.map(length: .pages(1))
      let cases: [(UInt64, Int, MemoryError.Reason?)] = [
        (start.rawValue + 1, 4096, .addressMisaligned), (start.rawValue + 1, 0, .addressMisaligned),
        (start.rawValue, -1, .lengthNotPositive), (start.rawValue, .min, .lengthNotPositive),
        (start.rawValue, .max, .addressOutsideUserSpace), (.max - 4095, 8192, .rangeWraps),
        (start.rawValue, 0, nil), (1 << 62, 0, nil),
      ]
      for (address, length, reason) in cases {
        let error = MappingTests.refusal { () throws(MemoryError) in
          try space.advise(UserAddress(address), length: ByteCount(length), advice)
        }
        #expect(error?.reason == reason && (error == nil || error?.number == .invalid))
      }
      try space.advise(start, length: 1, .cold)
    }
  }
}
