//===----------------------------------------------------------------------===//
// Reaping: what a dead process of a joinable machine held goes, its mappings,
// references and pins, exactly, wherever it was killed.
//
// Nothing is undone step by step. With the gate closed, so that the living stand
// still outside it, everything is counted anew from what they hold: page tables,
// page caches, notes (PageFrames/Recount.swift). It can be begun again from the
// start, so a reaper that dies is no matter.
//
// While the gate is closed nothing is allocated from malloc and no user memory
// is touched: a fault would wait for the gate. Sets of slots are words.
//
// Lock: the members' lock, over all of it; inside it, one after the other, the
// leaves.
//===----------------------------------------------------------------------===//

internal import CShims
public import PageFrames

extension PhysicalMemory {
  /// Gives back what processes held that have died, or have called exec(2), and
  /// returns how many there were. A thread of each process that has a child or has
  /// joined does it five times a second, and each fork(2); 0 on machines that are
  /// not joinable.
  ///
  /// Not to be called from an event sink.
  /// - Complexity: O(frames ever used + pages mapped) when somebody has died, else
  ///   a system call for each process.
  @discardableResult
  public func reapDeadProcesses() -> Int { machine.isOwn ? machine.reap() : 0 }
}

/// What the reaper thread and whoever waits at a gate call.
let reapDead: cshims_reaper = { header in
  guard let header = unsafe header else { return }
  _ = unsafe Machine(header).reap()
}

extension MM {
  /// Frees a dead process's address space but for what it counted, which the
  /// recount sees to. Trees that it died changing stay where they are.
  fileprivate func discard(isWhole: Bool) {
    let died = unsafe cshims_mm_lock_died(hot)
    unsafe cshims_lock_release(&hot.pointee.mmap_lock)
    freeTables()
    if isWhole && !died {
      while let node = unsafe state.pointee.regions.first { unsafe freeRegion(node) }
      unsafe state.pointee.areas.removeAll()
      unsafe state.pointee.regions.removeAll()
    }
    unsafe machine.arena.free(
      UnsafeMutableRawPointer(hot), byteCount: AddressSpaceState.totalSize)
  }

  /// Adds what the page table shows.
  fileprivate func count(in recount: borrowing Recount) {
    guard let top = unsafe hot.pointee.pgd else { return }
    unsafe count(top, level: 3, in: recount)
  }

  private func count(
    _ table: UnsafeMutablePointer<cshims_pte>, level: Int, in recount: borrowing Recount
  ) {
    for i in 0..<Int(CSHIMS_PTE_ENTRIES) {
      let value = unsafe cshims_pte_load(table + i)
      if value == 0 { continue }
      if level == 0 {
        if value & CSHIMS_PTE_SPECIAL == 0 { recount.addMapping(Self.frame(of: value)) }
      } else if value & CSHIMS_PTE_HUGE != 0 {
        recount.addLeaf(Self.frame(of: value))
      } else {
        unsafe count(cshims_pte_table(value), level: level - 1, in: recount)
      }
    }
  }
}

/// A set of slots.
private struct Slots {
  let set: UInt32

  init(_ set: UInt32) { self.set = set }

  func contains(_ slot: Int) -> Bool { set & 1 << UInt32(slot) != 0 }

  func forEach(_ body: (Int) -> Void) {
    for slot in 0..<Int(CSHIMS_MEMBERS) where contains(slot) { body(slot) }
  }
}

extension Machine {
  /// Looks for dead processes. Outside the gate, without the members' lock.
  func reap() -> Int {
    guard isJoinable, slot >= 0 else { return 0 }
    let died = lockMembers()
    defer { unlockMembers() }
    return reapLocked(recounting: died)
  }

