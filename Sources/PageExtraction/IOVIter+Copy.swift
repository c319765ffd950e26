//===----------------------------------------------------------------------===//
// Moving bytes through an iterator: what a system call does that copies instead
// of extracting pages. User memory is reached by explicit faults, all other
// through the window.
//===----------------------------------------------------------------------===//

internal import AddressSpaces
internal import CShims
public import PageFrames

/// What a copy through an iterator has moved. Progress and error travel
/// together: a part is a result.
public struct CopyResult: Sendable, Equatable {
  /// Bytes moved; the iterator has advanced by as many.
  public let length: ByteCount
  /// Why it ended early and at which address, or nil when it did not.
  public let stop: MemoryError?

  public init(length: ByteCount, stop: MemoryError? = nil) {
    self.length = length
    self.stop = stop
  }
}

extension IOVIter {
  /// Copies into the memory that it describes and advances (copy_to_iter). A
  /// pipe gets fresh pages with the bytes; a discard drops them.
  ///
  /// - Parameter source: the bytes; those beyond the count are left.
  /// - Returns: the bytes copied, and the fault that ended it early, if one did.
  /// - Throws: EINVAL on a source iterator; when no byte was copied: a fault,
  ///   EFAULT for a hole, a full ring or a page that nobody holds, EACCES for the
  ///   zero page.
  public mutating func copyToIterator(
    from source: UnsafeRawBufferPointer
  ) throws(MemoryError) -> CopyResult {
    guard direction == .destination else { throw wrongDirection }
    return try unsafe move(
      source.count,
      user: { (space, address, done, length) throws(MemoryError) in
        try unsafe space.copyToUser(
          address, from: UnsafeRawBufferPointer(rebasing: source[done..<done + length]))
      },
      kernel: { unsafe cshims_copy($0, source.baseAddress! + $1, UInt64($2)) })
  }

  /// Copies out of the memory that it describes and advances (copy_from_iter).
  ///
  /// - Parameter destination: where to; filled from its start, at most as far
  ///   as the count reaches.
  /// - Returns: the bytes copied, and the fault that ended it early, if one did.
  /// - Throws: EINVAL on a destination iterator; when no byte was copied: a
  ///   fault, EFAULT for a hole or a page that nobody holds.
  public mutating func copyFromIterator(
    into destination: UnsafeMutableRawBufferPointer
  ) throws(MemoryError) -> CopyResult {
    guard direction == .source else { throw wrongDirection }
    return try unsafe move(
      destination.count,
      user: { (space, address, done, length) throws(MemoryError) in
        try unsafe space.copyFromUser(
          UnsafeMutableRawBufferPointer(rebasing: destination[done..<done + length]),
          from: address)
      },
      kernel: { unsafe cshims_copy(destination.baseAddress! + $1, $0, UInt64($2)) })
  }

  /// Writes zeroes into the memory that it describes and advances
  /// (iov_iter_zero).
  ///
  /// - Parameter length: bytes, from 0; more than the count means the count.
  /// - Returns: the bytes written, and the fault that ended it early, if one did.
  /// - Throws: EINVAL for a negative length or a source iterator; what
  ///   `copyToIterator` throws when no byte was written.
  public mutating func zeroFill(_ length: ByteCount) throws(MemoryError) -> CopyResult {
    guard direction == .destination else { throw wrongDirection }
    guard length >= 0 else { throw MemoryError(.invalid, .countNegative, length.rawValue) }
    return try unsafe move(
      length.rawValue,
      user: { (space, address, _, length) throws(MemoryError) in
        try space.zeroUser(address, count: ByteCount(length))
      },
      kernel: { target, _, length in unsafe cshims_zero(target, UInt64(length)) })
  }

  /// Copies a part of a page into the memory that it describes and advances
  /// (copy_page_to_iter). A pipe links the page instead, with a reference of its
  /// own; the iterator's next page is then a fresh one.
  ///
  /// - Parameters:
  ///   - page: a held page of this machine.
  ///   - offset: 0 ... 4096 - `length`.
  ///   - length: bytes, from 0; more than the count means the count.
  /// - Throws: as `copyToIterator`, and EINVAL for a part that is not within a
  ///   page of this machine.
  public mutating func copyPage(
    _ page: Page, offset: Int, length: ByteCount
  ) throws(MemoryError) -> CopyResult {
    guard direction == .destination else { throw wrongDirection }
    guard offset >= 0, offset <= pageSize, length >= 0, length.rawValue <= pageSize - offset else {
      throw MemoryError(.invalid, .positionOutOfRange, offset)
    }
    try check(page, writes: false)
    let length = min(length, count)
    guard case .pipe(let place) = backing, length > 0 else {
      return try unsafe copyToIterator(
        from: UnsafeRawBufferPointer(
          rebasing: page.bytes[offset..<offset + length.rawValue]))
    }
    try place.link(page, offset: offset, length: length.rawValue, &cursor)
    return CopyResult(length: length)
  }

