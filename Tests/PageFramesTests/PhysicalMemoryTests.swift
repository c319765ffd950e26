//===----------------------------------------------------------------------===//
// Machines: which can be made, what they cost, what they count, and how they
// fail when they are told to. What they leave in the process when they go is
// tried in a process of its own (AddressSpacesTests/ProcessTests.swift).
//===----------------------------------------------------------------------===//

import CShims
import Events
import PageFrames
import TestSupport
import Testing

@Suite("PhysicalMemory")
struct PhysicalMemoryTests {
  private static func refusal(_ capacity: Int) -> MemoryError? {
    do throws(MemoryError) {
      _ = try PhysicalMemory(capacity: ByteCount(capacity), trapTier: .none)
      return nil
    } catch {
      return error
    }
  }

  @Test(
    "a capacity of nothing, below nothing, of part of a page or above 1 TiB is refused",
    arguments: [0, -1, -4096, 1, 4095, 4097, (1 << 40) + 4096, Int.max, Int.min, Int.max - 4095])
  func badCapacity(capacity: Int) {
    #expect(Self.refusal(capacity) == MemoryError(.invalid, .capacityInvalid, capacity))
  }

  @Test(
    "every capacity from one page to 1 TiB works to its last frame",
    arguments: [1, 2, 3, 511, 512, 513, 1023, 1024, 1025, 5000, 1 << 18, 1 << 28])
  func capacities(pages: Int) throws {
    try withMachine(capacity: .pages(pages)) { memory in
      #expect(memory.totalFrameCount.rawValue == pages && memory.capacity == .pages(pages))
      #expect(memory.freeFrameCount.rawValue == pages)
      let last = PageFrameNumber(Machine.reservedFrames + UInt64(pages) - 1)
      let got = memory.machine.allocateRun(at: last.rawValue, count: 2, flags: 0)
      #expect(got == 1)
      let page = try #require(memory.page(last))
      #expect(page.referenceCount == 1)
      unsafe page.bytes[4095] = 1
      page.release(.reference)
      #expect(memory.page(PageFrameNumber(last.rawValue + 1)) == nil)
      #expect(memory.page(PageFrameNumber(.max)) == nil)
      // Frames that show the zero page belong to nobody.
      #expect(memory.page(PageFrameNumber(5))?.tryAcquire(.reference) == false)
      #expect(memory.machine.allocateRun(at: 0, count: 600, flags: 0) == 0)
    }
  }

  @Test("the default machine of 64 GiB is sparse: it costs next to nothing until it is used")
  func sparse() throws {
    try withMachine(capacity: .gibibytes(64)) { memory in
      #expect(memory.residentBytes == 0)
      let page = try memory.allocatePage()
      #expect(memory.residentBytes == 4096)
      page.put()
      // The metadata that has been touched: header, lists, one descriptor's page.
      let header = unsafe UnsafeMutableRawPointer(memory.machine.header)
      let pages = (16 << 20) * 40 / 4096
      let vector = UnsafeMutablePointer<UInt8>.allocate(capacity: pages)
      defer { unsafe vector.deallocate() }
      #expect(unsafe cshims_mincore(header, UInt64(pages) << 12, vector) == 0)
      let resident = (0..<pages).count { unsafe vector[$0] & 1 != 0 }
      #expect(resident < 64, "\(resident) pages of metadata")
    }
  }

  @Test("many machines live side by side and do not meet")
  func manyMachines() throws {
    var machines: [PhysicalMemory] = []
    var pages: [Page] = []
    for _ in 0..<40 {
      let memory = try PhysicalMemory(capacity: .pages(16), trapTier: .none)
      let page = try memory.allocatePage()
      unsafe page.bytes.storeBytes(of: machines.count, as: Int.self)
      machines.append(memory)
      pages.append(page)
    }
    for (i, page) in pages.enumerated() {
      #expect(page.machine == machines[i].machine)
      #expect(unsafe page.bytes.load(as: Int.self) == i)
      page.put()
      #expect(machines[i].freeFrameCount == 16 && machines[i].counters.outstanding == 0)
    }
  }

