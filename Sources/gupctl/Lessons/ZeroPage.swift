//===----------------------------------------------------------------------===//
// zero-page: pins of memory that nothing was stored in (semantics C.4, C.8,
// S18, A-24, G-05).
//===----------------------------------------------------------------------===//

import SwiftGUP

extension Lesson {
  static let zeroPage = Lesson(
    name: "zero-page",
    title: "untouched memory is the zero page, and a short pin takes just that",
    teaches: """
      All memory that was read but never written shows one page of zeroes. A
      device that is to read such a buffer gets that page, unless it says LONGTERM.
      """,
    stakes: .policy(
      broken: .noUnshare,
      "pins for reading do not unshare, long ones neither (Linux before 6.2)"),
    remember: [
      "A pin of the zero page is not counted: there is nothing to keep, and 2^21 pins would "
        + "overflow its count. A reference is counted.",
      "A short pin may go stale at the program's next store: whoever stores into a buffer while it "
        + "is being sent gets either.",
      "A long pin must stay right, so FOLL_LONGTERM unshares anything first, the zero page and "
        + "pages of files too.",
    ],
    seeAlso: ["read-only-unshare", "fork-pin", "migration"]
  ) { stage in
    let program = try stage.program("program", pages: 2)
    try stage.step("The program loads from a page that it never stored to.") {
      _ = try program.read()
    }
    stage.claim(
      "The load mapped the zero page, without counting on it.",
      program.page()?.isZeroPage == true && stage.memory.zeroPage.referenceCount == 1)

    let short = try stage.step(
      "A driver extracts that page: a device is to read it."
    ) { try stage.extract(program, .source, pages: 1) }
    stage.claim(
      "The dialect takes a reference, and the zero page counts it.", by: [.rfc],
      short.how == "get" && short.page.isZeroPage && short.page.referenceCount == 2)
    stage.claim(
      "The dialect pins, and the zero page does not count pins.", by: [.upstream, .broken],
      short.how == "pin" && short.page.isZeroPage && short.page.referenceCount == 1)

    try stage.step("The program stores 'words' there.") { try program.store("words") }
    stage.claim(
      "It has a page of its own now, and the device has not.",
      short.page.isZeroPage && program.page()?.isZeroPage == false)

    let long = try stage.step(
      "Of the second page, untouched as well, it takes a pin for reading that may last "
        + "(FOLL_LONGTERM)."
    ) { try stage.take(program, page: 1, flags: .longTerm) }
    stage.claim(
      "The pin got the program a page of its own before anything was stored.",
      by: [.rfc, .upstream],
      long.page == program.page(1) && !long.page.isZeroPage && long.page.isAnonymousExclusive)
    stage.claim("The pin took the zero page again.", by: [.broken], long.page.isZeroPage)

    try stage.step("The program stores 'words' there, too.") {
      try program.store("words", page: 1)
    }
    stage.find(
      "the device reads by the short pin", try short.deviceReads(), expected: "................")
    stage.find(
      "by the long pin", try long.deviceReads(), expected: "words...........",
      broken: "................")
  }
}
