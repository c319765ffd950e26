//===----------------------------------------------------------------------===//
// adoption: a buffer that the program has from malloc becomes a page of the
// machine where it stands, and plain memory again (docs/adoption.md).
//
// The program uses its own pointer throughout. The buffer is a whole page only
// so that the pictures show its bytes alone; any buffer will do.
//===----------------------------------------------------------------------===//

import SwiftGUP

extension Lesson {
  static let adoption = Lesson(
    name: "adoption",
    title: "memory from malloc is pinned where it stands",
    teaches: """
      Programs have buffers already, and pointers to them. An address space adopts
      such memory: same addresses, same bytes, and from then on pages to be pinned.
      """,
    stakes: .none("adopted pages go by the same rules as all."),
    remember: [
      "Adoption takes the whole pages that hold a buffer. What else stands on them stays usable, "
        + "for malloc as well.",
      "No pointer changes. Stores of other threads wait while the bytes are moved, and none is "
        + "lost.",
      "It is given back when no device is at work any more: while a page is pinned, release is "
        + "refused with EBUSY and changes nothing.",
    ],
    seeAlso: ["fork-pin", "munmap-under-dma", "migration"]
  ) { stage in
    let buffer = UnsafeMutableRawPointer.allocate(byteCount: pageSize, alignment: pageSize)
    defer { unsafe buffer.deallocate() }
    unsafe buffer.initializeMemory(as: UInt8.self, repeating: 0, count: pageSize)
    func seen() -> String {
      shown(unsafe Array(UnsafeRawBufferPointer(start: buffer, count: 2 * Stage.wordLength)))
    }
    let program = try stage.program("program", ownMemory: buffer)
    let space = program.space

    try stage.step("The program stores 'before' in a buffer that malloc gave it.") {
      unsafe buffer.copyMemory(from: Array("before".utf8), byteCount: 6)
    }
    stage.claim(
      "The machine knows nothing of it: no area, and no frame taken.",
      space.areas.isEmpty && stage.memory.freeFrameCount == stage.memory.totalFrameCount)

    guard stage.memory.trapTier != .none else {
      let refusal = try stage.step("The address space is to adopt the buffer.") {
        outcome { () throws(MemoryError) in
          _ = try unsafe space.adopt(buffer, length: .pages(1))
        }
      }
      stage.claim(
        "Without a trap no store can be held up while the bytes are moved, so adoption is refused. "
          + "Nothing has changed: try it where 'gupctl doctor' finds a trap.",
        refusal == "EOPNOTSUPP" && space.areas.isEmpty && seen() == "before..........")
      stage.find("adoption", refusal, expected: "EOPNOTSUPP")
      stage.find("the program reads", seen(), expected: "before..........")
      return
    }
    let adopted = try stage.step("The address space adopts the buffer.") {
      try unsafe space.adopt(buffer, length: .pages(1))
    }
    stage.claim(
      "A page of the program's own stands there, with the bytes. Its pointer is a user address.",
      adopted.pages.start == program.address && program.page()?.isAnonymousExclusive == true
        && space.isWritable(at: program.address) && seen() == "before..........")

    let device = try stage.step(
      "A driver extracts the buffer: a device is to write to it."
    ) { try stage.extract(program, .destination) }
    stage.claim(
      "Pinned in place, as any page is.", device.how == "pin" && device.page == program.page())

    let early = try stage.step("The program wants its memory back.") {
      outcome { () throws(MemoryError) in try space.release(adopted) }
    }
    stage.claim(
      "Refused: the device may be writing. The page is as it was.",
      early == "EBUSY" && device.page == program.page())
    stage.find("release under the pin", early, expected: "EBUSY")

    try stage.step("The device delivers 'DEVICE' beside 'before'.") {
      try device.deviceWrites("DEVICE")
    }
    stage.claim("A plain load through the program's pointer sees it.", seen() == "before..DEVICE..")

    try stage.step("The driver unpins, and the address space gives the memory back.") {
      device.letGo()
      try space.release(adopted)
    }
    stage.claim(
      "Plain memory at the same address, and the frame is free.",
      space.areas.isEmpty && device.page.isFree)
    stage.find("the program reads", seen(), expected: "before..DEVICE..")
  }
}

/// How a call ended: "done", or the name of its error.
private func outcome(_ call: () throws(MemoryError) -> Void) -> String {
  do throws(MemoryError) {
    try call()
    return "done"
  } catch {
    return error.number.name
  }
}
