//===----------------------------------------------------------------------===//
// Verdicts, shrinking, and the drivers each by itself.
//===----------------------------------------------------------------------===//

import Conformance
import HostKernel
import SwiftGUP
import TestSupport
import Testing

private let kernel = KernelVersion(6, 18)

/// A script of one look at memory that was never written.
private func scenario(
  differences: [KnownDifference] = [], expecting value: UInt8 = 0
) -> Scenario {
  Scenario(
    "t", "", differences: differences,
    [
      .map(by: "P", buffer: "x", pages: 1, on: .private),
      .expect(by: "P", at: Place("x"), value: value), .counters,
    ])
}

private func saw(_ value: String) -> [Observation] { [Observation(step: 1, .bytes, value)] }

@Suite("Verdicts")
struct VerdictTests {
  @Test("What both see the same agrees; what differs is named with its step")
  func plain() {
    let same = scenario().compare(saw("00"), with: saw("00"), on: kernel)
    #expect(same.verdict == .agree && same.why.isEmpty)
    let other = scenario().compare(saw("00"), with: saw("01"), on: kernel)
    #expect(other.verdict == .differ)
    #expect(other.why.contains("step 1") && other.why.contains("host '01'"))
  }

  @Test("What only one may see is not compared")
  func levels() {
    let frames = Observation(step: 1, .frames, "kept")
    let row = scenario().compare(saw("00") + [frames], with: saw("00"), on: kernel)
    #expect(row.verdict == .agree)
  }

  @Test("Agreement on what the script does not expect is no agreement")
  func expectations() {
    let row = scenario(expecting: 7).compare(saw("00"), with: saw("00"), on: kernel)
    #expect(row.verdict == .differ)
    let alone = scenario(expecting: 7).unobserved(saw("00"), because: "nobody is there")
    #expect(alone.verdict == .differ)
    let fine = scenario().unobserved(saw("00"), because: "nobody is there")
    #expect(fine.verdict == .unobservable && fine.why == "nobody is there")
  }

  @Test(
    "A known difference explains what it names of the kernels that it names, and nothing else",
    arguments: [
      (KnownDifference(host: Self.segv, why: "w"), true),
      (KnownDifference(before: KernelVersion(6, 18), host: Self.segv, why: "w"), false),
      (KnownDifference(before: KernelVersion(6, 19), host: Self.segv, why: "w"), true),
      (KnownDifference(from: KernelVersion(6, 18), host: Self.segv, why: "w"), true),
      (KnownDifference(from: KernelVersion(6, 19), host: Self.segv, why: "w"), false),
      (KnownDifference(host: [1: "SIGBUS"], why: "w"), false),
      (KnownDifference(host: [2: "SIGSEGV"], why: "w"), false),
    ])
  func explained(_ difference: KnownDifference, _ applies: Bool) {
    let scenario = scenario(differences: [difference])
    let row = scenario.compare(saw("00"), with: saw("SIGSEGV"), on: kernel)
    #expect(row.verdict == (applies ? .explained : .differ))
    #expect(row.why.hasPrefix("w ") == applies)
    #expect(scenario.compare(saw("00"), with: saw("00"), on: kernel).verdict == .agree)
  }

  private static let segv = [1: "SIGSEGV"]

  @Test("A known difference hides no other behind it")
  func explainedAlone() {
    let row = scenario(differences: [KnownDifference(host: Self.segv, why: "w")]).compare(
      saw("00") + [Observation(step: 2, .bytes, "a")],
      with: saw("SIGSEGV") + [Observation(step: 2, .bytes, "b")], on: kernel)
    #expect(row.verdict == .differ && row.why.hasPrefix("step 2"))
  }

  @Test("C.10: pins that one counts and the other does not are a difference, either way")
  func counters() {
    func counted(_ pins: Int) -> [Observation] {
      [Observation(step: 2, .counters, "\(pins)", counts: [pins, 0])]
    }
    #expect(scenario().compare(counted(4), with: counted(4), on: kernel).verdict == .agree)
    #expect(scenario().compare(counted(4), with: counted(9), on: kernel).verdict == .differ)
    #expect(scenario().compare(counted(4), with: counted(3), on: kernel).verdict == .differ)
    func noisy(_ ours: Int, _ theirs: Int) -> Verdict {
      scenario().compare(counted(ours), with: counted(theirs), isNoisy: true, on: kernel).verdict
    }
    #expect(noisy(4, 4) == .agree)
    #expect(noisy(4, 9) == .unobservable)
    #expect(noisy(4, 3) == .differ)
  }
}

@Suite("Random programs")
struct ProgramTests {
  @Test("A seed gives the same programs again, and every one can be played")
  func repeatable() throws {
    var first = Programs(seed: SeededRandom.seed)
    var second = Programs(seed: SeededRandom.seed)
    let driver = try EmulatorDriver(tier: .none)
    for _ in 0..<20 {
      let program = first.next(length: 24)
      #expect(program == second.next(length: 24))
      _ = try driver.play(program)
    }
  }

  @Test("Programs draw every step, hold, access and advice that a host can show")
  func everything() {
    let holds: [Hold] = [.get, .pin, .pinToRead]
    var programs = Programs(seed: 17, holds: holds)
    var drawn: Set<String> = []
    for _ in 0..<400 {
      for step in programs.next(length: 24).steps {
        switch step {
        case .take(_, _, _, let how, _): drawn.insert("\(how)")
        case .protect(_, _, let access): drawn.insert("\(access)")
        case .advise(_, _, let counsel): drawn.insert("\(counsel)")
        case .map(_, _, _, let backing): drawn.insert("\(backing)")
        default: drawn.insert(String("\(step)".prefix { $0 != "(" }))
        }
      }
    }
    let values =
      holds.map { "\($0)" } + Access.allCases.map { "\($0)" } + Counsel.allCases.map { "\($0)" }
      + Backing.allCases.map { "\($0)" }
    let steps = [
      ".unmap", ".move", ".lift", ".touch", ".store", ".see", ".peek", ".poke", ".deviceWrite",
      ".deviceRead", ".release", ".fork", ".exit", ".directRead", ".directWrite", ".frames",
      ".resident",
    ]
    #expect(Set(values + steps).subtracting(drawn).isEmpty)
  }

