//===----------------------------------------------------------------------===//
// Semantics D.2: what fork does with entries that show no anonymous page, or
// none at all. Anonymous pages have their scenarios in ForkScenarioTests.
//===----------------------------------------------------------------------===//

import AddressSpaces
import GUP
import Glibc
import PageFrames
import TestSupport
import Testing

@Suite("D.2: fork, entry by entry")
struct ForkEntryTests {
  @Test("D.2.1: the zero page is shown to the child, counted by nobody, and replaced by a store")
  func zeroPage() throws {
    try withSandbox { box in
      let start = try box.map(pages: 3)
      try box.load(start, pages: 2)
      let zero = box.memory.zeroPage
      let child = try box.space.fork()
      defer { child.exit() }
      for space in [box.space, child] {
        #expect(space.page(at: start) == zero && space.page(at: start + .pages(1)) == zero)
        #expect(space.page(at: start + .pages(2)) == nil)
      }
      #expect(zero.referenceCount == 1 && zero.mapCount == 0)
      #expect(box.memory.freeFrameCount == box.memory.totalFrameCount)

      try child.write([7], to: start)
      try box.store(start + .pages(1), pages: 1)
      #expect(try box.space.read(1, at: start) == [0] && box.page(start) == zero)
      #expect(try child.read(1, at: start + .pages(1)) == [0])
      #expect(child.page(at: start)?.isAnonymousExclusive == true)
      #expect(zero.referenceCount == 1)
    }
  }

  @Test("D.2.2, G-07: a file's page is shared at fork, however it is held", arguments: Entry.fast)
  func filePage(entry: Entry) throws {
    try withSandbox { box in
      try withFilePage(box) { file in
        let start = try box.space.map(
          file: file, length: .pages(1), protection: .readWrite, sharing: .private)
        #expect(try box.take(entry, start, 1).pageCount == 1)
        let page = try #require(box.taken(0))
        #expect(!page.isAnonymous)
        let (references, maps) = (page.referenceCount, page.mapCount)
        let child = try box.space.fork()
        #expect(child.page(at: start) == page && box.space.page(at: start) == page)
        #expect(page.referenceCount == references + 1 && page.mapCount == maps + 1)

        // Each side's store leaves the file's page, and the other side, alone.
        try child.write([1], to: start)
        try box.space.write([2], to: start)
        #expect(try child.read(1, at: start) == [1] && box.space.read(1, at: start) == [2])
        #expect(box.word(page) == 42)
        #expect(page.referenceCount == references - 1 && page.mapCount == maps - 1)
        box.release(entry, 1)
        child.exit()
        box.space.exit()
      }
    }
  }

  /// A file of one page that begins with 42.
  private func withFilePage(_ box: Sandbox, _ body: (MappedFile) throws -> Void) throws {
    var path = Array("/tmp/gup-test-XXXXXX".utf8CString)
    let descriptor = unsafe path.withUnsafeMutableBufferPointer { unsafe mkstemp($0.baseAddress!) }
    try #require(descriptor >= 0)
    defer { close(descriptor) }
    unsafe path.withUnsafeBufferPointer { unsafe _ = unlink($0.baseAddress!) }
    var words = [UInt64](repeating: 0, count: 512)
    words[0] = 42
    let written = unsafe words.withUnsafeBytes { unsafe write(descriptor, $0.baseAddress!, 4096) }
    try #require(written == 4096)
    try body(try MappedFile(duplicating: descriptor, memory: box.memory))
  }
}
