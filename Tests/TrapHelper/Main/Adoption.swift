//===----------------------------------------------------------------------===//
// Adoption of memory that threads store into, that malloc works in, and that
// fork(2) copies; and of memory that must not be adopted.
//===----------------------------------------------------------------------===//

import AddressSpaces
import CShims
import CTrapHelper
import GUP
import Glibc
import PageFrames
import TestSupport

/// malloc'ed memory, in an arena and not in a mapping of its own.
@safe struct Heap: ~Copyable {
  let base: UnsafeMutableRawPointer
  let bytes: Int

  init(_ bytes: Int) {
    traphelper_mapping_threshold(1 << 28)
    unsafe base = malloc(bytes)!
    self.bytes = bytes
  }

  deinit { unsafe Glibc.free(base) }

  /// Address of a byte, as a user address.
  func address(_ offset: Int = 0) -> UserAddress {
    unsafe UserAddress(UInt64(UInt(bitPattern: base + offset)))
  }
}

enum Adoption {
  /// Runs `body` with an address space, and then checks that nothing is left.
  static func withSpace(
    _ tier: TrapTier, pages: Int = 4096, _ body: (AddressSpace) throws -> Void
  ) throws {
    let memory = try PhysicalMemory(capacity: .pages(pages), trapTier: tier)
    let before = Account(memory)
    do {
      let space = try AddressSpace(memory: memory)
      try body(space)
      space.exit()
    }
    check(Account(memory) == before, "\(before), then \(Account(memory))")
  }

  static func stores(_ tier: TrapTier) throws {
    let heap = Heap(64 * 4096)
    try withSpace(tier) { space in
      unsafe traphelper_storm_start(heap.base, heap.bytes, 3)
      for round in 0..<120 {
        // Neither end on a page's: the storm goes on beside the buffer.
        let offset = 1000 + round * 17
        let adopted = try unsafe space.adopt(heap.base + offset, length: ByteCount(40 * 4096 + 77))
        if round % 3 == 0 {
          let child = try space.fork()
          usleep(200)
          if round % 2 == 0 { try space.release(adopted) }
          child.exit()
          if round % 2 != 0 { try space.release(adopted) }
        } else {
          usleep(100)
          try space.release(adopted)
        }
      }
      var rounds: UInt64 = 0
      let lost = unsafe traphelper_storm_stop(&rounds)
      print("rounds \(rounds)")
      check(lost == 0, "\(lost) stores")
      check(rounds > 10, "rounds")
    }
  }

  static func transfers(_ tier: TrapTier) throws {
    let heap = Heap(32 * 4096)
    try withSpace(tier) { space in
      unsafe traphelper_transfer_start(heap.base, heap.bytes)
      for round in 0..<150 {
        let adopted = try unsafe space.adopt(heap.base + 8, length: ByteCount(heap.bytes - 16))
        // Breaks sharing under system calls, every now and then.
        if round % 10 == 0 { try space.fork().exit() }
        usleep(200)
        try space.release(adopted)
      }
      var rounds: UInt64 = 0
      var refusals: UInt64 = 0
      let errors = unsafe traphelper_transfer_stop(&rounds, &refusals)
      print("rounds \(rounds), EFAULT \(refusals)")
      check(errors == 0, "\(errors) transfers")
      check(rounds > 100, "rounds")
      let isServed = unsafe tier == .userfaultfd && cshims_userfaultfd_probe().serves_kernel
      if isServed { check(refusals == 0, "EFAULT \(refusals) times") }
    }
  }

