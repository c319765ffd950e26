//===----------------------------------------------------------------------===//
// Semantics C.5: areas are checked in one order, entries followed and faulted
// by one set of rules, whoever comes: the plain calls, or what a fast walk left.
//===----------------------------------------------------------------------===//

import AddressSpaces
import CShims
import Events
import GUP
import PageFrames
import Testing

/// One refusal of check_vma_flags: what the area is, what the caller asks.
struct AreaRefusal: Sendable, CustomTestStringConvertible {
  let name: String
  var insert: AreaFlags = []
  var remove: AreaFlags = []
  let flags: GUPFlags
  var pinsOnly = false
  let refusal: Refusal
  var testDescription: String { name }

  /// In the order in which C.5.2 names them.
  static let all: [AreaRefusal] = [
    AreaRefusal(name: "device", insert: .io, flags: [], refusal: .init(.badAddress, .deviceAccess)),
    AreaRefusal(
      name: "frames without pages", insert: .pfnMap, flags: [],
      refusal: .init(.badAddress, .deviceAccess)),
    AreaRefusal(
      name: "ANON elsewhere", remove: .anonymous, flags: .anonymous,
      refusal: .init(.badAddress, .anonymousOnly)),
    AreaRefusal(
      name: "LONGTERM on fsdax", insert: .fsdax, flags: .longTerm, pinsOnly: true,
      refusal: .init(.notSupported, .fileSystemMemory)),
    AreaRefusal(
      name: "SPLIT_PMD on hugetlb", insert: .hugetlb, flags: .splitPMD,
      refusal: .init(.notSupported, .hugePageArea)),
    AreaRefusal(
      name: "secret", insert: .secret, flags: [],
      refusal: .init(.badAddress, .directAccessForbidden)),
    AreaRefusal(
      name: "LONGTERM write, dirty tracking", insert: [.shared, .dirtyTracking],
      remove: .anonymous, flags: [.longTerm, .write], pinsOnly: true,
      refusal: .init(.badAddress, .dirtyTrackingNeeded)),
    AreaRefusal(
      name: "write to read-only", remove: .write, flags: .write,
      refusal: .init(.badAddress, .writeForbidden)),
    AreaRefusal(
      name: "FORCE write to hugetlb", insert: .hugetlb, remove: .write, flags: [.write, .force],
      refusal: .init(.badAddress, .hugePageArea)),
    AreaRefusal(
      name: "FORCE write to shared", insert: .shared, remove: .write, flags: [.write, .force],
      refusal: .init(.badAddress, .forcedWriteForbidden)),
    AreaRefusal(
      name: "FORCE write, never writable", remove: [.write, .mayWrite], flags: [.write, .force],
      refusal: .init(.badAddress, .forcedWriteForbidden)),
    AreaRefusal(
      name: "read of write-only", remove: .read, flags: [],
      refusal: .init(.badAddress, .readForbidden)),
    AreaRefusal(
      name: "FORCE read, never readable", remove: [.read, .mayRead], flags: .force,
      refusal: .init(.badAddress, .forcedReadForbidden)),
  ]
}

@Suite("C.5: the slow path")
struct SlowPathTests {
  private func withAreaChanged(
    _ box: Sandbox, _ start: UserAddress, insert: AreaFlags, remove: AreaFlags,
    _ body: () throws -> Void
  ) rethrows {
    let before = box.space.areas.first { $0.range.contains(start) }?.flags ?? []
    box.changeArea(start, insert: insert, remove: remove)
    defer { box.changeArea(start, insert: before, remove: AreaFlags(rawValue: .max)) }
    try body()
  }

  @Test("C.5.1: no area is EFAULT, at the address", arguments: Entry.falling)
  func noArea(entry: Entry) throws {
    try withSandbox { box in
      let start = try box.mapWritten(pages: 2)
      try box.space.unmap(start, length: .pages(1))
      #expect(box.refusal(entry, start, 2) == MemoryError(.badAddress, .notMapped, start))
    }
  }

