//===----------------------------------------------------------------------===//
// Lesson: what gupctl lesson can tell. A lesson is one value in a file of its
// own: what it teaches, a play on a stage (Stage.swift), and what to remember.
// To add one, write its file and name it in `all`.
//
// A play performs real calls on a real machine. What is drawn is what the API
// observes after each step, and what a lesson says of it is checked: a sentence
// that does not hold makes the command fail.
//===----------------------------------------------------------------------===//

import ArgumentParser
import SwiftGUP

/// By whose rules a play runs.
enum LessonPolicy: String, ExpressibleByArgument, CaseIterable, Encodable {
  /// The RFC's extraction on a machine that is right.
  case rfc
  /// Linux 6.12: extraction pins every user buffer.
  case upstream
  /// The same extraction on a machine that has one rule wrong.
  case broken

  var dialect: Dialect { self == .rfc ? .rfc : .upstream }
}

/// One lesson.
struct Lesson: Sendable {
  /// What its outcome hangs on.
  enum Stakes: Sendable {
    /// The policy does not matter: why, in one line.
    case none(String)
    /// The dialect alone: no rule of copy-on-write is at work, so none can be
    /// broken. Why, in one line.
    case dialect(String)
    /// The machine's policy too: what `broken` has wrong, and who had it so.
    case policy(broken: MemoryPolicy, String)
  }

  /// How it is called on the command line.
  let name: String
  let title: String
  /// What it teaches, in two lines.
  let teaches: String
  let stakes: Stakes
  /// The policy by which it is told when none is asked for.
  var told = LessonPolicy.upstream
  /// What to remember, a sentence or two each.
  let remember: [String]
  /// Names of other lessons.
  let seeAlso: [String]
  let play: @Sendable (Stage) throws -> Void

  /// The policies whose outcomes differ in kind; empty where none matters.
  var compared: [LessonPolicy] {
    switch stakes {
    case .none: []
    case .dialect: [.rfc, .upstream]
    case .policy: LessonPolicy.allCases
    }
  }

  /// What is wrong with the machine by a policy.
  func machinePolicy(by policy: LessonPolicy) -> MemoryPolicy {
    if case .policy(let broken, _) = stakes, policy == .broken { broken } else { [] }
  }

  /// All of them, in the order in which to take them.
  static let all: [Lesson] = [
    .forkLoss, .forkPin, .shortLivedChild, .dontFork, .folioPin, .readOnlyUnshare, .secretLeak,
    .zeroPage, .migration, .munmapUnderDMA, .partialPin, .pipeHazard, .adoption,
  ]

  static func named(_ name: String) -> Lesson? { all.first { $0.name == name } }
}
