//===----------------------------------------------------------------------===//
// MM: the state of an address space (the kernel's mm_struct) and an unowned
// handle on it, for code that must not retain or release.
//
// The state lives in the machine's metadata mapping and is reached by pointers
// only, so the fault-service thread can work on it while the program's threads
// sit inside malloc.
//
// Locks, in the order in which they are taken:
//   1. mmap lock        areas, page table, host view of one address space
//   2. list lock        the machine's address spaces, and who moves pages: under
//                       it other mmap locks are tried, never waited for
//   3. cache lock       the pages of one shared object or file
//   4. zone lock, span lock, arena lock: leaves
// The page table is read without a lock by GUP; entries are written under the
// mmap lock. The trap waits for nobody: the service thread takes the mmap lock,
// so no thread may touch user memory, or allocate, while it holds it. The mmap
// lock is one mutex, not a reader-writer lock: what it guards ends in changes of
// the host's mappings, which the host serialises anyway.
//===----------------------------------------------------------------------===//

public import CShims
public import PageFrames

/// Everything of one address space that only the holder of its mmap lock looks
/// at. It stands right behind the `cshims_mm` that GUP reads without a lock, and
/// apart from it, so that a change here is no access to what is read there.
@safe
struct AddressSpaceState: ~Copyable {
  /// Its distance from the `cshims_mm`.
  static let offset = 128
  static var totalSize: Int { offset + MemoryLayout<AddressSpaceState>.size }

  var areas: IntervalTree<Area>
  /// The stretches of host address space that this address space may use.
  var regions: IntervalTree<ViewRegion>
  var view: ViewAccount
  /// Where the search for room starts.
  var searchFrom: UInt64
  var tier: TrapTier
  /// Its user addresses are not this process's addresses.
  var isForked: Bool
  /// False for a copy that a child of fork(2) has not joined by yet: it shows
  /// nothing at any host address.
  var hasView = true
  var trap: OpaquePointer?
  /// What mlockall gives to every new area.
  var lockDefault: AreaFlags = []
  /// The most pages that may be locked, and how many are accounted for besides
  /// the locked areas.
  var lockLimit = UInt64.max
  var accountedPages: UInt64 = 0
  /// Its neighbours in the machine's list, under that list's lock.
  var next: UnsafeMutablePointer<cshims_mm>?
  var previous: UnsafeMutablePointer<cshims_mm>?
  /// How the folio that is about to move is found here, under that lock, too.
  var search = EntrySearch.nowhere
  var adoptions = AdoptionAccount()
}

/// An unowned handle on an address space. Copying it is copying a pointer;
/// valid as long as the `AddressSpace` it came from.
@frozen @safe
public struct MM: @unchecked Sendable {
  public let hot: UnsafeMutablePointer<cshims_mm>

  @inlinable
  public init(_ hot: UnsafeMutablePointer<cshims_mm>) { unsafe self.hot = hot }

  var state: UnsafeMutablePointer<AddressSpaceState> {
    unsafe (UnsafeMutableRawPointer(hot) + AddressSpaceState.offset)
      .assumingMemoryBound(to: AddressSpaceState.self)
  }

  @inlinable
  public var machine: Machine { unsafe Machine(hot.pointee.machine) }

  /// Takes the mmap lock, which is not recursive. Under it: no malloc, no
  /// retain or release, no touch of user memory.
  ///
  /// While another thread is inside fork(2), adopted memory is the program's own:
  /// then it is waited for.
  public func lock() {
    unsafe cshims_mm_lock(hot)
    while unsafe state.pointee.adoptions.isSuspended, !cshims_is_forking() {
      unsafe cshims_mm_unlock(hot)
      cshims_wait_a_moment()
      unsafe cshims_mm_lock(hot)
    }
  }
  public func unlock() {
    // A change of the view has found memory gone. Only here nobody is in the
    // midst of the areas any more.
    if unsafe state.pointee.adoptions.hasLost { dropLostAdoptions() }
    unsafe cshims_mm_unlock(hot)
  }
  /// Takes the mmap lock if nobody has it: for who holds another one.
  func tryLock() -> Bool {
    guard unsafe cshims_mm_try_lock(hot) else { return false }
    if unsafe !state.pointee.adoptions.isSuspended { return true }
    unsafe cshims_mm_unlock(hot)
    return false
  }

