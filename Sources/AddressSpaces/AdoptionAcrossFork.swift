//===----------------------------------------------------------------------===//
// fork(2) and adopted memory. A view would be missing in the child, and with it
// parts of malloc; shared, it would let both store into one memory. So for the
// time of a fork(2) adopted memory is plain private memory again, and the kernel
// copies it for the child as it copies the rest of the process: with the bytes of
// the fork, and consistent with what malloc keeps elsewhere.
//
// No lock is held in between, because the C library takes malloc's locks then,
// and who holds one may have to store into adopted memory first. Instead other
// threads that want the mmap lock wait, except the fault service; entries are out
// of the lock-free walk's sight, so GUP waits, too.
//
// Afterwards the program's bytes go back into the frames. Pages that somebody
// else holds may have been changed by a device meanwhile: there only what the
// program has changed is stored. A frame that a forked address space shares gets
// no store: the program's bytes, if they differ, go to a new one.
//
// A child that is made without the C library's fork() (a raw clone) finds no
// memory where views are, and ends by SIGSEGV when it touches one.
//===----------------------------------------------------------------------===//

internal import CShims
internal import Events
internal import PageFrames

extension MM {
  /// Makes fork(2) heed this address space. Without the mmap lock, which the hooks
  /// take.
  func setForkHook() throws(MemoryError) {
    let error = unsafe cshims_adoption_hook_add(
      UnsafeMutableRawPointer(hot),
      { context in
        guard let context = unsafe context else { return }
        unsafe MM(context.assumingMemoryBound(to: cshims_mm.self)).suspendAdoptions()
      },
      { context in
        guard let context = unsafe context else { return }
        unsafe MM(context.assumingMemoryBound(to: cshims_mm.self)).resumeAdoptions()
      })
    guard error == 0 else { throw MemoryError.host(error) }
  }

  func forgetForkHook() {
    unsafe cshims_adoption_hook_remove(UnsafeMutableRawPointer(hot))
  }

  // MARK: - Before

  func suspendAdoptions() {
    // Not `lock()`, which waits for us.
    unsafe cshims_mm_lock(hot)
    var address: UInt64 = 0
    while let region = unsafe firstRegion(from: address, .adopted) {
      address = unsafe region.pointee.end
      if unsafe suspend(region) { unsafe state.pointee.adoptions.isSuspended = true }
    }
    unlock()
  }

  /// Without memory for it a region stays as it is, and the child has nothing there.
  private func suspend(_ region: RegionNode) -> Bool {
    let (start, end) = unsafe (region.pointee.start, region.pointee.end)
    guard mayChange(start, end) else { return false }
    guard let spare = machine.allocate(flags: 0) else { return false }
    retireForCopying(start, end)
    guard unsafe !region.pointee.payload.adoption.isLost else {
      machine.page(spare).release(.reference)
      return false
    }
    var before: UInt64 = 0
    var error: Int32 = 0
    if othersHold(start, end) { (before, error) = copyAside(start, end) }
    if error == 0 { error = moveBack(start, end) }
    guard error == 0 else {
      if before != 0 { _ = cshims_unmap(before, end - start) }
      machine.page(spare).release(.reference)
      restoreEntries(start, end)
      return false
    }
    forget(start, end)
    unsafe region.pointee.payload.adoption.before = before
    unsafe region.pointee.payload.adoption.spare = spare
    unsafe region.pointee.payload.kind = .suspended
    return true
  }

  private func othersHold(_ start: UInt64, _ end: UInt64) -> Bool {
    var any = false
    unsafe forEachEntry(start, end) { _, value in
      guard value & CSHIMS_PTE_SPECIAL == 0 else { return }
      let page = machine.page(Self.frame(of: value))
      any = unsafe any || cshims_page_ref_load(page.descriptor) != 1
    }
    return any
  }

  // MARK: - After

  func resumeAdoptions() {
    // Not `lock()`, which waits for us.
    unsafe cshims_mm_lock(hot)
    var address: UInt64 = 0
    while let region = unsafe firstRegion(from: address, .suspended) {
      address = unsafe region.pointee.end
      unsafe resume(region)
    }
    unsafe state.pointee.adoptions.isSuspended = false
    unlock()
  }

