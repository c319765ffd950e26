//===----------------------------------------------------------------------===//
// What iterators can be made of besides user memory: files, indices of pages,
// pipes, virtual mappings.
//===----------------------------------------------------------------------===//

// swift-format-ignore-file: AlwaysUseLowerCamelCase
// The functions have their C names.

internal import AddressSpaces
public import CGup
internal import CShims
internal import PageExtraction
internal import PageFrames

// MARK: - Files

@c @implementation
public func gup_file_open(
  _ machine: OpaquePointer?, _ path: UnsafePointer<CChar>?, _ writable: Bool,
  _ file: UnsafeMutablePointer<OpaquePointer?>?
) -> Int32 {
  guard let path = unsafe path else { return refuse(.listMissing) }
  return unsafe make(machine, PhysicalMemory.self, into: file) { (memory) throws(MemoryError) in
    var descriptor: Int32 = -1
    let error = unsafe cshims_file_open(path, writable, &descriptor)
    guard error == 0 else { throw MemoryError.host(error) }
    defer { _ = cshims_close(descriptor) }
    return try MappedFile(duplicating: descriptor, memory: memory)
  }
}

@c @implementation
public func gup_file_close(_ file: OpaquePointer?) -> Int32 {
  unsafe destroy(file, MappedFile.self)
}

@c @implementation
public func gup_file_length(_ file: OpaquePointer?) -> Int64 {
  unsafe count(file, MappedFile.self) { $0.length.rawValue }
}

@c @implementation
public func gup_file_bring_in(_ file: OpaquePointer?, _ offset: UInt64, _ length: UInt64) -> Int32 {
  unsafe call(file, MappedFile.self) { (file) throws(MemoryError) in
    try file.bringIn(offset: byteCount(offset), length: byteCount(length))
  }
}

@c @implementation
public func gup_file_sync(_ file: OpaquePointer?) -> Int32 {
  unsafe call(file, MappedFile.self) { (file) throws(MemoryError) in try file.sync() }
}

// MARK: - Indices

/// An index with the lock that its one writer at a time takes; a leaf, but for
/// the arena's.
@safe
final class PageIndex: Handled {
  static var kind: cshims_handle_kind { CSHIMS_HANDLE_XARRAY }

  let memory: PhysicalMemory
  let array: XArray
  private let lock: UnsafeMutablePointer<cshims_lock>

  convenience init(memory: PhysicalMemory) throws(MemoryError) {
    let lock = UnsafeMutablePointer<cshims_lock>.allocate(capacity: 1)
    let error = unsafe cshims_lock_init(lock)
    do throws(MemoryError) {
      guard error == 0 else { throw MemoryError.host(error) }
      unsafe self.init(try PageIndex.makeArray(memory), lock, memory)
    } catch {
      unsafe lock.deallocate()
      throw error
    }
  }

  private static func makeArray(_ memory: PhysicalMemory) throws(MemoryError) -> XArray {
    do throws(ArenaExhausted) {
      return try XArray.create(in: memory.machine.arena)
    } catch {
      throw MemoryError(.outOfMemory, .metadataExhausted)
    }
  }

  private init(
    _ array: XArray, _ lock: UnsafeMutablePointer<cshims_lock>, _ memory: PhysicalMemory
  ) {
    self.array = array
    unsafe self.lock = lock
    self.memory = memory
  }

  deinit {
    array.destroy()
    unsafe lock.deallocate()
  }

  /// Changes the array; ENOMEM where the arena has no node.
  func change(_ body: (XArray) throws(ArenaExhausted) -> Void) throws(MemoryError) {
    unsafe _ = cshims_lock_acquire(lock)
    defer { unsafe cshims_lock_release(lock) }
    do throws(ArenaExhausted) {
      try body(array)
    } catch {
      throw MemoryError(.outOfMemory, .metadataExhausted)
    }
  }
}

@c @implementation
public func gup_xarray_create(
  _ machine: OpaquePointer?, _ xarray: UnsafeMutablePointer<OpaquePointer?>?
) -> Int32 {
  unsafe make(machine, PhysicalMemory.self, into: xarray) { (memory) throws(MemoryError) in
    try PageIndex(memory: memory)
  }
}

@c @implementation
public func gup_xarray_destroy(_ xarray: OpaquePointer?) -> Int32 {
  unsafe destroy(xarray, PageIndex.self)
}

@c @implementation
public func gup_xarray_store(
  _ xarray: OpaquePointer?, _ index: UInt64, _ order: UInt32, _ page: OpaquePointer?
) -> Int32 {
  unsafe call(xarray, PageIndex.self) { (pages) throws(MemoryError) in
    guard order <= UInt32(XArray.largestOrder) else {
      throw MemoryError(.invalid, .orderInvalid, Int(order))
    }
    var entry = XArrayEntry.empty
    if unsafe page != nil {
      guard let real = unsafe real(page) else {
        throw unsafe MemoryError(.invalid, .pageInvalid, page.number)
      }
      guard real.machine == pages.memory.machine else {
        throw MemoryError(.invalid, .machineMismatch, real.frameNumber.rawValue)
      }
      entry = .page(real)
    }
    try pages.change { (array) throws(ArenaExhausted) in
      _ = try array.store(index, entry, order: Int(order))
    }
  }
}

