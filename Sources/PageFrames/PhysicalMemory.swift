//===----------------------------------------------------------------------===//
// PhysicalMemory: a machine. One sealed memfd is its physical memory, mapped
// once and for ever (the window, our direct map), so that frame number to
// pointer is an addition; beside it a metadata mapping holds descriptors, the
// allocator and the arena that page tables and areas come from.
//
// Everything else that belongs to a machine hangs here: counters, failure
// points, the event sink, the policies. Nothing is process-wide, so machines
// live side by side without meeting.
//===----------------------------------------------------------------------===//

package import CShims
public import Events

/// How a plain load or store on an absent or protected user address becomes a
/// fault of the emulator.
public enum TrapTier: UInt32, Sendable, CaseIterable {
  /// Only explicit faults are seen; touching an absent page ends the program.
  case none = 0
  /// A signal handler. System calls into absent pages see EFAULT.
  case sigsegv = 1
  /// userfaultfd(2). System calls into absent pages are served too, unless the
  /// host allows user mode only.
  case userfaultfd = 2

  /// The best tier that this process may use, found once.
  public static var best: TrapTier {
    unsafe cshims_userfaultfd_probe().error == 0 ? .userfaultfd : .sigsegv
  }
}

/// What a machine has counted since it was made. Pins count base pages.
public struct Counters: Equatable, Sendable {
  public var pinsAcquired = 0
  public var pinsReleased = 0
  public var referencesAcquired = 0
  public var referencesReleased = 0
  public var faults = 0
  public var hostCalls = 0

  /// Pins and references that somebody still holds.
  public var outstanding: Int {
    pinsAcquired - pinsReleased + referencesAcquired - referencesReleased
  }
}

/// A machine: its physical memory and what hangs on it.
///
/// Thread-safe. Its pages are valid as long as it lives; address spaces,
/// extractions and page buffers keep it alive, bare `Page` values do not.
///
/// It belongs to the process that made it. In a copy of that process (fork(2), a
/// bare clone(2)) its objects are husks: calls that take or map something throw
/// ESRCH, those that give back, or drop an object, do nothing, and neither views
/// nor window are there. The counters can be read.
@safe
public final class PhysicalMemory: @unchecked Sendable {
  /// The unowned handle that everything below works with.
  public let machine: Machine
  /// The tier that address spaces of this machine trap by.
  public let trapTier: TrapTier
  /// The most host mappings that one view may have (design decision 6).
  public let hostMappingBudget: Int

  let metadataLength: UInt64
  let windowLength: UInt64
  /// Opened by the first address space, closed with the machine.
  let trapLock: UnsafeMutablePointer<cshims_lock>
  package var trap: OpaquePointer?

  /// The largest capacity: descriptors must lie within the machine's alignment.
  public static let maximumCapacity = ByteCount.gibibytes(1024)

  /// Makes a machine.
  ///
  /// - Parameters:
  ///   - capacity: bytes of physical memory, whole pages, 1 page to 1 TiB.
  ///     Sparse: only what is touched costs host memory.
  ///   - trapTier: how native loads and stores are caught; the best by default.
  ///   - hostMappingBudget: the most host mappings one view may have; a quarter
  ///     of vm.max_map_count by default, never below 64 or above 2^31 - 1.
  ///   - joinable: may children made by fork(2) join (docs/fork.md)? Each fork(2)
  ///     then copies the machine's address spaces for the child, and every get,
  ///     pin and release is noted, which costs another atomic a page.
  /// - Throws: EINVAL for a capacity out of range, and for a joinable machine
  ///   without a trap, whose views nothing would open again after a fork(2);
  ///   ENOMEM when the host has no address space or memory for it.
  /// - Complexity: O(1); the memory behind it stays untouched.
  public convenience init(
    capacity: ByteCount = .gibibytes(64),
    trapTier: TrapTier = .best,
    hostMappingBudget: Int? = nil,
    joinable: Bool = false
  ) throws(MemoryError) {
    guard capacity.rawValue > 0, capacity.rawValue & 4095 == 0,
      capacity <= PhysicalMemory.maximumCapacity
    else { throw MemoryError(.invalid, .capacityInvalid, capacity.rawValue) }
    guard !joinable || trapTier != .none else {
      throw MemoryError(.invalid, .trapUnavailable, Int(ErrorNumber.invalid.rawValue))
    }

    let frames = Machine.reservedFrames + UInt64(capacity.rawValue >> 12)
    let layout = MetadataLayout(frames: frames, joinable: joinable)
    self.init(
      try PhysicalMemory.build(frames: frames, layout), layout, frames: frames, trapTier: trapTier,
      hostMappingBudget: hostMappingBudget ?? PhysicalMemory.defaultBudget())
  }

