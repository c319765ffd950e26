//===----------------------------------------------------------------------===//
// The frame allocator: tables of single requests, and a long random run beside
// a bitmap.
//===----------------------------------------------------------------------===//

import CShims
import Events
import PageFrames
import TestSupport
import Testing

@Suite("Frame allocator")
struct FrameAllocatorTests {
  /// One request to a machine of `frames` frames of which `held` are taken.
  /// Frames are counted from the first that can be handed out.
  struct Request: Sendable, CustomTestStringConvertible {
    let name: String
    var frames = 2048
    var held: [Range<Int>] = []
    let at: Int
    let count: Int
    let expected: Int
    var testDescription: String { name }
  }

  static let requests: [Request] = [
    Request(name: "all of an empty machine", at: 0, count: 2048, expected: 2048),
    Request(name: "more than there is", at: 0, count: .max, expected: 2048),
    Request(name: "the first frame", at: 0, count: 1, expected: 1),
    Request(name: "the last frame", at: 2047, count: 1, expected: 1),
    Request(name: "past the last frame", at: 2048, count: 1, expected: 0),
    Request(name: "far past it", at: 1 << 40, count: 1, expected: 0),
    Request(name: "none", at: 5, count: 0, expected: 0),
    Request(name: "fewer than none", at: 5, count: -7, expected: 0),
    Request(name: "in the middle, not aligned", at: 333, count: 777, expected: 777),
    Request(name: "over a border of blocks", at: 511, count: 2, expected: 2),
    Request(name: "up to a held frame", held: [100..<101], at: 90, count: 50, expected: 10),
    Request(name: "from a held frame", held: [100..<101], at: 100, count: 50, expected: 0),
    Request(name: "behind a held frame", held: [100..<101], at: 101, count: 50, expected: 50),
    Request(name: "between two", held: [10..<12, 40..<80], at: 12, count: 100, expected: 28),
    Request(name: "one is left", held: [0..<77, 78..<2048], at: 77, count: 9, expected: 1),
    Request(name: "none is left", held: [0..<2048], at: 0, count: 2048, expected: 0),
    Request(name: "a machine of one frame", frames: 1, at: 0, count: 4, expected: 1),
    Request(name: "a machine of 513 frames", frames: 513, at: 500, count: 99, expected: 13),
  ]

  @Test("exact runs: as many as are free from the first on", arguments: requests)
  func exactRuns(request: Request) throws {
    let first = Machine.reservedFrames
    try withMachine(capacity: .pages(request.frames)) { memory in
      let machine = memory.machine
      for range in request.held {
        let got = machine.allocateRun(
          at: first + UInt64(range.lowerBound), count: range.count, flags: 0)
        #expect(got == range.count)
      }
      let held = request.held.reduce(0) { $0 + $1.count }
      let at = first + UInt64(request.at)
      let got = machine.allocateRun(
        at: at, count: request.count, flags: CSHIMS_PAGE_ANON)
      #expect(got == request.expected)
      #expect(memory.freeFrameCount.rawValue == request.frames - held - got)
      for i in 0..<got {
        let page = machine.page(at + UInt64(i))
        #expect(page.referenceCount == 1 && page.isAnonymous)
        page.release(.reference)
      }
      for frame in request.held.joined() {
        machine.page(first + UInt64(frame)).release(.reference)
      }
    }
  }

  @Test("blocks are aligned to their size, and their pages are one folio", arguments: 0...10)
  func blocks(order: Int) throws {
    try withMachine(capacity: .pages(4096)) { memory in
      var pages: [Page] = []
      while let page = try? memory.allocatePage(order: order) {
        let frame = page.frameNumber.rawValue
        #expect(frame & ((1 << UInt64(order)) - 1) == 0)
        let last = memory.machine.page(frame + (1 << UInt64(order)) - 1)
        #expect(last.folioHead == page && last.folioOrder == order)
        pages.append(page)
      }
      // The reserved frames keep one block of the highest order from being whole.
      #expect(pages.count << order >= 4096 - (1 << order))
      #expect(Set(pages).count == pages.count)
      #expect(memory.freeFrameCount.rawValue == 4096 - pages.count << order)
      for page in pages { page.put() }
      // Everything has merged: the largest block can be had again.
      try memory.allocatePage(order: 10).put()
    }
  }

