//===----------------------------------------------------------------------===//
// Extractions that meet a page they cannot have: holes, protection, absence,
// the end of user space, exhaustion.
//===----------------------------------------------------------------------===//

import AddressSpaces
import Events
import GUP
import PageExtraction
import PageFrames
import Testing

@Suite("Extraction faults")
struct FaultTests {
  @Test(
    "A-11, A-12, A-18, F-23: a hole makes a short success; the error comes with the next call",
    arguments: Way.all)
  func hole(_ way: Way) throws {
    try withSpace { space in
      let base = try space.filledArea(5)
      let hole = base + .pages(3)
      try space.unmap(hole, length: .pages(1))
      var iterator = try way.iterator(base + 1000, .pages(4), in: space)
      let before = iterator
      let extraction = try iterator.extractPages()
      expectContract(extraction.result, from: before, to: iterator)
      #expect(extraction.length == ByteCount(3 * 4096 - 1000))
      #expect(extraction.pageCount == 3)
      guard case .fault(let error) = extraction.stop else {
        Issue.record("stopped by \(extraction.stop)")
        return
      }
      #expect(error.number == .badAddress && error.value == hole.rawValue)
      #expect(space.outstanding == 3)

      // Nothing more, as often as it is tried; the iterator stays.
      let place = iterator.saveState()
      var list = try PageBuffer(capacity: 4)
      for _ in 0..<3 {
        #expect(errorNumber { try iterator.extractPages().release() } == .badAddress)
        #expect(errorNumber { try iterator.extractPages(into: &list) } == .badAddress)
        #expect(iterator.saveState() == place)
        #expect(list.count == 0)
      }
      #expect(space.outstanding == 3)
      // It can be passed.
      try iterator.advance(by: 4096)
      #expect(try iterator.extractPages().length == 1000)
    }
  }

  @Test(
    "F-07: a loop over an iterator ends, by the last byte or by an error", arguments: Way.segmented)
  func loop(_ way: Way) throws {
    try withSpace { space in
      let base = try space.filledArea(2)
      try space.unmap(base + .pages(1), length: .pages(1))
      let segments = [
        UserSegment(base: base, length: 10), UserSegment(base: base, length: 0),
        UserSegment(base: base + 4000, length: 200),
      ]
      var iterator = try way.iterator(segments, in: space)
      var calls = 0
      var ended: MemoryError?
      while iterator.count > 0, ended == nil {
        calls += 1
        try #require(calls < 10)
        do {
          let extraction = try iterator.extractPages()
          try #require(extraction.length > 0)
        } catch let error as MemoryError {
          ended = error
        }
      }
      #expect(calls == 3)
      #expect(ended?.number == .badAddress)
      #expect(iterator.count == 104)
    }
  }

  @Test(
    "A-13: a range whose last page wraps is EOVERFLOW, never an empty success", arguments: Way.all)
  func overflow(_ way: Way) throws {
    try withSpace { space in
      var iterator = try way.iterator(UserAddress(UInt64.max - 4095), 100, in: space)
      let place = iterator.saveState()
      #expect(errorNumber { try iterator.extractPages().release() } == .overflow)
      #expect(iterator.saveState() == place)
    }
  }

  @Test("A-17: a range that leaves user space is EFAULT as a whole", arguments: Way.all)
  func aboveUserSpace(_ way: Way) throws {
    try withSpace { space in
      let end = UserAddress(0x7fff_ffff_f000)
      // The last page of user space, where nothing else has it.
      let last = try? space.map(
        length: .pages(1), at: .fixedNoReplace(UserAddress(end.rawValue - 4096)))
      var iterator = try way.iterator(UserAddress(end.rawValue - 4096), .pages(2), in: space)
      #expect(errorNumber { try iterator.extractPages().release() } == .badAddress)
      #expect(iterator.offset == 0)
      #expect(space.outstanding == 0)
      if last != nil {
        // What does not leave it is fine.
        #expect(try iterator.extractPages(maxPages: 1).length == 4096)
      }
      var foreign = try way.iterator(UserAddress(0xffff_8000_0000_0000), 1, in: space)
      #expect(errorNumber { try foreign.extractPages().release() } == .badAddress)
    }
  }

