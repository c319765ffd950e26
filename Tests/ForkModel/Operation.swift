//===----------------------------------------------------------------------===//
// The steps of a random program over processes, as values: a run that fails is
// an array of them, which can be cut down, run again and printed.
//
// A step names places by small numbers (the process, the page of the window, the
// hold) and means something in every state or nothing at all: one that makes no
// sense now is stepped over. So any subset of a program is a program.
//===----------------------------------------------------------------------===//

/// How many of each there may be.
public enum Limits {
  public static let holds = 12
  /// Words of a page that steps look at and change; all its other bytes are zero.
  public static let words = 4
}

/// Some pages of one process's window.
public struct Place: Hashable, Sendable {
  public let space: Int
  public let pages: Range<Int>

  public init(_ space: Int, _ pages: Range<Int>) {
    self.space = space
    self.pages = pages
  }
}

public enum Access: CaseIterable, Sendable {
  case none, read, readWrite
}

public enum ModelAdvice: CaseIterable, Sendable {
  case dontNeed, free, dontFork, doFork, wipeOnFork, keepOnFork, populateRead, populateWrite
}

/// How pages are acquired.
public struct Acquisition: Hashable, Sendable {
  /// Which entry point: the walk with the slow path behind it, the walk alone,
  /// or the slow path alone.
  public enum Path: CaseIterable, Sendable { case fast, fastOnly, slow }

  public let pins: Bool
  public let writes: Bool
  public let path: Path
  public let mayFault: Bool
  /// A pin without end (FOLL_LONGTERM).
  public let isLong: Bool

  public init(pins: Bool, writes: Bool, path: Path, mayFault: Bool, isLong: Bool) {
    self.pins = pins
    self.writes = writes
    self.path = path
    self.mayFault = mayFault
    // The walk alone leaves long pins to nobody.
    self.isLong = isLong && pins && path != .fastOnly
  }
}

public enum Operation: Hashable, Sendable {
  /// A process with an empty window.
  case begin(space: Int)
  /// One with adopted memory in it, its words counted from a number.
  case adopt(space: Int, UInt64)
  /// Gives that back, and ends.
  case giveBack(space: Int)
  case fork(space: Int, child: Int)
  case exit(space: Int)
  /// `movable`: of frames that must stay so, which long pins do not leave there.
  case map(Place, Access, shared: Bool, FolioWish, movable: Bool)
  case unmap(Place)
  case protect(Place, Access)
  case advise(Place, ModelAdvice)
  /// What stores bring in from now on.
  case wish(Place, FolioWish)
  /// MADV_COLLAPSE.
  case collapse(Place)
  /// split_folio of the folio behind a page.
  case splitFolio(space: Int, page: Int)
  /// mremap to a place of the same window, and, `keepsOld`, leaving the old one empty.
  case move(Place, to: Int, keepsOld: Bool)
  /// mremap to another length, without moving.
  case resize(Place, Int)
  /// Other frames for the pages of a range.
  case migrate(Place)
  case compact
  case reclaim
  /// The program's own store of a word through a pointer.
  case store(space: Int, page: Int, word: Int, UInt64)
  case load(space: Int, page: Int, word: Int)
  /// copy_to_user: every word of every page becomes the value.
  case copyIn(Place, UInt64)
  /// copy_from_user of whole pages.
  case copyOut(Place)
  case acquire(hold: Int, Place, Acquisition)
  case release(hold: Int)
  /// What a device does through the n-th page of a hold.
  case deviceStore(hold: Int, page: Int, word: Int, UInt64)
  case deviceLoad(hold: Int, page: Int, word: Int)
}

extension Operation {
  public var isNativeStore: Bool {
    if case .store = self { true } else { false }
  }
}

/// What a step comes to.
public struct Outcome: Equatable, Sendable {
  public enum Refusal: Sendable {
    case badAddress, outOfMemory, invalid, tryAgain, busy, exists, notSupported
  }

  public var refusal: Refusal?
  /// Pages acquired, moved or taken back.
  public var pageCount = 0
  /// What was loaded: a word, or `digest` of many; or of why pages did not move;
  /// or the program's own bytes when it has them back.
  public var value: UInt64 = 0

  public init(refusal: Refusal? = nil, pageCount: Int = 0, value: UInt64 = 0) {
    self.refusal = refusal
    self.pageCount = pageCount
    self.value = value
  }

  /// One number for a row of words.
  public static func digest(_ words: [UInt64]) -> UInt64 {
    words.reduce(0) { ($0 &+ $1) &* 0x9e37_79b9_7f4a_7c15 }
  }
}
