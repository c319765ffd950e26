//===----------------------------------------------------------------------===//
// The host's driver: plays a script by real processes before the running
// kernel. It translates names to numbers and answers to words; what a step
// leads to is the kernel's business.
//===----------------------------------------------------------------------===//

public import HostKernel
internal import SwiftGUP

/// Plays scripts before the running kernel.
public struct HostDriver: ~Copyable {
  private var stage: HostStage
  public let capabilities: HostCapabilities
  /// The best that this process may see of the host.
  public let witness: Witness
  /// Why it may not see more; empty when it sees everything.
  public let witnessLimit: String

  /// Why memory does not come in huge pages; nil when it does.
  private let hugeObstacle: String?

  /// - Parameter directory: where files for O_DIRECT are made.
  /// - Throws: when no processes can be forked or no file be made there.
  public init(directory: String) throws(HostError) {
    capabilities = HostCapabilities.probe()
    stage = try HostStage(directory: directory)
    hugeObstacle = Self.findHugePages()
    switch capabilities.pagemap {
    case .frameNumbers:
      let counters = try? HostCounters.read()
      witness = counters?.isExact == true ? .counters : .frames
      witnessLimit =
        witness == .counters ? "" : "pin counters up to date take root and Linux 5.9 or later"
    case .flagsOnly:
      witness = .bytes
      witnessLimit = "frame numbers and pin counters take root (CAP_SYS_ADMIN)"
    case .unreadable(let error):
      witness = .bytes
      witnessLimit = error.description
    }
  }

  private static func findHugePages() -> String? {
    do throws(HostError) {
      let buffer = try HostBuffer(byteCount: 2 << 20, hugePages: .wanted)
      let huge = try buffer.hugeByteCount()
      return huge > 0 ? nil : "the host gives no huge page, or has none free"
    } catch {
      return error.description
    }
  }

  /// The running kernel's release.
  public var version: KernelVersion { KernelVersion(release: capabilities.kernelRelease) }

  /// O_DIRECT transfers go past the page cache where its files are.
  public var hasDirectTransfers: Bool { stage.directError == nil }

  private var readPinsError: HostError? { stage.directError ?? stage.stallError }

  /// The holds that it can show.
  public var holds: [Hold] { readPinsError == nil ? [.get, .pin, .pinToRead] : [.get, .pin] }

  /// Why this host cannot show a scenario; nil when it can.
  public func obstacle(to scenario: Scenario) -> String? {
    if let reason = scenario.unobservable { return reason }
    if scenario.needs > witness { return witnessLimit }
    var pinned: Set<String> = []
    for step in scenario.steps {
      switch step {
      case .deviceWrite(let name, _, _) where !pinned.contains(name):
        return "no system call has a device write through a plain reference"
      case .map(_, _, _, .huge):
        if let reason = hugeObstacle { return reason }
      case .take(_, _, _, .get, _):
        if let error = capabilities.referencesError { return error.description }
      case .take(_, _, let name, .pin, _):
        pinned.insert(name)
        if let error = capabilities.pinsError { return error.description }
      case .take(_, _, _, .pinToRead, _):
        if let error = readPinsError { return error.description }
      case .take(_, _, _, let hold, _): return hold.obstacle
      case .directRead, .directWrite, .map(_, _, _, .sharedFile):
        // Memory file systems neither transfer directly nor track dirtying.
        if let error = stage.directError { return error.description }
      default: break
      }
    }
    return lockObstacle(to: scenario)
  }

  /// More pins at a time than an ordinary user may have. io_uring counts all of a folio for each
  /// buffer that has a page of it, and keeps something for itself.
  private func lockObstacle(to scenario: Scenario) -> String? {
    guard !capabilities.mayLockWithoutLimit, let limit = capabilities.memlockLimit else {
      return nil
    }
    var backings: [String: Backing] = [:]
    var locked: [String: UInt64] = [:]
    for step in scenario.steps {
      switch step {
      case .map(_, let name, _, let backing): backings[name] = backing
      case .take(_, let stretch, let name, .pin, _):
        locked[name] =
          backings[stretch.buffer] == .huge ? 2 << 20 : UInt64(stretch.pages.count) << 12
      case .release(let name): locked[name] = nil
      default: break
      }
      if locked.values.reduce(1 << 20, +) > limit {
        return "RLIMIT_MEMLOCK of \(limit) bytes does not allow so many pins at a time"
      }
    }
    return nil
  }

