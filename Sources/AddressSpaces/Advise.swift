//===----------------------------------------------------------------------===//
// Advise: madvise. Which advice there is, what it does, and what Linux answers
// when it does not fit.
//===----------------------------------------------------------------------===//

internal import CShims
internal import Events
public import PageFrames

/// What madvise can be told, with Linux's numbers.
public enum Advice: Int32, Sendable, Hashable, CaseIterable {
  /// No special treatment (MADV_NORMAL).
  case normal = 0
  case random = 1
  case sequential = 2
  case willNeed = 3
  /// Drop the pages now: private memory reads as zeroes afterwards, shared
  /// memory keeps its bytes.
  case dontNeed = 4
  /// The contents are not needed any more and may be dropped when memory is
  /// short: by `PhysicalMemory.reclaim`, until the next store to the page cancels
  /// it. Private anonymous areas that are not locked only.
  case free = 8
  /// fork leaves the range out.
  case dontFork = 10
  /// Undoes `dontFork`; EINVAL on device areas.
  case doFork = 11
  /// Stores into untouched private memory bring in 2 MiB leaves; no effect on
  /// other memory. `AddressSpace.advise(_:length:folios:)` asks for other sizes.
  case hugePage = 14
  /// Undoes `hugePage` and every other size, and forbids `collapse`.
  case noHugePage = 15
  /// A child finds the range empty. Private anonymous areas only.
  case wipeOnFork = 18
  /// Undoes `wipeOnFork`.
  case keepOnFork = 19
  /// Accepted; reclaim takes what it may in address order. EINVAL on locked areas.
  case cold = 20
  /// Reclaim the range now: what reclaim may take of it (there is no swap). EINVAL
  /// on locked areas.
  case pageOut = 21
  /// Fault every page in for reading, and show it.
  case populateRead = 22
  /// Fault every page in for writing, and show it.
  case populateWrite = 23
  /// As `dontNeed`, also on locked areas (MADV_DONTNEED_LOCKED).
  case dontNeedLocked = 24
  /// Make each whole 2 MiB of the range, where anything of it is there, one leaf
  /// with the same bytes. Private anonymous areas that allow it only, else EINVAL;
  /// EAGAIN where somebody holds a page.
  case collapse = 25
}

extension MM {
  /// The body of `AddressSpace.advise`, under the mmap lock. As Linux does, it
  /// does what it can, and reports ENOMEM when it met a hole.
  func advise(_ start: UInt64, _ end: UInt64, _ advice: Advice) throws(MemoryError) {
    var hole: UInt64? = nil
    var address = start
    while address < end {
      guard let node = unsafe state.pointee.areas.first(atOrAfter: address),
        unsafe node.pointee.start < end
      else {
        hole = hole ?? address
        break
      }
      if unsafe node.pointee.start > address {
        hole = hole ?? address
        // Populating stops at a hole, everything else steps over it.
        if advice == .populateRead || advice == .populateWrite { break }
        address = unsafe node.pointee.start
      }
      let stop = unsafe min(end, node.pointee.end)
      unsafe try advise(area: node, address, stop, advice)
      address = stop
    }
    unsafe machine.header.emit(.advise, address: start, pageCount: Int((end - start) >> 12))
    if let hole { throw MemoryError(.outOfMemory, .notMapped, hole) }
  }

