//===----------------------------------------------------------------------===//
// What a fault yields (semantics C.5, D.3), seen through explicit accesses, in
// every tier: they need no trap.
//===----------------------------------------------------------------------===//

import AddressSpaces
import CShims
import PageFrames
import TestSupport
import Testing

@Suite("Faults")
struct FaultTests {
  @Test(
    "C.5: a read of untouched private memory shows the zero page and takes nothing",
    arguments: TrapTier.all)
  func readFault(tier: TrapTier) throws {
    try withAddressSpace(tier: tier) { space in
      let memory = space.memory
      let start = try space.map(length: .pages(1000))
      let free = memory.freeFrameCount
      let references = memory.zeroPage.referenceCount
      #expect(try space.read(1000 * 4096, at: start).allSatisfy { $0 == 0 })
      for i in [0, 1, 511, 512, 999] {
        #expect(space.page(at: start + .pages(i)) == memory.zeroPage)
        #expect(!space.isWritable(at: start + .pages(i)))
      }
      #expect(memory.freeFrameCount == free)
      #expect(memory.zeroPage.referenceCount == references && memory.zeroPage.mapCount == 0)
      #expect(memory.counters.faults == 1000)
    }
  }

  @Test(
    "C.5: a write fault yields an exclusive, dirty page with one reference",
    arguments: TrapTier.all)
  func writeFault(tier: TrapTier) throws {
    try withAddressSpace(tier: tier) { space in
      let start = try space.map(length: .pages(3))
      let free = space.memory.freeFrameCount
      try space.write([42], to: start + .pages(1) + 17)
      let page = try #require(space.page(at: start + .pages(1)))
      #expect(page.isAnonymous && page.isAnonymousExclusive && !page.mayBePinned)
      #expect(page.referenceCount == 1 && page.mapCount == 1 && page.folioOrder == 0)
      #expect(space.isWritable(at: start + .pages(1)))
      #expect(unsafe page.bytes[17] == 42 && page.bytes[16] == 0 && page.bytes[18] == 0)
      #expect(space.page(at: start) == nil && space.page(at: start + .pages(2)) == nil)
      #expect(space.memory.freeFrameCount.rawValue == free.rawValue - 1)
      // Accesses that the page serves are no faults.
      let faults = space.memory.counters.faults
      try space.write([43], to: start + .pages(1))
      #expect(try space.read(1, at: start + .pages(1)) == [43])
      #expect(space.memory.counters.faults == faults && faults == 1)
    }
  }

  @Test(
    "D.3 row 4: a write after a read replaces the zero page by a page of one's own",
    arguments: TrapTier.all)
  func readThenWrite(tier: TrapTier) throws {
    try withAddressSpace(tier: tier) { space in
      let start = try space.map(length: .pages(4))
      #expect(try space.read(4 * 4096, at: start).allSatisfy { $0 == 0 })
      try space.write([5], to: start + .pages(2))
      for i in 0..<4 {
        let page = try #require(space.page(at: start + .pages(i)))
        #expect(page.isZeroPage == (i != 2))
      }
      #expect(try space.read(2, at: start + .pages(2)) == [5, 0])
      #expect(space.memory.counters.faults == 5)
      #expect(unsafe space.memory.zeroPage.bytes.allSatisfy { $0 == 0 })
    }
  }

  @Test(
    "mprotect to read-only and back keeps the page and lets stores through again",
    arguments: TrapTier.all)
  func protectRoundTrip(tier: TrapTier) throws {
    try withAddressSpace(tier: tier) { space in
      let start = try space.map(length: .pages(4))
      try space.writeEveryPage(start, 4, 1)
      let page = space.page(at: start + .pages(1))
      try space.protect(start + .pages(1), length: .pages(2), .readOnly)
      #expect(space.areas.map(\.protection) == [.readWrite, .readOnly, .readWrite])
      #expect(!space.isWritable(at: start + .pages(1)))
      let error = MappingTests.refusal { () throws(MemoryError) in
        try space.write([9], to: start + .pages(1))
      }
      #expect(error == MemoryError(.badAddress, .writeForbidden, start + .pages(1)))
      #expect(try space.read(1, at: start + .pages(1)) == [1])
      try space.protect(start, length: .pages(4), .readWrite)
      // D.3: exclusive, so writable at once.
      #expect(space.isWritable(at: start + .pages(1)))
      try space.write([9], to: start + .pages(1))
      #expect(space.page(at: start + .pages(1)) == page && space.peek(start + .pages(1)) == 9)
    }
  }

  @Test(
    "PROT_NONE and back keeps page and bytes; meanwhile nothing passes",
    arguments: TrapTier.all)
  func noneAndBack(tier: TrapTier) throws {
    try withAddressSpace(tier: tier) { space in
      for sharing in [Sharing.private, .shared] {
        let start = try space.map(length: .pages(3), sharing: sharing)
        try space.writeEveryPage(start, 3, 8)
        let page = space.page(at: start)
        try space.protect(start, length: .pages(3), .none)
        #expect(space.page(at: start) == page)
        for write in [false, true] {
          let error = MappingTests.refusal { () throws(MemoryError) in
            if write { try space.write([1], to: start) } else { _ = try space.read(1, at: start) }
          }
          let reason: MemoryError.Reason = write ? .writeForbidden : .readForbidden
          #expect(error == MemoryError(.badAddress, reason, start))
        }
        try space.protect(start, length: .pages(3), .readWrite)
        #expect(space.page(at: start) == page && space.load(start) == 8)
        space.store(7, at: start + .pages(2))
        #expect(space.peek(start + .pages(2)) == 7)
      }
    }
  }

