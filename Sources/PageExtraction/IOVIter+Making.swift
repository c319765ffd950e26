//===----------------------------------------------------------------------===//
// Making iterators: one initialiser for each kind, which refuses with EINVAL
// what no later call could use (semantics 1.2).
//===----------------------------------------------------------------------===//

public import AddressSpaces
public import PageFrames

extension IOVIter {
  // MARK: - User memory

  /// An iterator over one user buffer (iov_iter_ubuf).
  ///
  /// - Parameters:
  ///   - base: where the buffer starts; need not be mapped, or aligned.
  ///   - count: its length in bytes, from 0.
  ///   - direction: which way data will go.
  ///   - space: the address space of `base`.
  ///   - dialect: whose rules extractions follow; the machine's default for nil.
  /// - Throws: EINVAL for a negative count or a range that wraps.
  public init(
    ubuf base: UserAddress, count: ByteCount, direction: Direction, in space: AddressSpace,
    dialect: Dialect? = nil
  ) throws(MemoryError) {
    try UserSegment(base: base, length: count).check()
    self.init(
      .ubuf(UserBuffer(base: base.rawValue)), count: count.rawValue, direction: direction,
      in: space, dialect: dialect ?? space.memory.defaultDialect)
  }

  /// An iterator over user segments (iov_iter_init).
  ///
  /// - Parameters:
  ///   - segments: at most 1,024; those without bytes are transparent.
  ///   - count: the bytes to cover, all by default.
  ///   - direction: which way data will go.
  ///   - space: the address space of the segments.
  ///   - dialect: whose rules extractions follow; the machine's default for nil.
  /// - Throws: EINVAL for too many segments, a negative length, lengths whose
  ///   sum overflows, a range that wraps, or a count that is negative or more
  ///   than the segments hold (the kernel would stop on it later: A-06, F-12).
  /// - Complexity: O(segments).
  public init(
    iovec segments: [UserSegment], count: ByteCount? = nil, direction: Direction,
    in space: AddressSpace, dialect: Dialect? = nil
  ) throws(MemoryError) {
    try self.init(
      SegmentList(segments), count: count, direction: direction, in: space, dialect: dialect)
  }

  init(
    _ segments: SegmentList<UserSegment>, count: ByteCount?, direction: Direction,
    in space: AddressSpace, dialect: Dialect?
  ) throws(MemoryError) {
    let count = try IOVIter.checked(
      count, atMost: Segments<UserSegment>.checkedTotal(of: segments))
    self.init(
      .iovec(Segments(list: segments)), count: count, direction: direction, in: space,
      dialect: dialect ?? space.memory.defaultDialect)
  }

  init(
    _ backing: Backing, count: Int, direction: Direction, in space: AddressSpace,
    dialect: Dialect
  ) {
    self.init(
      backing, at: Cursor(count: count), direction, space.memory, space, dialect)
  }

  // MARK: - Memory of the machine

  /// An iterator over segments of physical memory (iov_iter_bvec).
  ///
  /// - Parameters:
  ///   - segments: any number; those without bytes are transparent.
  ///   - count: the bytes to cover, all by default.
  ///   - direction: which way data will go.
  ///   - memory: the machine of all pages.
  ///   - dialect: whose rules extractions follow; the machine's default for nil.
  /// - Throws: EINVAL for a page of another machine, a segment with a negative
  ///   offset or length or one that reaches beyond the machine's last frame,
  ///   lengths whose sum overflows, or a count that is negative or more than the
  ///   segments hold (F-12).
  /// - Complexity: O(segments).
  public init(
    bvec segments: [BVec], count: ByteCount? = nil, direction: Direction,
    memory: PhysicalMemory, dialect: Dialect? = nil
  ) throws(MemoryError) {
    try self.init(
      SegmentList(segments), count: count, direction: direction, memory: memory,
      dialect: dialect)
  }

