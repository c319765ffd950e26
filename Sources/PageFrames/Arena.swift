//===----------------------------------------------------------------------===//
// The arena: where everything of a machine that outlives a call lives, except
// the frames themselves. It hands out zeroed blocks of the metadata mapping, so
// page tables, areas and indexes stand at one address in every process that has
// the machine, and none of them needs malloc on the fault path.
//
// Blocks are powers of two from 64 bytes to 1 GiB. A block comes from its
// class's free list, else from memory that was never used, else from a bigger
// free block, halved. Halves are never joined again: the mapping is sparse and
// large, and what was once a small block stays one.
//
// Lock: the header's, a leaf (no other lock is taken under it, and it is held
// for a few stores). When its owner dies the next owner carries on: every
// change is ordered so that a half-done one loses a block and nothing else.
//===----------------------------------------------------------------------===//

public import CShims
internal import Events

/// The arena has no block of the size that was asked for. Linux says -ENOMEM.
public struct ArenaExhausted: Error, Equatable {
  public init() {}
}

/// What stands at the start of an arena's extent, before its free lists.
@safe
struct ArenaHeader {
  /// First, so that its address is the header's.
  var lock: cshims_lock
  /// The first byte that was never handed out; it and all after it are zero.
  var frontier: UInt
  /// One past the last byte.
  var limit: UInt
  /// Bytes of the blocks that are out, each counted with its class's size.
  var bytesInUse: UInt
  /// Whose failure point `metadataAllocation` is asked, if anybody's.
  var machine: UnsafeMutablePointer<cshims_machine>?
}

/// A handle on an arena; copies of it mean the same arena.
///
/// Safe from every thread, and from a child of fork(2) that has the mapping at
/// the same address. Allocation is O(1) plus the zeroing of a block that was
/// used before.
@safe
public struct Arena: @unchecked Sendable, BitwiseCopyable {
  private let header: UnsafeMutablePointer<ArenaHeader>

  private static let smallestShift = 6
  private static let largestShift = 30
  /// Where the free lists' heads stand, one word a class: after the header.
  private static let listsOffset = 128
  private static let headerSize = 384

  /// The largest block, in bytes.
  public static let largestBlock = 1 << largestShift

  /// The arena that `create` made at `base`, in this process or its parent.
  @unsafe
  public init(at base: UnsafeMutableRawPointer) {
    unsafe header = base.assumingMemoryBound(to: ArenaHeader.self)
  }

  /// Where the arena begins: what `init(at:)` takes.
  public var base: UnsafeMutableRawPointer { unsafe UnsafeMutableRawPointer(header) }

  /// Makes an arena of the `byteCount` bytes at `base`, which must read as
  /// zero and stay mapped as long as the arena is used. With a `machine`, each
  /// allocation passes its failure point `metadataAllocation`.
  ///
  /// - Precondition: `base` is a multiple of 64, `byteCount` at least 1024.
  @unsafe
  @discardableResult
  public static func create(
    at base: UnsafeMutableRawPointer, byteCount: Int,
    machine: UnsafeMutablePointer<cshims_machine>? = nil
  ) -> Arena {
    precondition(
      MemoryLayout<ArenaHeader>.size <= listsOffset
        && listsOffset + 8 * (largestShift - smallestShift + 1) <= headerSize)
    let start = UInt(bitPattern: base)
    precondition(start & 63 == 0, "an arena's base must be a multiple of 64")
    precondition(byteCount >= 1024, "an arena must have at least 1024 bytes")
    let arena = unsafe Arena(at: base)
    let failure = unsafe cshims_lock_init(arena.lock)
    precondition(failure == 0, "the host cannot make a process-shared lock")
    unsafe arena.header.pointee.frontier = start + UInt(headerSize)
    unsafe arena.header.pointee.limit = start + UInt(byteCount)
    unsafe arena.header.pointee.bytesInUse = 0
    unsafe arena.header.pointee.machine = machine
    return arena
  }

  /// A block of at least `byteCount` zeroed bytes, aligned to its class's size
  /// (the next power of two, 64 at least) or to 4096, whichever is less.
  ///
  /// - Returns: `nil` when the arena is exhausted, and for a `byteCount` below
  ///   1 or above `largestBlock`. The caller owns the block until `free`.
  public func allocate(byteCount: Int) -> UnsafeMutableRawPointer? {
    guard let shift = Arena.shift(for: byteCount) else { return nil }
    if let machine = unsafe header.pointee.machine, unsafe machine.fails(at: .metadataAllocation) {
      return nil
    }
    acquire()
    var isFresh = false
    var address = pop(shift)
    if address == 0 {
      address = advanceFrontier(shift)
      isFresh = address != 0
    }
    if address == 0 { address = split(shift) }
    if address != 0 { unsafe header.pointee.bytesInUse += 1 << UInt(shift) }
    release()
    let block = unsafe UnsafeMutableRawPointer(bitPattern: address)
    if !isFresh {
      unsafe block?.initializeMemory(as: UInt8.self, repeating: 0, count: byteCount)
    }
    return unsafe block
  }

