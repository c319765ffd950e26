//===----------------------------------------------------------------------===//
// Fault injection: the n-th passage of a point fails, for n = 1, 2, ... until
// the work succeeds; at no n is anything lost.
//===----------------------------------------------------------------------===//

import AddressSpaces
import CShims
import Events
import PageFrames
import TestSupport
import Testing

@Suite("Failure points")
struct FailurePointTests {
  static let points: [FailurePoint] = [
    .frameAllocation, .metadataAllocation, .fault, .hostMapping,
  ]

  /// Some of everything that an address space does.
  private static func work(_ memory: PhysicalMemory) throws {
    let space = try AddressSpace(memory: memory)
    let start = try space.map(length: .pages(20))
    try space.write([UInt8](repeating: 1, count: 5 * 4096), to: start + 100)
    _ = try space.read(8 * 4096, at: start + .pages(4))
    try space.write([1], to: start + .pages(7))
    let shared = try space.map(length: .pages(4), sharing: .shared, at: .fixed(start + .pages(9)))
    try space.write([2], to: shared + .pages(2))
    try space.protect(start + .pages(2), length: .pages(9), .readOnly)
    try space.advise(start + .pages(14), length: .pages(3), .populateWrite)
    try space.advise(start + .pages(15), length: .pages(1), .dontNeed)
    try space.advise(start + .pages(3), length: .pages(2), .dontFork)
    try space.unmap(start + .pages(1), length: .pages(2))
    let page = try memory.allocatePage(order: 2)
    page.put()
  }

  @Test(
    "fail-nth: each passage of each point in turn fails, the work reports it, and nothing leaks",
    arguments: points, TrapTier.all)
  func failNth(point: FailurePoint, tier: TrapTier) throws {
    var n = 1
    while true {
      let failures = try withMachine(capacity: .mebibytes(2), tier: tier) { memory -> Int in
        // The first address space opens the trap.
        _ = try AddressSpace(memory: memory)
        memory.arm(point, countdown: n)
        let error: (any Error)?
        do {
          try Self.work(memory)
          error = nil
        } catch let caught {
          error = caught
        }
        let failures = memory.failures(of: point)
        memory.arm(point, countdown: 0)
        // Some failures are survived: what is a preference only, or done again.
        #expect(failures > 0 || error == nil)
        if let error { #expect(error is MemoryError, "\(error)") }
        // And then all of it works.
        try Self.work(memory)
        return failures
      }
      if failures == 0 { break }
      n += 1
      try #require(n < 500)
    }
    #expect(n > 1, "the work passes the point at all")
  }

  @Test("a call that fails by injection has changed nothing", arguments: TrapTier.all)
  func nothingChanged(tier: TrapTier) throws {
    try withAddressSpace(tier: tier) { space in
      let memory = space.memory
      let start = try space.map(length: .pages(8))
      try space.writeEveryPage(start, 8, 5)
      for point in [FailurePoint.metadataAllocation, .hostMapping] {
        for n in 1...6 {
          let account = Account(memory)
          let areas = space.areas
          memory.arm(point, countdown: n)
          var failed = false
          do throws(MemoryError) {
            let got = try space.map(length: .pages(2), sharing: .shared)
            memory.arm(point, countdown: 0)
            try space.unmap(got, length: .pages(2))
          } catch {
            failed = true
            #expect(error.number == .outOfMemory)
          }
          memory.arm(point, countdown: 0)
          #expect(space.areas == areas)
          if failed { #expect(Account(memory).freeFrames == account.freeFrames) }
          // Splitting needs two nodes.
          memory.arm(point, countdown: min(n, 2))
          do throws(MemoryError) {
            try space.unmap(start + .pages(3), length: .pages(1))
            memory.arm(point, countdown: 0)
            _ = try space.map(length: .pages(1), at: .fixed(start + .pages(3)))
            try space.write([5], to: start + .pages(3))
          } catch {
            #expect(error.reason == .metadataExhausted)
            #expect(space.areas == areas)
          }
          memory.arm(point, countdown: 0)
          for i in 0..<8 { #expect(space.peek(start + .pages(i)) == 5) }
        }
      }
    }
  }

  @Test(
    "the program's store where no frame can be had by injection gets one when it tries again",
    arguments: TrapTier.testable)
  func nativeStore(tier: TrapTier) throws {
    try withAddressSpace(tier: tier) { space in
      let memory = space.memory
      let start = try space.map(length: .pages(600))
      // A view record that cannot be made is made at the next attempt.
      for (i, point) in [FailurePoint.hostMapping].enumerated() {
        memory.arm(point, countdown: 1)
        space.store(1, at: start + .pages(i))
        memory.arm(point, countdown: 0)
        #expect(space.peek(start + .pages(i)) == 1)
      }
    }
  }
}
