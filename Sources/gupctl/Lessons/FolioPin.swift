//===----------------------------------------------------------------------===//
// folio-pin: a pin of one page of a large folio (semantics C.4, D.2.4, S23).
//===----------------------------------------------------------------------===//

import SwiftGUP

extension Lesson {
  static let folioPin = Lesson(
    name: "folio-pin",
    title: "a pin of one page keeps its whole folio from being shared",
    teaches: """
      Large folios are counted as one. A pin of any of the pages is a pin of the
      folio, and fork copies every exclusive page of it, those without a device too.
      """,
    stakes: .policy(broken: .shareAtFork, "fork shares pinned folios, too (Linux before 5.9)"),
    remember: [
      "A folio has a count of pins of its own, so each is one reference there and not 1,024, and "
        + "many references are never taken for a pin.",
      "That count does not say which page is pinned. Fork copies all that are exclusive, single "
        + "pages for the child, and shares the rest.",
      "A pin of 4 KiB inside a folio of 2 MiB makes the next fork copy all 2 MiB: give a device's "
        + "buffer folios of its own, and keep them from children.",
    ],
    seeAlso: ["fork-pin", "dontfork"]
  ) { stage in
    let right: [LessonPolicy] = [.rfc, .upstream]
    let parent = try stage.program("parent", pages: 4, folios: .order(2))
    try stage.step("The parent stores 'before' in four pages that share a folio.") {
      for i in 0..<4 { try parent.store("before", page: i) }
    }
    guard let head = parent.page() else { throw Failure("no page at \(parent.address)") }
    let pages = (0..<4).compactMap { parent.page($0) }
    stage.claim(
      "One count for all: four mappings hold a reference each.",
      pages.count == 4 && pages.allSatisfy { $0.folioHead == head && $0.folioOrder == 2 }
        && head.folioMapCount == 4 && head.referenceCount == 4)

    let device = try stage.step(
      "A driver extracts the second page: a device is to write to it."
    ) { try stage.extract(parent, .destination, from: 1, pages: 1) }
    stage.claim(
      "One reference more and one pin, exactly, whichever page of the folio is asked.",
      device.how == "pin" && device.page == pages[1]
        && pages.allSatisfy { $0.referenceCount == 5 && $0.pinCount == 1 && $0.mayBePinned })

    let child = try stage.step("The parent forks.") { try stage.fork(parent, as: "child") }
    let copied = (0..<4).count { child.page($0) != parent.page($0) }
    stage.claim(
      "The folio is pinned, so the child got copies of all four pages. The parent's are still its "
        + "own, and the folio's counts are as they were.", by: right,
      copied == 4 && (0..<4).allSatisfy { child.page($0)?.folioOrder == 0 }
        && pages.allSatisfy { $0.isAnonymousExclusive } && head.referenceCount == 5)
    stage.claim(
      "Fork did not ask for pins: all four are shared, by four references more, and are nobody's "
        + "own.", by: [.broken],
      copied == 0 && head.referenceCount == 9 && pages.allSatisfy { !$0.isAnonymousExclusive })

    try stage.step("The parent stores 'after' in the second page and in the last.") {
      try parent.store("after", page: 1)
      try parent.store("after", page: 3)
    }
    stage.claim(
      "No copy: both are where they were.", by: right,
      parent.page(1) == pages[1] && parent.page(3) == pages[3])
    stage.claim(
      "Two copies. The device is not on the parent's second page any more.", by: [.broken],
      parent.page(1) != pages[1] && parent.page(3) != pages[3])

    try stage.step("The device delivers 'DEVICE' to the second page.") {
      try device.deviceWrites("DEVICE")
    }
    stage.find("pages that fork copied", "\(copied) of 4", expected: "4 of 4", broken: "0 of 4")
    stage.find(
      "the parent reads", try parent.read(page: 1), expected: "after...DEVICE..",
      broken: "after...........")
    stage.find(
      "the child reads", try child.read(page: 1), expected: "before..........",
      broken: "before..DEVICE..")
  }
}
