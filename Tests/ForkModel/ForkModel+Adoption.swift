//===----------------------------------------------------------------------===//
// Adoption: processes whose window begins with memory that the program had
// already, and what becomes of its bytes.
//===----------------------------------------------------------------------===//

extension ForkModel {
  /// A process with adopted memory in its window: pages of its own, with bytes.
  mutating func adopt(_ space: Int, _ seed: UInt64) {
    let pages = window.adopted
    var process = Process(pages: Array(repeating: nil, count: window.pages), adopted: pages)
    for page in pages {
      let frame = makePrivateFrame(words: Window.words(seed, page), movable: false)
      process.pages[page] = MappedPage(
        access: .readWrite, object: nil, objectPage: page, isAdopted: true,
        entry: frame.map { Entry(frame: $0, isWritable: true) })
    }
    processes[space] = process
    note(.adopted)
  }

  /// Gives it back and ends the process; refused while a page is pinned.
  mutating func giveBack(_ space: Int) -> Outcome {
    let isPinned = (processes[space]?.adopted ?? 0..<0).contains { page in
      guard let frame = entry(space, page)?.frame else { return false }
      return frame.kind != .zero && frame.folio.looksPinned
    }
    if isPinned {
      // As after mprotect: what is exclusive may be stored to.
      for page in processes[space]?.adopted ?? 0..<0 where mapped(space, page)?.isAdopted == true {
        guard var entry = entry(space, page), entry.frame.isMarkedExclusive else { continue }
        entry.isWritable = mapped(space, page)?.access == .readWrite
        setEntry(space, page, entry)
      }
      note(.giveBackRefused)
      return Outcome(refusal: .busy)
    }
    note(.gaveBack)
    return exit(space)
  }

  /// What the program finds in adopted memory when it has it back.
  func bytesBack(_ space: Int) -> UInt64 {
    let pages = (processes[space]?.adopted ?? 0..<0).filter { mapped(space, $0) != nil }
    return Outcome.digest(pages.flatMap { entry(space, $0)?.frame.words ?? zeroFrame.words })
  }

  /// Does a range meet memory that is or was the program's?
  func meetsAdopted(_ space: Int, _ pages: Range<Int>) -> Bool {
    processes[space]?.adopted.overlaps(pages) ?? false
  }
}
