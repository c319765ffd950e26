//===----------------------------------------------------------------------===//
// short-lived-child: the loss needs no child to be there (semantics S4).
//===----------------------------------------------------------------------===//

import SwiftGUP

extension Lesson {
  static let shortLivedChild = Lesson(
    name: "short-lived-child",
    title: "a child that has long gone still costs the device's bytes",
    teaches: """
      The program holds nothing but a reference for its device, and forks to run
      some helper. The child has gone before anything else happens. Too late.
      """,
    stakes: .policy(
      broken: .reuseByMappingCount,
      "a store reuses a page that is mapped once, whoever else holds it (CVE-2020-29374)"),
    remember: [
      "Fork takes the page's exclusive mark, and nobody gives it back when the child goes. The "
        + "next store counts references, finds the driver's, and copies.",
      "Every system() and popen() is such a child.",
      "Counting mappings instead of references would save these bytes, and give away others: see "
        + "secret-leak.",
    ],
    seeAlso: ["fork-loss", "fork-pin", "secret-leak"]
  ) { stage in
    let parent = try stage.program("parent")
    try stage.step("The parent stores 'before' in a page of its own.") {
      try parent.store("before")
    }
    let device = try stage.step(
      "A driver takes a reference on the page: a device is to write to it."
    ) { try stage.take(parent, flags: .write) }
    try stage.step("The parent forks, and the child exits at once.") {
      try stage.fork(parent, as: "child").exit()
    }
    stage.claim(
      "The parent alone shows the page again, but it is not its own any more.",
      device.page.mapCount == 1 && !device.page.isAnonymousExclusive
        && parent.page() == device.page)

    try stage.step("The parent stores 'after' over 'before'.") { try parent.store("after") }
    stage.claim(
      "Two references: the store copied, and left the device behind.", by: [.rfc, .upstream],
      parent.page() != device.page)
    stage.claim(
      "One mapping: the store reused the page.", by: [.broken],
      parent.page() == device.page)

    try stage.step("The device delivers 'DEVICE' beside it.") {
      try device.deviceWrites("DEVICE")
    }
    stage.claim(
      "Nobody shows the page that it landed in.", by: [.rfc, .upstream],
      device.page.mapCount == 0)
    stage.find(
      "the parent reads", try parent.read(), expected: "after...........",
      broken: "after...DEVICE..")
  }
}
