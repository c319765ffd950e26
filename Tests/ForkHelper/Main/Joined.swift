//===----------------------------------------------------------------------===//
// The scenarios of children that join: bytes in both directions, who holds what,
// and deaths.
//===----------------------------------------------------------------------===//

import AddressSpaces
import CForkHelper
import Events
import GUP
import Glibc
import PageFrames
import Synchronization
import TestSupport

/// A pipe by which processes wait for each other.
struct Signal {
  let ends: [Int32]

  init() {
    var ends: [Int32] = [-1, -1]
    check(unsafe pipe(&ends) == 0)
    self.ends = ends
  }

  func send(_ byte: UInt8 = 1) {
    var byte = byte
    check(unsafe write(ends[1], &byte, 1) == 1)
  }
  /// nil when everybody who could send has gone.
  func receive() -> UInt8? {
    var byte: UInt8 = 0
    while true {
      let got = unsafe read(ends[0], &byte, 1)
      if got == 1 { return byte }
      if got == 0 { return nil }
      check(errno == EINTR)
    }
  }
  /// In a process that only receives.
  func receiveOnly() { close(ends[1]) }
}

/// A machine that children may join, held to account at its end: by then every
/// other process has gone, and every frame is free.
func withJoinable(
  _ tier: TrapTier, capacity: ByteCount = .mebibytes(16), _ body: (PhysicalMemory) throws -> Void
) throws {
  let memory = try PhysicalMemory(capacity: capacity, trapTier: tier, joinable: true)
  try body(memory)
  memory.reapDeadProcesses()
  check(memory.freeFrameCount == memory.totalFrameCount, "\(Account(memory)) left")
  let counters = memory.counters
  check(counters.outstanding == 0, "\(counters)")
}

enum Joined {
  /// Each side sees the bytes of the fork and its own stores.
  static func bytes(_ tier: TrapTier) throws {
    try withJoinable(tier) { memory in
      let space = try AddressSpace(memory: memory)
      let start = try space.map(length: .pages(600))
      let shared = try space.map(length: .pages(8), sharing: .shared)
      for i in 0..<64 { space.store(UInt8(i), at: start + .pages(i)) }
      space.store(50, at: shared)
      check(space.load(start + .pages(100)) == 0)
      let huge = try space.map(length: .mebibytes(2), folios: .huge)
      space.store(60, at: huge + .pages(7))
      var pinned = try PageBuffer(capacity: 4)
      _ = try space.pinUserPagesFast(start, count: 4, flags: .write, into: &pinned)
      let before = (0..<64).map { space.page(at: start + .pages($0))! }
      let (parentStored, childStored) = (Signal(), Signal())
      let child = startChild {
        let own = try space.joinAfterFork()
        check(parentStored.receive() == 1)
        for i in 0..<64 { check(own.load(start + .pages(i)) == UInt8(i), "page \(i)") }
        check(own.load(start + .pages(100)) == 0 && own.load(start + .pages(300)) == 0)
        check(own.load(shared) == 51 && own.load(huge + .pages(7)) == 60)
        own.store(61, at: huge + .pages(300))
        own.store(52, at: shared)
        for i in stride(from: 0, to: 600, by: 3) { own.store(0xcc, at: start + .pages(i)) }
        check(own.load(start) == 0xcc && own.load(start + .pages(1)) == 1)
        check(own.areas.count == 3 && own.page(at: start) != before[0])
        // Pins are not inherited, and it is not the parent's copies that it holds.
        check(!own.page(at: start + .pages(1))!.mayBePinned)
        childStored.send()
        check(parentStored.receive() == 2)
        check(own.load(start + .pages(1)) == 1 && own.load(start + .pages(3)) == 0xcc)
      }
      for i in stride(from: 1, to: 64, by: 2) { space.store(0xaa, at: start + .pages(i)) }
      check(space.load(shared) == 50)
      space.store(51, at: shared)
      parentStored.send(1)
      check(childStored.receive() == 1)
      for i in 0..<64 {
        check(space.load(start + .pages(i)) == (i % 2 == 1 ? 0xaa : UInt8(i)), "page \(i)")
      }
      check(space.load(shared) == 52 && space.load(start + .pages(300)) == 0)
      // What was pinned has stayed where it was.
      for i in 0..<4 { check(space.page(at: start + .pages(i)) == before[i]) }
      unsafe pinned[1]!.bytes[0] = 0x77
      check(space.load(start + .pages(1)) == 0x77)
      parentStored.send(2)
      expectWell(forkhelper_wait(child))
      unpinUserPages(&pinned)
      check(memory.reapDeadProcesses() <= 1)
      let folio = space.page(at: huge)!
      check(folio.folioOrder == 9 && folio.referenceCount == 1 && folio.folioMapCount == 1)
      check(space.load(huge + .pages(300)) == 0 && space.load(huge + .pages(7)) == 60)
      // Alone again: a store needs no copy.
      let page = space.page(at: start + .pages(2))!
      check(page.referenceCount == 1 && page.mapCount == 1, "\(page)")
      space.store(3, at: start + .pages(2))
      check(space.page(at: start + .pages(2)) == page)
    }
  }