  private func advise(
    area node: AreaNode, _ start: UInt64, _ end: UInt64, _ advice: Advice
  ) throws(MemoryError) {
    let flags = unsafe node.pointee.payload.flags
    let device = flags.contains(.io) || flags.contains(.pfnMap)
    func refuse() -> MemoryError { MemoryError(.invalid, .adviceNotApplicable, start) }
    switch advice {
    case .normal, .random, .sequential, .willNeed:
      break
    case .cold, .pageOut:
      if !flags.isDisjoint(with: AreaFlags.pfnMap.union(.hugetlb).union(.locked)) { throw refuse() }
      if advice == .pageOut { evictRange(start, end) }
    case .dontNeed, .dontNeedLocked:
      if flags.contains(.pfnMap) || flags.contains(.locked) && advice == .dontNeed {
        throw refuse()
      }
      zapPages(start, end)
    case .free:
      if !flags.contains(.anonymous) || !flags.isDisjoint(with: AreaFlags.pfnMap.union(.locked)) {
        throw refuse()
      }
      freeLazily(start, end)
    case .dontFork:
      try setFlags(start, end, flags.union(.dontFork))
    case .doFork:
      if flags.contains(.io) { throw refuse() }
      try setFlags(start, end, flags.subtracting(.dontFork))
    case .wipeOnFork:
      guard flags.contains(.anonymous) else { throw refuse() }
      try setFlags(start, end, flags.union(.wipeOnFork))
    case .keepOnFork:
      try setFlags(start, end, flags.subtracting(.wipeOnFork))
    case .hugePage where flags.contains(.adopted), .collapse where flags.contains(.adopted):
      // Malloc's pages come and go one by one.
      throw refuse()
    case .hugePage:
      try setFlags(start, end, flags.subtracting(.allFolioFlags).union(.hugePage))
    case .noHugePage:
      try setFlags(start, end, flags.subtracting(.allFolioFlags).union(.noHugePage))
    case .collapse:
      try unsafe collapse(start, end, in: node.pointee.payload)
    case .populateRead, .populateWrite:
      if device || flags.contains(.secret) { throw refuse() }
      try populate(start, end, write: advice == .populateWrite)
    }
  }

  /// The body of `AddressSpace.advise(_:length:folios:)`, under the mmap lock.
  func advise(_ start: UInt64, _ end: UInt64, folios: AreaFlags) throws(MemoryError) {
    var address = start
    while address < end {
      guard let area = unsafe area(containing: address)?.pointee else {
        throw MemoryError(.outOfMemory, .notMapped, address)
      }
      guard area.flags.contains(.anonymous) else {
        throw MemoryError(.invalid, .anonymousOnly, address)
      }
      guard folios.isEmpty || !area.flags.contains(.adopted) else {
        throw MemoryError(.invalid, .adviceNotApplicable, address)
      }
      address = area.end
    }
    address = start
    while address < end, let area = unsafe area(containing: address)?.pointee {
      let stop = min(end, area.end)
      try setFlags(address, stop, area.flags.subtracting(.allFolioFlags).union(folios))
      address = stop
    }
    unsafe machine.header.emit(.advise, address: start, pageCount: Int((end - start) >> 12))
  }

  func setFlags(
    _ start: UInt64, _ end: UInt64, _ flags: AreaFlags
  ) throws(MemoryError) {
    // What changes nothing splits nothing, above all no leaf.
    if let area = unsafe area(containing: start), unsafe area.pointee.flags == flags { return }
    guard var reserve = makeNodes(splitsNeeded(start, end)) else {
      throw MemoryError(.outOfMemory, .metadataExhausted, end - start)
    }
    defer { discard(&reserve) }
    splitArea(at: start, &reserve)
    splitArea(at: end, &reserve)
    if let area = unsafe area(containing: start) { unsafe area.pointee.flags = flags }
    mergeAreas(start, end)
  }

  /// Faults [start, end) of one area in and shows it.
  private func populate(_ start: UInt64, _ end: UInt64, write: Bool) throws(MemoryError) {
    guard let area = unsafe area(containing: start) else { return }
    let needed: AreaFlags = write ? .write : .read
    guard unsafe area.pointee.flags.contains(needed) else {
      throw MemoryError(.invalid, write ? .writeForbidden : .readForbidden, start)
    }
    let result = unsafe handleFault(
      at: start, pages: Int((end - start) >> 12), in: area, access: write ? .write : .read)
    let done = start + UInt64(result.pages) << 12
    let error = reveal(start, done)
    if let failure = result.outcome.error(at: done) { throw failure }
    if error != 0 { throw MemoryError.host(error) }
  }
}

extension FaultOutcome {
  /// The error for an access at `address` that ended so; nil when it was done.
  public func error(at address: UInt64) -> MemoryError? {
    switch self {
    case .done: nil
    case .forbidden: MemoryError(.badAddress, .readForbidden, address)
    case .outOfMemory: MemoryError(.outOfMemory, .framesExhausted, address)
    case .outOfMetadata: MemoryError(.outOfMemory, .metadataExhausted, address)
    case .hostRefused: MemoryError(.outOfMemory, .hostRefused, address)
    case .busError: MemoryError(.badAddress, .busError, address)
    }
  }
}
