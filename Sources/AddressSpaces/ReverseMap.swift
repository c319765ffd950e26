//===----------------------------------------------------------------------===//
// The way back from a page to the entries that show it (the kernel's rmap).
// Nothing is kept for it: pages that are shown once are nearly all there are,
// and their one entry is where the search began. For the others the machine's
// address spaces are asked. A page of a cache stands where its index does in
// each area of that cache; a private page that fork shared stands at the same
// address in each relative. One that a relative has moved elsewhere since is not
// found: it counts as unreachable and stays where it is.
//
// Lock: the list lock, under the caller's mmap lock. Other mmap locks are tried,
// never waited for; an address space that is busy makes its pages unreachable.
//===----------------------------------------------------------------------===//

internal import CShims
internal import PageFrames

extension MM {
  /// Makes this address space findable. Called without locks.
  func enlist() {
    let list = unsafe machine.addressSpaces
    _ = unsafe cshims_lock_acquire(&list.pointee.lock)
    if let first = unsafe list.pointee.first { unsafe MM(first).state.pointee.previous = hot }
    unsafe state.pointee.next = list.pointee.first
    unsafe list.pointee.first = hot
    unsafe cshims_lock_release(&list.pointee.lock)
  }

  /// Takes it off the list and waits for who is looking at it. Without locks.
  func delist() {
    let list = unsafe machine.addressSpaces
    _ = unsafe cshims_lock_acquire(&list.pointee.lock)
    let (next, previous) = unsafe (state.pointee.next, state.pointee.previous)
    if let next = unsafe next { unsafe MM(next).state.pointee.previous = previous }
    if let previous = unsafe previous {
      unsafe MM(previous).state.pointee.next = next
    } else {
      unsafe list.pointee.first = next
    }
    unsafe cshims_lock_release(&list.pointee.lock)
  }
}

extension Machine {
  /// Calls `body` under the list lock.
  func withAddressSpaces<R>(_ body: () -> R) -> R {
    enterGate()
    defer { leaveGate() }
    let list = unsafe addressSpaces
    _ = unsafe cshims_lock_acquire(&list.pointee.lock)
    defer { unsafe cshims_lock_release(&list.pointee.lock) }
    return body()
  }

  /// Calls `body` with each address space, under the list lock, until it says
  /// that this was enough.
  func forEachAddressSpace(_ body: (MM) -> Bool) {
    var next = unsafe addressSpaces.pointee.first
    while let hot = unsafe next {
      let mm = unsafe MM(hot)
      if body(mm) { return }
      unsafe next = mm.state.pointee.next
    }
  }
}

/// One entry that shows a page, and what it held when it was found.
@safe
struct ShownAt {
  let mm: MM
  let address: UInt64
  let entry: UnsafeMutablePointer<cshims_pte>
  var value: UInt64
  /// Its mmap lock was taken for the search: with this entry it is let go.
  var unlocks: Bool
}

/// The entries that show one page. More than there is room for, and the page
/// counts as unreachable.
@safe
struct PageMappings {
  private static let capacity = 16
  private var list = InlineArray<16, ShownAt?>(repeating: nil)
  private(set) var count = 0

  subscript(index: Int) -> ShownAt { unsafe list[index].unsafelyUnwrapped }

  /// Adds the entry of an address if it shows `frame`. Returns whether it did.
  @discardableResult
  mutating func add(_ mm: MM, _ address: UInt64, showing frame: UInt64) -> Bool {
    guard count < Self.capacity, let entry = unsafe mm.entry(at: address) else { return false }
    let value = unsafe cshims_pte_load(entry)
    guard MM.holdsPage(value), value & CSHIMS_PTE_SPECIAL == 0, MM.frame(of: value) == frame
    else { return false }
    unsafe list[count] = ShownAt(
      mm: mm, address: address, entry: entry, value: value, unlocks: false)
    count += 1
    return true
  }

  /// The entries from `first` on came with a lock that was taken for them.
  mutating func owesUnlock(from first: Int) { list[first]?.unlocks = true }

  mutating func setValue(_ value: UInt64, of index: Int) { list[index]?.value = value }

  /// Lets go of the locks that the search took.
  func unlock() {
    for i in 0..<count where self[i].unlocks { self[i].mm.unlock() }
  }

  /// Adds every entry by which `mm` shows a page of a cache.
  mutating func addAll(_ mm: MM, _ page: Page, of cache: PageCacheHandle, at index: UInt64) {
    var node = unsafe mm.state.pointee.areas.first
    while let current = unsafe node {
      let area = unsafe current.pointee.payload
      let address = (index &- area.cacheBase) &<< 12
      if area.cache == cache.address, address >= area.start, address < area.end {
        add(mm, address, showing: page.frameNumber.rawValue)
      }
      unsafe node = mm.state.pointee.areas.next(after: current)
    }
  }
}

extension MM {
  /// Every entry that shows `page`, which this address space shows at `address`,
  /// their address spaces all locked. nil, and nothing locked, when some are not
  /// found. Under this mmap lock, the list lock, and the cache's if it has one.
  func mappings(
    of page: Page, at address: UInt64, cache: PageCacheHandle?, index: UInt64
  ) -> PageMappings? {
    var found = PageMappings()
    let wanted = page.mapCount
    let frame = page.frameNumber.rawValue
    func search(_ mm: MM) {
      if let cache {
        found.addAll(mm, page, of: cache, at: index)
      } else {
        found.add(mm, address, showing: frame)
      }
    }
    search(self)
    if found.count < wanted {
      machine.forEachAddressSpace { other in
        guard unsafe other.hot != hot, other.isOwn, other.tryLock() else { return false }
        let before = found.count
        search(other)
        if found.count > before { found.owesUnlock(from: before) } else { other.unlock() }
        return found.count >= wanted
      }
    }
    if found.count == wanted { return found }
    found.unlock()
    return nil
  }
}
