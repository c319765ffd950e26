//===----------------------------------------------------------------------===//
// Folios (C.4, D.2.4, D.3 row 3): how they come, what splits a leaf or a folio,
// what collapses into one.
//===----------------------------------------------------------------------===//

extension ForkModel {
  // MARK: - Coming

  /// The write fault of a private page where nothing is, or the zero page: brings
  /// in the folio that the machine found. False when a single page must do.
  mutating func bringInFolio(_ space: Int, _ page: Int, _ mapped: MappedPage) -> Bool {
    let largest = largestFolio(space, page, mapped)
    guard largest > 0 else { return false }
    let order = findings.folioOrder(space, page)
    let isLeaf = mapped.folios == .leaf
    // Where frames are short it may be smaller.
    if order > largest || order < largest && (isAmple || isLeaf && order > 0) {
      objection = "process \(space), page \(page): a folio of order \(order), not \(largest)"
    }
    guard order > 0, freeFrames >= 1 << order else { return false }
    let start = window.start(of: order, around: page)
    let folio = Folio(order: order, isLeafExclusive: isLeaf)
    folio.isMovable = mapped.isMovable
    freeFrames -= folio.pageCount
    if isLeaf { folio.leaves = 1 } else { folio.maps = folio.pageCount }
    for index in 0..<folio.pageCount {
      let frame = Frame(.anonymous, folio: folio, index: index)
      if !isLeaf { frame.maps = 1 }
      setEntry(
        space, start + index,
        Entry(frame: frame, isWritable: mapped.access == .readWrite, isLeaf: isLeaf))
    }
    note(isLeaf ? .leafCame : .folioCame)
    return true
  }

  /// The order of the largest folio that may come around a page; 0 for none.
  private func largestFolio(_ space: Int, _ page: Int, _ mapped: MappedPage) -> Int {
    let orders: ClosedRange<Int>
    switch mapped.folios {
    case .base: return 0
    case .order(let order): orders = 2...order
    case .leaf: orders = 9...9
    }
    let area = findings.area(space, page)
    for order in orders.reversed() {
      let start = window.start(of: order, around: page)
      let stretch = start..<(start + 1 << order)
      if area.lowerBound <= start, stretch.upperBound <= area.upperBound,
        isUntouched(space, page, stretch, zeroes: mapped.folios == .leaf)
      {
        return order
      }
    }
    return 0
  }

  /// Is nothing there, or, where `zeroes` says so, the zero page at most? Looks
  /// around `page` first, where something most likely is.
  private func isUntouched(
    _ space: Int, _ page: Int, _ stretch: Range<Int>, zeroes: Bool
  ) -> Bool {
    func isFree(_ page: Int) -> Bool {
      entry(space, page).map { zeroes && $0.frame.kind == .zero } ?? true
    }
    return (stretch.lowerBound...page).reversed().allSatisfy(isFree)
      && (page..<stretch.upperBound).allSatisfy(isFree)
  }

  // MARK: - Splitting

  /// Shows the folio of the leaf around a page, if there is one, page by page.
  mutating func splitLeaf(_ space: Int, _ page: Int) {
    guard let folio = entry(space, page)?.frame.folio, entry(space, page)?.isLeaf == true
    else { return }
    let start = window.leafStart(page)
    for page in start..<(start + Window.leafPages) {
      guard var entry = entry(space, page) else { continue }
      entry.isLeaf = false
      entry.frame.maps += 1
      if folio.isLeafExclusive { entry.frame.isMarkedExclusive = true }
      setEntry(space, page, entry)
    }
    folio.isLeafExclusive = false
    folio.leaves -= 1
    folio.maps += Window.leafPages
    note(.leafSplit)
  }

  /// Makes the start of a page no leaf's inside.
  mutating func splitLeafAcross(_ space: Int, _ page: Int) {
    guard page < window.pages, page != window.leafStart(page) else { return }
    splitLeaf(space, page)
  }

  /// split_folio of the folio behind a page.
  mutating func splitFolio(_ space: Int, _ page: Int) -> Outcome {
    guard let entry = entry(space, page), entry.frame.kind != .zero else {
      return Outcome(refusal: .badAddress)
    }
    let folio = entry.frame.folio
    guard folio.order > 0 else { return Outcome() }
    guard folio.gets + folio.pins == 0 else {
      note(.splitRefused)
      return Outcome(refusal: .tryAgain)
    }
    split(folio)
    note(.folioSplit)
    return Outcome()
  }

