//===----------------------------------------------------------------------===//
// DMAEngine: the device. It reaches pages through the window, behind the back
// of page tables and faults, as hardware does: what it writes lands in the
// frames that were handed to it, wherever the program's addresses lead by now.
//
// Direction. A source extraction promised that the device only reads: in the
// RFC dialect it holds mere references, which fork and copy-on-write do not
// respect, and in the upstream dialect its pins did not ask for writable pages.
// So writing to one is refused, and who wants to see what goes wrong then says
// `allowingStale`. Reading a destination extraction is always allowed: its
// pages stay the program's for as long as they are pinned. Two things no
// argument allows: writing to the zero page, which every untouched address
// shares, and reaching a frame that nobody holds.
//
// Transfers are checked as a whole before the first byte moves. Nothing here
// is locked: a program that touches the bytes meanwhile sees them change, as
// it would with a device.
//===----------------------------------------------------------------------===//

internal import CShims
public import PageExtraction
public import PageFrames

/// A device that reads and writes pages of one machine.
///
/// Keeps the machine alive. Thread-safe; transfers of the same bytes race as
/// they do in hardware.
@safe
public final class DMAEngine: Sendable {
  /// The machine whose pages it reaches.
  public let memory: PhysicalMemory

  public init(memory: PhysicalMemory) { self.memory = memory }

  // MARK: - Extractions

  /// Writes bytes into extracted memory.
  ///
  /// - Parameters:
  ///   - bytes: what the device delivers.
  ///   - extraction: the memory.
  ///   - offset: bytes from the extraction's start, from 0.
  ///   - allowingStale: writes to a source extraction too. The bytes may then
  ///     be lost, or seen by a forked child alone.
  /// - Throws: EACCES for a source extraction or the zero page; EINVAL for an
  ///   offset outside the extraction, bytes that reach beyond it, or another
  ///   machine's pages; EFAULT for a frame that nobody holds. Then nothing was
  ///   written.
  /// - Complexity: O(pages + bytes).
  public func write(
    _ bytes: UnsafeRawBufferPointer, to extraction: borrowing Extraction,
    at offset: ByteCount = 0, allowingStale: Bool = false
  ) throws(MemoryError) {
    guard allowingStale || extraction.direction == .destination else {
      throw MemoryError(.accessDenied, .directionMismatch, Int(extraction.direction.rawValue))
    }
    try check(extraction, offset, bytes.count, writes: true)
    unsafe forEachPart(of: extraction, offset, bytes.count) { address, done, length in
      unsafe cshims_copy(address, bytes.baseAddress! + done, UInt64(length))
    }
  }

  /// Reads bytes out of extracted memory.
  ///
  /// - Parameters:
  ///   - extraction: the memory.
  ///   - offset: bytes from the extraction's start, from 0.
  ///   - destination: filled as a whole.
  /// - Throws: EINVAL for an offset outside the extraction, a destination that
  ///   reaches beyond it, or another machine's pages; EFAULT for a frame that
  ///   nobody holds. Then nothing was read.
  /// - Complexity: O(pages + bytes).
  public func read(
    from extraction: borrowing Extraction, at offset: ByteCount = 0,
    into destination: UnsafeMutableRawBufferPointer
  ) throws(MemoryError) {
    try check(extraction, offset, destination.count, writes: false)
    unsafe forEachPart(of: extraction, offset, destination.count) { address, done, length in
      unsafe cshims_copy(destination.baseAddress! + done, address, UInt64(length))
    }
  }

  // MARK: - Pages

  /// Writes bytes into a page, whoever holds it.
  ///
  /// - Parameters:
  ///   - bytes: what the device delivers.
  ///   - page: a held page of this machine, not the zero page.
  ///   - offset: 0 ... 4096 - bytes.
  /// - Throws: EINVAL, EACCES or EFAULT as the form above. Then nothing was
  ///   written.
  public func write(
    _ bytes: UnsafeRawBufferPointer, to page: Page, offset: Int
  ) throws(MemoryError) {
    try check(page, offset, bytes.count)
    try check(page, writes: true)
    guard let base = bytes.baseAddress else { return }
    unsafe cshims_copy(page.bytes.baseAddress! + offset, base, UInt64(bytes.count))
  }

  /// Reads bytes out of a page, whoever holds it.
  ///
  /// - Parameters:
  ///   - page: a held page of this machine.
  ///   - offset: 0 ... 4096 - bytes.
  ///   - destination: filled as a whole.
  /// - Throws: EINVAL or EFAULT as the form above. Then nothing was read.
  public func read(
    from page: Page, offset: Int, into destination: UnsafeMutableRawBufferPointer
  ) throws(MemoryError) {
    try check(page, offset, destination.count)
    try check(page, writes: false)
    guard let base = destination.baseAddress else { return }
    unsafe cshims_copy(base, page.bytes.baseAddress! + offset, UInt64(destination.count))
  }

  // MARK: - Checks

  private func check(
    _ extraction: borrowing Extraction, _ offset: ByteCount, _ count: Int, writes: Bool
  ) throws(MemoryError) {
    guard offset >= 0, offset <= extraction.length else {
      throw MemoryError(.invalid, .positionOutOfRange, offset.rawValue)
    }
    guard count <= (extraction.length - offset).rawValue else {
      throw MemoryError(.invalid, .lengthTooLarge, count)
    }
    guard count > 0 else { return }
    let start = extraction.offset + offset.rawValue
    for slot in start >> pageShift...(start + count - 1) >> pageShift {
      try check(extraction[slot], writes: writes)
    }
  }

  private func check(_ page: Page, writes: Bool) throws(MemoryError) {
    guard page.machine == memory.machine else {
      throw MemoryError(.invalid, .machineMismatch, page.frameNumber.rawValue)
    }
    guard page.referenceCount > 0 else {
      throw MemoryError(.badAddress, .pageNotHeld, page.frameNumber.rawValue)
    }
    guard !writes || !page.isZeroPage else {
      throw MemoryError(.accessDenied, .writeForbidden, page.frameNumber.rawValue)
    }
  }

  private func check(_ page: Page, _ offset: Int, _ count: Int) throws(MemoryError) {
    guard offset >= 0, offset <= pageSize else {
      throw MemoryError(.invalid, .positionOutOfRange, offset)
    }
    guard count <= pageSize - offset else {
      throw MemoryError(.invalid, .lengthTooLarge, count)
    }
  }

  /// Calls `body` with the window's bytes of each page's part. In range.
  private func forEachPart(
    of extraction: borrowing Extraction, _ offset: ByteCount, _ count: Int,
    _ body: (UnsafeMutableRawPointer, _ done: Int, _ length: Int) -> Void
  ) {
    var position = extraction.offset + offset.rawValue
    var done = 0
    while done < count {
      let start = position & 0xfff
      let length = min(pageSize - start, count - done)
      unsafe body(extraction[position >> pageShift].bytes.baseAddress! + start, done, length)
      position += length
      done += length
    }
  }
}
