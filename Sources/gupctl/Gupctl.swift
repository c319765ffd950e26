//===----------------------------------------------------------------------===//
// gupctl: the library from the command line. Here is the root command; each
// subcommand has a file of its own (…Command.swift: arguments and their checks),
// beside files for its work and for its output.
//
// Exit status: 0 done; 64 the arguments make no sense (nothing was looked at);
// 1 anything else, output that could not be written too. Errors go to standard error and name the argument.
//===----------------------------------------------------------------------===//

import ArgumentParser

@main
struct Gupctl: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "gupctl",
    abstract: "Linux get_user_pages, pins and page extraction, in user space on real memory.",
    discussion: """
      extract moves a file through pages that are extracted from a buffer of any kind and \
      shows what was held on them. kinds says which can be extracted, and how. bench measures pins, references and extractions beside a C \
      loop and the host kernel. conform plays scenarios on the emulator and on the running kernel \
      and compares; fuzz does so with random ones. doctor says what this machine offers. \
      lesson tells, step by step, what forks, pins and copies do to pages.

      Try first:
        gupctl extract
        gupctl lesson fork-loss
        gupctl extract --file /etc/services --output /tmp/copy --verbose
        gupctl extract --kind folioq --dialect upstream
        gupctl kinds
        gupctl doctor
      """,
    subcommands: [
      ExtractCommand.self, KindsCommand.self, BenchCommand.self, DoctorCommand.self,
      LessonCommand.self, ConformCommand.self, FuzzCommand.self,
    ])

  static func main() {
    StandardOutput.checkAtExit()
    do {
      var command = try parseAsRoot()
      try command.run()
    } catch {
      // What was printed comes before what went wrong, also in one file.
      StandardOutput.flush()
      exit(withError: error)
    }
  }
}