  /// What cannot be joined, and why.
  static func refusals(_ tier: TrapTier) throws {
    func refused(
      _ number: ErrorNumber, _ reason: MemoryError.Reason, _ line: Int = #line,
      _ body: () throws(MemoryError) -> AddressSpace
    ) {
      do throws(MemoryError) {
        _ = try body()
        check(false, "an error", line: line)
      } catch {
        check(error.number == number && error.reason == reason, "\(error)", line: line)
      }
    }
    try withAddressSpace(tier: tier) { space in
      let status = inChild {
        refused(.notSupported, .notJoinable) { () throws(MemoryError) in
          try space.joinAfterFork()
        }
      }
      expectWell(status)
    }
    refused(.invalid, .trapUnavailable) { () throws(MemoryError) in
      _ = try PhysicalMemory(capacity: .pages(8), trapTier: .none, joinable: true)
      fatalError()
    }
    try withJoinable(tier) { memory in
      let space = try AddressSpace(memory: memory)
      let gone = try AddressSpace(memory: memory)
      let start = try space.map(length: .pages(8))
      space.store(1, at: start)
      gone.exit()
      refused(.invalid, .joinedAlready) { () throws(MemoryError) in try space.joinAfterFork() }
      expectWell(
        inChild(.clone) {
          refused(.noSuchProcess, .copyMissing) { () throws(MemoryError) in
            try space.joinAfterFork()
          }
        })
      let status = inChild {
        var pages = try PageBuffer(capacity: 1)
        // Before it has joined a child has no virtual mappings.
        check(unsafe memory.page(atKernelAddress: UnsafeRawPointer(pages.baseAddress)) == nil)
        let own = try space.joinAfterFork()
        refused(.noSuchProcess, .copyMissing) { () throws(MemoryError) in
          try space.joinAfterFork()
        }
        refused(.noSuchProcess, .copyMissing) { () throws(MemoryError) in
          try gone.joinAfterFork()
        }
        // The parent's stays the parent's.
        refused(.noSuchProcess, .otherProcess) { () throws(MemoryError) in
          _ = try space.pinUserPagesFast(start, count: 1, into: &pages)
          return space
        }
        check(own.load(start) == 1)
      }
      expectWell(status)
      check(space.load(start) == 1)
    }
    // No frame for the copy of a pinned page: the fork(2) works, the join does not.
    try withJoinable(tier, capacity: .pages(16)) { memory in
      let space = try AddressSpace(memory: memory)
      let start = try space.map(length: .pages(16))
      for i in 0..<16 { space.store(7, at: start + .pages(i)) }
      var pinned = try PageBuffer(capacity: 4)
      _ = try space.pinUserPagesFast(start, count: 4, flags: .write, into: &pinned)
      expectWell(
        inChild {
          refused(.outOfMemory, .copyFailed) { () throws(MemoryError) in
            try space.joinAfterFork()
          }
        })
      unpinUserPages(&pinned)
      memory.reapDeadProcesses()
      for i in 0..<16 { space.store(8, at: start + .pages(i)) }
    }
  }

