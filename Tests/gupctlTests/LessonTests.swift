//===----------------------------------------------------------------------===//
// gupctl lesson: each lesson holds by every policy and in every trap, finds
// what the semantics say, and draws pages whose counts add up.
//===----------------------------------------------------------------------===//

import Foundation
import Testing

/// What `lesson NAME --json` prints.
private struct LessonJSON: Decodable {
  struct Claim: Decodable {
    let text: String
    let holds: Bool
  }
  struct Way: Decodable {
    let who: String
    let how: String
    let changed: Bool
  }
  struct Facts: Decodable {
    let free: Bool
    let folio: String?
    let refs: Int
    let pins: Int
    let maps: Int
    let exclusive: Bool
    let bytes: String
  }
  struct Row: Decodable {
    let page: String
    let facts: Facts
    let changed: Bool
    let ways: [Way]
  }
  struct Absence: Decodable {
    let who: String
    let state: String
  }
  struct Diagram: Decodable {
    let rows: [Row]
    let absences: [Absence]
  }
  struct Step: Decodable {
    let text: String
    let claims: [Claim]
    let diagram: Diagram
  }
  struct Finding: Decodable {
    let question: String
    let observed: String
    let expected: String
  }
  struct Run: Decodable {
    let policy: String
    let trap: String
    let steps: [Step]
    let findings: [Finding]
  }

  let name: String
  let title: String
  let teaches: String
  let remember: [String]
  let seeAlso: [String]
  let matters: [String]
  let holds: Bool
  let runs: [Run]
}

/// An entry of `lesson list --json`.
private struct LessonEntry: Decodable {
  let name: String
  let title: String
  let teaches: String
  let policies: [String]
  let seeAlso: [String]
}

/// What the semantics say of a lesson's scenario, by policy.
struct Oracle: CustomTestStringConvertible, Sendable {
  let lesson: String
  /// The answers in order: of rfc, of upstream, and of broken if that is known.
  let rfc: [String]
  let upstream: [String]
  let broken: [String]?
  /// The answers where there is no trap, if they are others.
  var untrapped: [String]?

  var testDescription: String { lesson }

  /// One whose policy does not matter.
  init(_ lesson: String, _ answers: String..., untrapped: [String]? = nil) {
    (self.lesson, rfc, upstream, broken) = (lesson, answers, answers, answers)
    self.untrapped = untrapped
  }
  init(_ lesson: String, rfc: [String], upstream: [String], broken: [String]?) {
    (self.lesson, self.rfc, self.upstream, self.broken) = (lesson, rfc, upstream, broken)
  }

  static let all: [Oracle] = {
    let before = "before.........."
    let after = "after..........."
    let delivered = "after...DEVICE.."
    return [
      // S1 by GET.
      Oracle("fork-loss", after, "before..DEVICE.."),
      // S1 by PIN; broken as by GET.
      Oracle(
        "fork-pin", rfc: [delivered, before], upstream: [delivered, before],
        broken: [after, "before..DEVICE.."]),
      // S4 by GET.
      Oracle("short-lived-child", rfc: [after], upstream: [after], broken: [delivered]),
      // S12.
      Oracle("dontfork", delivered, "EFAULT"),
      // S23.
      Oracle(
        "folio-pin", rfc: ["4 of 4", delivered, before], upstream: ["4 of 4", delivered, before],
        broken: ["0 of 4", after, "before..DEVICE.."]),
      // S10: by GET in the RFC's dialect, by PIN upstream.
      Oracle(
        "read-only-unshare", rfc: [before, before], upstream: [after, before],
        broken: [before, before]),
      // S15.
      Oracle(
        "secret-leak", rfc: ["public..........", "secret.........."],
        upstream: ["public..........", "secret.........."],
        broken: ["secret..........", "secret.........."]),
      // S18, short and LONGTERM.
      Oracle(
        "zero-page", rfc: ["................", "words..........."],
        upstream: ["................", "words..........."],
        broken: ["................", "................"]),
      // C.8 and G6.
      Oracle("migration", "yes", "0 moved, 1 pinned", "before..DEVICE.."),
      // S20.
      Oracle("munmap-under-dma", "new.............", "before..DEVICE.."),
      //
      Oracle("partial-pin", "8192 bytes, fault: EFAULT", "EFAULT"),
      // F-04.
      Oracle(
        "pipe-hazard", rfc: ["one page, nothing held", "1"], upstream: ["EFAULT", "0"],
        broken: ["EFAULT", "0"]),
      // Decision 8.
      Oracle("adoption", "EBUSY", "before..DEVICE..", untrapped: ["EOPNOTSUPP", before]),
    ]
  }()
}

extension GupctlTests {
  @Suite("lesson")
  struct Lessons {
    private func run(_ arguments: String...) throws -> Outcome {
      let outcome = try gupctl(["lesson"] + arguments)
      try #require(outcome.status == 0, "\(outcome.output)\(outcome.errors)")
      #expect(outcome.errors == "")
      return outcome
    }

    @Test("The list names every lesson that has an oracle, and each leads to others of it")
    func list() throws {
      let entries = try run("list", "--json").json(as: [LessonEntry].self)
      let names = entries.map(\.name)
      #expect(names == Oracle.all.map(\.lesson))
      for entry in entries {
        #expect(!entry.seeAlso.isEmpty && Set(entry.seeAlso).isSubset(of: names))
        #expect(!entry.seeAlso.contains(entry.name) && !entry.title.isEmpty)
      }
      let text = try run()
      let same = try run("list")
      #expect(same.output == text.output)
      let lines = text.output.split(separator: "\n").dropFirst(2)
      #expect(lines.prefix(names.count).map { $0.prefix { $0 != " " } } == names.map { $0[...] })
    }

