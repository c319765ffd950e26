//===----------------------------------------------------------------------===//
// Pipe: a ring of buffers, each a page or a part of one (struct
// pipe_inode_info). An iterator appends at the head, a reader takes at the tail.
//
// Pages that are appended for an extraction are published at once, before a
// device has written to them, and belong to the ring alone: a revert, a
// truncation or a reader may let them go while the transfer runs. Upstream gave
// the kind up over this. Here each extraction is known to the ring until it is
// released (`PipeListing`), and a page that goes earlier is reported.
//
// Lock: the ring's own. Every operation takes it once and leaves the ring whole;
// nothing else is locked under it but the allocator. What another producer did
// between two operations of an iterator shows as a ring that does not end where
// the iterator stands (semantics A.8.3), and the iterator appends no more.
//===----------------------------------------------------------------------===//

internal import CShims
public import PageFrames

/// A page that its pipe let go while an extraction listed it (F-04).
public struct PipeHazard: Equatable, Sendable {
  /// What released the page.
  public enum Cause: UInt8, Sendable, CaseIterable {
    /// The iterator went back (iov_iter_revert).
    case revert
    /// The iterator kept less than was published (pipe_advance, pipe_discard_from).
    case truncation
    /// A reader took the bytes.
    case read
    /// The pipe was emptied.
    case removal
  }
  public let frame: PageFrameNumber
  public let cause: Cause

  public init(frame: PageFrameNumber, cause: Cause) {
    self.frame = frame
    self.cause = cause
  }
}

/// A ring of page buffers.
///
/// Holds one reference on each page in it and lets them go with itself. Keeps
/// the machine alive. Thread-safe.
@safe
public final class Pipe: @unchecked Sendable {
  /// The machine that its pages come from.
  public let memory: PhysicalMemory
  /// The most buffers it has (max_usage).
  public let capacity: Int
  /// The most that a pipe may have.
  public static let maximumCapacity = 1 << 20

  private let lock: UnsafeMutablePointer<cshims_lock>
  private let ring: UnsafeMutablePointer<PipeBuffer>
  /// Buffers pushed and buffers taken since the pipe was made: they only differ
  /// by what is in it. The head goes back when a buffer is reverted.
  private(set) var head = 0
  private var tail = 0
  /// Numbers buffers, never twice.
  private var serial: UInt64 = 0
  private var reported: [PipeHazard] = []
  private var reportCount = 0

  /// An empty pipe.
  ///
  /// - Parameters:
  ///   - memory: where its pages come from.
  ///   - capacity: buffers, 1 to 1,048,576; 16 as in the kernel by default.
  /// - Throws: EINVAL for a capacity out of range.
  public convenience init(memory: PhysicalMemory, capacity: Int = 16) throws(MemoryError) {
    guard capacity > 0, capacity <= Pipe.maximumCapacity else {
      throw MemoryError(.invalid, .capacityInvalid, capacity)
    }
    let lock = UnsafeMutablePointer<cshims_lock>.allocate(capacity: 1)
    let error = unsafe cshims_lock_init(lock)
    guard error == 0 else {
      unsafe lock.deallocate()
      throw MemoryError.host(error)
    }
    unsafe self.init(memory, capacity, lock)
  }

  private init(_ memory: PhysicalMemory, _ capacity: Int, _ lock: UnsafeMutablePointer<cshims_lock>)
  {
    self.memory = memory
    self.capacity = capacity
    unsafe self.lock = lock
    unsafe ring = .allocate(capacity: capacity)
  }

  deinit {
    // No extraction is out: each keeps the pipe.
    while tail < head {
      unsafe slot(tail).pointee.page.put()
      tail += 1
    }
    unsafe ring.deallocate()
    unsafe lock.deallocate()
  }

  @inline(__always)
  func locked<R, E: Error>(_ body: () throws(E) -> R) throws(E) -> R {
    unsafe _ = cshims_lock_acquire(lock)
    defer { unsafe cshims_lock_release(lock) }
    return try body()
  }

  /// The buffer of a number between tail and head.
  @inline(__always)
  func slot(_ number: Int) -> UnsafeMutablePointer<PipeBuffer> {
    unsafe ring + number % capacity
  }

  // MARK: - Under the lock

  var usage: Int { head - tail }
  var isFull: Bool { usage == capacity }
  func holds(_ number: Int) -> Bool { number >= tail && number < head }

  /// Appends a buffer. The ring is not full; it owns a reference on the page.
  func push(_ page: Page, offset: Int, length: Int, isAnonymous: Bool) {
    serial += 1
    unsafe slot(head).initialize(
      to: PipeBuffer(
        page: page, offset: offset, length: length, isAnonymous: isAnonymous, serial: serial))
    head += 1
  }

  /// Takes the last buffer back.
  func pop(_ cause: PipeHazard.Cause) {
    head -= 1
    unsafe letGo(slot(head).pointee, cause)
  }

  private func shift(_ cause: PipeHazard.Cause) {
    let buffer = unsafe slot(tail).pointee
    tail += 1
    letGo(buffer, cause)
  }

