//===----------------------------------------------------------------------===//
// A progress bar on standard error, for work that takes a while on a terminal.
//===----------------------------------------------------------------------===//

import CShims

/// Draws nothing during the first second, and nothing at all where nobody looks.
struct ProgressBar {
  enum Unit {
    /// The rate is of interest.
    case bytes
    case steps
  }

  private let isEnabled = Terminal.errorIsTerminal
  private let start = cshims_monotonic_ns()
  private var lastDrawing: UInt64 = 0

  /// Draws, at most ten times a second.
  mutating func show(_ done: Int, of total: Int, unit: Unit) {
    guard isEnabled else { return }
    let now = cshims_monotonic_ns()
    guard now - start > 1_000_000_000, now - lastDrawing > 100_000_000 else { return }
    lastDrawing = now
    let width = 32
    let full = done * width / total
    let bar = String(repeating: "#", count: full) + String(repeating: ".", count: width - full)
    var text = "\r[\(bar)] \(done * 100 / total) %"
    if unit == .bytes {
      let rate = Int(Double(done) / Double(now - start) * 1e9)
      text += " of \(inUnits(total)), \(inUnits(rate))/s"
    }
    Terminal.writeError(text + "\u{1b}[K")
  }

  /// Leaves the line empty.
  mutating func clear() {
    if lastDrawing > 0 { Terminal.writeError("\r\u{1b}[K") }
    lastDrawing = 0
  }
}
