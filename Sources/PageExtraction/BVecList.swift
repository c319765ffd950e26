//===----------------------------------------------------------------------===//
// BVecList: bvecs and what is held on their pages, the part that all consumers
// of extraction share. It takes rounds of extracted pages, joins what lies
// together, and pays back exactly what each bvec owes.
//
// One allocation. A round's page list is the end of the list's own memory, in
// the part that no bvec uses yet (F-20): with `free` bvecs unused, a round takes
// at most `free` pages, whose slots are the last 8 * free of those 24 * free
// bytes. Bvecs are written from the front and pages read from the front: the
// i-th bvec ends at byte 24 * (i + 1), the slot of the i-th page begins at
// 16 * free + 8 * i, so with i < free a bvec never covers a slot beyond those
// already read.
//
// What a bvec owes: one hold for each page that it touches, or one for all of
// them. Two rounds that meet in one page hold it twice; when their bytes are
// joined, one of the two is dropped at once (A-36, F-24).
//===----------------------------------------------------------------------===//

internal import CShims
internal import Events
internal import GUP
internal import PageFrames

/// What one round of extraction added to a list.
struct ExtractionRound {
  /// Bytes that were added; the iterator has advanced by as many.
  var length: Int
  /// Why the round ended where it did.
  var stop: ExtractionStop
}

/// How a round's pages become bvecs.
enum BVecJoining {
  /// One bvec a page.
  case never
  /// Consecutive pages of one folio become one bvec, also with those of earlier
  /// rounds; so do two parts of one page that follow each other.
  case sameFolio
}

@safe
struct BVecList: ~Copyable, @unchecked Sendable {
  let memory: PhysicalMemory
  /// The most bvecs it may have.
  let limit: Int
  /// Does a bvec hold its folio once, instead of each of its pages?
  let holdsRunsOnce: Bool
  private(set) var capacity: Int
  private(set) var count = 0
  /// Bytes that all bvecs cover.
  private(set) var length = 0
  /// What is held, once there is something: all rounds agree on it.
  private(set) var retention: Retention?
  private(set) var direction: Direction?
  /// Dangles while the capacity is 0.
  private var storage: UnsafeMutableRawPointer
  private var releasesDirty = false
  /// Extractions of pipes that are listed here, and end with the list.
  private var listings: [PipeListingHandle] = []

  private static let stride = MemoryLayout<BVec>.stride

  /// An empty list.
  ///
  /// - Parameters:
  ///   - limit: the most bvecs.
  ///   - isFixed: allocate for all of them now; else it grows when it must.
  /// - Throws: EINVAL for a negative limit, ENOMEM.
  init(
    limit: Int, isFixed: Bool, holdsRunsOnce: Bool = false, memory: PhysicalMemory
  ) throws(MemoryError) {
    guard limit >= 0 else { throw MemoryError(.invalid, .countNegative, limit) }
    let capacity = isFixed ? limit : min(limit, 64)
    unsafe self.storage =
      capacity == 0
      ? UnsafeMutableRawPointer(bitPattern: 8)!
      : try BVecList.allocate(capacity, memory.machine, at: .pageListAllocation)
    self.memory = memory
    self.limit = limit
    self.holdsRunsOnce = holdsRunsOnce
    self.capacity = capacity
  }

  deinit {
    drop(from: 0, dirty: releasesDirty && direction == .destination)
    for listing in listings { listing.end() }
    if capacity > 0 { unsafe cshims_free(storage) }
  }

  /// Drops what is held and frees the list.
  consuming func release(dirty: Bool) { releasesDirty = dirty }

  var isFull: Bool { count == limit }

  /// - Precondition: 0 <= `index` < `count`.
  subscript(index: Int) -> BVec {
    precondition(index >= 0 && index < count, "no such bvec")
    return unsafe storage.load(fromByteOffset: index * BVecList.stride, as: BVec.self)
  }

  private mutating func set(_ index: Int, _ bvec: BVec) {
    unsafe storage.storeBytes(of: bvec, toByteOffset: index * BVecList.stride, as: BVec.self)
  }

