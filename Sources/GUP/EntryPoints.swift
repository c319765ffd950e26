//===----------------------------------------------------------------------===//
// The entry points (semantics C.2). Each adds its own flags and leaves the rest
// to Calls.swift.
//
//   fast        lockless walk, then the slow path for what it left over
//   fast only   lockless walk alone
//   plain       slow path alone
//
// All of them: `start` may be unaligned and is rounded down to its page; a
// `count` of 0 or less gives an empty result before anything is looked at; a
// range that 64 bits do not hold is EOVERFLOW for the fast calls, one that
// leaves user space EFAULT; flags of GUP's own, unknown ones and contradicting
// ones are EINVAL, also where an older or newer kernel said 0.
//===----------------------------------------------------------------------===//

public import AddressSpaces
internal import CShims
public import PageFrames

extension AddressSpace {
  // MARK: - Lists by pointer

  /// Takes a reference on each page of a range (get_user_pages_fast).
  ///
  /// - Parameters:
  ///   - start: a user address in the first page.
  ///   - count: pages; 0 or less takes none.
  ///   - flags: WRITE, FORCE, NOFAULT, PCI_P2PDMA, HONOR_NUMA_FAULT.
  ///   - pages: room for `count` pages, trusted to have it.
  /// - Returns: how many pages were taken, from the first on; each is the
  ///   caller's to drop by `putPages`. The stop says why it is fewer than asked.
  /// - Throws: what the kernel would return, when no page was taken: EINVAL for
  ///   flags or a missing list, EOVERFLOW, EFAULT, ENOMEM, EEXIST for frames
  ///   without a page, EREMOTEIO for peer-to-peer pages, ESRCH after `exit` and
  ///   in a copy of the process that it belongs to.
  /// - Complexity: O(count); no system call, lock or allocation while every
  ///   entry of the range is present.
  ///
  /// Thread-safe, also against changes of the range: a page that was taken was
  /// mapped there at some time during the call.
  public func getUserPagesFast(
    _ start: UserAddress, count: Int, flags: GUPFlags = [],
    into pages: UnsafeMutablePointer<Page?>?
  ) throws(MemoryError) -> GUPResult {
    try unsafe take(.reference, start, count, flags, pages)
  }

  /// Takes references as far as the lockless walk comes
  /// (get_user_pages_fast_only). Never locks, faults or throws for a page that
  /// it cannot have: the result is then short, its stop EAGAIN.
  public func getUserPagesFastOnly(
    _ start: UserAddress, count: Int, flags: GUPFlags = [],
    into pages: UnsafeMutablePointer<Page?>?
  ) throws(MemoryError) -> GUPResult {
    try unsafe fastCall(start, count, flags, adding: [.get, .fastOnly], pages)
  }

  /// Pins each page of a range (pin_user_pages_fast): for whoever reads or
  /// writes the pages' bytes. A pin, unlike a reference, makes fork copy for
  /// the child. As `getUserPagesFast`, and LONGTERM is allowed; dropped by
  /// `unpinUserPages`. The zero page is handed out without a pin.
  public func pinUserPagesFast(
    _ start: UserAddress, count: Int, flags: GUPFlags = [],
    into pages: UnsafeMutablePointer<Page?>?
  ) throws(MemoryError) -> GUPResult {
    try unsafe take(.pin, start, count, flags, pages)
  }

  /// Pins as far as the lockless walk comes (pin_user_pages_fast_only of older
  /// kernels). As `getUserPagesFastOnly`.
  public func pinUserPagesFastOnly(
    _ start: UserAddress, count: Int, flags: GUPFlags = [],
    into pages: UnsafeMutablePointer<Page?>?
  ) throws(MemoryError) -> GUPResult {
    try unsafe fastCall(start, count, flags, adding: [.pin, .fastOnly], pages)
  }

  /// Takes references under the mmap lock (get_user_pages), with every flag of
  /// callers but LONGTERM. Without a list it only brings the pages in.
  ///
  /// - Throws: as `getUserPagesFast`, and EHWPOISON with HWPOISON. A range that
  ///   leaves user space is EFAULT where it does.
  public func getUserPages(
    _ start: UserAddress, count: Int, flags: GUPFlags = [],
    into pages: UnsafeMutablePointer<Page?>?
  ) throws(MemoryError) -> GUPResult {
    guard count > 0 else { return GUPResult(pageCount: 0) }
    let own: GUPFlags = unsafe pages == nil ? [] : .get
    return try unsafe Call(mm, start, count, flags, adding: own, into: pages).slowEntry()
  }

  /// Pins under the mmap lock (pin_user_pages), with every flag of callers.
  /// EINVAL for bad arguments, where the kernel returns 0.
  public func pinUserPages(
    _ start: UserAddress, count: Int, flags: GUPFlags = [],
    into pages: UnsafeMutablePointer<Page?>?
  ) throws(MemoryError) -> GUPResult {
    guard count > 0 else { return GUPResult(pageCount: 0) }
    return try unsafe Call(mm, start, count, flags, adding: .pin, into: pages).slowEntry()
  }

