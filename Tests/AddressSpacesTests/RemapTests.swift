//===----------------------------------------------------------------------===//
// mremap: pages keep their frames and counts, bytes are at the new address, and
// what cannot be is refused with Linux's errno and changes nothing.
//===----------------------------------------------------------------------===//

import AddressSpaces
import CShims
import Events
import PageFrames
import TestSupport
import Testing

@Suite("remap")
struct RemapTests {
  private static func refusal(
    _ space: AddressSpace, _ start: UserAddress, _ length: ByteCount, _ newLength: ByteCount,
    to placement: RemapPlacement = .mayMove, keepingOld: Bool = false
  ) -> MemoryError? {
    MappingTests.refusal { () throws(MemoryError) in
      try space.remap(
        start, length: length, newLength: newLength, to: placement, keepingOld: keepingOld)
    }
  }

  /// Maps `pages` pages that begin with their number plus 1.
  private static func mapNumbered(
    _ space: AddressSpace, _ pages: Int, _ sharing: Sharing = .private
  ) throws -> UserAddress {
    let start = try space.map(length: .pages(pages), sharing: sharing)
    for i in 0..<pages { try space.write([UInt8(i + 1)], to: start + .pages(i)) }
    return start
  }

  private static func bytes(
    _ space: AddressSpace, _ start: UserAddress, _ pages: Int
  ) throws -> [UInt8] {
    try (0..<pages).map { i in
      // In a trapping tier by the program's own load.
      space.memory.trapTier == .none
        ? try space.read(1, at: start + .pages(i))[0] : space.load(start + .pages(i))
    }
  }

  private static func isMapped(_ space: AddressSpace, _ address: UserAddress) -> Bool {
    space.areas.contains { $0.range.contains(address) }
  }

  @Test(
    "G5: a moved page keeps its frame, its counts and its bytes; the old address is unmapped",
    arguments: TrapTier.all, [Sharing.private, .shared])
  func move(tier: TrapTier, sharing: Sharing) throws {
    try withAddressSpace(tier: tier) { space in
      let start = try Self.mapNumbered(space, 20, sharing)
      let target = try space.map(length: .pages(20))
      let frames = (0..<20).map { space.page(at: start + .pages($0)) }
      try frames[3]?.get()
      let calls = space.memory.counters.hostCalls
      #expect(
        try space.remap(
          start, length: .pages(20), newLength: .pages(20), to: .fixed(target)) == target)
      // By runs, not by pages.
      #expect(space.memory.counters.hostCalls - calls < 16)
      #expect((0..<20).map { space.page(at: target + .pages($0)) } == frames)
      #expect(try Self.bytes(space, target, 20) == (1...20).map { UInt8($0) })
      #expect(!Self.isMapped(space, start) && space.page(at: start) == nil)
      let holds = sharing == .shared ? 2 : 1
      #expect(frames[3]?.referenceCount == holds + 1 && frames[4]?.referenceCount == holds)
      for case let frame? in frames { #expect(frame.mapCount == 1) }
      // What a holder writes is seen at the new address, and what is stored there by it.
      unsafe frames[3]?.bytes[100] = 0x55
      #expect(try space.read(1, at: target + .pages(3) + 100) == [0x55])
      try space.write([0x66], to: target + .pages(3) + 101)
      #expect(unsafe frames[3]?.bytes[101] == 0x66)
      #expect(frames[3] == space.page(at: target + .pages(3)))
      frames[3]?.put()
    }
  }

