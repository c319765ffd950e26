//===----------------------------------------------------------------------===//
// The kinds of iterators, and the one table that says which of them can be
// extracted in which dialect and what that holds (semantics 1.1). Extraction
// asks this table, and so does whoever prints it.
//===----------------------------------------------------------------------===//

extension IOVIter {
  /// What an iterator describes.
  public enum Kind: UInt8, Sendable, CaseIterable {
    /// One user buffer (ITER_UBUF).
    case ubuf
    /// A list of user segments (ITER_IOVEC).
    case iovec
    /// A list of segments of physical memory (ITER_BVEC).
    case bvec
    /// A list of segments of the library's own addresses (ITER_KVEC).
    case kvec
    /// A range of a page cache (ITER_XARRAY).
    case xarray
    /// A queue of folios (ITER_FOLIOQ).
    case folioQueue
    /// The end of a pipe's ring (ITER_PIPE).
    case pipe
    /// Nothing: what goes in is dropped (ITER_DISCARD).
    case discard

    /// Does it describe user memory (user_backed_iter)?
    @inline(__always)
    public var isUserBacked: Bool { self == .ubuf || self == .iovec }

    /// Can an iterator of this kind be made for this direction? Pipes and
    /// discards only take data.
    public func takes(_ direction: Direction) -> Bool {
      switch self {
      case .pipe, .discard: direction == .destination
      default: true
      }
    }

    /// What an extraction holds on each page, or nil where a non-empty one is
    /// refused with EFAULT. Of kinds that take no such direction: nil.
    public func extraction(in dialect: Dialect, _ direction: Direction) -> Retention? {
      switch (self, dialect, direction) {
      case (.ubuf, .rfc, .source), (.iovec, .rfc, .source): .referenced
      case (.ubuf, _, _), (.iovec, _, _): .pinned
      case (.bvec, _, _), (.xarray, _, _): .unretained
      case (.kvec, .upstream, _), (.folioQueue, .upstream, _): .unretained
      case (.pipe, .rfc, .destination): .unretained
      case (.kvec, .rfc, _), (.folioQueue, .rfc, _), (.pipe, _, _), (.discard, _, _): nil
      }
    }
  }
}
