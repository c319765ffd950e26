//===----------------------------------------------------------------------===//
// Random programs, and how one that went wrong is made short. A program draws
// from what its cast allows and knows nothing of what should come of it.
//===----------------------------------------------------------------------===//

/// Programs from a seed: the same seed gives the same programs.
public struct Programs: Sendable {
  private var state: UInt64
  private let seed: UInt64
  private let holds: [Hold]
  private var made = 0

  /// - Parameter holds: those that are taken, as a host can show them.
  public init(seed: UInt64, holds: [Hold] = [.get, .pin]) {
    self.seed = seed
    self.holds = holds
    state = seed
  }

  /// The next program, of at most `length` steps, and the looks at everything that end it.
  public mutating func next(length: Int) -> Scenario {
    made += 1
    var cast = Cast()
    var steps: [Step] = []
    var refused = 0
    while steps.count < length, refused < 200, !(cast.live.isEmpty && cast.held.isEmpty) {
      let step = propose(cast)
      var trial = cast
      if (try? trial.take(step)) == nil {
        refused += 1
        continue
      }
      cast = trial
      steps.append(step)
      // What a reading of the device's ends is let go at once.
      if case .deviceRead(let name) = step, cast.held[name]?.how == .pinToRead {
        try? cast.take(.release(hold: name))
        steps.append(.release(hold: name))
      }
      // What reads bring into untouched huge memory is a known difference of its own.
      if case .map(let by, let buffer, _, .huge) = step {
        steps.append(.store(by: by, at: Place(buffer), value: byte()))
      }
    }
    return Scenario(
      "fuzz.\(seed).\(made)", "random program \(made) of seed \(seed)", steps + Self.looks(at: cast)
    )
  }

  /// Everything that can be seen where a cast stands: what has memory, then the bytes that every
  /// process and the device see, then who shares what.
  static func looks(at cast: Cast) -> [Step] {
    let anonymous = cast.bufferNames.filter { cast.buffers[$0]?.backing.isAnonymous == true }
    func whole(_ name: String) -> Stretch {
      Stretch(name, pages: min(cast.buffers[name]?.pages ?? 1, pagesUsed))
    }
    let resident = anonymous.flatMap { name in
      cast.knowers(of: name).map { Step.resident(by: $0, at: whole(name)) }
    }
    let seen = cast.bufferNames.flatMap { name in
      cast.knowers(of: name).map { Step.see(by: $0, at: whole(name)) }
    }
    let held = cast.held.keys.sorted().map { Step.deviceRead(through: $0) }
    return resident + seen + held + anonymous.map { Step.frames(of: whole($0)) }
  }

  private static let backings: [Backing] = [
    .private, .private, .private, .huge, .shared, .privateFile, .sharedFile,
  ]
  /// Of a huge buffer a program uses the first few pages.
  private static let pagesUsed = 8

  // MARK: - Drawing

