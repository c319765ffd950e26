//===----------------------------------------------------------------------===//
// The scenarios of children that have not joined: what they cannot do, and that
// the parent does not notice them.
//===----------------------------------------------------------------------===//

import AddressSpaces
import CForkHelper
import CGup
import CInterfaceChecks
import Events
import GUP
import Glibc
import PageExtraction
import PageFrames
import Synchronization
import TestSupport

enum Scenario: String, CaseIterable {
  case touches, noReuse, sharedMemory, calls, releases, ends, storm, ownMachine
  case bytes, refusals, deadChildren, deadFounder, deadFile, generations, crowd, kills
  case busyRuntime, cInterface

  func run(_ tier: TrapTier) throws {
    switch self {
    case .touches: try Alone.touches(tier)
    case .noReuse: try Alone.noReuse(tier)
    case .sharedMemory: try Alone.sharedMemory(tier)
    case .calls: try Alone.calls(tier)
    case .releases: try Alone.releases(tier)
    case .ends: try Alone.ends(tier)
    case .storm: try Alone.storm(tier)
    case .ownMachine: try Alone.ownMachine(tier)
    case .bytes: try Joined.bytes(tier)
    case .refusals: try Joined.refusals(tier)
    case .deadChildren: try Joined.deadChildren(tier)
    case .deadFounder: try Joined.deadFounder(tier)
    case .deadFile: try Joined.deadFile(tier)
    case .generations: try Joined.generations(tier)
    case .crowd: try Joined.crowd(tier)
    case .kills: try Joined.kills(tier)
    case .busyRuntime: try Joined.busyRuntime(tier)
    case .cInterface:
      let trap = tier == .sigsegv ? GUP_TRAP_SIGSEGV : GUP_TRAP_USERFAULTFD
      let line = gup_check_joining(Int32(trap))
      check(line == 0, "line \(line) of Tests/CInterfaceChecks/joining.c")
    }
  }
}

final class Flag: Sendable {
  let isUp = Atomic(false)
}

/// Children of a machine that they do not join.
enum Alone {
  /// A child that touches a view, or the window, crashes; the parent goes on.
  static func touches(_ tier: TrapTier) throws {
    try withAddressSpace(tier: tier) { space in
      let start = try space.map(length: .pages(600))
      let shared = try space.map(length: .pages(8), sharing: .shared)
      try space.writeEveryPage(start, 40, 7)
      try space.writeEveryPage(shared, 8, 9)
      let twin = try space.fork()
      let pointer = unsafe space.pointer(at: start)
      let sharedPointer = unsafe space.pointer(at: shared)
      let twinPointer = unsafe twin.pointer(at: start)
      let frame = unsafe space.page(at: start)!.bytes.baseAddress!
      let addresses = unsafe [
        pointer, pointer + 39 * 4096, pointer + 300 * 4096, pointer + 599 * 4096, sharedPointer,
        twinPointer, frame,
      ]
      for way in Way.allCases {
        for i in unsafe addresses.indices {
          let address = unsafe addresses[i]
          let load = inChild(way) { _ = unsafe address.load(as: UInt8.self) }
          expect(load, endsBy: SIGSEGV)
          let store = inChild(way) { unsafe address.storeBytes(of: 1, as: UInt8.self) }
          expect(store, endsBy: SIGSEGV)
        }
      }
      // The parent's traps serve as before, and its bytes are its own.
      for i in 0..<40 { check(try space.read(1, at: start + .pages(i)) == [7]) }
      if tier != .none {
        space.store(1, at: start + .pages(500))
        check(space.load(start + .pages(39)) == 7 && space.load(shared) == 9)
        twin.store(3, at: start)
        check(space.load(start) == 7 && twin.load(start) == 3)
      }
    }
  }

