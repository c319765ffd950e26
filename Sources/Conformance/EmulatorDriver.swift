//===----------------------------------------------------------------------===//
// The emulator's driver: plays a script on a machine of its own. Processes are
// address spaces, their loads and stores are plain ones that trap where the
// tier allows, the device is a DMA engine.
//===----------------------------------------------------------------------===//

internal import CShims
public import SwiftGUP

/// Plays scripts on the emulator, each on a fresh machine.
public struct EmulatorDriver: Sendable {
  /// How plain loads and stores become faults; in the `none` tier they are explicit faults.
  public let tier: TrapTier
  /// What its machines do where kernels differ, or where they were wrong.
  public let policy: MemoryPolicy

  /// In the tiers that trap, call it before the first machine of the program does: touches that end
  /// in a signal are caught beneath the trap's handler.
  /// - Throws: the errno of sigaction(2), as `hostRefused`.
  public init(tier: TrapTier, policy: MemoryPolicy = []) throws(MemoryError) {
    let error = tier == .none ? 0 : cshims_guard_install()
    guard error == 0 else { throw MemoryError.host(error) }
    self.tier = tier
    self.policy = policy
  }

  /// Plays a scenario and returns all that could be seen.
  /// - Throws: `ScenarioError` for a script that makes no sense or leaves something held behind it,
  ///   `MemoryError` when no machine can be made.
  public func play(_ scenario: Scenario) throws -> [Observation] {
    _ = try Cast(of: scenario.steps)
    let memory = try PhysicalMemory(
      capacity: scenario.frames.map { .pages($0) } ?? .mebibytes(256), trapTier: tier)
    memory.policy = policy
    let free = memory.freeFrameCount
    var observations: [Observation] = []
    do {
      var scene = try EmulatedScene(memory)
      for (index, step) in scenario.steps.enumerated() {
        observations += try scene.take(step, at: index)
      }
      scene.end()
    }
    guard memory.freeFrameCount == free, memory.counters.outstanding == 0 else {
      throw ScenarioError(
        "the emulator ended with \(memory.counters.outstanding) holds and"
          + " \((free - memory.freeFrameCount).rawValue) frames too few")
    }
    return observations
  }
}

extension MemoryPolicy {
  /// What a kernel does where releases differ: from 6.15 on a store reuses pages of a large folio
  /// that only this process maps (D.3 row 3), from 6.17 on mremap moves several areas (C.11 G5).
  public init(of version: KernelVersion) {
    self = []
    if version >= KernelVersion(6, 15) { insert(.reuseLargeFolios) }
    if version >= KernelVersion(6, 17) { insert(.remapSeveralAreas) }
  }
}

/// What a script has made of a machine so far.
struct EmulatedScene {
  struct Held {
    let pages: [Page]
    let isPin: Bool
    let times: Int
    /// What is held of what was asked for.
    let stretch: Stretch
  }

  let memory: PhysicalMemory
  let device: DMAEngine
  var cast = Cast()
  var spaces: [String: AddressSpace] = [:]
  var addresses: [String: UserAddress] = [:]
  /// Room for a buffer and a gap behind it.
  private static let slot = ByteCount.mebibytes(4)
  /// Room for all buffers.
  private let ground: UserAddress
  private var file: MappedFile?
  var holds: [String: Held] = [:]
  private var counted: Counters?

  init(_ memory: PhysicalMemory) throws {
    self.memory = memory
    device = DMAEngine(memory: memory)
    let first = try AddressSpace(memory: memory)
    let room = Self.slot.rawValue * (Cast.bufferLimit + 1)
    let start = try first.map(length: ByteCount(room))
    try first.unmap(start, length: ByteCount(room))
    let slot = UInt64(Self.slot.rawValue)
    ground = UserAddress((start.rawValue + slot - 1) & ~(slot - 1))
    spaces[Cast.first] = first
  }

  /// Everybody exits and everything is released.
  mutating func end() {
    for space in spaces.values { space.exit() }
    for name in holds.keys { release(name) }
    spaces = [:]
    file = nil
  }

  mutating func take(_ step: Step, at index: Int) throws -> [Observation] {
    defer { try? cast.take(step) }
    let watched = step.process.map { ($0, step.stretches) }
    let before = watched.map { frames($0, $1) } ?? []
    let value: String
    var counts: [Int] = []
    do throws(MemoryError) {
      (value, counts) = try perform(step)
    } catch {
      value = error.number.name
    }
    var list = [Observation(step: index, step.needs, value, counts: counts)]
    if let (process, stretches) = watched, step.tellsFates(cast), spaces[process] != nil {
      list.append(
        Observation(step: index, .frames, Words.fates(before, frames(process, stretches))))
    }
    return list
  }

