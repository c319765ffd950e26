//===----------------------------------------------------------------------===//
// Under the mmap lock nothing may be allocated, since malloc's own memory may be
// adopted and a store into it then waits for the lock. Optimised code allocates
// nothing there. Code that is not optimised asks the runtime for type metadata, which
// the runtime makes with malloc when it is asked for the first time.
//
// So such a build goes once through everything that touches adopted memory, with
// memory that is nobody else's, before it adopts for the first time.
//===----------------------------------------------------------------------===//

#if DEBUG
  internal import CShims
  internal import PageFrames

  extension AddressSpace {
    private static let rehearsed: Void = {
      for tier in [TrapTier.sigsegv, .userfaultfd] { try? rehearse(tier) }
    }()

    /// Once in the process, without a lock.
    static func rehearse() { rehearsed }

    private static func rehearse(_ tier: TrapTier) throws(MemoryError) {
      let length: UInt64 = 8 << 12
      var memory: UnsafeMutableRawPointer?
      guard unsafe cshims_anonymous(length, &memory) == 0, let memory = unsafe memory else {
        return
      }
      let start = UInt64(UInt(bitPattern: memory))
      // A page that is unmapped on the way may be another thread's at the end.
      var hole: UInt64 = 0
      defer {
        _ = cshims_unmap(start, length - hole)
        if hole > 0 { _ = cshims_unmap(start + length - 4096, 4096) }
      }
      let space = try AddressSpace(
        memory: PhysicalMemory(capacity: .pages(64), trapTier: tier))
      func adopt(to end: UInt64) throws(MemoryError) {
        _ = try space.locked { mm throws(MemoryError) in
          try mm.adopt(start, end, writable: true)
        }
      }
      func release() throws(MemoryError) {
        try space.locked { mm throws(MemoryError) in
          guard let region = unsafe mm.firstRegion(from: 0, .adopted) else { return }
          if let error = unsafe mm.giveBack(region, evenIfPinned: false) { throw error }
        }
        space.mm.reapGoneRegions()
      }
      let first = UserAddress(start)
      try adopt(to: start + length)
      let child = try space.fork()
      unsafe memory.storeBytes(of: 1, as: UInt8.self)
      try space.advise(first + .pages(2), length: .pages(1), .dontNeed)
      unsafe memory.storeBytes(of: 1, toByteOffset: 2 * 4096, as: UInt8.self)
      _ = try child.fork()
      space.mm.suspendAdoptions()
      unsafe memory.storeBytes(of: 2, toByteOffset: 3 * 4096, as: UInt8.self)
      space.mm.resumeAdoptions()
      try space.protect(first + .pages(1), length: .pages(3), .readOnly)
      space.mm.suspendAdoptions()
      space.mm.resumeAdoptions()
      try space.unmap(first + .pages(6), length: .pages(1))
      hole = 2 << 12
      child.exit()
      try release()
      // What the program maps in its place is found.
      try adopt(to: start + 6 << 12)
      _ = cshims_rereserve(start, 4096)
      _ = try space.fork()
      space.mm.reapGoneRegions()
    }
  }
#endif