  init(
    _ segments: SegmentList<BVec>, count: ByteCount?, direction: Direction,
    memory: PhysicalMemory, dialect: Dialect?
  ) throws(MemoryError) {
    for index in 0..<segments.count { try segments[index].check(memory.machine) }
    let count = try IOVIter.checked(count, atMost: Segments<BVec>.total(of: segments))
    self.init(
      .bvec(Segments(list: segments)), at: Cursor(count: count), direction, memory, nil,
      dialect ?? memory.defaultDialect)
  }

  /// An iterator over segments of the library's own addresses (iov_iter_kvec).
  /// Extraction is of the upstream dialect only.
  ///
  /// - Parameters:
  ///   - segments: any number, each in the window (`Page.bytes`) or in one
  ///     `VirtualMapping`; those without bytes are transparent.
  ///   - count: the bytes to cover, all by default.
  ///   - direction: which way data will go.
  ///   - memory: the machine of all addresses.
  ///   - dialect: whose rules extractions follow.
  /// - Throws: EINVAL for an address of neither, a segment that reaches beyond
  ///   what it starts in, a negative length, lengths whose sum overflows, or a
  ///   count that is negative or more than the segments hold.
  /// - Complexity: O(segments), and O(pages) in virtual mappings.
  public init(
    kvec segments: [KVec], count: ByteCount? = nil, direction: Direction,
    memory: PhysicalMemory, dialect: Dialect = .upstream
  ) throws(MemoryError) {
    try self.init(
      SegmentList(segments), count: count, direction: direction, memory: memory,
      dialect: dialect)
  }

  init(
    _ segments: SegmentList<KVec>, count: ByteCount?, direction: Direction,
    memory: PhysicalMemory, dialect: Dialect
  ) throws(MemoryError) {
    let total = try Segments<KVec>.total(of: segments)
    for index in 0..<segments.count { try segments[index].check(memory.machine) }
    let count = try IOVIter.checked(count, atMost: total)
    self.init(
      .kvec(Segments(list: segments)), at: Cursor(count: count), direction, memory, nil, dialect)
  }

  /// An iterator over a range of a page cache (iov_iter_xarray).
  ///
  /// - Parameters:
  ///   - pages: the index of its pages. It outlives the iterator.
  ///   - start: the position in bytes that the range starts at.
  ///   - count: its length in bytes, from 0.
  ///   - direction: which way data will go.
  ///   - memory: the machine of its pages; one of another ends an extraction.
  ///   - dialect: whose rules extractions follow; the machine's default for nil.
  /// - Throws: EINVAL for a negative start or count, or a range that wraps.
  public init(
    xarray pages: XArray, start: ByteCount, count: ByteCount, direction: Direction,
    memory: PhysicalMemory, dialect: Dialect? = nil
  ) throws(MemoryError) {
    guard start >= 0 else { throw MemoryError(.invalid, .positionOutOfRange, start.rawValue) }
    let count = try IOVIter.checked(count, atMost: Int.max)
    guard !start.rawValue.addingReportingOverflow(count).overflow else {
      throw MemoryError(.invalid, .rangeWraps, start.rawValue)
    }
    self.init(
      .xarray(FileRange(pages: pages, start: UInt64(start.rawValue))), at: Cursor(count: count),
      direction, memory, nil, dialect ?? memory.defaultDialect)
  }

  /// An iterator over a queue of folios (iov_iter_folio_queue). Extraction is of
  /// the upstream dialect only.
  ///
  /// - Parameters:
  ///   - queue: the folios; what is appended later is not seen.
  ///   - slot: the folio to start in.
  ///   - offset: the byte to start at in it.
  ///   - count: the bytes to cover, all by default.
  ///   - direction: which way data will go.
  ///   - memory: the machine of all folios.
  ///   - dialect: whose rules extractions follow.
  /// - Throws: EINVAL for a folio of another machine, a start outside the queue,
  ///   or a count that is negative or more than there is behind the start.
  /// - Complexity: O(folios).
  public init(
    folioQueue queue: FolioQueue, slot: Int = 0, offset: ByteCount = 0,
    count: ByteCount? = nil, direction: Direction, memory: PhysicalMemory,
    dialect: Dialect = .upstream
  ) throws(MemoryError) {
    try self.init(
      SegmentList(queue.folios), slot: slot, offset: offset, count: count,
      direction: direction, memory: memory, dialect: dialect)
  }

