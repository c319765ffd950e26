//===----------------------------------------------------------------------===//
// Extraction from an iterator: plan, list, GUP, advance.
//
// The plan is made before anything is allocated or held: which address, how
// many bytes, how many slots, and what ends it if every page can be had. It is
// the only place where limits are applied, for all kinds; so `length <= maxSize`,
// slots are counted from the page offset, and a segment's end never lowers what
// a later segment may give (F-01, F-11, F-18).
//
// User memory is taken by GUP, plain pages by its walk without a call in between;
// the way through here is inlined and counts no object. What the kernel backs is
// listed without a hold (IOVIter+Listing.swift).
//===----------------------------------------------------------------------===//

internal import AddressSpaces
internal import GUP
public import PageFrames

extension IOVIter {
  /// Extracts the next pages into a list of their own, and advances
  /// (iov_iter_extract_pages).
  ///
  /// One call stays within one segment and may end early; `stop` says why. (In
  /// the upstream dialect bvecs that meet at page boundaries, and folios, are one
  /// segment.) Callers loop until the count is 0. An empty result from an iterator that
  /// has bytes left is no progress, not a reason to try again.
  ///
  /// - Parameters:
  ///   - maxSize: the most bytes; one transfer moves at most 0x7ffff000.
  ///   - maxPages: the most pages.
  ///   - options: what to take beyond the ordinary.
  /// - Returns: the pages, owned. Exactly as many slots are allocated as the
  ///   request can need; none for an empty result (nothing left, or `maxSize` 0).
  /// - Throws: EINVAL for negative limits or options that the dialect does not
  ///   have; EFAULT for a non-empty request of a kind that the dialect does not
  ///   extract, and for a pipe whose ring is full or ends elsewhere; ENOMEM for
  ///   `maxPages` 0 on a non-empty request, or without memory for the list or a
  ///   pipe's first page; what GUP throws when the first page cannot be had.
  ///   Then nothing is held or allocated and the iterator stands where it stood.
  /// - Complexity: O(pages + segments crossed).
  public mutating func extractPages(
    maxSize: ByteCount = .maximumTransfer, maxPages: PageCount = .unlimited,
    options: ExtractionOptions = []
  ) throws(MemoryError) -> Extraction {
    let (result, slots) = try unsafe extractToNewList(
      maxSize: maxSize, maxPages: maxPages, options: options)
    return unsafe Extraction(result, slots: slots, memory: memory)
  }

  /// The same without an owner: who calls it owes what the result holds, and
  /// frees the list by `cshims_free`. Nil for an empty result.
  @inline(__always)
  package mutating func extractToNewList(
    maxSize: ByteCount, maxPages: PageCount, options: ExtractionOptions
  ) throws(MemoryError) -> (ExtractionResult, UnsafeMutablePointer<Page?>?) {
    guard let plan = bufferPlan(maxSize, maxPages, options) else {
      return try unsafe extractCarefully(maxSize, maxPages, options)
    }
    let list = try PageBuffer(unfilled: plan.slotCount, machine: memory.machine)
    let result = try unsafe takeBuffer(plan, into: list.baseAddress)
    return unsafe (result, list.relinquish())
  }

  /// Extracts the next pages into the caller's list, from its first slot, and
  /// advances. Allocates nothing.
  ///
  /// - Parameters:
  ///   - list: slots of the caller's. Those that the result counts hold pages
  ///     afterwards; the others are indeterminate up to `maxPages`, untouched
  ///     beyond. Never freed here.
  ///   - maxSize: the most bytes.
  ///   - maxPages: the most pages; the list's length by default.
  ///   - options: what to take beyond the ordinary.
  /// - Returns: how much, and what the caller owes for it. With length 0 the
  ///   list is untouched.
  /// - Throws: as the other form, and EINVAL for a `maxPages` that the list has
  ///   no slots for. Then no slot holds anything.
  /// - Complexity: O(pages + segments crossed).
  public mutating func extractPages(
    into list: UnsafeMutableBufferPointer<Page?>, maxSize: ByteCount = .maximumTransfer,
    maxPages: PageCount? = nil, options: ExtractionOptions = []
  ) throws(MemoryError) -> ExtractionResult {
    try unsafe extract(into: list.baseAddress, list.count, maxSize, maxPages, options)
  }

  /// The same into a buffer of the caller's, whose count becomes the number of
  /// pages. A result of length 0 or an error leaves the buffer's count as it was.
  public mutating func extractPages(
    into list: inout PageBuffer, maxSize: ByteCount = .maximumTransfer,
    maxPages: PageCount? = nil, options: ExtractionOptions = []
  ) throws(MemoryError) -> ExtractionResult {
    let slots = unsafe UnsafeMutableBufferPointer(start: list.baseAddress, count: list.capacity)
    let result = try unsafe extractPages(
      into: slots, maxSize: maxSize, maxPages: maxPages, options: options)
    if result.pageCount > 0 { list.count = result.pageCount }
    return result
  }

