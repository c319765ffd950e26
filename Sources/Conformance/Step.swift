//===----------------------------------------------------------------------===//
// Step: the vocabulary of scenarios, and the places that steps name. Memory is
// looked at in blocks of 512 bytes, by the first byte of each.
//===----------------------------------------------------------------------===//

/// A byte of a buffer.
public struct Place: Sendable, Hashable, Codable {
  public var buffer: String
  /// Bytes from its start.
  public var offset: Int

  public init(_ buffer: String, _ offset: Int = 0) {
    self.buffer = buffer
    self.offset = offset
  }

  /// Block `block` (of 8) of a page.
  public init(_ buffer: String, page: Int, block: Int = 0) {
    self.init(buffer, page * 4096 + block * 512)
  }
}

/// Bytes of a buffer.
public struct Stretch: Sendable, Hashable, Codable {
  public var buffer: String
  /// Bytes from its start.
  public var offset: Int
  /// In bytes, from 0.
  public var length: Int

  public init(_ buffer: String, from offset: Int, length: Int) {
    self.buffer = buffer
    self.offset = offset
    self.length = length
  }

  /// Whole pages.
  public init(_ buffer: String, page: Int = 0, pages: Int = 1) {
    self.init(buffer, from: page * 4096, length: pages * 4096)
  }

  /// Pages that it touches.
  var pages: Range<Int> {
    length == 0 ? offset >> 12..<offset >> 12 : offset >> 12..<(offset + length + 4095) >> 12
  }
}

/// What a buffer is made of.
public enum Backing: String, Sendable, Hashable, Codable, CaseIterable {
  /// Private anonymous memory in pages of 4 KiB.
  case `private`
  /// Private anonymous memory of 512 pages at a multiple of 2 MiB, in huge pages where there are.
  case huge
  /// Shared anonymous memory.
  case shared
  /// A private mapping of a file whose page n starts with the byte 0x40 + n.
  case privateFile
  /// A shared mapping of such a file, whose file system tracks dirtying.
  case sharedFile
}

public enum Access: String, Sendable, Hashable, Codable, CaseIterable {
  case none, readOnly, writeOnly, readWrite
}

/// What madvise is told.
public enum Counsel: String, Sendable, Hashable, Codable, CaseIterable {
  case dontNeed, dontFork, doFork, wipeOnFork, keepOnFork, populateRead, populateWrite
}

/// How pages are taken.
public enum Hold: String, Sendable, Hashable, Codable, CaseIterable {
  /// A plain reference for reading (FOLL_GET); on the host, vmsplice.
  case get
  /// A pin for writing, for long, all pages or none (FOLL_PIN, WRITE, LONGTERM); on the host, an
  /// io_uring buffer.
  case pin
  /// A pin for one reading of the device's, all pages or none (FOLL_PIN); on the host, an O_DIRECT
  /// write that waits. Reading ends it: nothing may change then before its release.
  case pinToRead
  // The host has no call that holds these.
  case getToWrite, pinToReadLong
  case getNoFault, getToWriteNoFault, pinNoFault, pinToWriteNoFault

  var isPin: Bool {
    switch self {
    case .get, .getToWrite, .getNoFault, .getToWriteNoFault: false
    case .pin, .pinToRead, .pinToReadLong, .pinNoFault, .pinToWriteNoFault: true
    }
  }

  /// May a device write through it?
  var isToWrite: Bool {
    switch self {
    case .pin, .getToWrite, .getToWriteNoFault, .pinToWriteNoFault: true
    case .get, .pinToRead, .pinToReadLong, .getNoFault, .pinNoFault: false
    }
  }
}

/// One step of a script.
public enum Step: Sendable, Hashable, Codable {
  /// Maps a buffer of whole pages, readable and writable; one that was mapped before at the same
  /// address.
  case map(by: String, buffer: String, pages: Int, on: Backing)
  case unmap(by: String, at: Stretch)
  case protect(by: String, at: Stretch, to: Access)
  case advise(by: String, at: Stretch, to: Counsel)
  /// Moves whole pages to another place, over what stands there (mremap, MREMAP_FIXED).
  case move(by: String, at: Stretch, to: Place)
  /// The same, and what they leave stays mapped, but empty (MREMAP_DONTUNMAP).
  case lift(by: String, at: Stretch, to: Place)
  /// Loads a byte of each page.
  case touch(by: String, at: Stretch)
  case store(by: String, at: Place, value: UInt8)
  /// Looks at the first byte of each block.
  case see(by: String, at: Stretch)
  /// Looks at one byte, and says what the semantics have there.
  case expect(by: String, at: Place, value: UInt8)
  /// Loads or stores a byte as a debugger does, whatever the protection (FOLL_FORCE).
  case peek(by: String, at: Place)
  case poke(by: String, at: Place, value: UInt8)
  /// Takes pages; the hold outlives the process. What fails takes none.
  case take(by: String, at: Stretch, as: String, how: Hold, times: Int)
  /// The device writes a byte through a hold.
  case deviceWrite(through: String, at: Place, value: UInt8)
  /// The device reads what it holds, by the first byte of each block.
  case deviceRead(through: String)
  /// The device reads one byte, and the script says what the semantics have there.
  case expectDevice(through: String, at: Place, value: UInt8)
  case release(hold: String)
  case fork(by: String, child: String)
  case exit(by: String)
  /// A transfer past the page cache into memory; every block starts with this byte (O_DIRECT).
  case directRead(by: String, into: [Stretch], value: UInt8)
  /// A transfer out of memory past the page cache (O_DIRECT).
  case directWrite(by: String, from: [Stretch])
  /// Which processes have a frame in common, and who maps one alone.
  case frames(of: Stretch)
  /// Which pages have memory of their own.
  case resident(by: String, at: Stretch)
  /// How many pins were taken and dropped since the last such step; the first starts counting.
  case counters
}

extension Step {
  /// Whose turn it is; nil for the device, and for those that look at everybody.
  var process: String? {
    switch self {
    case .map(let by, _, _, _), .unmap(let by, _), .protect(let by, _, _), .advise(let by, _, _),
      .move(let by, _, _), .lift(let by, _, _), .touch(let by, _), .store(let by, _, _),
      .see(let by, _), .expect(let by, _, _), .peek(let by, _), .poke(let by, _, _),
      .take(let by, _, _, _, _), .directRead(let by, _, _), .directWrite(let by, _),
      .resident(let by, _), .fork(let by, _), .exit(let by):
      by
    case .deviceWrite, .deviceRead, .expectDevice, .release, .frames, .counters: nil
    }
  }

  /// The memory that it is about.
  var stretches: [Stretch] {
    switch self {
    case .unmap(_, let s), .protect(_, let s, _), .advise(_, let s, _), .touch(_, let s),
      .see(_, let s), .take(_, let s, _, _, _), .frames(let s), .resident(_, let s):
      [s]
    case .store(_, let p, _), .expect(_, let p, _), .peek(_, let p), .poke(_, let p, _),
      .deviceWrite(_, let p, _), .expectDevice(_, let p, _):
      [Stretch(p.buffer, from: p.offset, length: 1)]
    case .move(_, let s, let p), .lift(_, let s, let p):
      [s, Stretch(p.buffer, from: p.offset, length: s.length)]
    case .directRead(_, let list, _), .directWrite(_, let list): list
    case .map, .deviceRead, .release, .fork, .exit, .counters: []
    }
  }

  /// What it takes to see its outcome at all.
  var needs: Witness {
    switch self {
    case .frames, .resident: .frames
    case .counters: .counters
    default: .bytes
    }
  }
}
