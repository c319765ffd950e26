//===----------------------------------------------------------------------===//
// Semantics C.1 and C.2: flags, and the checks of arguments in their order.
//===----------------------------------------------------------------------===//

import AddressSpaces
import CShims
import GUP
import PageFrames
import Testing

@Suite("C.1, C.2: flags and arguments")
struct ArgumentTests {
  static let internalFlags: [GUPFlags] = [
    .touch, .tried, .remote, .pin, .fastOnly, .unlockable, .madvPopulate,
  ]

  /// Starts and page counts whose end is 2^64 or more.
  static let overflowing: [(UInt64, Int)] = [
    (.max - 0xfff, 1), (.max, 1), (0x1000, .max), (0, 1 << 52), (1 << 63, 1 << 51),
  ]
  /// Those whose end is past user space.
  static let leaving: [(UInt64, Int)] = [
    (CSHIMS_TASK_SIZE, 1), (CSHIMS_TASK_SIZE - 4096, 2), (0x1000, Int(CSHIMS_TASK_SIZE >> 12)),
  ]

  @Test("C.1: flags have the values of Linux 6.3")
  func flagValues() {
    let callers: [GUPFlags] = [
      .write, .get, .dump, .force, .noWait, .noFault, .hardwarePoison, .anonymous, .longTerm,
      .splitPMD, .pciP2PDMA, .interruptible, .honorNUMAFault,
    ]
    for (bit, flag) in callers.enumerated() { #expect(flag.rawValue == 1 << UInt32(bit)) }
    for (bit, flag) in Self.internalFlags.enumerated() {
      #expect(flag.rawValue == 1 << UInt32(16 + bit))
    }
  }

  @Test(
    "C.2.1, A-21: GUP's own flags are refused from callers", arguments: Entry.allCases,
    internalFlags)
  func ownFlags(entry: Entry, flag: GUPFlags) throws {
    try withSandbox { box in
      let start = try box.mapWritten(pages: 1)
      let error = box.refusal(entry, start, 1, flag)
      #expect(error == MemoryError(.invalid, .flagsNotForThisCall, UInt64(flag.rawValue)))
      #expect(!box.hasPinned)
    }
  }

  @Test("C.2: unknown bits are refused", arguments: Entry.allCases, [13, 15, 23, 31])
  func unknownBits(entry: Entry, bit: Int) throws {
    try withSandbox { box in
      let start = try box.mapWritten(pages: 1)
      let error = box.refusal(entry, start, 1, GUPFlags(rawValue: 1 << UInt32(bit)))
      #expect(Refusal(error) == Refusal(.invalid, .flagsNotForThisCall))
    }
  }

  @Test("C.2.3: GET and PIN exclude each other; a get may say GET", arguments: Entry.allCases)
  func getWithPin(entry: Entry) throws {
    try withSandbox { box in
      let start = try box.mapWritten(pages: 1)
      if entry.pins {
        let error = box.refusal(entry, start, 1, .get)
        #expect(Refusal(error) == Refusal(.invalid, .flagsContradict))
      } else {
        #expect(try box.take(entry, start, 1, .get) == GUPResult(pageCount: 1))
        box.release(entry, 1)
      }
    }
  }

  @Test("C.2.4: LONGTERM needs PIN", arguments: Entry.allCases)
  func longTermNeedsPin(entry: Entry) throws {
    try withSandbox { box in
      let start = try box.mapWritten(pages: 1)
      if entry.pins {
        #expect(try box.take(entry, start, 1, [.longTerm, .write]).pageCount == 1)
        box.release(entry, 1)
      } else {
        let error = box.refusal(entry, start, 1, .longTerm)
        #expect(Refusal(error) == Refusal(.invalid, .flagsContradict))
      }
    }
  }

  @Test("C.2.5: GET and PIN need a list", arguments: Entry.allCases)
  func listMissing(entry: Entry) throws {
    try withSandbox { box in
      let start = try box.mapWritten(pages: 2)
      let flags: GUPFlags = entry == .getUserPages ? .get : []
      #expect(throws: MemoryError(.invalid, .listMissing, 2)) {
        try unsafe entry.take(box.space, start, 2, flags, nil)
      }
      #expect(!box.hasPinned)
    }
  }

