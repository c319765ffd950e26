//===----------------------------------------------------------------------===//
// The C interface, called from C: each check of Tests/CInterfaceChecks proves at
// its end that frames, pins and references are back where they began.
//===----------------------------------------------------------------------===//

import CGup
import CInterfaceChecks
import Foundation
import LibGup
import TestSupport
import Testing

/// One after the other: some look at the ledger.
@Suite("The C interface", .serialized)
struct CInterfaceTests {
  @Test("gup.h, called from C, keeps its promises", arguments: 0..<gup_check_count)
  func check(index: Int) throws {
    let check = unsafe gup_check_at(index)
    let name = unsafe String(cString: check.name)
    try withLedger {
      let line = unsafe check.run()
      #expect(line == 0, "\(name): line \(line) (see standard error)")
    }
  }

  @Test("every function that gup.h declares is in a manual page")
  func manual() throws {
    let header = try ["gup.h", "gup/mm.h"].flatMap {
      try Documents.lines(of: "Sources/CGup/include/\($0)")
    }.joined(separator: "\n")
    let declared = Set(header.matches(of: /\b(gup_[a-z0-9_]+)\([^)]/).map { String($0.1) })
    #expect(declared.count > 150)
    var described: Set<String> = []
    for path in Documents.paths(matching: "docs/man/*.3") {
      for line in try Documents.lines(of: path) {
        for match in line.matches(of: /\b(gup_[a-z0-9_]+)/) { described.insert(String(match.1)) }
      }
    }
    #expect(declared.subtracting(described).sorted() == [])
  }
}
