//===----------------------------------------------------------------------===//
// Extraction into bvecs: pages of one folio that follow each other become one
// bvec (semantics B.3).
//===----------------------------------------------------------------------===//

public import PageFrames

/// Extracted memory as bvecs, and what is held on its pages.
///
/// Holds of a bvec: one for each page that it touches, also where a page is cut
/// between two bvecs; with `holdsRunsOnce` one for the whole bvec. Move-only:
/// `release(dirty:)` drops them, or letting the value go, which releases as not
/// dirty. Keeps the machine alive. Reading is safe from any thread.
@safe
public struct BVecExtraction: ~Copyable, Sendable {
  let list: BVecList
  /// Why it ended where it did.
  public let stop: ExtractionStop
  /// What is held on each page.
  public let retention: Retention
  /// Which way the data goes.
  public let direction: Direction

  init(_ list: consuming BVecList, _ stop: ExtractionStop, of iterator: borrowing IOVIter) {
    self.list = list
    self.stop = stop
    self.retention = iterator.retention
    self.direction = iterator.direction
  }

  /// The machine that the pages belong to.
  public var memory: PhysicalMemory { list.memory }
  /// Bytes extracted; the iterator has advanced by as many.
  public var length: ByteCount { ByteCount(list.length) }
  /// How many bvecs there are.
  public var count: Int { list.count }
  public var isEmpty: Bool { list.count == 0 }
  /// Is there one hold a bvec, instead of one a page?
  public var holdsRunsOnce: Bool { list.holdsRunsOnce }

  /// - Precondition: 0 <= `index` < `count`.
  public subscript(index: Int) -> BVec { list[index] }

  /// Calls `body` with each bvec in order.
  public func forEachBVec<E: Error>(_ body: (BVec) throws(E) -> Void) throws(E) {
    for index in 0..<list.count { try body(list[index]) }
  }

  /// Drops what is held and frees the list.
  ///
  /// - Parameter dirty: the device wrote: marks the folios dirty before they are
  ///   let go. Ignored for a source.
  /// - Complexity: O(bvecs), one atomic for each folio's run.
  public consuming func release(dirty: Bool = false) { list.release(dirty: dirty) }
}

extension IOVIter {
  /// Extracts the next pages as bvecs, and advances (iov_iter_extract_bvecs).
  ///
  /// Goes on over segments until all bytes that were asked for are there, the
  /// list is full, or a page cannot be had. What was extracted until then is a
  /// result; `stop` says why it is no more.
  ///
  /// - Parameters:
  ///   - maxSize: the most bytes; one transfer moves at most 0x7ffff000.
  ///   - maxBVecs: the most bvecs.
  ///   - options: what to take beyond the ordinary.
  /// - Returns: the bvecs, owned; without any when nothing is left or `maxSize`
  ///   is 0.
  /// - Throws: EINVAL for negative limits or options that the dialect does not
  ///   have; ENOMEM for `maxBVecs` 0 on a non-empty request, or without memory
  ///   for the list; what `extractPages` throws, and EFAULT where it makes no
  ///   progress, when nothing was extracted. Then the iterator stands where it
  ///   stood.
  /// - Complexity: O(pages + segments).
  public mutating func extractBVecs(
    maxSize: ByteCount = .maximumTransfer, maxBVecs: Int = .max, options: ExtractionOptions = []
  ) throws(MemoryError) -> BVecExtraction {
    try extractBVecs(
      maxSize: maxSize, maxBVecs: maxBVecs, holdingRunsOnce: false, options: options)
  }

  mutating func extractBVecs(
    maxSize: ByteCount, maxBVecs: Int, holdingRunsOnce: Bool, options: ExtractionOptions
  ) throws(MemoryError) -> BVecExtraction {
    let wanted = min(maxSize, .maximumTransfer, count)
    guard wanted > 0, maxBVecs > 0 else {
      let stop = try emptyResult(maxSize, maxBVecs, options).stop
      let list = try BVecList(
        limit: 0, isFixed: true, holdsRunsOnce: holdingRunsOnce, memory: memory)
      return BVecExtraction(list, stop, of: self)
    }
    var request = self
    try request.truncate(to: wanted)
    let limit = max(1, request.pageCount(maxPages: PageCount(maxBVecs)).rawValue)
    var list = try BVecList(
      limit: limit, isFixed: false, holdsRunsOnce: holdingRunsOnce, memory: memory)
    let stop = try fill(&list, wanted.rawValue, joining: .sameFolio, options: options)
    return BVecExtraction(list, stop, of: self)
  }

  /// What `extractPages` says of a request that asks for nothing: the empty
  /// result, or what is wrong with it.
  mutating func emptyResult(
    _ maxSize: ByteCount, _ maxPages: Int, _ options: ExtractionOptions
  ) throws(MemoryError) -> ExtractionResult {
    try unsafe extractPages(
      into: UnsafeMutableBufferPointer(start: nil, count: 0), maxSize: maxSize,
      maxPages: PageCount(maxPages), options: options)
  }

  /// Adds rounds to a list until it has `wanted` more bytes (at most the count)
  /// or `maxBVecs` more bvecs, is full, or a round cannot add anything. Throws
  /// only if none did.
  mutating func fill(
    _ list: inout BVecList, _ wanted: Int, maxBVecs: Int = .max, block: Int = 1,
    joining: BVecJoining, options: ExtractionOptions
  ) throws(MemoryError) -> ExtractionStop {
    let start = list.length
    let firstBVec = list.count
    while true {
      let left = wanted - (list.length - start)
      let room = maxBVecs - (list.count - firstBVec)
      if left == 0 { return cursor.count == 0 ? .complete : .sizeLimit }
      if room == 0 || list.isFull { return .pageLimit }
      do throws(MemoryError) {
        let round = try list.take(
          from: &self, maxSize: left, maxBVecs: room, block: block, joining: joining,
          options: options)
        if round.length == 0 { throw round.stop.error(at: cursor) }
        if round.stop.isFinal { return round.stop }
      } catch {
        guard list.length > start else { throw error }
        return .fault(error)
      }
    }
  }
}

extension ExtractionStop {
  /// Would another round end at the same place, with nothing?
  fileprivate var isFinal: Bool {
    switch self {
    case .complete, .sizeLimit, .segmentEnd, .pageLimit: false
    default: true
    }
  }

  /// The error of a consumer that needs progress when a round made none.
  func error(at cursor: Cursor) -> MemoryError {
    if case .fault(let error) = self { return error }
    return MemoryError(.badAddress, .noProgress, cursor.consumed)
  }
}
