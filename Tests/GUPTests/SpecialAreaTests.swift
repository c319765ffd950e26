//===----------------------------------------------------------------------===//
// Areas that GUP must refuse (semantics C.5.2): secret memory and frames without
// pages, made as a program makes them; and the program's own view of them.
//===----------------------------------------------------------------------===//

import AddressSpaces
import CShims
import GUP
import PageFrames
import TestSupport
import Testing

@Suite("C.5.2: secret memory and device frames")
struct SpecialAreaTests {
  @Test(
    "C.5.2, G-09: secret memory is refused in both paths and never counted",
    arguments: Entry.allCases)
  func secret(entry: Entry) throws {
    try withSandbox { box in
      let start = try box.space.map(length: .pages(3), sharing: .shared, of: .secret)
      try box.store(start, pages: 3)
      #expect(try box.load(start, pages: 2) == 2)
      let page = try box.page(start)
      for flags in [GUPFlags(), .write, .force] {
        let error = box.refusal(entry, start, 3, flags)
        if Entry.fastOnly.contains(entry) {
          #expect(error == nil)
          #expect(try box.take(entry, start, 3, flags).pageCount == 0)
        } else {
          #expect(error == MemoryError(.badAddress, .directAccessForbidden, start))
        }
      }
      #expect(page.referenceCount == 2 && box.memory.counters.outstanding == 0)
      // Locked from the start, never moved, never dropped.
      #expect(box.space.lockedBytes == .pages(3))
      #expect(try box.space.migrate(start, length: .pages(3)).unmovable == 3)
      for advice in [Advice.dontNeed, .populateRead] {
        #expect(
          Self.refusal { () throws(MemoryError) in
            try box.space.advise(start, length: .pages(3), advice)
          } == MemoryError(.invalid, .adviceNotApplicable, start))
      }
      // A child shares it, and may touch it as its parent may.
      let child = try box.space.fork()
      var word: UInt64 = 0
      try unsafe withUnsafeMutableBytes(of: &word) { bytes in
        try unsafe child.copyFromUser(bytes, from: start + .pages(1))
      }
      #expect(word == 2)
      child.exit()
    }
  }

  @Test("secret memory must be shared, and stay below the lock limit")
  func secretArguments() throws {
    try withSandbox { box in
      #expect(
        Self.refusal { () throws(MemoryError) in
          _ = try box.space.map(length: .pages(1), of: .secret)
        } == MemoryError(.invalid, .notPrivate, 0))
      box.space.lockLimit = .pages(2)
      #expect(
        Self.refusal { () throws(MemoryError) in
          _ = try box.space.map(length: .pages(3), sharing: .shared, of: .secret)
        } == MemoryError(.tryAgain, .lockLimit, 12288))
      #expect(box.space.areas.isEmpty)
    }
  }

  @Test(
    "C.5.2: frames without pages are the program's to touch and EFAULT to GUP",
    arguments: TrapTier.all)
  func frames(tier: TrapTier) throws {
    try withMachine(tier: tier) { memory in
      let space = try AddressSpace(memory: memory)
      let device = try memory.allocatePage(order: 2)
      unsafe device.bytes[5] = 0x77
      let start = try space.mapFrames(from: device.frameNumber, count: 4)
      #expect(try space.read(1, at: start + 5) == [0x77])
      if tier != .none {
        #expect(space.load(start + 5) == 0x77)
        space.store(0x88, at: start + .pages(3))
      } else {
        try space.write([0x88], to: start + .pages(3))
      }
      let last = try #require(memory.page(PageFrameNumber(device.frameNumber.rawValue + 3)))
      #expect(unsafe last.bytes[0] == 0x88)
      #expect(device.referenceCount == 1 && device.mapCount == 0)
      let list = UnsafeMutablePointer<Page?>.allocate(capacity: 4)
      defer { unsafe list.deallocate() }
      unsafe list.initialize(repeating: nil, count: 4)
      for entry in Entry.falling {
        #expect(
          Self.refusal { () throws(MemoryError) in
            _ = try unsafe entry.take(space, start, 4, [], list)
          } == MemoryError(.badAddress, .deviceAccess, start))
      }
      for entry in Entry.fastOnly {
        #expect(try unsafe entry.take(space, start, 4, [], list).pageCount == 0)
      }
      for advice in [Advice.dontNeed, .doFork, .populateRead, .cold, .free] {
        #expect(
          Self.refusal { () throws(MemoryError) in
            try space.advise(start, length: .pages(4), advice)
          } == MemoryError(.invalid, .adviceNotApplicable, start))
      }
      // mlock passes it over; it may move, but not grow, and not leave a copy.
      try space.lockPages(start, length: .pages(4))
      #expect(space.lockedBytes == 0)
      #expect(
        Self.refusal { () throws(MemoryError) in
          try space.remap(start, length: .pages(4), newLength: .pages(5))
        } == MemoryError(.badAddress, .deviceAccess, start))
      #expect(
        Self.refusal { () throws(MemoryError) in
          try space.remap(start, length: .pages(4), newLength: .pages(4), keepingOld: true)
        } == MemoryError(.invalid, .deviceAccess, start))
      let target = try space.map(length: .pages(4))
      try space.remap(start, length: .pages(4), newLength: .pages(4), to: .fixed(target))
      #expect(try space.read(1, at: target + 5) == [0x77])
      // Protection comes and goes; a child sees the same frames.
      try space.protect(target, length: .pages(4), .readOnly)
      try space.protect(target, length: .pages(4), .readWrite)
      try space.write([0x99], to: target + 5)
      let child = try space.fork()
      #expect(try child.read(1, at: target + 5) == [0x99])
      try child.write([0xaa], to: target + 5)
      #expect(unsafe device.bytes[5] == 0xaa)
      child.exit()
      space.exit()
      #expect(device.referenceCount == 1)
      device.put()
    }
  }

  @Test("mapFrames refuses frames that are not there, free, or the zero page's")
  func frameArguments() throws {
    try withSandbox { box in
      let page = try box.memory.allocatePage()
      let frame = page.frameNumber.rawValue
      let cases: [(UInt64, Int, MemoryError.Reason)] = [
        (0, 1, .framesOutsideMachine), (511, 1, .framesOutsideMachine),
        (box.machine.frameCount, 1, .framesOutsideMachine),
        (.max, 1, .framesOutsideMachine), (frame, .max >> 12, .framesOutsideMachine),
        (frame, 0, .lengthNotPositive), (frame, -1, .lengthNotPositive),
        (600, 1, .pageNotHeld),
      ]
      for (first, count, reason) in cases {
        let error = Self.refusal { () throws(MemoryError) in
          _ = try box.space.mapFrames(from: PageFrameNumber(first), count: PageCount(count))
        }
        #expect(error?.number == .invalid && error?.reason == reason, "\(first) \(count)")
      }
      #expect(box.space.areas.isEmpty)
      page.put()
    }
  }

  private static func refusal(_ body: () throws(MemoryError) -> Void) -> MemoryError? {
    do throws(MemoryError) {
      try body()
      return nil
    } catch {
      return error
    }
  }
}
