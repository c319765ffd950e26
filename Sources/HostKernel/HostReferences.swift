//===----------------------------------------------------------------------===//
// References by the running kernel: vmsplice puts a buffer's pages into a pipe
// without copying, and the pipe holds a plain reference (FOLL_GET) on each until
// it is drained. That is get_user_pages, with its hazards, from user space.
//===----------------------------------------------------------------------===//

internal import CShims

/// A way to have the running kernel take references on pages (`get_user_pages` through
/// `vmsplice(2)`), at most as many as the pipe has room for. Needs no privilege.
///
/// Owns a pipe; its end drops what it still holds.
/// Thread safety: exclusive access, as the language enforces it.
public struct HostReferences: ~Copyable, Sendable {
  private let readEnd: Int32
  private let writeEnd: Int32
  private let null: Int32
  /// The pipe's capacity in bytes: it has one slot per 4,096 of them, and each page, also a page
  /// that a buffer touches only in part, takes a slot.
  public let capacity: Int
  /// Bytes that stand in the pipe now.
  public private(set) var heldByteCount = 0

  /// Opens a pipe.
  /// - Parameter capacity: Bytes that it should hold, not negative. It may come out larger, and
  ///   smaller where `/proc/sys/fs/pipe-max-size` or the user's limit on pipe pages says so: read
  ///   the property.
  /// - Throws: EINVAL for a negative capacity; EMFILE or ENFILE without file descriptors.
  public init(capacity: Int) throws(HostError) {
    guard capacity >= 0 else {
      throw HostError(
        operation: "opening a pipe of \(capacity) bytes", errno: EINVAL,
        hint: "The capacity must not be negative.")
    }
    var (readEnd, writeEnd, null): (Int32, Int32, Int32) = (-1, -1, -1)
    var granted: UInt64 = 0
    try check(
      unsafe cshims_pipe_open(&readEnd, &writeEnd, UInt64(capacity), &granted),
      "opening a pipe of \(capacity) bytes")
    let answer = unsafe cshims_null_open(&null)
    if answer != 0 {
      _ = cshims_close(readEnd)
      _ = cshims_close(writeEnd)
      throw HostError(operation: "opening /dev/null", errno: answer)
    }
    self.readEnd = readEnd
    self.writeEnd = writeEnd
    self.null = null
    self.capacity = Int(granted)
  }

  deinit {
    _ = cshims_close(readEnd)
    _ = cshims_close(writeEnd)
    _ = cshims_close(null)
  }

  /// Takes a reference on each page of `buffer`, from its start, until the pipe is full.
  /// - Parameter buffer: Readable memory of any size and address; an empty one takes nothing.
  /// - Returns: Bytes whose pages are held, less than `buffer.count` when the pipe is full.
  /// - Throws: EFAULT when the first page not yet held is not mapped; ENOSYS or EPERM where
  ///   vmsplice is forbidden. Bytes taken before an error stay held (`heldByteCount`).
  /// - Complexity: O(pages), a few system calls.
  public mutating func get(_ buffer: UnsafeRawBufferPointer) throws(HostError) -> Int {
    var moved: UInt64 = 0
    let answer = unsafe cshims_vmsplice(
      writeEnd, buffer.baseAddress, UInt64(buffer.count), &moved)
    heldByteCount += Int(moved)
    if answer != EAGAIN {
      try check(
        answer, "vmsplice(2) of \(buffer.count) bytes",
        hint: moved > 0 ? "\(moved) bytes were taken before." : "")
    }
    return Int(moved)
  }

  /// Takes a reference on each page of a buffer of ours, until the pipe is full.
  public mutating func get(_ buffer: borrowing HostBuffer) throws(HostError) -> Int {
    try unsafe get(UnsafeRawBufferPointer(buffer.bytes))
  }

  /// Drops all references; nothing happens when none are held.
  /// - Complexity: O(pages), a few system calls.
  public mutating func put() throws(HostError) {
    guard heldByteCount > 0 else { return }
    try check(
      cshims_pipe_drain(readEnd, null, UInt64(heldByteCount)),
      "splice(2) of \(heldByteCount) bytes to /dev/null")
    heldByteCount = 0
  }
}
