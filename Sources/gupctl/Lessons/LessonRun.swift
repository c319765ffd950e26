//===----------------------------------------------------------------------===//
// LessonRun: one run of a lesson's play by one policy, and what of it did not
// come as the lesson says.
//===----------------------------------------------------------------------===//

import SwiftGUP

struct LessonRun: Encodable {
  let policy: LessonPolicy
  let trap: TrapName
  let steps: [LessonStep]
  let findings: [Finding]

  /// - Throws: what the machine or a call refused.
  init(of lesson: Lesson, by policy: LessonPolicy, trap: TrapName?) throws {
    do {
      let stage = try Stage(
        policy: policy, machinePolicy: lesson.machinePolicy(by: policy), trap: trap)
      do {
        try lesson.play(stage)
      } catch {
        stage.close()
        throw error
      }
      stage.close()
      self.policy = policy
      self.trap = TrapName(stage.memory.trapTier)
      steps = stage.steps
      findings = stage.findings
    } catch let error as MemoryError {
      throw Failure("lesson \(lesson.name), policy \(policy): \(error)")
    }
  }

  /// What was said and not observed, a line each.
  var failures: [String] {
    var lines: [String] = []
    for (i, step) in steps.enumerated() {
      for claim in step.claims where !claim.holds {
        lines.append("by policy \(policy), step \(i + 1): not observed: \(claim.text)")
      }
    }
    for finding in findings where finding.observed != finding.expected {
      lines.append(
        "by policy \(policy): \(finding.question): expected '\(finding.expected)', "
          + "observed '\(finding.observed)'")
    }
    return lines
  }
}
