//===----------------------------------------------------------------------===//
// AdoptedMemory: how memory goes into frames and back where it stands.
//
//   in:    hold stores up -> copy into frames -> move a view of them over it
//   back:  hold stores up -> copy aside -> move the copy over the view
//
// What is moved over an address comes there whole and in one step (mremap), made
// ready aside, where a refusal of the host changes nothing. A thread that stores
// meanwhile waits in the trap and stores again afterwards. Loads go on, but for
// those of areas that forbid them: malloc's structures, and whatever else stands
// on the pages, can be read at all times, also by the thread that works here.
//
// The program may unmap its memory whenever it likes: free() of a large block
// does. So before the host's mapping of adopted memory is changed, it is looked
// at: it must still show this machine's file. Where it does not, the adoption is
// dropped: what is still ours is given back, and the rest left alone. A program
// that unmaps on one thread in the moment between the look and the change, is
// not protected from itself.
//
// All under the mmap lock, but for `reapGoneRegions` and the hook's coming and
// going.
//===----------------------------------------------------------------------===//

internal import CShims
internal import Events
internal import PageFrames

/// What an address space knows of its adoptions.
@safe
struct AdoptionAccount {
  /// A thread is inside fork(2): adopted memory is plain private memory.
  var isSuspended = false
  /// Some region is lost and waits to be dropped.
  var hasLost = false
  var lostCount = 0
  /// The last adoption's.
  var serial: UInt64 = 0
  /// Regions that the trap still has to forget.
  var goneCount = 0
}

/// What a region that was adopted knows.
struct AdoptionRecord: BitwiseCopyable {
  var serial: UInt64 = 0
  /// The program has unmapped some of it.
  var isLost = false
  /// While suspended: what pages that others hold contained, by the offset in the
  /// region, or 0; and a frame to look at the program's bytes in.
  var before: UInt64 = 0
  var spare: UInt64 = 0
}

extension MM {
  // MARK: - Whose addresses

  func isAdopted(_ host: UInt64) -> Bool {
    guard unsafe state.pointee.adoptions.serial != 0,
      let region = unsafe state.pointee.regions.find(containing: host)
    else { return false }
    return unsafe region.pointee.payload.kind != .reserved
  }

  /// Does a range meet memory that is or was the program's?
  func meetsAdopted(_ start: UInt64, _ end: UInt64) -> Bool {
    guard unsafe state.pointee.adoptions.serial != 0 else { return false }
    var region = unsafe state.pointee.regions.first(atOrAfter: start)
    while let current = unsafe region, unsafe current.pointee.start < end {
      if unsafe current.pointee.payload.kind != .reserved { return true }
      unsafe region = state.pointee.regions.next(after: current)
    }
    return false
  }

  /// May the host's mappings of [start, end), in one region, be changed? Not where
  /// the program's own memory stands; who finds that out drops the adoption.
  func mayChange(_ start: UInt64, _ end: UInt64) -> Bool {
    guard unsafe state.pointee.adoptions.serial != 0,
      let region = unsafe state.pointee.regions.find(containing: start)
    else { return true }
    switch unsafe region.pointee.payload.kind {
    case .reserved: return true
    case .suspended, .gone, .going: return false
    case .adopted: break
    }
    guard unsafe !region.pointee.payload.adoption.isLost else { return false }
    if isOurs(start, end) { return true }
    unsafe markLost(region)
    return false
  }

  private func isOurs(_ start: UInt64, _ end: UInt64) -> Bool {
    var shows = false
    let file = unsafe machine.header.pointee.memfd
    return unsafe counted(cshims_shows_file(start, end, file, &shows)) == 0 && shows
  }

  /// Does all of [start, end) show frames from `frame` on already?
  func showsFrames(_ start: UInt64, _ end: UInt64, from frame: UInt64) -> Bool {
    var shows = false
    let file = unsafe machine.header.pointee.memfd
    return unsafe counted(cshims_shows_file_from(start, end, file, frame << 12, &shows)) == 0
      && shows
  }

