//===----------------------------------------------------------------------===//
// What this machine offers, found by trying it. `gupctl doctor` prints it, and
// tests and benchmarks that lack something skip with the reason given here.
//===----------------------------------------------------------------------===//

internal import CShims

/// What the running kernel lets this process do. Each answer comes from an attempt or from the
/// kernel's own files; an answer that could not be had is nil.
public struct HostCapabilities: Sendable {
  /// How plain loads and stores on absent pages of an emulated address space are caught.
  public struct Trap: Sendable {
    /// From best to last resort. A signal handler can be installed on any Linux.
    public enum Tier: String, Sendable {
      case userfaultfd
      case sigsegv = "SIGSEGV"
    }
    public let tier: Tier
    /// System calls that are given absent user addresses are served as well.
    public let servesSystemCalls: Bool
    /// How the tier was opened, or why a better one was not.
    public let reason: String
  }

  /// What `/proc/self/pagemap` tells this process.
  public enum Pagemap: Sendable {
    /// The frame behind each page (CAP_SYS_ADMIN).
    case frameNumbers
    /// Whether a page is present, but not where.
    case flagsOnly
    case unreadable(HostError)
  }

  /// uname(2)'s release: `"6.18.44"`.
  public let kernelRelease: String
  /// Processors that this process may use.
  public let processorCount: Int
  /// Memory of the machine in bytes.
  public let memoryByteCount: UInt64
  public let trap: Trap
  /// `vm.unprivileged_userfaultfd`: 0 keeps faults inside system calls to privileged programs.
  public let unprivilegedUserfaultfd: UInt64?
  /// Why the kernel's own pins (`HostPins`) do not work here; nil when they do.
  public let pinsError: HostError?
  /// `kernel.io_uring_disabled`: 0 open to all, 1 to a group and to CAP_SYS_ADMIN, 2 to nobody.
  public let ioUringDisabled: UInt64?
  /// Why the kernel's own references (`HostReferences`) do not work here; nil when they do.
  public let referencesError: HostError?
  public let pagemap: Pagemap
  /// Why `HostCounters` cannot be read; nil when they can.
  public let countersError: HostError?
  /// The soft limit of `RLIMIT_MEMLOCK` in bytes; `UInt64.max` when there is none.
  public let memlockLimit: UInt64?
  /// CAP_IPC_LOCK: in the first user namespace it lifts the limit on locked memory.
  public let mayLockWithoutLimit: Bool
  /// `vm.max_map_count`: the most mappings that a process may have.
  public let mappingLimit: UInt64?
  /// Mappings that this process had when it was asked.
  public let mappingCount: UInt64?
  /// The policy for huge pages in private memory: `"always"`, `"madvise"`, `"never"`.
  public let hugePages: String?
  /// The policy for huge pages in shared memory, which frames are: `"never"`, `"advise"`, ...
  public let sharedHugePages: String?

  /// Asks the running kernel. Takes a few milliseconds, opens and closes some descriptors, pins
  /// one page for a moment, and leaves nothing behind. Never fails. Thread-safe.
  public static func probe() -> HostCapabilities { HostCapabilities() }

  private init() {
    kernelRelease = unsafe String(unsafeUninitializedCapacity: 80) { buffer in
      unsafe buffer.withMemoryRebound(to: CChar.self) { text in
        unsafe cshims_kernel_release(text.baseAddress, text.count) == 0
          ? text.firstIndex(of: 0) ?? 0 : 0
      }
    }
    processorCount = Int(unsafe Self.value(cshims_cpu_count) ?? 1)
    memoryByteCount = unsafe Self.value(cshims_memory_total) ?? 0
    trap = Self.probeTrap()
    unprivilegedUserfaultfd = HostFile.number("/proc/sys/vm/unprivileged_userfaultfd")
    pinsError = Self.failure { () throws(HostError) in
      let page = try HostBuffer(byteCount: Int(CSHIMS_PAGE_SIZE))
      var pins = try HostPins()
      try pins.pin(page)
      try pins.unpin()
    }
    ioUringDisabled = HostFile.number("/proc/sys/kernel/io_uring_disabled")
    referencesError = Self.failure { () throws(HostError) in
      let page = try HostBuffer(byteCount: Int(CSHIMS_PAGE_SIZE))
      var references = try HostReferences(capacity: page.byteCount)
      _ = try references.get(page)
      try references.put()
    }
    pagemap = Self.probePagemap()
    countersError = Self.failure { () throws(HostError) in _ = try HostCounters.read() }
    memlockLimit = unsafe Self.value(cshims_memlock_limit)
    mayLockWithoutLimit = Self.hasEffectiveCapability(14)
    mappingLimit = HostFile.number("/proc/sys/vm/max_map_count")
    mappingCount = unsafe Self.value(cshims_mapping_count)
    hugePages = HostFile.selectedWord("/sys/kernel/mm/transparent_hugepage/enabled")
    sharedHugePages = HostFile.selectedWord("/sys/kernel/mm/transparent_hugepage/shmem_enabled")
  }

  private static func probeTrap() -> Trap {
    let report = unsafe cshims_userfaultfd_probe()
    guard unsafe report.error == 0 else {
      let step = unsafe report.failed_step.map { unsafe String(cString: $0) } ?? "userfaultfd"
      let error = unsafe HostError(operation: step, errno: report.error)
      return Trap(tier: .sigsegv, servesSystemCalls: false, reason: error.description)
    }
    let opener = unsafe report.opened_by.map { unsafe String(cString: $0) } ?? "userfaultfd"
    return Trap(
      tier: .userfaultfd, servesSystemCalls: unsafe report.serves_kernel,
      reason: "opened by \(opener)")
  }

  private static func probePagemap() -> Pagemap {
    do throws(HostError) {
      let page = try HostBuffer(byteCount: Int(CSHIMS_PAGE_SIZE))
      var entry: UInt64 = 0
      let address = unsafe UInt64(UInt(bitPattern: page.bytes.baseAddress))
      try check(
        unsafe cshims_pagemap_read(address, 1, &entry), "reading /proc/self/pagemap")
      let isPresent = entry & CSHIMS_PAGEMAP_PRESENT != 0
      return isPresent && entry & CSHIMS_PAGEMAP_FRAME != 0 ? .frameNumbers : .flagsOnly
    } catch {
      return .unreadable(error)
    }
  }

  private static func failure(of attempt: () throws(HostError) -> Void) -> HostError? {
    do throws(HostError) {
      try attempt()
      return nil
    } catch {
      return error
    }
  }

  private static func value(_ ask: (UnsafeMutablePointer<UInt64>) -> Int32) -> UInt64? {
    var value: UInt64 = 0
    return unsafe ask(&value) == 0 ? value : nil
  }

  private static func hasEffectiveCapability(_ bit: UInt64) -> Bool {
    guard let status = try? HostFile.text("/proc/self/status"),
      let field = HostFile.field("CapEff:", in: status),
      let bits = UInt64(field, radix: 16)
    else { return false }
    return bits >> bit & 1 != 0
  }

  /// The limit on locked memory in words.
  static func memlockText() -> String {
    guard let limit = unsafe value(cshims_memlock_limit) else { return "unknown" }
    return limit == .max ? "unlimited" : "\(limit) bytes"
  }
}