  // MARK: - The parts

  @inline(__always)
  private mutating func extract(
    into base: UnsafeMutablePointer<Page?>?, _ slots: Int, _ maxSize: ByteCount,
    _ maxPages: PageCount?, _ options: ExtractionOptions
  ) throws(MemoryError) -> ExtractionResult {
    let maxPages = maxPages ?? PageCount(slots)
    guard maxPages.rawValue <= slots, let base = unsafe base,
      let plan = bufferPlan(maxSize, maxPages, options)
    else { return try unsafe extractCarefully(into: base, slots, maxSize, maxPages, options) }
    return try unsafe takeBuffer(plan, into: base)
  }

  // One buffer of the user's, the common case, goes a way of its own: what segments
  // need besides would be kept over the walk for nothing.

  /// As `userPlan`, for one buffer and no options.
  @inline(__always)
  private func bufferPlan(
    _ maxSize: ByteCount, _ maxPages: PageCount, _ options: ExtractionOptions
  ) -> ExtractionPlan? {
    let wanted = wanted(maxSize)
    guard case .ubuf(let buffer) = backing, wanted > 0, maxPages.rawValue > 0, options.isEmpty
    else { return nil }
    return ExtractionPlan(buffer.stretch(at: cursor), wanted, maxPages.rawValue, flags)
  }

  /// Takes the pages of the plan of one buffer and advances by what they hold.
  @inline(__always)
  private mutating func takeBuffer(
    _ plan: ExtractionPlan, into list: UnsafeMutablePointer<Page?>
  ) throws(MemoryError) -> ExtractionResult {
    let space = unsafe userSpace.unsafelyUnwrapped
    if plan.slotCount == 1 {
      let one = unsafe space.takeOne(retention, plan, into: list)
      guard case .taken = one else { return try unsafe finish(plan, list, one.spoiled, nil) }
    } else {
      let taken = unsafe space.takePages(retention, plan, into: list)
      guard taken == plan.slotCount else { return try unsafe finish(plan, list, nil, taken) }
    }
    cursor.stepInBuffer(plan.length)
    return result(plan)
  }

  /// The plan of a request for user memory. Nil for other kinds, when there is
  /// nothing to extract, and when the request is wrong.
  private func userPlan(
    _ maxSize: ByteCount, _ maxPages: PageCount, _ options: ExtractionOptions
  ) -> ExtractionPlan? {
    let wanted = wanted(maxSize)
    guard wanted > 0, maxPages.rawValue > 0, options.isEmpty || dialect == .upstream
    else { return nil }
    let next: Stretch
    switch backing {
    case .ubuf(let buffer): next = buffer.stretch(at: cursor)
    case .iovec(let segments): next = segments.stretch(at: cursor)
    default: return nil
    }
    return ExtractionPlan(
      next, wanted, maxPages.rawValue, options.isEmpty ? flags : flags.union(.pciP2PDMA))
  }

  /// The bytes that a request is for, at most.
  @inline(__always)
  private func wanted(_ maxSize: ByteCount) -> Int {
    min(maxSize.rawValue, ByteCount.maximumTransfer.rawValue, cursor.count)
  }

  /// What a plan of user memory gives when all its pages were taken.
  @inline(__always)
  private func result(_ plan: ExtractionPlan) -> ExtractionResult {
    ExtractionResult(
      length: plan.length, offset: plan.offset, pageCount: plan.slotCount,
      PackedOutcome(plan.end, left: cursor.count, retention, direction))
  }

  /// Takes the pages of a user plan and advances by what they hold.
  @inline(never)
  private mutating func take(
    _ plan: ExtractionPlan, into list: UnsafeMutablePointer<Page?>
  ) throws(MemoryError) -> ExtractionResult {
    let taken = unsafe userSpace.unsafelyUnwrapped.takePages(retention, plan, into: list)
    guard taken == plan.slotCount else { return try unsafe finish(plan, list, nil, taken) }
    step(plan.length)
    return result(plan)
  }

  /// Goes on behind what was plain of a plan.
  @inline(never)
  private mutating func finish(
    _ plan: ExtractionPlan, _ list: UnsafeMutablePointer<Page?>, _ spoiled: Page?, _ plain: Int?
  ) throws(MemoryError) -> ExtractionResult {
    let taken = try unsafe space.unsafelyUnwrapped.finishTake(
      retention.hold, UserAddress(plan.start), plan.slotCount, plan.flags, list, spoiled, plain)
    guard taken.pageCount < plan.slotCount else {
      step(plan.length)
      return result(plan)
    }
    let stop = taken.stop ?? MemoryError(.badAddress, .notPresent, plan.start)
    let length = taken.pageCount == 0 ? 0 : taken.pageCount << pageShift - plan.offset
    if length > 0 { step(length) }
    return ExtractionResult(
      length: length, offset: length > 0 ? plan.offset : 0, pageCount: taken.pageCount,
      PackedOutcome(.fault(stop), retention, direction))
  }

