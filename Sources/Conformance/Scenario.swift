//===----------------------------------------------------------------------===//
// Scenario: a script for processes, memory and a device, and what it takes to
// watch it. Two drivers play it, the emulator and the running kernel; a scenario
// says what happens, never how either does it.
//===----------------------------------------------------------------------===//

/// What must be seen of a host so that a scenario can be compared on it, from the least on.
public enum Witness: String, Sendable, Hashable, Codable, Comparable, CaseIterable {
  /// Bytes, results of calls and signals: anybody sees them.
  case bytes
  /// Which frame each address has: `/proc/self/pagemap` tells root.
  case frames
  /// The kernel's count of pins, up to date: root.
  case counters

  private var rank: Int { self == .bytes ? 0 : self == .frames ? 1 : 2 }

  public static func < (a: Witness, b: Witness) -> Bool { a.rank < b.rank }
}

/// A difference between the emulator and some kernels that is meant.
public struct KnownDifference: Sendable, Hashable, Codable {
  /// Kernels before this release differ; nil for all.
  public var before: KernelVersion?
  /// Kernels from this release on differ; nil for all.
  public var from: KernelVersion?
  /// What such a kernel shows instead, by the index of the step. All else is the same.
  public var host: [Int: String]
  /// The row of the semantics, and why.
  public var why: String

  public init(
    before: KernelVersion? = nil, from: KernelVersion? = nil, host: [Int: String], why: String
  ) {
    self.before = before
    self.from = from
    self.host = host
    self.why = why
  }

  func applies(to version: KernelVersion) -> Bool {
    if let before, version >= before { return false }
    if let from, version < from { return false }
    return true
  }
}

/// A release of Linux as far as behaviour depends on it.
public struct KernelVersion: Sendable, Hashable, Codable, Comparable, CustomStringConvertible {
  public var major: Int
  public var minor: Int

  public init(_ major: Int, _ minor: Int) {
    self.major = major
    self.minor = minor
  }

  /// From uname(2)'s release: `"6.18.44-custom"`. 0.0 when it is none.
  public init(release: String) {
    let numbers = release.split(separator: ".", maxSplits: 2).map { word in
      Int(word.prefix { $0.isNumber }) ?? 0
    }
    self.init(numbers.first ?? 0, numbers.count > 1 ? numbers[1] : 0)
  }

  public var description: String { "\(major).\(minor)" }

  public static func < (a: KernelVersion, b: KernelVersion) -> Bool {
    (a.major, a.minor) < (b.major, b.minor)
  }
}

/// A script, with its name and what it takes to compare it.
///
/// The first process is `P`; others come by fork. Names of processes, buffers and holds are free.
public struct Scenario: Sendable, Hashable, Codable {
  /// Unique in a catalogue: `"S1.pin"`.
  public var id: String
  public var title: String
  /// The least witness without which it says nothing.
  public var needs: Witness
  /// How the script is paired with what the host can show; empty when it is played as it stands.
  public var note: String
  /// Why no host shows it; nil when hosts do.
  public var unobservable: String?
  public var differences: [KnownDifference]
  /// Frames of the emulated machine; nil for plenty.
  public var frames: Int?
  public var steps: [Step]

  public init(
    _ id: String, _ title: String, needs: Witness = .bytes, note: String = "",
    unobservable: String? = nil, differences: [KnownDifference] = [], frames: Int? = nil,
    _ steps: [Step]
  ) {
    self.id = id
    self.title = title
    self.needs = needs
    self.note = note
    self.unobservable = unobservable
    self.differences = differences
    self.frames = frames
    self.steps = steps
  }
}
