//===----------------------------------------------------------------------===//
// Consumers of pipes, whose pages nobody holds for them.
//===----------------------------------------------------------------------===//

import AddressSpaces
import PageExtraction
import PageFrames
import Testing

@Suite("Pipes as consumers see them")
struct PipeConsumerTests {
  @Test("F-04: bvecs of a pipe are listed until they are released, and no longer")
  func listed() throws {
    try withMixedMemory { mixed in
      var iterator = try mixed.iterator(.pipe, .destination, .rfc)
      let bvecs = try iterator.extractBVecs(maxSize: 5000)
      #expect(bvecs.bvecs.map(\.length) == [4096, 904])
      let more = try iterator.extractBVecs(maxSize: 100)
      #expect(more[0].page == bvecs[1].page && more[0].offset == 904)
      try iterator.revert(by: 100)
      // The page stays: the first extraction's bytes are in it.
      #expect(mixed.pipe.hazardCount == 0)
      try iterator.revert(by: 1000)
      #expect(mixed.pipe.hazardCount == 1)
      bvecs.release()
      more.release()
      try iterator.revert(by: 4000)
      #expect(mixed.pipe.hazardCount == 1 && mixed.pipe.bufferCount == 0)
    }
  }

  @Test("G, F-04: blocks that are not whole go back to the pipe, unreported")
  func blocks() throws {
    try withMixedMemory { mixed in
      var iterator = try mixed.iterator(.pipe, .destination, .rfc)
      try iterator.truncate(to: 9000)
      var bio = try Bio(memory: mixed.space.memory)
      let added = try bio.addPages(from: &iterator)
      #expect(added.length == 8704 && iterator.count == 296)
      #expect(bio.bvecs.map(\.length) == [4096, 4096, 512])
      #expect(mixed.pipe.byteCount == 8704 && mixed.pipe.hazardCount == 0)
      #expect(mixed.pipe.segments.map(\.page) == bio.bvecs.map(\.page))
      bio.release()
      // A full ring: what fits is a success.
      var rest = try IOVIter(pipe: mixed.pipe, count: 100_000)
      var large = try Bio(memory: mixed.space.memory, logicalBlockSize: 4096)
      let filled = try large.addPages(from: &rest)
      #expect(filled.length == .pages(5) && filled.stop == .ringFull)
      #expect(errorNumber { _ = try large.addPages(from: &rest) } == .badAddress)
    }
  }

  @Test("F-23: bytes that cannot be had whole are taken back from the pipe")
  func exact() throws {
    try withMixedMemory { mixed in
      var iterator = try IOVIter(pipe: mixed.pipe, count: 100_000)
      #expect(errorNumber { try iterator.extractPagesExactly(40_000).release() } == .badAddress)
      #expect(errorNumber { try iterator.extractBVecsExactly(40_000).release() } == .badAddress)
      #expect(iterator.count == 100_000 && mixed.pipe.bufferCount == 0)
      #expect(mixed.pipe.hazardCount == 0)
      #expect(try iterator.extractBVecsExactly(32_768).count == 8)
    }
  }
}
