//===----------------------------------------------------------------------===//
// Making iterators, one function a kind. Segments stay the caller's; every page
// in them is looked at before it is followed.
//===----------------------------------------------------------------------===//

// swift-format-ignore-file: AlwaysUseLowerCamelCase
// The functions have their C names.

internal import AddressSpaces
public import CGup
internal import CShims
internal import PageExtraction
internal import PageFrames

/// What a C caller's direction says.
private struct Aim {
  let direction: Direction
  /// Nil: none was named.
  let dialect: Dialect?

  init(_ bits: UInt32) throws(MemoryError) {
    let rfc = UInt32(GUP_RFC)
    let upstream = UInt32(GUP_UPSTREAM)
    guard bits & ~(UInt32(GUP_SOURCE) | rfc | upstream) == 0,
      bits & (rfc | upstream) != rfc | upstream
    else { throw MemoryError(.invalid, .argumentUnknown, Int(bits)) }
    direction = bits & UInt32(GUP_SOURCE) != 0 ? .source : .destination
    dialect = bits & rfc != 0 ? .rfc : bits & upstream != 0 ? .upstream : nil
  }
}

/// Makes an iterator of what a handle means.
@inline(__always)
private func make<Object: Handled>(
  _ iter: UnsafeMutablePointer<gup_iter>?, _ handle: OpaquePointer?, _ type: Object.Type,
  _ direction: UInt32, _ body: (Object, Aim) throws(MemoryError) -> IOVIter
) -> Int32 {
  guard let iter = unsafe iter, UInt(bitPattern: iter) & 7 == 0 else {
    return refuse(.outputMissing)
  }
  return unsafe call(handle, type) { (object) throws(MemoryError) in
    unsafe store(try body(object, try Aim(direction)), handle, in: iter)
  }
}

/// The caller's segments as the library knows them: laid out alike (Layout.swift).
private func segments<Segment, Element>(
  _ start: UnsafePointer<Segment>?, _ count: Int, as type: Element.Type
) throws(MemoryError) -> UnsafeBufferPointer<Element> {
  guard count >= 0, UInt(bitPattern: start) & 7 == 0, unsafe start != nil || count == 0 else {
    throw MemoryError(.invalid, .listMissing, count)
  }
  return unsafe UnsafeBufferPointer(
    start: UnsafeRawPointer(start)?.assumingMemoryBound(to: Element.self), count: count)
}

/// Refuses pointers that are no pages of the machine.
private func check(_ page: OpaquePointer?, _ memory: PhysicalMemory) throws(MemoryError) {
  guard let real = unsafe real(page), real.machine == memory.machine else {
    throw unsafe MemoryError(.invalid, .pageInvalid, page.number)
  }
}

@c @implementation
public func gup_iter_ubuf(
  _ iter: UnsafeMutablePointer<gup_iter>?, _ mm: OpaquePointer?, _ direction: UInt32,
  _ base: UInt64, _ count: Int
) -> Int32 {
  unsafe make(iter, mm, AddressSpace.self, direction) { (space, aim) throws(MemoryError) in
    try IOVIter(
      ubuf: UserAddress(base), count: ByteCount(count), direction: aim.direction, in: space,
      dialect: aim.dialect)
  }
}

@c @implementation
public func gup_iter_iovec(
  _ iter: UnsafeMutablePointer<gup_iter>?, _ mm: OpaquePointer?, _ direction: UInt32,
  _ list: UnsafePointer<gup_iovec>?, _ segmentCount: Int, _ count: Int
) -> Int32 {
  unsafe make(iter, mm, AddressSpace.self, direction) { (space, aim) throws(MemoryError) in
    try unsafe IOVIter(
      borrowingIOVec: segments(list, segmentCount, as: UserSegment.self),
      count: ByteCount(count), direction: aim.direction, in: space, dialect: aim.dialect)
  }
}

@c @implementation
public func gup_iter_bvec(
  _ iter: UnsafeMutablePointer<gup_iter>?, _ machine: OpaquePointer?, _ direction: UInt32,
  _ list: UnsafePointer<gup_bvec>?, _ segmentCount: Int, _ count: Int
) -> Int32 {
  unsafe make(iter, machine, PhysicalMemory.self, direction) {
    (memory, aim) throws(MemoryError) in
    let bvecs = try unsafe segments(list, segmentCount, as: BVec.self)
    for index in bvecs.indices { unsafe try check(unsafe list?[index].page, memory) }
    return try unsafe IOVIter(
      borrowingBVec: bvecs, count: ByteCount(count), direction: aim.direction, memory: memory,
      dialect: aim.dialect)
  }
}

@c @implementation
public func gup_iter_kvec(
  _ iter: UnsafeMutablePointer<gup_iter>?, _ machine: OpaquePointer?, _ direction: UInt32,
  _ list: UnsafePointer<gup_kvec>?, _ segmentCount: Int, _ count: Int
) -> Int32 {
  unsafe make(iter, machine, PhysicalMemory.self, direction) {
    (memory, aim) throws(MemoryError) in
    let kvecs = try unsafe segments(list, segmentCount, as: KVec.self)
    // An address of 0 is no `KVec`'s; without bytes it is nobody's at all.
    for index in kvecs.indices {
      guard unsafe list?[index].base != nil else {
        throw MemoryError(.invalid, .notKernelAddress, 0)
      }
    }
    return try unsafe IOVIter(
      borrowingKVec: kvecs, count: ByteCount(count), direction: aim.direction, memory: memory,
      dialect: aim.dialect ?? .upstream)
  }
}

