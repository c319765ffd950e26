//===----------------------------------------------------------------------===//
// Where the model's choices come from: a seed, or the bytes that a fuzzer
// chose, so that it can learn which of them lead somewhere new.
//===----------------------------------------------------------------------===//

/// A source of choices. The same seed, or bytes, makes the same ones.
public struct Dice: Sendable {
  private var state: UInt64
  private var bytes: [UInt8] = []
  private var used = 0

  /// Choices of a seed; each stream has its own.
  public init(seed: UInt64, stream: UInt64 = 0) {
    state = seed &+ stream &* 0xd1b5_4a32_d192_ed03
  }

  /// The choices that these bytes are, and fixed ones when they are used up.
  public init(bytes: [UInt8]) {
    state = 0
    self.bytes = bytes
  }

  /// SplitMix64.
  private mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var z = state
    z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
    z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
    return z ^ (z >> 31)
  }

  /// A number from 0 to `bound` - 1.
  mutating func below(_ bound: Int) -> Int {
    guard used < bytes.count else { return Int(next() % UInt64(bound)) }
    var word = 0
    var reach = 1
    while reach < bound, used < bytes.count {
      word = word << 8 | Int(bytes[used])
      reach <<= 8
      used += 1
    }
    return word % bound
  }

  /// True once in `n` draws.
  mutating func oneIn(_ n: Int) -> Bool { below(n) == 0 }
}
