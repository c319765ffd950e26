//===----------------------------------------------------------------------===//
// UserSpace: an address space as extraction calls it. The iterator that holds
// one holds the object too, so a call need not count it: a retain and a release
// would be a tenth of what 16 pages cost.
//===----------------------------------------------------------------------===//

internal import AddressSpaces
internal import GUP
internal import PageFrames

/// An unowned address space.
@safe
struct UserSpace: @unchecked Sendable {
  private let object: Unmanaged<AddressSpace>

  init(_ space: AddressSpace) { unsafe object = Unmanaged.passUnretained(space) }

  /// Takes pages by the call that a retention asks for: pin_user_pages_fast or
  /// get_user_pages_fast.
  @inline(__always)
  func take(
    _ retention: Retention, from start: UserAddress, count: Int, flags: GUPFlags,
    into list: UnsafeMutablePointer<Page?>
  ) throws(MemoryError) -> GUPResult {
    // The closure cannot throw a typed error through this call.
    let outcome = unsafe object._withUnsafeGuaranteedRef {
      space -> Result<GUPResult, MemoryError> in
      do throws(MemoryError) {
        return .success(
          retention == .pinned
            ? try unsafe space.pinUserPagesFast(start, count: count, flags: flags, into: list)
            : try unsafe space.getUserPagesFast(start, count: count, flags: flags, into: list))
      } catch {
        return .failure(error)
      }
    }
    return try outcome.get()
  }
}
