//===----------------------------------------------------------------------===//
// Semantics C.11, G6: pins, plain and long, against migration and compaction of
// the same pages, while the program stores to them. Meant for ThreadSanitizer,
// too.
//===----------------------------------------------------------------------===//

import AddressSpaces
import GUP
import Glibc
import PageFrames
import Synchronization
import TestSupport
import Testing

@Suite("C.11 G6: migration races")
struct MigrationRaceTests {
  private static let pages = 24

  /// What a thread does with the pages until the mover has done its rounds.
  private enum Role: Int { case pins, pinsForLong, stores, moves }

  struct Backing: Sendable, CustomTestStringConvertible {
    let sharing: Sharing
    let size: FolioSize
    static let all = [
      Backing(sharing: .private, size: .base), Backing(sharing: .shared, size: .base),
      Backing(sharing: .private, size: .order(3)), Backing(sharing: .private, size: .huge),
    ]
    var testDescription: String { "\(sharing), \(size)" }
  }

  private struct Findings: ~Copyable {
    let stop = Atomic(false)
    /// Nothing is pinned for a while.
    let rests = Atomic(false)
    let moved = Atomic(0)
    let pinned = Atomic(0)
    let lost = Atomic(0)
    let wrong = Atomic(0)
  }

  @Test(
    "G6, C.8: a pinned page never moves, and no store of program or device is lost",
    arguments: TrapTier.testable, Backing.all)
  func pinsAgainstMigration(tier: TrapTier, backing: Backing) throws {
    try withMachine(tier: tier) { memory in
      let space = try AddressSpace(memory: memory)
      let start = try space.map(
        length: .mebibytes(2), sharing: backing.sharing, folios: backing.size, of: .movable)
      try space.advise(start, length: .pages(Self.pages), .populateWrite)
      let findings = Findings()
      onThreads(4) { thread in
        switch Role(rawValue: thread)! {
        case .pins: Self.pin(space, start, .write, word: 1, findings)
        case .pinsForLong: Self.pin(space, start, [.write, .longTerm], word: 2, findings)
        case .stores: Self.store(space, start, findings)
        case .moves: Self.move(space, start, findings)
        }
      }
      #expect(findings.lost.load(ordering: .relaxed) == 0)
      #expect(findings.wrong.load(ordering: .relaxed) == 0)
      #expect(findings.moved.load(ordering: .relaxed) > 0)
      #expect(findings.pinned.load(ordering: .relaxed) > 0)
      space.exit()
    }
  }

  /// Pins, writes as a device does, and looks whether the program sees it.
  private static func pin(
    _ space: AddressSpace, _ start: UserAddress, _ flags: GUPFlags, word: Int,
    _ findings: borrowing Findings
  ) {
    let list = UnsafeMutablePointer<Page?>.allocate(capacity: pages)
    unsafe list.initialize(repeating: nil, count: pages)
    defer { unsafe list.deallocate() }
    var round: UInt64 = 0
    while !findings.stop.load(ordering: .acquiring) {
      if findings.rests.load(ordering: .acquiring) {
        sched_yield()
        continue
      }
      round += 1
      var count = 0
      do throws(MemoryError) {
        count = try unsafe space.pinUserPagesFast(
          start, count: pages, flags: flags, into: list
        ).pageCount
      } catch {
        // Somebody else's pin keeps a page where it may not be pinned for long.
        let isExpected = flags.contains(.longTerm) && error.reason == .movablePage
        if !isExpected { findings.wrong.add(1, ordering: .relaxed) }
        continue
      }
      findings.pinned.add(count, ordering: .relaxed)
      for i in 0..<count {
        let page = unsafe list[i].unsafelyUnwrapped
        let at = start + .pages(i) + ByteCount(8 * word)
        unsafe page.bytes.storeBytes(of: round, toByteOffset: 8 * word, as: UInt64.self)
        if space.page(at: at) != page || space.loadWord(at) != round {
          findings.lost.add(1, ordering: .relaxed)
        }
      }
      unsafe unpinUserPages(list, count: count)
    }
  }

  private static func store(
    _ space: AddressSpace, _ start: UserAddress, _ findings: borrowing Findings
  ) {
    var round: UInt64 = 0
    while !findings.stop.load(ordering: .acquiring) {
      round += 1
      for i in 0..<pages {
        space.storeWord(round, at: start + .pages(i))
        if space.loadWord(start + .pages(i)) != round { findings.lost.add(1, ordering: .relaxed) }
      }
    }
  }

  private static func move(
    _ space: AddressSpace, _ start: UserAddress, _ findings: borrowing Findings
  ) {
    var rounds = 0
    var isIdle: Bool {
      findings.moved.load(ordering: .relaxed) == 0 || findings.pinned.load(ordering: .relaxed) == 0
    }
    while rounds < 60 || isIdle && rounds < 1_000_000 {
      rounds += 1
      // Two threads may have all of a folio pinned, round after round: they rest then
      // until it has moved.
      let isStuck = rounds > 60 && findings.moved.load(ordering: .relaxed) == 0
      findings.rests.store(isStuck, ordering: .releasing)
      let movement =
        rounds & 3 == 0
        ? try? space.memory.compact() : try? space.migrate(start, length: .pages(pages))
      findings.moved.add(movement?.moved ?? 0, ordering: .relaxed)
    }
    findings.stop.store(true, ordering: .releasing)
  }
}
