//===----------------------------------------------------------------------===//
// mmap and munmap: where areas go, what is refused, how areas split and merge.
//===----------------------------------------------------------------------===//

import AddressSpaces
import CShims
import PageFrames
import TestSupport
import Testing

@Suite("map and unmap")
struct MappingTests {
  /// The error that a call throws, or nil.
  static func refusal(_ body: () throws(MemoryError) -> Void) -> MemoryError? {
    do throws(MemoryError) {
      try body()
      return nil
    } catch {
      return error
    }
  }

  struct Bad: Sendable, CustomTestStringConvertible {
    let what: String
    let length: Int
    let placement: Placement
    let number: ErrorNumber
    let reason: MemoryError.Reason
    var testDescription: String { what }

    init(
      _ what: String, _ length: Int, _ placement: Placement, _ number: ErrorNumber,
      _ reason: MemoryError.Reason
    ) {
      self.what = what
      self.length = length
      self.placement = placement
      self.number = number
      self.reason = reason
    }
  }

  static let bad: [Bad] = [
    Bad("length 0", 0, .anywhere, .invalid, .lengthNotPositive),
    Bad("length -1", -1, .anywhere, .invalid, .lengthNotPositive),
    Bad("the least length", .min, .anywhere, .invalid, .lengthNotPositive),
    Bad("the largest length", .max, .anywhere, .outOfMemory, .lengthTooLarge),
    Bad("user space and a page", 1 << 47, .anywhere, .outOfMemory, .lengthTooLarge),
    Bad("more than the host has", (1 << 47) - 8192, .anywhere, .outOfMemory, .hostRefused),
    Bad("fixed, misaligned", 4096, .fixed(UserAddress(0x10001)), .invalid, .addressMisaligned),
    Bad("fixed at 0", 4096, .fixed(UserAddress(0)), .outOfMemory, .addressOutsideUserSpace),
    Bad(
      "fixed past the end", 8192, .fixed(UserAddress(CSHIMS_TASK_SIZE - 4096)), .outOfMemory,
      .addressOutsideUserSpace),
    Bad(
      "fixed beyond", 4096, .fixed(UserAddress(1 << 63)), .outOfMemory, .addressOutsideUserSpace),
    Bad(
      "fixed, wrapping", 8192, .fixedNoReplace(UserAddress(.max - 4095)), .outOfMemory,
      .addressOutsideUserSpace),
    // Where position-independent programs and their libraries stand.
    Bad("fixed over the program", 1 << 45, .fixed(UserAddress(1 << 46)), .exists, .addressTaken),
  ]

  @Test("arguments that make no sense are refused by name, and change nothing", arguments: bad)
  func badArguments(bad: Bad) throws {
    try withAddressSpace(tier: .none) { space in
      let before = Account(space.memory)
      let error = Self.refusal { () throws(MemoryError) in
        _ = try space.map(length: ByteCount(bad.length), at: bad.placement)
      }
      #expect(error?.number == bad.number && error?.reason == bad.reason, "\(error as Any)")
      #expect(space.areas.isEmpty)
      #expect(Account(space.memory) == before)
    }
  }

