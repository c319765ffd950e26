//===----------------------------------------------------------------------===//
// Detaching: a user iterator becomes one over its pages, which works without
// the program's address space and on any thread.
//===----------------------------------------------------------------------===//

public import PageFrames

/// An iterator over pages that a user iterator gave up, and what is held on them.
///
/// Move-only: `release(dirty:)` drops the holds, or letting the value go, which
/// releases as not dirty. Copies of `iterator` hold nothing: whoever makes one
/// uses it no longer than this value lives. Keeps the machine alive.
@safe
public struct DetachedIterator: ~Copyable, Sendable {
  /// A BVEC iterator over the pages, with the direction and the dialect of the
  /// one that gave them up. Its own extractions hold nothing.
  public var iterator: IOVIter
  /// Why there is no more of it.
  public let stop: ExtractionStop
  /// What is held on each page.
  public let retention: Retention
  let list: BVecList

  init(
    _ list: consuming BVecList, _ stop: ExtractionStop, of origin: borrowing IOVIter
  ) throws(MemoryError) {
    self.iterator = try IOVIter(
      bvec: list.bvecs, direction: origin.direction, memory: list.memory,
      dialect: origin.dialect)
    self.stop = stop
    self.retention = origin.retention
    self.list = list
  }

  /// The machine that the pages belong to.
  public var memory: PhysicalMemory { list.memory }
  /// Bytes that were detached, wherever `iterator` stands by now.
  public var length: ByteCount { ByteCount(list.length) }
  /// Pages listed, one bvec each: two parts of one page are two.
  public var pageCount: Int { list.count }
  /// The part of a page that a slot has.
  /// - Precondition: 0 <= `index` < `pageCount`.
  public subscript(index: Int) -> BVec { list[index] }

  /// Drops what is held and frees the list. `iterator` is gone with it.
  ///
  /// - Parameter dirty: the device wrote: marks the pages dirty before they are
  ///   let go. Ignored for a source.
  /// - Complexity: O(pages).
  public consuming func release(dirty: Bool = false) { list.release(dirty: dirty) }
}

extension IOVIter {
  /// Extracts pages into an iterator of their own, and advances
  /// (netfs_extract_user_iter). User memory only; one bvec a page.
  ///
  /// A page that cannot be had ends it: what came before is a result, as short
  /// as it may be. Without memory nothing is: then all is given back (F-25). The
  /// list has a slot for each page that the request can need, and no round takes
  /// more pages than slots are left (F-26).
  ///
  /// - Parameters:
  ///   - maxSize: the most bytes, all by default; may be more than one transfer
  ///     moves.
  ///   - options: what to take beyond the ordinary.
  /// - Returns: the pages, owned; none when nothing is left or `maxSize` is 0.
  /// - Throws: EIO for an iterator that is not user-backed; EINVAL for a negative
  ///   size or options that the dialect does not have; ENOMEM whenever memory
  ///   runs out, for the list or for a page; what `extractPages` throws when the
  ///   first page cannot be had. Then nothing is held and the iterator stands
  ///   where it stood.
  /// - Complexity: O(pages + segments).
  public mutating func detach(
    maxSize: ByteCount? = nil, options: ExtractionOptions = []
  ) throws(MemoryError) -> DetachedIterator {
    guard kind.isUserBacked else {
      throw MemoryError(.inputOutput, .unsupportedKind, Int(kind.rawValue))
    }
    let wanted = min(maxSize ?? count, count)
    guard wanted > 0 else {
      let stop = try emptyResult(wanted, 1, options).stop
      return try DetachedIterator(
        BVecList(limit: 0, isFixed: true, memory: memory), stop, of: self)
    }
    let before = cursor
    var request = self
    try request.truncate(to: wanted)
    var list = try BVecList(
      limit: request.pageCount().rawValue, isFixed: true, memory: memory)
    let stop = try fill(&list, wanted.rawValue, joining: .never, options: options)
    if case .fault(let error) = stop, error.number == .outOfMemory {
      cursor = before
      throw error
    }
    return try DetachedIterator(list, stop, of: self)
  }
}
