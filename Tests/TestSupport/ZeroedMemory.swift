//===----------------------------------------------------------------------===//
// Memory as a machine's metadata mapping gives it: page-aligned, zeroed, and
// backed by nothing until it is touched.
//===----------------------------------------------------------------------===//

internal import CShims

/// Anonymous memory that is unmapped with its last reference.
@safe
public final class ZeroedMemory: @unchecked Sendable {
  public let base: UnsafeMutableRawPointer
  public let byteCount: Int

  /// - Precondition: the host has `byteCount` bytes of address space.
  public init(byteCount: Int) {
    var memory: UnsafeMutableRawPointer?
    let failure = unsafe cshims_anonymous(UInt64(byteCount), &memory)
    guard failure == 0, let memory = unsafe memory else {
      fatalError("no memory for a test: errno \(failure)")
    }
    unsafe base = memory
    self.byteCount = byteCount
  }

  deinit {
    _ = unsafe cshims_unmap(UInt64(UInt(bitPattern: base)), UInt64(byteCount))
  }
}
