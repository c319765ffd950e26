//===----------------------------------------------------------------------===//
// The same transfers from and into arrays, for callers that have no pointers.
//===----------------------------------------------------------------------===//

public import PageExtraction
public import PageFrames

extension DMAEngine {
  /// Writes bytes into extracted memory; see the form that takes a pointer.
  public func write(
    _ bytes: [UInt8], to extraction: borrowing Extraction, at offset: ByteCount = 0,
    allowingStale: Bool = false
  ) throws(MemoryError) {
    try unsafe bytes.span.bytes.withUnsafeBytes { (raw) throws(MemoryError) in
      try unsafe write(raw, to: extraction, at: offset, allowingStale: allowingStale)
    }
  }

  /// Reads bytes out of extracted memory: all from `offset` on by default.
  ///
  /// - Throws: also EINVAL for a negative count.
  public func read(
    from extraction: borrowing Extraction, at offset: ByteCount = 0, count: ByteCount? = nil
  ) throws(MemoryError) -> [UInt8] {
    guard offset >= 0, offset <= extraction.length else {
      throw MemoryError(.invalid, .positionOutOfRange, offset.rawValue)
    }
    let count = count ?? extraction.length - offset
    guard count >= 0, count <= extraction.length else {
      throw MemoryError(.invalid, .lengthTooLarge, count.rawValue)
    }
    return try unsafe filled(count.rawValue) { (into) throws(MemoryError) in
      try unsafe read(from: extraction, at: offset, into: into)
    }
  }

  /// Writes bytes into a page; see the form that takes a pointer.
  public func write(_ bytes: [UInt8], to page: Page, offset: Int = 0) throws(MemoryError) {
    try unsafe bytes.span.bytes.withUnsafeBytes { (raw) throws(MemoryError) in
      try unsafe write(raw, to: page, offset: offset)
    }
  }

  /// Reads `count` bytes out of a page.
  public func read(
    from page: Page, offset: Int = 0, count: Int
  ) throws(MemoryError) -> [UInt8] {
    guard count >= 0, count <= pageSize else {
      throw MemoryError(.invalid, .lengthTooLarge, count)
    }
    return try unsafe filled(count) { (into) throws(MemoryError) in
      try unsafe read(from: page, offset: offset, into: into)
    }
  }

  private func filled(
    _ count: Int, _ fill: (UnsafeMutableRawBufferPointer) throws(MemoryError) -> Void
  ) throws(MemoryError) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: count)
    var span = bytes.mutableSpan
    try unsafe span.withUnsafeMutableBytes(fill)
    return bytes
  }
}
