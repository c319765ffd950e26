//===----------------------------------------------------------------------===//
// References by vmsplice: up to the pipe's capacity, and all of them dropped.
//===----------------------------------------------------------------------===//

import CShims
import HostKernel
import Testing

extension HostKernelTests {
  @Suite(
    "References",
    .enabled(if: host.referencesError == nil, "\(host.referencesError?.description ?? "")"))
  struct References {
    @Test(
      "Get takes every page of a buffer that fits, put drops them all",
      arguments: [0, 1, 16 * pageSize, 16 * pageSize - 100])
    func getAndPut(byteCount: Int) throws {
      let buffer = try HostBuffer(byteCount: 16 * pageSize)
      let slice = unsafe UnsafeRawBufferPointer(
        UnsafeMutableRawBufferPointer(rebasing: buffer.bytes.suffix(byteCount)))
      var references = try HostReferences(capacity: buffer.byteCount)
      #expect(references.capacity >= buffer.byteCount)
      for _ in 0..<3 {
        #expect(try unsafe references.get(slice) == byteCount)
        #expect(references.heldByteCount == byteCount)
        try references.put()
        #expect(references.heldByteCount == 0)
      }
    }

    @Test("A full pipe stops the get without an error and without blocking")
    func fullPipe() throws {
      var references = try HostReferences(capacity: 4 * pageSize)
      let buffer = try HostBuffer(byteCount: references.capacity + 8 * pageSize)
      for _ in 0..<2 {
        #expect(try references.get(buffer) == references.capacity)
        #expect(try references.get(buffer) == 0)
        #expect(references.heldByteCount == references.capacity)
        try references.put()
      }
      #expect(references.heldByteCount == 0)
    }

    @Test("An absent page ends the get with EFAULT; what came before is held")
    func absentPage() throws {
      let buffer = try HostBuffer(byteCount: 4 * pageSize)
      var references = try HostReferences(capacity: 16 * pageSize)
      let error = failure { () throws(HostError) in
        _ = try unsafe references.get(guardPage(after: buffer, from: pageSize))
      }
      #expect(error?.errno == EFAULT)
      #expect(references.heldByteCount == 3 * pageSize)
      try references.put()
      try references.put()
      #expect(references.heldByteCount == 0)
    }

    @Test("A negative capacity is refused, a huge one comes down to what is allowed")
    func capacities() throws {
      let negative = failure { () throws(HostError) in
        _ = try HostReferences(capacity: -1)
      }
      #expect(negative?.errno == EINVAL)
      for capacity in [0, 1, 1 << 20, Int.max] {
        #expect(try HostReferences(capacity: capacity).capacity >= pageSize)
      }
    }
  }
}