  /// Makes a folio that only mappings hold single pages, each held by its own.
  mutating func split(_ folio: Folio) {
    var alone: [Folio] = []
    for space in processes.indices {
      for page in 0..<window.pages where entry(space, page)?.frame.folio === folio {
        splitLeaf(space, page)
      }
    }
    for space in processes.indices {
      for page in 0..<window.pages {
        guard let frame = entry(space, page)?.frame, frame.folio === folio else { continue }
        let own = Folio(order: 0)
        own.maps = frame.maps
        own.moves = folio.moves
        own.isMovable = folio.isMovable
        frame.isGivenUp = frame.isGivenUp && folio.isGivenUp
        frame.folio = own
        frame.index = 0
        alone.append(own)
      }
    }
    freeFrames += folio.pageCount - alone.count
    folio.maps = 0
  }

  /// The pages of a window that show their folio's pages where they would be had
  /// the folio come around `page`.
  func mappingsInPlace(_ space: Int, _ page: Int, _ frame: Frame) -> [Int] {
    let start = page - frame.index
    return (max(0, start)..<min(window.pages, start + frame.folio.pageCount)).filter { other in
      guard let shown = entry(space, other)?.frame else { return false }
      return shown.folio === frame.folio && shown.index == other - start
    }
  }

  // MARK: - Collapsing

  /// MADV_COLLAPSE.
  mutating func collapse(_ place: Place) -> Outcome {
    var page = place.pages.lowerBound
    var metHole = false
    while page < place.pages.upperBound {
      guard let mapped = mapped(place.space, page) else {
        metHole = true
        page += 1
        continue
      }
      let area = findings.area(place.space, page)
      let end = min(area.upperBound, place.pages.upperBound)
      if let refusal = collapse(place.space, page..<end, in: area, mapped) {
        if refusal == .tryAgain { note(.collapseRefused) }
        return Outcome(refusal: refusal)
      }
      page = max(end, page + 1)
    }
    return Outcome(refusal: metHole ? .outOfMemory : nil)
  }

  /// The part of it that lies in one area.
  private mutating func collapse(
    _ space: Int, _ pages: Range<Int>, in area: Range<Int>, _ mapped: MappedPage
  ) -> Outcome.Refusal? {
    func roundedUp(_ page: Int) -> Int { window.leafStart(page + Window.leafPages - 1) }
    guard !mapped.isShared, roundedUp(area.lowerBound) + Window.leafPages <= area.upperBound
    else { return .invalid }
    let first = roundedUp(pages.lowerBound)
    let last = window.leafStart(pages.upperBound)
    if first > last { return .invalid }
    for start in stride(from: first, to: last, by: Window.leafPages) {
      if let refusal = collapse(space, start, mapped) { return refusal }
    }
    return nil
  }

  /// One stretch of it.
  private mutating func collapse(
    _ space: Int, _ start: Int, _ mapped: MappedPage
  ) -> Outcome.Refusal? {
    if entry(space, start)?.isLeaf == true { return nil }
    let pages = start..<(start + Window.leafPages)
    let shown = pages.map { entry(space, $0)?.frame }
    guard shown.contains(where: { $0 != nil }) else { return .invalid }
    if findings.refusal == .outOfMemory, !isAmple { return .outOfMemory }
    // Whoever holds a page beyond its mappings must find it where it is.
    if shown.contains(where: { frame in
      guard let frame, frame.kind != .zero else { return false }
      return frame.folio.gets + frame.folio.pins > 0
    }) {
      return .tryAgain
    }
    let folio = Folio(order: 9, isLeafExclusive: true)
    folio.isMovable = mapped.isMovable
    guard freeFrames >= folio.pageCount else { return .outOfMemory }
    freeFrames -= folio.pageCount
    clearEntries(space, pages)
    folio.leaves = 1
    for (index, page) in pages.enumerated() {
      let frame = Frame(.anonymous, words: shown[index]?.words, folio: folio, index: index)
      setEntry(
        space, page,
        Entry(frame: frame, isWritable: mapped.access == .readWrite, isLeaf: true))
    }
    note(.collapsed)
    return nil
  }
}
