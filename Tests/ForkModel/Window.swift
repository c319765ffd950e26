//===----------------------------------------------------------------------===//
// The size of a model, what a program asks of folios, and what a model cannot
// know of the machine and is told.
//===----------------------------------------------------------------------===//

/// The part of its address space that each process of a program uses.
public struct Window: Hashable, Sendable {
  public let pages: Int
  /// The page at whose start 2 MiB begin.
  public let border: Int
  /// Processes at most.
  public let spaces: Int
  /// Do programs ask for folios?
  public let hasFolios: Bool

  /// Single pages on both sides of a border.
  public static let small = Window(pages: 24, border: 12, spaces: 8, hasFolios: false)
  /// Room for folios of up to 64 pages.
  public static let middle = Window(pages: 96, border: 32, spaces: 6, hasFolios: true)
  /// Room for one leaf, and something before and behind it.
  public static let large = Window(pages: 544, border: 16, spaces: 4, hasFolios: true)

  /// Where memory that the program had already lies, in a process that adopts some.
  public var adopted: Range<Int> { border - 8..<border }

  /// The words of a page of it.
  public static func words(_ seed: UInt64, _ page: Int) -> [UInt64] {
    (0..<Limits.words).map { seed &+ UInt64(page * Limits.words + $0) }
  }

  /// The pages of a leaf.
  static let leafPages = 512

  /// The first of the aligned 2^order pages around a page; may lie before the
  /// window.
  func start(of order: Int, around page: Int) -> Int {
    let offset = page - border
    return offset & ~((1 << order) - 1) + border
  }

  func leafStart(_ page: Int) -> Int { start(of: 9, around: page) }
}

/// What a store into untouched private memory shall bring in.
public enum FolioWish: Hashable, Sendable {
  case base
  case order(Int)
  /// 2 MiB behind one entry.
  case leaf
}

/// What came of a step where the rules leave it to the machine: how far it had
/// blocks of frames, and what it keeps as one area. Asked after the step.
public final class Findings {
  public let refusal: Outcome.Refusal?
  private let order: (Int, Int) -> Int
  private let areas: (Int) -> [Range<Int>]
  private var known: [Int: [Range<Int>]] = [:]

  /// - Parameters:
  ///   - order: of the folio behind a page of a process's window.
  ///   - areas: the pages of each area of a process.
  public init(
    refusal: Outcome.Refusal?, order: @escaping (Int, Int) -> Int,
    areas: @escaping (Int) -> [Range<Int>]
  ) {
    self.refusal = refusal
    self.order = order
    self.areas = areas
  }

  func folioOrder(_ space: Int, _ page: Int) -> Int { order(space, page) }

  /// The area around a page.
  func area(_ space: Int, _ page: Int) -> Range<Int> {
    let areas = known[space] ?? areas(space)
    known[space] = areas
    return areas.first { $0.contains(page) } ?? page..<page
  }
}
