//===----------------------------------------------------------------------===//
// One more pin on a pinned page, and the counter drift that comes with it.
//===----------------------------------------------------------------------===//

import AddressSpaces
import GUP
import PageExtraction
import PageFrames
import Testing

@Suite("More pins on a page")
struct AddPinTests {
  @Test("C.4, C.10: an added pin is not counted as acquired, its release is", arguments: [0, 3])
  func drift(order: Int) throws {
    let memory = try PhysicalMemory(capacity: .mebibytes(8), trapTier: .none)
    let folio = try memory.allocatePage(order: order)
    #expect(throws: MemoryError(.invalid, .pageNotPinned, folio.frameNumber.rawValue)) {
      try folio.addPin()
    }
    try folio.addPins(2)
    #expect(folio.pinCount == 2)
    #expect(memory.counters.pinsAcquired == 2)
    try folio.addPin()
    #expect(folio.pinCount == 3 && memory.counters.pinsAcquired == 2)
    #expect(folio.referenceCount == 1 + 3 * (order == 0 ? 1024 : 1))
    for _ in 0..<3 { unpinUserPage(folio) }
    #expect(folio.referenceCount == 1 && folio.pinCount == 0)
    // The drift: as many as were added.
    #expect(memory.counters.pinsReleased - memory.counters.pinsAcquired == 1)
    #expect(throws: MemoryError(.invalid, .countNegative, -1)) { try folio.addPins(-1) }
    #expect(throws: MemoryError(.outOfMemory, .countOverflow, Int(folio.frameNumber.rawValue))) {
      try folio.addPins(order == 0 ? 1 << 21 : 1 << 31)
    }
    try folio.addPins(0)
    #expect(folio.referenceCount == 1)
    folio.put()
    #expect(memory.freeFrameCount == memory.totalFrameCount)
  }

  @Test("G: a page is passed on with a pin of its own, and the taker's is dropped")
  func passOn() throws {
    let memory = try PhysicalMemory(capacity: .mebibytes(8), trapTier: .none)
    let space = try AddressSpace(memory: memory)
    let base = try space.filledArea(1)
    var iterator = try IOVIter(ubuf: base, count: 100, direction: .destination, in: space)
    let extraction = try iterator.extractPages()
    let page = extraction[0]
    try page.addPin()
    extraction.release()
    #expect(page.mayBePinned && page.pinCount == 1)
    unpinUserPage(page)
    #expect(!page.mayBePinned)
    #expect(memory.counters.pinsAcquired == 1 && memory.counters.pinsReleased == 2)
    space.exit()
    #expect(memory.freeFrameCount == memory.totalFrameCount)
  }

  @Test("C.4: the zero page counts no pins")
  func zeroPage() throws {
    let memory = try PhysicalMemory(capacity: .mebibytes(8), trapTier: .none)
    try memory.zeroPage.addPin()
    try memory.zeroPage.addPins(5)
    #expect(memory.zeroPage.referenceCount == 1)
    #expect(memory.counters.pinsAcquired == 0)
  }
}