  /// Plays a scenario that has no obstacle and returns all that this process may see.
  /// - Throws: `ScenarioError` for a script that makes no sense, `HostError` when the stage fails.
  public mutating func play(_ scenario: Scenario) throws -> [Observation] {
    var translation = try HostTranslation(of: scenario.steps)
    for (index, step) in scenario.steps.enumerated() { try translation.add(step, at: index) }
    let answers = try stage.play(translation.script)
    return translation.observations(
      of: scenario.steps, answers, zeroFrames: stage.zeroFrames, witness: witness)
  }
}

extension Hold {
  /// Why no host shows it.
  fileprivate var obstacle: String {
    switch self {
    case .get, .pin, .pinToRead: ""
    case .getToWrite: "no system call keeps a plain reference for writing"
    case .pinToReadLong: "no system call pins for long reading"
    case .getNoFault, .getToWriteNoFault, .pinNoFault, .pinToWriteNoFault:
      "no system call takes pages with FOLL_NOFAULT but inside some file systems"
    }
  }
}

/// A script in the stage's numbers, and which of the stage's answers belong to which step.
struct HostTranslation {
  private let names: Cast
  private var cast = Cast()
  private(set) var script: [HostStage.Step] = []
  /// For each step of the scenario the stage's steps that it became.
  private var parts: [Range<Int>] = []
  /// Processes that a `frames` step asked, in order.
  private var asked: [Int: [String]] = [:]

  init(of steps: [Step]) throws(ScenarioError) { names = try Cast(of: steps) }

  private func number(of process: String) -> Int { names.processes.firstIndex(of: process) ?? 0 }
  private func number(ofHold hold: String) -> Int { names.holdNames.firstIndex(of: hold) ?? 0 }

  private func segment(_ stretch: Stretch) -> HostStage.Segment {
    HostStage.Segment(
      buffer: names.bufferNames.firstIndex(of: stretch.buffer) ?? 0, offset: stretch.offset,
      length: stretch.length)
  }

  mutating func add(_ step: Step, at index: Int) throws(ScenarioError) {
    let start = script.count
    let by = step.process.map { number(of: $0) } ?? 0
    let segments = step.stretches.map(segment)
    func one(_ kind: HostStage.Kind) -> [HostStage.Step] {
      [HostStage.Step(kind, by: by, segments)]
    }
    switch step {
    case .map(_, let name, let pages, let backing):
      script.append(
        HostStage.Step(.map(backing.stage), by: by, [segment(Stretch(name, pages: pages))]))
    case .unmap: script += one(.unmap)
    case .protect(_, _, let access): script += one(.protect(access.bits))
    case .advise(_, _, let counsel): script += one(.advise(counsel.advice.rawValue))
    case .move: script += one(.move(keepingOld: false))
    case .lift: script += one(.move(keepingOld: true))
    case .touch: script += one(.load(stride: 4096))
    case .see: script += one(.load(stride: 512))
    case .expect: script += one(.load(stride: 1))
    case .store(_, _, let value): script += one(.store(value))
    case .take(_, _, let name, let how, let times):
      let hold = number(ofHold: name)
      script += one(
        how == .pin
          ? .pin(hold) : how == .pinToRead ? .pinToRead(hold) : .get(hold, times: times))
    case .peek: script += one(.peek)
    case .poke(_, _, let value): script += one(.poke(value))
    case .deviceWrite(let name, _, let value):
      script += one(.deviceWrite(number(ofHold: name), value))
    case .deviceRead(let name), .expectDevice(let name, _, _):
      script.append(HostStage.Step(.deviceRead(number(ofHold: name))))
    case .release(let name): script += one(.release(number(ofHold: name)))
    case .fork(_, let child): script += one(.fork(number(of: child)))
    case .exit: script += one(.exit)
    case .directRead(_, _, let value): script += one(.directRead(value))
    case .directWrite: script += one(.directWrite)
    case .frames(let stretch):
      let processes = cast.knowers(of: stretch.buffer)
      asked[index] = processes
      script += processes.map { HostStage.Step(.look, by: number(of: $0), segments) }
    case .resident: script += one(.look)
    case .counters: script += one(.counters)
    }
    parts.append(start..<script.count)
    try cast.take(step)
  }

  // MARK: - Answers