  @Test("C.2.5: without GET and without a list, the plain get only brings pages in")
  func populate() throws {
    try withSandbox { box in
      let start = try box.map(pages: 100)
      let result = try unsafe box.space.getUserPages(start, count: 100, flags: .write, into: nil)
      #expect(result == GUPResult(pageCount: 100))
      for i in 0..<100 { #expect(try box.page(start + .pages(i)).referenceCount == 1) }
      #expect(box.memory.counters.referencesAcquired == 0)
    }
  }

  @Test("C.2.6: LONGTERM and PCI_P2PDMA exclude each other", arguments: Entry.pinning)
  func longTermPeerToPeer(entry: Entry) throws {
    try withSandbox { box in
      let start = try box.mapWritten(pages: 1)
      let error = box.refusal(entry, start, 1, [.longTerm, .pciP2PDMA])
      #expect(Refusal(error) == Refusal(.invalid, .flagsContradict))
    }
  }

  @Test("C.2: the checks stand in their order, each first mistake named before the next")
  func order() throws {
    try withSandbox { box in
      let outside = UserAddress(CSHIMS_TASK_SIZE)
      func reason(_ flags: GUPFlags, list: Bool = true) -> MemoryError.Reason? {
        do throws(MemoryError) {
          _ = try unsafe box.space.pinUserPagesFast(
            outside, count: 1, flags: flags, into: list ? box.list : nil)
          return nil
        } catch {
          return error.reason
        }
      }
      let p2p: GUPFlags = [.longTerm, .pciP2PDMA]
      // 1 internal, 3 GET with PIN, 5 no list, 6 LONGTERM with P2PDMA, the fast
      // calls' own mask, and only then the address.
      #expect(reason(p2p.union([.pin, .get, .dump]), list: false) == .flagsNotForThisCall)
      #expect(reason(p2p.union([.get, .dump]), list: false) == .flagsContradict)
      #expect(reason(p2p.union(.dump), list: false) == .listMissing)
      #expect(reason(p2p.union(.dump)) == .flagsContradict)
      #expect(reason([.longTerm, .dump]) == .flagsNotForThisCall)
      #expect(!box.hasPinned)
      #expect(reason(.longTerm) == .addressOutsideUserSpace)
      #expect(box.hasPinned)
    }
  }

  @Test(
    "C.2: flags that the fast calls do not take",
    arguments: Entry.allCases,
    [
      GUPFlags.anonymous, .dump, .noWait, .hardwarePoison, .splitPMD, .interruptible, .write,
      .force, .noFault, .pciP2PDMA, .honorNUMAFault,
    ])
  func fastMask(entry: Entry, flag: GUPFlags) throws {
    let slowOnly: [GUPFlags] = [
      .anonymous, .dump, .noWait, .hardwarePoison, .splitPMD, .interruptible,
    ]
    try withSandbox { box in
      let start = try box.mapWritten(pages: 1)
      if entry.isFast, slowOnly.contains(flag) {
        let error = box.refusal(entry, start, 1, flag)
        #expect(error == MemoryError(.invalid, .flagsNotForThisCall, UInt64(flag.rawValue)))
      } else {
        #expect(try box.take(entry, start, 1, flag) == GUPResult(pageCount: 1))
        box.release(entry, 1)
      }
    }
  }

  @Test(
    "C.2, G-17: no pages asked for is no pages taken, before anything is looked at",
    arguments: Entry.allCases, [0, -1, -14, Int.min])
  func nothingAsked(entry: Entry, count: Int) throws {
    try withSandbox { box in
      let result = try unsafe entry.take(
        box.space, UserAddress(.max), count, GUPFlags(rawValue: .max), nil)
      #expect(result == GUPResult(pageCount: 0))
      #expect(!box.hasPinned)
    }
  }

  @Test(
    "C.2: a range that 64 bits do not hold is EOVERFLOW",
    arguments: Entry.fast + Entry.fastOnly,
    overflowing)
  func overflow(entry: Entry, range: (UInt64, Int)) throws {
    try withSandbox { box in
      let error = box.refusal(entry, UserAddress(range.0), range.1)
      #expect(error == MemoryError(.overflow, .rangeWraps, range.0 & ~0xfff))
      // Even a failing pin leaves its mark for fork.
      #expect(box.hasPinned == entry.pins)
    }
  }

  @Test(
    "C.2, A-17: a range that leaves user space is EFAULT as a whole",
    arguments: Entry.fast + Entry.fastOnly,
    leaving)
  func beyondUserSpace(entry: Entry, range: (UInt64, Int)) throws {
    try withSandbox { box in
      let error = box.refusal(entry, UserAddress(range.0), range.1)
      #expect(error == MemoryError(.badAddress, .addressOutsideUserSpace, range.0))
      #expect(box.hasPinned == entry.pins)
    }
  }

  @Test(
    "C.2: the plain calls find no area beyond user space", arguments: Entry.slow,
    [CSHIMS_TASK_SIZE, 1 << 63, UInt64.max])
  func beyondUserSpaceSlow(entry: Entry, start: UInt64) throws {
    try withSandbox { box in
      let error = box.refusal(entry, UserAddress(start), 3)
      #expect(error == MemoryError(.badAddress, .notMapped, start & ~0xfff))
    }
  }

  @Test("C.2: has-pinned is set by pins only, and stays", arguments: Entry.allCases)
  func hasPinned(entry: Entry) throws {
    try withSandbox { box in
      let start = try box.mapWritten(pages: 1)
      try box.take(entry, start, 1)
      #expect(box.hasPinned == entry.pins)
      box.release(entry, 1)
      #expect(box.hasPinned == entry.pins)
    }
  }

  @Test("C.2: pages count from the page that an unaligned start lies in", arguments: Entry.allCases)
  func unalignedStart(entry: Entry) throws {
    try withSandbox { box in
      let start = try box.mapWritten(pages: 2)
      for offset in [1, 4095] {
        #expect(try box.take(entry, start + ByteCount(offset), 2).pageCount == 2)
        #expect(try box.taken(0) == box.page(start))
        #expect(try box.taken(1) == box.page(start + .pages(1)))
        box.release(entry, 2)
      }
    }
  }

  @Test("An address space that has exited has nothing to take: ESRCH", arguments: Entry.allCases)
  func exited(entry: Entry) throws {
    try withSandbox { box in
      let start = try box.mapWritten(pages: 1)
      box.space.exit()
      if Entry.fastOnly.contains(entry) {
        #expect(try box.take(entry, start, 1).pageCount == 0)
      } else {
        #expect(box.refusal(entry, start, 1) == MemoryError(.noSuchProcess, .exited, start))
      }
    }
  }
}
