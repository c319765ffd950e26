//===----------------------------------------------------------------------===//
// read-only-unshare: a pin for reading after fork (semantics D.4, S10, G-04).
//===----------------------------------------------------------------------===//

import SwiftGUP

extension Lesson {
  static let readOnlyUnshare = Lesson(
    name: "read-only-unshare",
    title: "a pin for reading first gives the program a page of its own",
    teaches: """
      After a fork the program hands a buffer to a device that will only read it,
      and then changes its mind about the contents. What does the device read?
      """,
    stakes: .policy(
      broken: .noUnshare, "pins for reading do not unshare (Linux before 5.19)"),
    remember: [
      "A store to a shared page moves whoever stores. What holds the old page by then goes "
        + "stale.",
      "So a pin is never put on a shared anonymous page: for writing a write fault comes first, "
        + "for reading an unshare fault, which copies as a store would.",
      "A stale byte is the worst that can happen to a buffer that is only read. The RFC took that "
        + "and held sources by references; Linux pins them, too.",
    ],
    seeAlso: ["fork-pin", "zero-page", "secret-leak"]
  ) { stage in
    let parent = try stage.program("parent")
    try stage.step("The parent stores 'before' in a page of its own.") {
      try parent.store("before")
    }
    let child = try stage.step("The parent forks.") { try stage.fork(parent, as: "child") }
    stage.claim("Both show one page.", child.page() == parent.page())

    let device = try stage.step(
      "A driver extracts the parent's buffer: a device is to read it."
    ) { try stage.extract(parent, .source) }
    stage.claim(
      "The dialect takes a reference, on the page that both show.", by: [.rfc],
      device.how == "get" && device.page == child.page() && device.page == parent.page())
    stage.claim(
      "The dialect pins, so the parent was first given a copy of its own: unshared.",
      by: [.upstream],
      device.how == "pin" && device.page == parent.page() && device.page != child.page()
        && device.page.isAnonymousExclusive)
    stage.claim(
      "The dialect pins, but the page is the one that both show.", by: [.broken],
      device.how == "pin" && device.page == child.page() && device.page == parent.page())

    try stage.step("The parent stores 'after' over 'before'.") { try parent.store("after") }
    stage.claim(
      "The store copied, and left the device behind.", by: [.rfc, .broken],
      parent.page() != device.page)
    stage.claim(
      "The page is the parent's own, so the store went into it.", by: [.upstream],
      parent.page() == device.page)

    let read = try stage.step("The device reads.") { try device.deviceReads() }
    stage.find(
      "the device reads", read, expected: "after...........", rfc: "before..........",
      broken: "before..........")
    stage.find("the child reads", try child.read(), expected: "before..........")
  }
}
