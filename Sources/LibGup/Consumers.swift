//===----------------------------------------------------------------------===//
// What is built from extractions: bvecs, detached iterators, scatter lists,
// block transfers. Each is a move-only Swift value in a box that its handle
// keeps; releasing takes the value out.
//===----------------------------------------------------------------------===//

// swift-format-ignore-file: AlwaysUseLowerCamelCase
// The functions have their C names.

public import CGup
internal import CShims
internal import PageExtraction
internal import PageFrames

extension BVecBox: Handled {
  static var kind: cshims_handle_kind { CSHIMS_HANDLE_BVECS }
}
extension DetachedBox: Handled {
  static var kind: cshims_handle_kind { CSHIMS_HANDLE_DETACHED }
}
extension ScatterListBox: Handled {
  static var kind: cshims_handle_kind { CSHIMS_HANDLE_SG }
}
extension BioBox: Handled {
  static var kind: cshims_handle_kind { CSHIMS_HANDLE_BIO }
}

/// Closes a handle and lets `body` end what it kept.
private func end<Object: Handled>(
  _ handle: OpaquePointer?, _ type: Object.Type, _ body: (Object) -> Void
) -> Int32 {
  do throws(MemoryError) {
    unsafe body(try close(handle, type))
    return 0
  } catch {
    return fail(error)
  }
}

/// Extracts by `body` and yields the handle of the box that it makes.
@inline(__always)
private func extract<Made: Handled>(
  _ iter: UnsafeMutablePointer<gup_iter>?, into out: UnsafeMutablePointer<OpaquePointer?>?,
  _ body: (UnsafeMutablePointer<IOVIter>) throws(MemoryError) -> (Made, Int)
) -> Int64 {
  guard let out = unsafe out, let iter = unsafe iter else { return refuse(.outputMissing) }
  return unsafe count(iter) { (iterator) throws(MemoryError) in
    let before = unsafe iterator.pointee.saveState()
    let (box, length) = try unsafe body(iterator)
    do throws(MemoryError) {
      unsafe out.pointee = try open(
        box, machineOf(OpaquePointer(bitPattern: UInt(owner(iter)))))
    } catch {
      try unsafe iterator.pointee.restore(before)
      throw error
    }
    return length
  }
}

private func bvec(_ bvec: BVec) -> gup_bvec {
  unsafe gup_bvec(page: pointer(bvec.page), length: bvec.length, offset: bvec.offset)
}

// MARK: - BVecs

@c @implementation
public func gup_iter_extract_bvecs(
  _ iter: UnsafeMutablePointer<gup_iter>?, _ maxSize: Int, _ maxBVecs: Int, _ flags: UInt32,
  _ exactly: Bool, _ bvecs: UnsafeMutablePointer<OpaquePointer?>?
) -> Int64 {
  unsafe cshims_ledger_enter(owner(iter))
  return unsafe extract(iter, into: bvecs) { (iterator) throws(MemoryError) in
    let options = try options(flags)
    let size = ByteCount(clamped(maxSize))
    let box = try unsafe BVecBox.extract(
      from: &iterator.pointee, maxSize: size, maxBVecs: clamped(maxBVecs), exactly: exactly,
      options: options)
    return (box, box.length.rawValue)
  }
}

@c @implementation
public func gup_bvecs_count(_ bvecs: OpaquePointer?) -> Int64 {
  unsafe count(bvecs, BVecBox.self) { $0.count }
}

@c @implementation
public func gup_bvecs_get(
  _ bvecs: OpaquePointer?, _ index: Int, _ out: UnsafeMutablePointer<gup_bvec>?
) -> Int32 {
  guard let out = unsafe out else { return refuse(.outputMissing) }
  return unsafe call(bvecs, BVecBox.self) { (box) throws(MemoryError) in
    guard index >= 0, index < box.count else {
      throw MemoryError(.invalid, .indexOutOfRange, index)
    }
    unsafe out.pointee = bvec(box[index])
  }
}

@c @implementation
public func gup_bvecs_release(_ bvecs: OpaquePointer?, _ dirty: Bool) -> Int32 {
  cshims_ledger_enter(0)
  return unsafe end(bvecs, BVecBox.self) { $0.release(dirty: dirty) }
}

// MARK: - Detached iterators

@c @implementation
public func gup_iter_detach(
  _ iter: UnsafeMutablePointer<gup_iter>?, _ maxSize: Int, _ flags: UInt32,
  _ detached: UnsafeMutablePointer<OpaquePointer?>?
) -> Int64 {
  unsafe cshims_ledger_enter(owner(iter))
  return unsafe extract(iter, into: detached) { (iterator) throws(MemoryError) in
    let box = try unsafe DetachedBox.detach(
      from: &iterator.pointee, maxSize: ByteCount(clamped(maxSize)), options: try options(flags))
    return (box, box.length.rawValue)
  }
}

@c @implementation
public func gup_detached_iter(
  _ detached: OpaquePointer?, _ iter: UnsafeMutablePointer<gup_iter>?
) -> Int32 {
  guard let iter = unsafe iter, UInt(bitPattern: iter) & 7 == 0 else {
    return refuse(.outputMissing)
  }
  return unsafe call(detached, DetachedBox.self) { box in
    // Its segments are the box's, which the handle keeps.
    unsafe store(box.iterator, detached, in: iter)
  }
}

