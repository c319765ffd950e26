//===----------------------------------------------------------------------===//
// pipe-hazard: extraction from a pipe, and why Linux gave it up (semantics A.6,
// A.8.4, F-04).
//===----------------------------------------------------------------------===//

import SwiftGUP

extension Lesson {
  static let pipeHazard = Lesson(
    name: "pipe-hazard",
    title: "pages of a pipe can go while the device writes to them",
    teaches: """
      The RFC extracts from a pipe: fresh pages, published in its ring, and no
      reference for the caller. Then somebody reverts the iterator.
      """,
    stakes: .dialect("nothing is copied on write."),
    told: .rfc,
    remember: [
      "A list of pages without a hold is a list of pages that somebody else may free.",
      "Linux deleted the pipe iterator over this, after devices had written to freed pages. The "
        + "RFC's dialect has it here; a page that goes while it is listed is reported.",
    ],
    seeAlso: ["partial-pin", "munmap-under-dma"]
  ) { stage in
    let pipe = PipeHolder(try Pipe(memory: stage.memory))
    stage.add(pipe)
    var end = try IOVIter(
      pipe: pipe.pipe, count: .pages(1), dialect: stage.policy.dialect)
    var outcome = ""
    var device: ExtractedBuffer?
    try stage.step("A driver extracts a page from a pipe: a device is to fill it.") {
      do {
        device = stage.extracted(try end.extractPages())
        outcome = device?.how == "-" ? "one page, nothing held" : "one page, held"
      } catch let error as MemoryError {
        outcome = error.number.name
      }
    }
    stage.find("extraction gives", outcome, expected: "EFAULT", rfc: "one page, nothing held")
    guard let device else {
      stage.claim("Refused: by this dialect a pipe cannot be extracted.", pipe.pages.isEmpty)
      stage.find("pages that went", "\(pipe.pipe.hazardCount)", expected: "0")
      return
    }
    stage.claim(
      "The page has one reference, the pipe's.", device.page.referenceCount == 1)

    try stage.step("The iterator is reverted: the transfer is not wanted any more.") {
      try end.revert(by: .pages(1))
    }
    stage.claim(
      "The pipe let go of its page, and the device still has it on its list.",
      device.page.isFree && !device.pages.isEmpty)
    stage.claim(
      "The pipe reported it.",
      pipe.pipe.hazards.map(\.frame) == [device.page.frameNumber]
        && pipe.pipe.hazards.map(\.cause) == [.revert])
    stage.find("pages that went", "\(pipe.pipe.hazardCount)", expected: "0", rfc: "1")
  }
}