  /// Takes back a block that `allocate` gave for the same `byteCount`.
  ///
  /// - Precondition: the block is out, and nobody uses it any more.
  @unsafe
  public func free(_ block: UnsafeMutableRawPointer, byteCount: Int) {
    guard let shift = Arena.shift(for: byteCount) else {
      preconditionFailure("no arena block has this size")
    }
    let address = UInt(bitPattern: block)
    let size: UInt = 1 << UInt(shift)
    acquire()
    let start = unsafe UInt(bitPattern: header) + UInt(Arena.headerSize)
    let isOurs = unsafe address >= start && address + size <= header.pointee.frontier
    guard isOurs, address & (min(size, 4096) - 1) == 0 else {
      release()
      preconditionFailure("this block does not belong to the arena")
    }
    unsafe header.pointee.bytesInUse -= size
    push(address, shift)
    release()
  }

  /// Bytes of the blocks that are out, each rounded up to its class.
  public var bytesInUse: Int {
    acquire()
    defer { release() }
    return unsafe Int(header.pointee.bytesInUse)
  }

  /// Bytes that were ever handed out or skipped: how much of the extent may be
  /// backed by host memory.
  public var highWater: Int {
    acquire()
    defer { release() }
    return unsafe Int(header.pointee.frontier - UInt(bitPattern: header))
  }

  /// The extent's length in bytes, the arena's own header included.
  public var capacity: Int {
    unsafe Int(header.pointee.limit - UInt(bitPattern: header))
  }

  // MARK: Under the lock

  /// The base-2 logarithm of the class that holds `byteCount` bytes.
  private static func shift(for byteCount: Int) -> Int? {
    guard byteCount > 0, byteCount <= largestBlock else { return nil }
    return max(smallestShift, Int.bitWidth - (byteCount - 1).leadingZeroBitCount)
  }

  private var lock: UnsafeMutablePointer<cshims_lock> {
    unsafe UnsafeMutableRawPointer(header).assumingMemoryBound(to: cshims_lock.self)
  }

  private func acquire() {
    // A dead owner's half-done change is harmless; see the top of the file.
    _ = unsafe cshims_lock_acquire(lock)
  }

  private func release() {
    unsafe cshims_lock_release(lock)
  }

  /// The head of a class's free list: the address of its first block, or 0. A
  /// free block's first word is the address of the next.
  private func list(_ shift: Int) -> UnsafeMutablePointer<UInt> {
    unsafe (UnsafeMutableRawPointer(header) + Arena.listsOffset)
      .assumingMemoryBound(to: UInt.self) + (shift - Arena.smallestShift)
  }

  private func link(_ address: UInt) -> UnsafeMutablePointer<UInt> {
    // The address came from a list of this arena, so it is never 0.
    unsafe UnsafeMutablePointer(bitPattern: address).unsafelyUnwrapped
  }

  private func push(_ address: UInt, _ shift: Int) {
    unsafe link(address).pointee = list(shift).pointee
    unsafe list(shift).pointee = address
  }

  private func pop(_ shift: Int) -> UInt {
    let address = unsafe list(shift).pointee
    if address != 0 { unsafe list(shift).pointee = link(address).pointee }
    return address
  }

  /// A block of memory that was never used, or 0.
  private func advanceFrontier(_ shift: Int) -> UInt {
    let size: UInt = 1 << UInt(shift)
    let mask = min(size, 4096) - 1
    var gap = unsafe header.pointee.frontier
    let start = (gap + mask) & ~mask
    let limit = unsafe header.pointee.limit
    guard start <= limit, limit - start >= size else { return 0 }
    unsafe header.pointee.frontier = start + size
    // What alignment skips becomes free blocks, the largest that fit each place.
    while gap < start {
      push(gap, gap.trailingZeroBitCount)
      gap += 1 << UInt(gap.trailingZeroBitCount)
    }
    return start
  }

  /// The lower end of a bigger free block, the rest of which goes to the lists
  /// below; or 0.
  private func split(_ shift: Int) -> UInt {
    var bigger = shift + 1
    while bigger <= Arena.largestShift {
      let address = pop(bigger)
      if address != 0 {
        while bigger > shift {
          bigger -= 1
          push(address + 1 << UInt(bigger), bigger)
        }
        return address
      }
      bigger += 1
    }
    return 0
  }
}
