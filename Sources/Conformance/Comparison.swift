//===----------------------------------------------------------------------===//
// Comparison: what two drivers saw of one scenario, side by side.
//===----------------------------------------------------------------------===//

/// How an emulator's and a host's answers stand to each other.
public enum Verdict: String, Sendable, Hashable, Codable, CaseIterable {
  case agree
  case differ
  /// They differ, and a row of the semantics says that they do.
  case explained
  /// The host cannot show it here; the emulator's answer stands alone.
  case unobservable
}

/// One row of a conformance run.
public struct ComparedScenario: Sendable {
  public let scenario: Scenario
  /// What each saw, step by step; empty for a host that shows nothing.
  public let emulator: [Observation]
  public let host: [Observation]
  public let verdict: Verdict
  /// What differs or why it does, why nothing is seen, or how the script is paired.
  public let why: String
}

extension Scenario {
  /// Compares what was seen. A driver may see less than the other; what both see must be the same,
  /// and what the script expects, too.
  public func compare(
    _ emulator: [Observation], with host: [Observation], on version: KernelVersion
  ) -> ComparedScenario {
    let found = firstDifference(emulator, host)
    let verdict: Verdict
    var why = note
    if let found {
      let known = differences.first { $0.applies(to: version) }
      verdict = known == nil || found.isExpectation ? .differ : .explained
      why = verdict == .explained ? "\(known?.why ?? "") (\(found.text))" : found.text
    } else {
      verdict = .agree
    }
    return ComparedScenario(
      scenario: self, emulator: emulator, host: host, verdict: verdict, why: why)
  }

  /// What a scenario comes to on a host that cannot show it. The emulator's answer must still be
  /// what the script expects.
  public func unobserved(_ emulator: [Observation], because reason: String) -> ComparedScenario {
    let failed = emulator.lazy.compactMap { broken(by: $0, "the emulator") }.first
    return ComparedScenario(
      scenario: self, emulator: emulator, host: [],
      verdict: failed == nil ? .unobservable : .differ, why: failed ?? reason)
  }

  private func firstDifference(
    _ emulator: [Observation], _ host: [Observation]
  ) -> (text: String, isExpectation: Bool)? {
    var others: [Key: Observation] = [:]
    for observation in host { others[Key(observation)] = observation }
    for ours in emulator {
      guard let theirs = others[Key(ours)] else { continue }
      if !ours.agrees(with: theirs) {
        return (
          "step \(ours.step) \(steps[ours.step]): emulator '\(ours.value)', host '\(theirs.value)'",
          false
        )
      }
      if let text = broken(by: theirs, "both") { return (text, true) }
    }
    return nil
  }

  /// What is said when an observation is not what the script expects.
  private func broken(by observation: Observation, _ who: String) -> String? {
    switch steps[observation.step] {
    case .expect(_, _, let byte) where observation.level == .bytes,
      .expectDevice(_, _, let byte) where observation.level == .bytes:
      observation.value == Words.hex(byte)
        ? nil
        : "step \(observation.step) \(steps[observation.step]): \(who) '\(observation.value)'"
    default: nil
    }
  }

  private struct Key: Hashable {
    let step: Int
    let level: Witness

    init(_ observation: Observation) {
      step = observation.step
      level = observation.level
    }
  }
}

extension Observation {
  /// Counters of a host count everybody: it must have seen at least as much.
  fileprivate func agrees(with host: Observation) -> Bool {
    counts.isEmpty ? value == host.value : zip(counts, host.counts).allSatisfy { $0 <= $1 }
  }
}

extension [Observation] {
  /// All that was worth seeing, in one line.
  public func summary(of scenario: Scenario) -> String {
    let parts = filter { observation in
      observation.value != Words.ok && observation.level == scenario.steps[observation.step].needs
    }
    return parts.map { observation in
      let text = scenario.steps[observation.step].subject
      return text.isEmpty ? observation.value : "\(text) \(observation.value)"
    }.joined(separator: "; ")
  }
}

extension Step {
  /// Who or what an observation is about, for a line of many.
  fileprivate var subject: String {
    switch self {
    case .deviceRead, .expectDevice, .deviceWrite: "device:"
    case .take(let by, _, _, let how, _): "\(by) \(how):"
    case .directRead(let by, _, _): "\(by) direct read:"
    case .directWrite(let by, _): "\(by) direct write:"
    case .frames: "frames:"
    case .resident(let by, _): "\(by) resident:"
    case .counters: ""
    default: process.map { "\($0):" } ?? ""
    }
  }
}

/// Plays scenarios on both sides and compares.
public struct Conformance: ~Copyable {
  public let emulator: EmulatorDriver
  public var host: HostDriver

  public init(emulator: EmulatorDriver, host: consuming HostDriver) {
    self.emulator = emulator
    self.host = host
  }

  /// One scenario.
  /// - Throws: `ScenarioError`, `MemoryError` or `HostError` when a driver cannot play.
  public mutating func run(_ scenario: Scenario) throws -> ComparedScenario {
    let ours = try emulator.play(scenario)
    if let obstacle = host.obstacle(to: scenario) {
      return scenario.unobserved(ours, because: obstacle)
    }
    return scenario.compare(ours, with: try host.play(scenario), on: host.version)
  }
}