  @Test("C.5.2: each refusal of an area by its own name", arguments: Entry.slow, AreaRefusal.all)
  func areaRefusals(entry: Entry, row: AreaRefusal) throws {
    guard entry.pins || !row.pinsOnly else { return }
    try withSandbox { box in
      // Untouched, so that no entry can be had without asking the area.
      let start = try box.map(pages: 1)
      withAreaChanged(box, start, insert: row.insert, remove: row.remove) {
        let error = box.refusal(entry, start, 1, row.flags)
        #expect(Refusal(error) == row.refusal)
        #expect(error?.value == start.rawValue)
      }
      #expect(try box.take(entry, start, 1, [.write]).pageCount == 1)
      box.release(entry, 1)
    }
  }

  @Test("C.5.2: the fast calls fall back to the same refusals", arguments: AreaRefusal.all)
  func areaRefusalsBehindTheWalk(row: AreaRefusal) throws {
    let slowOnly: GUPFlags = [.anonymous, .splitPMD]
    guard row.flags.isDisjoint(with: slowOnly) else { return }
    try withSandbox { box in
      let start = try box.map(pages: 1)
      withAreaChanged(box, start, insert: row.insert, remove: row.remove) {
        #expect(Refusal(box.refusal(.pinUserPagesFast, start, 1, row.flags)) == row.refusal)
      }
    }
  }

  @Test("C.5.2: an area that is refused on every ground names them in the stated order")
  func areaOrder() throws {
    try withSandbox { box in
      let start = try box.map(pages: 1)
      let everything: GUPFlags = [.anonymous, .longTerm, .splitPMD, .write]
      var insert: AreaFlags = [.io, .fsdax, .hugetlb, .secret, .shared, .dirtyTracking]
      let steps: [(AreaFlags, MemoryError.Reason)] = [
        (.io, .deviceAccess), ([], .anonymousOnly), (.fsdax, .fileSystemMemory),
        (.hugetlb, .hugePageArea), (.secret, .directAccessForbidden),
        (.dirtyTracking, .dirtyTrackingNeeded),
      ]
      var flags = everything
      for (ground, reason) in steps {
        withAreaChanged(box, start, insert: insert, remove: .anonymous) {
          #expect(box.refusal(.pinUserPages, start, 1, flags)?.reason == reason)
        }
        if reason == .anonymousOnly { flags.remove(.anonymous) }
        insert.subtract(ground)
      }
    }
  }

  @Test("C.5.4: FORCE writes a private read-only page of one's own, whose entry stays read-only")
  func forcedWrite() throws {
    try withSandbox { box in
      let start = try box.mapWritten(pages: 1)
      try box.space.protect(start, length: .pages(1), .readOnly)
      let page = try box.page(start)
      for entry in Entry.falling {
        let faults = box.memory.counters.faults
        #expect(try box.take(entry, start, 1, [.write, .force]).pageCount == 1)
        #expect(box.taken(0) == page)
        #expect(box.memory.counters.faults == faults)
        box.release(entry, 1)
      }
      #expect(!box.space.isWritable(at: start))
      // Shared with somebody: a copy is made, and it alone is written (G-08).
      box.clearFlags(page, CSHIMS_PAGE_ANON_EXCLUSIVE)
      try page.get()
      #expect(try box.take(.pinUserPages, start, 1, [.write, .force]).pageCount == 1)
      let copy = try #require(box.taken(0))
      #expect(copy != page)
      #expect(box.word(copy) == 1)
      #expect(copy.isAnonymousExclusive)
      #expect(!box.space.isWritable(at: start))
      box.release(.pinUserPages, 1)
      page.put()
    }
  }

  @Test("C.5.4: FORCE reads pages of an inaccessible area", arguments: Entry.falling)
  func forcedRead(entry: Entry) throws {
    try withSandbox { box in
      let start = try box.mapWritten(pages: 2)
      let page = try box.page(start)
      try box.space.protect(start, length: .pages(2), .none)
      #expect(Refusal(box.refusal(entry, start, 2)) == Refusal(.badAddress, .readForbidden))
      #expect(try box.take(entry, start, 2, .force).pageCount == 2)
      #expect(box.taken(0) == page)
      box.release(entry, 2)
    }
  }

