//===----------------------------------------------------------------------===//
// gup_iter: an IOVIter inside a C struct.
//
//     word 0       a mark that says it was made
//     word 1       the handle of what it was made of
//     words 2 ...  the IOVIter, bit by bit
//
// The bits own nothing. What they refer to is kept by the handle in word 1, and
// segments by the C caller, so the struct may be copied and dropped as the
// kernel's is. Each call looks first whether that handle is still open.
//===----------------------------------------------------------------------===//

// swift-format-ignore-file: AlwaysUseLowerCamelCase
// The functions have their C names.

internal import AddressSpaces
public import CGup
internal import CShims
internal import PageExtraction
internal import PageFrames

private let mark: UInt64 = 0x6775_705f_6974_6572

/// Stores an iterator that owns nothing but references to what `owner` keeps.
func store(
  _ iterator: IOVIter, _ owner: OpaquePointer?, in iter: UnsafeMutablePointer<gup_iter>
) {
  unsafe iter.pointee.words.0 = mark
  unsafe iter.pointee.words.1 = owner.number
  // Bit by bit: the references are counted in `iterator`, not here.
  unsafe withUnsafePointer(to: iterator) {
    unsafe cshims_copy(
      UnsafeMutableRawPointer(iter) + iteratorOffset, $0, UInt64(MemoryLayout<IOVIter>.size))
  }
}

/// The iterator in a struct; nil when none was made there, or what it was made
/// of is gone.
@inline(__always)
func live(_ iter: UnsafePointer<gup_iter>?) -> UnsafeMutablePointer<IOVIter>? {
  guard let iter = unsafe iter, UInt(bitPattern: iter) & 7 == 0,
    unsafe iter.pointee.words.0 == mark
  else { return nil }
  let owner = unsafe iter.pointee.words.1
  guard unsafe cshims_handle_object(owner, UInt32(owner >> 16 & 15)) != nil else { return nil }
  return unsafe UnsafeMutableRawPointer(mutating: iter).advanced(by: iteratorOffset)
    .assumingMemoryBound(to: IOVIter.self)
}

/// The handle that an iterator was made with; anything for what is none.
@inline(__always)
func owner(_ iter: UnsafePointer<gup_iter>?) -> UInt64 {
  guard let iter = unsafe iter, UInt(bitPattern: iter) & 7 == 0 else { return 0 }
  return unsafe iter.pointee.words.1
}

/// Calls `body` with the iterator in place. What it counts, or the negative
/// errno.
@inline(__always)
func count(
  _ iter: UnsafePointer<gup_iter>?,
  _ body: (UnsafeMutablePointer<IOVIter>) throws(MemoryError) -> Int
) -> Int64 {
  guard let iterator = unsafe live(iter) else { return refuse(.iteratorInvalid) }
  do throws(MemoryError) {
    return Int64(try unsafe body(iterator))
  } catch {
    return fail(error)
  }
}

/// The same for calls that count nothing.
@inline(__always)
func call(
  _ iter: UnsafePointer<gup_iter>?,
  _ body: (UnsafeMutablePointer<IOVIter>) throws(MemoryError) -> Void
) -> Int32 {
  Int32(
    truncatingIfNeeded: unsafe count(iter) { (iterator) throws(MemoryError) in
      try unsafe body(iterator)
      return 0
    })
}

// MARK: - Questions

@c @implementation
public func gup_iter_get_info(
  _ iter: UnsafePointer<gup_iter>?, _ info: UnsafeMutablePointer<gup_iter_info>?
) -> Int32 {
  guard let info = unsafe info else { return refuse(.outputMissing) }
  return unsafe call(iter) { iterator in
    let it = unsafe iterator.pointee
    unsafe info.pointee = gup_iter_info(
      kind: Int32(it.kind.rawValue), dialect: Int32(it.dialect.rawValue),
      direction: UInt32(it.direction.rawValue), nofault: it.noFault,
      count: UInt64(it.count.rawValue), offset: Int64(it.offset.rawValue),
      segments: UInt64(it.segmentCount))
  }
}

@c @implementation
public func gup_iter_count(_ iter: UnsafePointer<gup_iter>?) -> Int {
  guard let iterator = unsafe live(iter) else { return 0 }
  return unsafe iterator.pointee.count.rawValue
}

@c @implementation
public func gup_iter_npages(_ iter: UnsafePointer<gup_iter>?, _ maxPages: Int64) -> Int64 {
  unsafe count(iter) { unsafe $0.pointee.pageCount(maxPages: PageCount(Int(maxPages))).rawValue }
}

@c @implementation
public func gup_iter_is_aligned(
  _ iter: UnsafePointer<gup_iter>?, _ addressMask: UInt64, _ lengthMask: UInt64
) -> Int32 {
  Int32(
    truncatingIfNeeded: unsafe count(iter) {
      unsafe $0.pointee.isAligned(addressMask: addressMask, lengthMask: lengthMask) ? 1 : 0
    })
}

@c @implementation
public func gup_iter_alignment(_ iter: UnsafePointer<gup_iter>?) -> UInt64 {
  guard let iterator = unsafe live(iter) else { return 0 }
  return unsafe iterator.pointee.alignment
}

@c @implementation
public func gup_iter_gap_alignment(_ iter: UnsafePointer<gup_iter>?) -> UInt64 {
  guard let iterator = unsafe live(iter) else { return 0 }
  return unsafe iterator.pointee.gapAlignment
}