  /// A child that pins and gets and is killed; one that never joins; one that
  /// exits; one that calls exec(2). The parent's counts return exactly.
  static func deadChildren(_ tier: TrapTier) throws {
    try withJoinable(tier) { memory in
      let space = try AddressSpace(memory: memory)
      let start = try space.map(length: .pages(64))
      let shared = try space.map(length: .pages(8), sharing: .shared)
      for i in 0..<32 { space.store(1, at: start + .pages(i)) }
      for i in 0..<8 { space.store(2, at: shared + .pages(i)) }
      var pinned = try PageBuffer(capacity: 8)
      _ = try space.pinUserPagesFast(shared, count: 8, flags: .write, into: &pinned)
      let counts = { (0..<8).map { space.page(at: shared + .pages($0))!.referenceCount } }
      let before = (memory.freeFrameCount, counts(), memory.counters.outstanding)
      for end in 0..<5 {
        let (ready, mayEnd) = (Signal(), Signal())
        let child = startChild {
          if end == 3 {
            ready.send()
            pause()
          }
          let own = try space.joinAfterFork()
          var pages = try PageBuffer(capacity: 64)
          var more = try PageBuffer(capacity: 64)
          for i in 0..<64 { own.store(9, at: start + .pages(i)) }
          _ = try own.pinUserPagesFast(shared, count: 8, flags: .write, into: &pages)
          _ = try own.pinUserPagesFast(start, count: 64, flags: .write, into: &more)
          var got = try PageBuffer(capacity: 8)
          _ = try own.getUserPages(shared, count: 8, into: &got)
          let page = try memory.allocatePage(order: 3)
          let mapping = try VirtualMapping([page], memory: memory)
          let anonymous = try own.map(length: .pages(8), sharing: .shared)
          own.store(1, at: anonymous)
          // The parent's copies of its pins are not ours to drop.
          unpinUserPages(&pinned)
          unpinUserPage(own.page(at: start)!)
          check(own.page(at: start)!.referenceCount == 1)
          ready.send()
          // While it is looked at: who has gone may be reaped at any moment.
          if end != 0 { check(mayEnd.receive() == 1) }
          if end == 1 { exit(0) }
          if end == 2 {
            let arguments = unsafe [strdup("/bin/sleep"), strdup("0.3"), nil]
            unsafe execv("/bin/sleep", arguments)
          }
          if end == 4 {
            putPages(&got)
            forkhelper_end(0)
          }
          pause()
          check(mapping.pageCount.rawValue == 1)
        }
        check(ready.receive() == 1)
        if end != 3 { check(memory.freeFrameCount < before.0) }
        mayEnd.send()
        if end == 0 || end == 3 { forkhelper_kill(child) }
        if end == 2 {
          while memory.reapDeadProcesses() == 0, memory.freeFrameCount != before.0 { usleep(1000) }
        } else {
          _ = forkhelper_wait(child)
        }
        // Also waits for the reaper thread, which may be at it.
        memory.reapDeadProcesses()
        check(memory.freeFrameCount == before.0, "end \(end): \(Account(memory))")
        check(counts() == before.1, "end \(end): \(counts())")
        check(memory.counters.outstanding == before.2, "end \(end): \(memory.counters)")
        for i in 0..<32 { check(space.load(start + .pages(i)) == 1) }
        check(space.load(shared) == 2)
        if end == 2 { _ = forkhelper_wait(child) }
      }
      unpinUserPages(&pinned)
      // Nobody calls for it: the reaper thread notices.
      let child = startChild {
        let own = try space.joinAfterFork()
        for i in 0..<64 { own.store(9, at: start + .pages(i)) }
        forkhelper_kill(getpid())
      }
      _ = forkhelper_wait(child)
      let free = memory.totalFrameCount.rawValue - 40
      var turns = 0
      while memory.freeFrameCount.rawValue != free, turns < 5000 {
        usleep(2000)
        turns += 1
      }
      check(memory.freeFrameCount.rawValue == free, "\(memory.freeFrameCount)")
    }
  }