  /// What throws comes before an object is made, here and in every other class:
  /// Embedded Swift does not free the object of an initialiser that throws.
  private init(
    _ machine: Machine, _ layout: MetadataLayout, frames: UInt64, trapTier: TrapTier,
    hostMappingBudget: Int
  ) {
    self.machine = machine
    self.trapTier = trapTier
    self.metadataLength = layout.length
    self.windowLength = frames << 12
    // No host allows more, and sums of it stay far from overflowing.
    self.hostMappingBudget = min(max(64, hostMappingBudget), Int(Int32.max))
    unsafe self.trapLock = layout.trapLock(UnsafeMutableRawPointer(machine.header))
    unsafe self.trap = nil
    let membership = machine.isJoinable ? CSHIMS_MACHINE_NOTED : CSHIMS_MACHINE_OWN
    unsafe cshims_membership_set(machine.header, membership.rawValue)
    unsafe cshims_keep_empty(UInt64(UInt(bitPattern: machine.header.pointee.window)), windowLength)
  }

  deinit {
    // In a copy of the process the rest is the original's.
    guard machine.isOwn else { return }
    unsafe cshims_keep_empty_no_more(UInt64(UInt(bitPattern: machine.header.pointee.window)))
    if machine.isJoinable { unsafe cshims_reaper_stop(machine.header) }
    unsafe cshims_membership_set(machine.header, CSHIMS_MACHINE_FOREIGN.rawValue)
    if let trap = unsafe trap { unsafe cshims_trap_close(trap) }
    unsafe PhysicalMemory.tearDown(
      window: UnsafeMutableRawPointer(machine.header.pointee.window), windowLength,
      metadata: UnsafeMutableRawPointer(machine.header), metadataLength,
      file: machine.header.pointee.memfd)
  }

  /// Maps and lays out a machine; on failure nothing is left behind.
  private static func build(
    frames: UInt64, _ layout: MetadataLayout
  ) throws(MemoryError) -> Machine {
    var file: Int32 = -1
    var metadataFile: Int32 = -1
    var window: UnsafeMutableRawPointer?
    var metadata: UnsafeMutableRawPointer?
    var error = unsafe cshims_memfd_create("gup-frames", frames << 12, &file)
    if error == 0 { error = unsafe cshims_map_memfd(file, frames << 12, 1 << 21, &window) }
    // A child could write the frames of its parent's private pages through it.
    if error == 0 { error = unsafe cshims_do_not_inherit(window, frames << 12) }
    if error == 0 {
      error = unsafe cshims_memfd_create("gup-metadata", layout.length, &metadataFile)
    }
    if error == 0 {
      error = unsafe cshims_map_memfd(
        metadataFile, layout.length, CSHIMS_MACHINE_ALIGNMENT, &metadata)
    }
    if metadataFile >= 0 { _ = cshims_close(metadataFile) }
    if error == 0, let window = unsafe window, let metadata = unsafe metadata {
      let machine = unsafe layOut(metadata, layout, window: window, file: file, frames: frames)
      error = machine.initialiseZone()
      if error == 0 { error = unsafe cshims_lock_init(layout.trapLock(metadata)) }
      if error == 0 { error = machine.initialiseSpans() }
      if error == 0 { error = machine.initialiseMappings() }
      if error == 0 { error = unsafe cshims_lock_init(&machine.addressSpaces.pointee.lock) }
      if error == 0, machine.isJoinable { error = machine.initialiseMembers() }
      if error == 0 { return machine }
    }
    unsafe tearDown(
      window: window, frames << 12, metadata: metadata, layout.length, file: file)
    throw MemoryError.host(error)
  }

  private static func tearDown(
    window: UnsafeMutableRawPointer?, _ windowLength: UInt64,
    metadata: UnsafeMutableRawPointer?, _ metadataLength: UInt64, file: Int32
  ) {
    if file >= 0 { _ = cshims_close(file) }
    if let window = unsafe window {
      _ = cshims_unmap(UInt64(UInt(bitPattern: window)), windowLength)
    }
    if let metadata = unsafe metadata {
      _ = cshims_unmap(UInt64(UInt(bitPattern: metadata)), metadataLength)
    }
  }