  func markLost(_ region: RegionNode) {
    unsafe region.pointee.payload.adoption.isLost = true
    unsafe state.pointee.adoptions.hasLost = true
  }

  func adoptedRegion(_ start: UInt64, _ serial: UInt64) -> RegionNode? {
    guard let region = unsafe state.pointee.regions.find(containing: start),
      unsafe region.pointee.payload.kind == .adopted,
      unsafe region.pointee.payload.adoption.serial == serial
    else { return nil }
    return unsafe region
  }

  /// The first region of a kind at or after an address.
  func firstRegion(from address: UInt64, _ kind: ViewRegion.Kind) -> RegionNode? {
    var region = unsafe state.pointee.regions.first(atOrAfter: address)
    while let current = unsafe region {
      if unsafe current.pointee.payload.kind == kind { return unsafe current }
      unsafe region = state.pointee.regions.next(after: current)
    }
    return nil
  }

  /// Calls `body` with each area in [start, end), which it may remove.
  func forEachArea(_ start: UInt64, _ end: UInt64, _ body: (AreaNode) -> Void) {
    var node = unsafe state.pointee.areas.first(atOrAfter: start)
    while let current = unsafe node, unsafe current.pointee.start < end {
      unsafe node = state.pointee.areas.next(after: current)
      unsafe body(current)
    }
  }

  /// Calls `body` with address, first frame and bytes of each run of pages whose
  /// frames are consecutive, zero pages left out. Ends at the first error.
  func forEachFrameRun(
    _ start: UInt64, _ end: UInt64, _ body: (UInt64, UInt64, UInt64) -> Int32
  ) -> Int32 {
    var first: UInt64 = 0
    var frame: UInt64 = 0
    var length: UInt64 = 0
    var address = start
    while address < end {
      let value = unsafe entry(at: address).map { unsafe cshims_pte_load($0) } ?? 0
      if Self.holdsPage(value), value & CSHIMS_PTE_SPECIAL == 0 {
        let own = Self.frame(of: value)
        if length > 0, first + length == address, frame + length >> 12 == own {
          length += 4096
        } else {
          let error = length > 0 ? body(first, frame, length) : 0
          if error != 0 { return error }
          (first, frame, length) = (address, own, 4096)
        }
      }
      address += 4096
    }
    return length > 0 ? body(first, frame, length) : 0
  }

  // MARK: - In

  /// What can be told before the host is looked at.
  func checkAdopting(_ start: UInt64, _ end: UInt64) throws(MemoryError) {
    guard unsafe state.pointee.tier != .none else {
      throw MemoryError(.notSupported, .trapMissing, start)
    }
    guard unsafe !state.pointee.isForked else {
      throw MemoryError(.notSupported, .forkedAddresses, start)
    }
    // Its mmap locks are held over a fork(2), in which malloc may have to store.
    guard !machine.isJoinable else {
      throw MemoryError(.notSupported, .joinableMachine, start)
    }
  }