  /// The founder is killed while it holds pins; its child goes on.
  static func deadFounder(_ tier: TrapTier) throws {
    let result = Signal()
    let founder = startChild {
      let memory = try PhysicalMemory(capacity: .mebibytes(8), trapTier: tier, joinable: true)
      let space = try AddressSpace(memory: memory)
      let start = try space.map(length: .pages(32))
      let shared = try space.map(length: .pages(8), sharing: .shared)
      for i in 0..<32 { space.store(5, at: start + .pages(i)) }
      for i in 0..<8 { space.store(6, at: shared + .pages(i)) }
      var pinned = try PageBuffer(capacity: 32)
      _ = try space.pinUserPagesFast(start, count: 16, flags: .write, into: &pinned)
      let (ready, joined) = (Signal(), Signal())
      let own = getpid()
      _ = startChild {
        let mine = try space.joinAfterFork()
        joined.send()
        check(ready.receive() == 1)
        check(mine.load(shared) == 6)
        let page = mine.page(at: shared)!
        // The cache, two mappings, the founder's pin.
        check(page.pinCount == 1 && page.mapCount == 2 && page.referenceCount == 3 + 1024)
        forkhelper_kill(own)
        while memory.reapDeadProcesses() == 0, page.pinCount != 0 { usleep(1000) }
        // Waits for the reaper thread, which may be at it.
        memory.reapDeadProcesses()
        check(page.pinCount == 0 && page.referenceCount == 2, "\(page)")
        for i in 0..<32 { check(mine.load(start + .pages(i)) == 5) }
        // 32 of its own, 8 shared: the founder's copies have gone.
        check(
          memory.freeFrameCount.rawValue == memory.totalFrameCount.rawValue - 40,
          "\(memory.freeFrameCount)")
        for i in 0..<32 {
          mine.store(7, at: start + .pages(i))
          check(mine.page(at: start + .pages(i))!.referenceCount == 1)
        }
        var pages = try PageBuffer(capacity: 8)
        _ = try mine.pinUserPagesFast(shared, count: 8, flags: .write, into: &pages)
        unpinUserPages(&pages)
        // And it can be a parent itself.
        expectWell(
          inChild {
            let next = try mine.joinAfterFork()
            check(next.load(start) == 7 && next.load(shared) == 6)
            next.store(8, at: start)
          })
        check(mine.load(start) == 7)
        mine.exit()
        memory.reapDeadProcesses()
        check(memory.freeFrameCount == memory.totalFrameCount, "\(Account(memory))")
        result.send(1)
      }
      check(joined.receive() == 1)
      _ = try space.pinUserPagesFast(shared, count: 8, flags: .write, into: &pinned)
      ready.send()
      pause()
    }
    result.receiveOnly()
    check(result.receive() == 1, "the child's word")
    expect(forkhelper_wait(founder), endsBy: SIGKILL)
  }

  /// A child is killed with stores of its own in a file that only it has mapped. One
  /// that it has inherited gets them. Of one that it has opened the parent has the
  /// number for another file.
  static func deadFile(_ tier: TrapTier) throws {
    for isInherited in [true, false] {
      try withJoinable(tier) { memory in
        let space = try AddressSpace(memory: memory)
        let ready = Signal()
        let (theirs, mine) = unsafe (emptyFile(), emptyFile())
        var at = UserAddress(0)
        func map(_ space: AddressSpace) throws {
          let file = try unsafe MappedFile(duplicating: fileno(theirs), memory: memory)
          at = try space.map(file: file, length: .pages(1), protection: .readWrite)
        }
        if isInherited { try map(space) }
        let child = startChild {
          let own = try space.joinAfterFork()
          if !isInherited { try map(own) }
          own.store(0x66, at: at)
          ready.send()
          pause()
        }
        let copies = (0..<32).map { _ in unsafe dup(fileno(mine)) }
        if isInherited { try space.unmap(at, length: .pages(1)) }
        check(ready.receive() == 1)
        forkhelper_kill(child)
        expect(forkhelper_wait(child), endsBy: SIGKILL)
        memory.reapDeadProcesses()
        check(unsafe firstByte(of: theirs) == (isInherited ? 0x66 : 0))
        check(unsafe firstByte(of: mine) == 0, "a stranger's file")
        for copy in copies { close(copy) }
        unsafe fclose(mine)
        unsafe fclose(theirs)
      }
    }
  }