@c @implementation
public func gup_detached_release(_ detached: OpaquePointer?, _ dirty: Bool) -> Int32 {
  cshims_ledger_enter(0)
  return unsafe end(detached, DetachedBox.self) { $0.release(dirty: dirty) }
}

// MARK: - Scatter lists

@c @implementation
public func gup_sg_create(
  _ machine: OpaquePointer?, _ capacity: Int, _ sg: UnsafeMutablePointer<OpaquePointer?>?
) -> Int32 {
  unsafe make(machine, PhysicalMemory.self, into: sg) { (memory) throws(MemoryError) in
    try ScatterListBox.make(capacity: clamped(capacity), memory: memory)
  }
}

@c @implementation
public func gup_iter_extract_to_sg(
  _ iter: UnsafeMutablePointer<gup_iter>?, _ sg: OpaquePointer?, _ maxSize: Int,
  _ maxEntries: Int, _ flags: UInt32
) -> Int64 {
  unsafe cshims_ledger_enter(owner(iter))
  return unsafe count(sg, ScatterListBox.self) { (box) throws(MemoryError) in
    guard let iterator = unsafe live(iter) else {
      throw MemoryError(.invalid, .iteratorInvalid)
    }
    return try unsafe box.add(
      from: &iterator.pointee, maxSize: ByteCount(clamped(maxSize)),
      maxEntries: clamped(maxEntries), options: try options(flags))
  }
}

@c @implementation
public func gup_sg_count(_ sg: OpaquePointer?) -> Int64 {
  unsafe count(sg, ScatterListBox.self) { $0.count }
}

@c @implementation
public func gup_sg_get(
  _ sg: OpaquePointer?, _ index: Int, _ out: UnsafeMutablePointer<gup_sg_entry>?
) -> Int32 {
  guard let out = unsafe out else { return refuse(.outputMissing) }
  return unsafe call(sg, ScatterListBox.self) { (box) throws(MemoryError) in
    guard let entry = box.entry(index) else {
      throw MemoryError(.invalid, .indexOutOfRange, index)
    }
    unsafe out.pointee = gup_sg_entry(
      page: pointer(entry.page), offset: entry.offset, length: entry.length.rawValue,
      is_last: entry.isLast)
  }
}

@c @implementation
public func gup_sg_mark_end(_ sg: OpaquePointer?, _ end: Bool) -> Int32 {
  unsafe call(sg, ScatterListBox.self) { (box) throws(MemoryError) in
    try box.markEnd(end)
  }
}

@c @implementation
public func gup_sg_release(_ sg: OpaquePointer?, _ dirty: Bool) -> Int32 {
  cshims_ledger_enter(0)
  return unsafe end(sg, ScatterListBox.self) { $0.release(dirty: dirty) }
}

// MARK: - Block transfers

@c @implementation
public func gup_bio_create(
  _ machine: OpaquePointer?, _ maxBVecs: Int, _ blockSize: Int,
  _ bio: UnsafeMutablePointer<OpaquePointer?>?
) -> Int32 {
  unsafe make(machine, PhysicalMemory.self, into: bio) { (memory) throws(MemoryError) in
    try BioBox.make(
      memory: memory, maxBVecs: clamped(maxBVecs),
      logicalBlockSize: blockSize == 0 ? 512 : ByteCount(blockSize))
  }
}

@c @implementation
public func gup_bio_add_pages(
  _ bio: OpaquePointer?, _ iter: UnsafeMutablePointer<gup_iter>?, _ flags: UInt32
) -> Int64 {
  unsafe cshims_ledger_enter(owner(iter))
  return unsafe count(bio, BioBox.self) { (box) throws(MemoryError) in
    guard let iterator = unsafe live(iter) else {
      throw MemoryError(.invalid, .iteratorInvalid)
    }
    return try unsafe box.add(from: &iterator.pointee, options: try options(flags))
  }
}

@c @implementation
public func gup_bio_length(_ bio: OpaquePointer?) -> Int64 {
  unsafe count(bio, BioBox.self) { $0.length.rawValue }
}

@c @implementation
public func gup_bio_count(_ bio: OpaquePointer?) -> Int64 {
  unsafe count(bio, BioBox.self) { $0.count }
}

@c @implementation
public func gup_bio_get(
  _ bio: OpaquePointer?, _ index: Int, _ out: UnsafeMutablePointer<gup_bvec>?
) -> Int32 {
  guard let out = unsafe out else { return refuse(.outputMissing) }
  return unsafe call(bio, BioBox.self) { (box) throws(MemoryError) in
    guard let found = box.bvec(index) else {
      throw MemoryError(.invalid, .indexOutOfRange, index)
    }
    unsafe out.pointee = bvec(found)
  }
}

@c @implementation
public func gup_bio_mark_dirty(_ bio: OpaquePointer?) -> Int32 {
  unsafe call(bio, BioBox.self) { box in box.markDirty() }
}

@c @implementation
public func gup_bio_release(_ bio: OpaquePointer?, _ dirty: Bool) -> Int32 {
  cshims_ledger_enter(0)
  return unsafe end(bio, BioBox.self) { $0.release(dirty: dirty) }
}
