//===----------------------------------------------------------------------===//
// Random numbers that can be had again: every random test of a run draws from
// one seed, which comes from the environment variable GUP_SEED or the system.
//===----------------------------------------------------------------------===//

#if canImport(Glibc)
  import Glibc
#endif

/// SplitMix64: small, fast, and any seed is as good as any other.
public struct SeededRandom: RandomNumberGenerator, Sendable {
  private var state: UInt64

  /// The stream `stream` of this run; the arguments of a parameterised test
  /// each take one of their own.
  public init(stream: UInt64 = 0) {
    state = SeededRandom.seed &+ stream &* 0xd1b5_4a32_d192_ed03
  }

  /// A source that is the same in every run.
  public init(seed: UInt64) { state = seed }

  public mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var z = state
    z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
    z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
    return z ^ (z >> 31)
  }

  /// A number from 0 to `bound` - 1.
  public mutating func below(_ bound: Int) -> Int { Int.random(in: 0..<bound, using: &self) }

  /// True once in `n` draws.
  public mutating func oneIn(_ n: Int) -> Bool { below(n) == 0 }

  /// The seed of this run.
  public static let seed: UInt64 =
    unsafe getenv("GUP_SEED").flatMap { unsafe UInt64(String(cString: $0)) }
    ?? UInt64.random(in: 0 ... .max)
}

/// What a failing random test says: how to have the same run again.
public var howToRepeat: String { "repeat with GUP_SEED=\(SeededRandom.seed)" }

/// Runs a random test, and prints how to repeat it when it throws: let the test
/// stop at its first mistake with `#require`.
public func withSeededRandom<R>(
  stream: UInt64 = 0, _ body: (inout SeededRandom) throws -> R
) rethrows -> R {
  var random = SeededRandom(stream: stream)
  do {
    return try body(&random)
  } catch {
    print("\(howToRepeat) (stream \(stream))")
    throw error
  }
}

/// Where `mustHold` found a mistake.
public struct Mismatch: Error, CustomStringConvertible {
  public let description: String

  public init(description: String) { self.description = description }
}

/// `#require` for inner loops: a tenth of its cost, because it captures nothing
/// but the line.
@inline(__always)
public func mustHold(
  _ condition: Bool, fileID: StaticString = #fileID, line: UInt = #line
) throws {
  if !condition { throw Mismatch(description: "\(fileID):\(line) does not hold") }
}
