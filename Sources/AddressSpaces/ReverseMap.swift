//===----------------------------------------------------------------------===//
// The way back from a folio, a single page being one of one page, to the entries
// that show it (the kernel's rmap). Nothing is kept for it: folios that are shown
// once are nearly all there are, and their entries are where the search began.
// For the others the machine's address spaces are asked, until as many entries
// are found as the folio counts. A page of a cache stands where its index does in
// each area of that cache. A private one stands, in each relative, where it does
// here, unless mremap has moved parts of it: then whole page tables are looked
// through.
//
// What was found is not listed, which would take memory: each address space notes
// how its entries are found, and they are found again whenever they are wanted.
//
// Lock: the list lock, under the caller's mmap lock. Other mmap locks are tried,
// never waited for; an address space that is busy, or another process's, makes its
// pages unreachable. Those in which something was found stay locked until `unlock`.
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

/// How the entries of the folio that is looked for are found in an address space.
/// Under the list lock.
enum EntrySearch: UInt8 {
  /// There are none.
  case nowhere
  /// Around the address at which the search began.
  case here
  /// Anywhere in the page table.
  case everywhere
}

/// Entries side by side that show pages of the folio, or one leaf.
@safe
struct EntryRun {
  let mm: MM
  let address: UInt64
  let entries: UnsafeMutablePointer<cshims_pte>
  /// Entries: of a leaf one.
  let count: Int
  let isLeaf: Bool

  /// Where what they show ends.
  var end: UInt64 { address + (isLeaf ? MM.leafLength : UInt64(count) << 12) }
}

/// All entries that show one folio, their address spaces locked.
@safe
struct FolioMappings {
  let own: MM
  let head: Page
  /// The pages of the folio as it was when the search began.
  let pageCount: Int
  /// Where `own` shows the page that the search began with.
  let address: UInt64
  /// The cache that holds a reference, too, and the page's place in it.
  let cache: PageCacheHandle?
  let index: UInt64
  /// Where the folio's first page stands, or would, as that page does. May lie
  /// outside user space.
  private let start: UInt64
  /// How many entries there are. Each holds a reference.
  private(set) var count = 0
  /// References that its mappings and its cache account for.
  var references: Int { count + (cache == nil ? 0 : 1) }
  private var hasOthers = false

  /// Finds the entries that show the folio of `page`, which `own` shows at
  /// `address`: a cache's, if there is one, at `index`. nil, and nothing locked,
  /// when some are not found. Under its mmap lock, the list lock, and the cache's.
  ///
  /// - Complexity: O(pages of the folio x address spaces that show it); where some
  ///   were moved by mremap O(pages mapped in the machine).
  init?(
    _ own: MM, _ page: Page, at address: UInt64, cache: PageCacheHandle? = nil, index: UInt64 = 0
  ) {
    self.own = own
    head = page.folioHead
    pageCount = 1 << head.folioOrder
    self.address = address
    start = address &- (page.frame - head.frame) << 12
    self.cache = cache
    self.index = index
    let wanted = head.folioMapCount
    look(.here, wanted)
    if count < wanted, cache == nil { look(.everywhere, wanted) }
    if count != wanted {
      unlock()
      return nil
    }
  }

  /// Looks into this address space and then the others until `wanted` are found.
  private mutating func look(_ search: EntrySearch, _ wanted: Int) {
    unsafe own.state.pointee.search = search
    var all = countEntries(in: own)
    defer { count = all }
    if all >= wanted, !hasOthers { return }
    hasOthers = true
    own.machine.forEachAddressSpace { other in
      if unsafe other.hot == own.hot || !other.isOwn { return false }
      let wasLocked = unsafe other.state.pointee.search != .nowhere
      guard wasLocked || other.tryLock() else { return false }
      unsafe other.state.pointee.search = search
      let found = countEntries(in: other)
      all += found
      if found == 0 {
        unsafe other.state.pointee.search = .nowhere
        other.unlock()
      }
      return all >= wanted
    }
  }

  private func countEntries(in mm: MM) -> Int {
    var count = 0
    forEachRun(in: mm) { count += $0.count }
    return count
  }

  /// Lets go of the locks that the search took.
  func unlock() {
    unsafe own.state.pointee.search = .nowhere
    if !hasOthers { return }
    own.machine.forEachAddressSpace { other in
      if unsafe other.state.pointee.search != .nowhere {
        unsafe other.state.pointee.search = .nowhere
        other.unlock()
      }
      return false
    }
  }

  /// Calls `body` with each run. It may change what the entries hold, and split a
  /// leaf.
  func forEachRun(_ body: (EntryRun) -> Void) {
    forEachRun(in: own, body)
    if !hasOthers { return }
    own.machine.forEachAddressSpace { other in
      if unsafe other.hot != own.hot { forEachRun(in: other, body) }
      return false
    }
  }

  private func forEachRun(in mm: MM, _ body: (EntryRun) -> Void) {
    switch unsafe mm.state.pointee.search {
    case .nowhere: return
    case .here where cache == nil:
      let end = start &+ UInt64(pageCount) << 12
      // Before the start of user space there is nothing.
      let first = start > CSHIMS_TASK_SIZE ? 0 : start
      if first < end { scan(mm, first, end, body) }
    case .here, .everywhere:
      mm.forEachArea { area in
        if let cache {
          let address = (index &- area.cacheBase) &<< 12
          if area.cache == cache.address, address >= area.start, address < area.end {
            scan(mm, address, address + 4096, body)
          }
        } else if !area.flags.contains(.shared) {
          scan(mm, area.start, area.end, body)
        }
      }
    }
  }

  /// Calls `body` with each run of [first, end).
  private func scan(_ mm: MM, _ first: UInt64, _ end: UInt64, _ body: (EntryRun) -> Void) {
    var address = first
    while address < end {
      let stop = MM.tableEnd(address, end)
      if let leaf = unsafe mm.leaf(at: address) {
        if unsafe shows(cshims_pte_load(leaf)) {
          unsafe body(
            EntryRun(
              mm: mm, address: MM.leafStart(address), entries: leaf, count: 1, isLeaf: true))
        }
      } else if let entries = unsafe mm.entry(at: address) {
        unsafe scan(mm, address, entries, Int((stop - address) >> 12), body)
      }
      address = stop
    }
  }

  private func scan(
    _ mm: MM, _ address: UInt64, _ entries: UnsafeMutablePointer<cshims_pte>, _ count: Int,
    _ body: (EntryRun) -> Void
  ) {
    var i = 0
    while i < count {
      var run = 0
      while i + run < count, unsafe shows(cshims_pte_load(entries + i + run)) { run += 1 }
      if run > 0 {
        unsafe body(
          EntryRun(
            mm: mm, address: address + UInt64(i) << 12, entries: entries + i, count: run,
            isLeaf: false))
      }
      i += run + 1
    }
  }

  private func shows(_ value: UInt64) -> Bool {
    MM.holdsPage(value) && value & CSHIMS_PTE_SPECIAL == 0
      && MM.frame(of: value) &- head.frame < UInt64(pageCount)
  }
}
