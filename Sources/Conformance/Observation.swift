//===----------------------------------------------------------------------===//
// Observation: what a driver saw at a step, in words that mean the same on the
// emulator and on the host. All that the two drivers share beside the script.
//===----------------------------------------------------------------------===//

/// Something that was seen at a step.
public struct Observation: Sendable, Hashable {
  /// The step's index in the script.
  public let step: Int
  /// Who can see it.
  public let level: Witness
  /// What was seen: bytes, the name of an error or a signal, names of processes.
  public let value: String
  /// For counters: pins taken and dropped. The host counts everybody's.
  public let counts: [Int]

  public init(step: Int, _ level: Witness, _ value: String, counts: [Int] = []) {
    self.step = step
    self.level = level
    self.value = value
    self.counts = counts
  }
}

/// What became of a page's frame over a step.
enum FrameFate: String {
  case kept, moved, taken, dropped, none

  /// - Parameters: a frame, 0 for the zero page, nil for none. The zero page is nobody's: a fork
  ///   copies its entry or leaves it out, as areas have pages of their own or not (D.1).
  init(before: UInt64?, after: UInt64?) {
    switch (before ?? 0, after ?? 0) {
    case (0, 0): self = .none
    case (_, 0): self = .dropped
    case (0, _): self = .taken
    case (let before, let after): self = before == after ? .kept : .moved
    }
  }
}

/// The words for what is seen.
enum Words {
  static let ok = "ok"
  static let notHeld = "nothing held"

  /// Blocks of one page: `zeroes`, or those that are not, `0:11 4:dd`.
  static func page(_ blocks: ArraySlice<UInt8>) -> String {
    let text = blocks.enumerated().filter { $0.element != 0 }
      .map { "\($0.offset):\(hex($0.element))" }.joined(separator: " ")
    return text.isEmpty ? "zeroes" : text
  }

  static func hex(_ byte: UInt8) -> String {
    let digits = String(byte, radix: 16)
    return digits.count == 1 ? "0\(digits)" : digits
  }

  /// Samples of the blocks of a stretch, page by page; `signals` has one a page.
  static func pages(_ samples: [UInt8], of stretch: Stretch, signals: [Int32] = []) -> String {
    var parts: [String] = []
    var position = stretch.offset
    var next = 0
    while next < samples.count {
      let pageEnd = (position & ~4095) + 4096
      let count = min((pageEnd - position + 511) / 512, samples.count - next)
      let signal = parts.count < signals.count ? signals[parts.count] : 0
      parts.append(signal == 0 ? page(samples[next..<next + count]) : Words.signal(signal))
      next += count
      position += count * 512
    }
    return parts.isEmpty ? "nothing" : parts.joined(separator: " | ")
  }

  /// SIGBUS is 7 on Linux, SIGSEGV 11.
  static func signal(_ number: Int32) -> String {
    switch number {
    case 0: ok
    case 7: "SIGBUS"
    case 11: "SIGSEGV"
    default: "signal \(number)"
    }
  }

  static func bytes(_ count: Int) -> String { "\(count) bytes" }

  /// `2 of 3 pages` for a hold of `length` bytes that came to `amount`.
  static func pages(heldBy amount: Int, of stretch: Stretch) -> String {
    let all = stretch.pages.count
    let held = Stretch(stretch.buffer, from: stretch.offset, length: amount).pages.count
    return held == all ? "\(all) page\(all == 1 ? "" : "s")" : "\(held) of \(all) pages"
  }

  static func fates(_ before: [UInt64?], _ after: [UInt64?]) -> String {
    zip(before, after).map { FrameFate(before: $0, after: $1).rawValue }.joined(separator: " ")
  }

  /// Who has a page's frame: processes in order with their frame (0: the zero page) and whether
  /// they map it alone.
  static func owners(_ owners: [(process: String, frame: UInt64?, isAlone: Bool)]) -> String {
    var groups: [(frame: UInt64, names: [String], isAlone: Bool)] = []
    for owner in owners {
      // The zero page is nobody's, and whether it is there says nothing.
      guard let frame = owner.frame, frame != 0 else { continue }
      if let index = groups.firstIndex(where: { $0.frame == frame }) {
        groups[index].names.append(owner.process)
      } else {
        groups.append((frame, [owner.process], owner.isAlone))
      }
    }
    if groups.isEmpty { return "nobody" }
    return groups.map { group in
      let names = group.names.joined(separator: "+")
      return group.names.count > 1 || group.isAlone ? names : "\(names) not alone"
    }.joined(separator: " / ")
  }

  static func counts(_ acquired: Int, _ released: Int) -> String {
    "\(acquired) pinned, \(released) unpinned"
  }
}