  /// malloc works on memory that is adopted, shared by forks, and copied again.
  static func allocations(_ tier: TrapTier) throws {
    let heap = Heap(100)
    let large = Heap(200 * 4096)
    try withSpace(tier) { space in
      let heapTop = unsafe sbrk(0)!
      let first = unsafe UInt(bitPattern: heap.base) & ~4095
      let arena = UInt(bitPattern: heapTop) & ~4095
      let length = min(Int(arena - first), 300 * 4096)
      traphelper_allocation_start(3)
      for round in 0..<25 {
        // All that stands beside the two blocks, this program's objects included.
        let start = unsafe UnsafeRawPointer(bitPattern: first)!
        let adopted = try unsafe space.adopt(start, length: ByteCount(length))
        for _ in 0..<4 {
          let child = try space.fork()
          check(traphelper_allocate_and_free(UInt64(round), 200) == 0)
          child.exit()
        }
        try space.release(adopted)
      }
      var rounds: UInt64 = 0
      check(unsafe traphelper_allocation_stop(&rounds) == 0)
      check(rounds > 3, "rounds \(rounds)")
    }
    unsafe memset(large.base, 1, large.bytes)
  }

  /// A block that a thread allocates in an arena of its own, the arena's own
  /// structure included.
  static func arena(_ tier: TrapTier) throws {
    try withSpace(tier) { space in
      let block = unsafe traphelper_allocate_in_other_arena(100_000)!
      let address = UInt(bitPattern: block)
      // The arena's heap starts at a multiple of 64 MiB.
      let start = unsafe UnsafeRawPointer(bitPattern: address & ~((64 << 20) - 1))!
      let length = (Int(address) - Int(bitPattern: start)) + 8192
      traphelper_allocation_start(4)
      let adopted = try unsafe space.adopt(start, length: ByteCount(length))
      for _ in 0..<100 {
        let child = try space.fork()
        usleep(300)
        child.exit()
      }
      let own = unsafe malloc(5000)!
      unsafe memset(own, 3, 5000)
      check(unsafe traphelper_fork(own, 5000, 3, 2000) == 0)
      unsafe Glibc.free(own)
      try space.release(adopted)
      var rounds: UInt64 = 0
      check(unsafe traphelper_allocation_stop(&rounds) == 0)
      check(rounds > 3, "rounds \(rounds)")
      unsafe Glibc.free(block)
    }
  }

  static func fork(_ tier: TrapTier) throws {
    try withSpace(tier) { space in
      traphelper_allocation_start(2)
      for round in 0..<30 {
        let bytes = 3000 + round * 4096
        let block = unsafe malloc(bytes)!
        let mark = UInt8(round + 1)
        unsafe memset(block, Int32(mark), bytes)
        let adopted = try unsafe space.adopt(block, length: ByteCount(bytes))
        // What a forked address space shares, what is untouched, what is absent.
        let child = round % 2 == 0 ? try space.fork() : nil
        if round % 4 == 0 { unsafe memset(block, Int32(mark), bytes / 2) }
        let status = unsafe traphelper_fork(block, bytes, mark, 500)
        check(status == 0, "round \(round): status \(status)")
        for i in stride(from: 0, to: bytes, by: 1000) {
          check(unsafe block.load(fromByteOffset: i, as: UInt8.self) == mark, "round \(round)")
        }
        child?.exit()
        try space.release(adopted)
        unsafe Glibc.free(block)
      }
      var rounds: UInt64 = 0
      check(unsafe traphelper_allocation_stop(&rounds) == 0)
    }
  }

  /// A device goes on storing into pinned pages while the process forks.
  static func forkPinned(_ tier: TrapTier) throws {
    let heap = Heap(16 * 4096)
    try withSpace(tier) { space in
      unsafe traphelper_storm_start(heap.base, heap.bytes / 2, 2)
      let adopted = try unsafe space.adopt(heap.base, length: ByteCount(heap.bytes))
      var list = try PageBuffer(capacity: 16)
      // The second half is the device's.
      let half = heap.address(heap.bytes / 2)
      let count = try space.pinUserPagesFast(half, count: 8, flags: .write, into: &list).pageCount
      check(count == 8)
      for round in 0..<40 {
        let offset = half.pageOffset
        unsafe list[0]!.bytes[offset] = UInt8(round)
        let block = unsafe malloc(10000)!
        unsafe memset(block, 9, 10000)
        check(unsafe traphelper_fork(block, 10000, 9, 50) == 0)
        unsafe Glibc.free(block)
        check(space.load(half) == UInt8(round), "the device's store")
        check(space.page(at: half) == list[0], "the same frame")
        space.store(UInt8(round) ^ 0xff, at: half + 1)
        check(unsafe list[0]!.bytes[offset + 1] == UInt8(round) ^ 0xff, "the program's store")
      }
      refuse(.pinned) { () throws(MemoryError) in try space.release(adopted) }
      unsafe unpinUserPages(list.baseAddress, count: 8)
      try space.release(adopted)
      var rounds: UInt64 = 0
      check(unsafe traphelper_storm_stop(&rounds) == 0)
    }
  }