  /// Adopts whole pages that the survey allows. Returns the adoption's serial.
  func adopt(_ start: UInt64, _ end: UInt64, writable: Bool) throws(MemoryError) -> UInt64 {
    guard unsafe state.pointee.view.mappings + 4 <= state.pointee.view.budget * 4 else {
      throw unsafe MemoryError(.outOfMemory, .hostRefused, state.pointee.view.mappings)
    }
    guard var reserve = makeNodes(1), let node = unsafe reserve.take() else {
      throw MemoryError(.outOfMemory, .metadataExhausted, end - start)
    }
    var flags = AreaFlags(access: writable ? .readWrite : .readOnly)
    flags.formUnion(.mayAccess)
    flags.formUnion(.anonymous)
    flags.formUnion(.adopted)
    var area = Area(
      start: start, end: end, flags: flags, homeBase: Area.noHome, cache: 0, cacheBase: 0)
    let serial = unsafe state.pointee.adoptions.serial + 1
    unsafe state.pointee.adoptions.serial = serial
    do throws(MemoryError) {
      try addRegion(user: start, host: start, length: end - start, kind: .adopted)
    } catch {
      unsafe state.pointee.areas.discardNode(node)
      throw error
    }
    guard let region = unsafe state.pointee.regions.find(containing: start) else {
      throw MemoryError(.outOfMemory, .metadataExhausted, start)
    }
    unsafe region.pointee.payload.adoption.serial = serial
    let count = Int((end - start) >> 12)
    if let home = machine.reserveSpan(count: count) { area.homeBase = home &- start >> 12 }
    var failure = makeRecords(start, end) ?? takeFrames(for: area)
    var isInserted = false
    if failure == nil {
      let hold = writable ? holdStores(start, end) : (.nothing, 0)
      failure = hold.error == 0 ? nil : .host(hold.error)
      if failure == nil { failure = copyIn(start, end) }
      if failure == nil {
        unsafe insertArea(area, using: node)
        isInserted = true
        failure = showAdopted(area, hold.kind)
      } else {
        letStores(start, end, hold.kind)
      }
    }
    if let failure {
      if isInserted {
        unsafe removeArea(node)
      } else {
        unsafe state.pointee.areas.discardNode(node)
      }
      dropEntries(start, end)
      releaseBacking(area)
      unsafe retire(region)
      throw failure
    }
    unsafe machine.header.emit(.adopt, address: start, pageCount: count)
    return serial
  }

  /// The records of what the view shows, so that none is lacking later.
  private func makeRecords(_ start: UInt64, _ end: UInt64) -> MemoryError? {
    var address = start
    while address < end {
      guard unsafe stretch(at: address, create: true) != nil else {
        return MemoryError(.outOfMemory, .metadataExhausted, address)
      }
      address = Self.tableEnd(address, end)
    }
    return nil
  }

  /// Frames for every page of an area, in entries that nobody can follow yet.
  private func takeFrames(for area: Area) -> MemoryError? {
    let flags = CSHIMS_PAGE_ANON | CSHIMS_PAGE_ANON_EXCLUSIVE
    var address = area.start
    while address < area.end {
      guard let entry = unsafe makeEntry(at: address) else {
        return MemoryError(.outOfMemory, .metadataExhausted, address)
      }
      let count = Int((Self.tableEnd(address, area.end) - address) >> 12)
      guard
        let (frame, got) = machine.allocateNear(area.home(of: address), count, flags: flags)
      else { return MemoryError(.outOfMemory, .framesExhausted, address) }
      for i in 0..<got {
        let own = frame + UInt64(i)
        // All of it is overwritten, so old bytes need not go first.
        machine.willOverwrite(frame: own)
        unsafe _ = cshims_page_map_fetch_add(machine.page(own).descriptor, 1)
        unsafe cshims_pte_store(
          entry + i, Self.entryValue(frame: own, writable: false, dirty: true, accessible: false))
      }
      address += UInt64(got) << 12
    }
    return nil
  }

  private func copyIn(_ start: UInt64, _ end: UInt64) -> MemoryError? {
    let file = unsafe machine.header.pointee.memfd
    var failed = start
    let error = forEachFrameRun(start, end) { address, frame, length in
      failed = address
      return counted(cshims_copy_into_file(file, frame << 12, address, length))
    }
    if error == 0 { return nil }
    return error == ErrorNumber.badAddress.rawValue
      ? MemoryError(.badAddress, .notMapped, failed) : .host(error)
  }

  /// Puts the view in place of the program's memory. On failure that is back.
  private func showAdopted(_ area: Area, _ hold: StoreHold) -> MemoryError? {
    protectEntries(area.start, area.end, area.flags)
    let (done, error) = showInPlace(area.start, area.end)
    guard error != 0 else {
      wake(area.start, area.end)
      return nil
    }
    _ = retireEntries(area.start, area.end)
    if done > area.start, restore(area.start, done, area.protection) != 0 {
      leak(area.start, done)
    }
    if done < area.end { letStores(done, area.end, hold) }
    return .host(error)
  }