  func observations(
    of steps: [Step], _ answers: [HostStage.Answer],
    zeroFrames: (page: UInt64, huge: Range<UInt64>), witness: Witness
  ) -> [Observation] {
    var list: [Observation] = []
    var counted: HostStage.Answer?
    var cast = Cast()
    for (index, step) in steps.enumerated() {
      defer { try? cast.take(step) }
      if step.needs > witness { continue }
      let own = Array(answers[parts[index]])
      if case .counters = step {
        let before = counted ?? own[0]
        counted = own[0]
        let counts = [own[0].amount - before.amount, own[0].more - before.more]
        list.append(
          Observation(
            step: index, .counters, Words.counts(counts[0], counts[1]), counts: counts))
        continue
      }
      func frame(_ entry: UInt64) -> UInt64? { Pagemap.frame(of: entry, zeroes: zeroFrames) }
      let value: String
      switch step {
      case .frames(let stretch):
        let tellsMappings = cast.tellsMappings(of: stretch.buffer)
        value = stretch.pages.indices.map { page in
          Words.owners(
            zip(asked[index] ?? [], own).map { process, answer in
              let entry = answer.after[page - stretch.pages.lowerBound]
              return (process, frame(entry), !tellsMappings || Pagemap.isAlone(entry))
            })
        }.joined(separator: " | ")
      case .resident:
        value = own[0].after.map { frame($0) ?? 0 == 0 ? "0" : "1" }.joined()
      default:
        value = words(for: step, own[0], held: cast.held)
      }
      list.append(Observation(step: index, step.needs, value))
      if step.tellsFates(cast), witness >= .frames {
        list.append(
          Observation(
            step: index, .frames,
            Words.fates(own[0].before.map(frame), own[0].after.map(frame))))
      }
    }
    return list
  }

  private func words(
    for step: Step, _ answer: HostStage.Answer,
    held: [String: (stretch: Stretch, how: Hold, by: String)]
  ) -> String {
    // Of a hold that came to nothing nothing can be asked.
    switch step {
    case .deviceRead, .expectDevice:
      if answer.errno == HostErrno.noEntry { return Words.notHeld }
    case .deviceWrite:
      if answer.errno == HostErrno.notSupported { return Words.notHeld }
    default: break
    }
    guard answer.errno == 0 else { return HostErrno.name(answer.errno) }
    switch step {
    case .touch: return Words.touches(answer.samples, answer.signals)
    case .see(_, let stretch):
      return Words.pages(answer.samples, of: stretch, signals: answer.signals)
    case .expect:
      return answer.signals[0] == 0
        ? Words.hex(answer.samples[0]) : Words.signal(answer.signals[0])
    case .store: return Words.signal(answer.signals[0])
    case .peek: return Words.hex(answer.samples[0])
    case .take(_, let stretch, _, _, _): return Words.pages(heldBy: answer.amount, of: stretch)
    case .deviceRead(let name):
      guard let stretch = held[name]?.stretch else { return Words.notHeld }
      return Words.pages(answer.samples, of: stretch)
    case .expectDevice(let name, let place, _):
      guard let stretch = held[name]?.stretch else { return Words.notHeld }
      let sample = (place.offset - stretch.offset) / 512
      return sample < answer.samples.count ? Words.hex(answer.samples[sample]) : Words.notHeld
    case .directRead: return Words.bytes(answer.amount)
    case .directWrite:
      let file = Stretch("file", from: 0, length: answer.amount)
      return "\(Words.bytes(answer.amount)): \(Words.pages(answer.samples, of: file))"
    default: return Words.ok
    }
  }
}

extension Backing {
  fileprivate var stage: HostStage.Backing {
    switch self {
    case .private: .private
    case .huge: .huge
    case .shared: .shared
    case .privateFile: .privateFile
    case .sharedFile: .sharedFile
    }
  }
}

extension Access {
  /// PROT_ bits.
  fileprivate var bits: Int32 {
    switch self {
    case .none: 0
    case .readOnly: 1
    case .writeOnly: 2
    case .readWrite: 3
    }
  }
}

/// Entries of pagemap.
private enum Pagemap {
  /// 0 for the zero page, nil for none.
  static func frame(
    of entry: UInt64, zeroes: (page: UInt64, huge: Range<UInt64>)
  ) -> UInt64? {
    guard entry >> 63 != 0 else { return nil }
    let frame = entry & (1 << 55 - 1)
    return frame == zeroes.page || zeroes.huge.contains(frame) ? 0 : frame
  }

  /// Only one process maps it.
  static func isAlone(_ entry: UInt64) -> Bool { entry >> 56 & 1 != 0 }
}

/// Errno values in words.
private enum HostErrno {
  static let noEntry: Int32 = 2
  static let notSupported: Int32 = 95

  static func name(_ errno: Int32) -> String { HostError(operation: "", errno: errno).name }
}