@c @implementation
public func gup_iter_xarray(
  _ iter: UnsafeMutablePointer<gup_iter>?, _ xarray: OpaquePointer?, _ direction: UInt32,
  _ start: UInt64, _ count: Int
) -> Int32 {
  unsafe make(iter, xarray, PageIndex.self, direction) { (index, aim) throws(MemoryError) in
    try IOVIter(
      xarray: index.array, start: ByteCount(Int(truncatingIfNeeded: start)),
      count: ByteCount(count), direction: aim.direction, memory: index.memory,
      dialect: aim.dialect)
  }
}

@c @implementation
public func gup_iter_file(
  _ iter: UnsafeMutablePointer<gup_iter>?, _ file: OpaquePointer?, _ direction: UInt32,
  _ start: UInt64, _ count: Int
) -> Int32 {
  unsafe make(iter, file, MappedFile.self, direction) { (file, aim) throws(MemoryError) in
    try IOVIter(
      xarray: file.pages, start: ByteCount(Int(truncatingIfNeeded: start)),
      count: ByteCount(count), direction: aim.direction, memory: file.memory,
      dialect: aim.dialect)
  }
}

@c @implementation
public func gup_iter_folioq(
  _ iter: UnsafeMutablePointer<gup_iter>?, _ machine: OpaquePointer?, _ direction: UInt32,
  _ list: UnsafePointer<gup_folioq_slot>?, _ slotCount: Int, _ first: Int, _ offset: Int,
  _ count: Int
) -> Int32 {
  unsafe make(iter, machine, PhysicalMemory.self, direction) {
    (memory, aim) throws(MemoryError) in
    let folios = try unsafe segments(list, slotCount, as: QueuedFolio.self)
    for index in folios.indices { unsafe try check(unsafe list?[index].head, memory) }
    return try unsafe IOVIter(
      borrowingFolios: folios, slot: first, offset: ByteCount(offset), count: ByteCount(count),
      direction: aim.direction, memory: memory, dialect: aim.dialect ?? .upstream)
  }
}

@c @implementation
public func gup_iter_pipe(
  _ iter: UnsafeMutablePointer<gup_iter>?, _ pipe: OpaquePointer?, _ direction: UInt32,
  _ count: Int
) -> Int32 {
  unsafe make(iter, pipe, Pipe.self, direction) { (pipe, aim) throws(MemoryError) in
    try IOVIter(
      pipe: pipe, count: ByteCount(count), direction: aim.direction, dialect: aim.dialect)
  }
}

@c @implementation
public func gup_iter_discard(
  _ iter: UnsafeMutablePointer<gup_iter>?, _ machine: OpaquePointer?, _ direction: UInt32,
  _ count: Int
) -> Int32 {
  unsafe make(iter, machine, PhysicalMemory.self, direction) {
    (memory, aim) throws(MemoryError) in
    try IOVIter(
      discard: ByteCount(count), direction: aim.direction, memory: memory, dialect: aim.dialect)
  }
}

@c @implementation
public func gup_folio_slot(
  _ head: OpaquePointer?, _ slot: UnsafeMutablePointer<gup_folioq_slot>?
) -> Int32 {
  guard let slot = unsafe slot else { return refuse(.outputMissing) }
  return unsafe call(head) { (page) throws(MemoryError) in
    guard let folio = QueuedFolio(page) else {
      throw MemoryError(.invalid, .notFolioHead, page.frameNumber.rawValue)
    }
    unsafe slot.pointee = gup_folioq_slot(head: pointer(folio.basePage), order: folio.order)
  }
}

@c @implementation
public func gup_iter_import_ubuf(
  _ iter: UnsafeMutablePointer<gup_iter>?, _ mm: OpaquePointer?, _ direction: UInt32,
  _ base: UInt64, _ count: Int
) -> Int32 {
  unsafe make(iter, mm, AddressSpace.self, direction) { (space, aim) throws(MemoryError) in
    try IOVIter.importUBuf(
      UserAddress(base), count: ByteCount(clamped(count)), direction: aim.direction, in: space,
      dialect: aim.dialect)
  }
}

@c @implementation
public func gup_iter_import_iovec(
  _ iter: UnsafeMutablePointer<gup_iter>?, _ mm: OpaquePointer?, _ direction: UInt32,
  _ list: UnsafeMutablePointer<gup_iovec>?, _ segmentCount: Int
) -> Int32 {
  unsafe make(iter, mm, AddressSpace.self, direction) { (space, aim) throws(MemoryError) in
    try unsafe IOVIter(
      importingIOVec: UnsafeMutableBufferPointer(
        mutating: segments(UnsafePointer(list), segmentCount, as: UserSegment.self)),
      direction: aim.direction, in: space, dialect: aim.dialect)
  }
}

@c @implementation
public func gup_iovec_from_user(
  _ mm: OpaquePointer?, _ address: UInt64, _ segmentCount: Int,
  _ list: UnsafeMutablePointer<gup_iovec>?
) -> Int32 {
  unsafe call(mm, AddressSpace.self) { (space) throws(MemoryError) in
    let read = try IOVIter.segmentsFromUser(
      UserAddress(address), count: segmentCount, in: space)
    guard let list = unsafe list else {
      if read.isEmpty { return }
      throw MemoryError(.invalid, .outputMissing, segmentCount)
    }
    for index in read.indices {
      unsafe list[index] = gup_iovec(
        base: read[index].base.rawValue, length: read[index].length.rawValue)
    }
  }
}
