//===----------------------------------------------------------------------===//
// Fork while other threads of the parent store, pin for a device, or unmap and
// map. Each page has one thread that counts up in it; a child must find, in each
// page, what stood there at one moment between the call and the return.
//===----------------------------------------------------------------------===//

import AddressSpaces
import GUP
import PageFrames
import Synchronization
import TestSupport
import Testing

@Suite("D.1, D.2: fork beside other threads")
struct ForkRaceTests {
  /// What goes on beside fork.
  enum Work: CaseIterable, Sendable { case stores, pins, mappings }

  private static let pages = 16
  private static let forks = 20
  /// What only children store.
  private static let childMark: UInt64 = 1 << 40

  /// What each page's thread has stored so far.
  @safe
  private final class Counts: @unchecked Sendable {
    private let counts = UnsafeMutablePointer<Atomic<UInt64>>.allocate(capacity: pages)
    init() { for i in 0..<pages { unsafe (counts + i).initialize(to: Atomic(0)) } }
    deinit {
      unsafe counts.deinitialize(count: pages)
      unsafe counts.deallocate()
    }
    subscript(page: Int) -> UInt64 {
      get { unsafe counts[page].load(ordering: .acquiring) }
      set { unsafe counts[page].store(newValue, ordering: .releasing) }
    }
  }

  @Test(
    "S17, G1, G4: a child sees one moment of each page while the parent stores, pins or unmaps",
    arguments: TrapTier.testable, Work.allCases)
  func oneMoment(tier: TrapTier, work: Work) throws {
    try withMachine(tier: tier) { memory in
      let parent = try AddressSpace(memory: memory)
      let start = try parent.map(length: .pages(Self.pages))
      for i in 0..<Self.pages { parent.storeWord(0, at: start + .pages(i)) }
      let counts = Counts()
      let stop = Atomic(false)
      let wrong = Atomic(0)
      onThreads(3) { number in
        func mustBe(_ condition: Bool) {
          if !condition { wrong.add(1, ordering: .relaxed) }
        }
        if number < 2 {
          // Every other page is this thread's.
          while !stop.load(ordering: .acquiring) {
            for page in stride(from: number, to: Self.pages, by: 2) {
              let at = start + .pages(page)
              let next = counts[page] + 1
              switch work {
              case .stores: parent.storeWord(next, at: at)
              case .pins: mustBe(Self.storeByDevice(next, at: at, of: parent))
              case .mappings:
                mustBe((try? parent.unmap(at, length: .pages(1))) != nil)
                mustBe((try? parent.map(length: .pages(1), at: .fixed(at))) == at)
                parent.storeWord(next, at: at)
              }
              mustBe(parent.loadWord(at) == next)
              counts[page] = next
            }
          }
          return
        }
        for _ in 0..<Self.forks {
          let before = (0..<Self.pages).map { counts[$0] }
          guard let child = try? parent.fork() else {
            mustBe(false)
            continue
          }
          let after = (0..<Self.pages).map { counts[$0] + 1 }
          let seen = (0..<Self.pages).map { Self.word(at: start + .pages($0), of: child) }
          for page in 0..<Self.pages {
            // Unmapped at that moment, or mapped and not stored to yet.
            let mayBeEmpty = work == .mappings && seen[page] ?? 0 == 0
            mustBe(mayBeEmpty || seen[page].map { before[page]...after[page] ~= $0 } ?? false)
          }
          // What the parent goes on to store is not the child's, nor the reverse.
          mustBe(seen == (0..<Self.pages).map { Self.word(at: start + .pages($0), of: child) })
          for page in 0..<Self.pages where seen[page] != nil {
            child.storeWord(Self.childMark, at: start + .pages(page))
          }
          child.exit()
        }
        stop.store(true, ordering: .releasing)
      }
      #expect(wrong.load(ordering: .relaxed) == 0)
      #expect(memory.counters.outstanding == 0)
      for i in 0..<Self.pages {
        #expect(parent.loadWord(start + .pages(i)) == counts[i])
        #expect(parent.page(at: start + .pages(i))?.referenceCount == 1)
      }
      parent.exit()
    }
  }

  /// A device's store of a word: the page is pinned for it.
  private static func storeByDevice(
    _ value: UInt64, at address: UserAddress, of space: AddressSpace
  ) -> Bool {
    var page: Page?
    let result = try? unsafe space.pinUserPagesFast(address, count: 1, flags: .write, into: &page)
    guard result?.pageCount == 1, let page else { return false }
    unsafe page.bytes.storeBytes(of: value, as: UInt64.self)
    let isStill = space.page(at: address) == page && page.isAnonymousExclusive
    unpinUserPage(page)
    return isStill
  }

  /// nil where nothing is mapped.
  private static func word(at address: UserAddress, of space: AddressSpace) -> UInt64? {
    guard let bytes = try? space.read(8, at: address) else { return nil }
    return bytes.reversed().reduce(0) { $0 << 8 | UInt64($1) }
  }
}
