//===----------------------------------------------------------------------===//
// IOVIter: a place in a description of memory, from which transfers take what
// comes next (the kernel's struct iov_iter).
//
// A value: a copy is a second place in the same description. What differs
// between kinds stands in files of their own (UserBuffer, KernelSegments,
// PagedSegments, FolioQueue, FileRange, PipePlace; Segments for what lists of
// segments share); here are the parts that all have. IOVIter+Making.swift makes
// them.
//
// Invariant: consumed + count <= constructedCount, and what is behind the
// cursor and before it agrees with that. It is established by the initialisers,
// which refuse what would break it, and kept by every operation, so no later
// call can crash, hang or leave its segments because of its arguments.
//===----------------------------------------------------------------------===//

public import AddressSpaces
internal import GUP
public import PageFrames

/// An iterator over memory that data is moved to or from (struct iov_iter).
///
/// Not synchronised: one thread at a time uses one value. It keeps the machine
/// alive, and the address space or the pipe if it has one. What pages, virtual
/// mappings and page caches it describes is kept alive by its maker, as long as
/// it is used: kernel-backed extraction takes nothing (B.4).
public struct IOVIter: Sendable {
  /// What is described, with what each kind needs for it.
  enum Backing: Sendable {
    case ubuf(UserBuffer)
    case iovec(Segments<UserSegment>)
    case bvec(Segments<BVec>)
    case kvec(Segments<KVec>)
    case xarray(FileRange)
    case folioQueue(Segments<QueuedFolio>)
    case pipe(PipePlace)
    case discard

    var kind: Kind {
      switch self {
      case .ubuf: .ubuf
      case .iovec: .iovec
      case .bvec: .bvec
      case .kvec: .kvec
      case .xarray: .xarray
      case .folioQueue: .folioQueue
      case .pipe: .pipe
      case .discard: .discard
      }
    }
  }

  let backing: Backing
  var cursor: Cursor
  /// The count it was made with: reexpanding ends there.
  let constructedCount: Int

  /// The machine that its pages belong to.
  public let memory: PhysicalMemory
  /// The address space that user addresses belong to; nil for a kind that has
  /// none.
  public let space: AddressSpace?
  /// Which way the data goes.
  public let direction: Direction
  /// Whose rules extractions follow.
  public let dialect: Dialect
  /// `space` again, as extractions call it.
  let userSpace: UserSpace?
  /// What extractions hold, and whether there are any: the table of `Kind`,
  /// read once.
  let retention: Retention
  let isExtractable: Bool
  /// What extractions ask of GUP; GET or PIN comes from the call itself.
  private(set) var flags: GUPFlags

  /// Extractions take only what is present: no faults, no breaking of sharing
  /// (`nofault`). Of no meaning to kinds that take no user memory.
  public var noFault: Bool {
    get { flags.contains(.noFault) }
    set { if newValue { flags.insert(.noFault) } else { flags.remove(.noFault) } }
  }

  init(
    _ backing: Backing, at cursor: Cursor, _ direction: Direction, _ memory: PhysicalMemory,
    _ space: AddressSpace?, _ dialect: Dialect
  ) {
    let extraction = backing.kind.extraction(in: dialect, direction)
    self.backing = backing
    self.cursor = cursor
    self.constructedCount = cursor.count
    self.memory = memory
    self.space = space
    self.direction = direction
    self.dialect = dialect
    self.userSpace = space.map { UserSpace($0) }
    self.retention = extraction ?? .unretained
    self.isExtractable = extraction != nil
    self.flags = direction == .destination ? .write : []
  }

  /// What it describes.
  public var kind: Kind { backing.kind }

  /// Bytes that may still be moved (iov_iter_count).
  public var count: ByteCount { ByteCount(cursor.count) }

  /// Bytes into the current segment, or for a kind without segments into the
  /// whole (iov_offset). For a pipe the end in the last buffer's page, negative
  /// in a borrowed page (last_offset).
  public var offset: ByteCount { ByteCount(cursor.offset) }

  /// Segments from the current one on (nr_segs); 1 for a kind without segments.
  public var segmentCount: Int {
    switch backing {
    case .iovec(let segments): segments.list.count - cursor.index
    case .bvec(let segments): segments.list.count - cursor.index
    case .kvec(let segments): segments.list.count - cursor.index
    case .folioQueue(let segments): segments.list.count - cursor.index
    case .ubuf, .xarray, .pipe, .discard: 1
    }
  }
}
