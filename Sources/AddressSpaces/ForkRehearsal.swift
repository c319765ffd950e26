//===----------------------------------------------------------------------===//
// A child made by fork(2) has the locks of Swift's runtime as the parent's threads
// held them, and nobody there to release them. Optimised code of this room asks the
// runtime for nothing. Code that is not optimised asks it for type metadata, under
// such a lock when it asks for the first time: a child whose first touch of a page
// did so would wait for ever if another thread was making any metadata at the fork.
//
// So such a build goes once through what a child may have to do, on a machine of
// its own, before the process has a machine that its children may join.
//===----------------------------------------------------------------------===//

#if DEBUG
  internal import CShims
  internal import PageFrames

  extension AddressSpace {
    private static let rehearsedForkBySignal: Void = { try? rehearseFork(.sigsegv) }()
    private static let rehearsedForkByUserfaultfd: Void = { try? rehearseFork(.userfaultfd) }()

    /// Once in the process for each tier, without a lock.
    static func rehearseFork(of memory: PhysicalMemory) {
      guard memory.machine.isJoinable else { return }
      switch memory.trapTier {
      case .sigsegv: rehearsedForkBySignal
      case .userfaultfd: rehearsedForkByUserfaultfd
      case .none: break
      }
    }

    private static func rehearseFork(_ tier: TrapTier) throws(MemoryError) {
      let memory = try PhysicalMemory(
        capacity: .mebibytes(8), trapTier: tier, hostMappingBudget: 64, joinable: true)
      let space = try AddressSpace(unrehearsed: memory)
      let starts = try [
        space.map(length: .pages(600)), space.map(length: .pages(16), sharing: .shared),
        space.map(length: .pages(32), folios: .order(4)),
        space.map(length: .mebibytes(2), folios: .huge),
      ]
      space.touchEverywhere(starts)
      let child = try space.fork()
      child.touchEverywhere(starts)
      space.touchEverywhere(starts)
      // As around a fork(2) whose child never begins.
      memory.machine.rehearseForkHandlers()
      for start in starts {
        try space.advise(start + .pages(2), length: .pages(1), .dontNeed)
        try space.protect(start + .pages(5), length: .pages(3), .readOnly)
        try child.unmap(start + .pages(7), length: .pages(2))
      }
      space.touchEverywhere(starts)
      for start in starts { try space.unmap(start + .pages(1), length: .pages(3)) }
      child.exit()
      try memory.allocatePage().put()
      memory.reapDeadProcesses()
    }

    /// What native loads and stores do once they are trapped. The thread's own would
    /// be the end of the process where it blocks the signal.
    private func touchEverywhere(_ starts: [UserAddress]) {
      for start in starts {
        for page in 0..<16 {
          let address = (start + .pages(page)).rawValue
          mm.lock()
          let region = unsafe mm.state.pointee.regions.find(containing: address)
          mm.unlock()
          guard let region = unsafe region else { continue }
          let host = unsafe address &+ region.pointee.payload.hostDelta
          for inHandler in [false, true] {
            _ = unsafe serviceNativeFault(nil, region, host, page % 3 == 0, inHandler)
          }
        }
      }
    }
  }
#endif
