//===----------------------------------------------------------------------===//
// mlock and its relatives: what is counted, what is brought in, what a lock
// forbids, and that it is no pin.
//===----------------------------------------------------------------------===//

import AddressSpaces
import PageFrames
import TestSupport
import Testing

@Suite("mlock")
struct LockTests {
  private static func refusal(_ body: () throws(MemoryError) -> Void) -> MemoryError? {
    MappingTests.refusal(body)
  }

  @Test("mlock brings every touched page in, whole pages around the range", arguments: TrapTier.all)
  func populates(tier: TrapTier) throws {
    try withAddressSpace(tier: tier) { space in
      let start = try space.map(length: .pages(8))
      try space.lockPages(start + .pages(2) + 100, length: .pages(2))
      #expect(space.lockedBytes == .pages(3))
      for i in 0..<8 { #expect((space.page(at: start + .pages(i)) != nil) == (2..<5).contains(i)) }
      #expect(space.page(at: start + .pages(2))?.isAnonymousExclusive == true)
      #expect(space.areas.map { $0.flags.contains(.locked) } == [false, true, false])
      // What may only be read gets the zero page, a shared page the object's.
      let readOnly = try space.map(length: .pages(1), protection: .readOnly)
      try space.lockPages(readOnly, length: 1)
      #expect(space.page(at: readOnly)?.isZeroPage == true)
      try space.unlockPages(start, length: .pages(8))
      #expect(space.lockedBytes == .pages(1))
      try space.unlockAllPages()
      #expect(space.lockedBytes == 0 && space.areas.allSatisfy { !$0.flags.contains(.locked) })
    }
  }

  @Test("mlock2 with MLOCK_ONFAULT brings in nothing, and locks what is touched")
  func onFault() throws {
    try withAddressSpace(tier: .none) { space in
      let start = try space.map(length: .pages(4))
      try space.lockPages(start, length: .pages(4), onFault: true)
      #expect(space.page(at: start) == nil && space.lockedBytes == .pages(4))
      #expect(space.areas[0].flags.isSuperset(of: [.locked, .lockedOnFault]))
      try space.lockPages(start, length: .pages(4))
      #expect(space.page(at: start + .pages(3)) != nil)
      #expect(!space.areas[0].flags.contains(.lockedOnFault))
    }
  }

  @Test("the limit: ENOMEM past it, nothing counted twice, EPERM when it is 0")
  func limit() throws {
    try withAddressSpace(tier: .none) { space in
      #expect(space.lockLimit == nil)
      space.lockLimit = .pages(4)
      #expect(space.lockLimit == .pages(4))
      let start = try space.map(length: .pages(8))
      try space.lockPages(start, length: .pages(3))
      try space.lockPages(start, length: .pages(4))
      let past = Self.refusal { () throws(MemoryError) in
        try space.lockPages(start + .pages(3), length: .pages(2))
      }
      #expect(past == MemoryError(.outOfMemory, .lockLimit, 8192))
      #expect(space.lockedBytes == .pages(4))
      // What drivers account for counts against the same limit.
      try space.unlockPages(start, length: .pages(2))
      try space.accountPages(2)
      #expect(space.lockedBytes == .pages(4))
      #expect(
        Self.refusal { () throws(MemoryError) in try space.accountPages(1) }
          == MemoryError(.outOfMemory, .lockLimit, 4096))
      #expect(
        Self.refusal { () throws(MemoryError) in try space.unaccountPages(3) }
          == MemoryError(.invalid, .notAccounted, 3))
      try space.unaccountPages(2)
      // Growing what is locked is EAGAIN, as is mapping when all of the future is.
      try space.unmap(start + .pages(4), length: .pages(4))
      let grown = Self.refusal { () throws(MemoryError) in
        try space.remap(start + .pages(2), length: .pages(2), newLength: .pages(5))
      }
      #expect(grown == MemoryError(.tryAgain, .lockLimit, 12288))
      try space.lockAllPages(.future)
      let mapped = Self.refusal { () throws(MemoryError) in
        _ = try space.map(length: .pages(3))
      }
      #expect(mapped == MemoryError(.tryAgain, .lockLimit, 12288))
      let fits = try space.map(length: .pages(2))
      #expect(space.page(at: fits + .pages(1)) != nil, "what is locked is populated")
      space.lockLimit = 0
      for all in [false, true] {
        let error = Self.refusal { () throws(MemoryError) in
          if all { try space.lockAllPages(.current) } else { try space.lockPages(start, length: 1) }
        }
        #expect(error == MemoryError(.notPermitted, .lockLimit, 0))
      }
    }
  }

  @Test("accounts that no byte count could tell are refused, and nothing is counted")
  func largeAccounts() throws {
    try withAddressSpace(tier: .none) { space in
      for (most, count) in [(0, Int.max), (0, 1 << 50 + 1), (1 << 50, 1)] {
        try space.accountPages(PageCount(most))
        let before = space.lockedBytes
        let error = Self.refusal { () throws(MemoryError) in
          try space.accountPages(PageCount(count))
        }
        #expect(error?.number == .outOfMemory && error?.reason == .lockLimit)
        #expect(space.lockedBytes == before && before == .pages(most))
        try space.unaccountPages(PageCount(most))
      }
    }
  }

  @Test("mlock stops at a hole with ENOMEM, and at pages that cannot be brought in")
  func failures() throws {
    try withAddressSpace(capacity: .pages(6), tier: .none) { space in
      let start = try space.map(length: .pages(8))
      try space.unmap(start + .pages(3), length: .pages(1))
      #expect(
        Self.refusal { () throws(MemoryError) in
          try space.lockPages(start, length: .pages(5), onFault: true)
        } == MemoryError(.outOfMemory, .notMapped, start + .pages(3)))
      #expect(space.lockedBytes == .pages(3), "as on Linux, what stands before is locked")
      try space.protect(start, length: .pages(1), .none)
      #expect(
        Self.refusal { () throws(MemoryError) in try space.lockPages(start, length: 1) }
          == MemoryError(.outOfMemory, .readForbidden, start))
      let large = try space.map(length: .pages(9))
      #expect(
        Self.refusal { () throws(MemoryError) in try space.lockPages(large, length: .pages(9)) }
          == MemoryError(.tryAgain, .framesExhausted, large + .pages(6)))
      let cases: [(UserAddress, Int, MemoryError.Reason)] = [
        (start, -1, .lengthNotPositive), (UserAddress(.max), 4096, .rangeWraps),
      ]
      for (at, length, reason) in cases {
        for locks in [true, false] {
          let error = Self.refusal { () throws(MemoryError) in
            if locks {
              try space.lockPages(at, length: ByteCount(length))
            } else {
              try space.unlockPages(at, length: ByteCount(length))
            }
          }
          #expect(error?.number == .invalid && error?.reason == reason)
        }
      }
      for scope in [LockScope(), .onFault, LockScope(rawValue: 8), LockScope(rawValue: 9)] {
        let error = Self.refusal { () throws(MemoryError) in try space.lockAllPages(scope) }
        #expect(error == MemoryError(.invalid, .flagsContradict, Int(scope.rawValue)))
      }
    }
  }

  @Test("locked areas refuse DONTNEED, FREE, COLD and PAGEOUT with EINVAL; DONTNEED_LOCKED drops")
  func advice() throws {
    try withAddressSpace(tier: .none) { space in
      let start = try space.map(length: .pages(2))
      try space.write([7], to: start)
      try space.lockPages(start, length: .pages(2))
      for advice in [Advice.dontNeed, .free, .cold, .pageOut] {
        #expect(
          Self.refusal { () throws(MemoryError) in
            try space.advise(start, length: .pages(2), advice)
          } == MemoryError(.invalid, .adviceNotApplicable, start))
      }
      #expect(try space.read(1, at: start) == [7])
      try space.advise(start, length: .pages(2), .dontNeedLocked)
      #expect(try space.read(1, at: start) == [0])
    }
  }

  @Test("a lock is no pin: fork shares the page, the child has no lock, a copy takes its place")
  func noPin() throws {
    try withAddressSpace(tier: .none) { space in
      space.lockLimit = .pages(100)
      let start = try space.map(length: .pages(1))
      try space.lockPages(start, length: 4096)
      try space.lockAllPages([.future, .onFault])
      let page = try #require(space.page(at: start))
      let child = try space.fork()
      #expect(child.page(at: start) == page && !page.mayBePinned)
      #expect(child.lockedBytes == 0 && child.lockLimit == .pages(100))
      let mapped = try child.map(length: .pages(1))
      #expect(child.areas.first { $0.range.contains(mapped) }?.flags.contains(.locked) == false)
      try space.write([1], to: start)
      #expect(space.page(at: start) != page, "the parent's page moved under its lock")
      child.exit()
    }
  }

  @Test("a move takes the lock along; MREMAP_DONTUNMAP leaves the old range unlocked")
  func moved() throws {
    try withAddressSpace(tier: .none) { space in
      let start = try space.map(length: .pages(4))
      try space.lockPages(start, length: .pages(4))
      let target = try space.remap(
        start, length: .pages(4), newLength: .pages(4), keepingOld: true)
      #expect(space.lockedBytes == .pages(4))
      #expect(
        space.areas.first { $0.range.contains(start) }?.flags.contains(.locked) == false)
      let grown = try space.remap(target, length: .pages(4), newLength: .pages(6))
      #expect(space.lockedBytes == .pages(6))
      #expect(space.page(at: grown + .pages(5)) != nil, "what grows under a lock is populated")
    }
  }
}
