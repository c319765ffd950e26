//===----------------------------------------------------------------------===//
// Semantics C.4: what a get, a pin and their ends do to a page's counts.
//===----------------------------------------------------------------------===//

import CShims
import PageFrames
import Synchronization
import TestSupport
import Testing

@Suite("C.4: reference arithmetic")
struct PageReferencesTests {
  struct Step: Sendable, CustomTestStringConvertible {
    let hold: PageHold
    let count: Int
    let order: Int
    let references: Int
    let pins: Int
    var testDescription: String { "\(count) \(hold)s, order \(order)" }
  }

  static let steps: [Step] = [
    Step(hold: .reference, count: 1, order: 0, references: 2, pins: 0),
    Step(hold: .reference, count: 1023, order: 0, references: 1024, pins: 1),
    Step(hold: .pin, count: 1, order: 0, references: 1025, pins: 1),
    Step(hold: .pin, count: 7, order: 0, references: 1 + 7 * 1024, pins: 7),
    Step(hold: .reference, count: 5, order: 3, references: 6, pins: 0),
    Step(hold: .pin, count: 1, order: 3, references: 2, pins: 1),
    Step(hold: .pin, count: 100, order: 9, references: 101, pins: 100),
  ]

  @Test(
    "n holds add n references, a pin of an order-0 page 1,024; the same number takes them away",
    arguments: steps)
  func arithmetic(step: Step) throws {
    try withMachine { memory in
      let page = try memory.allocatePage(order: step.order)
      // On a folio any of its pages will do.
      let some = memory.machine.page(page.frameNumber.rawValue + UInt64((1 << step.order) - 1))
      #expect(some.folioHead == page && some.folioOrder == step.order)
      try some.acquire(step.hold, count: step.count)
      #expect(page.referenceCount == step.references && some.referenceCount == step.references)
      #expect(some.pinCount == step.pins && some.mayBePinned == (step.pins > 0))
      some.release(step.hold, count: step.count)
      #expect(page.referenceCount == 1 && !page.mayBePinned && page.pinCount == 0)
      page.put()
      #expect(page.isFree && page.referenceCount == 0 && some.isFree)
    }
  }

  @Test("the last holder frees, whichever it is: a pin, a reference, a folio's tail")
  func lastHolder() throws {
    try withMachine(capacity: .pages(64)) { memory in
      for order in [0, 4] {
        for hold in [PageHold.pin, .reference] {
          let page = try memory.allocatePage(order: order)
          let tail = memory.machine.page(page.frameNumber.rawValue + UInt64((1 << order) - 1))
          try tail.acquire(hold)
          page.put()
          #expect(memory.freeFrameCount.rawValue == 64 - 1 << order)
          tail.release(hold)
          #expect(memory.freeFrameCount == 64)
        }
      }
    }
  }

  @Test("a free page is not taken, and neither is anything by a count that is none")
  func refusals() throws {
    try withMachine(capacity: .pages(64)) { memory in
      let page = try memory.allocatePage()
      for count in [0, -1, Int.min, Int.max, 1 << 32, 1 << 22] {
        for hold in [PageHold.pin, .reference] where hold == .pin || count != 1 << 22 {
          #expect(!page.tryAcquire(hold, count: count))
          #expect(throws: MemoryError.self) { try page.acquire(hold, count: count) }
          #expect(page.referenceCount == 1)
        }
      }
      page.release(.pin, count: 0)
      page.release(.reference, count: -4)
      #expect(page.referenceCount == 1)
      page.put()
      for hold in [PageHold.pin, .reference] {
        #expect(!page.tryAcquire(hold) && page.isFree)
        do throws(MemoryError) {
          try page.acquire(hold)
          Issue.record("took a free page")
        } catch {
          #expect(error == MemoryError(.outOfMemory, .countOverflow, page.frameNumber.rawValue))
        }
      }
    }
  }