  private var wrongDirection: MemoryError {
    MemoryError(.invalid, .directionMismatch, Int(direction.rawValue))
  }

  /// Calls `user` or `kernel` for each contiguous stretch of the next `length`
  /// bytes, with how many came before it, and advances by what was copied. A
  /// call that throws has done what lies before the address that its error names.
  private mutating func move(
    _ length: Int,
    user: (AddressSpace, UserAddress, _ done: Int, _ length: Int) throws(MemoryError) -> Void,
    kernel: (UnsafeMutableRawPointer, _ done: Int, _ length: Int) -> Void
  ) throws(MemoryError) -> CopyResult {
    let length = min(length, cursor.count)
    switch backing {
    case .pipe(let place): return try unsafe place.append(&cursor, by: length, kernel)
    case .discard:
      step(length)
      return CopyResult(length: ByteCount(length))
    default: break
    }
    var done = 0
    while done < length {
      var part = 0
      var stop: MemoryError?
      do throws(MemoryError) {
        if let space {
          part = try moveUser(space, length - done, done, user, &stop)
        } else {
          let next = try pagePart()
          try check(next.page, writes: direction == .destination)
          part = min(next.length, length - done)
          unsafe kernel(next.page.bytes.baseAddress! + next.offset, done, part)
        }
      } catch {
        stop = error
      }
      if done + part == 0, let stop { throw stop }
      step(part)
      done += part
      if let stop { return CopyResult(length: ByteCount(done), stop: stop) }
    }
    return CopyResult(length: ByteCount(done))
  }

  /// One stretch of user memory. Returns the bytes that were copied.
  private func moveUser(
    _ space: AddressSpace, _ length: Int, _ done: Int,
    _ copy: (AddressSpace, UserAddress, _ done: Int, _ length: Int) throws(MemoryError) -> Void,
    _ stop: inout MemoryError?
  ) throws(MemoryError) -> Int {
    let next: Stretch
    switch backing {
    case .ubuf(let buffer): next = buffer.stretch(at: cursor)
    case .iovec(let segments): next = segments.stretch(at: cursor)
    default: return 0
    }
    let part = min(next.length, length)
    do throws(MemoryError) {
      try copy(space, UserAddress(next.start), done, part)
      return part
    } catch {
      stop = error
      // Names a process, no address.
      if error.reason == .otherProcess { return 0 }
      let reached = error.value &- next.start
      return reached < UInt64(part) ? Int(reached) : 0
    }
  }

  /// The page that comes next, and what lies in it. `count` > 0.
  private func pagePart() throws(MemoryError) -> PagePart {
    switch backing {
    case .bvec(let segments): return segments.part(at: cursor)
    case .folioQueue(let segments): return segments.part(at: cursor)
    case .xarray(let range): return try range.part(at: cursor, memory.machine)
    case .kvec(let segments):
      if let part = segments.part(at: cursor, memory.machine) { return part }
      throw MemoryError(
        .badAddress, .notKernelAddress, segments.stretch(at: cursor).start)
    case .ubuf, .iovec, .pipe, .discard:
      throw MemoryError(.badAddress, .unsupportedKind, Int(kind.rawValue))
    }
  }

  /// Refuses pages that nobody may touch through the window: free ones, and for
  /// writing the zero page, which every untouched address shares.
  private func check(_ page: Page, writes: Bool) throws(MemoryError) {
    guard memory.machine.owns(page) else {
      throw MemoryError(.invalid, .machineMismatch, 0)
    }
    guard page.referenceCount > 0 else {
      throw MemoryError(.badAddress, .pageNotHeld, page.frameNumber.rawValue)
    }
    guard !writes || !page.isZeroPage else {
      throw MemoryError(.accessDenied, .writeForbidden, page.frameNumber.rawValue)
    }
  }
}