  private mutating func perform(_ step: Step) throws(MemoryError) -> (String, [Int]) {
    switch step {
    case .map(let by, let name, let pages, let backing): try map(by, name, pages, backing)
    case .unmap(let by, let s): try space(by).unmap(address(s), length: ByteCount(s.length))
    case .protect(let by, let s, let access):
      try space(by).protect(address(s), length: ByteCount(s.length), access.protection)
    case .advise(let by, let s, let counsel):
      try space(by).advise(address(s), length: ByteCount(s.length), counsel.advice)
    case .move(let by, let s, let p): try move(by, s, p, keepingOld: false)
    case .lift(let by, let s, let p): try move(by, s, p, keepingOld: true)
    case .touch(let by, let s): return (try load(by, s, stride: 4096), [])
    case .see(let by, let s): return (try load(by, s, stride: 512), [])
    case .expect(let by, let p, _):
      let (value, signal) = try load(by, p)
      return (signal == 0 ? Words.hex(value) : Words.signal(signal), [])
    case .store(let by, let p, let value):
      return (Words.signal(try store(by, p, value)), [])
    case .peek(let by, let p): return (try force(by, p), [])
    case .poke(let by, let p, let value): return (try force(by, p, storing: value), [])
    case .take(let by, let s, let name, let how, let times):
      return (try take(by, s, as: name, how, times), [])
    case .deviceWrite(let name, let p, let value):
      guard let held = holds[name], held.covers(p) else { return (Words.notHeld, []) }
      try device.write([value], to: held.page(of: p), offset: p.offset & 4095)
    case .deviceRead(let name): return (try deviceRead(name), [])
    case .expectDevice(let name, let p, _):
      guard let held = holds[name], held.covers(p) else { return (Words.notHeld, []) }
      let byte = try device.read(from: held.page(of: p), offset: p.offset & 4095, count: 1)
      return (Words.hex(byte[0]), [])
    case .release(let name): release(name)
    case .fork(let parent, let child): spaces[child] = try space(parent).fork()
    case .exit(let name):
      try space(name).exit()
      spaces[name] = nil
    case .directRead(let by, let list, let value): return (try directRead(by, list, value), [])
    case .directWrite(let by, let list): return (try directWrite(by, list), [])
    case .frames(let s): return (owners(s), [])
    case .resident(let by, let s):
      return (frames(by, [s]).map { $0 ?? 0 == 0 ? "0" : "1" }.joined(), [])
    case .counters: return count()
    }
    return (Words.ok, [])
  }

  // MARK: - Names

  /// - Throws: ESRCH for a child whose fork failed.
  func space(_ process: String) throws(MemoryError) -> AddressSpace {
    guard let space = spaces[process] else { throw MemoryError(.noSuchProcess, .exited) }
    return space
  }

  func address(_ stretch: Stretch) -> UserAddress {
    addresses[stretch.buffer].named(stretch.buffer) + ByteCount(stretch.offset)
  }

  private mutating func map(
    _ by: String, _ name: String, _ pages: Int, _ backing: Backing
  ) throws(MemoryError) {
    let address = addresses[name] ?? place(for: name)
    let placement = Placement.fixed(address)
    let sharing: Sharing =
      backing == .shared || backing == .sharedFile ? .shared : .private
    switch backing {
    case .huge:
      _ = try space(by).map(length: .pages(pages), folios: .huge, at: placement)
    case .private, .shared:
      _ = try space(by).map(length: .pages(pages), sharing: sharing, at: placement)
    case .privateFile, .sharedFile:
      if file == nil { file = try PatternFile.open(for: memory) }
      guard let file else { return }
      _ = try space(by).map(
        file: file, length: .pages(pages), protection: .readWrite, sharing: sharing, at: placement)
    }
    addresses[name] = address
  }

  /// Where a new buffer goes: apart from all others, so that what one gives up is no room for the
  /// next.
  private func place(for name: String) -> UserAddress {
    ground + ByteCount(addresses.count * Self.slot.rawValue)
  }

  private func move(
    _ by: String, _ stretch: Stretch, _ place: Place, keepingOld: Bool
  ) throws(MemoryError) {
    let length = ByteCount(stretch.length)
    let target = address(Stretch(place.buffer, from: place.offset, length: stretch.length))
    try space(by).remap(
      address(stretch), length: length, newLength: length, to: .fixed(target),
      keepingOld: keepingOld)
  }

  // MARK: - Loads and stores

  private func load(
    _ by: String, _ stretch: Stretch, stride: Int
  ) throws(MemoryError) -> String {
    var samples: [UInt8] = []
    var signals: [Int32] = []
    for page in stretch.pages {
      var signal: Int32 = 0
      let start = max(stretch.offset, page * 4096)
      for offset in Swift.stride(
        from: start, to: min(stretch.offset + stretch.length, page * 4096 + 4096), by: stride)
      {
        let (value, end) = signal == 0 ? try load(by, Place(stretch.buffer, offset)) : (0, signal)
        samples.append(value)
        signal = end
      }
      signals.append(signal)
    }
    return stride == 512
      ? Words.pages(samples, of: stretch, signals: signals)
      : Words.touches(samples, signals)
  }