  private func letGo(_ buffer: PipeBuffer, _ cause: PipeHazard.Cause) {
    if buffer.listings > 0 {
      reportCount += 1
      if reported.count < Pipe.reportLimit {
        reported.append(PipeHazard(frame: buffer.page.frameNumber, cause: cause))
      }
    }
    buffer.page.put()
  }

  /// Counts an extraction in or out of the buffers with these numbers.
  func list(_ serials: PipeSerials, _ change: Int) {
    for number in tail..<head where serials.contains(unsafe slot(number).pointee.serial) {
      unsafe slot(number).pointee.listings += change
    }
  }

  private static let reportLimit = 64
}

/// One buffer of a ring (struct pipe_buffer).
struct PipeBuffer {
  let page: Page
  /// Where its bytes start in the page.
  var offset: Int
  /// Its bytes, at least one.
  var length: Int
  /// A page of the pipe's own, which may grow; else one borrowed from a cache.
  let isAnonymous: Bool
  let serial: UInt64
  /// Extractions that list the page now.
  var listings = 0

  /// Where an iterator stands behind it: positive where it may grow (A.6).
  var lastOffset: Int { isAnonymous ? offset + length : -(offset + length) }
}

/// The buffers that one extraction lists: the first, then consecutive ones.
struct PipeSerials {
  let first: UInt64
  let next: UInt64
  let count: Int

  func contains(_ serial: UInt64) -> Bool {
    serial == first || serial >= next && serial - next < UInt64(count - 1)
  }
}

extension Pipe {
  // MARK: - The reader's and the writer's side

  /// Buffers in use now (pipe_occupancy).
  public var bufferCount: Int { locked { usage } }

  /// Bytes that can be read now.
  public var byteCount: ByteCount {
    locked {
      var sum = 0
      for number in tail..<head { sum += unsafe slot(number).pointee.length }
      return ByteCount(sum)
    }
  }

  /// The parts that are in it, in order. Snapshot.
  public var segments: [PageSegment] {
    locked {
      (tail..<head).map { number in
        let buffer = unsafe slot(number).pointee
        return PageSegment(
          page: buffer.page, offset: buffer.offset, length: ByteCount(buffer.length))
      }
    }
  }

  /// How often a page was let go while an extraction listed it.
  public var hazardCount: Int { locked { reportCount } }
  /// The first 64 of those, in order.
  public var hazards: [PipeHazard] { locked { reported } }

  /// Appends bytes as a writer does (pipe_write): fills the last page up if it
  /// is the pipe's own, then takes fresh ones. No iterator that stood at the
  /// ring's end appends any more.
  ///
  /// - Returns: the bytes appended, and why it ended early, if it did.
  /// - Throws: EFAULT for a full ring, ENOMEM, when no byte was appended.
  public func append(_ bytes: UnsafeRawBufferPointer) throws(MemoryError) -> CopyResult {
    try locked { () throws(MemoryError) in
      var cursor = Cursor(count: bytes.count)
      cursor.index = head
      if usage > 0 {
        let last = unsafe slot(head - 1).pointee.lastOffset
        if last > 0 { (cursor.index, cursor.offset) = (head - 1, last) }
      }
      return try unsafe grow(&cursor, by: bytes.count) { target, done, length in
        if let source = bytes.baseAddress {
          unsafe cshims_copy(target, source + done, UInt64(length))
        }
      }
    }
  }

  /// Takes bytes out at the tail (pipe_read). Pages that are used up go.
  ///
  /// - Returns: the bytes read; 0 from an empty pipe.
  public func read(into bytes: UnsafeMutableRawBufferPointer) -> ByteCount {
    locked {
      var done = 0
      while done < bytes.count, usage > 0, let target = bytes.baseAddress {
        let buffer = unsafe slot(tail)
        let length = unsafe min(buffer.pointee.length, bytes.count - done)
        unsafe cshims_copy(
          target + done, buffer.pointee.page.bytes.baseAddress! + buffer.pointee.offset,
          UInt64(length))
        unsafe buffer.pointee.offset += length
        unsafe buffer.pointee.length -= length
        if unsafe buffer.pointee.length == 0 { shift(.read) }
        done += length
      }
      return ByteCount(done)
    }
  }

  /// Empties the pipe.
  public func removeAll() {
    locked { while usage > 0 { shift(.removal) } }
  }
}

/// An extraction that a pipe knows of, until it is released.
final class PipeListing: Sendable {
  private let pipe: Pipe
  private let serials: PipeSerials

  /// Under the pipe's lock.
  init(_ pipe: Pipe, _ serials: PipeSerials) {
    self.pipe = pipe
    self.serials = serials
    pipe.list(serials, 1)
  }

  func end() { pipe.locked { pipe.list(serials, -1) } }
}

extension PipeSerials: Sendable {}

/// An owned listing as a result carries it: a word that copies without counting.
@safe
struct PipeListingHandle: Equatable, @unchecked Sendable {
  private let listing: Unmanaged<PipeListing>

  init(_ listing: PipeListing) { unsafe self.listing = Unmanaged.passRetained(listing) }

  static func == (a: Self, b: Self) -> Bool {
    unsafe a.listing.toOpaque() == b.listing.toOpaque()
  }

  /// Ends it. Once.
  func end() { unsafe listing.takeRetainedValue().end() }
}