  @Test("a frame that comes back is zeroed before it is handed out again")
  func staleFrames() throws {
    try withMachine(capacity: .pages(48)) { memory in
      for round in 0..<4 {
        var pages: [Page] = []
        while let page = try? memory.allocatePage(order: round % 3) {
          for i in 0..<(1 << (round % 3)) {
            let sub = memory.machine.page(page.frameNumber.rawValue + UInt64(i))
            #expect(unsafe sub.bytes.allSatisfy { $0 == 0 })
            unsafe sub.bytes.copyBytes(from: [UInt8](repeating: 0xff, count: 4096))
          }
          pages.append(page)
        }
        #expect(pages.count == 48 >> (round % 3))
        for page in pages { page.put() }
      }
    }
  }

  @Test("long runs that come back give their host memory back; short ones keep it for the next")
  func punching() throws {
    try withMachine(capacity: .pages(1024)) { memory in
      func hold(_ count: Int) {
        let frame = Machine.reservedFrames
        #expect(memory.machine.allocateRun(at: frame, count: count, flags: 0) == count)
        #expect(memory.machine.zero(frame: frame, count: count) == 0)
      }
      func drop(_ count: Int) {
        var batch = FrameBatch(memory.machine)
        for i in 0..<count {
          batch.dropReference(
            memory.machine.page(Machine.reservedFrames + UInt64(i)), call: "test")
        }
        batch.flush()
      }
      hold(600)
      #expect(memory.residentBytes == .pages(600))
      drop(600)
      #expect(memory.residentBytes == 0 && memory.freeFrameCount == 1024)
      hold(16)
      drop(16)
      #expect(memory.residentBytes == .pages(16))
      hold(600)
      #expect(memory.residentBytes == .pages(600))
      for i in 0..<600 {
        let page = memory.machine.page(Machine.reservedFrames + UInt64(i))
        if unsafe !page.bytes.allSatisfy({ $0 == 0 }) { Issue.record("frame \(i) is not zero") }
      }
      drop(600)
    }
  }

  @Test("a batch passes frames that somebody still holds, and folios, by")
  func batches() throws {
    try withMachine(capacity: .pages(1024)) { memory in
      let machine = memory.machine
      let first = Machine.reservedFrames
      #expect(machine.allocateRun(at: first, count: 100, flags: 0) == 100)
      let folio = try memory.allocatePage(order: 3)
      for i in [UInt64(7), 50] { try machine.page(first + i).acquire(.pin) }
      var batch = FrameBatch(machine)
      for i in 0..<100 { batch.dropReference(machine.page(first + UInt64(i)), call: "test") }
      try folio.get()
      batch.dropReference(machine.page(folio.frameNumber.rawValue + 5), call: "test")
      batch.flush()
      #expect(memory.freeFrameCount.rawValue == 1024 - 2 - 8)
      for i in [UInt64(7), 50] {
        #expect(machine.page(first + i).referenceCount == 1024)
        machine.page(first + i).release(.pin)
      }
      // The batch dropped what get had counted.
      machine.count(CSHIMS_REFS_RELEASED, 1)
      folio.put()
    }
  }

  @Test("home first, then anywhere; a failure that is injected is not looked for elsewhere")
  func near() throws {
    try withMachine(capacity: .pages(64)) { memory in
      let machine = memory.machine
      let first = Machine.reservedFrames
      func drop(_ frame: UInt64, _ count: Int) {
        for i in 0..<count { machine.page(frame + UInt64(i)).release(.reference) }
      }
      let near = try #require(machine.allocateNear(first + 4, 8, flags: 0))
      #expect(near == (first + 4, 8))
      let partly = try #require(machine.allocateNear(first, 8, flags: 0))
      #expect(partly == (first, 4))
      let away = try #require(machine.allocateNear(first + 5, 8, flags: 0))
      #expect(away.1 == 1 && away.0 >= first + 12)
      let anywhere = try #require(machine.allocateNear(nil, 8, flags: 0))
      #expect(anywhere.1 == 1)
      memory.arm(.frameAllocation, countdown: 2)
      let single = try #require(machine.allocateNear(first + 20, 8, flags: 0))
      #expect(single == (first + 20, 1), "armed, every frame is a passage of its own")
      #expect(machine.allocateNear(first + 21, 8, flags: 0) == nil)
      memory.arm(.frameAllocation, countdown: 0)
      for (frame, count) in [near, partly, away, anywhere, single] { drop(frame, count) }
    }
  }

