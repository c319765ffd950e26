//===----------------------------------------------------------------------===//
// MappedFile: a real file whose pages live in frames of a machine, the handle
// that areas and iterators of it are made from.
//===----------------------------------------------------------------------===//

internal import CShims
public import PageFrames

/// A file that can be mapped, and its page cache.
///
/// Pages are read when they are first touched, and written back by `sync`, by
/// `AddressSpace.sync`, and when the last user is gone. Changes that others make
/// to the file after a page was read are not seen. Thread-safe.
@safe
public final class MappedFile: @unchecked Sendable {
  public let memory: PhysicalMemory
  /// Bytes of the file when it was opened; the pages that cover them can be
  /// mapped and faulted in.
  public let length: ByteCount
  /// May shared mappings of it be written?
  public let isWritable: Bool
  let cache: PageCacheHandle
  private let owner = cshims_process_identity()

  /// Opens a regular file by path.
  ///
  /// - Throws: the errno of open(2) as the value of a `hostRefused`; EINVAL for
  ///   what is not a regular file; ENOMEM when metadata memory is exhausted.
  public convenience init(
    path: String, writable: Bool = false, memory: PhysicalMemory
  ) throws(MemoryError) {
    var descriptor: Int32 = -1
    let error = unsafe cshims_file_open(path, writable, &descriptor)
    guard error == 0 else { throw MemoryError.host(error) }
    let file = try MappedFile.read(descriptor, memory)
    self.init(file.cache, file.length, file.isWritable, of: memory)
  }

  /// Takes a copy of an open descriptor.
  public convenience init(
    duplicating descriptor: Int32, memory: PhysicalMemory
  ) throws(MemoryError) {
    var copy: Int32 = -1
    let error = unsafe cshims_file_duplicate(descriptor, &copy)
    guard error == 0 else { throw MemoryError.host(error) }
    let file = try MappedFile.read(copy, memory)
    self.init(file.cache, file.length, file.isWritable, of: memory)
  }

  /// The cache of an open file, which is the file's then, or closed.
  private static func read(
    _ descriptor: Int32, _ memory: PhysicalMemory
  ) throws(MemoryError) -> (cache: PageCacheHandle, length: ByteCount, isWritable: Bool) {
    guard memory.machine.isOwn else {
      _ = cshims_close(descriptor)
      throw memory.otherProcess
    }
    var length: UInt64 = 0
    var writable = false
    let error = unsafe cshims_file_describe(descriptor, &length, &writable)
    guard error == 0 else {
      _ = cshims_close(descriptor)
      throw MemoryError.host(error)
    }
    let pageCount = Int((length + 4095) >> 12)
    // The cache must not be counted before its file is.
    memory.machine.enterGate()
    defer { memory.machine.leaveGate() }
    guard
      let cache = PageCacheHandle.create(
        memory.machine, pageCount: pageCount, file: descriptor, length: length)
    else {
      _ = cshims_close(descriptor)
      throw MemoryError(.outOfMemory, .metadataExhausted, length)
    }
    cache.countFile(1)
    return (cache, ByteCount(Int(length)), writable)
  }

  private init(
    _ cache: PageCacheHandle, _ length: ByteCount, _ isWritable: Bool, of memory: PhysicalMemory
  ) {
    self.memory = memory
    self.length = length
    self.isWritable = isWritable
    self.cache = cache
  }

  deinit {
    // In a copy of the process, one that has joined included, it is the original's.
    guard cshims_process_is(owner) else { return }
    memory.machine.enterGate()
    defer { memory.machine.leaveGate() }
    cache.countFile(-1)
    cache.release()
  }

  /// ESRCH in a copy of the process, one that has joined included.
  func checkOwn() throws(MemoryError) {
    guard cshims_process_is(owner) else {
      throw MemoryError(.noSuchProcess, .otherProcess, UInt64(cshims_process_id_of(owner)))
    }
  }

  /// The index of its pages, which XARRAY iterators run over (i_pages). Pages
  /// that were not touched yet are holes. Valid as long as the file.
  public var pages: XArray { unsafe cache.state.pointee.pages }

  /// Reads the pages that cover [offset, offset + length) into the cache, as
  /// readahead does.
  ///
  /// - Throws: EINVAL for a range outside the file, ENOMEM, EIO.
  public func bringIn(
    offset: ByteCount = 0, length: ByteCount
  ) throws(MemoryError) {
    guard offset.rawValue >= 0, length.rawValue > 0,
      length <= self.length, offset <= self.length - length
    else { throw MemoryError(.invalid, .positionOutOfRange, offset.rawValue) }
    try checkOwn()
    let first = UInt64(offset.rawValue >> 12)
    let count = PageCount(covering: length, from: offset.rawValue & 4095).rawValue
    cache.lock()
    let result = cache.bringIn(first, count)
    cache.unlock()
    if let error = result.outcome.error(at: (first + UInt64(result.pages)) << 12) { throw error }
  }

  /// Writes dirty pages back and waits until they are on the disk (fsync). A
  /// page that is mapped stays dirty: it may be stored to at any moment.
  ///
  /// - Throws: the errno of the write that failed.
  public func sync() throws(MemoryError) {
    try checkOwn()
    var error = cache.writeBack(0, .max)
    if error == 0 { error = cshims_file_sync(unsafe cache.state.pointee.file) }
    guard error == 0 else { throw MemoryError.host(error) }
  }
}