  // MARK: - Holding stores up

  /// How the program's stores into its own memory are held up.
  enum StoreHold {
    case nothing
    /// By userfaultfd: system calls wait, too.
    case byUserfaultfd
    /// By the host's protection: a system call sees EFAULT.
    case byProtection
  }

  /// Makes stores into writable private memory wait in the trap.
  func holdStores(_ start: UInt64, _ end: UInt64) -> (kind: StoreHold, error: Int32) {
    if usesUserfaultfd {
      var error = counted(cshims_userfaultfd_register_stores(userfaultfd, start, end - start))
      // Somebody else watches it by a userfaultfd of his own.
      if error == ErrorNumber.busy.rawValue { return (.nothing, error) }
      if error == 0 {
        error = counted(cshims_userfaultfd_write_protect(userfaultfd, start, end - start, true))
        if error == 0 { return (.byUserfaultfd, 0) }
        _ = counted(cshims_userfaultfd_unregister(userfaultfd, start, end - start))
      }
    }
    return (.byProtection, counted(cshims_protect(start, end - start, CSHIMS_PROT_READ)))
  }

  func letStores(_ start: UInt64, _ end: UInt64, _ hold: StoreHold) {
    switch hold {
    case .nothing:
      return
    case .byProtection:
      _ = counted(cshims_protect(start, end - start, CSHIMS_PROT_READ_WRITE))
    case .byUserfaultfd:
      _ = counted(cshims_userfaultfd_write_protect(userfaultfd, start, end - start, false))
      _ = counted(cshims_userfaultfd_unregister(userfaultfd, start, end - start))
    }
    wake(start, end)
  }

  /// Lets those store again who waited on a mapping that is no more.
  func wake(_ start: UInt64, _ end: UInt64) {
    if usesUserfaultfd { _ = counted(cshims_userfaultfd_wake(userfaultfd, start, end - start)) }
  }

  // MARK: - Back

  /// Gives a region back. Returns why it could not be; nothing has changed then,
  /// unless it is lost.
  func giveBack(_ region: RegionNode, evenIfPinned: Bool) -> MemoryError? {
    let (start, end) = unsafe (region.pointee.start, region.pointee.end)
    var isOurs = true
    unsafe forEachArea(start, end) { node in
      isOurs = unsafe isOurs && self.isOurs(node.pointee.start, node.pointee.end)
    }
    guard isOurs else {
      unsafe markLost(region)
      return MemoryError(.badAddress, .adoptionLost, start)
    }
    retireForCopying(start, end)
    if unsafe region.pointee.payload.adoption.isLost {
      return MemoryError(.badAddress, .adoptionLost, start)
    }
    if !evenIfPinned, let pinned = firstPinned(start, end) {
      restoreEntries(start, end)
      return MemoryError(.busy, .pinned, pinned)
    }
    let error = moveBack(start, end)
    guard error == 0 else {
      restoreEntries(start, end)
      return .host(error)
    }
    unsafe finish(region)
    unsafe machine.header.emit(.giveBack, address: start, pageCount: Int((end - start) >> 12))
    return nil
  }

  /// Makes stores wait, then takes the entries out of the lock-free walk's sight:
  /// a pin is either seen in the counts now, or comes too late. The view stays
  /// readable.
  func retireForCopying(_ start: UInt64, _ end: UInt64) {
    unsafe forEachEntry(start, end) { entry, value in
      if value & CSHIMS_PTE_WRITE != 0 {
        unsafe _ = cshims_pte_exchange(entry, value & ~CSHIMS_PTE_WRITE)
      }
    }
    followTable(start, end)
    _ = retireEntries(start, end)
  }