  @Test("unknown protection bits are refused", arguments: [UInt32(8), 1 << 31, .max])
  func unknownProtection(bits: UInt32) throws {
    try withAddressSpace(tier: .none) { space in
      let protection = Protection(rawValue: bits)
      let start = try space.map(length: 4096)
      let expected = MemoryError(.invalid, .protectionUnknown, UInt64(bits))
      #expect(
        Self.refusal { () throws(MemoryError) in
          _ = try space.map(length: 4096, protection: protection)
        } == expected)
      #expect(
        Self.refusal { () throws(MemoryError) in
          try space.protect(start, length: 4096, protection)
        } == expected)
    }
  }

  @Test("a length is rounded up to whole pages; an area has no memory", arguments: TrapTier.all)
  func rounding(tier: TrapTier) throws {
    try withAddressSpace(tier: tier) { space in
      let free = space.memory.freeFrameCount
      for (length, pages) in [(1, 1), (4096, 1), (4097, 2), (1 << 21, 512)] {
        let start = try space.map(length: ByteCount(length))
        #expect(start.isPageAligned)
        let area = try #require(space.areas.first { $0.range.contains(start) })
        #expect(area.range.end >= start + .pages(pages))
        #expect(area.protection == .readWrite && area.sharing == .private)
      }
      #expect(space.memory.freeFrameCount == free)
    }
  }

  @Test(
    "a mapping larger than the machine is fine until it is touched",
    arguments: TrapTier.testable)
  func overcommit(tier: TrapTier) throws {
    try withAddressSpace(capacity: .pages(8), tier: tier) { space in
      let start = try space.map(length: .mebibytes(64))
      for i in 0..<8 { space.store(UInt8(i + 1), at: start + .pages(i * 1000)) }
      for i in 0..<8 { #expect(space.load(start + .pages(i * 1000)) == UInt8(i + 1)) }
      #expect(space.memory.freeFrameCount == 0)
      // Reading the rest takes no frame.
      #expect(space.load(start + .mebibytes(60)) == 0)
      let error = Self.refusal { () throws(MemoryError) in
        try space.write([1], to: start + .mebibytes(60))
      }
      #expect(error?.number == .outOfMemory && error?.reason == .framesExhausted)
      // A page given back serves again.
      try space.advise(start, length: 4096, .dontNeed)
      space.store(9, at: start + .mebibytes(60))
      #expect(space.load(start + .mebibytes(60)) == 9 && space.load(start) == 0)
      // Denying and allowing again must not uncover anything else.
      try space.protect(start, length: .mebibytes(64), .none)
      try space.protect(start, length: .mebibytes(64), .readWrite)
      for i in 1..<8 { #expect(space.load(start + .pages(i * 1000)) == UInt8(i + 1)) }
    }
  }

  @Test("a hint is honoured where there is room, and is no more than a hint")
  func hints() throws {
    try withAddressSpace(tier: .none) { space in
      let wanted = AddressSpace.freeHostAddress(pages: 600)
      let first = try space.map(length: .pages(4), at: .hint(wanted))
      let second = try space.map(length: .pages(4), at: .hint(first))
      #expect(second != first && !UserRange(start: first, length: .pages(4)).contains(second))
      for address in [0, 4096, CSHIMS_TASK_SIZE, .max, 0x1234] as [UInt64] {
        let start = try space.map(length: 4096, at: .hint(UserAddress(address)))
        #expect(start.isPageAligned && start.rawValue > 0)
      }
      // Something else of this process is in the way.
      let other = ZeroedMemory(byteCount: 1 << 16)
      let taken = unsafe UserAddress(UInt64(UInt(bitPattern: other.base)))
      #expect(try space.map(length: 4096, at: .hint(taken)) != taken)
    }
  }

  @Test("fixedNoReplace takes free room and refuses own areas with EEXIST")
  func fixedNoReplace() throws {
    try withAddressSpace(tier: .none) { space in
      let start = try space.map(length: .pages(8))
      try space.unmap(start + .pages(2), length: .pages(4))
      #expect(
        try space.map(length: .pages(4), at: .fixedNoReplace(start + .pages(2)))
          == start + .pages(2))
      for (page, count) in [(0, 1), (7, 1), (1, 2), (0, 8), (5, 9)] {
        let address = start + .pages(page)
        #expect(
          Self.refusal { () throws(MemoryError) in
            _ = try space.map(length: .pages(count), at: .fixedNoReplace(address))
          } == MemoryError(.exists, .addressTaken, address))
      }
    }
  }

  @Test(
    "fixed replaces own areas: their bytes are gone, their neighbours stay",
    arguments: TrapTier.all)
  func fixedReplaces(tier: TrapTier) throws {
    try withAddressSpace(tier: tier) { space in
      let start = try space.map(length: .pages(8))
      try space.writeEveryPage(start, 8, 7)
      let free = space.memory.freeFrameCount
      #expect(
        try space.map(length: .pages(3), at: .fixed(start + .pages(2))) == start + .pages(2))
      #expect(space.memory.freeFrameCount == free + 3)
      for i in 0..<8 {
        #expect(space.peek(start + .pages(i)) == ((2..<5).contains(i) ? nil : 7))
        #expect(try space.read(1, at: start + .pages(i)) == [(2..<5).contains(i) ? 0 : 7])
      }
    }
  }

  @Test(
    "fixed over what belongs to others in this process is refused, and touches no byte of it",
    arguments: [0, 1, 5, 8])
  func fixedOverOthers(offset: Int) throws {
    try withAddressSpace(tier: .none) { space in
      // Ten pages of our own process, with room of ours before and after.
      let other = ZeroedMemory(byteCount: 10 * 4096)
      unsafe other.base.initializeMemory(as: UInt8.self, repeating: 0x5a, count: 10 * 4096)
      let base = unsafe UserAddress(UInt64(UInt(bitPattern: other.base)))
      let before = Account(space.memory)
      for placement in [Placement.fixed, Placement.fixedNoReplace] {
        let error = Self.refusal { () throws(MemoryError) in
          _ = try space.map(length: .pages(4), at: placement(base + .pages(offset)))
        }
        #expect(error?.number == .exists && error?.reason == .addressTaken)
      }
      #expect(Account(space.memory) == before && space.areas.isEmpty)
      for i in 0..<10 * 4096 {
        let byte = unsafe other.base.load(fromByteOffset: i, as: UInt8.self)
        if byte != 0x5a { Issue.record("byte \(i) changed"); break }
      }
    }
  }

  @Test("unmap: in the middle, at the ends, over holes, of nothing", arguments: TrapTier.all)
  func unmapParts(tier: TrapTier) throws {
    try withAddressSpace(tier: tier) { space in
      let start = try space.map(length: .pages(16))
      try space.writeEveryPage(start, 16, 3)
      let free = space.memory.freeFrameCount.rawValue
      func ranges() -> [[Int]] {
        space.areas.map {
          [($0.range.start - start).rawValue >> 12, ($0.range.end - start).rawValue >> 12]
        }
      }
      try space.unmap(start + .pages(4), length: .pages(2))
      #expect(ranges() == [[0, 4], [6, 16]])
      try space.unmap(start, length: .pages(1))
      try space.unmap(start + .pages(15), length: 1)
      #expect(ranges() == [[1, 4], [6, 15]])
      try space.unmap(start + .pages(4), length: .pages(2))
      #expect(ranges() == [[1, 4], [6, 15]])
      try space.unmap(start + .pages(3), length: .pages(6))
      #expect(ranges() == [[1, 3], [9, 15]])
      #expect(space.memory.freeFrameCount.rawValue == free + 8)
      for i in 0..<16 {
        let mapped = (1..<3).contains(i) || (9..<15).contains(i)
        #expect(space.peek(start + .pages(i)) == (mapped ? 3 : nil))
        let error = Self.refusal { () throws(MemoryError) in
          _ = try space.read(1, at: start + .pages(i))
        }
        #expect((error == nil) == mapped)
      }
      try space.unmap(UserAddress(4096), length: ByteCount(Int(CSHIMS_TASK_SIZE) - 4096))
      #expect(space.areas.isEmpty)
    }
  }

  @Test("unmap refuses misaligned, empty, negative, wrapping and outside ranges with EINVAL")
  func unmapBadArguments() throws {
    try withAddressSpace(tier: .none) { space in
      let start = try space.map(length: .pages(2))
      let cases: [(UInt64, Int, MemoryError.Reason)] = [
        (start.rawValue + 1, 4096, .addressMisaligned), (start.rawValue, 0, .lengthNotPositive),
        (start.rawValue, -4096, .lengthNotPositive),
        (start.rawValue, .max, .addressOutsideUserSpace),
        (.max - 4095, 8192, .rangeWraps), (CSHIMS_TASK_SIZE, 4096, .addressOutsideUserSpace),
      ]
      for (address, length, reason) in cases {
        let error = Self.refusal { () throws(MemoryError) in
          try space.unmap(UserAddress(address), length: ByteCount(length))
        }
        #expect(error?.number == .invalid && error?.reason == reason, "\(address) \(length)")
      }
      #expect(space.areas.count == 1)
    }
  }

  @Test("neighbours with the same properties are one area; a protection splits and joins it again")
  func splitAndMerge() throws {
    try withAddressSpace(tier: .none) { space in
      let start = try space.map(length: .pages(4))
      _ = try space.map(length: .pages(4), at: .fixed(start + .pages(4)))
      #expect(space.areas.map(\.range) == [UserRange(start: start, length: .pages(8))])
      try space.protect(start + .pages(2), length: .pages(3), .readOnly)
      #expect(space.areas.map(\.range.length) == [.pages(2), .pages(3), .pages(3)])
      try space.protect(start + .pages(2), length: .pages(3), .readWrite)
      #expect(space.areas.count == 1)
      try space.advise(start + .pages(7), length: .pages(1), .dontFork)
      #expect(space.areas.count == 2)
      try space.advise(start, length: .pages(8), .doFork)
      #expect(space.areas.count == 1)
      // Two shared mappings are two objects.
      let shared = try space.map(length: .pages(2), sharing: .shared)
      _ = try space.map(length: .pages(2), sharing: .shared, at: .fixed(shared + .pages(2)))
      #expect(space.areas.filter { $0.sharing == .shared }.count == 2)
    }
  }

  @Test(
    "regions that touch in the middle of 2 MiB keep records of their own",
    arguments: TrapTier.testable)
  func touchingRegions(tier: TrapTier) throws {
    try withAddressSpace(tier: tier) { space in
      let base = AddressSpace.freeHostAddress(pages: 24)
      for i in 0..<3 {
        guard
          (try? space.map(length: .pages(8), at: .fixedNoReplace(base + .pages(8 * i)))) != nil
        else { return }  // Another thread was quicker.
      }
      for i in 0..<24 { space.store(UInt8(i + 1), at: base + .pages(i)) }
      let frames = (0..<24).map { space.page(at: base + .pages($0)) }
      // All of it goes through the first region's start; nothing old may show.
      try space.advise(base, length: .pages(24), .dontNeed)
      let other = try space.map(length: .pages(24))
      for i in 0..<24 { space.store(0xcc, at: other + .pages(i)) }
      for i in 0..<24 { #expect(space.load(base + .pages(i)) == 0, "page \(i)") }
      #expect(frames.allSatisfy { $0 != nil })
      try space.protect(base, length: .pages(24), .none)
      try space.protect(base, length: .pages(24), .readWrite)
      for i in 0..<24 { space.store(0xdd, at: base + .pages(i)) }
      for i in 0..<24 { #expect(space.peek(base + .pages(i)) == 0xdd) }
    }
  }

  @Test(
    "regions that touch stand apart in a forked child's view: changes across them stay inside it",
    arguments: TrapTier.all)
  func touchingRegionsAfterFork(tier: TrapTier) throws {
    try withAddressSpace(tier: tier) { space in
      let base = AddressSpace.freeHostAddress(pages: 24)
      for i in 0..<3 {
        guard
          (try? space.map(length: .pages(8), at: .fixedNoReplace(base + .pages(8 * i)))) != nil
        else { return }  // Another thread was quicker.
      }
      for i in 0..<24 { try space.write([UInt8(i + 1)], to: base + .pages(i)) }
      #expect(space.areas.count == 1)
      let child = try space.fork()
      for i in 0..<24 { #expect(try child.read(1, at: base + .pages(i)) == [UInt8(i + 1)]) }
      try child.protect(base, length: .pages(24), .readOnly)
      try child.protect(base, length: .pages(24), .readWrite)
      for i in 0..<24 { try child.write([0xee], to: base + .pages(i)) }
      try child.advise(base, length: .pages(24), .dontNeed)
      for i in 0..<24 { #expect(try child.read(1, at: base + .pages(i)) == [0]) }
      try child.unmap(base + .pages(4), length: .pages(16))
      _ = try child.map(length: .pages(20), at: .fixed(base + .pages(2)))
      for i in 2..<22 { try child.write([0xdd], to: base + .pages(i)) }
      if tier != .none {
        for i in 0..<24 {
          #expect(child.load(base + .pages(i)) == ((2..<22).contains(i) ? 0xdd : 0))
        }
      }
      child.exit()
      for i in 0..<24 { #expect(try space.read(1, at: base + .pages(i)) == [UInt8(i + 1)]) }
      if tier != .none {
        for i in 0..<24 { #expect(space.load(base + .pages(i)) == UInt8(i + 1)) }
      }
    }
  }
}
