//===----------------------------------------------------------------------===//
// Random steps: mostly such as mean something in the state that the model is in.
//===----------------------------------------------------------------------===//

/// Draws steps from a generator of random numbers.
public struct Dice<Source: RandomNumberGenerator> {
  public private(set) var source: Source

  public init(_ source: Source) { self.source = source }

  private mutating func below(_ bound: Int) -> Int { Int.random(in: 0..<bound, using: &source) }
  private mutating func oneIn(_ n: Int) -> Bool { below(n) == 0 }

  /// A step for the state of `model`. More than a third are native stores.
  public mutating func draw(_ model: ForkModel) -> Operation {
    let living = model.processes.indices.filter { model.processes[$0] != nil }
    let vacant = model.processes.indices.filter { model.processes[$0] == nil }
    guard let space = living.randomElement(using: &source) else { return .begin(space: 0) }
    switch below(100) {
    case 0..<34: return nativeStore(model, space)
    case 34..<40:
      return .load(space: space, page: below(Limits.pages), word: below(Limits.words))
    case 40..<46:
      guard let child = vacant.randomElement(using: &source) else { return .exit(space: space) }
      return .fork(space: space, child: child)
    case 46..<48: return .exit(space: space)
    case 48: return .begin(space: vacant.first ?? space)
    case 49..<52: return .map(place(space), access(), shared: oneIn(3))
    case 52: return .unmap(place(space))
    case 53..<56: return .protect(place(space), access())
    case 56..<60:
      return .advise(place(space), ModelAdvice.allCases[below(ModelAdvice.allCases.count)])
    case 60..<62: return .copyIn(place(space), source.next())
    case 62..<64: return .copyOut(place(space))
    case 64..<82: return acquire(space)
    case 82..<88: return .release(hold: below(Limits.holds))
    case 88..<94:
      return .deviceStore(
        hold: below(Limits.holds), page: below(3), word: below(Limits.words), source.next())
    default:
      return .deviceLoad(hold: below(Limits.holds), page: below(3), word: below(Limits.words))
    }
  }

  private mutating func nativeStore(_ model: ForkModel, _ space: Int) -> Operation {
    var space = space
    var page = below(Limits.pages)
    var tries = 0
    while !model.mayStore(space, page) {
      tries += 1
      // Nothing to store to: something must be mapped, or given back.
      if tries == 40 {
        if model.freeFrames == 0 {
          return oneIn(2) ? .release(hold: below(Limits.holds)) : .exit(space: space)
        }
        return .map(place(space), .readWrite, shared: false)
      }
      if tries % 8 == 0 {
        let other = below(Limits.spaces)
        if model.processes[other] != nil { space = other }
      }
      page = below(Limits.pages)
    }
    return .store(space: space, page: page, word: below(Limits.words), source.next())
  }

  private mutating func acquire(_ space: Int) -> Operation {
    let path = Acquisition.Path.allCases[below(3)]
    return .acquire(
      hold: below(Limits.holds), place(space, most: 4),
      Acquisition(
        pins: !oneIn(3), writes: oneIn(2), path: path, mayFault: !oneIn(4), isLong: oneIn(5)))
  }

  private mutating func access() -> Access {
    oneIn(6) ? .none : oneIn(3) ? .read : .readWrite
  }

  /// A few pages, or now and then many.
  private mutating func place(_ space: Int, most: Int = 6) -> Place {
    let first = below(Limits.pages)
    let most = most == 6 && oneIn(6) ? Limits.pages : most
    return Place(space, first..<min(Limits.pages, first + 1 + below(most)))
  }
}