  /// The fast calls that fall back: plain pages without ado, the rest the long way.
  @inline(__always)
  private func take(
    _ hold: PageHold, _ start: UserAddress, _ count: Int, _ flags: GUPFlags,
    _ pages: UnsafeMutablePointer<Page?>?
  ) throws(MemoryError) -> GUPResult {
    var spoiled: Page?
    var taken: Int?
    if let list = unsafe pages {
      if count == 1 {
        let one = unsafe mm.takePlainPage(hold, at: start.rawValue, flags: flags, into: list)
        if case .taken = one { return GUPResult(pageCount: 1) }
        spoiled = one.spoiled
      }
      // Also one page behind a leaf or a read-only entry.
      if spoiled == nil {
        taken = unsafe mm.takePlainPages(
          hold, from: start.rawValue, count: count, flags: flags, into: list)
        if taken == count { return GUPResult(pageCount: count) }
      }
    }
    return try unsafe finishTake(hold, start, count, flags, pages, spoiled, taken)
  }

  /// A fast call after plain pages were tried: one page that was counted in vain, or
  /// else what `takePlainPages` returned.
  @inline(never)
  package func finishTake(
    _ hold: PageHold, _ start: UserAddress, _ count: Int, _ flags: GUPFlags,
    _ pages: UnsafeMutablePointer<Page?>?, _ spoiled: Page?, _ taken: Int?
  ) throws(MemoryError) -> GUPResult {
    spoiled?.undoPlainTake(hold)
    let own: GUPFlags = hold == .pin ? .pin : .get
    guard let taken, let list = unsafe pages else {
      return try unsafe fastCall(start, count, flags, adding: own, pages)
    }
    return try unsafe Call.finishFast(
      mm, start.rawValue & ~0xfff, count, flags.union(own), list, taken)
  }

  /// The fast calls with every check.
  @inline(never)
  private func fastCall(
    _ start: UserAddress, _ count: Int, _ flags: GUPFlags, adding own: GUPFlags,
    _ pages: UnsafeMutablePointer<Page?>?
  ) throws(MemoryError) -> GUPResult {
    guard count > 0 else { return GUPResult(pageCount: 0) }
    return try unsafe Call(mm, start, count, flags, adding: own, into: pages).fast()
  }

  // MARK: - Lists that own their memory

  /// `getUserPagesFast` into a buffer, from its first slot on. The buffer's
  /// count becomes the pages taken, 0 on an error; EINVAL when it is too small.
  public func getUserPagesFast(
    _ start: UserAddress, count: Int, flags: GUPFlags = [], into pages: inout PageBuffer
  ) throws(MemoryError) -> GUPResult {
    let list = try unsafe room(for: count, in: &pages)
    let result = try unsafe getUserPagesFast(start, count: count, flags: flags, into: list)
    pages.count = result.pageCount
    return result
  }

  /// `getUserPagesFastOnly` into a buffer.
  public func getUserPagesFastOnly(
    _ start: UserAddress, count: Int, flags: GUPFlags = [], into pages: inout PageBuffer
  ) throws(MemoryError) -> GUPResult {
    let list = try unsafe room(for: count, in: &pages)
    let result = try unsafe getUserPagesFastOnly(start, count: count, flags: flags, into: list)
    pages.count = result.pageCount
    return result
  }

  /// `pinUserPagesFast` into a buffer.
  public func pinUserPagesFast(
    _ start: UserAddress, count: Int, flags: GUPFlags = [], into pages: inout PageBuffer
  ) throws(MemoryError) -> GUPResult {
    let list = try unsafe room(for: count, in: &pages)
    let result = try unsafe pinUserPagesFast(start, count: count, flags: flags, into: list)
    pages.count = result.pageCount
    return result
  }

  /// `pinUserPagesFastOnly` into a buffer.
  public func pinUserPagesFastOnly(
    _ start: UserAddress, count: Int, flags: GUPFlags = [], into pages: inout PageBuffer
  ) throws(MemoryError) -> GUPResult {
    let list = try unsafe room(for: count, in: &pages)
    let result = try unsafe pinUserPagesFastOnly(start, count: count, flags: flags, into: list)
    pages.count = result.pageCount
    return result
  }

  /// `getUserPages` into a buffer.
  public func getUserPages(
    _ start: UserAddress, count: Int, flags: GUPFlags = [], into pages: inout PageBuffer
  ) throws(MemoryError) -> GUPResult {
    let list = try unsafe room(for: count, in: &pages)
    let result = try unsafe getUserPages(start, count: count, flags: flags, into: list)
    pages.count = result.pageCount
    return result
  }

  /// `pinUserPages` into a buffer.
  public func pinUserPages(
    _ start: UserAddress, count: Int, flags: GUPFlags = [], into pages: inout PageBuffer
  ) throws(MemoryError) -> GUPResult {
    let list = try unsafe room(for: count, in: &pages)
    let result = try unsafe pinUserPages(start, count: count, flags: flags, into: list)
    pages.count = result.pageCount
    return result
  }

  private func room(
    for count: Int, in pages: inout PageBuffer
  ) throws(MemoryError) -> UnsafeMutablePointer<Page?> {
    pages.removeAll()
    guard count <= pages.capacity else {
      throw MemoryError(.invalid, .listTooShort, pages.capacity)
    }
    return unsafe pages.baseAddress
  }
}