  @Test("the budget is a quarter of the host's limit, at least 64, and never overflows a sum")
  func budgets() throws {
    let cases: [(Int?, Int?)] = [
      (nil, nil), (0, 64), (-5, 64), (63, 64), (65, 65), (.max, Int(Int32.max)),
    ]
    for (given, expected) in cases {
      let memory = try PhysicalMemory(
        capacity: .pages(1), trapTier: .none, hostMappingBudget: given)
      if let expected { #expect(memory.hostMappingBudget == expected) }
      #expect(memory.hostMappingBudget >= 64)
    }
  }

  @Test("allocatePage refuses orders that are none, and says when memory is out")
  func allocation() throws {
    try withMachine(capacity: .pages(8)) { memory in
      func refusal(_ order: Int) -> MemoryError? {
        do throws(MemoryError) {
          try memory.allocatePage(order: order).put()
          return nil
        } catch {
          return error
        }
      }
      for order in [-1, 11, Int.min, Int.max] {
        #expect(refusal(order) == MemoryError(.invalid, .orderInvalid, order))
        #expect(memory.machine.allocate(order: order, flags: 0) == nil)
      }
      #expect(refusal(4) == MemoryError(.outOfMemory, .framesExhausted, 4))
      #expect(refusal(3) == nil)
      #expect(memory.counters.referencesAcquired == 1 && memory.counters.referencesReleased == 1)
    }
  }

  @Test(
    "a failure point fails once, on the passage it was told, and nothing has changed then",
    arguments: [1, 2, 5])
  func failurePoints(countdown: Int) throws {
    try withMachine(capacity: .pages(64)) { memory in
      memory.arm(.frameAllocation, countdown: countdown)
      var pages: [Page] = []
      for i in 1...8 {
        let before = memory.freeFrameCount
        do throws(MemoryError) {
          pages.append(try memory.allocatePage())
          #expect(i != countdown)
        } catch {
          #expect(i == countdown && error.number == .outOfMemory && memory.freeFrameCount == before)
        }
      }
      #expect(pages.count == 7 && memory.failures(of: .frameAllocation) == 1)
      memory.arm(.frameAllocation, countdown: 0)
      memory.arm(.frameAllocation, countdown: -3)
      try memory.allocatePage().put()
      #expect(memory.failures(of: .frameAllocation) == 1)
      #expect(memory.failures(of: .metadataAllocation) == 0)
      for page in pages { page.put() }
    }
  }

  @Test("a failure of one machine is none of another's")
  func failurePointsAreApart() throws {
    try withMachine(capacity: .pages(4)) { one in
      try withMachine(capacity: .pages(4)) { other in
        one.arm(.frameAllocation, countdown: 1)
        try other.allocatePage().put()
        #expect(throws: MemoryError.self) { try one.allocatePage() }
        #expect(other.failures(of: .frameAllocation) == 0)
        one.arm(.frameAllocation, countdown: 0)
      }
    }
  }

  @Test("counters are exact over threads that come and go, many more than shards")
  func counters() throws {
    try withMachine(capacity: .pages(4)) { memory in
      let page = try memory.allocatePage()
      for _ in 0..<3 {
        onThreads(80) { thread in
          for _ in 0..<50 {
            do throws(MemoryError) { try page.get() } catch { Issue.record(error) }
            memory.machine.count(CSHIMS_PINS_ACQUIRED, thread)
            memory.machine.count(CSHIMS_PINS_RELEASED, thread)
            page.put()
          }
        }
      }
      #expect(memory.counters.referencesAcquired == 3 * 80 * 50 + 1)
      #expect(memory.counters.pinsAcquired == 3 * 50 * (79 * 80 / 2))
      #expect(memory.counters.outstanding == 1 && page.referenceCount == 1)
      page.put()
    }
  }
}
