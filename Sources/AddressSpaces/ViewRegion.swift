//===----------------------------------------------------------------------===//
// ViewRegion and Stretch: what is known of the host's mappings of one address
// space. A region is a stretch of host address space that belongs to it; each
// 2 MiB of it has a record of what its pages show, made when it is first
// needed.
//
// This is a cache of the page table and is never asked about emulated state.
// All of it is guarded by the mmap lock.
//===----------------------------------------------------------------------===//

internal import CShims
internal import PageFrames

/// Host address space that belongs to one address space, keyed by the user
/// addresses it shows.
@safe
struct ViewRegion: BitwiseCopyable {
  var mm: UnsafeMutablePointer<cshims_mm>
  /// Host address less user address.
  var hostDelta: UInt64
  /// The number of the first 2 MiB stretch, and how many there are.
  var firstStretch: UInt64
  var stretchCount: Int
  var stretches: UnsafeMutablePointer<UnsafeMutablePointer<Stretch>?>
  var kind = Kind.reserved
  var adoption = AdoptionRecord()

  enum Kind: UInt8 {
    /// Host addresses that were free and have been reserved.
    case reserved
    /// The program's own memory, see Adoption.swift.
    case adopted
    /// The same while a thread is inside fork(2): plain private memory.
    case suspended
    /// Was adopted and is the program's again; the trap still has to forget it.
    case gone
    /// The trap is forgetting it.
    case going
  }

  static let stretchShift: UInt64 = 21
}

/// What one page of a view shows.
struct PageView: OptionSet, BitwiseCopyable {
  let rawValue: UInt8

  /// The host's page table has it; without this the next touch is a fault.
  static let shown = PageView(rawValue: 1)
  /// Stores pass.
  static let writable = PageView(rawValue: 2)
  /// The host maps something else than the page's home here.
  static let elsewhere = PageView(rawValue: 4)
  /// What it maps instead is the run of zero frames.
  static let zero = PageView(rawValue: 8)
  /// The host's protection was narrowed to make a forbidden access the
  /// program's SIGSEGV (userfaultfd tier).
  static let denied = PageView(rawValue: 16)

  // By their bits: without optimisation a literal of a set allocates.
  /// What a zero page's entry shows as.
  static let shownZero = PageView(rawValue: 1 | 4 | 8)
  /// What tells two mappings apart, by tier.
  static let tellingUserfaultfd = PageView(rawValue: 4 | 8 | 16)
  static let tellingSignal = PageView(rawValue: 1 | 2 | 4 | 8)

  /// It shows a frame that is neither its home nor a zero frame.
  var isStrange: Bool { contains(.elsewhere) && !contains(.zero) }
}

/// The pages of 2 MiB of a view.
struct Stretch: BitwiseCopyable {
  /// When a page of it was last shown, on the view's clock.
  var lastShown: UInt64
  /// Host mappings it needs beyond those of the bare areas; an upper bound.
  var extraMappings: Int
  var pages: InlineArray<512, UInt8>
}

/// What a view costs the host.
struct ViewAccount: BitwiseCopyable {
  /// The most host mappings it may have.
  var budget: Int
  /// Host mappings of the bare areas.
  var pieces = 0
  /// The sum of the stretches' extra mappings.
  var extra = 0
  var regions = 0
  var clock: UInt64 = 0

  init(budget: Int) { self.budget = budget }

  /// An upper bound of the host mappings now: each piece of an area, the
  /// untouchable gaps around it, and what the stretches add.
  var mappings: Int { regions + 2 * pieces + extra }
}

extension MM {
  typealias RegionNode = IntervalTree<ViewRegion>.NodePointer

  /// The program's pointer for a user address, if it lies in this view.
  func hostAddress(of address: UInt64) -> UInt64? {
    guard let region = unsafe state.pointee.regions.find(containing: address) else { return nil }
    return unsafe address &+ region.pointee.payload.hostDelta
  }

  /// The record of a page's stretch, made if `create` says so. nil when there
  /// is none, or the arena is exhausted.
  func stretch(at address: UInt64, create: Bool) -> UnsafeMutablePointer<Stretch>? {
    guard let node = unsafe state.pointee.regions.find(containing: address) else { return nil }
    let region = unsafe node.pointee.payload
    let index = Int((address >> ViewRegion.stretchShift) - region.firstStretch)
    if let stretch = unsafe region.stretches[index] { return unsafe stretch }
    guard create,
      let memory = unsafe machine.arena.allocate(byteCount: MemoryLayout<Stretch>.size)
    else { return nil }
    let stretch = unsafe memory.bindMemory(to: Stretch.self, capacity: 1)
    unsafe region.stretches[index] = stretch
    return unsafe stretch
  }

  /// Makes `length` bytes of user addresses, wherever there is room, this view's
  /// own, at the same host addresses. Returns the first of them. A forked address
  /// space has other host addresses.
  func addRegion(length: UInt64) throws(MemoryError) -> UInt64 {
    if unsafe state.pointee.isForked {
      let user = try freeUserAddresses(length)
      try addTwin(of: user, length: length)
      return user
    }
    let base = try reserve(0, length)
    try addRegion(user: base, host: base, length: length)
    return base
  }

