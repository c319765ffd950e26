//===----------------------------------------------------------------------===//
// Semantics C.11: many threads, one range. Nothing is lost or counted twice,
// whatever the range goes through meanwhile. Meant for ThreadSanitizer, too.
//===----------------------------------------------------------------------===//

import AddressSpaces
import CShims
import GUP
import PageFrames
import Synchronization
import TestSupport
import Testing

@Suite("C.11: threads")
struct ConcurrencyTests {
  private static let pages = 96
  private static let rounds = 150

  /// Holds a page list of a thread's own.
  private func withList(_ body: (UnsafeMutablePointer<Page?>) -> Void) {
    let list = UnsafeMutablePointer<Page?>.allocate(capacity: Self.pages)
    unsafe list.initialize(repeating: nil, count: Self.pages)
    unsafe body(list)
    unsafe list.deallocate()
  }

  @Test(
    "C.3 row 9, G3, G5: four threads take and drop what a fifth protects, unmaps and remaps",
    arguments: Entry.allCases)
  func takersAgainstChanges(entry: Entry) throws {
    let memory = try PhysicalMemory(capacity: .mebibytes(16), trapTier: .none)
    let space = try AddressSpace(memory: memory)
    let start = try space.map(length: .pages(Self.pages))
    try space.advise(start, length: .pages(Self.pages), .populateWrite)
    let stop = Atomic(false)
    let taken = Atomic(0)
    let wrong = Atomic(0)
    onThreads(5) { number in
      if number == 4 {
        // Not before the others have begun: a walk that may not fall back finds
        // nothing once all is unmapped.
        while taken.load(ordering: .relaxed) == 0 {}
        var random = SeededRandom(stream: 4)
        for _ in 0..<Self.rounds {
          let first = random.below(Self.pages)
          let count = 1 + random.below(Self.pages - first)
          let at = start + .pages(first)
          let length = ByteCount.pages(count)
          switch random.below(7) {
          case 0: try? space.protect(at, length: length, .readOnly)
          case 1: try? space.protect(at, length: length, .none)
          case 2: try? space.advise(at, length: length, .dontNeed)
          case 3: try? space.unmap(at, length: length)
          case 4: _ = try? space.map(length: length, at: .fixed(at))
          case 5: try? space.protect(at, length: length, .readWrite)
          default: try? space.advise(at, length: length, .populateWrite)
          }
        }
        stop.store(true, ordering: .releasing)
        return
      }
      var random = SeededRandom(stream: UInt64(number))
      unsafe withList { list in
        var round = 0
        while round < Self.rounds || !stop.load(ordering: .acquiring) {
          round += 1
          let first = random.below(Self.pages)
          let count = 1 + random.below(Self.pages - first)
          let flags: GUPFlags = random.oneIn(2) ? .write : []
          let at = start + .pages(first)
          guard let result = try? unsafe entry.take(space, at, count, flags, list) else { continue }
          for i in 0..<result.pageCount {
            // Ours while we hold it, wherever it is mapped by now.
            let page = unsafe list[i]!
            let zeroPin = entry.pins && page.isZeroPage
            if page.isFree || !zeroPin && page.referenceCount < entry.bias {
              wrong.add(1, ordering: .relaxed)
            }
          }
          taken.add(result.pageCount, ordering: .relaxed)
          if entry.pins {
            unsafe unpinUserPages(list, count: result.pageCount)
          } else {
            unsafe putPages(list, count: result.pageCount)
          }
        }
      }
    }
    #expect(wrong.load(ordering: .relaxed) == 0, "\(howToRepeat)")
    #expect(taken.load(ordering: .relaxed) > 0)
    space.exit()
    #expect(memory.counters.outstanding == 0, "\(howToRepeat)")
    #expect(memory.freeFrameCount == memory.totalFrameCount, "\(howToRepeat)")
    #expect(memory.zeroPage.referenceCount == 1, "\(howToRepeat)")
  }

  @Test("C.3 end, G1, G4, G-02: a pinned page stays its owner's while fork runs beside the pin")
  func pinsAgainstFork() throws {
    let memory = try PhysicalMemory(capacity: .mebibytes(16), trapTier: .none)
    let space = try AddressSpace(memory: memory)
    let start = try space.map(length: .pages(Self.pages))
    try space.advise(start, length: .pages(Self.pages), .populateWrite)
    let stop = Atomic(false)
    let wrong = Atomic(0)
    let lost = Atomic(0)
    let forks = Atomic(0)
    let outlasted = Atomic(0)
    onThreads(4) { number in
      if number == 3 {
        // Until the thread that holds on has had its turns, too.
        var round = 0
        while round < Self.rounds
          || outlasted.load(ordering: .relaxed) == 0 && round < 100_000
        {
          round += 1
          guard let child = try? space.fork() else {
            wrong.add(1, ordering: .relaxed)
            continue
          }
          child.exit()
          forks.add(1, ordering: .releasing)
        }
        stop.store(true, ordering: .releasing)
        return
      }
      let entry: Entry = number == 0 ? .pinUserPagesFastOnly : .pinUserPagesFast
      unsafe withList { list in
        while !stop.load(ordering: .acquiring) {
          let result = try? unsafe entry.take(space, start, Self.pages, .write, list)
          let count = result?.pageCount ?? -1
          // With the slow path behind the walk nothing is refused.
          if entry == .pinUserPagesFast, count < Self.pages {
            wrong.add(1, ordering: .relaxed)
          }
          // Now and then the pins are held until a fork has begun and ended.
          if count > 0, number == 2 {
            let before = forks.load(ordering: .acquiring)
            while forks.load(ordering: .acquiring) < before + 2,
              !stop.load(ordering: .acquiring)
            {}
            outlasted.add(1, ordering: .relaxed)
          }
          for i in 0..<max(0, count) {
            // The owner never moves away from a page that is pinned for writing.
            let page = unsafe list[i]!
            if space.page(at: start + .pages(i)) != page || !page.isAnonymousExclusive {
              lost.add(1, ordering: .relaxed)
            }
          }
          unsafe unpinUserPages(list, count: count)
        }
      }
    }
    #expect(wrong.load(ordering: .relaxed) == 0)
    #expect(lost.load(ordering: .relaxed) == 0)
    #expect(outlasted.load(ordering: .relaxed) > 0)
    for i in 0..<Self.pages {
      #expect(space.page(at: start + .pages(i))?.referenceCount == 1)
    }
    space.exit()
    #expect(memory.counters.outstanding == 0)
    #expect(memory.freeFrameCount == memory.totalFrameCount)
  }

  @Test("C.10: threads on one page lose no count", arguments: Entry.fast)
  func onePage(entry: Entry) throws {
    let memory = try PhysicalMemory(capacity: .mebibytes(1), trapTier: .none)
    let space = try AddressSpace(memory: memory)
    let start = try space.map(length: .pages(1))
    try space.advise(start, length: .pages(1), .populateWrite)
    onThreads(4) { _ in
      unsafe withList { list in
        for _ in 0..<2_000 {
          let result = try? unsafe entry.take(space, start, 1, .write, list)
          precondition(result?.pageCount == 1)
          if entry.pins {
            unsafe unpinUserPage(list[0]!)
          } else {
            unsafe putPage(list[0]!)
          }
        }
      }
    }
    let counters = memory.counters
    #expect(counters.pinsAcquired + counters.referencesAcquired == 8_000)
    #expect(counters.outstanding == 0)
    #expect(space.page(at: start)?.referenceCount == 1)
    space.exit()
    #expect(memory.freeFrameCount == memory.totalFrameCount)
  }
}
