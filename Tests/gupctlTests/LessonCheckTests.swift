//===----------------------------------------------------------------------===//
// A lesson that says what is not so is found out. No lesson of gupctl's does,
// so these are made here; the one test that does not go by the command line.
//===----------------------------------------------------------------------===//

import SwiftGUP
import Testing

@testable import gupctl

extension GupctlTests.Lessons {
  /// A play with one sentence and one answer about a page of one's own.
  private func lesson(exclusive: Bool, reads: String, leaks: Bool = false) -> Lesson {
    Lesson(
      name: "made-up", title: "", teaches: "", stakes: .none(""), remember: [], seeAlso: []
    ) { stage in
      let program = try stage.program("program")
      try stage.step("It stores 'word'.") { try program.store("word") }
      stage.claim("The page is its own.", program.page()?.isAnonymousExclusive == exclusive)
      stage.find("it reads", try program.read(), expected: reads)
      if leaks { try program.page()?.acquire(.reference) }
    }
  }

  @Test(
    "A claim, an answer, or books that do not hold are said, by policy, step and sentence",
    arguments: ["none", "sigsegv"])
  func failures(trap: String) throws {
    func failures(_ lesson: Lesson) throws -> [String] {
      try LessonRun(of: lesson, by: .rfc, trap: TrapName(rawValue: trap)).failures
    }
    let word = "word............"
    #expect(try failures(lesson(exclusive: true, reads: word)) == [])
    #expect(
      try failures(lesson(exclusive: false, reads: word))
        == ["by policy rfc, step 1: not observed: The page is its own."])
    #expect(
      try failures(lesson(exclusive: true, reads: "other"))
        == ["by policy rfc: it reads: expected 'other', observed '\(word)'"])
    #expect(
      try failures(lesson(exclusive: true, reads: word, leaks: true)) == [
        "by policy rfc, step 1: not observed: In the end every frame, reference and pin has "
          + "been given back."
      ])
  }
}