  /// All bvecs, as iterators take them.
  var bvecs: [BVec] {
    var list: [BVec] = []
    list.reserveCapacity(count)
    for index in 0..<count { list.append(self[index]) }
    return list
  }

  // MARK: - Memory

  private static func allocate(
    _ capacity: Int, _ machine: Machine, at point: FailurePoint
  ) throws(MemoryError) -> UnsafeMutableRawPointer {
    if unsafe machine.header.fails(at: point) {
      throw MemoryError(.outOfMemory, .injected, capacity)
    }
    guard let memory = unsafe cshims_allocate(UInt64(capacity), UInt64(stride)) else {
      throw MemoryError(.outOfMemory, .pageListExhausted, capacity)
    }
    return unsafe memory
  }

  /// Makes room for one more bvec at least. Not to be called on a full list.
  private mutating func makeRoom() throws(MemoryError) {
    guard count == capacity else { return }
    let wanted = capacity > limit / 2 ? limit : max(1, 2 * capacity)
    let larger = try unsafe BVecList.allocate(wanted, memory.machine, at: .listGrowth)
    unsafe cshims_copy(larger, storage, UInt64(count * BVecList.stride))
    unsafe cshims_free(storage)
    unsafe storage = larger
    capacity = wanted
  }

  // MARK: - Taking

  /// Refuses an iterator whose pages the list cannot hold beside its own.
  func check(_ iterator: borrowing IOVIter) throws(MemoryError) {
    guard iterator.memory.machine == memory.machine else {
      throw MemoryError(.invalid, .otherMachine, 0)
    }
    if let retention, retention != iterator.retention {
      throw MemoryError(.invalid, .retentionMismatch, Int(iterator.retention.rawValue))
    }
    if let direction, direction != iterator.direction {
      throw MemoryError(.invalid, .directionMismatch, Int(iterator.direction.rawValue))
    }
  }

  /// Extracts once and adds what came.
  ///
  /// - Parameters:
  ///   - maxSize: the most bytes.
  ///   - maxBVecs: the most bvecs, as far as the limit allows; above 0.
  ///   - block: only whole multiples of this many bytes are taken; what a round
  ///     has beyond the last goes back to the iterator.
  /// - Throws: as `check` and `extractPages`; ENOMEM when the list cannot grow.
  ///   Then nothing has changed.
  mutating func take(
    from iterator: inout IOVIter, maxSize: Int, maxBVecs: Int = .max, block: Int = 1,
    joining: BVecJoining, options: ExtractionOptions
  ) throws(MemoryError) -> ExtractionRound {
    try check(iterator)
    try makeRoom()
    let before = iterator.cursor
    let free = capacity - count
    let slots =
      unsafe (storage + capacity * BVecList.stride
      - free * MemoryLayout<Page?>.stride).bindMemory(to: Page?.self, capacity: free)
    let result = try unsafe iterator.extractPages(
      into: UnsafeMutableBufferPointer(start: slots, count: free), maxSize: ByteCount(maxSize),
      maxPages: PageCount(min(free, maxBVecs)), options: options)
    let kept = result.length.rawValue - result.length.rawValue % block
    if kept < result.length.rawValue {
      if let listing = result.listing {
        // A pipe reports pages that go while they are listed: all go, and those
        // that are to stay are published anew.
        listing.end()
        try iterator.revert(by: result.length)
        guard kept > 0 else { return ExtractionRound(length: 0, stop: result.stop) }
        return try take(
          from: &iterator, maxSize: kept, maxBVecs: maxBVecs, block: block, joining: joining,
          options: options)
      }
      let pages = kept == 0 ? 0 : PageCount(covering: ByteCount(kept), from: result.offset).rawValue
      for slot in pages..<result.pageCount {
        if let page = unsafe slots[slot] { dropOne(page, result.retention) }
      }
      // Empty segments about, going back byte by byte may end in another one.
      if kept == 0 {
        iterator.cursor = before
      } else {
        try iterator.revert(by: result.length - ByteCount(kept))
      }
    }
    guard kept > 0 else { return ExtractionRound(length: 0, stop: result.stop) }
    retention = result.retention
    direction = result.direction
    if let listing = result.listing { listings.append(listing) }
    unsafe add(result, kept, UnsafeRawPointer(slots), joining)
    return ExtractionRound(length: kept, stop: result.stop)
  }

