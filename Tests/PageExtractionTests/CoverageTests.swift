//===----------------------------------------------------------------------===//
// docs/coverage.md names tests that exist, for every rule there is.
//===----------------------------------------------------------------------===//

import TestSupport
import Testing

@Suite("Coverage")
struct CoverageTests {
  /// One row: a rule and what proves it.
  private struct Row {
    let rule: String
    let proof: String
    /// File and display name of each test in the proof.
    let tests: [(file: String, name: String)]
  }

  private static func rows() throws -> [Row] {
    try Documents.lines(of: "docs/coverage.md").compactMap { line in
      guard line.hasPrefix("| "), !line.hasPrefix("| rule |") else { return nil }
      let cells = line.split(separator: "|").map { String($0.trimmingSpaces) }
      try #require(cells.count == 3, "a row has three cells: \(line)")
      let tests = try cells[2].split(separator: "`", omittingEmptySubsequences: false)
        .dropFirst().pairs.filter { $0.0.contains("Tests/") }.map { file, rest in
          // A test file is followed by a space and the name of a test in quotes.
          let parts = rest.split(separator: "\"", omittingEmptySubsequences: false)
          try #require(parts.count >= 3 && parts[0] == " ", "after `\(file)` in \(cells[0])")
          return (file: String(file), name: String(parts[1]))
        }
      return Row(rule: cells[0], proof: cells[2], tests: tests)
    }
  }

  /// The display names of the tests in a file, as they stand in its source.
  private static func names(in file: String) throws -> Set<String> {
    let lines = try Documents.lines(of: "Tests/\(file).swift")
    var names: Set<String> = []
    for (i, line) in lines.enumerated() where line.trimmingSpaces.hasPrefix("@Test(") {
      // On the same line, or alone at the start of the next.
      var text = line.trimmingSpaces.dropFirst("@Test(".count)
      if text.isEmpty, i + 1 < lines.count { text = lines[i + 1].trimmingSpaces }
      guard text.first == "\"", let end = text.dropFirst().firstIndex(of: "\"") else { continue }
      names.insert(String(text[text.index(after: text.startIndex)..<end]))
    }
    return names
  }

  @Test("docs/coverage.md names only tests that exist")
  func testsExist() throws {
    var known: [String: Set<String>] = [:]
    var count = 0
    for row in try Self.rows() {
      for test in row.tests {
        if known[test.file] == nil { known[test.file] = (try? Self.names(in: test.file)) ?? [] }
        #expect(
          known[test.file]?.contains(test.name) == true,
          "\(row.rule): Tests/\(test.file).swift has no test \"\(test.name)\"")
        count += 1
      }
    }
    #expect(count > 200)
  }

  @Test("docs/coverage.md has every rule once, with a proof or a word why not")
  func rulesComplete() throws {
    let rows = try Self.rows()
    var rules: Set<String> = []
    for row in rows {
      #expect(rules.insert(row.rule).inserted, "\(row.rule) stands there twice")
      #expect(
        !row.tests.isEmpty || row.proof.hasPrefix("pending: ")
          || row.proof.hasPrefix("not applicable: ") || row.rule == "1.3",
        "\(row.rule): \(row.proof)")
    }
    for rule in Self.expected { #expect(rules.contains(rule), "\(rule) is missing") }
  }

  /// The rules that the semantics number, part by part.
  private static let expected: [String] = {
    func ledger(_ letter: String, _ count: Int) -> [String] {
      (1...count).map { "\(letter)-\($0 < 10 ? "0" : "")\($0)" }
    }
    func numbered(_ prefix: String, _ range: ClosedRange<Int>) -> [String] {
      range.map { "\(prefix)\($0)" }
    }
    return ledger("A", 36) + ledger("F", 27) + ledger("G", 17)
      + numbered("S", 1...25) + numbered("I", 1...7) + numbered("A.", 2...7)
      + numbered("A.8.", 1...8) + numbered("C.2.", 1...6) + numbered("C.3 row ", 1...12)
      + numbered("C.5.", 1...7) + numbered("C.11 G", 1...6) + numbered("D.2.", 1...5)
      + numbered("D.3 row ", 1...4) + ["1.3", "A.1", "A.10", "B.3", "B.4", "C.1", "C.8"]
      + ["C.10", "C.12", "D.5", "C.3 end", "C.3 leaf"]
  }()
}

extension StringProtocol {
  /// Without the spaces at both ends.
  fileprivate var trimmingSpaces: SubSequence {
    var text = self[...]
    while text.first == " " { text.removeFirst() }
    while text.last == " " { text.removeLast() }
    return text
  }
}

extension Collection {
  /// The elements two by two.
  fileprivate var pairs: [(Element, Element)] {
    var pairs: [(Element, Element)] = []
    var first: Element? = nil
    for element in self {
      if let known = first {
        pairs.append((known, element))
        first = nil
      } else {
        first = element
      }
    }
    return pairs
  }
}
