//===----------------------------------------------------------------------===//
// Adoption: memory that the program already has (malloc'ed, static, private
// mappings of files) becomes pages of the machine where it stands, so that the
// pointers the program holds can be pinned. This file is its public face;
// AdoptedMemory.swift moves the bytes, and AdoptionAcrossFork.swift is fork(2).
//
// User addresses are the program's addresses, so every pointer into an adopted
// buffer is a `UserAddress` afterwards.
//===----------------------------------------------------------------------===//

internal import CShims
internal import Events
public import PageFrames

/// Memory of the program that an address space has adopted; what
/// `AddressSpace.release(_:)` takes. Copying it copies no memory.
public struct AdoptedRange: Hashable, Sendable {
  /// The buffer as it was named.
  public let buffer: UserRange
  /// The whole pages that hold it, and with it whatever else stands on them.
  public let pages: UserRange
  /// Which adoption it was: one at the same place later is another.
  let serial: UInt64
}

extension AddressSpace {
  /// Adopts a buffer of the program's: the whole pages that hold it become private
  /// anonymous pages of the machine, at the same addresses and with the same bytes.
  ///
  /// Other threads may load and store meanwhile: no store is lost, in the buffer or
  /// beside it on its pages. (In the SIGSEGV tier, and for files in either tier,
  /// a system call that stores there may see EFAULT while the bytes are moved.)
  /// From then on the memory faults, forks, is protected and pinned as any private
  /// anonymous area. malloc may use what is free on the pages; `free()` of the
  /// buffer is fine, before or after `release`.
  ///
  /// Not adopted are stacks and thread-local data, memory of the loader, the C
  /// library and the runtimes, executable, shared and inaccessible memory, huge
  /// pages, and what a machine has already. Of the program or library that this
  /// library is linked into, only whole pages can be adopted: a static array has
  /// to be aligned to a page and as long as some. See docs/adoption.md.
  ///
  /// - Parameters:
  ///   - pointer: any address; need not be aligned.
  ///   - length: positive.
  /// - Throws: EINVAL for a length that is not positive; EFAULT for what is not
  ///   mapped or lies outside user space; EACCES, EBUSY or EOPNOTSUPP with the
  ///   reason and the first page that cannot be adopted; EEXIST for what belongs to a
  ///   machine; EOPNOTSUPP in the `none` tier, which cannot hold stores up, in a
  ///   forked address space and on a joinable machine; ENOMEM; ESRCH after `exit`. Nothing has changed then.
  /// - Complexity: O(pages + threads + mappings under the range); one copy.
  public func adopt(
    _ pointer: UnsafeRawPointer, length: ByteCount
  ) throws(MemoryError) -> AdoptedRange {
    guard length.rawValue > 0 else {
      throw MemoryError(.invalid, .lengthNotPositive, length.rawValue)
    }
    let first = UInt64(UInt(bitPattern: pointer))
    guard first >= 4096, first < CSHIMS_TASK_SIZE,
      UInt64(length.rawValue) <= CSHIMS_TASK_SIZE - 4096 - first
    else { throw MemoryError(.badAddress, .addressOutsideUserSpace, first) }
    let last = first + UInt64(length.rawValue)
    let start = first & ~0xfff
    let end = (last + 4095) & ~0xfff
    try locked { mm throws(MemoryError) in try mm.checkAdopting(start, end) }
    let writable = try AddressSpace.survey(first, last)
    #if DEBUG
      AddressSpace.rehearse()
    #endif
    mm.reapGoneRegions()
    try mm.setForkHook()
    let serial: UInt64
    do throws(MemoryError) {
      serial = try locked { mm throws(MemoryError) in
        try mm.adopt(start, end, writable: writable)
      }
    } catch {
      mm.reapGoneRegions()
      throw error
    }
    return AdoptedRange(
      buffer: UserRange(start: UserAddress(first), end: UserAddress(last)),
      pages: UserRange(start: UserAddress(start), end: UserAddress(end)), serial: serial)
  }

  /// Gives adopted memory back: plain private memory of the program at the same
  /// addresses, with the bytes that it has now. What was unmapped of it is no memory
  /// any more. A private file's pages come back as anonymous memory.
  ///
  /// - Throws: EBUSY with the address of a page that is pinned: a device may be
  ///   storing into it; EINVAL when it was released before; EFAULT when the
  ///   program has unmapped some of it: then the rest has been given back; ENOMEM,
  ///   with nothing changed; ESRCH after `exit`, which has given it back.
  /// - Complexity: O(pages); one copy.
  public func release(_ adopted: AdoptedRange) throws(MemoryError) {
    defer { mm.reapGoneRegions() }
    try locked { mm throws(MemoryError) in
      guard let region = unsafe mm.adoptedRegion(adopted.pages.start.rawValue, adopted.serial)
      else { throw MemoryError(.invalid, .notAdopted, adopted.pages.start) }
      if let error = unsafe mm.giveBack(region, evenIfPinned: false) { throw error }
    }
  }

  /// How many adoptions were dropped because the program had unmapped some of the
  /// memory (event `adoptionLost`).
  public var lostAdoptionCount: Int {
    guard mm.isOwn else { return 0 }
    mm.lock()
    defer { mm.unlock() }
    return unsafe mm.state.pointee.adoptions.lostCount
  }

  /// Looks at who owns [first, last). Returns whether it may be written.
  private static func survey(_ first: UInt64, _ last: UInt64) throws(MemoryError) -> Bool {
    var found = cshims_survey()
    let error = unsafe cshims_adoption_survey(first, last, &found)
    guard error == 0 else { throw MemoryError(.notSupported, .hostRefused, Int(error)) }
    let (number, reason): (ErrorNumber, MemoryError.Reason)
    switch found.refusal {
    case CSHIMS_REFUSE_NOTHING: return found.writable
    case CSHIMS_REFUSE_UNMAPPED: (number, reason) = (.badAddress, .notMapped)
    case CSHIMS_REFUSE_SHARED: (number, reason) = (.notSupported, .sharedMemory)
    case CSHIMS_REFUSE_MACHINE: (number, reason) = (.exists, .machineMemory)
    case CSHIMS_REFUSE_PROTECTION: (number, reason) = (.accessDenied, .protectionNotAdoptable)
    case CSHIMS_REFUSE_STACK: (number, reason) = (.busy, .stackMemory)
    case CSHIMS_REFUSE_THREAD: (number, reason) = (.busy, .threadMemory)
    case CSHIMS_REFUSE_LOADER: (number, reason) = (.busy, .loaderMemory)
    case CSHIMS_REFUSE_LIBRARY: (number, reason) = (.busy, .libraryMemory)
    default: (number, reason) = (.notSupported, .hugePageMemory)
    }
    throw MemoryError(number, reason, found.address)
  }
}