  @Test(
    "part of an area moves: the rest stays, both sides keep their bytes", arguments: TrapTier.all)
  func movePart(tier: TrapTier) throws {
    try withAddressSpace(tier: tier) { space in
      let start = try Self.mapNumbered(space, 12)
      let target = try space.remap(
        start + .pages(4), length: .pages(3), newLength: .pages(5), to: .mayMove)
      #expect(try Self.bytes(space, start, 4) == [1, 2, 3, 4])
      #expect(try Self.bytes(space, start + .pages(7), 5) == [8, 9, 10, 11, 12])
      #expect(try Self.bytes(space, target, 5) == [5, 6, 7, 0, 0])
      for i in 4..<7 { #expect(!Self.isMapped(space, start + .pages(i))) }
      // And back, into the hole that it left.
      let hole = start + .pages(4)
      try space.remap(target, length: .pages(5), newLength: .pages(3), to: .fixed(hole))
      #expect(try Self.bytes(space, start, 12) == (1...12).map { UInt8($0) })
      #expect(space.areas.count == 1, "homes went along, so all of it is one area again")
    }
  }

  @Test(
    "what grows by 2 MiB and more has homes behind the old ones, where folios fit",
    arguments: TrapTier.testable, [FolioSize.base, .huge])
  func growFar(tier: TrapTier, folios: FolioSize) throws {
    try withAddressSpace(tier: tier) { space in
      // Neither the end of the old part nor that of the new one is at 2 MiB.
      let start = try space.map(length: .mebibytes(8), folios: folios)
      try space.unmap(start + .pages(100), length: .mebibytes(8) - .pages(100))
      try space.advise(start, length: .pages(100), .populateWrite)
      try space.remap(start, length: .pages(100), newLength: .pages(1300), to: .inPlace)
      try space.advise(start, length: .pages(1300), .populateWrite)
      #expect(space.areas.count == 1)
      let first = try #require(space.page(at: start)).frameNumber.rawValue
      for i in [99, 100, 101, 511, 512, 1023, 1299] {
        #expect(space.page(at: start + .pages(i))?.frameNumber.rawValue == first + UInt64(i))
      }
      #expect(space.page(at: start + .pages(512))?.folioOrder == (folios == .huge ? 9 : 0))
      #expect(AddressSpace.hostMappings(start, pages: 1300) == 1)
    }
  }

  @Test(
    "growing and shrinking in place; without room it moves, or is ENOMEM", arguments: TrapTier.all)
  func resize(tier: TrapTier) throws {
    try withAddressSpace(tier: tier) { space in
      let start = try space.map(length: .pages(16))
      try space.unmap(start + .pages(4), length: .pages(12))
      for i in 0..<4 { try space.write([UInt8(i + 1)], to: start + .pages(i)) }
      #expect(
        try space.remap(start, length: .pages(4), newLength: .pages(8), to: .inPlace) == start)
      try space.write([8], to: start + .pages(7))
      #expect(try Self.bytes(space, start, 8) == [1, 2, 3, 4, 0, 0, 0, 8])
      #expect(space.areas.count == 1)
      let frames = (0..<3).map { space.page(at: start + .pages($0)) }
      #expect(
        try space.remap(start, length: .pages(8), newLength: .pages(3), to: .inPlace) == start)
      #expect(!Self.isMapped(space, start + .pages(3)))
      let behind = try space.map(length: .pages(1), at: .fixedNoReplace(start + .pages(3)))
      // Another protection, so that the two are not one area.
      try space.protect(behind, length: .pages(1), .readOnly)
      #expect(
        Self.refusal(space, start, .pages(3), .pages(4), to: .inPlace)
          == MemoryError(.outOfMemory, .addressTaken, behind))
      let moved = try space.remap(start, length: .pages(3), newLength: .pages(4))
      #expect(moved != start && !Self.isMapped(space, start))
      #expect((0..<3).map { space.page(at: moved + .pages($0)) } == frames)
      #expect(try Self.bytes(space, moved, 4) == [1, 2, 3, 0])
    }
  }

  @Test("MREMAP_DONTUNMAP leaves the old range mapped and empty", arguments: TrapTier.all)
  func keepingOld(tier: TrapTier) throws {
    try withAddressSpace(tier: tier) { space in
      for sharing in [Sharing.private, .shared] {
        let start = try Self.mapNumbered(space, 6, sharing)
        let frames = (1..<5).map { space.page(at: start + .pages($0)) }
        let target = try space.remap(
          start + .pages(1), length: .pages(4), newLength: .pages(4), keepingOld: true)
        #expect((0..<4).map { space.page(at: target + .pages($0)) } == frames)
        #expect(space.page(at: start + .pages(1)) == nil && Self.isMapped(space, start + .pages(1)))
        // Private memory begins anew, shared memory shows the object.
        let isPrivate = sharing == .private
        #expect(
          try (0..<6).map { try space.read(1, at: start + .pages($0))[0] }
            == (isPrivate ? [1, 0, 0, 0, 0, 6] : [1, 2, 3, 4, 5, 6]))
        try space.write([99], to: start + .pages(2))
        #expect(
          try space.read(1, at: target + .pages(1)) == [isPrivate ? 3 : 99])
      }
    }
  }

  @Test("length 0 shows shared memory a second time, and no more than the object has")
  func duplicate() throws {
    try withAddressSpace(tier: .none) { space in
      let start = try Self.mapNumbered(space, 4, .shared)
      let second = try space.remap(start + .pages(1), length: 0, newLength: .pages(6))
      #expect(try (0..<3).map { try space.read(1, at: second + .pages($0))[0] } == [2, 3, 4])
      #expect(space.page(at: second) == space.page(at: start + .pages(1)))
      try space.write([77], to: second)
      #expect(try space.read(1, at: start + .pages(1)) == [77])
      let error = MappingTests.refusal { () throws(MemoryError) in
        _ = try space.read(1, at: second + .pages(3))
      }
      #expect(error == MemoryError(.badAddress, .busError, second + .pages(3)))
    }
  }

  @Test(
    "C.11 G5: areas move with the holes between them where policy says so, else they are refused",
    arguments: TrapTier.all)
  func severalAreas(tier: TrapTier) throws {
    try withAddressSpace(tier: tier) { space in
      let start = try Self.mapNumbered(space, 8)
      let target = try space.map(length: .pages(8))
      try space.write([0x77], to: target + .pages(2))
      try space.unmap(start + .pages(2), length: .pages(1))
      try space.protect(start + .pages(4), length: .pages(1), .readOnly)
      let frames = (0..<8).map { space.page(at: start + .pages($0)) }
      try frames[5]?.acquire(.pin)
      func move(
        _ from: UserAddress, _ length: ByteCount = .pages(8), to: UserAddress,
        keepingOld: Bool = false
      ) -> MemoryError? {
        Self.refusal(space, from, length, length, to: .fixed(to), keepingOld: keepingOld)
      }
      let areas = space.areas
      #expect(move(start, to: target)?.reason == .notMapped)
      #expect(space.areas == areas)

      space.memory.policy = .remapSeveralAreas
      // A hole may not be the first; the place is looked at before the range.
      #expect(
        move(start + .pages(2), .pages(6), to: target)
          == MemoryError(.badAddress, .notMapped, start + .pages(2)))
      #expect(move(start + .pages(2), to: start + .pages(3))?.reason == .rangesOverlap)
      #expect(space.areas == areas)
      #expect(move(start, to: target) == nil)
      #expect(try Self.bytes(space, target, 8) == [1, 2, 0x77, 4, 5, 6, 7, 8])
      for i in [0, 1, 3, 4, 5, 6, 7] {
        #expect(space.page(at: target + .pages(i)) == frames[i])
        #expect(!Self.isMapped(space, start + .pages(i)))
      }
      #expect(space.area(atOrAfter: target + .pages(4))?.protection == .readOnly)
      unsafe frames[5]?.bytes[1] = 0x5a
      #expect(try space.read(1, at: target + .pages(5) + 1) == [0x5a])
      // Back again, and what was there stays mapped and empty.
      #expect(move(target, to: start, keepingOld: true) == nil)
      #expect(try Self.bytes(space, start, 8) == [1, 2, 0x77, 4, 5, 6, 7, 8])
      #expect(try Self.bytes(space, target, 8) == Array(repeating: 0, count: 8))
      #expect(space.page(at: start + .pages(5)) == frames[5])
      frames[5]?.release(.pin)
    }
  }

  @Test("every bad argument is refused by name, and nothing has changed")
  func refusals() throws {
    try withAddressSpace(tier: .none) { space in
      let start = try Self.mapNumbered(space, 8)
      try space.unmap(start + .pages(6), length: .pages(2))
      let other = try space.map(length: .pages(2), sharing: .shared, at: .fixed(start + .pages(6)))
      let far = try space.map(length: .pages(4), protection: .readOnly)
      typealias Case = (
        UserAddress, ByteCount, ByteCount, RemapPlacement, Bool, ErrorNumber, MemoryError.Reason
      )
      let cases: [Case] = [
        (start + 1, 4096, 4096, .mayMove, false, .invalid, .addressMisaligned),
        (start, -1, 4096, .mayMove, false, .invalid, .lengthNotPositive),
        (start, 4096, 0, .mayMove, false, .invalid, .lengthNotPositive),
        (start, 4096, -1, .mayMove, false, .invalid, .lengthNotPositive),
        (start, 4096, 8192, .mayMove, true, .invalid, .flagsContradict),
        (start, 4096, 4096, .inPlace, true, .invalid, .flagsContradict),
        (start, 0, 4096, .mayMove, false, .invalid, .notShared),
        (start, 8192, 8192, .fixed(start + 1), false, .invalid, .addressMisaligned),
        (start, 8192, 8192, .fixed(start + 4096), false, .invalid, .rangesOverlap),
        (start, 8192, 8192, .fixed(start), false, .invalid, .rangesOverlap),
        (start, 8192, 8192, .fixed(UserAddress(0)), false, .invalid, .addressOutsideUserSpace),
        (
          start, 8192, 8192, .fixed(UserAddress(CSHIMS_TASK_SIZE - 4096)), false, .invalid,
          .addressOutsideUserSpace
        ),
        (start, .pages(7), .pages(9), .mayMove, false, .badAddress, .crossesAreas),
        (start, .pages(7), .pages(7), .fixed(far + .pages(8)), false, .badAddress, .crossesAreas),
        (far, .pages(5), .pages(6), .mayMove, false, .badAddress, .notMapped),
        (far + .pages(4), 4096, 8192, .mayMove, false, .badAddress, .notMapped),
        (UserAddress(.max & ~4095), 4096, 8192, .mayMove, false, .badAddress, .notMapped),
        (start, 4096, ByteCount(.max), .mayMove, false, .outOfMemory, .lengthTooLarge),
        (start, ByteCount(.max), 4096, .mayMove, false, .invalid, .addressOutsideUserSpace),
      ]
      let areas = space.areas
      let account = Account(space.memory)
      for (at, length, newLength, placement, keeping, number, reason) in cases {
        let error = Self.refusal(space, at, length, newLength, to: placement, keepingOld: keeping)
        #expect(
          error?.number == number && error?.reason == reason,
          "\(at - start) \(length) \(newLength) \(placement): \(String(describing: error))")
        #expect(space.areas == areas && Account(space.memory) == account)
      }
      #expect(try Self.bytes(space, start, 6) == [1, 2, 3, 4, 5, 6])
      #expect(Self.isMapped(space, other))
    }
  }

  @Test(
    "whatever fails at its 1st, 2nd, 3rd ... passage, a move is whole or has changed nothing",
    arguments: [FailurePoint.metadataAllocation, .hostMapping])
  func failNth(point: FailurePoint) throws {
    try withAddressSpace(tier: .none) { space in
      let start = try Self.mapNumbered(space, 8)
      var failures = 0
      for nth in 1..<100 {
        let areas = space.areas
        space.memory.arm(point, countdown: nth)
        let error = MappingTests.refusal { () throws(MemoryError) in
          let moved = try space.remap(
            start + .pages(2), length: .pages(4), newLength: .pages(700))
          space.memory.arm(point, countdown: 0)
          try space.unmap(moved, length: .pages(700))
        }
        space.memory.arm(point, countdown: 0)
        guard error != nil else { break }
        failures += 1
        #expect(error?.number == .outOfMemory)
        #expect(space.areas == areas)
        #expect(try Self.bytes(space, start, 8) == (1...8).map { UInt8($0) })
      }
      #expect(failures > 0 && failures < 90)
    }
  }

  @Test(
    "a pinned-and-forked family: a child's move leaves the parent's pages", arguments: TrapTier.all)
  func afterFork(tier: TrapTier) throws {
    try withAddressSpace(tier: tier) { space in
      let start = try Self.mapNumbered(space, 4)
      let child = try space.fork()
      let moved = try child.remap(start, length: .pages(4), newLength: .pages(6))
      #expect(try Self.bytes(child, moved, 6) == [1, 2, 3, 4, 0, 0])
      try child.write([0xcc], to: moved)
      #expect(try Self.bytes(space, start, 4) == [1, 2, 3, 4])
      child.exit()
    }
  }

  @Test(
    "G5: folios move in parts and whole, also to where a leaf cannot stand",
    arguments: TrapTier.all, [FolioSize.huge, .order(4)])
  func folios(tier: TrapTier, size: FolioSize) throws {
    try withAddressSpace(tier: tier) { space in
      let start = try space.map(length: .mebibytes(4), folios: size)
      for i in 0..<1024 { try space.write([UInt8(i & 255)], to: start + .pages(i)) }
      let frames = (0..<1024).map { space.page(at: start + .pages($0)) }
      try frames[700]?.acquire(.pin)
      // From the middle of one leaf to the middle of the next, to an odd place.
      let room = try space.map(length: .mebibytes(6))
      let target = room + .pages(3)
      try space.remap(
        start + .pages(100), length: .pages(800), newLength: .pages(800), to: .fixed(target))
      for i in 100..<900 {
        #expect(space.page(at: target + .pages(i - 100)) == frames[i])
        #expect(try space.read(1, at: target + .pages(i - 100)) == [UInt8(i & 255)])
      }
      for i in [0, 99, 900, 1023] {
        #expect(space.page(at: start + .pages(i)) == frames[i])
        #expect(try space.read(1, at: start + .pages(i)) == [UInt8(i & 255)])
      }
      try space.write([0x5a], to: target + .pages(600))
      #expect(unsafe frames[700]?.bytes[0] == 0x5a, "a pinned page is stored to in place")
      // A pin keeps its folio, parts of others are found wherever they are.
      let movement = try space.migrate(target, length: .pages(800))
      #expect(movement.moved == (size == .huge ? 412 : 784))
      #expect(movement.pinned == (size == .huge ? 388 : 16))
      for i in [0, 99, 900, 1023] {
        #expect(try space.read(1, at: start + .pages(i)) == [UInt8(i & 255)])
        // Its folio was pinned, or has no page in the range.
        let stays = size == .huge ? i >= 512 : i == 0 || i == 1023
        #expect((space.page(at: start + .pages(i)) == frames[i]) == stays)
      }
      for i in 100..<900 {
        let byte = i == 700 ? 0x5a : UInt8(i & 255)
        #expect(try space.read(1, at: target + .pages(i - 100)) == [byte])
      }
      frames[700]?.release(.pin)
    }
  }

  @Test("a move is told with the new address")
  func events() throws {
    try withAddressSpace(tier: .none) { space in
      let start = try Self.mapNumbered(space, 2)
      let target = try space.map(length: .pages(2))
      let log = EventLog(space.memory)
      try space.remap(start, length: .pages(2), newLength: .pages(2), to: .fixed(target))
      #expect(
        log.events.last == Event(kind: .move, address: target.rawValue, frame: 0, pageCount: 2))
    }
  }
}