  /// What a child maps does not come to stand where its parent's views were.
  static func noReuse(_ tier: TrapTier) throws {
    try withAddressSpace(tier: tier) { space in
      let start = try space.map(length: .mebibytes(64))
      let pointer = unsafe space.pointer(at: start)
      let first = UInt(bitPattern: pointer)
      expectWell(
        inChild {
          for _ in 0..<4000 {
            let block = unsafe mmap(
              nil, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)!
            let at = UInt(bitPattern: block)
            check(at + 1 << 20 <= first || at >= first + 64 << 20, "a mapping in a view's place")
          }
        })
      let status = inChild {
        for _ in 0..<4000 {
          _ = unsafe mmap(nil, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
        }
        unsafe pointer.storeBytes(of: 1, as: UInt8.self)
      }
      expect(status, endsBy: SIGSEGV)
    }
  }

  /// A child of vfork(2) has its parent's memory itself, views included.
  static func sharedMemory(_ tier: TrapTier) throws {
    try withAddressSpace(tier: tier) { space in
      let start = try space.map(length: .pages(8))
      try space.write([1], to: start)
      expectWell(unsafe forkhelper_vfork_store(space.pointer(at: start), 5))
      check(space.peek(start) == 5)
      let absent = unsafe forkhelper_vfork_store(space.pointer(at: start + .pages(3)), 6)
      if tier == .none {
        expect(absent, endsBy: SIGSEGV)
      } else {
        expectWell(absent)
        check(space.peek(start + .pages(3)) == 6 && space.load(start + .pages(3)) == 6)
      }
    }
  }

  /// Every call in a child says whose the machine is, and changes nothing.
  static func calls(_ tier: TrapTier) throws {
    try withAddressSpace(tier: tier) { space in
      let memory = space.memory
      let start = try space.map(length: .pages(8))
      try space.writeEveryPage(start, 8, 3)
      let page = space.page(at: start)!
      let mapping = try VirtualMapping([page], memory: memory)
      let parent = UInt64(getpid())
      var pages = try PageBuffer(capacity: 8)
      for way in Way.allCases {
        let before = Account(memory)
        let status = inChild(way) {
          func refused(_ line: Int = #line, _ body: () throws(MemoryError) -> Void) {
            do throws(MemoryError) {
              try body()
              check(false, "an error", line: line)
            } catch {
              check(
                error.number == .noSuchProcess && error.reason == .otherProcess
                  && error.value == parent, "\(error)", line: line)
            }
          }
          refused { () throws(MemoryError) in _ = try space.map(length: 4096) }
          refused { () throws(MemoryError) in try space.unmap(start, length: 4096) }
          refused { () throws(MemoryError) in try space.protect(start, length: 4096, .none) }
          refused { () throws(MemoryError) in try space.advise(start, length: 4096, .dontNeed) }
          refused { () throws(MemoryError) in _ = try space.fork() }
          refused { () throws(MemoryError) in try space.write([1], to: start) }
          refused { () throws(MemoryError) in _ = try space.read(1, at: start) }
          refused { () throws(MemoryError) in try space.zeroUser(start, count: 1) }
          // The owner's id, which the error names, is no address that a copy reached.
          refused { () throws(MemoryError) in
            var iterator = try IOVIter(
              ubuf: UserAddress(0), count: .mebibytes(8), direction: .destination, in: space)
            _ = try iterator.zeroFill(.mebibytes(8))
          }
          refused { () throws(MemoryError) in
            _ = try space.pinUserPagesFast(start, count: 8, into: &pages)
          }
          refused { () throws(MemoryError) in
            _ = try space.getUserPagesFastOnly(start, count: 1, into: &pages)
          }
          refused { () throws(MemoryError) in
            _ = try space.getUserPages(start, count: 8, into: &pages)
          }
          refused { () throws(MemoryError) in
            _ = try space.pinUserPages(start, count: 1, into: &pages)
          }
          refused { () throws(MemoryError) in _ = try memory.allocatePage() }
          refused { () throws(MemoryError) in _ = try AddressSpace(memory: memory) }
          refused { () throws(MemoryError) in _ = try VirtualMapping([page], memory: memory) }
          refused { () throws(MemoryError) in
            _ = try MappedFile(path: "/proc/self/exe", memory: memory)
          }
          refused { () throws(MemoryError) in try page.get() }
          check(!page.tryAcquire(.pin))
          check(space.areas.isEmpty && space.page(at: start) == nil && !space.isWritable(at: start))
          check(space.hostMappingCount == 0)
          check(unsafe UInt(bitPattern: space.pointer(at: start)) == UInt(start.rawValue))
          space.exit()
          memory.arm(.fault, countdown: 1)
        }
        expectWell(status)
        check(Account(memory) == before, "\(Account(memory))")
        check(memory.failures(of: .fault) == 0)
        check(try space.read(1, at: start + .pages(7)) == [3])
      }
      check(unsafe mapping.bytes[0] == 3)
    }
  }

  /// What the parent took is not given back by a child that has copies of it.
  static func releases(_ tier: TrapTier) throws {
    try withAddressSpace(tier: tier) { space in
      let start = try space.map(length: .pages(8))
      try space.writeEveryPage(start, 8, 3)
      var pinned = try PageBuffer(capacity: 8)
      var got = try PageBuffer(capacity: 8)
      _ = try space.pinUserPagesFast(start, count: 8, flags: .write, into: &pinned)
      _ = try space.getUserPagesFast(start, count: 8, into: &got)
      check(pinned.count == 8 && got.count == 8)
      let first = pinned[0]!
      let own = try space.memory.allocatePage()
      for way in Way.allCases {
        let before = (Account(space.memory), first.referenceCount)
        let status = inChild(way) {
          unpinUserPage(first)
          unpinFolio(first)
          unpinUserPageRangeDirtyLock(first, count: 8, dirty: true)
          putPage(first)
          own.put()
          own.release(.reference)
          unsafe unpinUserPagesDirtyLock(pinned.baseAddress, count: 8, dirty: true)
          unpinUserPages(&pinned)
          putPages(&got)
        }
        expectWell(status)
        check(Account(space.memory) == before.0 && first.referenceCount == before.1)
        check(!first.isDirty)
      }
      own.put()
      unpinUserPages(&pinned)
      putPages(&got)
    }
  }

  /// A child whose objects go, and that ends by exit(3), leaves the parent's as
  /// they are.
  static func ends(_ tier: TrapTier) throws {
    try withMachine(tier: tier) { memory in
      let space = try AddressSpace(memory: memory)
      let start = try space.map(length: .pages(64))
      try space.writeEveryPage(start, 20, 4)
      var children: [Int32] = []
      for _ in 0..<6 {
        // The child leaves this scope: everything in it goes there, too.
        let child = try dropInChild(space, start)
        check(child > 0)
        children.append(child)
      }
      for child in children { check(forkhelper_wait(child) == 23 << 8) }
      for i in 0..<20 { check(try space.read(1, at: start + .pages(i)) == [4]) }
      if tier != .none {
        space.store(1, at: start + .pages(60))
        check(space.load(start + .pages(3)) == 4)
      }
    }
    // Nothing of the first machine is left, and a second one works.
    try withAddressSpace(tier: tier) { space in
      let start = try space.map(length: .pages(4))
      try space.writeEveryPage(start, 4, 8)
      if tier != .none { check(space.load(start) == 8) }
    }
  }

  /// A machine of its own that only the child drops, and pins that it forgets.
  private static func dropInChild(_ other: AddressSpace, _ start: UserAddress) throws -> Int32 {
    do {
      let memory = try PhysicalMemory(capacity: .mebibytes(8), trapTier: other.memory.trapTier)
      let space = try AddressSpace(memory: memory)
      let own = try space.map(length: .pages(8), sharing: .shared)
      try space.writeEveryPage(own, 8, 1)
      let file = try MappedFile(path: "/proc/self/exe", memory: memory)
      _ = try space.map(file: file, length: .pages(2))
      var iterator = try IOVIter(
        ubuf: start, count: .pages(4), direction: .destination, in: other)
      let extraction = try iterator.extractPages(maxSize: .pages(4), maxPages: 4)
      let page = try memory.allocatePage()
      let mapping = try VirtualMapping([page], memory: memory)
      page.put()
      let child = Way.fork.make()
      if child != 0 {
        check(extraction.pageCount == 4 && mapping.pageCount.rawValue == 1)
        return child
      }
    }
    exit(23)
  }

  /// Threads fault and pin while children come and go.
  static func storm(_ tier: TrapTier) throws {
    try withMachine(capacity: .mebibytes(64), tier: tier) { memory in
      let space = try AddressSpace(memory: memory)
      let start = try space.map(length: .mebibytes(16))
      let pointer = unsafe UInt(bitPattern: space.pointer(at: start))
      let stop = Flag()
      onThreads(4) { number in
        if number == 0 {
          for round in 0..<60 {
            let way = round % 3 == 0 ? Way.clone : .fork
            let status = inChild(way) {
              // A bare clone(2) leaves the C library's locks as other threads had them.
              if round % 2 == 0, way == .fork { exit(0) }
              if round % 2 == 1, round % 5 == 0 {
                unsafe UnsafeMutablePointer<UInt8>(bitPattern: pointer + 4096)!.pointee = 0xee
              }
            }
            let touched = round % 2 == 1 && round % 5 == 0
            if touched { expect(status, endsBy: SIGSEGV) } else { expectWell(status) }
          }
          stop.isUp.store(true, ordering: .releasing)
          return
        }
        var random = SeededRandom(stream: UInt64(number))
        var turn = 0
        while !stop.isUp.load(ordering: .acquiring) || turn < 100 {
          turn += 1
          let page = 1024 * number + Int.random(in: 0..<1000, using: &random)
          let at = start + .pages(page)
          do {
            if tier == .none {
              try space.write([UInt8(number)], to: at)
            } else {
              space.store(UInt8(number), at: at)
            }
            var pages = try PageBuffer(capacity: 4)
            let result = try space.pinUserPagesFast(at, count: 4, flags: .write, into: &pages)
            let count = result.pageCount
            check(unsafe count == 4 && pages[0]!.bytes[0] == UInt8(number))
            unpinUserPages(&pages)
            if turn % 50 == 0 { try space.advise(at, length: .pages(4), .dontNeed) }
          } catch {
            check(false, "\(error)")
          }
        }
      }
    }
  }

  /// A child makes machines of its own, at every generation.
  static func ownMachine(_ tier: TrapTier) throws {
    func generation(_ depth: Int) throws {
      try withAddressSpace(tier: tier) { space in
        let start = try space.map(length: .pages(8))
        try space.write([UInt8(depth)], to: start)
        if tier != .none {
          space.store(UInt8(depth), at: start + .pages(2))
          check(space.load(start) == UInt8(depth))
        }
        if depth < 4 { expectWell(inChild { try generation(depth + 1) }) }
        check(try space.read(1, at: start) == [UInt8(depth)])
        if tier != .none { space.store(9, at: start + .pages(5)) }
      }
    }
    try generation(1)
  }
}
