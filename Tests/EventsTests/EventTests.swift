//===----------------------------------------------------------------------===//
// Design decision 11: everything that happens is told once, with the right
// numbers, to the one sink of its machine; and nobody is told when it is off.
//===----------------------------------------------------------------------===//

import AddressSpaces
import CShims
import Events
import PageFrames
import TestSupport
import Testing

@Suite("Events")
struct EventTests {
  private static func event(
    _ kind: EventKind, _ address: UserAddress, _ pages: Int, frame: Page? = nil
  ) -> Event {
    Event(
      kind: kind, address: address.rawValue, frame: frame?.frameNumber.rawValue ?? 0,
      pageCount: UInt64(pages))
  }

  @Test(
    "map, protect, advise and unmap are told once, with address and pages",
    arguments: TrapTier.all)
  func calls(tier: TrapTier) throws {
    try withAddressSpace(tier: tier) { space in
      let log = EventLog(space.memory)
      let start = try space.map(length: 8194)
      #expect(log.take() == [Self.event(.map, start, 3)])
      try space.protect(start + .pages(1), length: .pages(2), .readOnly)
      #expect(log.take() == [Self.event(.protect, start + .pages(1), 2)])
      try space.advise(start, length: .pages(1), .cold)
      #expect(log.take() == [Self.event(.advise, start, 1)])
      _ = try space.map(length: .pages(1), at: .fixed(start + .pages(2)))
      #expect(
        log.take() == [
          Self.event(.unmap, start + .pages(2), 1), Self.event(.map, start + .pages(2), 1),
        ])
      try space.unmap(start, length: .pages(9))
      #expect(log.take() == [Self.event(.unmap, start, 9)])
      // Nothing was there, nothing was done.
      try space.unmap(start, length: .pages(9))
      _ = try? space.map(length: 0)
      try? space.protect(start, length: .pages(1), .none)
      #expect(log.take().isEmpty)
    }
  }

  @Test(
    "a fault is told once for a run of pages, with its first frame; a copy is told, too",
    arguments: TrapTier.all)
  func faults(tier: TrapTier) throws {
    try withAddressSpace(tier: tier) { space in
      let memory = space.memory
      let start = try space.map(length: .pages(20))
      let log = EventLog(memory)
      #expect(try space.read(1, at: start + .pages(1)) == [0])
      #expect(log.take() == [Self.event(.fault, start + .pages(1), 1, frame: memory.zeroPage)])
      try space.write([1], to: start + .pages(1))
      let copied = space.page(at: start + .pages(1))
      #expect(
        log.take() == [
          Self.event(.copy, start + .pages(1), 1, frame: copied),
          Self.event(.fault, start + .pages(1), 1, frame: copied),
        ])
      // A sink changes nothing of what it watches: one run, one event.
      try space.advise(start + .pages(2), length: .pages(10), .populateWrite)
      #expect(
        log.take() == [
          Self.event(.fault, start + .pages(2), 10, frame: space.page(at: start + .pages(2))),
          Self.event(.advise, start + .pages(2), 10),
        ])
      // What is there already is no fault.
      try space.write([2], to: start + .pages(5))
      #expect(log.take().isEmpty)
      #expect(memory.counters.faults == 12)
    }
  }

  @Test("the program's own touches are told from the fault service", arguments: TrapTier.testable)
  func nativeFaults(tier: TrapTier) throws {
    try withAddressSpace(tier: tier) { space in
      let start = try space.map(length: .pages(4))
      let log = EventLog(space.memory)
      space.store(1, at: start + .pages(2) + 123)
      #expect(
        log.take() == [
          Self.event(.fault, start + .pages(2), 1, frame: space.page(at: start + .pages(2)))
        ])
      space.store(2, at: start + .pages(2))
      #expect(log.take().isEmpty)
    }
  }

  @Test("a fork is told once, with the pages that were shared or copied", arguments: TrapTier.all)
  func forks(tier: TrapTier) throws {
    try withAddressSpace(tier: tier) { space in
      let start = try space.map(length: .pages(20))
      try space.writeEveryPage(start + .pages(4), 3, 1)
      let pinned = try #require(space.page(at: start + .pages(5)))
      try pinned.acquire(.pin)
      let log = EventLog(space.memory)
      let child = try space.fork()
      #expect(
        log.take().filter { $0.kind == .fork } == [Event(kind: .fork, address: 0, pageCount: 3)])
      child.exit()
      pinned.release(.pin)
    }
  }

  @Test(
    "off, nothing is told; another machine's sink hears nothing; the last one attached hears all")
  func attaching() throws {
    try withMachine { quiet in
      try withMachine { loud in
        let log = EventLog(loud)
        do {
          let space = try AddressSpace(memory: quiet)
          _ = try space.map(length: 4096)
          #expect(log.count == 0)
        }
        do {
          let space = try AddressSpace(memory: loud)
          _ = try space.map(length: 4096)
          #expect(log.count == 1)
          do {
            let second = EventLog(loud)
            _ = try space.map(length: 4096)
            #expect(second.count == 1 && log.count == 1)
          }
          // The second has gone, and left none in its place.
          _ = try space.map(length: 4096)
          #expect(log.count == 1)
          #expect(unsafe !cshims_instrumented(loud.machine.header))
        }
      }
    }
  }

  @Test("when a sink has been detached no call of it is left, whatever threads were doing")
  func detaching() throws {
    try withAddressSpace(tier: .sigsegv) { space in
      let start = try space.map(length: .pages(64))
      onThreads(3) { thread in
        for i in 0..<300 {
          if thread == 0 {
            // Its memory goes at once; a late call would write into it.
            let log = EventLog(space.memory)
            if log.count > 4096 { Issue.record("more events than can be") }
          } else {
            let address = start + .pages((i * 7 + thread * 31) % 64)
            try? space.write([1], to: address)
            try? space.advise(address, length: 4096, .dontNeed)
          }
        }
      }
      #expect(unsafe !cshims_instrumented(space.memory.machine.header))
    }
  }

  @Test("kinds have numbers of their own, from 0 on: a C sink's switch stays right")
  func kinds() {
    #expect(EventKind.allCases.map(\.rawValue) == Array(0..<UInt32(EventKind.allCases.count)))
    #expect(
      FailurePoint.allCases.map(\.rawValue) == Array(0..<UInt32(FailurePoint.allCases.count)))
    #expect(FailurePoint.allCases.count <= Int(CSHIMS_FAILURE_POINTS))
    for kind in EventKind.allCases { #expect(EventKind(rawValue: kind.rawValue) == kind) }
    #expect(EventKind(rawValue: 1000) == nil)
  }
}
