//===----------------------------------------------------------------------===//
// Bio: one transfer to or from a block device, gathered from iterators until it
// is full (struct bio).
//===----------------------------------------------------------------------===//

public import PageFrames

/// A block transfer's memory and what is held on its pages.
///
/// Gathers bvecs, joining pages of one folio that follow each other. A bvec holds
/// each page that it touches once, also where two additions met inside one page.
/// All iterators must be held alike: others are refused. A BVEC iterator is
/// borrowed as a whole, without extraction; its maker keeps the pages alive.
///
/// Move-only: `release(dirty:)` drops what is held, or letting the value go,
/// which releases as not dirty. Keeps the machine alive.
@safe
public struct Bio: ~Copyable, Sendable {
  private var list: BVecList
  private var borrowed: IOVIter?
  private let blockSize: Int

  /// Bvecs of an ordinary transfer (BIO_MAX_VECS).
  public static var defaultCapacity: Int { 256 }
  /// The most bytes of one transfer (bi_size is 32 bits wide).
  public static var maximumLength: ByteCount { ByteCount(Int(UInt32.max)) }

  /// An empty transfer (bio_init).
  ///
  /// - Parameters:
  ///   - maxBVecs: room for bvecs, from 0.
  ///   - logicalBlockSize: extractions add whole multiples of this many bytes;
  ///     a power of two, the device's sector size.
  /// - Throws: EINVAL for a negative room or another block size, ENOMEM.
  public init(
    memory: PhysicalMemory, maxBVecs: Int = Bio.defaultCapacity,
    logicalBlockSize: ByteCount = 512
  ) throws(MemoryError) {
    let block = logicalBlockSize.rawValue
    guard block > 0, block & (block - 1) == 0 else {
      throw MemoryError(.invalid, .alignmentInvalid, block)
    }
    list = try BVecList(limit: maxBVecs, isFixed: true, memory: memory)
    blockSize = block
  }

  /// The machine that the pages belong to.
  public var memory: PhysicalMemory { list.memory }
  /// Bytes gathered (bi_size).
  public var length: ByteCount { borrowed?.count ?? ByteCount(list.length) }
  /// Bvecs (bi_vcnt); of a borrowed iterator all that it has from its place on.
  public var bvecCount: Int { borrowed?.segmentCount ?? list.count }
  /// Is it a whole BVEC iterator, not extracted (BIO_CLONED)?
  public var isBorrowed: Bool { borrowed != nil }
  /// Can nothing be added?
  public var isFull: Bool { isBorrowed || list.isFull }
  /// What is held on each page, nil while there is none.
  public var retention: Retention? { borrowed?.retention ?? list.retention }
  /// Which way the data goes, nil while there is none.
  public var direction: Direction? { borrowed?.direction ?? list.direction }

  /// Calls `body` with each bvec that has bytes, in order.
  public func forEachBVec<E: Error>(_ body: (BVec) throws(E) -> Void) throws(E) {
    guard var walk = borrowed else {
      for index in 0..<list.count { try body(list[index]) }
      return
    }
    while walk.count > 0, let next = walk.nextBVec {
      try body(next)
      walk.step(next.length)
    }
  }

  /// The bvec with bytes at a place in their order; nil where there is none.
  /// - Complexity: O(1); of a borrowed iterator O(`index`).
  package func bvec(at index: Int) -> BVec? {
    guard var walk = borrowed else {
      return index >= 0 && index < list.count ? list[index] : nil
    }
    var left = index
    while left >= 0, walk.count > 0, let next = walk.nextBVec {
      if left == 0 { return next }
      left -= 1
      walk.step(next.length)
    }
    return nil
  }

  /// Adds pages until the iterator has no bytes left or this is full, and
  /// advances it (bio_iov_iter_get_pages).
  ///
  /// What an extraction has beyond the last whole block is given back, and the
  /// iterator stands before it: a segment that ends inside a block is not joined
  /// with the next one.
  ///
  /// - Parameters:
  ///   - iterator: where from. A BVEC iterator is taken whole, and only by an
  ///     empty transfer; it then has no bytes left.
  ///   - options: what to take beyond the ordinary.
  /// - Returns: the bytes added, and why no more. Adding anything is a success,
  ///   whatever stopped it; 0 bytes when nothing is left, and when this is full.
  /// - Throws: EINVAL when it is a borrowed iterator already or holds something
  ///   that is held otherwise, for another machine's memory, and for a BVEC
  ///   iterator that this has no room for; EFAULT when there is not one whole
  ///   block or no progress; what `extractPages` throws. Then nothing was added
  ///   and the iterator stands where it stood.
  /// - Complexity: O(pages + segments); O(1) for BVEC.
  public mutating func addPages(
    from iterator: inout IOVIter, options: ExtractionOptions = []
  ) throws(MemoryError) -> AdditionResult {
    try list.check(iterator)
    guard iterator.count > 0 else { return AdditionResult(length: 0, stop: .complete) }
    guard !isBorrowed else { throw MemoryError(.invalid, .inUse, bvecCount) }
    if iterator.kind == .bvec { return try borrow(&iterator) }
    let start = list.length
    let room = Bio.maximumLength.rawValue - start
    let stop = try iterator.fill(
      &list, min(room, iterator.count.rawValue), block: blockSize, joining: .sameFolio,
      options: options)
    return AdditionResult(length: ByteCount(list.length - start), stop: stop)
  }

  private mutating func borrow(_ iterator: inout IOVIter) throws(MemoryError) -> AdditionResult {
    guard list.count == 0 else { throw MemoryError(.invalid, .inUse, list.count) }
    let length = iterator.count
    guard length <= Bio.maximumLength else {
      throw MemoryError(.invalid, .transferTooLarge, length.rawValue)
    }
    borrowed = iterator
    try iterator.advance(by: length)
    return AdditionResult(length: length, stop: .complete)
  }

  /// Marks the folios of a destination dirty before the device writes, so that
  /// nothing takes them for clean meanwhile (bio_set_pages_dirty). Those that
  /// were written back during the transfer are marked again by `release`.
  public func markPagesDirty() {
    guard direction == .destination else { return }
    forEachBVec { $0.markFoliosDirty() }
  }

  /// Drops what is held and frees the list (bio_release_pages): for each bvec as
  /// many holds as pages it touches, floor((o + l - 1) / P) - floor(o / P) + 1.
  ///
  /// - Parameter dirty: the device wrote: marks the folios dirty before they are
  ///   let go. Ignored for a source.
  /// - Complexity: O(bvecs), one atomic for each.
  public consuming func release(dirty: Bool = false) {
    if dirty, isBorrowed { markPagesDirty() }
    list.release(dirty: dirty)
  }
}
