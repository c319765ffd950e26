//===----------------------------------------------------------------------===//
// Random steps in windows with folios: areas that ask for them, ranges that are
// whole folios or cut them, collapsing and splitting, and whatever else there is.
//===----------------------------------------------------------------------===//

extension Dice {
  mutating func drawWithFolios(_ model: ForkModel) -> Operation {
    let window = model.window
    let living = model.processes.indices.filter { model.processes[$0] != nil }
    guard let space = living.randomElement(using: &source) else { return .begin(space: 0) }
    switch below(100) {
    case 0..<6:
      return .map(folioPlace(space, window), oneIn(8) ? .read : .readWrite, shared: false, wish())
    case 6..<8: return .wish(folioPlace(space, window), wish())
    case 8..<13: return .splitFolio(space: space, page: page(window))
    case 13..<16: return .collapse(collapsePlace(space, window))
    case 16..<18: return .unmap(folioPlace(space, window))
    case 18..<21: return .protect(folioPlace(space, window), access())
    case 21..<24:
      let advice: [ModelAdvice] = [
        .dontNeed, .free, .dontFork, .doFork, .keepOnFork, .populateWrite, .populateRead,
      ]
      return .advise(folioPlace(space, window), advice[below(advice.count)])
    case 24..<30:
      return .acquire(hold: below(Limits.holds), holdPlace(space, window), acquisition())
    default: return drawPlain(model)
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

  /// Mostly what can be collapsed.
  private mutating func collapsePlace(_ space: Int, _ window: Window) -> Place {
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
