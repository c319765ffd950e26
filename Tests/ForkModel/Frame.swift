//===----------------------------------------------------------------------===//
// What the model knows of memory: pages with their words, the folios that they
// belong to and whoever holds those, the objects behind shared mappings, and what
// each page of a window maps.
//===----------------------------------------------------------------------===//

/// Pages that are allocated and freed as one: a large folio, or a single page.
public final class Folio {
  /// log2 of its pages.
  public let order: Int
  /// Entries of page tables that show one of its pages, and leaves that show all.
  var maps = 0
  public internal(set) var leaves = 0
  public internal(set) var gets = 0
  public internal(set) var pins = 0
  /// The process whose leaf shows it may store to all of it.
  var isLeafExclusive: Bool
  /// The object of a shared mapping holds it, or, the zero page, the machine.
  var isKept = false
  /// MADV_FREE gave all of it up, and no slow acquisition for writing has marked it
  /// since. Means something of large folios.
  var isGivenUp = false
  /// Long pins do not leave it where it is.
  public internal(set) var isMovable = false
  /// How often it got other memory: all of its pages did.
  var moves = 0

  init(order: Int, isLeafExclusive: Bool = false) {
    self.order = order
    self.isLeafExclusive = isLeafExclusive
  }

  public var pageCount: Int { 1 << order }

  /// The reference count, by C.4: a pin counts 1,024 on a small page and one on a
  /// large folio, which counts its pins beside it.
  public var references: Int {
    (isKept ? 1 : 0) + maps + leaves + gets + pins * (order == 0 ? 1024 : 1)
  }
  /// False positives included, as fork sees it.
  var looksPinned: Bool { order == 0 ? references >= 1024 : pins > 0 }
}

/// A page of memory: its bytes, and everybody who holds it.
public final class Frame {
  public enum Kind: Sendable { case zero, anonymous, shared }

  public let kind: Kind
  public internal(set) var words: [UInt64]
  public internal(set) var folio: Folio
  /// Which page of the folio.
  public internal(set) var index: Int
  /// Entries of page tables that show it, leaves aside.
  var maps = 0
  /// Its own mark of belonging to one process alone (PageAnonExclusive).
  var isMarkedExclusive: Bool
  /// MADV_FREE gave it up, and nobody stored to it since.
  var isGivenUp = false
  /// Grows by one when it got another memory, and by two when it may have.
  public var moves: Int { ownMoves + folio.moves }
  var ownMoves = 0

  private static let zeroes = [UInt64](repeating: 0, count: Limits.words)

  /// Page `index` of a folio.
  init(_ kind: Kind, words: [UInt64]? = nil, folio: Folio, index: Int = 0) {
    self.kind = kind
    self.words = words ?? Self.zeroes
    self.folio = folio
    self.index = index
    isMarkedExclusive = kind == .anonymous && !folio.isLeafExclusive
  }

  /// A folio of its own.
  convenience init(_ kind: Kind, words: [UInt64]? = nil) {
    self.init(kind, words: words, folio: Folio(order: 0))
    folio.isKept = kind != .anonymous
  }

  public var references: Int { folio.references }
  /// Mappings of this very page.
  public var mappings: Int { maps + folio.leaves }
  /// What its own mark says: a leaf's mark is its first page's.
  public var showsExclusive: Bool {
    isMarkedExclusive || index == 0 && folio.isLeafExclusive
  }
  /// One process alone may store to it.
  public var isExclusive: Bool { isMarkedExclusive || folio.isLeafExclusive }
}

/// What a shared mapping shows, and how many pages of windows show it.
final class SharedObject {
  var frames: [Int: Frame] = [:]
  var users = 0
}

/// What a process's page table says of one page.
public struct Entry {
  public internal(set) var frame: Frame
  public internal(set) var isWritable: Bool
  /// One entry shows all 512 pages around.
  public internal(set) var isLeaf = false
}

/// One page of a process's window that something is mapped at.
public struct MappedPage {
  public internal(set) var access: Access
  /// The object behind a shared mapping, and which page of it this is.
  let object: SharedObject?
  let objectPage: Int
  public internal(set) var folios = FolioWish.base
  public internal(set) var isLeftOutByFork = false
  public internal(set) var isWipedByFork = false
  /// What comes here is of frames that must stay movable.
  public internal(set) var isMovable = false
  /// The program's own memory.
  public internal(set) var isAdopted = false
  public internal(set) var entry: Entry?

  public var isShared: Bool { object != nil }

  /// Could one area hold this page and `next`, the one behind it?
  func isAlike(_ next: MappedPage) -> Bool {
    access == next.access && object === next.object && folios == next.folios
      && isAdopted == next.isAdopted && isMovable == next.isMovable
      && isLeftOutByFork == next.isLeftOutByFork
      && isWipedByFork == next.isWipedByFork
      && (object == nil || objectPage + 1 == next.objectPage)
  }
}

public struct Process {
  public internal(set) var pages: [MappedPage?]
  /// Where memory was adopted, unmapped since or not.
  var adopted = 0..<0
  /// A pin was once asked for here: fork looks for pins from then on.
  var hasPinned = false
}

/// Frames that one call acquired.
public struct Held {
  public let frames: [Frame]
  public let pins: Bool
  /// Where they were, which only says what to look at again.
  public let pages: Range<Int>
  /// Which of them a pin found exclusive: they stay so (rule G1).
  public let wereExclusive: [Bool]
}
