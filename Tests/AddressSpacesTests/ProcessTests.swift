//===----------------------------------------------------------------------===//
// What ends a process, changes its handlers, or counts what all of it has is
// tried in a process of its own: the executable trap-helper, one scenario each.
//===----------------------------------------------------------------------===//

import Glibc
import PageFrames
import TestSupport
import Testing

/// How a run of the helper ended.
struct HelperRun {
  /// As waitpid(2) has it.
  let status: Int32
  let output: String
  let errors: String

  /// The signal that ended it.
  var died: Int32? { status & 0x7f == 0 ? nil : status & 0x7f }
  var isDone: Bool { status == 0 && output.hasSuffix("done\n") }
}

/// A helper that has not ended by then hangs. Nothing takes a tenth of it.
private let limitInSeconds = 900

/// Runs a scenario. The helper stands beside the test program. One that hangs is
/// killed, with the processes that it made.
func runHelper(
  _ scenario: String, _ tier: TrapTier, of program: String = "trap-helper"
) throws -> HelperRun {
  var path = [CChar](repeating: 0, count: Int(PATH_MAX))
  try #require(unsafe readlink("/proc/self/exe", &path, path.count - 1) > 0)
  let own = path.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }
  let folder = String(decoding: own, as: UTF8.self).split(separator: "/").dropLast()
  let helper = "/" + folder.joined(separator: "/") + "/\(program)"
  try #require(unsafe access(helper, X_OK) == 0, "no \(helper)")

  var actions = unsafe posix_spawn_file_actions_t()
  unsafe posix_spawn_file_actions_init(&actions)
  defer { unsafe posix_spawn_file_actions_destroy(&actions) }
  var attributes = posix_spawnattr_t()
  unsafe posix_spawnattr_init(&attributes)
  defer { unsafe posix_spawnattr_destroy(&attributes) }
  unsafe posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETPGROUP))
  var ends: [Int32] = []
  for descriptor in [1, 2] as [Int32] {
    var both: [Int32] = [-1, -1]
    try #require(unsafe pipe(&both) == 0)
    // A run that starts at this moment may inherit them: then we wait for it, too.
    for end in both { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
    unsafe posix_spawn_file_actions_adddup2(&actions, both[1], descriptor)
    ends += both
  }
  // The runtime's own crash reporter would take the signal first.
  var variables = ["SWIFT_BACKTRACE=enable=no", "GUP_SEED=\(SeededRandom.seed)"]
  for name in ["PATH", "LD_LIBRARY_PATH", "ASAN_OPTIONS", "TSAN_OPTIONS"] {
    if let value = unsafe getenv(name) {
      unsafe variables.append("\(name)=\(String(cString: value))")
    }
  }
  var child: pid_t = 0
  let failure = unsafe withPointers([helper, scenario, "\(tier)"]) { arguments in
    unsafe withPointers(variables) { environment in
      unsafe posix_spawn(&child, helper, &actions, &attributes, arguments, environment)
    }
  }
  close(ends[1])
  close(ends[3])
  defer {
    close(ends[0])
    close(ends[2])
  }
  try #require(failure == 0)
  var texts: [[UInt8]] = [[], []]
  if !readBoth(ends[0], ends[2], into: &texts) {
    texts[1] += Array("killed after \(limitInSeconds) s".utf8)
    kill(-child, SIGKILL)
  }
  var status: Int32 = 0
  while unsafe waitpid(child, &status, 0) < 0, errno == EINTR {}
  return HelperRun(
    status: status, output: String(decoding: texts[0], as: UTF8.self),
    errors: String(decoding: texts[1], as: UTF8.self))
}

/// Strings as execve(2) wants them.
private func withPointers<R>(
  _ strings: [String], _ body: ([UnsafeMutablePointer<CChar>?]) -> R
) -> R {
  let copies = unsafe strings.map { unsafe strdup($0) }
  defer { unsafe copies.forEach { unsafe free($0) } }
  return unsafe body(copies + [nil])
}

/// Reads two pipes to their ends; false when the time is over first.
private func readBoth(_ first: Int32, _ second: Int32, into texts: inout [[UInt8]]) -> Bool {
  var entries = [first, second].map { pollfd(fd: $0, events: Int16(POLLIN), revents: 0) }
  var part = [UInt8](repeating: 0, count: 4096)
  let begin = ContinuousClock.now
  while entries.contains(where: { $0.fd >= 0 }) {
    if ContinuousClock.now - begin > .seconds(limitInSeconds) { return false }
    guard unsafe poll(&entries, 2, 1000) > 0 else { continue }
    for i in 0..<2 where entries[i].revents != 0 {
      let got = unsafe read(entries[i].fd, &part, part.count)
      if got > 0 {
        texts[i] += part[..<got]
      } else if got == 0 || errno != EINTR {
        entries[i].fd = -1
      }
      entries[i].revents = 0
    }
  }
  return true
}

