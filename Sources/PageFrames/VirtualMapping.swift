//===----------------------------------------------------------------------===//
// VirtualMapping: scattered frames at consecutive addresses (the kernel's vmap
// and vmalloc), and the way back from such an address, or one of the window, to
// its page. KVEC iterators are made of these addresses.
//
// Lock: the mapping lock, before the arena's; it guards the tree of mappings.
//===----------------------------------------------------------------------===//

internal import CShims

/// What the tree knows of one mapping: the frame behind each of its pages.
@safe
struct MappingRecord: BitwiseCopyable {
  let frames: UnsafeMutablePointer<UInt64>
}

struct VirtualMappings: ~Copyable {
  var lock: cshims_lock
  var tree: IntervalTree<MappingRecord>
}

/// Pages that the library itself sees at consecutive addresses, wherever their
/// frames are (vmap).
///
/// Holds a reference on each page, and takes its addresses back when it goes
/// away. Thread-safe.
@safe
public final class VirtualMapping: @unchecked Sendable {
  public let memory: PhysicalMemory
  public let pageCount: PageCount
  /// The bytes, consecutive. Valid as long as the mapping.
  public let bytes: UnsafeMutableRawBufferPointer
  private let owner = cshims_process_identity()

  /// Maps pages in the order of the list; one may stand in it several times.
  ///
  /// - Throws: EINVAL for an empty list or a page of another machine, ENOMEM
  ///   when the host has no address space or a page's count would overflow.
  /// - Complexity: O(pages), a host call for each run of consecutive frames.
  public convenience init(_ pages: [Page], memory: PhysicalMemory) throws(MemoryError) {
    try memory.checkOwn()
    guard !pages.isEmpty else { throw MemoryError(.invalid, .lengthNotPositive, 0) }
    for page in pages where page.machine != memory.machine {
      throw MemoryError(.invalid, .otherMachine, 0)
    }
    let machine = memory.machine
    let length = UInt64(pages.count) << 12
    var base: UInt64 = 0
    let error = unsafe cshims_reserve(0, length, &base)
    guard error == 0 else { throw MemoryError.host(error) }
    var held = 0
    do throws(MemoryError) {
      for page in pages {
        try page.acquire(.reference)
        held += 1
      }
      try VirtualMapping.show(pages, at: base, machine)
      try machine.addMapping(base, pages)
    } catch {
      for page in pages[..<held] { page.release(.reference) }
      _ = cshims_unmap(base, length)
      throw error
    }
    let bytes = unsafe UnsafeMutableRawBufferPointer(
      start: UnsafeMutableRawPointer(bitPattern: UInt(base)), count: Int(length))
    unsafe self.init(bytes, of: memory)
  }

  private init(_ bytes: UnsafeMutableRawBufferPointer, of memory: PhysicalMemory) {
    self.memory = memory
    pageCount = PageCount(bytes.count >> 12)
    unsafe self.bytes = bytes
  }

  deinit {
    // In a copy of the process, one that has joined included, it is the original's.
    guard cshims_process_is(owner) else { return }
    let base = unsafe UInt64(UInt(bitPattern: bytes.baseAddress))
    _ = unsafe cshims_unmap(base, UInt64(bytes.count))
    memory.machine.removeMapping(base)
  }

  private static func show(
    _ pages: [Page], at base: UInt64, _ machine: Machine
  ) throws(MemoryError) {
    var first = 0
    while first < pages.count {
      var end = first + 1
      while end < pages.count, pages[end].frame == pages[first].frame + UInt64(end - first) {
        end += 1
      }
      let error = unsafe cshims_show(
        base + UInt64(first) << 12, UInt64(end - first) << 12, CSHIMS_PROT_READ_WRITE,
        machine.header.pointee.memfd, pages[first].frame << 12)
      guard error == 0 else { throw MemoryError.host(error) }
      first = end
    }
  }
}

extension PhysicalMemory {
  /// The page that an address of the window or of a virtual mapping shows
  /// (virt_to_page, vmalloc_to_page); nil for any other address.
  /// - Complexity: O(log mappings); O(1) for the window.
  public func page(atKernelAddress address: UnsafeRawPointer) -> Page? {
    machine.page(atKernelAddress: UInt64(UInt(bitPattern: address)))
  }
}

