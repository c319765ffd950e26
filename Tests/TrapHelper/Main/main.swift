//===----------------------------------------------------------------------===//
// trap-helper SCENARIO TIER: what cannot be tried inside the test process,
// because it ends the process, changes its signal handlers, or counts what the
// whole process has. Prints what it finds; exits 0 when all of it is right.
// Tests/AddressSpacesTests/ProcessTests.swift runs it.
//===----------------------------------------------------------------------===//

import AddressSpaces
import CShims
import CTrapHelper
import Glibc
import PageFrames
import TestSupport

let arguments = CommandLine.arguments
guard arguments.count >= 3, let scenario = Scenario(rawValue: arguments[1]),
  let tier = TrapTier.allCases.first(where: { "\($0)" == arguments[2] })
else {
  print("usage: trap-helper \(Scenario.allCases.map(\.rawValue).joined(separator: "|")) TIER")
  exit(64)
}

func check(_ condition: Bool, _ what: @autoclosure () -> String = "", line: Int = #line) {
  guard !condition else { return }
  print("line \(line): \(what()) does not hold")
  exit(1)
}

/// Says that everything up to here went as it should, and that the end is near.
func aboutToEnd() {
  print("about to end")
  fflush(nil)
}

do {
  try scenario.run(tier)
  print("done")
} catch {
  print("error: \(error)")
  exit(1)
}