/// Does this run include what takes minutes?
private let isFullRun = unsafe getenv("GUP_FULL").map { unsafe String(cString: $0) } == "1"

@Suite("In a process of its own")
struct ProcessTests {
  struct End: Sendable, CustomTestStringConvertible {
    let scenario: String
    let tier: TrapTier
    let signal: Int32
    var testDescription: String { "\(scenario), \(tier)" }
  }

  static let ends: [End] = TrapTier.testable.flatMap { tier in
    [
      "storeReadOnly", "storeReadOnlyUntouched", "loadNone", "wildPointer", "besideAnArea",
      "afterUnmap", "afterExit",
    ].map { End(scenario: $0, tier: tier, signal: SIGSEGV) } + [
      End(scenario: "poolExhausted", tier: tier, signal: SIGBUS)
    ]
  }

  @Test(
    "a touch that is forbidden ends the program by SIGSEGV, one without memory by SIGBUS",
    arguments: Self.ends)
  func forbiddenTouch(end: End) throws {
    let run = try runHelper(end.scenario, end.tier)
    #expect(run.died == end.signal, "\(run)")
    #expect(run.output.hasSuffix("about to end\n"), "\(run)")
  }

  @Test(
    "without a trap, absent pages and stores that need a copy end the program, never silently wrong",
    arguments: ["absentWithoutTrap", "writeAfterReadWithoutTrap", "wildPointer", "afterExit"])
  func withoutTrap(scenario: String) throws {
    // The last two touch a page first, which needs a trap or is the end here.
    let run = try runHelper(scenario, .none)
    #expect(run.died == SIGSEGV, "\(run)")
  }

  @Test(
    "C.4: releasing what is not held stops the program and names frame, state and call",
    arguments: [
      ("putOfFree", "0xc0000000", "put_page"), ("unpinOfReference", "0x1", "unpin_user_page"),
      ("putOfZeroPage", "0x0", "zero page"),
    ])
  func overRelease(scenario: String, state: String, call: String) throws {
    let run = try runHelper(scenario, .none)
    #expect(run.died == SIGABRT, "\(run)")
    #expect(run.errors.contains("released more often than it was taken"), "\(run)")
    #expect(run.errors.contains(call), "\(run)")
    let frame = run.output.split(separator: "\n").first { $0.hasPrefix("frame ") }
    #expect(run.errors.contains(frame ?? "frame 0"), "\(run)")
    #expect(run.errors.contains("state " + state), "\(run)")
  }

  @Test(
    "the program's own handlers see the original address, may jump out, and come back when we go",
    arguments: ["ownHandler", "ownHandlerBus"], TrapTier.testable)
  func ownHandlers(scenario: String, tier: TrapTier) throws {
    let run = try runHelper(scenario, tier)
    #expect(run.isDone, "\(run)")
  }

  @Test("without a trap the program's handler is left alone")
  func handlerWithoutTrap() throws {
    let run = try runHelper("ownHandler", .none)
    #expect(run.isDone, "\(run)")
  }

  @Test(
    "read(2) and write(2) on absent memory: served by userfaultfd, EFAULT otherwise",
    arguments: TrapTier.all)
  func systemCalls(tier: TrapTier) throws {
    let run = try runHelper("systemCalls", tier)
    #expect(run.isDone, "\(run)")
  }

  @Test("320 machines made and dropped leave no mapping and no descriptor", arguments: TrapTier.all)
  func leftovers(tier: TrapTier) throws {
    let run = try runHelper("leftovers", tier)
    #expect(run.isDone, "\(run)")
  }

  @Test("a fixed map that meets others half-way leaves what was free free")
  func roomIsGivenBack() throws {
    let run = try runHelper("roomIsGivenBack", .none)
    #expect(run.isDone, "\(run)")
  }

  @Test(
    "decision 6: 32 MiB faulted in random order, forked, every second page copied and protected, keep to a budget of 1,000 mappings a view",
    arguments: TrapTier.testable)
  func smallBudget(tier: TrapTier) throws {
    let run = try runHelper("smallBudget", tier)
    #expect(run.isDone, "\(run)")
  }

  @Test(
    "decision 6: 1 GiB faulted in random order, forked, every second page copied and protected, keep to the default budget",
    .enabled(if: isFullRun, "GUP_FULL=1 runs it"),
    arguments: TrapTier.testable)
  func gibibyte(tier: TrapTier) throws {
    let run = try runHelper("gibibyte", tier)
    print(run.output)
    #expect(run.isDone, "\(run)")
  }
}