  // MARK: - Off the user's way

  // These take the iterator in place: a copy of it would cost the way above more
  // than all its arithmetic.

  /// Extracts what is not one buffer, or says what is wrong.
  @inline(never)
  private mutating func extractCarefully(
    _ maxSize: ByteCount, _ maxPages: PageCount, _ options: ExtractionOptions
  ) throws(MemoryError) -> (ExtractionResult, UnsafeMutablePointer<Page?>?) {
    let user = userPlan(maxSize, maxPages, options)
    guard let plan = user ?? kernelPlan(maxSize, maxPages, options) else {
      return try (refuseOrFinish(maxSize, maxPages, options), nil)
    }
    let list = try PageBuffer(unfilled: plan.slotCount, machine: memory.machine)
    let result =
      user != nil
      ? try unsafe take(plan, into: list.baseAddress)
      : try unsafe listPages(plan, into: list.baseAddress)
    guard result.pageCount > 0 else { return (result, nil) }
    return unsafe (result, list.relinquish())
  }

  /// The same into a list of the caller's.
  @inline(never)
  private mutating func extractCarefully(
    into base: UnsafeMutablePointer<Page?>?, _ slots: Int, _ maxSize: ByteCount,
    _ maxPages: PageCount, _ options: ExtractionOptions
  ) throws(MemoryError) -> ExtractionResult {
    let user = userPlan(maxSize, maxPages, options)
    guard let plan = user ?? kernelPlan(maxSize, maxPages, options) else {
      return try refuseOrFinish(maxSize, maxPages, options)
    }
    guard maxPages.rawValue <= slots, let base = unsafe base else {
      throw MemoryError(.invalid, .listTooShort, slots)
    }
    return user != nil ? try unsafe take(plan, into: base) : try unsafe listPages(plan, into: base)
  }

  /// The plan of a request for what is not user memory; nil as `userPlan`, and
  /// for kinds that the dialect does not extract.
  private func kernelPlan(
    _ maxSize: ByteCount, _ maxPages: PageCount, _ options: ExtractionOptions
  ) -> ExtractionPlan? {
    let wanted = wanted(maxSize)
    guard wanted > 0, maxPages.rawValue > 0, isExtractable,
      options.isEmpty || dialect == .upstream,
      let next = kernelStretch(wanted, maxPages.rawValue)
    else { return nil }
    return ExtractionPlan(next, wanted, maxPages.rawValue, [])
  }

  /// What there is to say about a request without a plan: what is wrong with
  /// it, or that there is nothing to extract.
  @inline(never)
  func refuseOrFinish(
    _ maxSize: ByteCount, _ maxPages: PageCount, _ options: ExtractionOptions
  ) throws(MemoryError) -> ExtractionResult {
    guard maxSize >= 0 else { throw MemoryError(.invalid, .countNegative, maxSize.rawValue) }
    guard maxPages >= 0 else { throw MemoryError(.invalid, .countNegative, maxPages.rawValue) }
    guard options.isEmpty || dialect == .upstream else {
      throw MemoryError(.invalid, .flagsNotForThisCall, Int(options.rawValue))
    }
    guard maxSize == 0 || cursor.count == 0 else {
      guard isExtractable else {
        throw MemoryError(.badAddress, .unsupportedKind, Int(kind.rawValue))
      }
      guard maxPages > 0 else { throw MemoryError(.outOfMemory, .pageLimitZero) }
      throw noRoom
    }
    return ExtractionResult(
      length: 0, offset: 0, pageCount: 0,
      PackedOutcome(cursor.count == 0 ? .complete : .sizeLimit, retention, direction))
  }
}

/// A request that needs at least one page.
struct ExtractionPlan {
  /// Where it starts, as `Stretch` says.
  let start: UInt64
  let length: Int
  let slotCount: Int
  let flags: GUPFlags
  /// What ends it if all slots get their pages.
  let end: PlannedEnd

  @inline(__always)
  var offset: Int { Int(truncatingIfNeeded: start & 0xfff) }

  /// - Parameters:
  ///   - next: the memory that comes next, not empty.
  ///   - wanted: the most bytes, above 0.
  ///   - maxPages: the most pages, above 0.
  @inline(__always)
  init(_ next: Stretch, _ wanted: Int, _ maxPages: Int, _ flags: GUPFlags) {
    let offset = Int(truncatingIfNeeded: next.start & 0xfff)
    var length = min(wanted, next.length)
    var slots = pages(covering: length, from: next.start)
    var end: PlannedEnd = length < wanted ? .segment : .request
    if slots > maxPages {
      slots = maxPages
      length = slots &<< pageShift &- offset
      end = .pages
    }
    self.start = next.start
    self.length = length
    self.slotCount = slots
    self.flags = flags
    self.end = end
  }
}

/// What ends an extraction that gets all its pages.
enum PlannedEnd {
  /// All bytes that the request is for.
  case request
  case segment
  case pages
}
