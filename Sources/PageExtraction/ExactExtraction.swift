//===----------------------------------------------------------------------===//
// Extraction of all bytes or none, for transfers that cannot be short.
//===----------------------------------------------------------------------===//

public import PageFrames

extension IOVIter {
  /// Extracts exactly `length` bytes by one extraction, and advances; or holds
  /// nothing and stays (what bio_integrity_map_user does).
  ///
  /// As any single extraction it stays within one segment: bytes that lie in
  /// several cannot be had this way, but by `extractBVecsExactly`.
  ///
  /// - Parameters:
  ///   - length: bytes, at most the count.
  ///   - maxPages: the most pages.
  ///   - options: what to take beyond the ordinary.
  /// - Throws: EINVAL for a length that is negative or more than the count; what
  ///   `extractPages` throws; EFAULT when only a part can be had, with the fault
  ///   that ended it, or else the bytes that could be had as the value.
  /// - Complexity: O(pages + segments crossed).
  public mutating func extractPagesExactly(
    _ length: ByteCount, maxPages: PageCount = .unlimited, options: ExtractionOptions = []
  ) throws(MemoryError) -> Extraction {
    let (result, slots) = try unsafe extractExactlyToNewList(
      length, maxPages: maxPages, options: options)
    return unsafe Extraction(result, slots: slots, memory: memory)
  }

  /// The same without an owner; see `extractToNewList`.
  package mutating func extractExactlyToNewList(
    _ length: ByteCount, maxPages: PageCount, options: ExtractionOptions
  ) throws(MemoryError) -> (ExtractionResult, UnsafeMutablePointer<Page?>?) {
    try checkExact(length)
    let before = cursor
    let (result, slots) = try unsafe extractToNewList(
      maxSize: length, maxPages: maxPages, options: options)
    guard result.length == length else {
      unsafe Extraction(result, slots: slots, memory: memory).release()
      try takeBack(result.length, to: before)
      throw result.stop.shortfall(result.length)
    }
    return unsafe (result, slots)
  }

  /// Extracts exactly `length` bytes from as many segments as they lie in, and
  /// advances; or holds nothing and stays.
  ///
  /// Each bvec holds its folio once: a run of pages in one folio needs one hold,
  /// and those of its later pages are dropped as they are joined.
  ///
  /// - Parameters:
  ///   - length: bytes, at most the count and 0x7ffff000.
  ///   - maxBVecs: the most bvecs.
  ///   - options: what to take beyond the ordinary.
  /// - Throws: as the other form, and as `extractBVecs`.
  /// - Complexity: O(pages + segments).
  public mutating func extractBVecsExactly(
    _ length: ByteCount, maxBVecs: Int = .max, options: ExtractionOptions = []
  ) throws(MemoryError) -> BVecExtraction {
    try checkExact(length)
    let before = cursor
    let extraction = try extractBVecs(
      maxSize: length, maxBVecs: maxBVecs, holdingRunsOnce: true, options: options)
    guard extraction.length == length else {
      let (length, stop) = (extraction.length, extraction.stop)
      extraction.release()
      try takeBack(length, to: before)
      throw stop.shortfall(length)
    }
    return extraction
  }

  private func checkExact(_ length: ByteCount) throws(MemoryError) {
    guard length >= 0 else { throw MemoryError(.invalid, .countNegative, length.rawValue) }
    guard length <= count else { throw MemoryError(.invalid, .countTooLarge, length.rawValue) }
  }

  /// Undoes an advance by `length` bytes from `before`.
  mutating func takeBack(_ length: ByteCount, to before: Cursor) throws(MemoryError) {
    // A pipe must take back what it published, too.
    guard kind == .pipe else {
      cursor = before
      return
    }
    try revert(by: length)
  }
}

extension ExtractionStop {
  /// The error of a consumer that needed more than `length` bytes.
  fileprivate func shortfall(_ length: ByteCount) -> MemoryError {
    if case .fault(let error) = self {
      return MemoryError(.badAddress, error.reason, error.value)
    }
    return MemoryError(.badAddress, .notExact, length.rawValue)
  }
}