  static func rawFork(_ tier: TrapTier) throws {
    let heap = Heap(8 * 4096)
    try withSpace(tier) { space in
      unsafe memset(heap.base, 5, heap.bytes)
      let adopted = try unsafe space.adopt(heap.base, length: ByteCount(heap.bytes))
      let status = unsafe traphelper_raw_fork(heap.base + 9000)
      check(status & 0x7f == SIGSEGV, "status \(status)")
      check(space.load(heap.address(9000)) == 5)
      try space.release(adopted)
    }
  }

  static func refuse(
    _ reason: MemoryError.Reason, line: Int = #line, _ body: () throws(MemoryError) -> Void
  ) {
    do throws(MemoryError) {
      try body()
      check(false, "\(reason)", line: line)
    } catch {
      check(error.reason == reason, "\(error), not \(reason)", line: line)
    }
  }

  static func refuse(
    _ space: AddressSpace, _ pointer: UnsafeRawPointer, _ length: Int,
    _ reason: MemoryError.Reason, line: Int = #line
  ) {
    refuse(reason, line: line) { () throws(MemoryError) in
      _ = try unsafe space.adopt(pointer, length: ByteCount(length))
    }
  }

  static func refusals(_ tier: TrapTier) throws {
    try withSpace(tier) { space in
      var local = 7
      unsafe withUnsafeMutablePointer(to: &local) { pointer in
        unsafe refuse(space, UnsafeRawPointer(pointer), 8, .stackMemory)
      }
      unsafe refuse(space, traphelper_other_stack(), 64, .threadMemory)
      traphelper_other_stack_done()
      unsafe refuse(space, traphelper_thread_local(), 64, .threadMemory)
      unsafe refuse(space, traphelper_kernel_page(), 8, .loaderMemory)
      unsafe refuse(space, UnsafeRawPointer(traphelper_odd_array()!), 300, .libraryMemory)
      // The C library's own variables.
      unsafe refuse(space, traphelper_c_library_data(), 8, .loaderMemory)
      let view = try space.map(length: .pages(2))
      unsafe refuse(space, space.pointer(at: view), 8, .machineMemory)
      unsafe refuse(space, space.memory.zeroPage.bytes.baseAddress!, 8, .machineMemory)
      unsafe refuse(space, UnsafeRawPointer(bitPattern: 0x10000)!, 8, .notMapped)
      unsafe refuse(space, UnsafeRawPointer(bitPattern: 8)!, 8, .addressOutsideUserSpace)
      unsafe refuse(space, UnsafeRawPointer(bitPattern: UInt.max)!, 8, .addressOutsideUserSpace)
      let heap = Heap(5 * 4096)
      unsafe refuse(space, heap.base, 0, .lengthNotPositive)
      unsafe refuse(space, heap.base, -1, .lengthNotPositive)
      unsafe refuse(space, heap.base, Int.max, .addressOutsideUserSpace)
      // Twice, overlapping, by another address space and by another machine.
      let adopted = try unsafe space.adopt(heap.base + 4096, length: 8192)
      unsafe refuse(space, heap.base + 4096, 8192, .machineMemory)
      unsafe refuse(space, heap.base, 4097, .machineMemory)
      unsafe refuse(space, heap.base + 3 * 4096, 4096, .machineMemory)
      let second = try AddressSpace(memory: space.memory)
      unsafe refuse(second, heap.base + 4096, 1, .machineMemory)
      second.exit()
      let child = try space.fork()
      unsafe refuse(child, heap.base, 1, .forkedAddresses)
      child.exit()
      try space.release(adopted)
      refuse(.notAdopted) { () throws(MemoryError) in try space.release(adopted) }
      // A later adoption at the same place is not the first one's to release.
      let again = try unsafe space.adopt(heap.base + 4096, length: 8192)
      check((try? space.release(adopted)) == nil)
      try space.release(again)
    }
    let memory = try PhysicalMemory(capacity: .pages(64), trapTier: .none)
    let blind = try AddressSpace(memory: memory)
    let heap = Heap(100)
    unsafe refuse(blind, heap.base, 100, .trapMissing)
    // More than the machine has, found half-way: all as before.
    let small = try AddressSpace(memory: PhysicalMemory(capacity: .pages(4), trapTier: tier))
    let block = Heap(20 * 4096)
    unsafe memset(block.base, 3, block.bytes)
    unsafe refuse(small, block.base, block.bytes, .framesExhausted)
    check(unsafe block.base.load(fromByteOffset: 9999, as: UInt8.self) == 3)
    check(small.memory.freeFrameCount == 4)
  }

