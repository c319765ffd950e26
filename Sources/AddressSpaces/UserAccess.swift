//===----------------------------------------------------------------------===//
// Explicit access to user memory: copy_to_user and copy_from_user. Faults are
// taken by calling the handler, and bytes move through the window, so it works
// in every trap tier and touches no user address.
//
// Each page is copied under the mmap lock, so that it cannot be taken away, or
// shared by a fork, between finding it and copying. The caller's own buffer may
// be user memory, too, and is touched outside the lock only: bytes pass through
// a page on the stack.
//===----------------------------------------------------------------------===//

internal import CShims
public import PageFrames

extension AddressSpace {
  /// Stores bytes at a user address, faulting as the program's own store would.
  ///
  /// - Throws: EFAULT at the first address that cannot be written, ENOMEM when
  ///   frames run out; the bytes before it have been stored.
  public func copyToUser(
    _ destination: UserAddress, from bytes: UnsafeRawBufferPointer
  ) throws(MemoryError) {
    var page = InlineArray<512, UInt64>(repeating: 0)
    try unsafe withUnsafeMutablePointer(to: &page) { page throws(MemoryError) in
      try forEachPage(destination, bytes.count) { at, offset, length throws(MemoryError) in
        unsafe cshims_copy(page, bytes.baseAddress! + offset, UInt64(length))
        try unsafe withFrame(at, bytes.count - offset, write: true) { frame in
          unsafe cshims_copy(frame, page, UInt64(length))
        }
      }
    }
  }

  /// Loads bytes from a user address, faulting as the program's own load would.
  ///
  /// - Throws: EFAULT at the first address that cannot be read; the bytes
  ///   before it have been loaded.
  public func copyFromUser(
    _ bytes: UnsafeMutableRawBufferPointer, from source: UserAddress
  ) throws(MemoryError) {
    var page = InlineArray<512, UInt64>(repeating: 0)
    try unsafe withUnsafeMutablePointer(to: &page) { page throws(MemoryError) in
      try forEachPage(source, bytes.count) { at, offset, length throws(MemoryError) in
        try unsafe withFrame(at, bytes.count - offset, write: false) { frame in
          unsafe cshims_copy(page, frame, UInt64(length))
        }
        unsafe cshims_copy(bytes.baseAddress! + offset, page, UInt64(length))
      }
    }
  }

  /// Stores `count` zero bytes at a user address (clear_user).
  ///
  /// - Throws: as `copyToUser`; EINVAL for a negative count.
  public func zeroUser(_ destination: UserAddress, count: ByteCount) throws(MemoryError) {
    guard count.rawValue >= 0 else {
      throw MemoryError(.invalid, .lengthNotPositive, count.rawValue)
    }
    try forEachPage(destination, count.rawValue) { at, offset, length throws(MemoryError) in
      try unsafe withFrame(at, count.rawValue - offset, write: true) { frame in
        unsafe cshims_zero(frame, UInt64(length))
      }
    }
  }

  /// Calls `body` for each page of a range: the address, its distance from the
  /// start, and how many bytes of the range lie in that page.
  private func forEachPage(
    _ address: UserAddress, _ count: Int,
    _ body: (UInt64, Int, Int) throws(MemoryError) -> Void
  ) throws(MemoryError) {
    guard count > 0 else { return }
    let start = address.rawValue
    guard start < CSHIMS_TASK_SIZE, UInt64(count) <= CSHIMS_TASK_SIZE - start else {
      throw MemoryError(.badAddress, .addressOutsideUserSpace, address)
    }
    var done = 0
    while done < count {
      let at = start + UInt64(done)
      let length = min(count - done, 4096 - Int(at & 0xfff))
      try body(at, done, length)
      done += length
    }
  }

  /// Calls `body` with where `address` is in the window, under the mmap lock. A
  /// fault takes up to 256 pages of the `remaining` bytes at once.
  private func withFrame(
    _ address: UInt64, _ remaining: Int, write: Bool, _ body: (UnsafeMutableRawPointer) -> Void
  ) throws(MemoryError) {
    guard mm.isOwn else { throw mm.otherProcess }
    mm.lock()
    defer { mm.unlock() }
    if mm.hasExited { throw MemoryError(.noSuchProcess, .exited, address) }
    guard let area = unsafe mm.area(containing: address) else {
      throw MemoryError(.badAddress, .notMapped, address)
    }
    guard unsafe area.pointee.allows(write: write) else {
      throw MemoryError(.badAddress, write ? .writeForbidden : .readForbidden, address)
    }
    let access: FaultAccess = write ? .write : .read
    let page = address & ~0xfff
    var value = mm.value(at: page)
    if !MM.serves(value, access) || write && mm.awaitsStore(value) {
      let end = unsafe min(address + UInt64(remaining), area.pointee.end, page + 256 << 12)
      let pages = Int((end - page + 4095) >> 12)
      let result = unsafe mm.handleFault(at: page, pages: pages, in: area, access: access)
      if result.pages == 0 {
        throw result.outcome.error(at: address) ?? MemoryError(.badAddress, .notPresent, address)
      }
      value = mm.value(at: page)
    }
    let frame = unsafe mm.machine.address(ofFrame: MM.frame(of: value))
    unsafe body(frame + Int(address & 0xfff))
  }
}
