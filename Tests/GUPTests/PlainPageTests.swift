//===----------------------------------------------------------------------===//
// The short way of one plain page. FastWalkTests holds its decisions against
// those of the walk; here is what it must leave to the long way, and the accounts
// of both.
//===----------------------------------------------------------------------===//

import AddressSpaces
import CShims
import Events
import GUP
import PageFrames
import TestSupport
import Testing

@Suite("C.2, C.3: one plain page")
struct PlainPageTests {
  /// Is the page at `start` taken as plain?
  private func isPlain(
    _ box: Sandbox, _ hold: PageHold, _ start: UserAddress, _ flags: GUPFlags = .write
  ) -> Bool {
    let take = unsafe box.space.mm.takePlainPage(
      hold, at: start.rawValue, flags: flags, into: box.list)
    guard case .taken = take, let page = box.taken(0) else { return false }
    if hold == .pin { unpinUserPage(page) } else { putPage(page) }
    return true
  }

  @Test("C.11: the first pin of an address space is not plain, since fork must be told")
  func firstPin() throws {
    try withSandbox { box in
      let start = try box.mapWritten(pages: 1)
      #expect(isPlain(box, .reference, start) && !isPlain(box, .pin, start))
      #expect(!box.hasPinned)
      try box.take(.pinUserPagesFast, start, 1, .write)
      box.release(.pinUserPagesFast, 1)
      #expect(box.hasPinned && isPlain(box, .pin, start))
    }
  }

  @Test(
    "C.2: flags that mean something, and wrong ones, are not plain",
    arguments: [
      .get, .pin, .dump, .noWait, .hardwarePoison, .anonymous, .longTerm, .splitPMD,
      .interruptible, .touch, .fastOnly, GUPFlags(rawValue: 1 << 31),
    ] as [GUPFlags])
  func flags(flag: GUPFlags) throws {
    try withSandbox { box in
      let start = try box.mapWritten(pages: 2)
      try box.take(.pinUserPagesFast, start, 1, .write)
      box.release(.pinUserPagesFast, 1)
      for hold in [PageHold.reference, .pin] {
        #expect(!isPlain(box, hold, start, [flag, .write]))
        let many = unsafe box.space.mm.takePlainPages(
          hold, from: start.rawValue, count: 2, flags: [flag, .write], into: box.list)
        #expect(many == nil)
      }
    }
  }

  @Test("C.2: counts and addresses without bounds are not plain")
  func ranges() throws {
    try withSandbox { box in
      let start = try box.mapWritten(pages: 1).rawValue
      let end = CSHIMS_TASK_SIZE
      for (address, count) in [
        (start, 0), (start, -1), (start, Int.min), (start, Int.max), (start, Int.max >> 12),
        (end, 1), (end - 1, 2), (end - 4096, 2), (.max, 1), (.max, 2), (1 << 63, 1),
      ] {
        let taken = unsafe box.space.mm.takePlainPages(
          .reference, from: address, count: count, flags: [], into: box.list)
        #expect(taken == nil, "\(count) pages from \(address)")
      }
      for address in [end, .max, 1 << 63, start ^ 1 << 63] {
        #expect(!isPlain(box, .reference, UserAddress(address), []))
      }
      // The last page there can be is a place like any other, with nothing there.
      let last = unsafe box.space.mm.takePlainPages(
        .reference, from: end - 1, count: 1, flags: [], into: box.list)
      #expect(last == 0)
    }
  }

  @Test("a machine that asks for attention has no plain pages", arguments: [1, 3])
  func attention(count: Int) throws {
    try withSandbox { box in
      let start = try box.mapWritten(pages: 3)
      let header = unsafe box.machine.header
      try box.take(.pinUserPagesFast, start, count, .write)
      box.release(.pinUserPagesFast, count)
      #expect(unsafe cshims_attention(header) == 0)

      box.memory.arm(.grab, countdown: 1)
      #expect(!isPlain(box, .pin, start) && !isPlain(box, .reference, start))
      box.memory.arm(.grab, countdown: 0)
      #expect(isPlain(box, .pin, start))

      try withLedger {
        try #require(unsafe Ledger.open(header) == 0)
        try box.take(.pinUserPagesFast, start, count, .write)
        #expect(!isPlain(box, .pin, start))
        #expect(box.taken(0)?.dropPlainly(.pin, membership: 1).isPlain == false)
        box.release(.pinUserPagesFast, count)
        #expect(unsafe Ledger.close(header) == 0)
      }
    }
  }

  @Test("C.9: what is not one page with one count of this process's is not dropped as plain")
  func drops() throws {
    try withSandbox { box in
      let start = try box.mapWritten(pages: 1)
      try box.take(.pinUserPagesFast, start, 1, .write)
      let page = try #require(box.taken(0))
      let own = CSHIMS_MACHINE_OWN.rawValue
      for membership in [CSHIMS_MACHINE_FOREIGN.rawValue, CSHIMS_MACHINE_NOTED.rawValue] {
        #expect(!page.dropPlainly(.pin, membership: membership).isPlain)
      }
      #expect(!box.memory.zeroPage.dropPlainly(.pin, membership: own).isPlain)
      let count = page.referenceCount
      #expect(page.dropPlainly(.pin, membership: own).isPlain)
      #expect(page.referenceCount == count - 1024)
      let folio = try box.memory.allocatePage(order: 2)
      #expect(!folio.dropPlainly(.reference, membership: own).isPlain)
      folio.put()
    }
  }
}

extension PlainDrop {
  fileprivate var isPlain: Bool { if case .notPlain = self { false } else { true } }
}
