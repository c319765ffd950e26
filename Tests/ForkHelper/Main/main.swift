//===----------------------------------------------------------------------===//
// fork-helper SCENARIO TIER: what real fork(2) does to machines. Each scenario
// makes children of its own process; it prints what it finds and exits 0 when all
// of it is right. Tests/AddressSpacesTests/RealForkTests.swift runs it.
//===----------------------------------------------------------------------===//

import CForkHelper
import Glibc
import PageFrames

let arguments = CommandLine.arguments
guard arguments.count >= 3, let scenario = Scenario(rawValue: arguments[1]),
  let tier = TrapTier.allCases.first(where: { "\($0)" == arguments[2] })
else {
  print("usage: fork-helper \(Scenario.allCases.map(\.rawValue).joined(separator: "|")) TIER")
  exit(64)
}

do {
  try scenario.run(tier)
  print("done")
} catch {
  print("error: \(error)")
  exit(1)
}
