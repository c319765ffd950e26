//===----------------------------------------------------------------------===//
// fork-pin: the same fork under a pin (semantics D.2.3, S1, G-01).
//===----------------------------------------------------------------------===//

import SwiftGUP

extension Lesson {
  static let forkPin = Lesson(
    name: "fork-pin",
    title: "a pin keeps the program and its device together",
    teaches: """
      The fork of fork-loss, but the driver extracts the buffer, which pins it.
      Fork gives the child a copy at once, and the parent stays where it is.
      """,
    stakes: .policy(broken: .shareAtFork, "fork shares pinned pages, too (Linux before 5.9)"),
    remember: [
      "A pin is 1,024 in the reference count of a small page. That is how fork tells that a "
        + "device may be at work.",
      "A pinned page stays exclusive: fork copies for the child, so the parent never has to "
        + "move.",
      "The child's copy is a snapshot of the moment of the fork, whatever the device was doing.",
    ],
    seeAlso: ["fork-loss", "folio-pin", "read-only-unshare", "dontfork"]
  ) { stage in
    let right: [LessonPolicy] = [.rfc, .upstream]
    let parent = try stage.program("parent")
    try stage.step("The parent stores 'before' in a page of its own.") {
      try parent.store("before")
    }
    let device = try stage.step(
      "A driver extracts the buffer: a device is to write to it."
    ) { try stage.extract(parent, .destination) }
    stage.claim(
      "A pin: 1,024 beside the mapping's one reference.",
      device.how == "pin" && device.page.referenceCount == 1025)

    let child = try stage.step("The parent forks.") { try stage.fork(parent, as: "child") }
    stage.claim(
      "The page is pinned and the parent's own, so fork copied it for the child. The parent's "
        + "page is as it was.", by: right,
      child.page() != device.page && parent.page() == device.page
        && device.page.isAnonymousExclusive && parent.space.isWritable(at: parent.address))
    stage.claim(
      "Fork did not ask for pins: both show the page now, and it is nobody's own.", by: [.broken],
      child.page() == device.page && !device.page.isAnonymousExclusive)

    try stage.step("The parent stores 'after' over 'before'.") { try parent.store("after") }
    stage.claim(
      "No copy: the page is still the parent's own.", by: right, parent.page() == device.page)
    stage.claim(
      "The store had to copy. The parent is on the copy; the device is not.", by: [.broken],
      parent.page() != device.page)

    try stage.step("The device delivers 'DEVICE' beside it.") {
      try device.deviceWrites("DEVICE")
    }
    stage.find(
      "the parent reads", try parent.read(), expected: "after...DEVICE..",
      broken: "after...........")
    stage.find(
      "the child reads", try child.read(), expected: "before..........",
      broken: "before..DEVICE..")
  }
}
