//===----------------------------------------------------------------------===//
// dontfork: keeping a buffer out of children (semantics D.1, S12).
//===----------------------------------------------------------------------===//

import SwiftGUP

extension Lesson {
  static let dontFork = Lesson(
    name: "dontfork",
    title: "MADV_DONTFORK keeps a buffer out of the child",
    teaches: """
      What programs with a device did before there were pins: they advise that
      fork leave the buffer out. Then a reference is enough, and the child pays.
      """,
    stakes: .none("fork does not look at the page."),
    remember: [
      "Fork does not touch the parent's entries of such an area: no write protection, no copy, no "
        + "mark lost.",
      "The child has a hole there. What it expects in the same page, beside the buffer, is gone as "
        + "well.",
      "It must be advised before the fork, and by whoever owns the buffer: a pin needs neither.",
    ],
    seeAlso: ["fork-loss", "fork-pin"]
  ) { stage in
    let parent = try stage.program("parent")
    try stage.step("The parent stores 'before' in a page of its own.") {
      try parent.store("before")
    }
    let device = try stage.step(
      "A driver takes a reference on the page: a device is to write to it."
    ) { try stage.take(parent, flags: .write) }
    try stage.step("The parent advises that children are not to have the buffer.") {
      try parent.space.advise(parent.address, length: .pages(1), .dontFork)
    }
    let child = try stage.step("The parent forks.") { try stage.fork(parent, as: "child") }
    stage.claim(
      "The parent's page is as it was. The child has no such area.",
      child.page() == nil && child.space.areas.isEmpty && device.page.isAnonymousExclusive
        && parent.space.isWritable(at: parent.address))

    try stage.step("The parent stores 'after' over 'before'.") { try parent.store("after") }
    stage.claim("No copy.", parent.page() == device.page)
    try stage.step("The device delivers 'DEVICE' beside it.") {
      try device.deviceWrites("DEVICE")
    }
    stage.find("the parent reads", try parent.read(), expected: "after...DEVICE..")
    var found: String
    do throws(MemoryError) {
      found = try child.tryToRead()
    } catch {
      found = error.number.name
    }
    stage.find("the child reads", found, expected: "EFAULT")
  }
}