  private func resume(_ region: RegionNode) {
    let (start, end) = unsafe (region.pointee.start, region.pointee.end)
    let adoption = unsafe region.pointee.payload.adoption
    unsafe region.pointee.payload.kind = .adopted
    var isBack = true
    unsafe forEachArea(start, end) { node in
      isBack = unsafe isBack && resume(node.pointee.payload, start, adoption)
    }
    // The program keeps what it has.
    if !isBack { unsafe markLost(region) }
    if adoption.before != 0 { _ = counted(cshims_unmap(adoption.before, end - start)) }
    machine.page(adoption.spare).release(.reference)
    unsafe region.pointee.payload.adoption.before = 0
    unsafe region.pointee.payload.adoption.spare = 0
  }

  /// Takes an area's bytes into its frames again. False when that cannot be: some
  /// of it then is plain memory.
  private func resume(_ area: Area, _ base: UInt64, _ adoption: AdoptionRecord) -> Bool {
    let isReadable = !area.flags.access.isEmpty
    // What nobody may touch has not changed, and cannot be told from a stranger's.
    guard !isReadable || cshims_is_private(area.start, area.end) else { return false }
    var hold: (kind: StoreHold, error: Int32) = (.nothing, 0)
    if area.flags.contains(.write) { hold = holdStores(area.start, area.end) }
    guard hold.error == 0 else { return false }
    var isTaken = true
    var address = area.start
    while isReadable, isTaken, address < area.end {
      isTaken = takeBack(address, area, base, adoption)
      address += 4096
    }
    protectEntries(area.start, area.end, area.flags)
    var done = area.start
    if isTaken {
      let (shown, error) = showInPlace(area.start, area.end)
      done = shown
      isTaken = error == 0
    }
    if done < area.end { letStores(done, area.end, hold.kind) }
    wake(area.start, area.end)
    return isTaken
  }

  /// Brings one page's frame up to what the program's memory holds now.
  private func takeBack(
    _ address: UInt64, _ area: Area, _ base: UInt64, _ adoption: AdoptionRecord
  ) -> Bool {
    guard let entry = unsafe makeEntry(at: address) else { return false }
    let value = unsafe cshims_pte_load(entry)
    let isOwn = Self.holdsPage(value) && value & CSHIMS_PTE_SPECIAL == 0
    let page = isOwn ? machine.page(Self.frame(of: value)) : machine.zeroPage
    let file = unsafe machine.header.pointee.memfd
    func copy(into frame: UInt64) -> Bool {
      counted(cshims_copy_into_file(file, frame << 12, address, 4096)) == 0
    }
    let isAlone = unsafe isOwn && cshims_page_ref_load(page.descriptor) == 1
    if isAlone && page.isAnonymous { return copy(into: page.frameNumber.rawValue) }
    guard copy(into: adoption.spare) else { return false }
    let now = unsafe machine.address(ofFrame: adoption.spare)
    let frame = unsafe machine.address(ofFrame: page.frameNumber.rawValue)
    if isOwn && page.isAnonymousExclusive && adoption.before != 0 {
      let before = unsafe UnsafeRawPointer(
        bitPattern: UInt(adoption.before &+ address &- base))
      unsafe cshims_merge_page(frame, before, now)
      return true
    }
    guard unsafe cshims_pages_differ(frame, now) else { return true }
    return unsafe replace(entry, value, at: address, area, by: now)
  }

  /// A frame of the area's own with the program's bytes, in place of one that others
  /// see, or of none.
  private func replace(
    _ entry: UnsafeMutablePointer<cshims_pte>, _ value: UInt64, at address: UInt64, _ area: Area,
    by bytes: UnsafeMutableRawPointer
  ) -> Bool {
    let flags = CSHIMS_PAGE_ANON | CSHIMS_PAGE_ANON_EXCLUSIVE
    guard let (frame, _) = machine.allocateNear(area.home(of: address), 1, flags: flags) else {
      return false
    }
    let page = machine.page(frame)
    guard machine.zero(frame: frame, count: 1) == 0 else {
      page.release(.reference)
      return false
    }
    unsafe cshims_copy(machine.address(ofFrame: frame), bytes, 4096)
    unsafe _ = cshims_page_map_fetch_add(page.descriptor, 1)
    unsafe cshims_pte_store(
      entry, Self.entryValue(frame: frame, writable: false, dirty: true, accessible: false))
    if Self.holdsPage(value), value & CSHIMS_PTE_SPECIAL == 0 {
      let old = machine.page(Self.frame(of: value))
      unsafe _ = cshims_page_map_fetch_sub(old.descriptor, 1)
      old.release(.reference)
    }
    return true
  }
}
