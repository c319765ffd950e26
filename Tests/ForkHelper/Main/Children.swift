//===----------------------------------------------------------------------===//
// Making children and judging how they ended. A child ends by `forkhelper_end`
// unless its scenario is about exit(3).
//===----------------------------------------------------------------------===//

import CForkHelper
import Glibc
import TestSupport

/// How a child is made.
enum Way: String, CaseIterable {
  /// fork(2), with the handlers of pthread_atfork(3).
  case fork
  /// The system call alone.
  case clone

  func make() -> Int32 {
    // What is buffered would be written by both.
    fflush(nil)
    return self == .fork ? forkhelper_fork() : forkhelper_clone()
  }
}

func check(_ condition: Bool, _ what: @autoclosure () -> String = "", line: Int = #line) {
  guard !condition else { return }
  print("process \(getpid()), line \(line): \(what()) does not hold")
  fflush(nil)
  forkhelper_end(1)
}

/// Runs `body` in a child; its status as waitpid(2) has it.
func inChild(_ way: Way = .fork, _ body: () throws -> Void) -> Int32 {
  let child = way.make()
  if child == 0 { runAndEnd(body) }
  return forkhelper_wait(child)
}

/// Does once what children will do, before there are threads. Code that is not
/// optimised asks Swift's runtime for the metadata of types; what another thread
/// asks for at the fork(2) nobody finishes in the child (docs/fork.md).
func rehearse(_ body: () throws -> Void) throws {
  onThreads(2) { _ in }
  try body()
}

/// Starts a child and returns its id.
func startChild(_ body: () throws -> Void) -> Int32 {
  let child = Way.fork.make()
  if child == 0 { runAndEnd(body) }
  check(child > 0, "fork")
  return child
}

private func runAndEnd(_ body: () throws -> Void) -> Never {
  do {
    try body()
    fflush(nil)
    forkhelper_end(0)
  } catch {
    print("process \(getpid()): \(error)")
    fflush(nil)
    forkhelper_end(1)
  }
}

/// Waits for a child that may hang: it is killed then.
func waitAMinute(for child: Int32) -> Int32 {
  var status: Int32 = 0
  for _ in 0..<60_000 {
    if unsafe waitpid(child, &status, WNOHANG) != 0 { return status }
    usleep(1000)
  }
  forkhelper_kill(child)
  return forkhelper_wait(child)
}

/// Waits for a child that must end well.
func expectWell(_ status: Int32, line: Int = #line) {
  check(status == 0, "a child that ends well (status \(status))", line: line)
}

/// A child that must have ended by a signal.
func expect(_ status: Int32, endsBy signal: Int32, line: Int = #line) {
  check(status & 0x7f == signal, "an end by signal \(signal) (status \(status))", line: line)
}
