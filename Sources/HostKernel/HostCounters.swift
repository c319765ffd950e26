//===----------------------------------------------------------------------===//
// The running kernel's own count of pins.
//===----------------------------------------------------------------------===//

internal import CShims

/// `nr_foll_pin_acquired` and `nr_foll_pin_released` of `/proc/vmstat`: base pages pinned and
/// unpinned since the system started, by all programs and drivers. Evidence, not proof: whatever
/// else runs counts, too. Linux 5.9 and later with the counters built in.
public struct HostCounters: Sendable, Hashable {
  public let pinsAcquired: UInt64
  public let pinsReleased: UInt64
  /// The processors' own batches (up to some 125 pins on each) were folded in first. Without that,
  /// which takes root, the figures lag.
  public let isExact: Bool

  /// Reads both counters.
  /// - Throws: ENOENT where the kernel does not have them or `/proc` is not mounted.
  /// - Complexity: two small files of `/proc`.
  public static func read() throws(HostError) -> HostCounters {
    // Reading this file is what folds; it has no content.
    let isExact = (try? HostFile.text("/proc/sys/vm/stat_refresh")) != nil
    let text = try HostFile.text("/proc/vmstat")
    func value(_ name: String) throws(HostError) -> UInt64 {
      guard let value = HostFile.field(name, in: text).flatMap({ UInt64($0) }) else {
        throw HostError(
          operation: "finding \(name) in /proc/vmstat", errno: ENOENT,
          hint: "Linux 5.9 and later count pins.")
      }
      return value
    }
    return HostCounters(
      pinsAcquired: try value("nr_foll_pin_acquired"),
      pinsReleased: try value("nr_foll_pin_released"),
      isExact: isExact)
  }

  /// Pages that were pinned between an earlier reading and this one.
  public func pinsAcquired(since earlier: HostCounters) -> UInt64 {
    pinsAcquired &- earlier.pinsAcquired
  }

  /// Pages that were unpinned between an earlier reading and this one.
  public func pinsReleased(since earlier: HostCounters) -> UInt64 {
    pinsReleased &- earlier.pinsReleased
  }
}