extension Machine {
  private var mappings: UnsafeMutablePointer<VirtualMappings> {
    unsafe header.pointee.mappings.assumingMemoryBound(to: VirtualMappings.self)
  }

  func initialiseMappings() -> Int32 {
    unsafe mappings.initialize(
      to: VirtualMappings(lock: cshims_lock(), tree: IntervalTree(arena: arena)))
    return unsafe cshims_lock_init(&mappings.pointee.lock)
  }

  /// See `PhysicalMemory.page(atKernelAddress:)`.
  public func page(atKernelAddress address: UInt64) -> Page? {
    let window = unsafe UInt64(UInt(bitPattern: header.pointee.window))
    if address >= window, address - window < frameCount << 12 {
      return page((address - window) >> 12)
    }
    // In a copy of the process the mappings are not there.
    guard isOwn else { return nil }
    unsafe _ = cshims_lock_acquire(&mappings.pointee.lock)
    defer { unsafe cshims_lock_release(&mappings.pointee.lock) }
    guard let node = unsafe mappings.pointee.tree.find(containing: key(address))
    else { return nil }
    let index = unsafe Int((key(address) - node.pointee.start) >> 12)
    return unsafe page(node.pointee.payload.frames[index])
  }

  /// Two processes of a joinable machine may map at one address.
  private func key(_ address: UInt64) -> UInt64 {
    isJoinable ? UInt64(slot) << 48 | address : address
  }

  /// Forgets what a dead process mapped; its references go by its notes.
  package func removeMappings(ofSlot slot: Int) {
    // A tree that somebody died changing is left alone.
    guard unsafe !cshims_lock_acquire(&mappings.pointee.lock) else {
      return unsafe cshims_lock_release(&mappings.pointee.lock)
    }
    while let node = unsafe mappings.pointee.tree.first(atOrAfter: UInt64(slot) << 48),
      unsafe node.pointee.start >> 48 == UInt64(slot)
    {
      let pages = unsafe Int(node.pointee.length >> 12)
      unsafe arena.free(
        UnsafeMutableRawPointer(node.pointee.payload.frames), byteCount: pages * 8)
      unsafe mappings.pointee.tree.remove(node)
    }
    unsafe cshims_lock_release(&mappings.pointee.lock)
  }

  func addMapping(_ base: UInt64, _ pages: [Page]) throws(MemoryError) {
    let size = pages.count * 8
    guard let memory = unsafe arena.allocate(byteCount: size) else {
      throw MemoryError(.outOfMemory, .metadataExhausted, size)
    }
    let frames = unsafe memory.bindMemory(to: UInt64.self, capacity: pages.count)
    for i in pages.indices { unsafe frames[i] = pages[i].frame }
    unsafe _ = cshims_lock_acquire(&mappings.pointee.lock)
    let record = unsafe MappingRecord(frames: frames)
    let node = unsafe try? mappings.pointee.tree.insert(
      key(base), key(base) + UInt64(pages.count) << 12, record)
    unsafe cshims_lock_release(&mappings.pointee.lock)
    if unsafe node == nil {
      unsafe arena.free(memory, byteCount: size)
      throw MemoryError(.outOfMemory, .metadataExhausted, size)
    }
  }

  /// Forgets a mapping and drops its pages' references.
  func removeMapping(_ base: UInt64) {
    unsafe _ = cshims_lock_acquire(&mappings.pointee.lock)
    let node = unsafe mappings.pointee.tree.find(containing: key(base))
    let frames = unsafe node?.pointee.payload.frames
    let count = unsafe Int((node?.pointee.length ?? 0) >> 12)
    if let node = unsafe node { unsafe mappings.pointee.tree.remove(node) }
    unsafe cshims_lock_release(&mappings.pointee.lock)
    guard let frames = unsafe frames else { return }
    for i in 0..<count { unsafe page(frames[i]).release(.reference) }
    unsafe arena.free(UnsafeMutableRawPointer(frames), byteCount: count * 8)
  }
}