  /// Does the address space belong to this process? In a copy of the process
  /// that made it (fork(2), a bare clone(2)) it does not, and nothing of it but
  /// this may be asked: its lock is for threads of its own process.
  @inlinable
  public var isOwn: Bool { unsafe cshims_mm_is_own(hot) }

  /// ESRCH, naming the process that it belongs to.
  public var otherProcess: MemoryError {
    MemoryError(
      .noSuchProcess, .otherProcess, UInt64(cshims_process_id_of(unsafe hot.pointee.owner)))
  }

  /// The program has left this address space; only its pinned pages live on.
  @inlinable
  public var hasExited: Bool { unsafe cshims_mm_flags(hot) & CSHIMS_MM_EXITED != 0 }

  /// The area that contains an address. Under the mmap lock.
  public func area(containing address: UInt64) -> UnsafeMutablePointer<Area>? {
    guard let node = unsafe state.pointee.areas.find(containing: address) else { return nil }
    return unsafe Self.area(of: node)
  }

  static func area(of node: IntervalTree<Area>.NodePointer) -> UnsafeMutablePointer<Area> {
    // The node is the arena's and stays where it is, so the pointer outlives the call.
    unsafe withUnsafeMutablePointer(to: &node.pointee.payload) { payload in unsafe payload }
  }

  /// Makes an address space's state. ENOMEM when the arena is exhausted.
  static func create(
    machine: Machine, tier: TrapTier, budget: Int, owner: UInt64 = cshims_process_identity(),
    copyInSlot slot: Int? = nil
  ) throws(MemoryError) -> MM {
    let arena = machine.arena
    let size = AddressSpaceState.totalSize
    guard let memory = unsafe arena.allocate(byteCount: size) else {
      throw MemoryError(.outOfMemory, .metadataExhausted, size)
    }
    guard let table = unsafe arena.allocate(byteCount: pageSize) else {
      unsafe arena.free(memory, byteCount: size)
      throw MemoryError(.outOfMemory, .metadataExhausted, pageSize)
    }
    let mm = unsafe MM(memory.bindMemory(to: cshims_mm.self, capacity: 1))
    unsafe mm.hot.initialize(to: cshims_mm())
    unsafe (memory + AddressSpaceState.offset).initializeMemory(
      as: AddressSpaceState.self,
      to: AddressSpaceState(
        areas: IntervalTree(arena: arena), regions: IntervalTree(arena: arena),
        view: ViewAccount(budget: budget), searchFrom: 0, tier: tier, isForked: false,
        hasView: true, trap: nil))
    unsafe mm.hot.pointee.machine = machine.header
    unsafe mm.hot.pointee.owner = owner
    unsafe mm.hot.pointee.pgd = table.assumingMemoryBound(to: cshims_pte.self)
    let error = unsafe cshims_lock_init(&mm.hot.pointee.mmap_lock)
    guard error == 0 else {
      unsafe arena.free(table, byteCount: pageSize)
      unsafe arena.free(memory, byteCount: size)
      throw MemoryError.host(error)
    }
    mm.enrol(copyInSlot: slot)
    return mm
  }

  /// Unmaps every area and gives the host's addresses back (exit_mmap). Idempotent.
  func leave() {
    lock()
    let first = !hasExited
    unsafe cshims_mm_set_flags(hot, CSHIMS_MM_EXITED)
    if first { giveEverythingBack() }
    while let node = unsafe state.pointee.areas.first {
      let area = unsafe node.pointee.payload
      unsafe removeArea(node)
      zapAndWithdraw(area.start, area.end)
      releaseBacking(area)
    }
    unlock()
    guard first else { return }
    reapGoneRegions()
    removeRegions()
  }

  /// Frees the state of an address space that has exited and that nobody uses.
  /// A `copy` for a child that will not be is no member's any more.
  func destroy(copy: Bool = false) {
    if copy { delist() } else { strikeOff() }
    let arena = machine.arena
    freeTables()
    unsafe state.pointee.areas.removeAll()
    unsafe state.pointee.regions.removeAll()
    unsafe arena.free(
      UnsafeMutableRawPointer(hot), byteCount: AddressSpaceState.totalSize)
  }
}

extension Area {
  /// Does the program's own access pass (the kernel's access_error)? Readable
  /// is what has any permission at all, as the hardware has it.
  func allows(write: Bool) -> Bool {
    write ? flags.contains(.write) : !flags.access.isEmpty
  }
}
