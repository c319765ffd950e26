//===----------------------------------------------------------------------===//
// When a pin for reading must first give the address space a page of its own.
//===----------------------------------------------------------------------===//

internal import CShims
internal import PageFrames

/// Must sharing be broken before a page behind a read-only entry is pinned
/// (gup_must_unshare, semantics C.3)?
///
/// - Parameters:
///   - isCopyOnWrite: whether the area is private and may be written; nil where
///     the walk holds no lock and knows no area.
///   - machine: whose policy may forbid it; asked last, since it rarely matters.
func mustUnshare(
  _ flags: GUPFlags, isAnonymous: Bool, isExclusive: Bool, isCopyOnWrite: Bool?,
  _ machine: Machine
) -> Bool {
  // A plain reference may see a later copy left behind: that is its contract.
  guard flags.contains(.pin), !flags.contains(.write) else { return false }
  // Others' pages stay right for as long as one transfer, not for ever.
  let must = isAnonymous ? !isExclusive : flags.contains(.longTerm) && (isCopyOnWrite ?? true)
  return must && !machine.policy.contains(.noUnshare)
}