  private static func emptyFile() -> UnsafeMutablePointer<FILE> {
    let file = unsafe tmpfile()!
    check(unsafe ftruncate(fileno(file), 4096) == 0)
    return unsafe file
  }

  private static func firstByte(of file: UnsafeMutablePointer<FILE>) -> UInt8 {
    var byte: UInt8 = 0xff
    check(unsafe pread(fileno(file), &byte, 1, 0) == 1)
    return byte
  }

  /// Four generations, each with bytes of its own, that end in every order.
  static func generations(_ tier: TrapTier) throws {
    for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2], [1, 2, 0]] {
      try withJoinable(tier) { memory in
        let space = try AddressSpace(memory: memory)
        let start = try space.map(length: .pages(16))
        let shared = try space.map(length: .pages(1), sharing: .shared)
        for i in 0..<16 { space.store(1, at: start + .pages(i)) }
        space.store(0, at: shared)
        let up = Signal()
        let gates = (0..<3).map { _ in Signal() }
        let processes = try space.map(length: .pages(1), sharing: .shared)
        space.storeWord(0, at: processes)

        func live(_ depth: Int, _ parent: AddressSpace) throws {
          let own = try parent.joinAfterFork()
          check(own.load(start) == UInt8(depth), "generation \(depth)")
          for i in 0..<16 { own.store(UInt8(depth + 1), at: start + .pages(i)) }
          own.storeWord(UInt64(getpid()), at: processes + ByteCount(8 * (depth - 1)))
          var pages = try PageBuffer(capacity: 16)
          _ = try own.pinUserPagesFast(start, count: 16, flags: .write, into: &pages)
          if depth < 3 {
            _ = startChild { try live(depth + 1, own) }
          } else {
            up.send()
          }
          check(gates[depth - 1].receive() == 1)
          for i in 0..<16 { check(own.load(start + .pages(i)) == UInt8(depth + 1)) }
          check(unsafe pages[5]!.bytes[0] == UInt8(depth + 1))
          if depth == 2 { unpinUserPages(&pages) }
          up.send()
          forkhelper_end(0)
        }
        let first = startChild { try live(1, space) }
        check(up.receive() == 1)
        for i in order {
          gates[i].send()
          check(up.receive() == 1)
          let process = Int32(space.loadWord(processes + ByteCount(8 * i)))
          if i == 0 { expectWell(forkhelper_wait(first)) }
          // One that a reaper thread has buried stays a zombie, which kill(2) finds.
          var turns = 0
          while kill(process, 0) == 0, i != 0, memory.reapDeadProcesses() == 0, turns < 1000 {
            usleep(1000)
            turns += 1
          }
          check(space.load(start + .pages(3)) == 1)
        }
        for i in 0..<16 { space.store(1, at: start + .pages(i)) }
        var turns = 0
        while memory.totalFrameCount.rawValue - memory.freeFrameCount.rawValue != 18, turns < 3000 {
          memory.reapDeadProcesses()
          usleep(1000)
          turns += 1
        }
        check(turns < 3000, "\(Account(memory))")
      }
    }
  }

  /// Four threads fork at once, again and again; two machines, both joined.
  static func crowd(_ tier: TrapTier) throws {
    try withJoinable(tier) { first in
      try withJoinable(tier) { second in
        let spaces = try [AddressSpace(memory: first), AddressSpace(memory: second)]
        let starts = try spaces.map { try $0.map(length: .pages(64)) }
        for k in 0..<2 {
          for i in 0..<64 { spaces[k].store(UInt8(k + 1), at: starts[k] + .pages(i)) }
        }
        // What a joined child does in both.
        @Sendable func visit(
          _ number: Int, _ round: Int, _ own: (Int) throws -> AddressSpace
        ) throws {
          for k in [round % 2, 1 - round % 2] {
            let own = try own(k)
            check(own.load(starts[k] + .pages(number)) == UInt8(k + 1))
            own.store(9, at: starts[k] + .pages(round))
            var pages = try PageBuffer(capacity: 64)
            _ = try own.pinUserPagesFast(starts[k], count: 64, flags: .write, into: &pages)
            if round % 3 > 0 { unpinUserPages(&pages) }
            if round % 3 > 1 { own.exit() }
          }
        }
        try rehearse { try visit(0, 2) { try spaces[$0].fork() } }
        onThreads(4) { number in
          for round in 0..<8 {
            let status = inChild { try visit(number, round) { try spaces[$0].joinAfterFork() } }
            expectWell(status)
            for k in 0..<2 { check(spaces[k].load(starts[k] + .pages(round)) == UInt8(k + 1)) }
          }
        }
        for k in 0..<2 { spaces[k].exit() }
      }
    }
  }

  /// Children with threads that fault, fork, pin and unpin are killed at random
  /// moments, while the parent's threads do the same.
  static func kills(_ tier: TrapTier) throws {
    try withJoinable(tier, capacity: .mebibytes(8)) { memory in
      let space = try AddressSpace(memory: memory)
      let start = try space.map(length: .pages(256))
      let shared = try space.map(length: .pages(64), sharing: .shared)
      for i in 0..<256 { space.store(1, at: start + .pages(i)) }
      let stop = Flag()
      try rehearse {
        let twin = try space.fork()
        work(twin, start, shared, 1, memory, stop, turns: 30)
        for _ in 0..<5 { forkAndChange(twin, start) }
      }
      onThreads(3) { number in
        if number > 0 {
          work(space, start + .pages(64 * number), shared, UInt8(number), memory, stop)
          return
        }
        var random = SeededRandom(stream: 77)
        for round in 0..<40 {
          let ready = Signal()
          let child = startChild {
            let own = try space.joinAfterFork()
            check(own.load(start + .pages(2)) == 1)
            ready.send()
            let forever = Flag()
            onThreads(3) { thread in
              if thread > 0 {
                work(own, start + .pages(64 * thread), shared, 0x80, memory, forever)
                return
              }
              while true { forkAndChange(own, start) }
            }
          }
          ready.receiveOnly()
          check(ready.receive() == 1, "round \(round) \(howToRepeat)")
          usleep(UInt32.random(in: 0..<30000, using: &random))
          forkhelper_kill(child)
          expect(forkhelper_wait(child), endsBy: SIGKILL)
          close(ready.ends[0])
          if round % 3 == 0 { memory.reapDeadProcesses() }
          check(space.load(start + .pages(2)) == 1)
        }
        stop.isUp.store(true, ordering: .releasing)
      }
      // Grandchildren of the killed ones end by themselves.
      var turns = 0
      while memory.totalFrameCount.rawValue - memory.freeFrameCount.rawValue > 256 + 64,
        turns < 5000
      {
        memory.reapDeadProcesses()
        usleep(1000)
        turns += 1
      }
      for i in 0..<64 { check(space.load(start + .pages(i)) == 1, "page \(i) \(howToRepeat)") }
      let frames = (0..<256).map { space.page(at: start + .pages($0))! }
      for page in frames { check(page.referenceCount == 1 && page.mapCount == 1, "\(page)") }
      space.exit()
    }
  }

  /// Children join and touch pages while a thread of their parent has Swift's runtime
  /// make metadata, under locks that nobody releases in a child.
  static func busyRuntime(_ tier: TrapTier) throws {
    /// Twice as many types at each level, each of them new to the runtime.
    @Sendable func makeTypes<T>(from type: T.Type, levels: Int, until stop: Flag) {
      if levels == 0 || stop.isUp.load(ordering: .relaxed) { return }
      makeTypes(from: Optional<T>.self, levels: levels - 1, until: stop)
      makeTypes(from: Array<T>.self, levels: levels - 1, until: stop)
    }
    try withJoinable(tier) { memory in
      let space = try AddressSpace(memory: memory)
      let start = try space.map(length: .pages(64))
      for i in 0..<32 { space.store(1, at: start + .pages(i)) }
      @Sendable func touch(_ own: AddressSpace) {
        check(own.load(start) == 1 && own.load(start + .pages(40)) == 0)
        own.store(2, at: start + .pages(1))
        own.store(2, at: start + .pages(50))
      }
      try rehearse { touch(try space.fork()) }
      let stop = Flag()
      onThreads(2) { number in
        if number == 1 { return makeTypes(from: UInt8.self, levels: 18, until: stop) }
        for _ in 0..<40 {
          let child = startChild { touch(try space.joinAfterFork()) }
          expectWell(waitAMinute(for: child))
        }
        stop.isUp.store(true, ordering: .relaxed)
      }
      check(space.load(start + .pages(1)) == 1 && space.load(start + .pages(50)) == 0)
      space.exit()
    }
  }

  /// Forks within the process and for a child that joins, maps and unmaps.
  private static func forkAndChange(_ own: AddressSpace, _ start: UserAddress) {
    do {
      let twin = try own.fork()
      twin.store(3, at: start + .pages(9))
      _ = try own.map(length: .pages(3), sharing: .shared)
      let folios = try own.map(length: .pages(64), folios: .order(4))
      own.store(4, at: folios + .pages(20))
      twin.store(5, at: start + .pages(200))
      try own.unmap(folios + .pages(17), length: .pages(47))
      if Int.random(in: 0..<4) == 0 {
        let grandchild = startChild {
          let next = try own.joinAfterFork()
          next.store(9, at: start + .pages(7))
        }
        _ = forkhelper_wait(grandchild)
      }
    } catch {
      check(error.number == .outOfMemory, "\(error)")
    }
  }

  /// Stores, pins, checks and lets go, in 64 pages of its own, until told to stop.
  private static func work(
    _ space: AddressSpace, _ start: UserAddress, _ shared: UserAddress, _ mark: UInt8,
    _ memory: PhysicalMemory, _ stop: Flag, turns: Int = .max
  ) {
    var random = SystemRandomNumberGenerator()
    var turn = 0
    while turn < turns, !stop.isUp.load(ordering: .acquiring) {
      turn += 1
      let at = start + .pages(Int.random(in: 0..<60, using: &random))
      do {
        space.store(mark, at: at)
        var pages = try PageBuffer(capacity: 4)
        _ = try space.pinUserPagesFast(at, count: 4, flags: .write, into: &pages)
        check(unsafe pages[0]!.bytes[0] == mark, "the mark")
        space.store(mark &+ 1, at: at)
        check(unsafe pages[0]!.bytes[0] == mark &+ 1, "a pinned page stays")
        space.store(mark, at: at)
        var got = try PageBuffer(capacity: 2)
        _ = try space.getUserPages(
          shared + .pages(Int.random(in: 0..<60, using: &random)), count: 2, into: &got)
        let page = try memory.allocatePage()
        unpinUserPages(&pages)
        putPages(&got)
        page.put()
        if Int.random(in: 0..<8, using: &random) == 0 {
          try space.advise(at, length: .pages(4), .dontNeed)
          for i in 0..<4 { space.store(mark, at: at + .pages(i)) }
        }
      } catch {
        check(error.number == .outOfMemory, "\(error)")
      }
    }
  }
}