  private static func defaultBudget() -> Int {
    var limit: UInt64 = 65530
    _ = unsafe cshims_read_number("/proc/sys/vm/max_map_count", &limit)
    return Int(limit / 4)
  }
}

/// Where everything stands in the metadata mapping.
private struct MetadataLayout {
  let zone: Int
  let spans: Int
  let trap: Int
  let mappings: Int
  let addressSpaces: Int
  let members: Int
  let fresh: Int
  let pages: Int
  let records: Int
  let arena: Int
  let arenaLength: Int
  /// What each process holds; nil for a machine that none may join.
  let notes: Int?
  let length: UInt64

  init(frames: UInt64, joinable: Bool) {
    let page = 4096
    func aligned(_ n: Int) -> Int { (n + page - 1) & ~(page - 1) }
    zone = unsafe aligned(MemoryLayout<cshims_machine>.size)
    spans = zone + page
    trap = spans + page / 2
    mappings = spans + page / 4
    addressSpaces = spans + page / 4 * 3
    members = zone + 2 * page
    fresh = zone + 4 * page
    pages = fresh + aligned(Int(frames >> 13) + 8)
    records = pages + aligned(Int(frames) * MemoryLayout<cshims_page>.stride)
    arena = records + aligned(Int(frames) * MemoryLayout<FrameRecord>.stride)
    // Sparse: room for the tables of many address spaces that map everything.
    arenaLength = aligned(max(1 << 30, Int(frames) << 8))
    notes = joinable ? arena + arenaLength : nil
    let noteBytes = joinable ? aligned(Int(CSHIMS_MEMBERS) * Int(frames) * 8) : 0
    length = UInt64(arena + arenaLength + noteBytes)
  }

  func trapLock(_ base: UnsafeMutableRawPointer) -> UnsafeMutablePointer<cshims_lock> {
    unsafe (base + trap).assumingMemoryBound(to: cshims_lock.self)
  }
}

extension PhysicalMemory {
  private static func layOut(
    _ metadata: UnsafeMutableRawPointer, _ layout: MetadataLayout,
    window: UnsafeMutableRawPointer, file: Int32, frames: UInt64
  ) -> Machine {
    let header = unsafe metadata.assumingMemoryBound(to: cshims_machine.self)
    unsafe header.pointee.magic = CSHIMS_MACHINE_MAGIC
    unsafe header.pointee.window = window.assumingMemoryBound(to: UInt8.self)
    unsafe header.pointee.pages = (metadata + layout.pages).assumingMemoryBound(
      to: cshims_page.self)
    unsafe header.pointee.frame_count = frames
    unsafe header.pointee.zero_frame = 0
    unsafe header.pointee.memfd = file
    unsafe header.pointee.owner_id = cshims_process_id_of(cshims_process_identity())
    unsafe header.pointee.zone = metadata + layout.zone
    unsafe header.pointee.fresh_blocks = metadata + layout.fresh
    unsafe header.pointee.records = metadata + layout.records
    unsafe header.pointee.spans = metadata + layout.spans
    unsafe header.pointee.mappings = metadata + layout.mappings
    unsafe header.pointee.address_spaces = metadata + layout.addressSpaces
    unsafe header.pointee.arena = metadata + layout.arena
    if let notes = layout.notes {
      unsafe header.pointee.members = (metadata + layout.members).assumingMemoryBound(
        to: cshims_members.self)
      unsafe header.pointee.notes = (metadata + notes).assumingMemoryBound(to: cshims_note.self)
      unsafe cshims_attention_set(header, CSHIMS_ATTENTION_JOINABLE)
    }
    unsafe _ = Arena.create(
      at: metadata + layout.arena, byteCount: layout.arenaLength, machine: header)
    let machine = unsafe Machine(header)
    let zero = machine.zeroPage
    unsafe cshims_page_reset_flags(zero.descriptor, CSHIMS_PAGE_ZERO)
    unsafe _ = cshims_page_ref_fetch_add(zero.descriptor, 1 &- CSHIMS_REF_FREE)
    return machine
  }

