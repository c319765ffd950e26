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
    let known = differences.first { $0.applies(to: version) }
    var others: [Key: Observation] = [:]
    for observation in host { others[Key(observation)] = observation }
    var verdict = Verdict.agree
    var why = note
    for ours in emulator {
      guard let theirs = others[Key(ours)] else { continue }
      guard ours.agrees(with: theirs) else {
        let text = difference(ours, theirs)
        guard let known, known.host[ours.step] == theirs.value else {
          (verdict, why) = (.differ, text)
          break
        }
        if verdict == .agree { (verdict, why) = (.explained, "\(known.why) (\(text))") }
        continue
      }
      if let text = broken(by: theirs, "both") {
        (verdict, why) = (.differ, text)
        break
      }
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

  /// The same where the host's counters were not the same in every play. What they count
  /// too much is then somebody else's; what we count too much is ours.
  package func compare(
    _ emulator: [Observation], with host: [Observation], isNoisy: Bool, on version: KernelVersion
  ) -> ComparedScenario {
    let compared = compare(emulator, with: host, on: version)
    guard isNoisy, host.countMore(than: emulator), !emulator.countMore(than: host) else {
      return compared
    }
    let rest = compare(emulator, with: host.filter { $0.counts.isEmpty }, on: version)
    guard rest.verdict == .agree else { return rest }
    return unobserved(emulator, because: "others pin pages on this host, which counts them too")
  }

  private func difference(_ ours: Observation, _ theirs: Observation) -> String {
    "step \(ours.step) \(steps[ours.step]): emulator '\(ours.value)', host '\(theirs.value)'"
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
  fileprivate func agrees(with host: Observation) -> Bool {
    counts.isEmpty ? value == host.value : counts == host.counts
  }

  /// Counters of a host count everybody's pins: what was counted in the quieter of two plays.
  fileprivate func quieter(_ other: Observation) -> Observation {
    guard !counts.isEmpty, counts.count == other.counts.count else { return self }
    let least = zip(counts, other.counts).map { min($0, $1) }
    return Observation(step: step, level, Words.counts(least[0], least[1]), counts: least)
  }
}

extension [Observation] {
  fileprivate func countMore(than other: [Observation]) -> Bool {
    zip(self, other).contains { zip($0.counts, $1.counts).contains { $0 > $1 } }
  }

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
    case .peek(let by, _): "\(by) peek:"
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
  /// How often a host that counts more pins than ours may try again.
  private static let countingPlays = 20

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
    var theirs = try host.play(scenario)
    var isNoisy = false
    // Somebody else's pins are not there in every play, or not as many.
    for _ in 1..<Self.countingPlays where theirs.countMore(than: ours) {
      let again = try host.play(scenario)
      isNoisy = isNoisy || again.countMore(than: theirs) || theirs.countMore(than: again)
      theirs = zip(theirs, again).map { $0.quieter($1) }
    }
    return scenario.compare(ours, with: theirs, isNoisy: isNoisy, on: host.version)
  }
}