  /// Undoes that.
  func restoreEntries(_ start: UInt64, _ end: UInt64) {
    unsafe forEachArea(start, end) { node in
      unsafe protectEntries(node.pointee.start, node.pointee.end, node.pointee.payload.flags)
    }
    followTable(start, end)
  }

  private func firstPinned(_ start: UInt64, _ end: UInt64) -> UInt64? {
    var address = start
    while address < end {
      let value = unsafe entry(at: address).map { unsafe cshims_pte_load($0) } ?? 0
      if Self.holdsPage(value), value & CSHIMS_PTE_SPECIAL == 0,
        machine.page(Self.frame(of: value)).mayBePinned
      {
        return address
      }
      address += 4096
    }
    return nil
  }

  /// A copy of what [start, end) holds as private memory aside: where, or an errno.
  func copyAside(_ start: UInt64, _ end: UInt64) -> (base: UInt64, error: Int32) {
    if unsafe machine.header.fails(at: .hostMapping) {
      return (0, ErrorNumber.outOfMemory.rawValue)
    }
    var memory: UnsafeMutableRawPointer?
    let error = unsafe counted(cshims_anonymous(end - start, &memory))
    guard error == 0, let memory = unsafe memory else { return (0, error) }
    _ = forEachFrameRun(start, end) { address, frame, length in
      unsafe cshims_copy(
        memory + Int(address - start), machine.address(ofFrame: frame), length)
      return 0
    }
    return (UInt64(UInt(bitPattern: memory)), 0)
  }

  /// Puts private memory in place of every area of a region; what was unmapped of
  /// it goes. All or nothing; returns 0 or an errno.
  func moveBack(_ start: UInt64, _ end: UInt64) -> Int32 {
    let (base, error) = copyAside(start, end)
    guard error == 0 else { return error }
    var cursor = start
    unsafe forEachArea(start, end) { node in
      let area = unsafe node.pointee.payload
      vacate(cursor, area.start, aside: base &+ cursor &- start)
      move(base &+ area.start &- start, area.start, area.end, area.protection)
      cursor = area.end
    }
    vacate(cursor, end, aside: base &+ cursor &- start)
    wake(start, end)
    return 0
  }

  /// Takes a hole between areas, and its counterpart aside, out of the process.
  private func vacate(_ start: UInt64, _ end: UInt64, aside: UInt64) {
    guard start < end else { return }
    _ = counted(cshims_unmap(aside, end - start))
    if isOurs(start, end) { _ = counted(cshims_unmap(start, end - start)) }
  }

  /// Moves private memory over a view. The host has said yes to everything that
  /// can be refused before.
  private func move(
    _ from: UInt64, _ start: UInt64, _ end: UInt64, _ protection: Protection
  ) {
    let length = end - start
    var error: Int32 = 0
    if protection != .readWrite {
      let wanted = protection.isEmpty ? CSHIMS_PROT_NONE : CSHIMS_PROT_READ
      error = counted(
        cshims_protect(from, length, protection.contains(.write) ? CSHIMS_PROT_READ_WRITE : wanted))
    }
    if error == 0 { error = counted(cshims_move_over(from, length, start)) }
    if error != 0 {
      unsafe cshims_die(
        "the host refuses to give adopted memory back", start >> 12, UInt64(error), "mremap(2)")
    }
  }

  /// Private memory in place of the view of a part of one area.
  private func restore(_ start: UInt64, _ end: UInt64, _ protection: Protection) -> Int32 {
    let (base, error) = copyAside(start, end)
    if error == 0 { move(base, start, end, protection) }
    return error
  }

  /// Leaves a view in the program's hands for good: its frames are never freed.
  private func leak(_ start: UInt64, _ end: UInt64) {
    unsafe forEachEntry(start, end) { entry, _ in unsafe cshims_pte_store(entry, 0) }
  }

