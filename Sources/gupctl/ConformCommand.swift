//===----------------------------------------------------------------------===//
// gupctl conform: the catalogue on the emulator and on the running kernel.
// ConformReport.swift prints what came of it.
//===----------------------------------------------------------------------===//

import ArgumentParser
import Conformance
import FoundationEssentials
import HostKernel
import SwiftGUP

/// The files that O_DIRECT moves have to be on a disk.
struct HostDirectory: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "Where files for direct transfers are made (default: $TMPDIR, else /tmp, else /var/tmp).",
      valueName: "path"))
  var directory: String?

  func validate() throws {
    if directory?.isEmpty == true { throw ValidationError("--directory must not be empty.") }
  }

  /// A driver of the running kernel; the first directory that has direct transfers, or else the
  /// first that works at all.
  func makeDriver() throws -> HostDriver {
    if let directory {
      do {
        return try HostDriver(directory: directory)
      } catch {
        throw Failure("--directory '\(directory)': \(error)")
      }
    }
    let temporary = ProcessInfo.processInfo.environment["TMPDIR"].map { [$0] } ?? []
    for candidate in temporary + ["/tmp", "/var/tmp"] {
      if let driver = try? HostDriver(directory: candidate), driver.hasDirectTransfers {
        return driver
      }
    }
    return try HostDriver(directory: "/tmp")
  }
}

/// Rules that kernels of their time had wrong, or that none ever had.
enum WrongRule: String, ExpressibleByArgument, CaseIterable {
  case reuseByMappingCount = "reuse-by-mapping-count"
  case noUnshare = "no-unshare"
  case copyReferencedAtFork = "copy-referenced-at-fork"
  case shareAtFork = "share-at-fork"

  var policy: MemoryPolicy {
    switch self {
    case .reuseByMappingCount: .reuseByMappingCount
    case .noUnshare: .noUnshare
    case .copyReferencedAtFork: .copyReferencedAtFork
    case .shareAtFork: .shareAtFork
    }
  }
}

struct ConformCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "conform",
    abstract: "Play every scenario on the emulator and on the running kernel, and compare.",
    discussion: """
      The host's processes are real ones: they fork, store, protect and unmap; pins are io_uring \
      buffers, references pages in a pipe, extractions O_DIRECT transfers. Bytes and errors are \
      compared as any user, frame numbers and pin counters as root.

      Verdicts: agree; differ (exit status 1); explained, a difference that a row of the semantics \
      states; unobservable, with the reason: the emulator's answer then stands alone. On a host \
      with io_uring, and as root, the whole catalogue fails also when fewer than \(floor) agree.
      """)

  static let floor = 40

  @OptionGroup var host: HostDirectory

  @Option(
    help: ArgumentHelp("One scenario, or all whose id starts so with a dot.", valueName: "id"))
  var only: String?

  @Option(
    help: ArgumentHelp("Scenarios from a file as --list --json prints them.", valueName: "file"))
  var script: String?

  @Flag(help: "Print the scenarios and what each needs, and play nothing.")
  var list = false

  @Flag(help: "Print one JSON array of objects: id, emulator, host, verdict, why.")
  var json = false

  @Flag(help: "Print every step with what both saw.")
  var verbose = false

  @Option(
    help: ArgumentHelp(
      "Switch a rule of the emulator wrong, to see what that comes to.", valueName: "rule"))
  var wrong: WrongRule?

  @Option(help: ArgumentHelp("Write a JUnit report as well.", valueName: "file"))
  var junit: String?

  func validate() throws {
    for (name, path) in [("--script", script), ("--junit", junit)] where path?.isEmpty == true {
      throw ValidationError("\(name) must not be empty.")
    }
  }

  func run() throws {
    let scenarios = try chosen()
    if list { return try ConformReport.list(scenarios, asJSON: json) }
    let driver = try host.makeDriver()
    let policy = MemoryPolicy(of: driver.version)
    let emulator = try EmulatorDriver(
      tier: .best, policy: policy.union(wrong.map(\.policy) ?? []))
    var conformance = Conformance(emulator: emulator, host: driver)
    var rows: [ComparedScenario] = []
    var progress = ProgressBar()
    for (index, scenario) in scenarios.enumerated() {
      progress.show(index, of: scenarios.count, unit: .steps)
      do {
        rows.append(try conformance.run(scenario))
      } catch {
        progress.clear()
        throw Failure("scenario \(scenario.id) cannot be played: \(error)")
      }
    }
    progress.clear()
    let report = ConformReport(rows: rows, driver: conformance.host, policy: emulator.policy)
    if json { try printJSON(rows.map(ConformReport.Row.init)) } else { report.print(verbose) }
    if let junit { try report.writeJUnit(to: junit) }
    try judge(report, conformance.host)
  }

  private func chosen() throws -> [Scenario] {
    var scenarios = Catalogue.all
    if let script {
      guard let text = try? Data(contentsOf: URL(filePath: script)) else {
        throw Failure("--script '\(script)' cannot be read.")
      }
      do {
        scenarios = try JSONDecoder().decode([Scenario].self, from: text)
      } catch {
        throw Failure("--script '\(script)' holds no array of scenarios: \(error)")
      }
    }
    guard let only else { return scenarios }
    let matching = scenarios.filter { $0.id == only || $0.id.hasPrefix("\(only).") }
    guard !matching.isEmpty else {
      throw ValidationError("--only '\(only)' names no scenario; --list shows them.")
    }
    return matching
  }

  private func judge(_ report: ConformReport, _ driver: borrowing HostDriver) throws {
    let differing = report.count(.differ)
    if differing > 0 {
      throw Failure("\(counted(differing, "scenario")) differ without an explanation.")
    }
    let isWhole = only == nil && script == nil && wrong == nil
    let agreeing = report.count(.agree)
    if isWhole, driver.witness > .bytes, driver.capabilities.pinsError == nil,
      agreeing < Self.floor
    {
      throw Failure("only \(agreeing) scenarios agree; on this host \(Self.floor) must.")
    }
  }
}