  /// SplitMix64.
  private mutating func draw() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var z = state
    z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
    z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
    return z ^ (z >> 31)
  }

  private mutating func below(_ bound: Int) -> Int { Int(draw() % UInt64(bound)) }
  private mutating func one<T>(of list: [T]) -> T { list[below(list.count)] }
  private mutating func byte() -> UInt8 { UInt8(1 + below(255)) }

  private mutating func propose(_ cast: Cast) -> Step {
    guard !cast.live.isEmpty else {
      let name = one(of: cast.held.keys.sorted())
      return below(2) == 0 ? .deviceRead(through: name) : .release(hold: name)
    }
    let by = one(of: cast.live)
    let mine = cast.bufferNames.filter { cast.knowers(of: $0).contains(by) }
    guard !mine.isEmpty, below(20) > 0 else {
      let again = mine.isEmpty || below(2) == 0 ? nil : one(of: mine)
      let backing = again.flatMap { cast.buffers[$0]?.backing } ?? one(of: Self.backings)
      let pages = backing == .huge ? Cast.hugePages : 1 + below(4)
      return .map(
        by: by, buffer: again ?? "b\(cast.bufferNames.count)",
        pages: again.flatMap { cast.buffers[$0]?.pages } ?? pages, on: backing)
    }
    let buffer = one(of: mine)
    let pages = min(cast.buffers[buffer]?.pages ?? 1, Self.pagesUsed)
    let place = Place(buffer, page: below(pages), block: below(8))
    let first = below(pages)
    let some = Stretch(buffer, page: first, pages: 1 + below(pages - first))
    switch below(100) {
    case 0..<5: return .touch(by: by, at: some)
    case 5..<10:
      // Any of its buffers, itself too; the cast refuses what cannot be told apart afterwards.
      let target = one(of: mine)
      let room = min(cast.buffers[target]?.pages ?? 1, Self.pagesUsed)
      let length = min(some.length, room * 4096)
      let moved = Stretch(buffer, from: some.offset, length: length)
      let to = Place(target, page: below(room - length / 4096 + 1))
      return below(4) == 0
        ? .lift(by: by, at: moved, to: to) : .move(by: by, at: moved, to: to)
    case 10..<32: return .store(by: by, at: place, value: byte())
    case 32..<35: return .see(by: by, at: some)
    case 35..<38:
      return below(3) == 0 ? .peek(by: by, at: place) : .poke(by: by, at: place, value: byte())
    case 38..<58:
      let name = "h\(below(6))"
      let end = pages * 4096
      let from = below(2) == 0 ? some.offset : place.offset
      let length = min(end - from, below(2) == 0 ? some.length : 512 * (1 + below(20)))
      return .take(
        by: by, at: Stretch(buffer, from: from, length: length), as: name,
        how: one(of: holds), times: 1)
    case 58..<76:
      guard !cast.held.isEmpty else { return .store(by: by, at: place, value: byte()) }
      let name = one(of: cast.held.keys.sorted())
      guard let held = cast.held[name] else { return .release(hold: name) }
      switch below(3) {
      case 0: return .release(hold: name)
      case 1 where held.how.isToWrite:
        let block = below((held.stretch.length + 511) / 512)
        return .deviceWrite(
          through: name, at: Place(held.stretch.buffer, held.stretch.offset + block * 512),
          value: byte())
      default: return .deviceRead(through: name)
      }
    case 76..<84:
      // Linux knows two processes that map a folio; with a third it is only careful.
      let isHuge = cast.buffers.values.contains { $0.backing == .huge }
      return isHuge && cast.live.count > 1
        ? .touch(by: by, at: some) : .fork(by: by, child: "C\(cast.processes.count)")
    case 84..<87:
      return by == Cast.first && cast.live.count == 1 ? .touch(by: by, at: some) : .exit(by: by)
    case 87..<92:
      // Whether a page is there that cannot be read decides about taking it, and of shared memory
      // and files Linux brings neighbours.
      let isTold = cast.buffers[buffer]?.backing.isAnonymous == true
      return .protect(
        by: by, at: some, to: one(of: Access.allCases.filter { isTold || $0 != .writeOnly }))
    case 92..<94:
      let segments = (0...below(3)).map { _ in
        let other = below(2) == 0 ? buffer : one(of: mine)
        let pages = min(cast.buffers[other]?.pages ?? 1, Self.pagesUsed)
        let page = below(pages)
        let block = below(9)
        return Stretch(
          other, from: page * 4096 + block * 512,
          length: min(below(12) * 512, (pages - page) * 4096 - block * 512))
      }
      return below(2) == 0
        ? .directRead(by: by, into: segments, value: byte()) : .directWrite(by: by, from: segments)
    case 94..<97: return .advise(by: by, at: some, to: one(of: Counsel.allCases))
    default: return .unmap(by: by, at: some)
    }
  }
}

extension Scenario {
  /// A short program that still goes wrong: steps are left out, many at a time and then one by one,
  /// as long as `goesWrong` says so of what is left.
  /// - Complexity: O(steps²) calls at worst.
  public func shrunk<E: Error>(
    while goesWrong: (Scenario) throws(E) -> Bool
  ) throws(E) -> Scenario {
    var best = self
    var size = max(1, steps.count / 2)
    while true {
      var progressed = false
      var start = 0
      while start < best.steps.count {
        var trial = best
        trial.steps.removeSubrange(start..<min(start + size, best.steps.count))
        if (try? Cast(of: trial.steps)) != nil, try goesWrong(trial) {
          best = trial
          progressed = true
        } else {
          start += size
        }
      }
      if size == 1, !progressed { return best }
      size = max(1, size / 2)
    }
  }
}