    @Test(
      "D.6: what each lesson finds is what the scenario's oracle says, by every policy",
      arguments: Oracle.all, [nil, "sigsegv", "none"])
    func oracles(oracle: Oracle, trap: String?) throws {
      let more = trap.map { ["--trap", $0] } ?? []
      for (policy, answers) in [
        ("rfc", oracle.rfc), ("upstream", oracle.upstream), ("broken", oracle.broken),
      ] {
        guard let answers else { continue }
        let outcome = try gupctl(["lesson", oracle.lesson, "--policy", policy, "--json"] + more)
        try #require(outcome.status == 0, "\(outcome.errors)")
        let lesson = try outcome.json(as: LessonJSON.self)
        #expect(lesson.name == oracle.lesson && lesson.holds)
        let run = try #require(lesson.runs.first)
        #expect(lesson.runs.count == 1 && run.policy == policy)
        if let trap { #expect(run.trap == trap) }
        let untrapped = run.trap == "none" ? oracle.untrapped : nil
        #expect(run.findings.map(\.observed) == untrapped ?? answers)
        #expect(run.findings.allSatisfy { $0.observed == $0.expected })
        #expect(run.steps.flatMap(\.claims).allSatisfy { $0.holds })
        #expect(!run.steps.flatMap(\.claims).isEmpty)
        for step in run.steps { for row in step.diagram.rows { check(row, in: step.diagram) } }
      }
    }

    /// C.4: a small page's count is its mappings, its references, and 1,024 a
    /// pin; a large folio's is those of all its pages, and 1 a pin. A pin of the
    /// zero page is none.
    private func check(_ row: LessonJSON.Row, in diagram: LessonJSON.Diagram) {
      func ways(_ kinds: String..., all rows: [LessonJSON.Row]? = nil) -> Int {
        (rows ?? [row]).flatMap(\.ways).count { kinds.contains($0.how) }
      }
      if row.page == "zero" {
        #expect(row.facts.refs == 1 + ways("get") && row.facts.maps == 0 && row.facts.pins == 0)
      } else if row.facts.free {
        #expect(ways("rw", "r", "get", "pin", "ref") == 0)
      } else {
        let folio = row.facts.folio
        let rows = folio == nil ? [row] : diagram.rows.filter { $0.facts.folio == folio }
        #expect(row.facts.maps == ways("rw", "r") && row.facts.pins == ways("pin", all: rows))
        #expect(
          row.facts.refs == ways("rw", "r", "get", "ref", all: rows)
            + (folio == nil ? 1024 : 1) * row.facts.pins)
        // C.11 G2: who may store without a fault has the page alone.
        if ways("rw") > 0 { #expect(row.facts.exclusive && row.facts.maps == 1) }
      }
    }

    @Test(
      "By all policies, the lesson is told by one and compared by those that matter",
      arguments: Oracle.all)
    func comparison(oracle: Oracle) throws {
      let lesson = try run(oracle.lesson, "--json").json(as: LessonJSON.self)
      let all = try run(oracle.lesson, "--policy", "all")
      let unasked = try run(oracle.lesson)
      #expect(all.output == unasked.output)
      #expect(Set(lesson.runs.map(\.policy)).count == lesson.runs.count)
      if !lesson.matters.isEmpty {
        #expect(Set(lesson.runs.map(\.policy)) == Set(lesson.matters))
        // Where it matters, not all outcomes are the same.
        #expect(Set(lesson.runs.map { $0.findings.map(\.observed) }).count > 1)
      } else {
        #expect(lesson.runs.count == 1)
      }
    }

    @Test(
      "Text of at most 80 ASCII columns, the same in each run, with every step of the JSON",
      arguments: Oracle.all, ["rfc", "upstream", "broken", "all"])
    func text(oracle: Oracle, policy: String) throws {
      let outcome = try run(oracle.lesson, "--policy", policy)
      let lines = outcome.output.split(separator: "\n", omittingEmptySubsequences: false)
      for line in lines {
        #expect(line.utf8.count <= 80 && line.utf8.allSatisfy { 0x20..<0x7f ~= $0 }, "\(line)")
        #expect(line.last != " ")
      }
      let again = try run(oracle.lesson, "--policy", policy)
      #expect(again.output == outcome.output)

      let lesson = try run(oracle.lesson, "--policy", policy, "--json").json(as: LessonJSON.self)
      let told = try #require(lesson.runs.first)
      let numbered = lines.filter { $0.first?.isNumber == true }
      #expect(numbered.count == told.steps.count)
      #expect(
        lines.count { $0.contains("refs pins maps excl") }
          == told.steps.count { !$0.diagram.rows.isEmpty })
      #expect(lines.first?.hasPrefix("\(lesson.name): \(lesson.title)") == true)
      #expect(outcome.output.contains("Outcome") && outcome.output.contains("See also: "))
      // One line says that the policy does not matter.
      let indifferent = lines.filter { $0.hasPrefix("policy does not matter here: ") }
      #expect(indifferent.count == (lesson.matters.isEmpty ? 1 : 0))
      #expect(indifferent.allSatisfy { $0.last == "." })
    }
  }
}