  @Test("random blocks, exact runs and returns agree with a bitmap", arguments: [700, 2048, 5000])
  func randomModel(frames: Int) throws {
    try withSeededRandom(stream: UInt64(frames)) { random in
      try withMachine(capacity: .pages(frames)) { memory in
        let machine = memory.machine
        let first = Machine.reservedFrames
        var isHeld = [Bool](repeating: false, count: frames)
        var holdings: [(frame: Int, order: Int)] = []
        func take(_ frame: Int, _ order: Int) throws {
          for i in frame..<(frame + 1 << order) {
            try mustHold(!isHeld[i])
            isHeld[i] = true
          }
          holdings.append((frame, order))
        }
        for _ in 0..<4000 {
          switch random.below(6) {
          case 0, 1:
            let order = random.below(random.oneIn(3) ? 10 : 4)
            guard let frame = machine.allocate(order: order, flags: 0) else {
              // Then no aligned block of that size is free.
              let size = 1 << order
              var at = -Int(first) & (size - 1)
              while at + size <= frames {
                try mustHold(isHeld[at..<(at + size)].contains(true))
                at += size
              }
              continue
            }
            try take(Int(frame - first), order)
          case 2:
            let at = random.below(frames)
            let count = 1 + random.below(200)
            let got = machine.allocateRun(at: first + UInt64(at), count: count, flags: 0)
            let end = isHeld[at...].firstIndex(of: true) ?? frames
            try mustHold(got == min(count, end - at))
            for i in 0..<got { try take(at + i, 0) }
          default:
            guard !holdings.isEmpty else { continue }
            var batch = FrameBatch(machine)
            for _ in 0..<(1 + random.below(8)) where !holdings.isEmpty {
              let (frame, order) = holdings.swapRemove(random.below(holdings.count))
              for i in frame..<(frame + 1 << order) { isHeld[i] = false }
              let page = machine.page(first + UInt64(frame))
              if random.oneIn(2) {
                batch.dropReference(page, call: "test")
              } else {
                page.release(.reference)
              }
            }
            batch.flush()
          }
          try mustHold(machine.freeFrameCount == isHeld.count { !$0 })
        }
        for (frame, order) in holdings {
          try mustHold(machine.page(first + UInt64(frame)).folioOrder == order)
          machine.page(first + UInt64(frame)).release(.reference)
        }
        // All has merged again: one run takes everything.
        try mustHold(machine.allocateRun(at: first, count: frames, flags: 0) == frames)
        for i in 0..<frames { machine.page(first + UInt64(i)).release(.reference) }
      }
    }
  }

  @Test("threads that take and give back never share a frame")
  func threads() throws {
    try withMachine(capacity: .pages(256)) { memory in
      onThreads(4) { thread in
        var random = SeededRandom(stream: UInt64(500 + thread))
        var mine: [Page] = []
        for _ in 0..<1500 {
          if mine.count < 30, let page = try? memory.allocatePage(order: random.below(3)) {
            unsafe page.bytes.storeBytes(of: thread, as: Int.self)
            mine.append(page)
          } else if let page = mine.popLast() {
            if unsafe page.bytes.load(as: Int.self) != thread { Issue.record("a shared frame") }
            page.put()
          }
        }
        for page in mine { page.put() }
      }
      #expect(memory.freeFrameCount == 256)
    }
  }
}

extension Array {
  /// Removes one element, putting the last in its place.
  fileprivate mutating func swapRemove(_ index: Int) -> Element {
    swapAt(index, count - 1)
    return removeLast()
  }
}
