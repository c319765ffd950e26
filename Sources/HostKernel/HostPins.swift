//===----------------------------------------------------------------------===//
// Pins by the running kernel: a buffer registered with io_uring is held by
// FOLL_PIN | FOLL_WRITE | FOLL_LONGTERM on each page until it is unregistered.
//===----------------------------------------------------------------------===//

internal import CShims

/// A way to have the running kernel pin one buffer at a time (`pin_user_pages` through
/// `IORING_REGISTER_BUFFERS`). Works without privilege within `RLIMIT_MEMLOCK`.
///
/// Owns an io_uring instance; what is pinned at its end is unpinned before `deinit` returns.
/// Thread safety: exclusive access, as the language enforces it.
public struct HostPins: ~Copyable, Sendable {
  private let ring: Int32
  /// Bytes that are pinned now: the length of the buffer, 0 without one.
  public private(set) var pinnedByteCount = 0

  /// Opens an io_uring instance. No memory is pinned yet.
  /// - Throws: ENOSYS or EPERM where io_uring is missing or forbidden.
  public init() throws(HostError) {
    var ring: Int32 = -1
    let answer = unsafe cshims_uring_open(&ring)
    try check(answer, "io_uring_setup(2)", hint: Self.hintForOpening(answer))
    self.ring = ring
  }

  deinit {
    // Closing alone would unpin as well, but in a worker thread some time later.
    if pinnedByteCount > 0 { _ = cshims_uring_unregister_buffers(ring) }
    _ = cshims_close(ring)
  }

  /// Pins every page of `buffer` for writing. All or nothing.
  ///
  /// The kernel needs the memory to be mapped and writable at this moment only: unmapping it
  /// afterwards is no error, the pages live on until `unpin()`.
  /// - Parameter buffer: 1 byte to 1 GiB at any address.
  /// - Throws: EBUSY when a buffer is pinned already, EINVAL for an empty one, EFAULT for memory
  ///   that is absent, read-only or longer than 1 GiB, ENOMEM beyond the locked-memory limit,
  ///   EOPNOTSUPP for file mappings that cannot be pinned for long.
  /// - Complexity: one system call, O(pages); O(huge pages) inside those.
  public mutating func pin(_ buffer: UnsafeRawBufferPointer) throws(HostError) {
    let count = buffer.count
    guard pinnedByteCount == 0 else {
      throw HostError(
        operation: "pinning \(count) bytes", errno: EBUSY,
        hint: "\(pinnedByteCount) bytes are pinned; call unpin() first.")
    }
    guard count > 0, let base = buffer.baseAddress else {
      throw HostError(
        operation: "pinning 0 bytes", errno: EINVAL, hint: "The buffer must not be empty.")
    }
    let answer = unsafe cshims_uring_register_buffer(
      ring, UnsafeMutableRawPointer(mutating: base), UInt64(count))
    try check(
      answer, "io_uring_register(2) of a buffer of \(count) bytes",
      hint: Self.hintForPinning(answer))
    pinnedByteCount = count
  }

  /// Pins every page of a buffer of ours.
  public mutating func pin(_ buffer: borrowing HostBuffer) throws(HostError) {
    try unsafe pin(UnsafeRawBufferPointer(buffer.bytes))
  }

  /// Unpins; the pins are gone when it returns.
  /// - Throws: ENXIO when nothing is pinned.
  /// - Complexity: one system call, O(pages).
  public mutating func unpin() throws(HostError) {
    try check(
      cshims_uring_unregister_buffers(ring), "io_uring_register(2) to unregister a buffer",
      hint: pinnedByteCount == 0 ? "Nothing is pinned." : "")
    pinnedByteCount = 0
  }

  private static func hintForOpening(_ errno: Int32) -> String {
    switch errno {
    case ENOSYS: "The kernel has no io_uring, or a filter of system calls hides it."
    case EPERM: "kernel.io_uring_disabled, or a filter of system calls, forbids it."
    case EMFILE, ENFILE: "No more file descriptors."
    case ENOMEM: "Some kernels count the ring itself as locked memory. \(Self.limitHint)"
    default: ""
    }
  }

  private static func hintForPinning(_ errno: Int32) -> String {
    switch errno {
    case ENOMEM: Self.limitHint
    case EFAULT: "Each page must be mapped and writable, and 1 GiB is the largest buffer."
    case EOPNOTSUPP: "The memory belongs to a file that cannot be pinned for long."
    default: ""
    }
  }

  private static var limitHint: String {
    """
    Locked memory of this user, in all processes together, may be at most \
    \(HostCapabilities.memlockText()): raise RLIMIT_MEMLOCK (ulimit -l) or run with CAP_IPC_LOCK.
    """
  }
}