  static func staticArray(_ tier: TrapTier) throws {
    try withSpace(tier) { space in
      var bytes = 0
      let array = unsafe traphelper_array(&bytes)!
      unsafe memset(array, 0x21, bytes)
      for round in 0..<20 {
        let adopted = try unsafe space.adopt(array, length: ByteCount(bytes))
        let start = adopted.buffer.start
        check(space.peek(start + 5000) == 0x21)
        space.store(UInt8(round), at: start)
        let child = try space.fork()
        space.store(0x99, at: start + 1)
        check(child.load(start) == UInt8(round) && child.load(start + 1) != 0x99)
        space.store(0x21, at: start + 1)
        child.exit()
        try space.release(adopted)
        check(unsafe array.load(as: UInt8.self) == UInt8(round))
        unsafe array.storeBytes(of: 0x21, as: UInt8.self)
      }
    }
  }

  static func free(_ tier: TrapTier) throws {
    try withSpace(tier) { space in
      // In an arena: freed while adopted, allocated again, released, freed.
      for round in 0..<20 {
        let block = unsafe malloc(9000)!
        let adopted = try unsafe space.adopt(block, length: 9000)
        unsafe Glibc.free(block)
        check(traphelper_allocate_and_free(UInt64(round), 300) == 0)
        let again = unsafe malloc(9000)!
        unsafe memset(again, 1, 9000)
        try space.release(adopted)
        check(traphelper_allocate_and_free(UInt64(round), 300) == 0)
        unsafe Glibc.free(again)
      }
      // A mapping of its own: free() unmaps it, and the addresses go to others.
      traphelper_mapping_threshold(1 << 17)
      for round in 0..<20 {
        let bytes = 1 << 20
        let block = unsafe malloc(bytes)!
        unsafe memset(block, 7, bytes)
        let adopted = try unsafe space.adopt(block + 40960, length: .pages(100))
        unsafe Glibc.free(block)
        let other = unsafe malloc(bytes)!
        unsafe memset(other, 0x44, bytes)
        // What would change the host's mappings finds out; nothing of the new
        // block is touched.
        switch round % 4 {
        case 0: try space.fork().exit()
        case 1: try space.advise(adopted.pages.start, length: .pages(3), .dontNeed)
        case 2: try space.protect(adopted.pages.start, length: .pages(9), .readOnly)
        default:
          refuse(.adoptionLost) { () throws(MemoryError) in try space.release(adopted) }
        }
        check(space.lostAdoptionCount == round + 1, "\(round): \(space.lostAdoptionCount)")
        check(space.areas.isEmpty)
        refuse(.notAdopted) { () throws(MemoryError) in try space.release(adopted) }
        for i in stride(from: 0, to: bytes, by: 4096) {
          check(unsafe other.load(fromByteOffset: i, as: UInt8.self) == 0x44, "byte \(i)")
        }
        unsafe Glibc.free(other)
      }
      // Half of it unmapped: the other half is given back with its bytes.
      var base: UnsafeMutableRawPointer?
      check(unsafe cshims_anonymous(16 * 4096, &base) == 0)
      let start = unsafe base!
      unsafe memset(start, 0x5e, 16 * 4096)
      let adopted = try unsafe space.adopt(start, length: .pages(16))
      check(unsafe munmap(start + 4 * 4096, 8 * 4096) == 0)
      refuse(.adoptionLost) { () throws(MemoryError) in try space.release(adopted) }
      for page in [0, 3, 12, 15] {
        check(unsafe start.load(fromByteOffset: page * 4096, as: UInt8.self) == 0x5e)
        unsafe start.storeBytes(of: 1, toByteOffset: page * 4096, as: UInt8.self)
      }
      check(unsafe munmap(start, 16 * 4096) == 0)
    }
  }