  /// Makes the user addresses of a parent's region this view's own, at host
  /// addresses that the host picks.
  func addTwin(of start: UInt64, length: UInt64) throws(MemoryError) {
    // At the same place in its 2 MiB, so that stretches are aligned alike.
    let stretch: UInt64 = 1 << ViewRegion.stretchShift
    let base = try reserve(0, length + stretch)
    let host = base + (start &- base) & (stretch - 1)
    if host > base { _ = cshims_unmap(base, host - base) }
    let excess = base + stretch - host
    if excess > 0 { _ = cshims_unmap(host + length, excess) }
    try addRegion(user: start, host: host, length: length)
  }

  /// User addresses above every region, for a view whose host addresses differ.
  private func freeUserAddresses(_ length: UInt64) throws(MemoryError) -> UInt64 {
    let stretch: UInt64 = 1 << ViewRegion.stretchShift
    let above = unsafe state.pointee.regions.last?.pointee.end ?? stretch
    let start = (above + stretch - 1) & ~(stretch - 1)
    if length <= CSHIMS_TASK_SIZE, start <= CSHIMS_TASK_SIZE - length { return start }
    let below = unsafe state.pointee.regions.first?.pointee.start ?? 0
    guard below > length + stretch else {
      throw MemoryError(.outOfMemory, .lengthTooLarge, length)
    }
    return (below - length) & ~(stretch - 1)
  }

  /// Reserves host address space, at `start` unless that is 0.
  func reserve(_ start: UInt64, _ length: UInt64) throws(MemoryError) -> UInt64 {
    var base: UInt64 = 0
    machine.count(CSHIMS_HOST_CALLS, 1)
    let error = unsafe cshims_reserve(start, length, &base)
    if error == 17 { throw MemoryError(.exists, .addressTaken, start) }
    guard error == 0 else { throw MemoryError.host(error) }
    return base
  }

  /// Records host address space as a region; on error, if it was reserved for it,
  /// it is given back. Without a view it is recorded only.
  func addRegion(
    user: UInt64, host: UInt64, length: UInt64, kind: ViewRegion.Kind = .reserved
  ) throws(MemoryError) {
    let hasView = unsafe state.pointee.hasView
    func giveBack() { if hasView, kind == .reserved { _ = cshims_unmap(host, length) } }
    // Memory that was adopted, gone meanwhile, and that the trap still knows.
    if let other = unsafe state.pointee.regions.first(atOrAfter: user),
      unsafe other.pointee.start < user + length
    {
      giveBack()
      throw MemoryError(.exists, .addressTaken, user)
    }
    let first = user >> ViewRegion.stretchShift
    let count = Int(((user + length - 1) >> ViewRegion.stretchShift) - first) + 1
    let arena = machine.arena
    guard let directory = unsafe arena.allocate(byteCount: count * 8) else {
      giveBack()
      throw MemoryError(.outOfMemory, .metadataExhausted, count * 8)
    }
    let region = unsafe ViewRegion(
      mm: hot, hostDelta: host &- user, firstStretch: first, stretchCount: count,
      stretches: directory.bindMemory(
        to: UnsafeMutablePointer<Stretch>?.self, capacity: count), kind: kind)
    guard let node = unsafe try? state.pointee.regions.insert(user, user + length, region) else {
      unsafe arena.free(directory, byteCount: count * 8)
      giveBack()
      throw MemoryError(.outOfMemory, .metadataExhausted, length)
    }
    unsafe state.pointee.view.regions += 1
    guard hasView else { return }
    if let trap = unsafe state.pointee.trap {
      let failure = unsafe cshims_trap_add_region(trap, host, length, node)
      guard failure == 0 else {
        unsafe state.pointee.regions.remove(node)
        unsafe state.pointee.view.regions -= 1
        unsafe arena.free(directory, byteCount: count * 8)
        giveBack()
        throw MemoryError(.outOfMemory, .hostRefused, Int(failure))
      }
    }
    cshims_keep_empty(host, length)
  }

  /// Gives all host address space back. Called without the mmap lock, after the
  /// address space has exited: the trap waits for its service to leave.
  func removeRegions() {
    while let node = unsafe state.pointee.regions.first {
      let start = unsafe node.pointee.start
      let length = unsafe node.pointee.length
      let region = unsafe node.pointee.payload
      if unsafe state.pointee.hasView {
        if let trap = unsafe state.pointee.trap {
          unsafe cshims_trap_remove_region(trap, start &+ region.hostDelta)
        }
        cshims_keep_empty_no_more(start &+ region.hostDelta)
        if region.kind == .reserved { _ = cshims_unmap(start &+ region.hostDelta, length) }
      }
      lock()
      unsafe freeRegion(node)
      unlock()
    }
  }

  /// Forgets a region that the trap does not know any more, and what is recorded of
  /// its stretches.
  func freeRegion(_ node: RegionNode) {
    let arena = machine.arena
    let region = unsafe node.pointee.payload
    for i in 0..<region.stretchCount {
      guard let stretch = unsafe region.stretches[i] else { continue }
      unsafe arena.free(
        UnsafeMutableRawPointer(stretch), byteCount: MemoryLayout<Stretch>.size)
    }
    unsafe arena.free(
      UnsafeMutableRawPointer(region.stretches), byteCount: region.stretchCount * 8)
    unsafe state.pointee.regions.remove(node)
  }
}
