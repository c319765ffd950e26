//===----------------------------------------------------------------------===//
// What `gupctl lesson` says of a lesson and its runs. Lines of at most 80
// columns, ASCII; colours only mark what the text says as well.
//===----------------------------------------------------------------------===//

import SwiftGUP
import TextTable

struct LessonReport {
  let lesson: Lesson
  /// The one that is told, then those that are only compared with it.
  let runs: [LessonRun]
  /// Were all policies asked for?
  let isComparison: Bool

  private static let width = 78

  func print() {
    let ink = Ink(isOn: Terminal.outputTakesColour)
    let told = runs[0]
    Swift.print(ink.bold("\(lesson.name): \(lesson.title)"))
    for line in lesson.teaches.split(separator: "\n") { Swift.print("  " + line) }
    Swift.print()
    for line in rules(of: told.policy) { Swift.print(line) }
    for (i, step) in told.steps.enumerated() {
      Swift.print()
      for line in step.text.wrapped(Self.width, first: "\(i + 1)".padded(3)) {
        Swift.print(ink.bold(line))
      }
      for claim in step.claims {
        let text = claim.holds ? claim.text : "NOT OBSERVED: \(claim.text)"
        for line in text.wrapped(Self.width, first: "   ") {
          Swift.print(claim.holds ? line : ink.alarm(line))
        }
      }
      for line in step.diagram.lines(mark: ink.mark, dim: ink.dim) { Swift.print(line) }
    }
    Swift.print()
    printOutcome(ink)
    Swift.print()
    Swift.print(ink.bold("Remember"))
    for sentence in lesson.remember {
      for line in sentence.wrapped(Self.width, first: "  - ") { Swift.print(line) }
    }
    Swift.print("See also: " + lesson.seeAlso.joined(separator: ", "))
  }

  /// By whose rules it is told.
  private func rules(of policy: LessonPolicy) -> [String] {
    let trap = runs[0].trap
    let faults = "faults trapped by \(trap == .none ? "nobody (explicit copies)" : trap.rawValue)"
    let rule: String
    switch (lesson.stakes, policy) {
    case (.none(let why), _): rule = "does not matter here: \(why)"
    case (_, .rfc):
      rule = "rfc: what a device reads is held by reference, what it writes by pin"
    case (_, .upstream): rule = "upstream: extraction pins every user buffer"
    case (.dialect(let why), .broken): rule = "broken is upstream here: \(why)"
    case (.policy(_, let wrong), .broken): rule = "broken, wrong on purpose: \(wrong)"
    }
    var lines =
      rule.wrapped(Self.width, first: "policy ") + [
        "machine: \(faults)",
        "refs: mappings, references, and 1,024 for each pin. *: changed by the step.",
      ]
    if runs[0].steps.contains(where: { $0.diagram.rows.contains { $0.facts.folio != nil } }) {
      lines.append("folio: its pages share refs and pins, and a pin is one more reference.")
    }
    return lines
  }

  private func printOutcome(_ ink: Ink) {
    let columns = runs[0].findings.map(\.question)
    guard isComparison, runs.count > 1 else {
      Swift.print(ink.bold("Outcome"))
      printTable(runs[0].findings, indent: "  ") {
        [
          Column(title: "question", value: $0.question),
          Column(title: "answer", value: $0.observed),
        ]
      }
      return
    }
    Swift.print(ink.bold("Outcome by policy"))
    let order = LessonPolicy.allCases.compactMap { policy in
      runs.first { $0.policy == policy }
    }
    printTable(order, indent: "  ") { run in
      [Column(title: "policy", value: run.policy.rawValue)]
        + columns.map { question in
          let finding = run.findings.first { $0.question == question }
          return Column(title: question, value: finding?.observed ?? "(not asked)")
        }
    }
    if case .policy(_, let wrong) = lesson.stakes {
      for line in "broken: \(wrong).".wrapped(Self.width, first: "  ") { Swift.print(line) }
    }
  }
}

/// Colours, or none.
private struct Ink {
  let isOn: Bool
  private func dress(_ code: String, _ text: String) -> String {
    isOn ? "\u{1b}[\(code)m\(text)\u{1b}[0m" : text
  }
  func bold(_ text: String) -> String { dress("1", text) }
  func dim(_ text: String) -> String { dress("2", text) }
  func mark(_ text: String) -> String { dress("33", text) }
  func alarm(_ text: String) -> String { dress("1;31", text) }
}

extension LessonReport: Encodable {
  private enum Key: String, CodingKey {
    case name, title, teaches, remember, seeAlso, broken, matters, runs, holds
  }

  func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: Key.self)
    try container.encode(lesson.name, forKey: .name)
    try container.encode(lesson.title, forKey: .title)
    try container.encode(
      lesson.teaches.split(separator: "\n").joined(separator: " "), forKey: .teaches)
    try container.encode(lesson.remember, forKey: .remember)
    try container.encode(lesson.seeAlso, forKey: .seeAlso)
    if case .policy(_, let wrong) = lesson.stakes { try container.encode(wrong, forKey: .broken) }
    try container.encode(lesson.compared, forKey: .matters)
    try container.encode(runs, forKey: .runs)
    try container.encode(runs.allSatisfy { $0.failures.isEmpty }, forKey: .holds)
  }
}
