//===----------------------------------------------------------------------===//
// A fork that fails, wherever it does, and processes that go away while devices
// hold their pages.
//===----------------------------------------------------------------------===//

import AddressSpaces
import Events
import GUP
import PageFrames
import TestSupport
import Testing

@Suite("Fork that fails, processes that go")
struct ForkFailureTests {
  /// A place where a fork may be refused, and how programs touch memory there.
  struct Refusal: Sendable, CustomTestStringConvertible {
    let point: FailurePoint
    let tier: TrapTier

    static let all: [Refusal] = TrapTier.all.flatMap { tier in
      [FailurePoint.frameAllocation, .metadataAllocation, .hostMapping].map {
        Refusal(point: $0, tier: tier)
      }
    }
    var testDescription: String { "\(point), \(tier)" }
  }

  @Test(
    "S24: fork refused at its 1st, 2nd, 3rd ... passage of a point leaves the parent as it was",
    arguments: Refusal.all)
  func failNth(refusal: Refusal) throws {
    try withSandbox(tier: refusal.tier) { box in
      // Written pages across two tables, three of them pinned; an object; zero
      // pages; a page out of reach.
      let start = try box.map(pages: 600)
      try box.store(start, pages: 600)
      let shared = try box.mapWritten(pages: 3, .shared)
      let untouched = try box.map(pages: 4)
      try box.load(untouched, pages: 2)
      let hidden = try box.mapWritten(pages: 1)
      try box.space.protect(hidden, length: .pages(1), .none)
      #expect(try box.take(.pinUserPages, start + .pages(510), 3, .write).isComplete)
      let frames = (0..<600).map { box.space.page(at: start + .pages($0)) }
      // The first success makes what later ones find made.
      try box.space.fork().exit()
      var countdown = 1
      while true {
        try #require(countdown < 200)
        let books = Account(box.memory)
        box.memory.arm(refusal.point, countdown: countdown)
        let error = box.forkRefusal()
        let hasFailed = box.memory.failures(of: refusal.point) > 0
        box.memory.arm(refusal.point, countdown: 0)
        #expect(hasFailed || error == nil)
        #expect(error == nil || error?.number == .outOfMemory)
        #expect(Account(box.memory) == books)
        for i in 0..<600 {
          let page = try box.page(start + .pages(i))
          try #require(page == frames[i] && page.mapCount == 1)
          try #require(page.referenceCount == ((510..<513).contains(i) ? 1025 : 1))
        }
        // Pinned pages never stopped being writable; the others are so again by
        // a store, in place.
        #expect((510..<513).allSatisfy { box.space.isWritable(at: start + .pages($0)) })
        try box.store(start, pages: 600)
        #expect(box.space.page(at: start) == frames[0] && box.space.page(at: hidden) != nil)
        #expect(try box.load(start, pages: 600) == 600 && box.load(shared, pages: 3) == 3)
        if !hasFailed { break }
        countdown += 1
      }
      box.release(.pinUserPages, 3)
    }
  }

  // MARK: - Going away

  /// Who holds pages, how, and which address space goes.
  struct Leaving: Sendable, CustomTestStringConvertible {
    let entry: Entry
    let holderIsParent: Bool
    let holderGoes: Bool
    let tier: TrapTier

    static let all: [Leaving] = TrapTier.all.flatMap { tier in
      Entry.fast.flatMap { entry in
        (0..<4).map {
          Leaving(entry: entry, holderIsParent: $0 & 1 == 0, holderGoes: $0 & 2 == 0, tier: tier)
        }
      }
    }
    var testDescription: String {
      "\(entry) by the \(holderIsParent ? "parent" : "child"), which "
        + "\(holderGoes ? "goes" : "stays"), \(tier)"
    }
  }

  @Test(
    "G5, D.2.3: an address space that is destroyed leaves held pages and the other process alone",
    arguments: Leaving.all)
  func destroyed(case c: Leaving) throws {
    try withMachine(tier: c.tier) { memory in
      var parent: AddressSpace? = try AddressSpace(memory: memory)
      let start = try #require(try parent?.map(length: .pages(6)))
      try parent?.writeEveryPage(start, 6, 1)
      var child: AddressSpace? = c.holderIsParent ? nil : try parent?.fork()
      // The holder stores first, so that the pages are its own.
      let list = UnsafeMutablePointer<Page?>.allocate(capacity: 6)
      defer { unsafe list.deallocate() }
      do {
        let holder = try #require(c.holderIsParent ? parent : child)
        try holder.writeEveryPage(start, 6, 2)
        #expect(try unsafe c.entry.take(holder, start, 6, .write, list).isComplete)
      }
      if c.holderIsParent { child = try parent?.fork() }
      // A pin keeps the page the holder's; a reference of the parent's is shared.
      let isShared = c.holderIsParent && !c.entry.pins
      if c.holderIsParent == c.holderGoes { parent = nil } else { child = nil }
      let left = try #require(parent ?? child)
      for i in 0..<6 {
        let page = try #require(unsafe list[i])
        #expect(!page.isFree && page.mapCount == (c.holderGoes && !isShared ? 0 : 1))
        unsafe page.bytes[0] = 3
      }
      let seen: UInt8 = isShared || !c.holderGoes ? 3 : c.holderIsParent ? 2 : 1
      for i in 0..<6 { #expect(try left.read(1, at: start + .pages(i)) == [seen]) }
      try left.writeEveryPage(start, 6, 4)
      // A reference, or a store by the holder itself, decides whose page it is.
      for i in 0..<6 {
        let page = try #require(unsafe list[i])
        let stays = left.page(at: start + .pages(i)) == page
        #expect(unsafe page.bytes[0] == (stays ? 4 : 3))
        #expect(stays == (!c.holderGoes && !isShared))
      }
      if c.entry.pins {
        unsafe unpinUserPages(list, count: 6)
      } else {
        unsafe putPages(list, count: 6)
      }
      #expect(memory.freeFrameCount.rawValue == memory.totalFrameCount.rawValue - 6)
    }
  }
}

extension Sandbox {
  /// Why a fork was refused; nil when there was a child, which has exited.
  fileprivate func forkRefusal() -> MemoryError? {
    do throws(MemoryError) {
      try space.fork().exit()
      return nil
    } catch {
      return error
    }
  }
}