  /// Forgets the areas and pages of a region that the program has back.
  private func finish(_ region: RegionNode) {
    let (start, end) = unsafe (region.pointee.start, region.pointee.end)
    forget(start, end)
    dropEntries(start, end)
    unsafe forEachArea(start, end) { node in
      let area = unsafe node.pointee.payload
      unsafe removeArea(node)
      releaseBacking(area)
    }
    unsafe retire(region)
  }

  private func retire(_ region: RegionNode) {
    unsafe region.pointee.payload.kind = .gone
    unsafe state.pointee.adoptions.goneCount += 1
  }

  /// At the end of an address space: everything is the program's again. What the
  /// host refuses to give back stays a view, and its frames are lost to the machine.
  func giveEverythingBack() {
    while let region = unsafe firstRegion(from: 0, .adopted) {
      guard let error = unsafe giveBack(region, evenIfPinned: true) else { continue }
      if error.reason == .adoptionLost {
        unsafe drop(region)
      } else {
        unsafe leak(region.pointee.start, region.pointee.end)
        unsafe finish(region)
      }
    }
    unsafe state.pointee.adoptions.hasLost = false
  }

  // MARK: - Lost

  /// Drops every adoption of which the program has unmapped something.
  func dropLostAdoptions() {
    unsafe state.pointee.adoptions.hasLost = false
    var address: UInt64 = 0
    while let region = unsafe firstRegion(from: address, .adopted) {
      address = unsafe region.pointee.end
      if unsafe region.pointee.payload.adoption.isLost { unsafe drop(region) }
    }
  }

  /// Gives back what is still ours of a region and lets go of the rest.
  private func drop(_ region: RegionNode) {
    let (start, end) = unsafe (region.pointee.start, region.pointee.end)
    _ = retireEntries(start, end)
    unsafe forEachArea(start, end) { node in
      unsafe dropPieces(node.pointee.payload)
    }
    unsafe state.pointee.adoptions.lostCount += 1
    unsafe finish(region)
    unsafe machine.header.emit(
      .adoptionLost, address: start, pageCount: Int((end - start) >> 12))
  }

  private func dropPieces(_ area: Area) {
    var address = area.start
    while address < area.end {
      var mapping = cshims_mapping()
      guard unsafe cshims_mapping_find(address, &mapping) == 0 else { return }
      let start = max(address, mapping.start)
      let end = min(area.end, mapping.end)
      guard start < end else { return }
      if isOurs(start, end) {
        holdView(start, end)
        if restore(start, end, area.protection) != 0 { leak(start, end) }
        wake(start, end)
      }
      address = end
    }
  }

  /// Makes stores into a piece of a view wait, whatever it shows.
  private func holdView(_ start: UInt64, _ end: UInt64) {
    if usesUserfaultfd {
      _ = counted(cshims_userfaultfd_write_protect(userfaultfd, start, end - start, true))
    } else {
      // What is absent was out of reach and has no bytes to lose.
      _ = counted(cshims_protect(start, end - start, CSHIMS_PROT_READ))
    }
  }

  // MARK: - Regions that are gone

  /// Makes the trap forget regions that were given back. Without the mmap lock:
  /// the trap waits for its service to leave.
  func reapGoneRegions() {
    guard isOwn else { return }
    while true {
      lock()
      guard unsafe state.pointee.adoptions.goneCount > 0 else { return unlock() }
      let region = unsafe firstRegion(from: 0, .gone)
      unsafe region?.pointee.payload.kind = .going
      unlock()
      guard let region = unsafe region else {
        // Another thread is at it.
        cshims_wait_a_moment()
        continue
      }
      if let trap = unsafe state.pointee.trap {
        unsafe cshims_trap_remove_region(trap, region.pointee.start)
      }
      unsafe cshims_keep_empty_no_more(region.pointee.start)
      lock()
      unsafe freeRegion(region)
      unsafe state.pointee.view.regions -= 1
      unsafe state.pointee.adoptions.goneCount -= 1
      unlock()
    }
  }
}
