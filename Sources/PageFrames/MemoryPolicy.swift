//===----------------------------------------------------------------------===//
// MemoryPolicy: what a machine does where kernels have differed, and where they
// have been wrong. The wrong ones exist to be shown: a fault that was mended
// long ago is best understood beside the rule that replaced it.
//
// The policy is one relaxed atomic in the machine's header. It is read where a
// decision is taken (fault, fork, a pin that must unshare), never by the hot
// walk, and guards nothing else in memory: no ordering is needed.
//===----------------------------------------------------------------------===//

internal import CShims

/// How a machine decides about copy-on-write, and what a remap may move; empty is
/// right (Linux 6.12).
///
/// Wrong policies do to a program what the kernels of their time did, and no
/// more: counts stay exact, nothing is freed early, every call still returns.
/// What they break is the promise that a pinned anonymous page is exclusive
/// (`keepsPinsExclusive`). Bits that are not named here have no effect.
@frozen
public struct MemoryPolicy: OptionSet, Hashable, Sendable, BitwiseCopyable {
  public let rawValue: UInt32
  @inlinable
  public init(rawValue: UInt32) { self.rawValue = rawValue }

  /// Wrong: a store reuses a page that is mapped once, whoever else holds it, so
  /// a reference taken before shows what is stored later (CVE-2020-29374;
  /// semantics D.3 row 2, G-03).
  @inlinable public static var reuseByMappingCount: Self { Self(rawValue: 1 << 0) }
  /// Wrong: pins for reading never unshare, so the pinned page goes stale at the
  /// next store. Linux before 5.19, for LONGTERM before 6.2 (C.3 row 11, D.4,
  /// G-04, G-05).
  @inlinable public static var noUnshare: Self { Self(rawValue: 1 << 1) }
  /// Wrong: fork copies pages that merely have references beyond their mapping,
  /// as if GET were PIN. No kernel did: references are taken by so many, and so
  /// briefly, that fork would copy, and fail, at random (D.2.3, D.5).
  @inlinable public static var copyReferencedAtFork: Self { Self(rawValue: 1 << 2) }
  /// Wrong: fork shares pinned pages like all others, so the next store moves
  /// their owner away from the device. Linux before 5.9 (D.2.3, G-01). Where
  /// both are set it prevails over `copyReferencedAtFork`.
  @inlinable public static var shareAtFork: Self { Self(rawValue: 1 << 3) }
  /// A choice, not a fault: a store reuses a shared page of a large folio when
  /// all references to the folio are mappings of this address space. Linux
  /// newer than 6.14; without it such a page is always copied (D.3 row 3).
  @inlinable public static var reuseLargeFolios: Self { Self(rawValue: 1 << 4) }
  /// A choice, not a fault: a remap to a fixed place, of equal lengths, moves all
  /// areas in its range with the holes between them, and looks at the place
  /// before it looks for the range. Linux from 6.17 on; without it the range must
  /// lie in one area (EFAULT).
  @inlinable public static var remapSeveralAreas: Self { Self(rawValue: 1 << 5) }

  /// Those that no kernel should follow.
  @inlinable
  public static var wrong: Self {
    [.reuseByMappingCount, .noUnshare, .copyReferencedAtFork, .shareAtFork]
  }

  /// Does a pinned anonymous page stay exclusive as long as it is pinned (C.11
  /// G1)? What checks that on release (C.9) must ask this first.
  @inlinable
  public var keepsPinsExclusive: Bool { isDisjoint(with: [.noUnshare, .shareAtFork]) }
}

extension Machine {
  /// The policy that decisions follow now.
  public var policy: MemoryPolicy {
    unsafe MemoryPolicy(rawValue: cshims_policy(header))
  }
}

extension PhysicalMemory {
  /// The policy of every address space of this machine; empty on a new one.
  ///
  /// May be set at any time, from any thread: each decision taken later follows
  /// it, one that is under way may still follow the one before. It changes no
  /// page, so what a wrong policy has done stays done.
  public var policy: MemoryPolicy {
    get { machine.policy }
    set {
      guard machine.isOwn else { return }
      unsafe cshims_policy_set(machine.header, newValue.rawValue)
    }
  }
}
