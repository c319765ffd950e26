//===----------------------------------------------------------------------===//
// Extraction from what the kernel backs: pages are listed where they are, and
// nothing is held on them (B.4).
//===----------------------------------------------------------------------===//

internal import PageFrames

extension IOVIter {
  /// The memory of a kind that is not the user's, as one extraction may take it
  /// at most; nil when there is no room for any. `count` > 0, extractable.
  @inline(never)
  func kernelStretch(_ wanted: Int, _ maxPages: Int) -> Stretch? {
    switch backing {
    case .bvec(let segments):
      dialect == .rfc
        ? segments.stretch(at: cursor)
        : segments.joinedStretch(at: cursor, wanted: wanted, maxPages: maxPages)
    case .kvec(let segments): segments.stretch(at: cursor)
    case .folioQueue(let segments):
      segments.joinedStretch(at: cursor, wanted: wanted, maxPages: maxPages)
    case .xarray(let range): Stretch(start: range.position(at: cursor), length: cursor.count)
    case .pipe(let place): place.room(at: cursor).flatMap { $0.length > 0 ? $0 : nil }
    case .ubuf, .iovec, .discard: nil
    }
  }

  /// Why `kernelStretch` has none: only a pipe may.
  var noRoom: MemoryError {
    guard case .pipe(let place) = backing, place.room(at: cursor) != nil else {
      return MemoryError(.badAddress, .ringMoved, cursor.consumed)
    }
    return MemoryError(.badAddress, .ringFull, place.pipe.capacity)
  }

  /// Lists the pages and advances by what they hold.
  @inline(never)
  mutating func listPages(
    _ plan: ExtractionPlan, into list: UnsafeMutablePointer<Page?>
  ) throws(MemoryError) -> ExtractionResult {
    var listed = plan.slotCount
    var stop: ExtractionStop?
    switch backing {
    case .bvec(let segments):
      unsafe segments.fill(list, count: plan.slotCount, at: cursor)
    case .folioQueue(let segments):
      unsafe segments.fill(list, count: plan.slotCount, at: cursor)
    case .kvec(let segments):
      listed = unsafe segments.fill(
        list, count: plan.slotCount, from: plan.start, memory.machine)
      if listed < plan.slotCount {
        let address = (plan.start & ~0xfff) + UInt64(listed) << 12
        stop = .fault(MemoryError(.badAddress, .notKernelAddress, address))
      }
    case .xarray(let range):
      (listed, stop) = unsafe range.fill(
        list, count: plan.slotCount, at: cursor, memory.machine)
    case .pipe(let place): return try unsafe publish(plan, place, into: list)
    case .ubuf, .iovec, .discard: break
    }
    if listed == 0, case .fault(let error) = stop { throw error }
    let length = stop == nil ? plan.length : max(0, listed << pageShift - plan.offset)
    step(length)
    return result(plan, length, listed, stop, nil)
  }

  private mutating func publish(
    _ plan: ExtractionPlan, _ place: PipePlace, into list: UnsafeMutablePointer<Page?>
  ) throws(MemoryError) -> ExtractionResult {
    let (length, count, error, listing) = try unsafe place.publish(
      list, length: plan.length, &cursor)
    let end: ExtractionStop? = plan.end == .segment ? .ringFull : nil
    return result(plan, length, count, error.map { .fault($0) } ?? end, listing)
  }

  private func result(
    _ plan: ExtractionPlan, _ length: Int, _ count: Int, _ stop: ExtractionStop?,
    _ listing: PipeListingHandle?
  ) -> ExtractionResult {
    let outcome =
      stop.map { PackedOutcome($0, retention, direction) }
      ?? PackedOutcome(plan.end, left: cursor.count, retention, direction)
    return ExtractionResult(
      length: length, offset: length > 0 ? plan.offset : 0, pageCount: count, outcome,
      listing: listing)
  }
}
