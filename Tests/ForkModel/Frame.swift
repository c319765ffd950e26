//===----------------------------------------------------------------------===//
// What the model knows of memory: frames with their words and their holders,
// the objects behind shared mappings, and what each page of a window maps.
//===----------------------------------------------------------------------===//

/// A page of memory: its bytes, and everybody who holds it.
public final class Frame {
  public enum Kind: Sendable { case zero, anonymous, shared }

  public let kind: Kind
  public internal(set) var words: [UInt64]
  /// Entries of page tables that show it.
  public internal(set) var maps = 0
  public internal(set) var gets = 0
  public internal(set) var pins = 0
  /// One process alone may store to it (PageAnonExclusive).
  public internal(set) var isExclusive: Bool
  /// The object of a shared mapping holds it, or, the zero page, the machine.
  var isKept: Bool

  init(_ kind: Kind, words: [UInt64]? = nil) {
    self.kind = kind
    self.words = words ?? Array(repeating: 0, count: Limits.words)
    isExclusive = kind == .anonymous
    isKept = kind != .anonymous
  }

  /// The reference count, by C.4: a pin of a small page counts 1,024.
  public var references: Int { (isKept ? 1 : 0) + maps + gets + 1024 * pins }
  /// False positives included, as fork sees it.
  var looksPinned: Bool { references >= 1024 }
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
}

/// One page of a process's window that something is mapped at.
public struct MappedPage {
  public internal(set) var access: Access
  /// The object behind a shared mapping.
  let object: SharedObject?
  var isLeftOutByFork = false
  var isWipedByFork = false
  public internal(set) var entry: Entry?

  public var isShared: Bool { object != nil }
}

public struct Process {
  public internal(set) var pages: [MappedPage?] = Array(repeating: nil, count: Limits.pages)
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
