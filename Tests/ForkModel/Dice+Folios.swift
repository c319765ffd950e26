//===----------------------------------------------------------------------===//
// Random steps in windows with folios: areas that ask for them, ranges that are
// whole folios or cut them, collapsing and splitting, and whatever else there is.
//===----------------------------------------------------------------------===//

extension Dice {
  mutating func drawWithFolios(_ model: ForkModel) -> Operation {
    let window = model.window
    let living = model.processes.indices.filter { model.processes[$0] != nil }
    guard let space = living.randomElement(using: &source) else { return .begin(space: 0) }
    if let planned {
      self.planned = nil
      return planned
    }
    switch below(100) {
    case 0..<6:
      let place = oneIn(3) ? leafPlace(space, window) : folioPlace(space, window)
      return .map(place, oneIn(8) ? .read : .readWrite, shared: false, wish(), movable: oneIn(2))
    case 6..<8: return .wish(folioPlace(space, window), wish())
    case 8..<13: return .splitFolio(space: space, page: page(window))
    case 13..<16: return .collapse(leafPlace(space, window))
    case 16..<18: return .unmap(folioPlace(space, window))
    case 18..<21: return .protect(folioPlace(space, window), access())
    case 21..<24:
      let advice: [ModelAdvice] = [
        .dontNeed, .free, .dontFork, .doFork, .keepOnFork, .populateWrite, .populateRead,
      ]
      let chosen = advice[below(advice.count)]
      // Before somebody stores to what was given up.
      if chosen == .free, oneIn(2) { planned = .reclaim }
      return .advise(folioPlace(space, window), chosen)
    case 24..<30:
      return .acquire(
        hold: below(Limits.holds), holdPlace(space, window), acquisition(oneIsLongIn: 2))
    case 30..<34:
      let from = folioPlace(space, window)
      return .move(from, to: page(window), keepsOld: oneIn(3))
    case 34..<36:
      let place = endPlace(space, model)
      return .resize(place, 1 + below(2 * place.pages.count + 2))
    case 36..<39: return .migrate(oneIn(2) ? folioPlace(space, window) : place(space, window))
    case 39: return oneIn(3) ? .compact : .reclaim
    case 40:
      let vacant = model.processes.indices.first { model.processes[$0] == nil }
      return .adopt(space: vacant ?? space, source.next())
    case 41 where oneIn(2): return .giveBack(space: space)
    default:
      let step = drawPlain(model)
      // Processes live longer than elsewhere, so that more comes together in them.
      if case .exit(let space) = step, !oneIn(4) {
        return .advise(folioPlace(space, window), .populateWrite)
      }
      return step
    }
  }

  private mutating func wish() -> FolioWish {
    switch below(8) {
    case 0: .base
    case 1..<3: .leaf
    case 3..<6: .order(2 + below(3))
    default: .order(2 + below(8))
    }
  }

  /// The stretch of a folio, some of them, or a part of one.
  private mutating func folioPlace(_ space: Int, _ window: Window) -> Place {
    let order = oneIn(5) ? 9 : 2 + below(5)
    let start = window.start(of: order, around: page(window))
    var first = start
    var end = start + 1 << order
    switch below(8) {
    case 0: end += 1 << order
    case 1: first += below(1 << order)
    case 2: end -= below(1 << order)
    default: break
    }
    first = min(max(0, first), window.pages - 1)
    return Place(space, first..<max(first + 1, min(window.pages, end)))
  }

  /// Pages up to a hole, so that there is room behind them.
  private mutating func endPlace(_ space: Int, _ model: ForkModel) -> Place {
    let first = page(model.window)
    var end = first + 1
    while end < model.window.pages, model.mapped(space, end) != nil { end += 1 }
    return Place(space, max(first, end - 8)..<end)
  }

  /// Mostly what a leaf can show.
  private mutating func leafPlace(_ space: Int, _ window: Window) -> Place {
    if oneIn(4) { return place(space, window) }
    let end = min(window.pages, window.border + 512)
    return Place(space, window.border..<end)
  }

  /// As many pages as a folio has, or more.
  private mutating func holdPlace(_ space: Int, _ window: Window) -> Place {
    let first = page(window)
    return Place(space, first..<min(window.pages, first + 1 + below(oneIn(6) ? 520 : 24)))
  }
}