  init(
    _ folios: SegmentList<QueuedFolio>, slot: Int, offset: ByteCount, count: ByteCount?,
    direction: Direction, memory: PhysicalMemory, dialect: Dialect
  ) throws(MemoryError) {
    for index in 0..<folios.count where !memory.machine.owns(folios[index].basePage) {
      throw MemoryError(
        .invalid, .machineMismatch, folios[index].basePage.frameNumber.rawValue)
    }
    guard slot >= 0, slot <= folios.count else {
      throw MemoryError(.invalid, .positionOutOfRange, slot)
    }
    guard offset >= 0, offset.rawValue <= (slot < folios.count ? folios[slot].byteLength : 0) else {
      throw MemoryError(.invalid, .positionOutOfRange, offset.rawValue)
    }
    let total = try Segments<QueuedFolio>.total(of: folios)
    var before = offset.rawValue
    for index in 0..<slot { before += folios[index].byteLength }
    var cursor = try Cursor(count: IOVIter.checked(count, atMost: total - before))
    (cursor.index, cursor.offset) = (slot, offset.rawValue)
    self.init(
      .folioQueue(Segments(list: folios, before: before)), at: cursor, direction, memory, nil,
      dialect)
  }

  /// An iterator that appends to a pipe's ring (iov_iter_pipe). Extraction is of
  /// the RFC's dialect only.
  ///
  /// The ring grows by what is extracted or copied, and shrinks when the
  /// iterator goes back. Whatever else appends to it ends that (A.8.3).
  ///
  /// - Parameters:
  ///   - pipe: where to; its end is the iterator's start.
  ///   - count: the most bytes, from 0.
  ///   - direction: data only goes into a pipe.
  ///   - dialect: whose rules extractions follow; the machine's default if nil.
  /// - Throws: EINVAL for a source or a negative count.
  public init(
    pipe: Pipe, count: ByteCount, direction: Direction = .destination, dialect: Dialect? = nil
  ) throws(MemoryError) {
    try Kind.pipe.check(direction)
    var cursor = try Cursor(count: IOVIter.checked(count, atMost: Int.max))
    let head = pipe.locked { pipe.head }
    cursor.index = head
    self.init(
      .pipe(PipePlace(pipe: pipe, startHead: head)), at: cursor, direction, pipe.memory, nil,
      dialect ?? pipe.memory.defaultDialect)
  }

  /// An iterator that drops what goes into it (iov_iter_discard).
  ///
  /// - Throws: EINVAL for a source or a negative count.
  public init(
    discard count: ByteCount, direction: Direction = .destination, memory: PhysicalMemory,
    dialect: Dialect? = nil
  ) throws(MemoryError) {
    try Kind.discard.check(direction)
    self.init(
      .discard, at: Cursor(count: try IOVIter.checked(count, atMost: Int.max)), direction, memory,
      nil, dialect ?? memory.defaultDialect)
  }

  private static func checked(_ count: ByteCount?, atMost total: Int) throws(MemoryError) -> Int {
    let count = count?.rawValue ?? total
    guard count >= 0 else { throw MemoryError(.invalid, .countNegative, count) }
    guard count <= total else { throw MemoryError(.invalid, .countBeyondSegments, count) }
    return count
  }
}

extension IOVIter.Kind {
  fileprivate func check(_ direction: Direction) throws(MemoryError) {
    guard takes(direction) else {
      throw MemoryError(.invalid, .directionMismatch, Int(direction.rawValue))
    }
  }
}
