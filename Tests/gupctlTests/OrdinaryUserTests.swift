//===----------------------------------------------------------------------===//
// gupctl as a user without privileges: when the tests run as root, the same
// jobs are run once more as nobody.
//===----------------------------------------------------------------------===//

import Foundation
import Glibc
import Testing

extension GupctlTests {
  @Suite("Ordinary user")
  struct OrdinaryUser {
    static let canBecomeNobody =
      getuid() == 0 && FileManager.default.isExecutableFile(atPath: "/usr/bin/setpriv")

    @Test(
      "Every job works, and what may not be read or written is refused by name",
      .enabled(if: canBecomeNobody, "takes root and setpriv"))
    func nobody() throws {
      let folder = try Folder()
      func asNobody(_ arguments: String...) throws -> Outcome {
        try gupctl(arguments, in: folder, asNobody: true)
      }
      let files = FileManager.default
      try files.setAttributes([.posixPermissions: 0o777], ofItemAtPath: folder.url.path)
      let bytes = someBytes(100_001)
      try folder.write("in", bytes)
      let secret = try folder.write("secret", bytes)
      try files.setAttributes([.posixPermissions: 0o600], ofItemAtPath: secret.path)
      for trap in ["sigsegv", "none"] {
        for direction in ["into", "out-of"] {
          let outcome = try asNobody(
            "extract", "--file", "in", "--output", "out", "--trap", trap, "--direction", direction)
          #expect(outcome.status == 0, "\(outcome.errors)")
          #expect(try folder.read("out") == bytes)
        }
      }
      let main = try asNobody("extract", "--size", "1M")
      #expect(main.status == 0, "\(main.errors)")
      let read = try asNobody("extract", "--file", "secret")
      #expect(read.status == 1)
      #expect(read.errors.contains("--file 'secret' cannot be opened: EACCES"))
      let write = try asNobody("extract", "--file", "in", "--output", "secret")
      #expect(write.status == 1)
      #expect(write.errors.contains("--output 'secret' cannot be written: EACCES"))
      #expect(try folder.read("secret") == bytes)
      #expect(try folder.names == ["in", "out", "secret"])
    }
  }
}
