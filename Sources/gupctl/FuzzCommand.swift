//===----------------------------------------------------------------------===//
// gupctl fuzz: random programs, played twice and compared.
//===----------------------------------------------------------------------===//

import ArgumentParser
import Conformance
import HostKernel
import SwiftGUP

struct FuzzCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "fuzz",
    abstract: "Play random programs and compare what comes of them.",
    discussion: """
      Programs map, touch, store, take pages by get and pin, release, fork, exit, protect, advise, \
      move and unmap, and have debuggers. With --host the running kernel plays them beside the emulator; without, the \
      emulator plays them twice, with plain loads and stores that trap and with explicit faults. \
      Compared are the bytes that every process and the device see, the result of every call, \
      and as root which pages have memory and which processes share a frame.

      A program that comes out differently is shortened and printed as a scenario (exit status 1).
      """)

  @Option(
    parsing: .unconditional,
    help: ArgumentHelp("Where programs are drawn from (default: a new one).", valueName: "n"))
  var seed: UInt64?

  @Option(
    parsing: .unconditional,
    help: ArgumentHelp("Steps to play at least, 1 to 10000000.", valueName: "n"))
  var steps = 1000

  @Flag(name: .customLong("host"), help: "Compare with the running kernel.")
  var usesHost = false

  @Option(
    help: ArgumentHelp(
      "Switch a rule of the emulator wrong, to see whether it is found.", valueName: "rule"))
  var wrong: WrongRule?

  @OptionGroup var host: HostDirectory

  /// Steps of one program, but the looks that end it.
  private static let programLength = 24

  func validate() throws {
    guard 1...10_000_000 ~= steps else {
      throw ValidationError("--steps must be 1 to 10000000, not \(steps).")
    }
    if let directory = host.directory, !usesHost {
      throw ValidationError("--directory '\(directory)' makes no sense without --host.")
    }
  }

  func run() throws {
    let seed = seed ?? UInt64.random(in: 0 ... .max)
    print("seed \(seed)")
    var contest = try usesHost ? Contest(against: host.makeDriver(), wrong) : Contest(wrong)
    var programs = Programs(seed: seed, holds: contest.holds)
    var (made, played, compared) = (0, 0, 0)
    var obstacle: String?
    var progress = ProgressBar()
    while made < steps {
      progress.show(made, of: steps, unit: .steps)
      let program = programs.next(length: Self.programLength)
      made += program.steps.count
      if let reason = contest.obstacle(to: program) {
        obstacle = reason
        continue
      }
      guard let difference = try contest.difference(program) else {
        played += program.steps.count
        compared += 1
        continue
      }
      progress.clear()
      let short = try program.shrunk { (candidate) throws -> Bool in
        try contest.obstacle(to: candidate) == nil && contest.difference(candidate) != nil
      }
      print("\(program.id) comes out differently: \(difference)")
      print("\nIn short, \(try contest.difference(short) ?? "not always"):\n\n\(short.literal)")
      throw Failure("a program of seed \(seed) came out differently.")
    }
    progress.clear()
    if let obstacle {
      guard compared > 0 else { throw Failure("nothing can be compared on this host: \(obstacle)") }
      print("\(counted(made - played, "step")) unobservable: \(obstacle)")
    }
    print(
      "\(counted(compared, "program")) of \(counted(played, "step")): \(contest.description)")
  }
}

/// The two that play against each other.
private struct Contest: ~Copyable {
  private let emulator: EmulatorDriver
  private let other: EmulatorDriver
  private var host: HostDriver?
  /// The holds that both can show.
  let holds: [Hold]
  let description: String

  /// The emulator against itself.
  init(_ wrong: WrongRule?) throws {
    let trapping = try EmulatorDriver(tier: .best, policy: wrong?.policy ?? [])
    let explicit = try EmulatorDriver(tier: .none)
    emulator = trapping
    other = explicit
    host = nil
    holds = Hold.allCases
    description = "traps and explicit faults agree"
  }

  init(against host: consuming HostDriver, _ wrong: WrongRule?) throws {
    let policy = MemoryPolicy(of: host.version)
    let driver = try EmulatorDriver(tier: .best, policy: policy.union(wrong?.policy ?? []))
    emulator = driver
    other = driver
    holds = host.holds
    description = "the emulator and Linux \(host.capabilities.kernelRelease) agree"
    self.host = consume host
  }

  /// Why the host cannot show a program; nil when it can.
  func obstacle(to program: Scenario) -> String? { host?.obstacle(to: program) }

  /// What comes out differently; nil when nothing does.
  mutating func difference(_ program: Scenario) throws -> String? {
    let ours = try emulator.play(program)
    guard host != nil else {
      return program.compare(ours, with: try other.play(program), on: KernelVersion(0, 0))
        .difference
    }
    let theirs = try host?.play(program) ?? []
    return program.compare(ours, with: theirs, on: KernelVersion(0, 0)).difference
  }
}

extension ComparedScenario {
  fileprivate var difference: String? { verdict == .agree ? nil : why }
}
