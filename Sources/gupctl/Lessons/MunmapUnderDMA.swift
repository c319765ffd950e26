//===----------------------------------------------------------------------===//
// munmap-under-dma: unmapping does not wait for a device (semantics C.11 G5,
// S20).
//===----------------------------------------------------------------------===//

import SwiftGUP

extension Lesson {
  static let munmapUnderDMA = Lesson(
    name: "munmap-under-dma",
    title: "munmap does not wait for the device, and the page outlives it",
    teaches: """
      The program unmaps a buffer while a device is writing to it, and maps anew at
      the same address. No crash, no corruption; but not the page it was, either.
      """,
    stakes: .none("both dialects pin what a device writes to."),
    remember: [
      "A pin keeps the page, not the mapping: an address is a name that may come to mean another "
        + "page.",
      "The page is freed by whoever drops its last count, here the driver, long after the program "
        + "has forgotten it.",
      "Caches of registered buffers must be told of munmap (MMU notifiers, userfaultfd), or they "
        + "go on using pages that are no longer at their addresses.",
    ],
    seeAlso: ["fork-pin", "partial-pin"]
  ) { stage in
    let program = try stage.program("program")
    try stage.step("The program stores 'before' in a page of its own.") {
      try program.store("before")
    }
    let device = try stage.step(
      "A driver extracts the buffer: a device is to write to it."
    ) { try stage.extract(program, .destination) }
    try stage.step("The program unmaps the buffer.") {
      try program.space.unmap(program.address, length: .pages(1))
    }
    stage.claim(
      "munmap did not wait. Nobody shows the page; the pin alone keeps it.",
      device.page.mapCount == 0 && !device.page.isFree && device.page.referenceCount == 1024)

    try stage.step("It maps memory at the same address again, and stores 'new'.") {
      _ = try program.space.map(length: .pages(1), at: .fixed(program.address))
      try program.store("new")
    }
    stage.claim("The same address, another page.", program.page() != device.page)

    try stage.step("The device delivers 'DEVICE'.") { try device.deviceWrites("DEVICE") }
    let sent = try device.deviceReads()
    try stage.step("The transfer is done, and the driver unpins.") { device.letGo() }
    stage.claim(
      "The last count is gone, and now the page is free.", device.page.isFree)

    stage.find("the program reads", try program.read(), expected: "new.............")
    stage.find("the device had", sent, expected: "before..DEVICE..")
  }
}
