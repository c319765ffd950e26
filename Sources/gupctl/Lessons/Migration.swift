//===----------------------------------------------------------------------===//
// migration: a long pin moves a movable page first, and then keeps it where it
// is (semantics C.8, C.11 G6).
//===----------------------------------------------------------------------===//

import SwiftGUP

extension Lesson {
  static let migration = Lesson(
    name: "migration",
    title: "a long pin moves a movable page first, and then holds it still",
    teaches: """
      Some frames must stay movable, so that memory can be compacted or unplugged.
      A short pin may wait there; a LONGTERM pin gives the page another frame.
      """,
    stakes: .none("no rule of copy-on-write is at work."),
    remember: [
      "The program notices nothing: same address, same bytes, another frame. Its stores wait while "
        + "the page moves.",
      "Nothing moves a page that may be pinned: the device knows the frame and not the address.",
      "A page that somebody else holds cannot be moved, so FOLL_LONGTERM fails on it with ENOMEM: "
        + "who pins for long pins early.",
    ],
    seeAlso: ["zero-page", "munmap-under-dma"]
  ) { stage in
    let program = try stage.program("program", of: .movable)
    let (start, length) = (program.address, ByteCount.pages(1))
    try stage.step("The program stores 'before' in a page of movable memory.") {
      try program.store("before")
    }
    guard let first = program.page() else { throw Failure("no page at \(start)") }
    let short = try stage.step(
      "A driver extracts the buffer for one transfer: a device is to write to it."
    ) { try stage.extract(program, .destination) }
    stage.claim(
      "A short pin takes the page where it is.",
      short.how == "pin" && short.page == first && program.page() == first)

    let long = try stage.step(
      "The transfer is over and the pin gone. Now the driver registers the buffer for good: a pin "
        + "for writing that may last (FOLL_LONGTERM)."
    ) {
      short.letGo()
      return try stage.take(program, flags: [.write, .longTerm])
    }
    stage.claim(
      "The page was moved to a frame that need not be movable, and pinned there: the same address "
        + "and bytes, another frame. The old one is free.",
      long.page == program.page() && long.page != first && first.isFree
        && long.page.referenceCount == 1025 && program.space.isWritable(at: start))
    stage.find(
      "the long pin moved the page", long.page == first ? "no" : "yes", expected: "yes")

    let refused = try stage.step("The machine is asked to move the page.") {
      try program.space.migrate(start, length: length)
    }
    stage.claim(
      "It stays, because it is pinned.",
      refused.moved == 0 && refused.pinned == 1 && program.page() == long.page)
    stage.find(
      "asked to move it then", "\(refused.moved) moved, \(refused.pinned) pinned",
      expected: "0 moved, 1 pinned")

    try stage.step("The device delivers 'DEVICE' into the frame it knows.") {
      try long.deviceWrites("DEVICE")
    }
    stage.claim("The program sees it.", try program.read() == "before..DEVICE..")

    let moved = try stage.step("The driver unpins, and the machine is asked again.") {
      long.letGo()
      return try program.space.migrate(start, length: length)
    }
    stage.claim(
      "Now it moves.",
      moved.moved == 1 && moved.pinned == 0 && program.page() != long.page)
    stage.find("the program reads", try program.read(), expected: "before..DEVICE..")
  }
}