  /// Bytes of physical memory that can be handed out.
  public var capacity: ByteCount { PageCount(machine.totalFrameCount).byteCount }
  /// Frames that can be handed out, free or held.
  public var totalFrameCount: PageCount { PageCount(machine.totalFrameCount) }
  /// Frames that nobody holds now.
  public var freeFrameCount: PageCount { PageCount(machine.freeFrameCount) }
  /// Bytes of host memory behind the frames now.
  public var residentBytes: ByteCount {
    var bytes: UInt64 = 0
    _ = unsafe cshims_memfd_allocated(machine.header.pointee.memfd, &bytes)
    return ByteCount(Int(bytes))
  }

  /// The page that every untouched private address reads (ZERO_PAGE).
  public var zeroPage: Page { machine.zeroPage }

  /// The page of a frame, or nil when the machine has no such frame.
  public func page(_ frame: PageFrameNumber) -> Page? {
    frame.rawValue < machine.frameCount ? machine.page(frame.rawValue) : nil
  }

  /// What was counted so far; exact when other threads are quiet.
  /// - Complexity: O(shards).
  public var counters: Counters {
    func sum(_ counter: cshims_counter) -> Int {
      Int(unsafe cshims_counter_sum(machine.header, counter))
    }
    return Counters(
      pinsAcquired: sum(CSHIMS_PINS_ACQUIRED), pinsReleased: sum(CSHIMS_PINS_RELEASED),
      referencesAcquired: sum(CSHIMS_REFS_ACQUIRED),
      referencesReleased: sum(CSHIMS_REFS_RELEASED),
      faults: sum(CSHIMS_FAULTS), hostCalls: sum(CSHIMS_HOST_CALLS))
  }

  /// Takes a zeroed block of 2^order frames that belongs to the caller alone
  /// (alloc_pages). Dropped by `put()`.
  public func allocatePage(order: Int = 0) throws(MemoryError) -> Page {
    try checkOwn()
    machine.enterGate()
    defer { machine.leaveGate() }
    guard order >= 0, order <= Zone.maxOrder else {
      throw MemoryError(.invalid, .orderInvalid, order)
    }
    guard let frame = machine.allocate(order: order, flags: 0) else {
      throw MemoryError(.outOfMemory, .framesExhausted, order)
    }
    let page = machine.page(frame)
    let error = machine.zero(frame: frame, count: 1 << order)
    guard error == 0 else {
      page.releaseUnnoted(.reference)
      throw MemoryError.host(error)
    }
    page.note(.reference, 1)
    machine.count(CSHIMS_REFS_ACQUIRED, 1)
    if Ledger.isOn { page.noteTaken(.reference) }
    return page
  }

  /// Makes the `countdown`-th passage of a failure point from now fail; 0
  /// disarms it. A point counts its passages while it is armed.
  public func arm(_ point: FailurePoint, countdown: Int) {
    guard machine.isOwn else { return }
    unsafe cshims_failure_point_arm(machine.header, point.rawValue, UInt64(max(0, countdown)))
  }
  /// How often a failure point has failed.
  public func failures(of point: FailurePoint) -> Int {
    Int(unsafe cshims_failure_point_failures(machine.header, point.rawValue))
  }

  /// Attaches the one event sink, or detaches it with nil. See `EventSink` for
  /// what it must not do.
  public func setEventSink(_ sink: EventSink?, context: UnsafeMutableRawPointer? = nil) {
    guard machine.isOwn else { return }
    unsafe cshims_event_sink_set(machine.header, sink, context)
  }

  /// ESRCH, naming the process that the machine belongs to.
  package var otherProcess: MemoryError { machine.otherProcess }

  /// Throws in a process that the machine does not belong to.
  package func checkOwn() throws(MemoryError) {
    guard machine.isOwn else { throw machine.otherProcess }
  }

  /// The trap of this machine, opened by the first caller.
  package func openTrap(
    service: @escaping cshims_trap_service
  ) throws(MemoryError) -> OpaquePointer? {
    try checkOwn()
    guard trapTier != .none else { return nil }
    _ = unsafe cshims_lock_acquire(trapLock)
    var error: Int32 = 0
    if unsafe trap == nil {
      let tier = trapTier == .userfaultfd ? CSHIMS_TRAP_USERFAULTFD : CSHIMS_TRAP_SIGSEGV
      error = unsafe cshims_trap_open(tier, service, machine.header, &trap)
    }
    let opened = unsafe trap
    unsafe cshims_lock_release(trapLock)
    guard error == 0 else { throw MemoryError(.invalid, .trapUnavailable, Int(error)) }
    return unsafe opened
  }
}
