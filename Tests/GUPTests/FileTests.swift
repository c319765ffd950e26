//===----------------------------------------------------------------------===//
// GUP on mapped files: page-cache pages, dirty tracking, the end of the file.
//===----------------------------------------------------------------------===//

import AddressSpaces
import CShims
import GUP
import Glibc
import PageFrames
import TestSupport
import Testing

@Suite("GUP on mapped files")
struct FileTests {
  /// A file of `pages` pages, each beginning with its number plus 1.
  private func withFile(
    pages: Int, _ box: Sandbox, _ body: (MappedFile) throws -> Void
  ) throws {
    var path = Array("/tmp/gup-test-XXXXXX".utf8CString)
    let descriptor = unsafe path.withUnsafeMutableBufferPointer { unsafe mkstemp($0.baseAddress!) }
    try #require(descriptor >= 0)
    defer { close(descriptor) }
    unsafe path.withUnsafeBufferPointer { unsafe _ = unlink($0.baseAddress!) }
    for i in 0..<pages {
      var words = [UInt64](repeating: 0, count: 512)
      words[0] = UInt64(i) + 1
      let written = unsafe words.withUnsafeBytes { unsafe write(descriptor, $0.baseAddress!, 4096) }
      try #require(written == 4096)
    }
    try body(try MappedFile(duplicating: descriptor, memory: box.memory))
  }

  @Test(
    "C.6: past the end of the file is EFAULT, pages before it are kept", arguments: Entry.falling)
  func endOfFile(entry: Entry) throws {
    try withSandbox { box in
      try withFile(pages: 2, box) { file in
        let start = try box.space.map(file: file, length: .pages(4))
        let result = try box.take(entry, start, 4)
        let stop = MemoryError(.badAddress, .busError, start + .pages(2))
        #expect(result == GUPResult(pageCount: 2, stop: stop))
        #expect(box.taken(1).map { box.word($0) } == 2)
        box.release(entry, 2)
        #expect(box.refusal(entry, start + .pages(2), 1) == stop)
        box.space.exit()
      }
    }
  }

  @Test("C.5.2, G-10: a long pin for writing is refused where the file must hear of writes")
  func longTermWrite() throws {
    try withSandbox { box in
      try withFile(pages: 2, box) { file in
        let start = try box.space.map(file: file, length: .pages(2), protection: .readWrite)
        // Writable entries, so that the walk has its chance to be wrong.
        #expect(try box.take(.pinUserPagesFast, start, 2, .write).pageCount == 2)
        box.release(.pinUserPagesFast, 2)
        #expect(try box.take(.pinUserPagesFastOnly, start, 2, .write).pageCount == 2)
        box.release(.pinUserPagesFastOnly, 2)
        let long: GUPFlags = [.write, .longTerm]
        #expect(try box.take(.pinUserPagesFastOnly, start, 2, long).pageCount == 0)
        for entry in [Entry.pinUserPagesFast, .pinUserPages] {
          let error = box.refusal(entry, start, 2, long)
          #expect(error == MemoryError(.badAddress, .dirtyTrackingNeeded, start))
        }
        // For reading, and in a private mapping, there is nothing to hear of.
        #expect(try box.take(.pinUserPagesFast, start, 2, .longTerm).pageCount == 2)
        box.release(.pinUserPagesFast, 2)
        box.space.exit()
      }
    }
  }

  @Test("D.4, G-05: a short pin of a private file page takes the cache's, a long one a copy")
  func privateFile() throws {
    try withSandbox { box in
      try withFile(pages: 2, box) { file in
        let start = try box.space.map(
          file: file, length: .pages(2), protection: .readWrite, sharing: .private)
        #expect(try box.take(.pinUserPagesFast, start, 2).pageCount == 2)
        let cached = try #require(box.taken(1))
        #expect(!cached.isAnonymous)
        box.release(.pinUserPagesFast, 2)
        #expect(try box.take(.pinUserPagesFast, start, 2, .longTerm).pageCount == 2)
        let own = try #require(box.taken(1))
        #expect(own != cached)
        #expect(own.isAnonymousExclusive)
        #expect(box.word(own) == 2)
        box.release(.pinUserPagesFast, 2)
        #expect(
          Refusal(box.refusal(.pinUserPages, start, 1, .anonymous))
            == Refusal(.badAddress, .anonymousOnly))
        box.space.exit()
      }
    }
  }

  @Test("msync by who shows a page nowhere leaves it dirty for who stores to it")
  func syncBeside() throws {
    try withSandbox { box in
      try withFile(pages: 2, box) { file in
        let other = try AddressSpace(memory: box.memory)
        let idle = try other.map(file: file, length: .pages(2), protection: .readWrite)
        let start = try box.space.map(file: file, length: .pages(2), protection: .readWrite)
        try box.space.write([7], to: start)
        let page = try #require(box.space.page(at: start))
        try other.sync(idle, length: .pages(2))
        #expect(page.isDirty)
        // Who does show it has it write-protected, so that it hears of the next store.
        try box.space.sync(start, length: .pages(2))
        #expect(!page.isDirty && !box.space.isWritable(at: start))
        // And by another mapping of his own, which does not show it yet.
        let again = try box.space.map(file: file, length: .pages(2), protection: .readWrite)
        try box.space.write([8], to: start)
        try box.space.sync(again, length: .pages(2))
        #expect(page.isDirty)
        other.exit()
        box.space.exit()
      }
    }
  }

  @Test("C.9: what was released dirty reaches the file", arguments: [false, true])
  func dirtyRelease(dirty: Bool) throws {
    try withSandbox { box in
      try withFile(pages: 1, box) { file in
        let start = try box.space.map(file: file, length: .pages(1), protection: .readWrite)
        #expect(try box.take(.pinUserPagesFast, start, 1, .write).pageCount == 1)
        let page = try #require(box.taken(0))
        try box.space.sync(start, length: .pages(1))
        let wasDirty = page.isDirty
        // As a device writes: past the page table, which hears of nothing.
        unsafe page.bytes.storeBytes(of: 77, as: UInt64.self)
        #expect(unsafe unpinUserPagesDirtyLock(box.list, count: 1, dirty: dirty) == nil)
        #expect(page.isDirty == (dirty || wasDirty))
        box.space.exit()
      }
    }
  }
}
