//===----------------------------------------------------------------------===//
// The capabilities in words: one line each, and what the lack of it costs.
//===----------------------------------------------------------------------===//

extension HostCapabilities {
  /// One thing that this machine has or lacks, for people to read.
  public struct Finding: Sendable, CustomStringConvertible {
    /// What it is: `"io_uring registered buffers"`.
    public let name: String
    /// False when something is missing that the library, its tests or its benchmarks would use.
    public let isAvailable: Bool
    /// What was found.
    public let value: String
    /// What its lack costs; a sentence, also when it is there.
    public let costOfLack: String

    public var description: String {
      let end = value.hasSuffix(".") ? "" : "."
      return isAvailable ? "\(name): \(value)" : "\(name): \(value)\(end) \(costOfLack)"
    }
  }

  /// Everything that was found, most important first.
  public var findings: [Finding] {
    [
      Finding(
        name: "kernel", isAvailable: !kernelRelease.isEmpty, value: kernelRelease,
        costOfLack: "Reports do not say where they were made."),
      Finding(
        name: "processors", isAvailable: processorCount > 1, value: "\(processorCount)",
        costOfLack: "Races are rare on one processor, and scaling cannot be measured."),
      Finding(
        name: "memory", isAvailable: memoryByteCount > 0,
        value: "\(memoryByteCount >> 20) MiB",
        costOfLack: "Benchmarks cannot tell how large they may be."),
      trapFinding,
      Finding(
        name: "vm.unprivileged_userfaultfd", isAvailable: unprivilegedUserfaultfd == 1,
        value: Self.text(unprivilegedUserfaultfd),
        costOfLack: """
          Programs without CAP_SYS_PTRACE or access to /dev/userfaultfd get no faults from inside \
          system calls.
          """),
      Finding(
        name: "io_uring registered buffers", isAvailable: pinsError == nil,
        value: pinsError?.description ?? "the running kernel pins for us",
        costOfLack: """
          The kernel's own pins cannot be taken: no comparison of their cost and of fork outcomes.
          """),
      Finding(
        name: "kernel.io_uring_disabled", isAvailable: ioUringDisabled ?? 0 == 0,
        value: ioUringDisabled.map { "\($0)" } ?? "no such setting (older than Linux 6.6)",
        costOfLack: "1 leaves io_uring to a group and to CAP_SYS_ADMIN, 2 to nobody."),
      Finding(
        name: "vmsplice into a pipe", isAvailable: referencesError == nil,
        value: referencesError?.description ?? "the running kernel takes references for us",
        costOfLack: "The kernel's own references cannot be taken: no comparison with gets."),
      pagemapFinding,
      Finding(
        name: "pin counters in /proc/vmstat", isAvailable: countersError == nil,
        value: countersError?.description ?? "nr_foll_pin_acquired, nr_foll_pin_released",
        costOfLack: "That the kernel really pinned rests on its word alone."),
      memlockFinding,
      mappingFinding,
      Finding(
        name: "huge pages, private", isAvailable: hugePages.map { $0 != "never" } ?? false,
        value: hugePages ?? "none in this kernel",
        costOfLack: "Pins inside huge pages cannot be compared with the kernel's."),
      Finding(
        name: "huge pages, shared",
        isAvailable: sharedHugePages.map { $0 != "never" && $0 != "deny" } ?? false,
        value: sharedHugePages ?? "none in this kernel",
        costOfLack: """
          Folios of 2 MiB are made of 4 KiB pages underneath: pinning them costs the same, \
          touching them more TLB misses.
          """),
    ]
  }

  private var trapFinding: Finding {
    let served = trap.servesSystemCalls ? "system calls included" : "system calls not included"
    let cost =
      switch trap.tier {
      case .userfaultfd: ""
      case .sigsegv: "Native loads and stores are caught by a signal handler, which is slower. "
      }
    return Finding(
      name: "fault trap", isAvailable: trap.tier == .userfaultfd && trap.servesSystemCalls,
      value: "\(trap.tier.rawValue), \(served) (\(trap.reason))",
      costOfLack: cost + "A system call that is given an absent user address fails with EFAULT.")
  }

  private var pagemapFinding: Finding {
    let (works, value) =
      switch pagemap {
      case .frameNumbers: (true, "with frame numbers")
      case .flagsOnly: (false, "without frame numbers (they take CAP_SYS_ADMIN)")
      case .unreadable(let error): (false, error.description)
      }
    return Finding(
      name: "pagemap", isAvailable: works, value: value,
      costOfLack: "Whether two addresses show one frame is told from bytes, not from the kernel.")
  }

  private var memlockFinding: Finding {
    let limit =
      switch memlockLimit {
      case nil: "unknown"
      case UInt64.max: "unlimited"
      case let bytes?: "\(bytes) bytes"
      }
    return Finding(
      name: "RLIMIT_MEMLOCK", isAvailable: mayLockWithoutLimit || memlockLimit == .max,
      value: mayLockWithoutLimit ? "\(limit), lifted by CAP_IPC_LOCK" : limit,
      costOfLack: "Pins by the kernel, of all processes of this user together, end there.")
  }

  private var mappingFinding: Finding {
    // A view holds at most a quarter of the limit; below twice that, views are hidden early.
    let isRoomy =
      if let mappingLimit, let mappingCount { mappingCount <= mappingLimit / 2 } else { false }
    return Finding(
      name: "vm.max_map_count", isAvailable: isRoomy,
      value: "\(Self.text(mappingLimit)), of which \(Self.text(mappingCount)) in use",
      costOfLack: "Scattered pages are hidden again early, and touching those faults once more.")
  }

  private static func text(_ value: UInt64?) -> String { value.map { "\($0)" } ?? "unknown" }
}
