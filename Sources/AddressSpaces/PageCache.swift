//===----------------------------------------------------------------------===//
// PageCache: the memory behind a mapping that is not private to one address
// space (the kernel's address_space): a shared anonymous object, or a file. It
// holds one reference on each of its pages, so zapping one mapping of it loses
// nothing.
//
// It lives in the metadata mapping and is known to areas by its address.
// Lock: the cache's lock, taken after an mmap lock and before the allocator's;
// it guards the index, the reference count and reading and writing of the file.
//===----------------------------------------------------------------------===//

internal import CShims
internal import PageFrames

struct PageCache {
  var lock: cshims_lock
  /// Page index to page.
  var pages: XArray
  /// Areas and files that know it.
  var references: Int
  /// On a joinable machine: of those, the files of each process.
  var files = InlineArray<32, UInt32>(repeating: 0)
  /// On a joinable machine: the next cache, an address.
  var next: UInt64 = 0
  /// The file behind it, or -1: a descriptor of the process that opened it, and of
  /// the children that inherited it.
  var file: Int32
  /// What that must mean to be the same file in another process.
  var identity: cshims_file_identity
  /// Bytes of the file or object; pages beyond the last one cannot be brought in.
  var length: UInt64
  /// The frame number that index 0 would have as its home, and how many have
  /// one; `Area.noHome` where there is no span.
  var home: UInt64
  var homeCount: Int
  /// What its pages are besides: secret, movable.
  var pageFlags: UInt32

  var isFile: Bool { file >= 0 }
  /// The first index that lies beyond the end.
  var endIndex: UInt64 { (length + 4095) >> 12 }
}

/// An unowned handle on a page cache, as an area has it.
@safe
struct PageCacheHandle {
  let state: UnsafeMutablePointer<PageCache>
  let machine: Machine

  init?(_ address: UInt, _ machine: Machine) {
    guard let state = unsafe UnsafeMutablePointer<PageCache>(bitPattern: address) else {
      return nil
    }
    unsafe self.state = state
    self.machine = machine
  }

  var address: UInt { unsafe UInt(bitPattern: state) }
  var isFile: Bool { unsafe state.pointee.isFile }

  /// A fresh cache with one reference; nil when the arena is exhausted. It owns
  /// `file` from now on.
  static func create(
    _ machine: Machine, pageCount: Int, file: Int32 = -1, length: UInt64, pageFlags: UInt32 = 0
  ) -> PageCacheHandle? {
    let arena = machine.arena
    let size = MemoryLayout<PageCache>.size
    guard let memory = unsafe arena.allocate(byteCount: size) else { return nil }
    guard let pages = try? XArray.create(in: arena) else {
      unsafe arena.free(memory, byteCount: size)
      return nil
    }
    let home = pageCount > 0 ? machine.reserveSpan(count: pageCount) : nil
    let state = unsafe memory.bindMemory(to: PageCache.self, capacity: 1)
    unsafe state.initialize(
      to: PageCache(
        lock: cshims_lock(), pages: pages, references: 1, file: file,
        identity: file < 0 ? cshims_file_identity() : cshims_file_identify(file), length: length,
        home: home ?? Area.noHome, homeCount: home == nil ? 0 : pageCount, pageFlags: pageFlags))
    guard unsafe cshims_lock_init(&state.pointee.lock) == 0 else {
      if let home { machine.releaseSpan(home, count: pageCount) }
      pages.destroy()
      unsafe arena.free(memory, byteCount: size)
      return nil
    }
    let handle = PageCacheHandle(UInt(bitPattern: memory), machine)
    handle?.enlist()
    return handle
  }

  func lock() {
    machine.enterGate()
    unsafe _ = cshims_lock_acquire(&state.pointee.lock)
  }
  func unlock() {
    unsafe cshims_lock_release(&state.pointee.lock)
    machine.leaveGate()
  }

  func retain() {
    lock()
    unsafe state.pointee.references += 1
    unlock()
  }

  /// Drops a reference; the last one writes a file's dirty pages back, frees
  /// all pages and closes the file.
  func release() {
    machine.enterGate()
    defer { machine.leaveGate() }
    lock()
    unsafe state.pointee.references -= 1
    let last = unsafe state.pointee.references == 0
    unlock()
    guard last else { return }
    _ = writeBack(0, .max)
    delist()
    var batch = FrameBatch(machine)
    var index: UInt64 = 0
    let pages = unsafe state.pointee.pages
    while let item = pages.next(from: index) {
      if let page = item.entry.page { batch.dropReference(page, call: "truncate_inode_pages") }
      if item.last == .max { break }
      index = item.last + 1
    }
    batch.flush()
    pages.destroy()
    if unsafe state.pointee.homeCount > 0 {
      unsafe machine.releaseSpan(state.pointee.home, count: state.pointee.homeCount)
    }
    if isFile { _ = cshims_close(unsafe state.pointee.file) }
    unsafe machine.arena.free(
      UnsafeMutableRawPointer(state), byteCount: MemoryLayout<PageCache>.size)
  }

