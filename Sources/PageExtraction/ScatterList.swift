//===----------------------------------------------------------------------===//
// ScatterList: what a device is given, a fixed number of entries that several
// extractions may fill one after the other (struct sg_table).
//===----------------------------------------------------------------------===//

public import PageFrames

/// A scatter list and what is held on its pages.
///
/// `entryCount` grows as extractions add entries (nents). `markEnd` marks the
/// last one and keeps the count that release and unmapping go by (orig_nents).
/// All entries are held alike: extractions with another retention, direction or
/// machine are refused. Move-only: `release(dirty:)` drops what is held, or
/// letting the value go, which releases as not dirty. Keeps the machine alive.
@safe
public struct ScatterList: ~Copyable, Sendable {
  /// One entry (struct scatterlist).
  public struct Entry: Equatable, Sendable {
    public let page: Page
    /// Bytes from the page's start, from 0.
    public let offset: Int
    /// Bytes, from 1; they may reach into the pages that follow.
    public let length: ByteCount
    /// Is it marked as the list's end (sg_is_last)?
    public let isLast: Bool
  }

  var list: BVecList
  /// Entries when the end was marked last; 0 before (orig_nents).
  public private(set) var originalEntryCount = 0
  /// Is an entry marked as the end? Then nothing can be added.
  public private(set) var isEnded = false

  /// An empty list with room for `capacity` entries (sg_alloc_table).
  ///
  /// - Throws: EINVAL for a negative capacity, ENOMEM.
  public init(capacity: Int, memory: PhysicalMemory) throws(MemoryError) {
    list = try BVecList(limit: capacity, isFixed: true, memory: memory)
  }

  /// The machine that the pages belong to.
  public var memory: PhysicalMemory { list.memory }
  /// The most entries.
  public var capacity: Int { list.limit }
  /// Entries in use (nents).
  public var entryCount: Int { list.count }
  /// Bytes that all entries cover.
  public var length: ByteCount { ByteCount(list.length) }
  /// What is held on each page, nil while there is no entry.
  public var retention: Retention? { list.retention }
  /// Which way the data goes, nil while there is no entry.
  public var direction: Direction? { list.direction }

  /// - Precondition: 0 <= `index` < `entryCount`.
  public subscript(index: Int) -> Entry {
    let bvec = list[index]
    return Entry(
      page: bvec.page, offset: bvec.offset, length: ByteCount(bvec.length),
      isLast: isEnded && index == list.count - 1)
  }

  /// Calls `body` with each entry in order.
  public func forEachEntry<E: Error>(_ body: (Entry) throws(E) -> Void) throws(E) {
    for index in 0..<list.count { try body(self[index]) }
  }

  /// Marks the last entry as the end (sg_mark_end). Extraction never does.
  ///
  /// - Throws: EINVAL for an empty list.
  public mutating func markEnd() throws(MemoryError) {
    guard list.count > 0 else { throw MemoryError(.invalid, .lengthNotPositive, 0) }
    isEnded = true
    originalEntryCount = list.count
  }

  /// Takes the mark away, so that entries can be added (sg_unmark_end).
  public mutating func unmarkEnd() { isEnded = false }

  /// Drops what is held and frees the list.
  ///
  /// - Parameter dirty: the device wrote: marks the folios dirty before they are
  ///   let go. Ignored for a source.
  /// - Complexity: O(entries).
  public consuming func release(dirty: Bool = false) { list.release(dirty: dirty) }
}

/// What an extraction added to a list that was there before.
public struct AdditionResult: Equatable, Sendable {
  /// Bytes that were added; the iterator has advanced by as many.
  public let length: ByteCount
  /// Why it ended where it did.
  public let stop: ExtractionStop

  public init(length: ByteCount, stop: ExtractionStop) {
    self.length = length
    self.stop = stop
  }
}

