//===----------------------------------------------------------------------===//
// Folios as the allocator sees them: taken whole, at home or anywhere, dissolved
// into single pages, and the homes that areas of folios get.
//===----------------------------------------------------------------------===//

import CShims
import PageFrames
import TestSupport
import Testing

@Suite("Folios in the allocator")
struct FolioFrameTests {
  @Test(
    "a folio takes its home if all of it is free, else any block, else nothing", arguments: 1...9)
  func home(order: Int) throws {
    try withMachine(capacity: .mebibytes(8)) { memory in
      let machine = memory.machine
      let count = 1 << order
      let home = Machine.reservedFrames + UInt64(3 * count)
      let first = try #require(machine.allocateFolio(near: home, order: order, flags: 0))
      #expect(first == home && machine.freeFrameCount == 2048 - count)
      #expect(machine.page(first + UInt64(count) - 1).folioHead == machine.page(first))
      // Taken, misaligned, outside: elsewhere, and aligned.
      for other in [home, home + 1, 0, machine.frameCount - 1, UInt64.max, nil] {
        let frame = try #require(machine.allocateFolio(near: other, order: order, flags: 0))
        #expect(frame != other && frame & UInt64(count - 1) == 0)
        machine.page(frame).release(.reference)
      }
      // Half of the home is taken: none of the rest is lost.
      machine.page(first).release(.reference)
      let late = home + UInt64(count / 2)
      #expect(machine.allocateRun(at: late, count: 1, flags: 0) == 1)
      let frame = try #require(machine.allocateFolio(near: home, order: order, flags: 0))
      #expect(frame != home && machine.freeFrameCount == 2048 - count - 1)
      machine.page(frame).release(.reference)
      machine.page(late).release(.reference)
      #expect(machine.freeFrameCount == 2048)
    }
  }

  @Test("a folio is given back to the host as a whole, and reads as zeroes again")
  func punched() throws {
    try withMachine { memory in
      let page = try memory.allocatePage(order: 9)
      let bytes = unsafe memory.machine.address(ofFrame: page.frameNumber.rawValue)
      for i in 0..<512 { unsafe (bytes + i * 4096).storeBytes(of: 7, as: UInt8.self) }
      let resident = memory.residentBytes
      page.put()
      #expect(memory.residentBytes <= resident - .mebibytes(2))
      let again = try memory.allocatePage(order: 9)
      #expect(unsafe again.bytes[0] == 0)
      again.put()
    }
  }

  @Test("mappings of a folio are counted by page and by leaf")
  func mapCounts() throws {
    try withMachine { memory in
      let head = try memory.allocatePage(order: 9)
      let page = memory.machine.page(head.frameNumber.rawValue + 7)
      unsafe _ = cshims_page_leaf_fetch_add(head.descriptor, 2)
      unsafe _ = cshims_page_map_fetch_add(page.descriptor, 3)
      #expect(head.mapCount == 2 && page.mapCount == 5 && page.folioMapCount == 5)
      #expect(head.pinCount == 0 && !page.mayBePinned)
      unsafe _ = cshims_page_leaf_fetch_sub(head.descriptor, 2)
      unsafe _ = cshims_page_map_fetch_sub(page.descriptor, 3)
      #expect(page.mapCount == 0 && head.folioMapCount == 0)
      head.put()
    }
  }

  @Test("dissolved, a folio is single pages, and those that nobody wants are free")
  func dissolved() throws {
    try withMachine(capacity: .mebibytes(4)) { memory in
      let machine = memory.machine
      let frame = try #require(machine.allocateFolio(near: nil, order: 4, flags: 0))
      let head = machine.page(frame)
      #expect(unsafe cshims_page_ref_exchange(head.descriptor, 1, CSHIMS_REF_FREE))
      let kept = [0, 3, 4, 15]
      machine.dissolve(frame, order: 4) { kept.contains($0) ? CSHIMS_PAGE_ANON : nil }
      #expect(machine.freeFrameCount == 1024 - kept.count)
      for i in 0..<16 {
        let page = machine.page(frame + UInt64(i))
        #expect(page.folioOrder == 0 || page.isFree)
        #expect(page.isFree == !kept.contains(i))
        if kept.contains(i) { page.release(.reference) }
      }
      #expect(machine.freeFrameCount == 1024)
    }
  }

  @Test("homes for folios stand at their pages' places within 2 MiB, as long as there is room")
  func spans() throws {
    try withMachine(capacity: .mebibytes(16)) { memory in
      let machine = memory.machine
      for (count, page) in [(16, 0x7f0 as UInt64), (600, 0x1005), (1, 0x3ff), (512, 0x2000)] {
        let home = try #require(
          machine.reserveSpan(count: count, page: page, forFolios: true))
        #expect((home ^ page) & 511 == 0)
        // What precedes it went back: it can be had.
        if home & 511 > 0 {
          let before = home & ~511
          #expect(machine.reserveSpan(count: Int(home & 511), preferred: before) == before)
          machine.releaseSpan(before, count: Int(home & 511))
        }
        // A neighbour is continued only where that stays so.
        let next = home + UInt64(count)
        let follows = machine.reserveSpan(
          count: 8, preferred: next, page: page + UInt64(count), forFolios: true)
        #expect(follows == next)
        machine.releaseSpan(next, count: 8)
        machine.releaseSpan(home, count: count)
      }
      let all = try #require(machine.reserveSpan(count: 4096 - 3, page: 5, forFolios: true))
      #expect(all == Machine.reservedFrames)
      machine.releaseSpan(all, count: 4096 - 3)
    }
  }
}