  @Test("C.5.4: DUMP takes no hole and no zero page", arguments: Entry.slow)
  func dump(entry: Entry) throws {
    try withSandbox { box in
      let start = try box.map(pages: 3)
      try box.store(start, pages: 1)
      try box.load(start + .pages(1), pages: 1)
      for i in 1...2 {
        let error = box.refusal(entry, start + .pages(i), 1, .dump)
        #expect(error == MemoryError(.badAddress, .notPresent, start + .pages(i)))
      }
      #expect(try box.take(entry, start, 3, .dump).pageCount == 1)
      box.release(entry, 1)
      #expect(box.entry(start + .pages(2)) == 0)
    }
  }

  @Test("C.5.4: a frame without a page is EEXIST, and nothing to a call without a list")
  func pageless() throws {
    try withSandbox { box in
      let start = try box.mapWritten(pages: 2)
      let old = try box.setEntry(start, box.entry(start) | CSHIMS_PTE_SPECIAL)
      for entry in Entry.falling {
        #expect(box.refusal(entry, start, 2) == MemoryError(.exists, .pageless, start))
      }
      let result = try unsafe box.space.getUserPages(start, count: 2, into: nil)
      #expect(result.pageCount == 2)
      try box.setEntry(start, old)
    }
  }

  @Test("C.5.4: poisoned pages are EFAULT, and EHWPOISON for who asks", arguments: Entry.slow)
  func poison(entry: Entry) throws {
    try withSandbox { box in
      let start = try box.mapWritten(pages: 2)
      let page = try box.page(start + .pages(1))
      box.setFlags(page, CSHIMS_PAGE_POISONED)
      let at = start + .pages(1)
      #expect(box.refusal(entry, at, 1) == MemoryError(.badAddress, .poisonedPage, at))
      #expect(
        box.refusal(entry, at, 1, .hardwarePoison) == MemoryError(.poisoned, .poisonedPage, at))
      #expect(try box.take(entry, start, 2, .hardwarePoison).pageCount == 1)
      box.release(entry, 1)
      #expect(page.referenceCount == 1)
      box.clearFlags(page, CSHIMS_PAGE_POISONED)
    }
  }

  @Test("C.5.4: peer-to-peer pages are EREMOTEIO without their flag", arguments: Entry.slow)
  func peerToPeer(entry: Entry) throws {
    try withSandbox { box in
      let start = try box.mapWritten(pages: 1)
      let page = try box.page(start)
      box.setFlags(page, CSHIMS_PAGE_P2PDMA)
      #expect(box.refusal(entry, start, 1) == MemoryError(.remoteIO, .peerToPeerForbidden, start))
      #expect(try box.take(entry, start, 1, .pciP2PDMA).pageCount == 1)
      box.release(entry, 1)
      box.clearFlags(page, CSHIMS_PAGE_P2PDMA)
    }
  }

  @Test("C.5.4: what the slow path takes is marked used, and dirty when it is for writing")
  func touch() throws {
    try withSandbox { box in
      let start = try box.mapWritten(pages: 2)
      try box.space.advise(start, length: .pages(2), .free)  // cleans the entries
      for (i, flags) in [GUPFlags(), .write].enumerated() {
        let page = try box.page(start + .pages(i))
        box.clearFlags(page, CSHIMS_PAGE_REFERENCED | CSHIMS_PAGE_DIRTY)
        try box.take(.getUserPages, start + .pages(i), 1, flags)
        #expect(page.flags & CSHIMS_PAGE_REFERENCED != 0)
        #expect(page.isDirty == flags.contains(.write))
        box.release(.getUserPages, 1)
      }
    }
  }

  @Test(
    "C.5.5: an absent range is brought in by the run, not by the page", arguments: Entry.falling)
  func faultsByRun(entry: Entry) throws {
    try withSandbox { box in
      let start = try box.map(pages: 1000)
      let before = box.memory.counters
      #expect(try box.take(entry, start, 1000, .write) == GUPResult(pageCount: 1000))
      let after = box.memory.counters
      #expect(after.faults - before.faults == 1000)
      #expect(after.hostCalls - before.hostCalls < 20)
      box.release(entry, 1000)
    }
  }

  @Test("C.5.5: only what needs it is faulted")
  func faultsOnlyHoles() throws {
    try withSandbox { box in
      let start = try box.mapWritten(pages: 100)
      for i in [10, 11, 12, 70] {
        try box.space.advise(start + .pages(i), length: .pages(1), .dontNeed)
      }
      let before = box.memory.counters.faults
      #expect(try box.take(.pinUserPages, start, 100, .write).pageCount == 100)
      #expect(box.memory.counters.faults - before == 4)
      box.release(.pinUserPages, 100)
    }
  }

  @Test("C.5.5: what a write fault makes: a fresh page that is exclusive, writable and zero")
  func freshPage() throws {
    try withSandbox { box in
      let start = try box.map(pages: 1)
      #expect(try box.take(.pinUserPagesFast, start, 1, .write).pageCount == 1)
      let page = try #require(box.taken(0))
      #expect(page.isAnonymousExclusive)
      #expect(box.space.isWritable(at: start))
      #expect(box.word(page) == 0)
      #expect(page.referenceCount == 1 + 1024)
      #expect(page.mapCount == 1)
      box.release(.pinUserPagesFast, 1)
    }
  }

  @Test(
    "C.5.5: what cannot be brought in has the fault's own errno",
    arguments: Entry.falling,
    [FailurePoint.frameAllocation, .metadataAllocation, .fault])
  func faultFailures(entry: Entry, point: FailurePoint) throws {
    // On a fresh table, metadata is the page table's.
    try withSandbox { box in
      let start = try box.map(pages: 4)
      box.memory.arm(point, countdown: 1)
      let error = box.refusal(entry, start, 4, .write)
      // A run's first frame may be refused at home and had elsewhere.
      if box.memory.failures(of: point) > 0, let error {
        #expect(error.number == (point == .fault ? .badAddress : .outOfMemory))
        #expect(error.value == start.rawValue)
      }
      box.memory.arm(point, countdown: 0)
      #expect(try box.take(entry, start, 4, .write).pageCount == 4)
      box.release(entry, 4)
    }
  }

  @Test("C.5.7: memory runs out after some pages: they are kept, the stop says ENOMEM")
  func outOfMemory() throws {
    try withSandbox(capacity: .mebibytes(1)) { box in
      let start = try box.map(pages: 300)
      let result = try box.take(.pinUserPagesFast, start, 300, .write)
      #expect(result.pageCount == 256)
      #expect(result.stop == MemoryError(.outOfMemory, .framesExhausted, start + .pages(256)))
      let error = box.refusal(.pinUserPagesFast, start + .pages(256), 1, .write)
      #expect(Refusal(error) == Refusal(.outOfMemory, .framesExhausted))
      box.release(.pinUserPagesFast, 256)
    }
  }

  @Test(
    "C.5.7, A-18: a hole ends the call wherever it stands", arguments: Entry.falling,
    [1, 63, 64, 65, 130])
  func holeLater(entry: Entry, hole: Int) throws {
    try withSandbox { box in
      let start = try box.map(pages: 200)
      try box.space.unmap(start + .pages(hole), length: .pages(1))
      let result = try box.take(entry, start, 200, .write)
      #expect(result.pageCount == hole)
      #expect(result.stop == MemoryError(.badAddress, .notMapped, start + .pages(hole)))
      box.release(entry, hole)
      #expect(
        box.refusal(entry, start + .pages(hole), 1)
          == MemoryError(.badAddress, .notMapped, start + .pages(hole)))
    }
  }

  @Test("C.5: a call crosses areas of every kind", arguments: Entry.falling)
  func manyAreas(entry: Entry) throws {
    try withSandbox { box in
      let start = try box.map(pages: 90)
      _ = try box.space.map(
        length: .pages(30), sharing: .shared, at: .fixed(start + .pages(30)))
      try box.space.protect(start + .pages(70), length: .pages(5), .readOnly)
      #expect(try box.take(entry, start, 90) == GUPResult(pageCount: 90))
      box.release(entry, 90)
      let result = try box.take(entry, start, 90, .write)
      #expect(result.pageCount == 70)
      #expect(result.stop == MemoryError(.badAddress, .writeForbidden, start + .pages(70)))
      box.release(entry, 70)
    }
  }

  @Test("C.5.4, C.3 row 4: what FORCE brings into an inaccessible area stays inaccessible")
  func forcedIntoInaccessible() throws {
    try withSandbox { box in
      for flags in [GUPFlags.force, [.force, .write]] {
        let start = try box.map(pages: 1, .none)
        #expect(try box.take(.pinUserPages, start, 1, flags).pageCount == 1)
        let page = try #require(box.taken(0))
        #expect(page.isZeroPage == !flags.contains(.write))
        box.release(.pinUserPages, 1)
        #expect(try box.take(.getUserPagesFastOnly, start, 1).pageCount == 0)
        #expect(
          Refusal(box.refusal(.pinUserPages, start, 1)) == Refusal(.badAddress, .readForbidden))
        // Then for writing, over what is there.
        #expect(try box.take(.pinUserPages, start, 1, [.force, .write]).pageCount == 1)
        #expect(box.taken(0)?.isAnonymousExclusive == true)
        box.release(.pinUserPages, 1)
      }
    }
  }

  @Test("C.3 row 11, D.4: a pin for reading unshares what fork shared; a get does not")
  func unshareAfterFork() throws {
    try withSandbox { box in
      let start = try box.mapWritten(pages: 3)
      let shared = try (0..<3).map { try box.page(start + .pages($0)) }
      let child = try box.space.fork()
      defer { child.exit() }
      #expect(try box.take(.getUserPagesFastOnly, start, 3).pageCount == 3)
      #expect(box.taken(2) == shared[2])
      box.release(.getUserPagesFastOnly, 3)
      #expect(try box.take(.pinUserPagesFastOnly, start, 3).pageCount == 0)
      #expect(try box.take(.pinUserPagesFastOnly, start, 3, .write).pageCount == 0)
      let error = box.refusal(.pinUserPagesFast, start, 3, .noFault)
      #expect(error == MemoryError(.badAddress, .breakingSharingForbidden, start))
      #expect(try box.take(.pinUserPagesFast, start, 3).pageCount == 3)
      for i in 0..<3 {
        let own = try #require(box.taken(i))
        #expect(own != shared[i])
        #expect(own.isAnonymousExclusive)
        #expect(box.word(own) == UInt64(i) + 1)
        #expect(!box.space.isWritable(at: start + .pages(i)))
        #expect(child.page(at: start + .pages(i)) == shared[i])
      }
      box.release(.pinUserPagesFast, 3)
    }
  }

  @Test("C.12: has-pinned is not inherited by a child")
  func hasPinnedOfChild() throws {
    try withSandbox { box in
      let start = try box.mapWritten(pages: 1)
      try box.take(.pinUserPagesFast, start, 1)
      let child = try box.space.fork()
      defer { child.exit() }
      #expect(box.hasPinned)
      #expect(unsafe cshims_mm_flags(child.mm.hot) & CSHIMS_MM_HAS_PINNED == 0)
      // Pinned, so it was copied: each has its own.
      #expect(child.page(at: start) != box.space.page(at: start))
      box.release(.pinUserPagesFast, 1)
    }
  }

  @Test("D.4: a pin for reading unshares an anonymous page that somebody else holds")
  func unshareCopies() throws {
    try withSandbox { box in
      let start = try box.mapWritten(pages: 1)
      let page = try box.page(start)
      try box.space.protect(start, length: .pages(1), .readOnly)
      box.clearFlags(page, CSHIMS_PAGE_ANON_EXCLUSIVE)
      try page.get()
      // A get is content with the shared page.
      #expect(try box.take(.getUserPagesFast, start, 1).pageCount == 1)
      #expect(box.taken(0) == page)
      box.release(.getUserPagesFast, 1)
      #expect(try box.take(.pinUserPagesFast, start, 1).pageCount == 1)
      let own = try #require(box.taken(0))
      #expect(own != page)
      #expect(own.isAnonymousExclusive)
      #expect(box.word(own) == 1)
      #expect(!box.space.isWritable(at: start))
      box.release(.pinUserPagesFast, 1)
      page.put()
    }
  }
}
