//===----------------------------------------------------------------------===//
// fork(2) of this process, to see what it costs.
//===----------------------------------------------------------------------===//

internal import CShims

/// A child of this process that ended as soon as it began. The kernel has copied this process's
/// page tables for it, and its private pages are shared until they are stored to.
///
/// To be waited for with `wait`; one that is dropped is waited for, too.
public struct HostChild: ~Copyable, Sendable {
  /// Its process id, its own until it has been waited for.
  public let processID: Int32

  /// fork(2). - Throws: EAGAIN or ENOMEM when the kernel refuses.
  public init() throws(HostError) {
    var processID: Int32 = 0
    try check(unsafe cshims_fork_idle_child(&processID), "fork(2)")
    self.processID = processID
  }

  /// Returns when it has gone and its hold on this process's pages with it.
  public consuming func wait() {}

  deinit { _ = cshims_wait_for_child(processID) }
}
