//===----------------------------------------------------------------------===//
// What one run of the model is about, and what all models share.
//===----------------------------------------------------------------------===//

public import PageExtraction
internal import PageFrames
internal import TestSupport

/// A kind of iterator, a direction and a dialect: everything that an iterator
/// has beside what it describes.
public struct Setting: Sendable, CustomStringConvertible {
  public let kind: IOVIter.Kind
  public let direction: Direction
  public let dialect: Dialect

  public init(_ kind: IOVIter.Kind, _ direction: Direction, _ dialect: Dialect) {
    self.kind = kind
    self.direction = direction
    self.dialect = dialect
  }

  /// Every one that can be made.
  public static let all: [Setting] = IOVIter.Kind.allCases.flatMap { kind in
    Direction.allCases.filter { kind.takes($0) }.flatMap { direction in
      Dialect.allCases.map { Setting(kind, direction, $0) }
    }
  }

  public var description: String { "\(dialect) \(kind) \(direction)" }

  /// What table 1.1 says, written down a second time.
  public var retention: Retention? {
    switch kind {
    case .ubuf, .iovec: dialect == .rfc && direction == .source ? .referenced : .pinned
    case .bvec, .xarray: .unretained
    case .kvec, .folioQueue: dialect == .upstream ? .unretained : nil
    case .pipe: dialect == .rfc ? .unretained : nil
    case .discard: nil
    }
  }
}

/// Calls iterators of a setting at random beside a model, on a machine of its
/// own that must be left as it was found, and throws at the first difference.
///
/// - Parameter calls: how many calls, at least.
/// - Returns: how many there were.
@discardableResult
public func runModel(
  _ setting: Setting, calls: Int, _ random: inout Dice
) throws -> Int {
  try withMachine(capacity: .mebibytes(4)) { memory in
    var done = 0
    if setting.kind == .pipe {
      while done < calls { done += try PipeModel.walk(setting, memory, &random) }
    } else {
      let ground = try Ground(memory, &random)
      defer { ground.tearDown() }
      while done < calls { done += try SegmentModel.walk(setting, ground, &random) }
    }
    return done
  }
}

/// The limits of one extraction, drawn at random.
struct Limits {
  let size: ByteCount
  let pages: PageCount

  init(_ random: inout Dice) {
    size = ByteCount(
      random.oneIn(12) ? Int.max : random.oneIn(3) ? random.below(100) : random.below(24_000))
    pages = random.oneIn(8) ? .unlimited : PageCount(random.below(8))
  }
}

/// What was thrown, as the errno.
func number(_ body: () throws -> Void) throws -> ErrorNumber {
  do { try body() } catch let error as MemoryError { return error.number }
  throw Mismatch(description: "a call that had to throw did not")
}