  /// The byte, and the signal that the load ended in.
  private func load(_ by: String, _ place: Place) throws(MemoryError) -> (UInt8, Int32) {
    let space = try space(by)
    let at = address(Stretch(place.buffer, from: place.offset, length: 1))
    var value: UInt8 = 0
    if memory.trapTier != .none {
      let signal = unsafe cshims_guarded_load(space.pointer(at: at), &value)
      return (value, signal)
    }
    do throws(MemoryError) {
      try unsafe withUnsafeMutableBytes(of: &value) { bytes throws(MemoryError) in
        try unsafe space.copyFromUser(bytes, from: at)
      }
      return (value, 0)
    } catch {
      return (0, error.signal)
    }
  }

  /// The signal that the store ended in.
  private func store(_ by: String, _ place: Place, _ value: UInt8) throws(MemoryError) -> Int32 {
    let space = try space(by)
    let at = address(Stretch(place.buffer, from: place.offset, length: 1))
    if memory.trapTier != .none {
      return unsafe cshims_guarded_store(space.pointer(at: at), value)
    }
    do throws(MemoryError) {
      try unsafe withUnsafeBytes(of: value) { bytes throws(MemoryError) in
        try unsafe space.copyToUser(at, from: bytes)
      }
      return 0
    } catch {
      return error.signal
    }
  }

  // MARK: - Observation

  /// The frame of each page: 0 for the zero page, nil for none; at most as many as a host tells.
  private func frames(_ process: String, _ stretches: [Stretch]) -> [UInt64?] {
    guard let space = spaces[process] else { return [] }
    var list: [UInt64?] = []
    for stretch in stretches {
      guard let base = addresses[stretch.buffer] else { continue }
      for index in stretch.pages {
        let page = space.page(at: base + .pages(index))
        list.append(page.map { $0.isZeroPage ? 0 : $0.frameNumber.rawValue })
      }
    }
    return list
  }

  private func owners(_ stretch: Stretch) -> String {
    let base = addresses[stretch.buffer].named(stretch.buffer)
    let processes = cast.knowers(of: stretch.buffer)
    let tellsMappings = cast.tellsMappings(of: stretch.buffer)
    return stretch.pages.map { index in
      Words.owners(
        processes.map { process in
          let page = spaces[process]?.page(at: base + .pages(index))
          let frame = page.map { $0.isZeroPage ? 0 : $0.frameNumber.rawValue }
          return (process, frame, !tellsMappings || page?.mapCount == 1)
        })
    }.joined(separator: " | ")
  }

  private mutating func count() -> (String, [Int]) {
    let now = memory.counters
    let before = counted ?? now
    counted = now
    let counts = [
      now.pinsAcquired - before.pinsAcquired, now.pinsReleased - before.pinsReleased,
    ]
    return (Words.counts(counts[0], counts[1]), counts)
  }
}

extension Optional {
  /// The value of a name that the cast has passed.
  func named(_ name: String) -> Wrapped {
    guard let self else { preconditionFailure("the cast let '\(name)' pass") }
    return self
  }
}

extension MemoryError {
  /// The signal of a program's own touch that fails so: SIGSEGV where the area is missing or
  /// forbids it, SIGBUS where there is nothing to show.
  fileprivate var signal: Int32 {
    number == .badAddress && reason != .busError ? 11 : 7
  }
}

extension Step {
  /// Does it touch pages in a way that tells what became of their frames? Of anonymous private
  /// memory only: pages of others come and go with their neighbours.
  func tellsFates(_ cast: Cast) -> Bool {
    switch self {
    case .store, .peek, .poke, .take, .directRead, .directWrite:
      stretches.allSatisfy { cast.buffers[$0.buffer]?.backing.isAnonymous == true }
    default: false
    }
  }
}

extension Backing {
  /// Private memory without a file.
  var isAnonymous: Bool { self == .private || self == .huge }
}

extension Words {
  /// One byte or signal a page.
  static func touches(_ samples: [UInt8], _ signals: [Int32]) -> String {
    zip(samples, signals).map { $1 == 0 ? hex($0) : signal($1) }.joined(separator: " ")
  }
}

extension Access {
  fileprivate var protection: Protection {
    switch self {
    case .none: .none
    case .readOnly: .readOnly
    case .writeOnly: .write
    case .readWrite: .readWrite
    }
  }
}

extension Counsel {
  /// With Linux's numbers.
  var advice: Advice {
    switch self {
    case .dontNeed: .dontNeed
    case .dontFork: .dontFork
    case .doFork: .doFork
    case .wipeOnFork: .wipeOnFork
    case .keepOnFork: .keepOnFork
    case .populateRead: .populateRead
    case .populateWrite: .populateWrite
    }
  }
}