@c @implementation
public func gup_iter_span(
  _ iter: UnsafePointer<gup_iter>?, _ start: Int, _ maxSize: Int, _ maxSegments: Int,
  _ segments: UnsafeMutablePointer<Int>?
) -> Int64 {
  unsafe count(iter) { (iterator) throws(MemoryError) in
    let span = try unsafe iterator.pointee.span(
      from: ByteCount(clamped(start)), maxSize: ByteCount(clamped(maxSize)),
      maxSegments: clamped(maxSegments))
    if let segments = unsafe segments { unsafe segments.pointee = span.segmentCount }
    return span.length.rawValue
  }
}

@c @implementation
public func gup_iter_extract_mode(_ iter: UnsafePointer<gup_iter>?) -> Int32 {
  Int32(truncatingIfNeeded: unsafe count(iter) { unsafe Int($0.pointee.extractMode.rawValue) })
}

// MARK: - Moves

@c @implementation
public func gup_iter_set_nofault(_ iter: UnsafeMutablePointer<gup_iter>?, _ nofault: Bool) -> Int32
{
  unsafe call(iter) { unsafe $0.pointee.noFault = nofault }
}

@c @implementation
public func gup_iter_advance(_ iter: UnsafeMutablePointer<gup_iter>?, _ size: Int) -> Int32 {
  cshims_ledger_enter(0)
  return unsafe call(iter) { (iterator) throws(MemoryError) in
    try unsafe iterator.pointee.advance(by: ByteCount(clamped(size)))
  }
}

@c @implementation
public func gup_iter_revert(_ iter: UnsafeMutablePointer<gup_iter>?, _ size: Int) -> Int32 {
  cshims_ledger_enter(0)
  return unsafe call(iter) { (iterator) throws(MemoryError) in
    try unsafe iterator.pointee.revert(by: ByteCount(clamped(size)))
  }
}

@c @implementation
public func gup_iter_truncate(_ iter: UnsafeMutablePointer<gup_iter>?, _ count: Int) -> Int32 {
  unsafe call(iter) { (iterator) throws(MemoryError) in
    try unsafe iterator.pointee.truncate(to: ByteCount(clamped(count)))
  }
}

@c @implementation
public func gup_iter_reexpand(_ iter: UnsafeMutablePointer<gup_iter>?, _ count: Int) -> Int32 {
  unsafe call(iter) { (iterator) throws(MemoryError) in
    try unsafe iterator.pointee.reexpand(to: ByteCount(clamped(count)))
  }
}

@c @implementation
public func gup_iter_save(
  _ iter: UnsafePointer<gup_iter>?, _ state: UnsafeMutablePointer<gup_iter_state>?
) -> Int32 {
  guard let state = unsafe state else { return refuse(.outputMissing) }
  return unsafe call(iter) { iterator in
    let place = unsafe iterator.pointee.saveState()
    unsafe UnsafeMutableRawPointer(state).storeBytes(of: place, as: IOVIter.State.self)
  }
}

@c @implementation
public func gup_iter_restore(
  _ iter: UnsafeMutablePointer<gup_iter>?, _ state: UnsafePointer<gup_iter_state>?
) -> Int32 {
  cshims_ledger_enter(0)
  guard let state = unsafe state else { return refuse(.listMissing) }
  return unsafe call(iter) { (iterator) throws(MemoryError) in
    try unsafe iterator.pointee.restore(
      UnsafeRawPointer(state).loadUnaligned(as: IOVIter.State.self))
  }
}

// MARK: - Copies

@c @implementation
public func gup_iter_copy_to(
  _ iter: UnsafeMutablePointer<gup_iter>?, _ from: UnsafeRawPointer?, _ length: Int
) -> Int64 {
  cshims_ledger_enter(0)
  return unsafe count(iter) { (iterator) throws(MemoryError) in
    try unsafe iterator.pointee.copyToIterator(from: bytes(from, length)).length.rawValue
  }
}

@c @implementation
public func gup_iter_copy_from(
  _ iter: UnsafeMutablePointer<gup_iter>?, _ to: UnsafeMutableRawPointer?, _ length: Int
) -> Int64 {
  unsafe count(iter) { (iterator) throws(MemoryError) in
    try unsafe iterator.pointee.copyFromIterator(into: bytes(to, length)).length.rawValue
  }
}

@c @implementation
public func gup_iter_zero(_ iter: UnsafeMutablePointer<gup_iter>?, _ length: Int) -> Int64 {
  cshims_ledger_enter(0)
  return unsafe count(iter) { (iterator) throws(MemoryError) in
    try unsafe iterator.pointee.zeroFill(ByteCount(clamped(length))).length.rawValue
  }
}

@c @implementation
public func gup_iter_copy_page_to(
  _ iter: UnsafeMutablePointer<gup_iter>?, _ page: OpaquePointer?, _ offset: Int, _ length: Int
) -> Int64 {
  cshims_ledger_enter(0)
  guard let page = unsafe real(page) else { return unsafe refuse(.pageInvalid, page.number) }
  return unsafe count(iter) { (iterator) throws(MemoryError) in
    try unsafe iterator.pointee.copyPage(
      page, offset: clamped(offset), length: ByteCount(clamped(length))
    ).length.rawValue
  }
}