  /// The home frame of an index, if it has one.
  func home(of index: UInt64) -> UInt64? {
    unsafe index < UInt64(state.pointee.homeCount) ? state.pointee.home + index : nil
  }

  /// Brings up to `count` pages from `index` into the cache, in as few runs as
  /// their homes allow. Under the lock. Returns how many are there now, and why
  /// it stopped if that is fewer.
  func bringIn(_ index: UInt64, _ count: Int) -> FaultResult {
    let pages = unsafe state.pointee.pages
    var done = 0
    while done < count {
      let next = index + UInt64(done)
      if pages.load(next).page != nil {
        done += 1
        continue
      }
      guard unsafe next < state.pointee.endIndex else { return FaultResult(.busError, done) }
      var missing = 1
      while done + missing < count, unsafe next + UInt64(missing) < state.pointee.endIndex,
        pages.load(next + UInt64(missing)).isEmpty
      { missing += 1 }
      let result = bringInRun(next, missing)
      done += result.pages
      if result.outcome != .done { return FaultResult(result.outcome, done) }
    }
    return FaultResult(.done, done)
  }

  /// One run of consecutive frames for pages that the cache lacks.
  private func bringInRun(_ index: UInt64, _ count: Int) -> FaultResult {
    let flags =
      unsafe CSHIMS_PAGE_CACHE | (isFile ? CSHIMS_PAGE_WRITEBACK : 0) | state.pointee.pageFlags
    guard let (frame, got) = machine.allocateNear(home(of: index), count, flags: flags) else {
      return FaultResult(.outOfMemory, 0)
    }
    var outcome: FaultOutcome = machine.zero(frame: frame, count: got) == 0 ? .done : .hostRefused
    if outcome == .done, isFile {
      var bytes: UInt64 = 0
      machine.count(CSHIMS_HOST_CALLS, 1)
      let error = unsafe cshims_file_read(
        state.pointee.file, machine.address(ofFrame: frame), UInt64(got) << 12, index << 12,
        &bytes)
      if error != 0 { outcome = .busError }
    }
    var stored = 0
    while outcome == .done, stored < got {
      do throws(ArenaExhausted) {
        let page = machine.page(frame + UInt64(stored))
        try unsafe state.pointee.pages.store(index + UInt64(stored), .page(page))
        stored += 1
      } catch {
        outcome = .outOfMetadata
      }
    }
    for i in stored..<got { machine.page(frame + UInt64(i)).releaseUnnoted(.reference) }
    return FaultResult(outcome, stored)
  }

  /// Writes the dirty pages of [first, last] to the file and marks those clean
  /// that are mapped nowhere but where `isProtected` says so of an index and its
  /// page: once, by an entry that the caller has write-protected. Others may be
  /// stored to at any moment. Returns 0 or the errno of the first write that
  /// failed. Takes the lock.
  func writeBack(
    _ first: UInt64, _ last: UInt64, isProtected: (UInt64, Page) -> Bool = { _, _ in false }
  ) -> Int32 {
    guard isFile else { return 0 }
    lock()
    defer { unlock() }
    return writeDirtyPages(first, last, isProtected)
  }

  /// The same under the lock, or while nothing moves.
  func writeDirtyPages(
    _ first: UInt64, _ last: UInt64, _ isProtected: (UInt64, Page) -> Bool
  ) -> Int32 {
    var result: Int32 = 0
    var index = first
    while let item = unsafe state.pointee.pages.next(from: index), item.index <= last {
      if let page = item.entry.page, page.isDirty {
        let error = writeBack(page, item.index)
        let mappings = page.mapCount
        if error == 0, mappings == 0 || mappings == 1 && isProtected(item.index, page) {
          unsafe _ = cshims_page_clear_flags(page.descriptor, CSHIMS_PAGE_DIRTY)
        }
        if result == 0 { result = error }
      }
      if item.last == .max { break }
      index = item.last + 1
    }
    return result
  }

  /// Writes one page, up to the end of the file: what a mapping stored beyond
  /// it is dropped, as on Linux.
  private func writeBack(_ page: Page, _ index: UInt64) -> Int32 {
    let offset = index << 12
    let length = unsafe state.pointee.length
    guard offset < length else { return 0 }
    machine.count(CSHIMS_HOST_CALLS, 1)
    return unsafe cshims_file_write(
      state.pointee.file, machine.address(ofFrame: page.frameNumber.rawValue),
      min(4096, length - offset), offset)
  }
}
