//===----------------------------------------------------------------------===//
// What gupctl conform prints: the table, the list, and the JUnit file.
//===----------------------------------------------------------------------===//

import Conformance
import Glibc
import HostKernel
import SwiftGUP
import TextTable

struct ConformReport {
  /// A row for machines.
  struct Row: Encodable {
    let id: String
    let emulator: String
    let host: String
    let verdict: String
    let why: String

    init(_ row: ComparedScenario) {
      id = row.scenario.id
      emulator = row.emulator.summary(of: row.scenario)
      host = row.host.summary(of: row.scenario)
      verdict = row.verdict.rawValue
      why = row.why
    }
  }

  let rows: [ComparedScenario]
  private let kernel: String
  private let limit: String
  private let policy: MemoryPolicy

  init(rows: [ComparedScenario], driver: borrowing HostDriver, policy: MemoryPolicy) {
    self.rows = rows
    self.policy = policy
    kernel = driver.capabilities.kernelRelease
    limit = driver.witnessLimit
  }

  func count(_ verdict: Verdict) -> Int { rows.count { $0.verdict == verdict } }

  // MARK: - For people

  func print(_ verbose: Bool) {
    printTable(rows) { row in
      let text = Row(row)
      return [
        Column(title: "scenario", value: text.id),
        Column(title: "emulator", value: shortened(text.emulator)),
        Column(title: "host", value: hostText(row, text)),
        Column(title: "verdict", value: text.verdict),
        Column(title: "why", value: row.verdict == .agree ? text.why : shortened(text.why)),
      ]
    }
    for row in rows where verbose || row.verdict == .differ { printSteps(row) }
    Swift.print()
    let reuse = policy.contains(.reuseLargeFolios) ? "are reused" : "are always copied"
    let moves = policy.contains(.remapSeveralAreas) ? "any range" : "one area"
    Swift.print(
      "machine: after a fork, pages of large folios \(reuse), and mremap moves \(moves), as by"
        + " this kernel (D.3.3, C.11)")
    Swift.print("host: Linux \(kernel); \(limit.isEmpty ? "everything can be seen" : limit)")
    Swift.print(
      Verdict.allCases.map { "\(count($0)) \($0.rawValue)" }.joined(separator: ", "))
  }

  private func hostText(_ row: ComparedScenario, _ text: Row) -> String {
    if text.host == text.emulator { return "the same" }
    return row.verdict == .agree && limit != "" ? "the same, as far as seen" : shortened(text.host)
  }

  private func shortened(_ text: String) -> String {
    text.count <= 48 ? text : "\(text.prefix(47))…"
  }

  private func printSteps(_ row: ComparedScenario) {
    Swift.print("\n\(row.scenario.id): \(row.scenario.title)")
    if !row.why.isEmpty { Swift.print("  \(row.why)") }
    for (index, step) in row.scenario.steps.enumerated() {
      Swift.print("  \(index) \(step)")
      for ours in row.emulator where ours.step == index {
        let theirs = row.host.first { $0.step == index && $0.level == ours.level }
        let host = theirs?.value ?? "not seen"
        Swift.print(
          host == ours.value
            ? "      \(ours.value)" : "      emulator: \(ours.value)\n      host:     \(host)")
      }
    }
  }

  /// The catalogue, without playing it.
  static func list(_ scenarios: [Scenario], asJSON: Bool) throws {
    if asJSON { return try printJSON(scenarios) }
    printTable(scenarios) { scenario in
      [
        Column(title: "scenario", value: scenario.id),
        Column(title: "needs", value: scenario.needs.text),
        Column(title: "what happens", value: scenario.title),
        Column(
          title: "", value: scenario.unobservable.map { "on no host: \($0)" } ?? scenario.note),
      ]
    }
  }

  // MARK: - For continuous integration

  func writeJUnit(to path: String) throws {
    var text = #"<?xml version="1.0" encoding="UTF-8"?>"# + "\n"
    text += "<testsuite name=\"conform\" tests=\"\(rows.count)\" failures=\"\(count(.differ))\""
    text += " skipped=\"\(count(.unobservable))\">\n"
    for row in rows {
      let id = escaped(row.scenario.id)
      text += "  <testcase classname=\"conform\" name=\"\(id)\">"
      switch row.verdict {
      case .differ: text += "<failure message=\"\(escaped(row.why))\"/>"
      case .unobservable: text += "<skipped message=\"\(escaped(row.why))\"/>"
      case .explained: text += "<system-out>\(escaped(row.why))</system-out>"
      case .agree: break
      }
      text += "</testcase>\n"
    }
    text += "</testsuite>\n"
    guard let file = unsafe fopen(path, "we") else {
      throw Failure("--junit '\(path)' cannot be written", errno: errno)
    }
    let isWritten = unsafe fputs(text, file) >= 0
    let error = errno
    let isClosed = unsafe fclose(file) == 0
    guard isWritten, isClosed else {
      throw Failure("--junit '\(path)' cannot be written", errno: isWritten ? errno : error)
    }
  }

  /// Text for an attribute or an element. Control characters, which XML cannot hold, go.
  private func escaped(_ text: String) -> String {
    var result = ""
    for scalar in text.unicodeScalars {
      switch scalar {
      case "&": result += "&amp;"
      case "<": result += "&lt;"
      case ">": result += "&gt;"
      case "\"": result += "&quot;"
      case _ where scalar.value < 0x20: result += " "
      default: result.unicodeScalars.append(scalar)
      }
    }
    return result
  }
}

extension Witness {
  /// What must be seen, and who sees it.
  var text: String {
    switch self {
    case .bytes: "bytes (anybody)"
    case .frames: "frame numbers (root)"
    case .counters: "pin counters (root)"
    }
  }
}
