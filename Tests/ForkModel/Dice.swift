//===----------------------------------------------------------------------===//
// Random steps: mostly such as mean something in the state that the model is in.
//===----------------------------------------------------------------------===//

/// Draws steps from a generator of random numbers.
public struct Dice<Source: RandomNumberGenerator> {
  var source: Source
  /// What comes next, whatever would be drawn.
  var planned: Operation?

  public init(_ source: Source) { self.source = source }

  mutating func below(_ bound: Int) -> Int { Int.random(in: 0..<bound, using: &source) }
  mutating func oneIn(_ n: Int) -> Bool { below(n) == 0 }

  /// A step for the state of `model`.
  public mutating func draw(_ model: ForkModel) -> Operation {
    model.window.hasFolios ? drawWithFolios(model) : drawPlain(model)
  }

  /// One that knows nothing of folios. More than a third are native stores.
  mutating func drawPlain(_ model: ForkModel) -> Operation {
    let window = model.window
    let living = model.processes.indices.filter { model.processes[$0] != nil }
    let vacant = model.processes.indices.filter { model.processes[$0] == nil }
    guard let space = living.randomElement(using: &source) else { return .begin(space: 0) }
    switch below(100) {
    case 0..<34: return nativeStore(model, space)
    case 34..<40:
      return .load(space: space, page: page(window), word: below(Limits.words))
    case 40..<46:
      guard let child = vacant.randomElement(using: &source) else { return .exit(space: space) }
      return .fork(space: space, child: child)
    case 46..<48: return .exit(space: space)
    case 48: return .begin(space: vacant.first ?? space)
    case 49..<52:
      let movable = window.hasFolios && oneIn(3)
      return .map(place(space, window), access(), shared: oneIn(3), .base, movable: movable)
    case 52: return .unmap(place(space, window))
    case 53..<56: return .protect(place(space, window), access())
    case 56..<60:
      return .advise(place(space, window), ModelAdvice.allCases[below(ModelAdvice.allCases.count)])
    case 60..<62: return .copyIn(place(space, window), source.next())
    case 62..<64: return .copyOut(place(space, window))
    case 64..<82: return acquire(space, window)
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
    var page = page(model.window)
    var tries = 0
    while !model.mayStore(space, page) {
      tries += 1
      // Nothing to store to: something must be mapped, or given back.
      if tries == 40 {
        if model.freeFrames == 0 {
          return oneIn(2) ? .release(hold: below(Limits.holds)) : .exit(space: space)
        }
        return .map(
          place(space, model.window), .readWrite, shared: false, .base, movable: false)
      }
      if tries % 8 == 0 {
        let other = below(model.window.spaces)
        if model.processes[other] != nil { space = other }
      }
      page = self.page(model.window)
    }
    return .store(space: space, page: page, word: below(Limits.words), source.next())
  }

  private mutating func acquire(_ space: Int, _ window: Window) -> Operation {
    .acquire(hold: below(Limits.holds), place(space, window, most: 4), acquisition())
  }

  /// One of `long` that can be is a long one.
  mutating func acquisition(oneIsLongIn long: Int = 5) -> Acquisition {
    let path = Acquisition.Path.allCases[below(3)]
    return Acquisition(
      pins: !oneIn(3), writes: oneIn(2), path: path, mayFault: !oneIn(4), isLong: oneIn(long))
  }

  mutating func access() -> Access {
    oneIn(6) ? .none : oneIn(3) ? .read : .readWrite
  }

  /// Any page; in a large window mostly one of a few, so that steps meet.
  mutating func page(_ window: Window) -> Int {
    if !window.hasFolios || oneIn(4) { return below(window.pages) }
    let near = max(0, oneIn(3) ? window.pages - 40 : window.border - 8)
    return min(window.pages - 1, near + below(32))
  }

  /// A few pages, or now and then many.
  mutating func place(_ space: Int, _ window: Window, most: Int = 6) -> Place {
    let first = page(window)
    let isLarge = most == 6 && oneIn(window.hasFolios ? 20 : 6)
    let most = isLarge ? window.pages : most
    return Place(space, first..<min(window.pages, first + 1 + below(most)))
  }
}