  /// A page that was unmapped while adopted is nobody's afterwards. In this process
  /// no other thread maps anything there meanwhile.
  static func holes(_ tier: TrapTier) throws {
    for releases in [true, false] {
      var base: UnsafeMutableRawPointer?
      check(unsafe cshims_anonymous(12 * 4096, &base) == 0)
      let memory = unsafe base!
      let start = UserAddress(UInt64(UInt(bitPattern: memory)))
      unsafe memset(memory, 0x5e, 12 * 4096)
      try withSpace(tier) { space in
        let adopted = try unsafe space.adopt(memory, length: .pages(12))
        try space.unmap(start + .pages(8), length: .pages(1))
        check(!cshims_is_accessible(start.rawValue + 8 * 4096, false), "a hole while adopted")
        if releases { try space.release(adopted) }
      }
      check(!cshims_is_accessible(start.rawValue + 8 * 4096, false), "a hole")
      for page in [0, 7, 9, 11] {
        check(unsafe memory.load(fromByteOffset: page * 4096, as: UInt8.self) == 0x5e)
        unsafe memory.storeBytes(of: 1, toByteOffset: page * 4096, as: UInt8.self)
      }
      check(unsafe munmap(memory, 12 * 4096) == 0)
    }
  }

  /// The objects that the library itself works with stand on adopted pages.
  static func ownObjects(_ tier: TrapTier) throws {
    try withSpace(tier) { space in
      let own = unsafe UnsafeRawPointer(Unmanaged.passUnretained(space).toOpaque())
      let machine = unsafe UnsafeRawPointer(Unmanaged.passUnretained(space.memory).toOpaque())
      let pages = unsafe Set([own, machine].map { UInt(bitPattern: $0) & ~4095 })
      for _ in 0..<20 {
        var adopted: [AdoptedRange] = []
        for page in pages {
          adopted.append(
            try unsafe space.adopt(UnsafeRawPointer(bitPattern: page)!, length: .pages(1)))
        }
        for _ in 0..<3 {
          let child = try space.fork()
          _ = try child.fork()
          let view = try space.map(length: .pages(3))
          space.store(1, at: view)
          try space.protect(view, length: .pages(3), .readOnly)
          try space.unmap(view, length: .pages(3))
          _ = space.areas
        }
        for range in adopted { try space.release(range) }
      }
    }
  }

  /// A program that has used up its descriptors keeps its adopted memory.
  static func withoutDescriptors(_ tier: TrapTier) throws {
    let heap = Heap(8 * 4096)
    try withSpace(tier) { space in
      unsafe memset(heap.base, 5, heap.bytes)
      let adopted = try unsafe space.adopt(heap.base, length: ByteCount(heap.bytes))
      var taken: [Int32] = []
      taken.reserveCapacity(1 << 16)
      var limit = rlimit(rlim_cur: 64, rlim_max: 64)
      check(unsafe setrlimit(__rlimit_resource_t(7), &limit) == 0)
      while true {
        let descriptor = dup(0)
        if descriptor < 0 { break }
        taken.append(descriptor)
      }
      let child = try space.fork()
      space.store(6, at: heap.address(5000))
      check(child.load(heap.address(5000)) == 5)
      check(space.lostAdoptionCount == 0)
      child.exit()
      try space.release(adopted)
      for descriptor in taken { close(descriptor) }
      check(unsafe heap.base.load(fromByteOffset: 5000, as: UInt8.self) == 6)
    }
  }
}
