//===----------------------------------------------------------------------===//
// GUPFlags: what a caller asks of GUP (FOLL_*), with the values of Linux 6.3
// and later (semantics C.1).
//===----------------------------------------------------------------------===//

/// How pages are to be taken (the kernel's `gup_flags`).
///
/// The values below 1 << 16 are for callers. Those from there on are GUP's own:
/// they are named so that passing one can be refused by name.
@frozen
public struct GUPFlags: OptionSet, Hashable, Sendable, BitwiseCopyable {
  public let rawValue: UInt32
  @inlinable
  public init(rawValue: UInt32) { self.rawValue = rawValue }

  /// The pages will be written to: entries must be writable, copy-on-write is
  /// broken (FOLL_WRITE).
  @inlinable public static var write: Self { Self(rawValue: 1 << 0) }
  /// Takes plain references. The get calls add it (FOLL_GET).
  @inlinable public static var get: Self { Self(rawValue: 1 << 1) }
  /// A hole or the zero page is an error instead of being filled (FOLL_DUMP).
  @inlinable public static var dump: Self { Self(rawValue: 1 << 2) }
  /// Passes over the area's read and write permission; for writing only where a
  /// private copy can be made (FOLL_FORCE).
  @inlinable public static var force: Self { Self(rawValue: 1 << 3) }
  /// Does not wait for input. Nothing here does: no effect (FOLL_NOWAIT).
  @inlinable public static var noWait: Self { Self(rawValue: 1 << 4) }
  /// Never faults: no absent page is brought in, no sharing broken
  /// (FOLL_NOFAULT).
  @inlinable public static var noFault: Self { Self(rawValue: 1 << 5) }
  /// Reports a poisoned page as EHWPOISON instead of EFAULT (FOLL_HWPOISON).
  @inlinable public static var hardwarePoison: Self { Self(rawValue: 1 << 6) }
  /// Anonymous areas only (FOLL_ANON).
  @inlinable public static var anonymous: Self { Self(rawValue: 1 << 7) }
  /// The pin may be held for ever; with PIN only (FOLL_LONGTERM).
  @inlinable public static var longTerm: Self { Self(rawValue: 1 << 8) }
  /// Refuses hugetlb areas, and splits leaves, so that each page stands behind an
  /// entry of its own (FOLL_SPLIT_PMD).
  @inlinable public static var splitPMD: Self { Self(rawValue: 1 << 9) }
  /// Allows peer-to-peer device pages; not with LONGTERM (FOLL_PCI_P2PDMA).
  @inlinable public static var pciP2PDMA: Self { Self(rawValue: 1 << 10) }
  /// Any signal interrupts. Nothing here waits: no effect (FOLL_INTERRUPTIBLE).
  @inlinable public static var interruptible: Self { Self(rawValue: 1 << 11) }
  /// Faults on NUMA-hint entries. There are none: no effect
  /// (FOLL_HONOR_NUMA_FAULT).
  @inlinable public static var honorNUMAFault: Self { Self(rawValue: 1 << 12) }

  // GUP's own; refused from callers.

  /// Marks what it takes as used (FOLL_TOUCH).
  @inlinable public static var touch: Self { Self(rawValue: 1 << 16) }
  /// The fault was tried before (FOLL_TRIED).
  @inlinable public static var tried: Self { Self(rawValue: 1 << 17) }
  /// The address space is not the caller's (FOLL_REMOTE).
  @inlinable public static var remote: Self { Self(rawValue: 1 << 18) }
  /// Takes pins. The pin calls add it (FOLL_PIN).
  @inlinable public static var pin: Self { Self(rawValue: 1 << 19) }
  /// Never falls back to the slow path (FOLL_FAST_ONLY).
  @inlinable public static var fastOnly: Self { Self(rawValue: 1 << 20) }
  /// The mmap lock may be dropped meanwhile (FOLL_UNLOCKABLE).
  @inlinable public static var unlockable: Self { Self(rawValue: 1 << 21) }
  /// madvise(MADV_POPULATE_*) is the caller (FOLL_MADV_POPULATE).
  @inlinable public static var madvPopulate: Self { Self(rawValue: 1 << 22) }

  /// Every flag that a caller may pass to some call.
  static var forCallers: Self { Self(rawValue: (1 << 13) - 1) }
  /// Every flag that is GUP's own.
  static var ownFlags: Self { Self(rawValue: 0x7f << 16) }
  /// What the fast calls take, their own additions included.
  static var forFastWalk: Self {
    [.write, .longTerm, .force, .pin, .get, .fastOnly, .noFault, .pciP2PDMA, .honorNUMAFault]
  }
}