  @Test("the zero page: references count, pins do not, nobody needs to give them back in order")
  func zeroPage() throws {
    try withMachine { memory in
      let zero = memory.zeroPage
      #expect(zero.isZeroPage && zero.referenceCount == 1 && !zero.isAnonymous)
      #expect(unsafe zero.bytes.allSatisfy { $0 == 0 })
      #expect(zero.tryAcquire(.pin, count: 5) && zero.referenceCount == 1 && !zero.mayBePinned)
      zero.release(.pin, count: 9)
      try zero.get()
      #expect(zero.referenceCount == 2)
      zero.put()
      #expect(zero.referenceCount == 1 && !zero.isFree)
    }
  }

  @Test("2^31 - 1 references fit, the next is refused and changes nothing")
  func overflow() throws {
    try withMachine { memory in
      let page = try memory.allocatePage()
      let most = Int(Int32.max)
      #expect(page.tryAcquire(.reference, count: most - 1))
      #expect(page.referenceCount == most)
      for hold in [PageHold.reference, .pin] { #expect(!page.tryAcquire(hold)) }
      #expect(page.referenceCount == most)
      page.release(.reference, count: 1024)
      // C.4: 2^21 - 1 pins and one reference are the limit of pins.
      #expect(page.tryAcquire(.pin) && !page.tryAcquire(.pin))
      page.release(.pin)
      page.release(.reference, count: most - 1025)
      #expect(page.referenceCount == 1)
      #expect(page.tryAcquire(.pin, count: (1 << 21) - 1) && !page.tryAcquire(.pin))
      page.release(.pin, count: (1 << 21) - 1)
      page.put()
    }
  }

  @Test(
    "grabs that race with the last put either get the page or leave no trace",
    arguments: [PageHold.reference, .pin])
  func racingGrabs(hold: PageHold) throws {
    try withMachine(capacity: .pages(8)) { memory in
      let stop = Atomic<Bool>(false)
      let taken = Atomic<Int>(0)
      // Frames come and go under the grabbers' hands, at order 0 and above.
      onThreads(4) { thread in
        if thread == 0 {
          for i in 0..<6000 {
            let order = i % 3
            guard let page = try? memory.allocatePage(order: order) else { continue }
            if unsafe !page.bytes.allSatisfy({ $0 == 0 }) { Issue.record("a stale frame") }
            unsafe page.bytes.storeBytes(of: UInt64.max, as: UInt64.self)
            page.put()
          }
          stop.store(true, ordering: .releasing)
        } else {
          while !stop.load(ordering: .acquiring) {
            for frame in Machine.reservedFrames..<(Machine.reservedFrames + 8) {
              let page = memory.machine.page(frame)
              guard page.tryAcquire(hold) else { continue }
              taken.add(1, ordering: .relaxed)
              // Ours as long as we hold it: nobody may get this frame meanwhile.
              if page.isFree { Issue.record("holds a free page") }
              page.release(hold)
            }
          }
        }
      }
      #expect(memory.freeFrameCount == 8)
      for frame in Machine.reservedFrames..<(Machine.reservedFrames + 8) {
        let page = memory.machine.page(frame)
        #expect(unsafe cshims_page_ref_load(page.descriptor) == CSHIMS_REF_FREE)
        #expect(unsafe cshims_page_pin_load(page.descriptor) == 0)
      }
    }
  }

  @Test("flags: dirty is the folio's, exclusivity the sub-page's")
  func flags() throws {
    try withMachine { memory in
      let page = try memory.allocatePage(order: 2)
      let tail = memory.machine.page(page.frameNumber.rawValue + 3)
      #expect(!tail.isDirty && tail.markDirty() && !tail.markDirty() && page.isDirty)
      #expect(!tail.isAnonymousExclusive && !page.isZeroPage)
      page.put()
      let again = try memory.allocatePage()
      #expect(!again.isDirty && again.folioOrder == 0)
      again.put()
    }
  }
}
