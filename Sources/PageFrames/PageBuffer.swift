//===----------------------------------------------------------------------===//
// PageBuffer: an owned list of pages of a fixed capacity, what GUP and
// extraction fill (the kernel's `struct page **pages`).
//
// It owns the list, not the holds in it: whoever took the pages releases them.
//===----------------------------------------------------------------------===//

internal import CShims
internal import Events

/// A list of up to `capacity` pages.
///
/// The memory is the buffer's and freed with it; the holds on the listed pages
/// are their taker's. Laid out as a C array of page pointers, so `baseAddress`
/// goes wherever a `struct page **` is wanted. Not thread-safe: one owner.
@safe
@frozen
public struct PageBuffer: ~Copyable {
  /// The first of `capacity` slots; never nil, also when `capacity` is 0.
  public let baseAddress: UnsafeMutablePointer<Page?>
  /// How many slots there are.
  public let capacity: Int
  /// How many slots are in use: 0 ... `capacity`. Slots past it are stale.
  public var count: Int {
    willSet { precondition(newValue >= 0 && newValue <= capacity, "count beyond the capacity") }
  }

  /// Makes an empty list.
  ///
  /// - Parameters:
  ///   - capacity: slots, 0 or more.
  ///   - machine: whose failure point `.pageListAllocation` is asked first.
  /// - Throws: EINVAL for a negative capacity, ENOMEM when there is no memory
  ///   for it or the machine says so.
  /// - Complexity: O(`capacity`): the slots start as nil.
  public init(capacity: Int, machine: Machine? = nil) throws(MemoryError) {
    guard capacity >= 0 else { throw MemoryError(.invalid, .countNegative, capacity) }
    try unsafe self.init(capacity, machine, cshims_allocate)
  }

  /// Makes a list for a caller that writes each slot before it is read: the
  /// slots start as anything, at O(1).
  ///
  /// - Precondition: `capacity` > 0.
  package init(unfilled capacity: Int, machine: Machine) throws(MemoryError) {
    try unsafe self.init(capacity, machine, cshims_allocate_unfilled)
  }

  @inline(__always)
  private init(
    _ capacity: Int, _ machine: Machine?,
    _ allocate: (UInt64, UInt64) -> UnsafeMutableRawPointer?
  ) throws(MemoryError) {
    if let machine, unsafe machine.header.fails(at: .pageListAllocation) {
      throw MemoryError(.outOfMemory, .injected, capacity)
    }
    let slots = max(1, capacity)
    guard
      let memory = unsafe allocate(UInt64(slots), UInt64(MemoryLayout<Page?>.stride))
    else { throw MemoryError(.outOfMemory, .pageListExhausted, capacity) }
    unsafe self.baseAddress = memory.bindMemory(to: Page?.self, capacity: slots)
    self.capacity = capacity
    self.count = 0
  }

  deinit { unsafe cshims_free(baseAddress) }

  /// Gives the memory away: the caller frees it by `cshims_free`.
  package consuming func relinquish() -> UnsafeMutablePointer<Page?> {
    let slots = unsafe baseAddress
    discard self
    return unsafe slots
  }

  /// The page in a slot that is in use; nil where a release call is to skip it.
  @inlinable
  public subscript(index: Int) -> Page? {
    get {
      precondition(index >= 0 && index < count, "slot not in use")
      return unsafe baseAddress[index]
    }
    set {
      precondition(index >= 0 && index < count, "slot not in use")
      unsafe baseAddress[index] = newValue
    }
  }

  /// Empties the list. Holds on its pages stay with whoever took them.
  public mutating func removeAll() { count = 0 }
}