extension IOVIter {
  /// Adds the next pages to a scatter list, and advances (extract_iter_to_sg).
  ///
  /// User memory and KVEC become one entry a page, BVEC one a bvec, XARRAY and
  /// FOLIOQ one a folio; entries are never joined, and no end is marked.
  ///
  /// A user page that cannot be had fails the whole call: what this call took is
  /// given back, entries of earlier calls stay, and the iterator stands where it
  /// stood. A hole in an XARRAY ends it instead, and what came before stays.
  ///
  /// - Parameters:
  ///   - list: where to; entries that are there stay as they are.
  ///   - maxSize: the most bytes.
  ///   - maxEntries: the most entries, as far as the list has room.
  ///   - options: what to take beyond the ordinary.
  /// - Returns: the bytes added, and why no more; 0 bytes when `maxSize` or
  ///   `maxEntries` is 0, when nothing is left, and when the list is full.
  /// - Throws: EIO for PIPE and DISCARD; EFAULT for a kind that the dialect does
  ///   not have; EINVAL for negative limits, a list whose end is marked or whose
  ///   entries are held otherwise; what `extractPages` throws. Then list and
  ///   iterator are as they were.
  /// - Complexity: O(pages + segments).
  public mutating func extractToScatterList(
    _ list: inout ScatterList, maxSize: ByteCount = .maximumTransfer, maxEntries: Int = .max,
    options: ExtractionOptions = []
  ) throws(MemoryError) -> AdditionResult {
    guard maxEntries >= 0 else { throw MemoryError(.invalid, .countNegative, maxEntries) }
    let wanted = min(maxSize, .maximumTransfer, count)
    let empty = try emptyResult(min(maxSize, 0), 1, options).stop
    guard wanted > 0, maxEntries > 0 else {
      return AdditionResult(length: 0, stop: wanted > 0 ? .pageLimit : empty)
    }
    guard !list.isEnded else {
      throw MemoryError(.invalid, .inUse, list.entryCount)
    }
    try list.list.check(self)
    let start = list.list.length
    let stop =
      kind.isUserBacked
      ? try addUserPages(to: &list.list, wanted.rawValue, maxEntries, options)
      : try addSegments(to: &list.list, wanted.rawValue, maxEntries, options)
    return AdditionResult(length: ByteCount(list.list.length - start), stop: stop)
  }

  /// One entry a page, all or none.
  private mutating func addUserPages(
    to list: inout BVecList, _ wanted: Int, _ maxEntries: Int, _ options: ExtractionOptions
  ) throws(MemoryError) -> ExtractionStop {
    let before = cursor
    let first = list.count
    let stop = try fill(
      &list, wanted, maxBVecs: maxEntries, joining: .never, options: options)
    if case .fault(let error) = stop {
      list.removeLast(from: first)
      cursor = before
      throw error
    }
    return stop
  }

  /// One entry a segment, all or none; nothing is held.
  private mutating func addSegments(
    to list: inout BVecList, _ wanted: Int, _ maxEntries: Int, _ options: ExtractionOptions
  ) throws(MemoryError) -> ExtractionStop {
    try checkSegments()
    let before = cursor
    let first = list.count
    do throws(MemoryError) {
      return try appendSegments(to: &list, wanted, first, maxEntries)
    } catch {
      list.removeLast(from: first)
      cursor = before
      throw error
    }
  }

  private mutating func appendSegments(
    to list: inout BVecList, _ wanted: Int, _ first: Int, _ maxEntries: Int
  ) throws(MemoryError) -> ExtractionStop {
    var left = wanted
    var looks = 0
    while left > 0 {
      guard !list.isFull, list.count - first < maxEntries else { return .pageLimit }
      guard var segment = nextBVec else {
        if let stop = try stopHere() { return stop }
        // It came between two looks: look again, but not for ever.
        looks += 1
        if looks > 64 { throw MemoryError(.tryAgain, .noProgress, left) }
        continue
      }
      segment.length = min(segment.length, left)
      try list.append(segment, of: self)
      step(segment.length)
      left -= segment.length
    }
    return cursor.count == 0 ? .complete : .sizeLimit
  }
}