  @Test(
    "mprotect stops at the first hole, and the part before it has changed",
    arguments: TrapTier.all)
  func protectOverHole(tier: TrapTier) throws {
    try withAddressSpace(tier: tier) { space in
      let start = try space.map(length: .pages(6))
      try space.unmap(start + .pages(3), length: .pages(1))
      func attempt(_ page: Int, _ count: Int) -> MemoryError? {
        MappingTests.refusal { () throws(MemoryError) in
          try space.protect(start + .pages(page), length: .pages(count), .readOnly)
        }
      }
      let hole = MemoryError(.outOfMemory, .notMapped, start + .pages(3))
      #expect(attempt(1, 5) == hole)
      #expect(space.areas.map(\.protection) == [.readWrite, .readOnly, .readWrite])
      #expect(attempt(3, 3) == hole)
      #expect(space.areas.map(\.protection) == [.readWrite, .readOnly, .readWrite])
      #expect(attempt(4, 0) == nil)
      let odd = UserAddress(start.rawValue + 1)
      for length in [0, 4096] {
        let error = MappingTests.refusal { () throws(MemoryError) in
          try space.protect(odd, length: ByteCount(length), .readOnly)
        }
        #expect(error == MemoryError(.invalid, .addressMisaligned, odd))
      }
      for length in [-1, Int.min] {
        let error = MappingTests.refusal { () throws(MemoryError) in
          try space.protect(start, length: ByteCount(length), .readOnly)
        }
        #expect(error == MemoryError(.invalid, .lengthNotPositive, length))
      }
      let far = MappingTests.refusal { () throws(MemoryError) in
        try space.protect(UserAddress(.max - 4095), length: 8192, .readOnly)
      }
      #expect(far?.number == .outOfMemory && far?.reason == .rangeWraps)
    }
  }

  @Test(
    "a shared mapping's pages belong to its object: zapping loses nothing",
    arguments: TrapTier.all)
  func sharedPages(tier: TrapTier) throws {
    try withAddressSpace(tier: tier) { space in
      let start = try space.map(length: .pages(4), sharing: .shared)
      try space.writeEveryPage(start, 4, 6)
      let page = try #require(space.page(at: start))
      // The object's reference and the mapping's.
      #expect(page.referenceCount == 2 && page.mapCount == 1 && !page.isAnonymous)
      try space.advise(start, length: .pages(4), .dontNeed)
      #expect(space.page(at: start) == nil && page.referenceCount == 1 && page.mapCount == 0)
      #expect(try space.read(1, at: start) == [6])
      #expect(space.page(at: start) == page)
      // A hole in the mapping is none in the object.
      try space.unmap(start + .pages(1), length: .pages(1))
      #expect(space.areas.count == 2)
      #expect(try space.read(1, at: start + .pages(2)) == [6])
    }
  }

  @Test("running out of frames in the middle of a run keeps what was made", arguments: TrapTier.all)
  func exhaustion(tier: TrapTier) throws {
    try withAddressSpace(capacity: .pages(10), tier: tier) { space in
      for sharing in [Sharing.private, .shared] {
        let start = try space.map(length: .pages(16), sharing: sharing)
        let bytes = [UInt8](repeating: 4, count: 16 * 4096)
        let error = MappingTests.refusal { () throws(MemoryError) in
          try space.write(bytes, to: start)
        }
        #expect(error == MemoryError(.outOfMemory, .framesExhausted, start + .pages(10)))
        for i in 0..<16 { #expect(space.peek(start + .pages(i)) == (i < 10 ? 4 : nil)) }
        #expect(space.memory.freeFrameCount == 0)
        try space.unmap(start, length: .pages(16))
        #expect(space.memory.freeFrameCount == 10)
      }
    }
  }

  @Test(
    "a page of an area without any permission, faulted in by force, stays out of the program's reach"
  )
  func forcedIntoNone() throws {
    try withAddressSpace(tier: .sigsegv) { space in
      let start = try space.map(length: .pages(2), protection: .none)
      let mm = space.mm
      mm.lock()
      let area = unsafe mm.area(containing: start.rawValue)
      let result = unsafe mm.handleFault(at: start.rawValue, pages: 1, in: area!, access: .write)
      mm.unlock()
      #expect(result.outcome == .done && result.pages == 1)
      let page = try #require(space.page(at: start))
      #expect(page.isAnonymousExclusive && !space.isWritable(at: start))
      let entry = unsafe try #require(mm.entry(at: start.rawValue))
      let value = unsafe cshims_pte_load(entry)
      #expect(value & CSHIMS_PTE_PRESENT == 0 && value & CSHIMS_PTE_PROTNONE != 0)
      try space.protect(start, length: .pages(2), .readWrite)
      #expect(space.page(at: start) == page)
    }
  }
}