  @Test(
    "A-19, A-20: without faults, an absent page is EFAULT at first and a short success later",
    arguments: Way.all)
  func noFault(_ way: Way) throws {
    try withSpace { space in
      let base = try space.map(length: .pages(3))
      try space.fill(base, .pages(1))
      var iterator = try way.iterator(base, .pages(3), in: space)
      iterator.noFault = true
      let before = iterator
      let extraction = try iterator.extractPages()
      expectContract(extraction.result, from: before, to: iterator)
      #expect(extraction.length == 4096)
      #expect(
        extraction.stop == .fault(MemoryError(.badAddress, .notPresent, base + .pages(1))))
      extraction.release()
      #expect(errorNumber { try iterator.extractPages().release() } == .badAddress)
      #expect(space.page(at: base + .pages(1)) == nil)
      // The same iterator, allowed to fault.
      iterator.noFault = false
      #expect(try iterator.extractPages().length == 8192)
    }
  }

  @Test(
    "A-19: without faults, the zero page is no destination and its sharing is not broken",
    arguments: Way.destinations)
  func noFaultWrite(_ way: Way) throws {
    try withSpace { space in
      let base = try space.map(length: .pages(1))
      _ = try space.bytes(base, 1)
      #expect(space.page(at: base) == space.memory.zeroPage)
      var iterator = try way.iterator(base, 100, in: space)
      iterator.noFault = true
      #expect(errorNumber { try iterator.extractPages().release() } == .badAddress)
      #expect(space.page(at: base) == space.memory.zeroPage)
    }
  }

  @Test(
    "A-23: a destination needs pages that may be written; a source does not", arguments: Way.all)
  func readOnly(_ way: Way) throws {
    try withSpace { space in
      let base = try space.filledArea(2)
      try space.protect(base + .pages(1), length: .pages(1), .readOnly)
      var iterator = try way.iterator(base, .pages(2), in: space)
      let extraction = try iterator.extractPages()
      let wanted: ByteCount = way.direction == .source ? 8192 : 4096
      #expect(extraction.length == wanted)
      if way.direction == .destination {
        #expect(
          extraction.stop == .fault(MemoryError(.badAddress, .writeForbidden, base + .pages(1))))
      }
    }
  }

  @Test("A-14, A-15, F-14: a call that fails leaves no hold, no list, no move", arguments: Way.all)
  func failureLeavesNothing(_ way: Way) throws {
    try withSpace { space in
      let base = try space.map(length: .pages(1))
      try space.unmap(base, length: .pages(1))
      var iterator = try way.iterator(base + 5, .pages(8), in: space)
      let place = iterator.saveState()
      var list = try PageBuffer(capacity: 9)
      list.count = 3
      for _ in 0..<100 {
        #expect(errorNumber { try iterator.extractPages().release() } == .badAddress)
        #expect(errorNumber { try iterator.extractPages(into: &list) } == .badAddress)
      }
      #expect(list.count == 3)
      #expect(iterator.saveState() == place)
      #expect(space.outstanding == 0)

      let page = try space.map(length: .pages(1))
      var fine = try way.iterator(page, 10, in: space)
      space.memory.arm(.pageListAllocation, countdown: 1)
      #expect(errorNumber { try fine.extractPages().release() } == .outOfMemory)
      #expect(space.memory.failures(of: .pageListAllocation) == 1)
      #expect(fine.offset == 0)
      #expect(try fine.extractPages().length == 10)
    }
  }

  @Test(
    "F-14, F-16, F-23: whatever fails at its n-th passage, the result is whole or short, nothing leaks",
    arguments: Way.all)
  func failNth(_ way: Way) throws {
    for point in [FailurePoint.frameAllocation, .metadataAllocation, .fault, .grab] {
      for nth in 1...12 {
        try withSpace { space in
          let base = try space.map(length: .pages(8))
          var iterator = try way.iterator(base + 100, .pages(7), in: space)
          let before = iterator
          space.memory.arm(point, countdown: nth)
          do {
            let extraction = try iterator.extractPages()
            let result = extraction.result
            expectContract(result, from: before, to: iterator)
            if result.length < before.count {
              guard case .fault(let error) = result.stop else {
                Issue.record("\(point) \(nth): stopped by \(result.stop)")
                return
              }
              #expect(error.value == (base + .pages(result.pageCount)).rawValue)
            }
          } catch let error as MemoryError {
            #expect(error.number == .outOfMemory || error.number == .badAddress)
            #expect(iterator.saveState() == before.saveState())
          }
          space.memory.arm(point, countdown: 0)
          #expect(space.outstanding == 0)
          // The next call has what is left, from the same byte on.
          let place = iterator.offset
          if iterator.count > 0 {
            let rest = try iterator.extractPages()
            #expect(rest.length + place == .pages(7))
          }
        }
      }
    }
  }

  @Test("A-11: physical memory that runs out makes a short success", arguments: Way.destinations)
  func exhausted(_ way: Way) throws {
    try withSpace(capacity: .mebibytes(4)) { space in
      let base = try space.map(length: .mebibytes(8))
      var iterator = try way.iterator(base, .mebibytes(8), in: space)
      let before = iterator
      let extraction = try iterator.extractPages()
      expectContract(extraction.result, from: before, to: iterator)
      #expect(extraction.length > 0 && extraction.length < .mebibytes(8))
      guard case .fault(let error) = extraction.stop else {
        Issue.record("stopped by \(extraction.stop)")
        return
      }
      #expect(error.number == .outOfMemory)
      #expect(errorNumber { try iterator.extractPages().release() } == .outOfMemory)
    }
  }

  @Test("An address space that has exited gives nothing", arguments: Way.all)
  func exited(_ way: Way) throws {
    try withSpace { space in
      let base = try space.filledArea(1)
      var iterator = try way.iterator(base, 10, in: space)
      let held = try iterator.extractPages(maxSize: 5)
      space.exit()
      #expect(errorNumber { try iterator.extractPages().release() } != nil)
      #expect(iterator.offset == 5)
      // What is held outlives it.
      #expect(held[0].referenceCount > 0)
    }
  }
}