  @Test("C.11 G5: programs move memory, so that a rule of mremap that differs is found")
  func moves() throws {
    var programs = Programs(seed: 11)
    let older = try EmulatorDriver(tier: .none)
    let newer = try EmulatorDriver(tier: .none, policy: .remapSeveralAreas)
    func differs(_ program: Scenario) throws -> Bool {
      program.compare(try older.play(program), with: try newer.play(program), on: kernel).verdict
        == .differ
    }
    for _ in 0..<200 {
      let program = programs.next(length: 24)
      guard try differs(program) else { continue }
      let short = try program.shrunk(while: differs)
      #expect(short.steps.contains { if case .move = $0 { true } else { false } })
      #expect(short.literal.contains(".move("))
      return
    }
    Issue.record("200 programs found nothing")
  }

  @Test("Shrinking leaves what it takes and nothing else")
  func shrinking() throws {
    var programs = Programs(seed: 5)
    var shrunk = 0
    for _ in 0..<50 {
      let program = programs.next(length: 24)
      func goesWrong(_ candidate: Scenario) -> Bool {
        candidate.steps.contains { if case .fork = $0 { true } else { false } }
          && candidate.steps.contains { if case .take = $0 { true } else { false } }
      }
      guard goesWrong(program) else { continue }
      let short = program.shrunk(while: goesWrong)
      // A fork, a hold, the mapping that is held, and the forks that lead to its owner.
      #expect(3...5 ~= short.steps.count, "\(short.literal)")
      #expect(goesWrong(short))
      shrunk += 1
    }
    #expect(shrunk > 0)
  }
}

@Suite("Drivers", .serialized)
struct DriverTests {
  private static let pinned = Scenario(
    "t", "",
    [
      .map(by: "P", buffer: "x", pages: 1, on: .private),
      .store(by: "P", at: Place("x", 512), value: 0x11),
      .take(by: "P", at: Stretch("x"), as: "h", how: .pin, times: 1),
      .fork(by: "P", child: "C"),
      .store(by: "P", at: Place("x", 512), value: 0x22),
      .deviceWrite(through: "h", at: Place("x", 1024), value: 0x33),
      .see(by: "P", at: Stretch("x")),
      .see(by: "C", at: Stretch("x")),
      .deviceRead(through: "h"),
      .protect(by: "C", at: Stretch("x"), to: .readOnly),
      .store(by: "C", at: Place("x"), value: 1),
      .unmap(by: "C", at: Stretch("x")),
      .see(by: "C", at: Stretch("x")),
    ])
  private static let sights = [
    "ok", "ok", "1 page", "ok", "ok", "ok", "1:22 2:33", "1:11", "1:22 2:33", "ok", "SIGSEGV", "ok",
    "SIGSEGV",
  ]

  @Test("The emulator plays a script and gives everything back")
  func emulator() throws {
    let observations = try EmulatorDriver(tier: .none).play(Self.pinned)
    #expect(observations.filter { $0.level == .bytes }.map(\.value) == Self.sights)
  }

  @Test("D.6, D.3: a rule switched wrong changes what the emulator sees")
  func wrongRule() throws {
    let right = try EmulatorDriver(tier: .none).play(Self.pinned)
    let wrong = try EmulatorDriver(tier: .none, policy: .shareAtFork).play(Self.pinned)
    #expect(Self.pinned.compare(right, with: right, on: kernel).verdict == .agree)
    #expect(Self.pinned.compare(wrong, with: right, on: kernel).verdict == .differ)
  }

  @Test("The running kernel plays a script, again and again")
  func host() throws {
    // Its runtime locks what open(2) and its like do; a stage made by clone(2) while
    // another thread holds that lock waits for ever.
    if Sanitizer.current == .thread { try Test.cancel("ThreadSanitizer follows no clone(2)") }
    var driver = try HostDriver(directory: "/tmp")
    if let obstacle = driver.obstacle(to: Self.pinned) { try Test.cancel("\(obstacle)") }
    for _ in 0..<5 {
      let observations = try driver.play(Self.pinned)
      #expect(observations.filter { $0.level == .bytes }.map(\.value) == Self.sights)
    }
  }

  @Test("What a host has no call for is said, not passed over")
  func obstacles() throws {
    let driver = try HostDriver(directory: "/tmp")
    for hold in Hold.allCases where ![.get, .pin, .pinToRead].contains(hold) {
      let scenario = Scenario(
        "t", "",
        [
          .map(by: "P", buffer: "x", pages: 1, on: .private),
          .take(by: "P", at: Stretch("x"), as: "h", how: hold, times: 1),
        ])
      #expect(driver.obstacle(to: scenario)?.hasPrefix("no system call") == true)
    }
    let write = Scenario(
      "t", "",
      [
        .map(by: "P", buffer: "x", pages: 1, on: .private),
        .take(by: "P", at: Stretch("x"), as: "h", how: .get, times: 1),
        .deviceWrite(through: "h", at: Place("x"), value: 1),
      ])
    #expect(driver.obstacle(to: write)?.contains("plain reference") == true)
  }

  @Test("A stage cannot be made where no file can")
  func badDirectory() {
    #expect(throws: HostError.self) { _ = try HostDriver(directory: "/proc/nowhere") }
  }
}
