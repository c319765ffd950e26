//===----------------------------------------------------------------------===//
// What stands in for an output file: the bytes that arrive are compared with
// those that were sent.
//===----------------------------------------------------------------------===//

import Glibc

/// A sink that keeps nothing and accepts only the source's own bytes.
struct Comparison: ByteSink {
  let source: ByteSource

  mutating func take(_ bytes: UnsafeRawBufferPointer, at offset: Int) throws {
    guard bytes.count > 0 else { return }
    let expected = UnsafeMutableRawBufferPointer.allocate(
      byteCount: bytes.count, alignment: 16)
    defer { unsafe expected.deallocate() }
    try unsafe source.fill(expected, at: offset)
    guard
      unsafe memcmp(
        bytes.baseAddress.unsafelyUnwrapped, expected.baseAddress.unsafelyUnwrapped, bytes.count)
        == 0
    else {
      var index = 0
      while unsafe bytes[index] == expected[index] { index += 1 }
      throw Failure("the bytes differ from byte \(offset + index) on.")
    }
  }
}