@c @implementation
public func gup_xarray_store_value(
  _ xarray: OpaquePointer?, _ index: UInt64, _ value: UInt64
) -> Int32 {
  unsafe call(xarray, PageIndex.self) { (pages) throws(MemoryError) in
    // One bit of the word says that it is none of a page's address.
    guard value >> 63 == 0 else {
      throw MemoryError(.invalid, .argumentUnknown, Int(truncatingIfNeeded: value))
    }
    try pages.change { (array) throws(ArenaExhausted) in
      _ = try array.store(index, .value(value))
    }
  }
}

@c @implementation
public func gup_xarray_reserve(_ xarray: OpaquePointer?, _ index: UInt64) -> Int32 {
  unsafe call(xarray, PageIndex.self) { (pages) throws(MemoryError) in
    try pages.change { (array) throws(ArenaExhausted) in try array.reserve(index) }
  }
}

@c @implementation
public func gup_xarray_load(_ xarray: OpaquePointer?, _ index: UInt64) -> OpaquePointer? {
  var page: Page?
  _ = unsafe call(xarray, PageIndex.self) { pages in page = pages.array.load(index).page }
  return unsafe pointer(page)
}

@c @implementation
public func gup_xarray_find(
  _ xarray: OpaquePointer?, _ index: UInt64, _ last: UInt64,
  _ entry: UnsafeMutablePointer<gup_xarray_entry>?
) -> Int32 {
  guard let entry = unsafe entry else { return refuse(.outputMissing) }
  return unsafe Int32(
    truncatingIfNeeded: count(xarray, PageIndex.self) { pages in
      guard let found = pages.array.next(from: index), found.index <= last else { return 0 }
      let value = found.entry.value
      unsafe entry.pointee = gup_xarray_entry(
        index: found.index, page: pointer(found.entry.page), value: value ?? 0,
        order: UInt32(found.order), is_value: value != nil)
      return 1
    })
}

// MARK: - Pipes

@c @implementation
public func gup_pipe_create(
  _ machine: OpaquePointer?, _ buffers: UInt32, _ pipe: UnsafeMutablePointer<OpaquePointer?>?
) -> Int32 {
  unsafe make(machine, PhysicalMemory.self, into: pipe) { (memory) throws(MemoryError) in
    try Pipe(memory: memory, capacity: buffers == 0 ? 16 : Int(buffers))
  }
}

@c @implementation
public func gup_pipe_destroy(_ pipe: OpaquePointer?) -> Int32 { unsafe destroy(pipe, Pipe.self) }

@c @implementation
public func gup_pipe_write(
  _ pipe: OpaquePointer?, _ from: UnsafeRawPointer?, _ length: Int
) -> Int64 {
  cshims_ledger_enter(0)
  return unsafe count(pipe, Pipe.self) { (pipe) throws(MemoryError) in
    try unsafe pipe.append(bytes(from, length)).length.rawValue
  }
}

@c @implementation
public func gup_pipe_read(
  _ pipe: OpaquePointer?, _ to: UnsafeMutableRawPointer?, _ length: Int
) -> Int64 {
  unsafe count(pipe, Pipe.self) { (pipe) throws(MemoryError) in
    try unsafe pipe.read(into: bytes(to, length)).rawValue
  }
}

@c @implementation
public func gup_pipe_bytes(_ pipe: OpaquePointer?) -> Int64 {
  unsafe count(pipe, Pipe.self) { $0.byteCount.rawValue }
}

@c @implementation
public func gup_pipe_buffers(_ pipe: OpaquePointer?) -> Int64 {
  unsafe count(pipe, Pipe.self) { $0.bufferCount }
}

@c @implementation
public func gup_pipe_hazards(_ pipe: OpaquePointer?) -> Int64 {
  unsafe count(pipe, Pipe.self) { $0.hazardCount }
}

// MARK: - Virtual mappings

@c @implementation
public func gup_vmap_create(
  _ machine: OpaquePointer?, _ list: UnsafePointer<OpaquePointer?>?, _ pageCount: Int,
  _ vmap: UnsafeMutablePointer<OpaquePointer?>?
) -> Int32 {
  unsafe make(machine, PhysicalMemory.self, into: vmap) { (memory) throws(MemoryError) in
    guard let list = unsafe list, pageCount >= 0 else {
      throw MemoryError(.invalid, .listMissing, pageCount)
    }
    // Grows as pages are found real: a count alone is no reason for memory.
    var pages: [Page] = []
    for index in 0..<pageCount {
      guard let page = unsafe real(unsafe list[index]) else {
        throw MemoryError(.invalid, .pageInvalid, unsafe list[index].number)
      }
      pages.append(page)
    }
    return try VirtualMapping(pages, memory: memory)
  }
}

@c @implementation
public func gup_vmap_destroy(_ vmap: OpaquePointer?) -> Int32 {
  unsafe destroy(vmap, VirtualMapping.self)
}

@c @implementation
public func gup_vmap_address(_ vmap: OpaquePointer?) -> UnsafeMutableRawPointer? {
  var address: UnsafeMutableRawPointer?
  _ = unsafe call(vmap, VirtualMapping.self) { mapping in unsafe address = mapping.bytes.baseAddress
  }
  return unsafe address
}
