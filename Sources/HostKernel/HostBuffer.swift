//===----------------------------------------------------------------------===//
// Memory to try the running kernel's pins on.
//===----------------------------------------------------------------------===//

internal import CShims

/// Anonymous private memory of this process with every page present, in a mapping of its own
/// that starts at a multiple of 2 MiB. Unmapped when the owner ends; pages that the kernel still
/// pins then live on until they are unpinned.
///
/// Thread safety: the owner is immutable; what happens to the bytes is up to the caller.
@safe public struct HostBuffer: ~Copyable, @unchecked Sendable {
  /// What the kernel is told about transparent huge pages in the buffer.
  public enum HugePages: Sendable, CaseIterable {
    /// Nothing: the system's policy decides.
    case systemDefault
    /// `MADV_HUGEPAGE`. Only whole stretches of 2 MiB can become huge, and the kernel may have
    /// none to give: `hugeByteCount()` tells.
    case wanted
    /// `MADV_NOHUGEPAGE`: 4 KiB pages only.
    case forbidden
  }

  private let base: UnsafeMutableRawPointer
  /// The size in bytes, a multiple of 4,096.
  public let byteCount: Int

  /// Maps and populates a buffer.
  /// - Parameters:
  ///   - byteCount: A positive multiple of 4,096.
  ///   - hugePages: Whether it may, should or must not stand in huge pages.
  /// - Throws: EINVAL for another size, and for `.wanted` on a kernel without transparent huge
  ///   pages; ENOMEM when there is not so much memory.
  public init(byteCount: Int, hugePages: HugePages = .forbidden) throws(HostError) {
    guard byteCount > 0, byteCount % Int(CSHIMS_PAGE_SIZE) == 0 else {
      throw HostError(
        operation: "mapping a buffer of \(byteCount) bytes", errno: EINVAL,
        hint: "The size must be a positive multiple of \(Int(CSHIMS_PAGE_SIZE)).")
    }
    let advice =
      switch hugePages {
      case .systemDefault: CSHIMS_HUGE_PAGES_DEFAULT
      case .wanted: CSHIMS_HUGE_PAGES_WANTED
      case .forbidden: CSHIMS_HUGE_PAGES_FORBIDDEN
      }
    var start: UnsafeMutableRawPointer?
    try check(
      unsafe cshims_buffer_map(UInt64(byteCount), advice, &start),
      "mapping a buffer of \(byteCount) bytes",
      hint: hugePages == .wanted ? "EINVAL means a kernel without transparent huge pages." : "")
    // The shim yields a mapping whenever it returns 0.
    unsafe self.base = start.unsafelyUnwrapped
    self.byteCount = byteCount
  }

  deinit { _ = unsafe cshims_buffer_unmap(base, UInt64(byteCount)) }

  /// The memory. Valid as long as the owner lives.
  @unsafe public var bytes: UnsafeMutableRawBufferPointer {
    unsafe UnsafeMutableRawBufferPointer(start: base, count: byteCount)
  }

  /// How many 4 KiB pages it has.
  public var pageCount: Int { byteCount >> Int(CSHIMS_PAGE_SHIFT) }

  /// How many of its bytes stand in huge pages now, from `/proc/self/smaps`. One system call and
  /// more per mapping of the process: not for loops.
  public func hugeByteCount() throws(HostError) -> Int {
    var bytes: UInt64 = 0
    try check(
      unsafe cshims_buffer_huge_bytes(base, &bytes), "finding the buffer in /proc/self/smaps")
    return Int(bytes)
  }
}