  /// The same under the members' lock; `recounting` also where nobody has died,
  /// because a reaper has.
  func reapLocked(recounting: Bool) -> Int {
    var living: UInt32 = 0
    var dead: UInt32 = 0
    var expected: UInt32 = 0
    for slot in 0..<Int(CSHIMS_MEMBERS) {
      let state = unsafe cshims_member_state_load(member(slot))
      if state == CSHIMS_MEMBER_NONE.rawValue { continue }
      if state == CSHIMS_MEMBER_EXPECTED.rawValue {
        expected |= 1 << UInt32(slot)
      } else if unsafe slot == self.slot || cshims_member_is_alive(header, Int32(slot)) {
        living |= 1 << UInt32(slot)
      } else {
        dead |= 1 << UInt32(slot)
      }
    }
    // A child that is expected goes with the process that expects it.
    Slots(expected).forEach { slot in
      guard !isExpected(slot, by: Slots(living)), unsafe cshims_member_give_up(member(slot))
      else { return }
      expected &= ~(1 << UInt32(slot))
      dead |= 1 << UInt32(slot)
    }
    guard dead != 0 || recounting else { return 0 }
    guard let recount = Recount(self) else { return 0 }
    let late = unsafe cshims_gate_close(header, living)
    dead |= late
    living &= ~late
    relink(Slots(living | expected))
    Slots(dead).forEach { slot in bury(slot) }
    countAnew(recount, living: Slots(living), all: Slots(living | expected))
    Slots(dead).forEach { slot in
      recount.clearNotes(slot)
      unsafe cshims_member_set(member(slot), CSHIMS_MEMBER_NONE, 0, 0)
    }
    unsafe cshims_gate_open(header)
    recount.end()
    return dead.nonzeroBitCount
  }

  private func isExpected(_ slot: Int, by living: Slots) -> Bool {
    let identity = unsafe cshims_member_identity(member(slot))
    var found = false
    living.forEach { other in
      if unsafe cshims_member_identity(member(other)) == identity { found = true }
    }
    return found
  }

  /// Makes the machine's list of address spaces those of `slots`: a dead process may
  /// have been changing it.
  private func relink(_ slots: Slots) {
    let list = unsafe addressSpaces
    _ = unsafe cshims_lock_acquire(&list.pointee.lock)
    unsafe list.pointee.first = nil
    unsafe cshims_lock_release(&list.pointee.lock)
    slots.forEach { slot in
      forEachSpace(slot) { mm in
        unsafe mm.state.pointee.previous = nil
        mm.enlist()
      }
    }
  }

  /// Frees the memory of what a dead process had; its counts are not looked at.
  private func bury(_ slot: Int) {
    let isWhole = unsafe cshims_member_error_load(member(slot)) == 0
    let first = unsafe cshims_member_spaces(member(slot))
    unsafe cshims_member_set_spaces(member(slot), 0)
    var address = first
    while let hot = unsafe cshims_mm_at(address) {
      address = unsafe cshims_mm_next(hot)
      unsafe MM(hot).discard(isWhole: isWhole)
    }
    removeMappings(ofSlot: slot)
    unsafe cshims_event_sink_forget(header, cshims_member_identity(member(slot)))
  }

  private func countAnew(_ recount: borrowing Recount, living: Slots, all: Slots) {
    PageCacheHandle.countAnew(self, living: living, spaces: all)
    PageCacheHandle.forEach(self) { cache in
      cache.forEachPage { page in recount.addReference(page.frameNumber.rawValue) }
    }
    all.forEach { slot in forEachSpace(slot) { mm in mm.count(in: recount) } }
    living.forEach { slot in recount.addNotes(slot) }
    recount.apply(living: living.set)
    rebuildSpans { claim in
      all.forEach { slot in
        forEachSpace(slot) { mm in
          mm.forEachArea { area in
            let count = Int((area.end - area.start) >> 12)
            if area.cache == 0, let home = area.home(of: area.start) { claim(home, count) }
            if let second = area.secondHome(of: area.start) { claim(second, count) }
          }
        }
      }
      PageCacheHandle.forEach(self) { cache in
        if let home = cache.home(of: 0) { claim(home, unsafe cache.state.pointee.homeCount) }
      }
    }
  }
}

