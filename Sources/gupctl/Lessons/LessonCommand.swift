//===----------------------------------------------------------------------===//
// gupctl lesson: its arguments, their checks, and the order of the work.
// LessonRun.swift runs a play, LessonReport.swift prints it.
//===----------------------------------------------------------------------===//

import ArgumentParser
import SwiftGUP
import TextTable

struct LessonCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "lesson",
    abstract: "Tell, step by step, what forks, pins and copies do to pages.",
    discussion: """
      'gupctl lesson list' names the lessons, 'gupctl lesson NAME' runs one. Each is a real run: \
      programs with buffers of their own whose loads and stores fault, forks, GUP and \
      extraction, a device that writes behind their backs. After each step stands what the \
      page table and the page descriptors say:

        who   leads to the page, by an entry (rw, r) or a hold (get, pin, ref)
        refs  its reference count, in which a pin counts 1,024
        pins  its pins
        maps  the entries that show it
        excl  whether it is one program's own

      A * marks what the step has changed. What a lesson says is checked against what was \
      observed: the exit status is 1 if anything differs.

      Policies: rfc extracts by the RFC's dialect (buffers that a device reads are held by \
      references), upstream by that of Linux 6.12 (every user buffer is pinned), both on a \
      machine whose copy-on-write is right; broken is upstream on a machine with the one rule \
      wrong that the lesson is about. all tells it by one and compares their outcomes.
      """)

  @Argument(help: "The lesson, or 'list'.")
  var name = "list"

  @Option(help: "By whose rules. (default: all)")
  var policy: PolicyChoice?

  @Option(help: "How native loads and stores fault (default: the best that works here).")
  var trap: TrapName?

  @Flag(
    help: """
      Print one JSON object instead: the lesson, and for each run its steps with claims and \
      diagrams, and its findings. With 'list' an array of lessons.
      """)
  var json = false

  enum PolicyChoice: String, ExpressibleByArgument, CaseIterable {
    case rfc, upstream, broken, all

    /// The one policy that was asked for.
    var single: LessonPolicy? { LessonPolicy(rawValue: rawValue) }
  }

  func validate() throws {
    if name == "list" {
      if let policy { throw ValidationError("--policy \(policy) makes no sense with 'list'.") }
      if let trap { throw ValidationError("--trap \(trap) makes no sense with 'list'.") }
      return
    }
    guard Lesson.named(name) == nil else { return }
    throw ValidationError(
      "no lesson is called '\(name)'. There are: "
        + Lesson.all.map(\.name).joined(separator: ", ") + ".")
  }

  func run() throws {
    guard let lesson = Lesson.named(name) else { return try list() }
    let single = policy?.single
    var runs = [try LessonRun(of: lesson, by: single ?? lesson.told, trap: trap)]
    if single == nil {
      for other in lesson.compared where other != lesson.told {
        runs.append(try LessonRun(of: lesson, by: other, trap: trap))
      }
    }
    let report = LessonReport(
      lesson: lesson, runs: runs, isComparison: single == nil)
    if json { try printJSON(report) } else { report.print() }
    let failures = runs.flatMap(\.failures)
    if !failures.isEmpty {
      throw Failure("lesson \(name): " + failures.joined(separator: "\n       lesson \(name): "))
    }
  }

  private struct Entry: Encodable {
    let name: String
    let title: String
    let teaches: String
    let policies: [LessonPolicy]
    let seeAlso: [String]
  }

  private func list() throws {
    if json {
      return try printJSON(
        Lesson.all.map {
          Entry(
            name: $0.name, title: $0.title,
            teaches: $0.teaches.split(separator: "\n").joined(separator: " "),
            policies: $0.compared, seeAlso: $0.seeAlso)
        })
    }
    printTable(Lesson.all) {
      [Column(title: "lesson", value: $0.name), Column(title: "what it shows", value: $0.title)]
    }
    print("\nRun one by its name: gupctl lesson \(Lesson.all[0].name)")
  }
}
