//===----------------------------------------------------------------------===//
// copy_to_user, copy_from_user, clear_user: partial progress and errors.
//===----------------------------------------------------------------------===//

import AddressSpaces
import CShims
import PageFrames
import TestSupport
import Testing

@Suite("Explicit access")
struct UserAccessTests {
  @Test(
    "any offset and length goes there and back, over page and area borders",
    arguments: TrapTier.all)
  func roundTrip(tier: TrapTier) throws {
    try withAddressSpace(tier: tier) { space in
      let start = try space.map(length: .pages(600))
      // Three areas, one of them shared.
      _ = try space.map(length: .pages(200), sharing: .shared, at: .fixed(start + .pages(200)))
      try withSeededRandom(stream: 11) { random in
        for _ in 0..<60 {
          let offset = random.below(598 * 4096)
          let count = random.below(min(600 * 4096 - offset, 1 << (1 + random.below(21)))) + 1
          let bytes = (0..<count).map { _ in UInt8.random(in: 0 ... .max, using: &random) }
          try space.write(bytes, to: start + ByteCount(offset))
          try mustHold(space.read(count, at: start + ByteCount(offset)) == bytes)
        }
      }
    }
  }

  @Test(
    "a transfer stops at what is not mapped or not allowed; the bytes before it have moved",
    arguments: TrapTier.all)
  func partialProgress(tier: TrapTier) throws {
    try withAddressSpace(tier: tier) { space in
      let start = try space.map(length: .pages(8))
      try space.unmap(start + .pages(3), length: .pages(1))
      try space.protect(start + .pages(6), length: .pages(1), .readOnly)
      try space.protect(start + .pages(7), length: .pages(1), .none)
      let bytes = [UInt8](repeating: 9, count: 4 * 4096)
      let hole = MemoryError(.badAddress, .notMapped, start + .pages(3))
      #expect(
        MappingTests.refusal { () throws(MemoryError) in try space.write(bytes, to: start + 1) }
          == hole)
      #expect(try space.read(3 * 4096 - 1, at: start + 1).allSatisfy { $0 == 9 })
      #expect(try space.read(1, at: start) == [0])
      #expect(
        MappingTests.refusal { () throws(MemoryError) in _ = try space.read(bytes.count, at: start)
        }
          == hole)
      let second = start + .pages(4)
      #expect(
        MappingTests.refusal { () throws(MemoryError) in try space.write(bytes, to: second) }
          == MemoryError(.badAddress, .writeForbidden, start + .pages(6)))
      #expect(try space.read(2 * 4096, at: second).allSatisfy { $0 == 9 })
      #expect(
        MappingTests.refusal { () throws(MemoryError) in _ = try space.read(bytes.count, at: second)
        }
          == MemoryError(.badAddress, .readForbidden, start + .pages(7)))
      #expect(
        MappingTests.refusal { () throws(MemoryError) in
          try space.zeroUser(second, count: .pages(3))
        } == MemoryError(.badAddress, .writeForbidden, start + .pages(6)))
      #expect(try space.read(2 * 4096, at: second).allSatisfy { $0 == 0 })
    }
  }

  @Test("bad ranges are EFAULT, a negative count EINVAL, nothing at all is fine")
  func badRanges() throws {
    try withAddressSpace(tier: .none) { space in
      for address in [CSHIMS_TASK_SIZE, CSHIMS_TASK_SIZE - 1, .max, 0, 1 << 47] as [UInt64] {
        for write in [false, true] {
          let error = MappingTests.refusal { () throws(MemoryError) in
            let at = UserAddress(address)
            if write { try space.write([1, 2], to: at) } else { _ = try space.read(2, at: at) }
          }
          #expect(error?.number == .badAddress)
        }
        try space.write([], to: UserAddress(address))
        try space.zeroUser(UserAddress(address), count: 0)
      }
      for count in [-1, Int.min] {
        #expect(
          MappingTests.refusal { () throws(MemoryError) in
            try space.zeroUser(UserAddress(4096), count: ByteCount(count))
          } == MemoryError(.invalid, .lengthNotPositive, count))
      }
      let error = MappingTests.refusal { () throws(MemoryError) in
        try space.zeroUser(UserAddress(4096), count: ByteCount(.max))
      }
      #expect(error?.reason == .addressOutsideUserSpace)
    }
  }

  @Test(
    "the caller's own buffer may be absent user memory of the same address space",
    arguments: TrapTier.testable)
  func buffersInUserMemory(tier: TrapTier) throws {
    try withAddressSpace(tier: tier) { space in
      let start = try space.map(length: .pages(32))
      for i in 0..<8 { space.store(UInt8(i + 1), at: start + .pages(i) + 3) }
      let target = start + .pages(16)
      // From absent pages, and into absent pages: their faults need the lock.
      let absent = unsafe UnsafeRawBufferPointer(
        start: space.pointer(at: start + .pages(8)), count: 8 * 4096)
      try unsafe space.copyToUser(target, from: absent)
      #expect(try space.read(8 * 4096, at: target).allSatisfy { $0 == 0 })
      let into = unsafe UnsafeMutableRawBufferPointer(
        start: space.pointer(at: start + .pages(24) + 1), count: 7 * 4096)
      try unsafe space.copyFromUser(into, from: start + 1)
      for i in 0..<7 { #expect(space.load(start + .pages(24 + i) + 3) == UInt8(i + 1)) }
    }
  }
}
