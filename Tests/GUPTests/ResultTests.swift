//===----------------------------------------------------------------------===//
// Semantics C.6 and C.7: what a call returns, and how NOFAULT and FAST_ONLY
// differ. With them the rows of ledger A that are GUP's.
//===----------------------------------------------------------------------===//

import AddressSpaces
import CShims
import Events
import GUP
import PageFrames
import Testing

@Suite("C.6, C.7: results")
struct ResultTests {
  @Test(
    "C.6: every page there is nr, in address order", arguments: Entry.allCases,
    [1, 2, 63, 64, 65, 513])
  func allPages(entry: Entry, count: Int) throws {
    try withSandbox { box in
      let start = try box.mapWritten(pages: count)
      #expect(try box.take(entry, start, count) == GUPResult(pageCount: count))
      for i in 0..<count { #expect(try box.taken(i) == box.page(start + .pages(i))) }
      box.release(entry, count)
    }
  }

  @Test(
    "C.6, A-11, A-12: k pages and then any failure is k; the failure shows on the next call",
    arguments: Entry.falling)
  func partial(entry: Entry) throws {
    try withSandbox { box in
      let start = try box.mapWritten(pages: 6)
      try box.space.protect(start + .pages(3), length: .pages(1), .none)
      let result = try box.take(entry, start, 6)
      let stop = MemoryError(.badAddress, .readForbidden, start + .pages(3))
      #expect(result == GUPResult(pageCount: 3, stop: stop))
      #expect(!result.isComplete)
      box.release(entry, 3)
      #expect(box.refusal(entry, start + .pages(3), 3) == stop)
    }
  }

  /// One row of C.6 with no page taken.
  struct NoPage: Sendable, CustomTestStringConvertible {
    let name: String
    let refusal: Refusal
    var flags: GUPFlags = []
    var entries = Entry.falling
    let prepare: @Sendable (Sandbox) throws -> UserAddress
    var testDescription: String { name }

    static let rows: [NoPage] = [
      NoPage(name: "unmapped", refusal: Refusal(.badAddress, .notMapped)) { box in
        let start = try box.map(pages: 1)
        try box.space.unmap(start, length: .pages(1))
        return start
      },
      NoPage(name: "permission", refusal: Refusal(.badAddress, .writeForbidden), flags: .write) {
        try $0.map(pages: 1, .readOnly)
      },
      NoPage(name: "NOFAULT", refusal: Refusal(.badAddress, .notPresent), flags: .noFault) {
        try $0.map(pages: 1)
      },
      NoPage(name: "device", refusal: Refusal(.badAddress, .deviceAccess)) { box in
        let start = try box.map(pages: 1)
        box.changeArea(start, insert: .io)
        return start
      },
      NoPage(name: "secret", refusal: Refusal(.badAddress, .directAccessForbidden)) { box in
        let start = try box.map(pages: 1)
        box.changeArea(start, insert: .secret)
        return start
      },
      NoPage(
        name: "above user space", refusal: Refusal(.badAddress, .addressOutsideUserSpace),
        entries: Entry.fast
      ) { _ in UserAddress(CSHIMS_TASK_SIZE) },
      NoPage(
        name: "overflow", refusal: Refusal(.overflow, .rangeWraps), entries: Entry.fast
      ) { _ in UserAddress(.max) },
      NoPage(
        name: "the count is refused", refusal: Refusal(.outOfMemory, .injected),
        entries: Entry.slow
      ) { box in
        let start = try box.mapWritten(pages: 1)
        box.memory.arm(.grab, countdown: 1)
        return start
      },
      NoPage(
        name: "LONGTERM on fsdax", refusal: Refusal(.notSupported, .fileSystemMemory),
        flags: .longTerm, entries: [.pinUserPagesFast, .pinUserPages]
      ) { box in
        let start = try box.map(pages: 1)
        box.changeArea(start, insert: .fsdax)
        return start
      },
    ]
  }

  @Test("C.6: no page at all is the error", arguments: NoPage.rows)
  func nothing(row: NoPage) throws {
    for entry in row.entries {
      try withSandbox { box in
        let start = try row.prepare(box)
        #expect(Refusal(box.refusal(entry, start, 1, row.flags)) == row.refusal)
        box.memory.arm(.grab, countdown: 0)
      }
    }
  }

  @Test(
    "C.6: a count that the walk is refused is tried again by the slow path", arguments: Entry.fast)
  func silentFallback(entry: Entry) throws {
    try withSandbox { box in
      let start = try box.mapWritten(pages: 4)
      box.memory.arm(.grab, countdown: 2)
      #expect(try box.take(entry, start, 4) == GUPResult(pageCount: 4))
      #expect(box.memory.failures(of: .grab) == 1)
      box.memory.arm(.grab, countdown: 0)
      box.release(entry, 4)
    }
  }

  // MARK: - C.7

  private func expectEFAULT(
    _ box: Sandbox, _ start: UserAddress, _ flags: GUPFlags, _ reason: MemoryError.Reason,
    pinsOnly: Bool = false, sourceLocation: SourceLocation = #_sourceLocation
  ) {
    for entry in Entry.falling where entry.pins || !pinsOnly {
      let error = box.refusal(entry, start, 1, flags.union(.noFault))
      #expect(
        error == MemoryError(.badAddress, reason, start), sourceLocation: sourceLocation)
    }
  }

