//===----------------------------------------------------------------------===//
// Where output cannot go: that is an error of the command, whatever it printed.
//===----------------------------------------------------------------------===//

import Foundation
import Testing

extension GupctlTests {
  @Suite("Standard output")
  struct StandardOutputTests {
    private static let commands: [[String]] = [
      ["--help"], ["kinds"], ["extract", "--size", "8K"], ["lesson", "list"],
      ["fuzz", "--seed", "1", "--steps", "10"],
    ]

    @Test("A device that is full is said on standard error, with status 1", arguments: commands)
    func full(arguments: [String]) throws {
      let device = try #require(FileHandle(forWritingAtPath: "/dev/full"))
      let outcome = try Running(arguments, in: nil, output: device).outcome()
      #expect(outcome.status == 1)
      #expect(outcome.errors.contains("standard output"), "\(outcome.errors)")
      #expect(outcome.errors.contains("ENOSPC"), "\(outcome.errors)")
    }

    @Test("Arguments that make no sense keep their status: nothing was printed")
    func usage() throws {
      let device = try #require(FileHandle(forWritingAtPath: "/dev/full"))
      #expect(try Running(["kinds", "bvec"], in: nil, output: device).outcome().status == 64)
    }

    @Test("A reader that has gone ends the command quietly, or is said", arguments: commands)
    func noReader(arguments: [String]) throws {
      let pipe = Pipe()
      let command = try Running(arguments, in: nil, output: pipe.fileHandleForWriting)
      // The command holds the other end; it has yet to start printing, or finds it gone later.
      try pipe.fileHandleForReading.close()
      command.process.waitUntilExit()
      let process = command.process
      let isQuiet =
        process.terminationReason == .uncaughtSignal && process.terminationStatus == SIGPIPE
      // Who started us may ignore the signal; and all may have been written before.
      #expect(isQuiet || process.terminationReason == .exit && 0...1 ~= process.terminationStatus)
    }
  }
}