  /// Adds the first `kept` bytes of a round.
  private mutating func add(
    _ result: ExtractionResult, _ kept: Int, _ slots: UnsafeRawPointer, _ joining: BVecJoining
  ) {
    var done = 0
    var slot = 0
    while done < kept {
      let page = unsafe slots.load(fromByteOffset: slot * MemoryLayout<Page?>.stride, as: Page.self)
      let offset = slot == 0 ? result.offset : 0
      let part = min(pageSize - offset, kept - done)
      if joining == .sameFolio, count > 0, joins(self[count - 1], page, offset) {
        let last = self[count - 1]
        set(count - 1, BVec(page: last.page, offset: last.offset, length: last.length + part))
        // Its own hold, or its run's, is there already.
        if offset > 0 || holdsRunsOnce { dropOne(page, result.retention) }
      } else {
        set(count, BVec(page: page, offset: offset, length: part))
        count += 1
      }
      done += part
      slot += 1
    }
    length += kept
  }

  /// Do bytes at `offset` of `page` follow a bvec's last byte, in its folio?
  private func joins(_ bvec: BVec, _ page: Page, _ offset: Int) -> Bool {
    let end = bvec.offset + bvec.length
    guard end & (pageSize - 1) == offset,
      unsafe bvec.page.descriptor + end >> pageShift == page.descriptor
    else { return false }
    return unsafe offset > 0 || Page(page.descriptor - 1).folioHead == page.folioHead
  }

  /// Adds a bvec of an iterator that holds nothing. Not to be called on a full
  /// list.
  mutating func append(_ bvec: BVec, of iterator: borrowing IOVIter) throws(MemoryError) {
    try check(iterator)
    try makeRoom()
    retention = iterator.retention
    direction = iterator.direction
    set(count, bvec)
    count += 1
    length += bvec.length
  }

  // MARK: - Giving back

  /// Releases the bvecs from `first` on, as not dirty.
  mutating func removeLast(from first: Int) {
    drop(from: first, dirty: false)
    for index in first..<count { length -= self[index].length }
    count = first
    if count == 0 { (retention, direction) = (nil, nil) }
  }

  /// Marks all folios dirty, where a device may have written.
  func markDirty() {
    guard direction == .destination else { return }
    for index in 0..<count { self[index].markFoliosDirty() }
  }

  private func drop(from first: Int, dirty: Bool) {
    guard let retention else { return }
    for index in first..<count {
      let bvec = self[index]
      let holds = holdsRunsOnce ? 1 : bvec.pageCount
      switch retention {
      case .unretained:
        if dirty { bvec.markFoliosDirty() }
      case .pinned:
        unpinUserPageRangeDirtyLock(bvec.firstPage, count: holds, dirty: dirty)
      case .referenced:
        dropReferences(bvec.firstPage, holds)
      }
    }
  }

  /// A run lies in one folio: one atomic drops them all. No call of GUP's does
  /// that for references (folio_put_refs), so the accounts are kept here.
  private func dropReferences(_ page: Page, _ holds: Int) {
    let machine = memory.machine
    let frame = page.frameNumber.rawValue
    if Ledger.isOn, !page.mayDrop(.reference, count: holds, call: "folio_put_refs") { return }
    guard page.releaseIfHeld(.reference, count: holds) else { return }
    machine.count(CSHIMS_REFS_RELEASED, holds)
    unsafe machine.header.emit(.put, address: 0, frame: frame, pageCount: holds)
  }

  private func dropOne(_ page: Page, _ retention: Retention) {
    switch retention {
    case .unretained: break
    case .referenced: putPage(page)
    case .pinned: unpinUserPage(page)
    }
  }
}