  @Test("C.7: NOFAULT takes the lock for what the walk refused; FAST_ONLY does not")
  func noFaultFallsBack() throws {
    try withSandbox { box in
      let start = try box.map(pages: 1)
      try box.load(start, pages: 1)
      for entry in Entry.falling {
        #expect(try box.take(entry, start, 1, .noFault).pageCount == 1)
        box.release(entry, 1)
      }
      for entry in Entry.fastOnly { #expect(try box.take(entry, start, 1).pageCount == 0) }
      // The sequence, too, is only the walk's concern.
      let written = try box.mapWritten(pages: 1)
      box.advanceSequence()
      #expect(try box.take(.pinUserPagesFast, written, 1, .noFault).pageCount == 1)
      box.release(.pinUserPagesFast, 1)
      box.advanceSequence()
    }
  }

  @Test("C.7, A-19: NOFAULT never brings a page in and never breaks copy-on-write")
  func noFaultRefuses() throws {
    try withSandbox { box in
      let start = try box.map(pages: 1)
      expectEFAULT(box, start, [], .notPresent)
      expectEFAULT(box, start, .write, .notPresent)
      #expect(box.entry(start) == 0)
      try box.load(start, pages: 1)
      expectEFAULT(box, start, .write, .notPresent)
      #expect(try box.page(start) == box.memory.zeroPage)
    }
  }

  @Test("C.7: NOFAULT never unshares; a get needs no unsharing")
  func noFaultUnshare() throws {
    try withSandbox { box in
      let start = try box.mapWritten(pages: 1)
      try box.space.protect(start, length: .pages(1), .readOnly)
      let page = try box.page(start)
      box.clearFlags(page, CSHIMS_PAGE_ANON_EXCLUSIVE)
      expectEFAULT(box, start, [], .breakingSharingForbidden, pinsOnly: true)
      #expect(!page.isAnonymousExclusive)
      #expect(try box.take(.getUserPagesFast, start, 1, .noFault).pageCount == 1)
      box.release(.getUserPagesFast, 1)
    }
  }

  @Test("C.7, A-20: NOFAULT with a later page absent is a short success", arguments: Entry.falling)
  func noFaultLater(entry: Entry) throws {
    try withSandbox { box in
      let start = try box.mapWritten(pages: 4)
      try box.space.advise(start + .pages(2), length: .pages(1), .dontNeed)
      let result = try box.take(entry, start, 4, .noFault)
      #expect(result.pageCount == 2)
      #expect(result.stop == MemoryError(.badAddress, .notPresent, start + .pages(2)))
      box.release(entry, 2)
    }
  }

  @Test("C.7: FAST_ONLY with nothing to take is 0, not an error", arguments: Entry.fastOnly)
  func fastOnlyNothing(entry: Entry) throws {
    try withSandbox { box in
      let start = try box.map(pages: 1)
      let stop = MemoryError(.tryAgain, .fastPathOnly, start)
      #expect(try box.take(entry, start, 1, .write) == GUPResult(pageCount: 0, stop: stop))
      #expect(box.entry(start) == 0)
    }
  }

  @Test("C.7: FAST_ONLY never waits for the mmap lock", arguments: Entry.fastOnly)
  func fastOnlyNoLock(entry: Entry) throws {
    try withSandbox { box in
      let start = try box.mapWritten(pages: 3)
      box.space.mm.lock()
      let whole = try? box.take(entry, start, 3)
      let short = try? box.take(entry, start + .pages(2), 3)
      box.space.mm.unlock()
      #expect(whole?.pageCount == 3)
      #expect(short?.pageCount == 1)
      // The list was filled twice: page 2, then pages 1 and 2 of the first call.
      box.release(entry, 3)
      unsafe box.list[0] = try box.page(start)
      box.release(entry, 1)
    }
  }

  @Test("A-13: no user address gives a 0 that could be taken for the end", arguments: Entry.falling)
  func neverZero(entry: Entry) throws {
    try withSandbox { box in
      for start in [0, 0x1000, 1 << 46, CSHIMS_TASK_SIZE - 4096, CSHIMS_TASK_SIZE, .max] {
        #expect(box.refusal(entry, UserAddress(start), 1) != nil)
      }
    }
  }

  @Test(
    "A-16: no more slots are written than pages were taken or asked for", arguments: Entry.falling)
  func slots(entry: Entry) throws {
    try withSandbox { box in
      let start = try box.mapWritten(pages: 3)
      let guardPage = box.memory.zeroPage
      for i in 0..<8 { unsafe box.list[i] = guardPage }
      #expect(try box.take(entry, start, 2).pageCount == 2)
      for i in 2..<8 { #expect(box.taken(i) == guardPage) }
      box.release(entry, 2)
    }
  }

  @Test(
    "A-22, A-23: getting and pinning for reading leave the entry as it was",
    arguments: Entry.falling)
  func sourceDirection(entry: Entry) throws {
    try withSandbox { box in
      let start = try box.mapWritten(pages: 1)
      try box.space.protect(start, length: .pages(1), .readOnly)
      let before = box.entry(start)
      #expect(try box.take(entry, start, 1).pageCount == 1)
      #expect(box.entry(start) == before)
      box.release(entry, 1)
    }
  }

  // MARK: - Buffers

  private func fill(
    _ buffer: inout PageBuffer, _ entry: Entry, _ space: AddressSpace, _ start: UserAddress,
    _ count: Int
  ) throws(MemoryError) -> GUPResult {
    switch entry {
    case .getUserPagesFast: try space.getUserPagesFast(start, count: count, into: &buffer)
    case .getUserPagesFastOnly: try space.getUserPagesFastOnly(start, count: count, into: &buffer)
    case .getUserPages: try space.getUserPages(start, count: count, into: &buffer)
    case .pinUserPagesFast: try space.pinUserPagesFast(start, count: count, into: &buffer)
    case .pinUserPagesFastOnly: try space.pinUserPagesFastOnly(start, count: count, into: &buffer)
    case .pinUserPages: try space.pinUserPages(start, count: count, into: &buffer)
    }
  }

  private func refusal(
    _ buffer: inout PageBuffer, _ entry: Entry, _ space: AddressSpace, _ start: UserAddress,
    _ count: Int
  ) -> MemoryError? {
    do throws(MemoryError) {
      _ = try fill(&buffer, entry, space, start, count)
      return nil
    } catch {
      return error
    }
  }

  @Test(
    "A buffer is filled from its first slot, and emptied by an error", arguments: Entry.allCases)
  func buffers(entry: Entry) throws {
    try withSandbox { box in
      let start = try box.mapWritten(pages: 5)
      let last = try box.page(start + .pages(3))
      var buffer = try PageBuffer(capacity: 4, machine: box.machine)
      let tooMany = refusal(&buffer, entry, box.space, start, 5)
      #expect(tooMany == MemoryError(.invalid, .listTooShort, 4))
      let all = try fill(&buffer, entry, box.space, start, 4)
      #expect(all == GUPResult(pageCount: 4))
      #expect(buffer.count == 4)
      #expect(buffer[3] == last)
      if entry.pins { unpinUserPages(&buffer) } else { putPages(&buffer) }
      #expect(buffer.count == 0)
      let none = try fill(&buffer, entry, box.space, start, -1)
      #expect(none == GUPResult(pageCount: 0))
      let beyond = refusal(&buffer, entry, box.space, UserAddress(.max - 1), 1)
      #expect(beyond?.number == (entry.isFast ? .overflow : .badAddress))
      #expect(buffer.count == 0)
    }
  }

  @Test("A buffer refuses what it cannot be")
  func bufferArguments() throws {
    try withSandbox { box in
      #expect(throws: MemoryError(.invalid, .countNegative, -1)) {
        _ = try PageBuffer(capacity: -1)
      }
      #expect(throws: MemoryError(.outOfMemory, .pageListExhausted, Int.max)) {
        _ = try PageBuffer(capacity: .max)
      }
      box.memory.arm(.pageListAllocation, countdown: 1)
      #expect(throws: MemoryError(.outOfMemory, .injected, 3)) {
        _ = try PageBuffer(capacity: 3, machine: box.machine)
      }
      let empty = try PageBuffer(capacity: 0, machine: box.machine)
      #expect(empty.count == 0 && empty.capacity == 0)
    }
  }
}
