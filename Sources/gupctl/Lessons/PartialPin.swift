//===----------------------------------------------------------------------===//
// partial-pin: a buffer that is not all there (semantics, C.6).
//===----------------------------------------------------------------------===//

import SwiftGUP

extension Lesson {
  static let partialPin = Lesson(
    name: "partial-pin",
    title: "a short result is a success, and the error comes with the next call",
    teaches: """
      A driver extracts a buffer of three pages, of which the last is not mapped.
      It gets two, and owns them, whatever it learns afterwards.
      """,
    stakes: .none("both dialects pin what a device writes to."),
    remember: [
      "Any page that was collected wins over the error that came after it: use what you have, or "
        + "give it back.",
      "The next call starts where the last one ended, and brings the error, with nothing held.",
      "Who loops until an error must not unpin more than each call returned.",
    ],
    seeAlso: ["munmap-under-dma", "pipe-hazard"]
  ) { stage in
    let program = try stage.program("program", pages: 3)
    try stage.step("The program stores 'first' in the first page.") {
      try program.store("first")
    }
    try stage.step("It unmaps the third.") {
      try program.space.unmap(program.address + .pages(2), length: .pages(1))
    }
    let device = try stage.step("A driver extracts all three: a device is to write to them.") {
      try stage.extract(program, .destination)
    }
    stage.claim(
      "Two came. The second was absent, and the pin brought it in.",
      device.pages.count == 2 && device.length == 2 * pageSize
        && device.pages.allSatisfy { $0.pinCount == 1 } && device.pages[1] == program.page(1))
    let stop = device.stop.text

    var next = ""
    try stage.step("It asks for the rest.") {
      do {
        next = "\(try stage.extract(program, .destination, from: 2).length) bytes"
      } catch let error as MemoryError {
        next = error.number.name
      }
    }
    stage.claim(
      "An error, and no pin more than before.",
      stage.memory.counters.pinsAcquired - stage.memory.counters.pinsReleased == 2)
    stage.find(
      "the first call", "\(device.length) bytes, \(stop)", expected: "8192 bytes, fault: EFAULT")
    stage.find("the next call", next, expected: "EFAULT")
  }
}
