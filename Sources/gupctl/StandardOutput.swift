//===----------------------------------------------------------------------===//
// StandardOutput: what was printed has arrived, or the command has failed. Here
// and nowhere else: the check runs when the process exits, whichever way the
// command ends. A reader that goes away ends it by SIGPIPE, as it ends others.
//===----------------------------------------------------------------------===//

// Its streams are variables, to which nobody assigns.
@unsafe @preconcurrency import Glibc

enum StandardOutput {
  /// Writes what is buffered; what fails is found at exit.
  static func flush() { _ = unsafe fflush(stdout) }

  /// From now on the process exits with status 1, and says why, when something that it printed
  /// could not be written.
  static func checkAtExit() {
    let isRegistered = atexit {
      let isFlushed = unsafe fflush(stdout) == 0
      // Of what failed before the last flush the reason is forgotten.
      let error = isFlushed ? EIO : errno
      guard unsafe !isFlushed || ferror(stdout) != 0 else { return }
      Terminal.writeError("Error: standard output cannot be written: \(Failure.text(error))\n")
      // Not exit(3), which is what runs.
      _exit(EXIT_FAILURE)
    }
    precondition(isRegistered == 0, "no room for a function at exit")
  }
}
