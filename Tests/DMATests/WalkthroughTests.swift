//===----------------------------------------------------------------------===//
// docs/walkthrough.md shows code that runs and data that it made.
//===----------------------------------------------------------------------===//

import AddressSpaces
import PageFrames
import TestSupport
import Testing

@Suite("Walkthrough")
struct WalkthroughTests {
  private static let document = "docs/walkthrough.md"

  @Test("docs/walkthrough.md shows the code of each step as it runs")
  func code() throws {
    let source = try Documents.lines(of: "Tests/DMATests/Walkthrough.swift")
    var steps: [[String]] = []
    var isStep = false
    for line in source {
      switch line {
      case "  // STEP":
        steps.append([])
        isStep = true
      case "  // SHOW": isStep = false
      default: if isStep { steps[steps.count - 1].append(String(line.dropFirst(2))) }
      }
    }
    let shown = Documents.blocks("swift", in: try Documents.lines(of: Self.document))
    #expect(shown.count == steps.count)
    for (i, (shown, step)) in zip(shown, steps).enumerated() {
      #expect(shown == step, "step \(i + 1)")
    }
  }

  @Test(
    "docs/walkthrough.md shows what each step leaves behind, in every tier",
    arguments: TrapTier.testable)
  func data(_ tier: TrapTier) throws {
    var drawn: [[String]] = []
    var mappings: [String] = []
    let show: Show = { picture, spaces in
      drawn.append(picture)
      mappings.append(spaces.map { String($0.hostMappingCount) }.joined(separator: " + "))
    }
    try walkOneBuffer(tier, show)
    try walkOneFork(tier, show)

    let document = try Documents.lines(of: Self.document)
    let shown = Documents.blocks("text", in: document)
    #expect(shown.count == drawn.count)
    for (i, (shown, drawn)) in zip(shown, drawn).enumerated() {
      #expect(shown == drawn, "step \(i + 1)")
    }
    // The last table: | step | userfaultfd | sigsegv |
    let column = tier == .userfaultfd ? 2 : 3
    let table = document.filter { $0.hasPrefix("| ") && $0.dropFirst(2).first!.isNumber }
    #expect(table.map { cells(of: $0)[column] } == mappings)
  }

  /// The cells of a table's row; the first is what stands before its first bar.
  private func cells(of row: String) -> [String] {
    row.split(separator: "|", omittingEmptySubsequences: false).map {
      var cell = $0
      while cell.first == " " { cell.removeFirst() }
      while cell.last == " " { cell.removeLast() }
      return String(cell)
    }
  }
}