extension MM {
  func forEachArea(_ body: (Area) -> Void) {
    var node = unsafe state.pointee.areas.first
    while let current = unsafe node {
      unsafe body(current.pointee.payload)
      unsafe node = state.pointee.areas.next(after: current)
    }
  }
}

// MARK: - Page caches

extension PageCacheHandle {
  /// Enters the list of a joinable machine's caches, and leaves it. One store each
  /// makes the change, so that a death in between leaves a whole list.
  func enlist() {
    guard machine.isJoinable else { return }
    let members = unsafe machine.members
    unsafe _ = cshims_lock_acquire(&members.pointee.cache_lock)
    unsafe state.pointee.next = cshims_members_caches(members)
    unsafe cshims_members_set_caches(members, UInt64(address))
    unsafe cshims_lock_release(&members.pointee.cache_lock)
  }

  func delist() {
    guard machine.isJoinable else { return }
    let members = unsafe machine.members
    unsafe _ = cshims_lock_acquire(&members.pointee.cache_lock)
    var before: PageCacheHandle?
    Self.forEach(machine) { cache in
      if unsafe cache.state.pointee.next == UInt64(address) { before = cache }
    }
    let next = unsafe state.pointee.next
    if let before {
      unsafe before.state.pointee.next = next
    } else if unsafe cshims_members_caches(members) == UInt64(address) {
      unsafe cshims_members_set_caches(members, next)
    }
    unsafe cshims_lock_release(&members.pointee.cache_lock)
  }

  /// Notes a file of this process more or less.
  func countFile(_ n: Int) {
    guard machine.isJoinable else { return }
    lock()
    let slot = machine.slot
    let files = unsafe Int(state.pointee.files[slot]) + n
    unsafe state.pointee.files[slot] = UInt32(files)
    unlock()
  }

  static func forEach(_ machine: Machine, _ body: (PageCacheHandle) -> Void) {
    var address = unsafe cshims_members_caches(machine.members)
    while let cache = PageCacheHandle(UInt(address), machine) {
      address = unsafe cache.state.pointee.next
      body(cache)
    }
  }

  func forEachPage(_ body: (Page) -> Void) {
    let pages = unsafe state.pointee.pages
    var index: UInt64 = 0
    while let item = pages.next(from: index) {
      if let page = item.entry.page { body(page) }
      if item.last == .max { break }
      index = item.last + 1
    }
  }

  /// Makes each cache's references what the areas of `spaces` and the files of the
  /// living are, and frees those that have none. While nothing moves; the pages'
  /// counts are the recount's.
  fileprivate static func countAnew(_ machine: Machine, living: Slots, spaces: Slots) {
    forEach(machine) { cache in
      var files = 0
      for slot in 0..<Int(CSHIMS_MEMBERS) {
        if !living.contains(slot) { unsafe cache.state.pointee.files[slot] = 0 }
        files += unsafe Int(cache.state.pointee.files[slot])
      }
      unsafe cache.state.pointee.references = files
    }
    spaces.forEach { slot in
      machine.forEachSpace(slot) { mm in
        mm.forEachArea { area in
          if let cache = mm.cache(of: area) { unsafe cache.state.pointee.references += 1 }
        }
      }
    }
    forEach(machine) { cache in
      guard unsafe cache.state.pointee.references == 0 else { return }
      // Where this process has the file: under its number there may be another here.
      let file = unsafe cache.state.pointee.file
      if unsafe cshims_file_is(file, cache.state.pointee.identity) {
        // Not by `writeBack`, which would wait at the gate that we have closed.
        _ = cache.writeDirtyPages(0, .max) { _, _ in false }
        _ = cshims_close(file)
      }
      cache.delist()
      unsafe cache.state.pointee.pages.destroy()
      unsafe machine.arena.free(
        UnsafeMutableRawPointer(cache.state), byteCount: MemoryLayout<PageCache>.size)
    }
  }
}
