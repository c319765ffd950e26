//===----------------------------------------------------------------------===//
// fork-loss: a plain reference and a fork (semantics D.5, S1, G-01).
//===----------------------------------------------------------------------===//

import SwiftGUP

extension Lesson {
  static let forkLoss = Lesson(
    name: "fork-loss",
    title: "a reference does not keep a page yours across fork",
    teaches: """
      A driver takes a page by get_user_pages (FOLL_GET), and the program forks.
      The device's bytes arrive, but not where the program looks for them.
      """,
    stakes: .none("a plain reference is the same by all."),
    remember: [
      "Fork cannot see a reference: it shares the page like any other. But the next store sees "
        + "it, and copies: a page that somebody else holds is not reused.",
      "So it is the program that moves away from the device's page. Its child, or nobody, gets "
        + "the data.",
      "Data that a device writes needs a pin: pin_user_pages (FOLL_PIN).",
    ],
    seeAlso: ["fork-pin", "short-lived-child", "dontfork"]
  ) { stage in
    let parent = try stage.program("parent")
    try stage.step("The parent stores 'before' in a page of its own.") {
      try parent.store("before")
    }
    let device = try stage.step(
      "A driver takes a reference on the page: a device is to write to it."
    ) { try stage.take(parent, flags: .write) }
    stage.claim(
      "One reference for the mapping, one for the driver.",
      device.page.referenceCount == 2 && device.page == parent.page())

    let child = try stage.step("The parent forks.") { try stage.fork(parent, as: "child") }
    stage.claim(
      "Both show the page now, neither may store to it without a fault, and it is nobody's own.",
      child.page() == device.page && parent.page() == device.page
        && !device.page.isAnonymousExclusive && !parent.space.isWritable(at: parent.address))

    try stage.step("The parent stores 'after' over 'before'.") { try parent.store("after") }
    stage.claim(
      "The store had to copy. The parent is on the copy; the device is not.",
      parent.page() != device.page && child.page() == device.page)

    try stage.step("The device delivers 'DEVICE' beside it.") {
      try device.deviceWrites("DEVICE")
    }
    stage.claim(
      "It landed in the page that the child shows.", child.page() == device.page)

    stage.find("the parent reads", try parent.read(), expected: "after...........")
    stage.find("the child reads", try child.read(), expected: "before..DEVICE..")
  }
}
