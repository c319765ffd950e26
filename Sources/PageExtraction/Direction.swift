//===----------------------------------------------------------------------===//
// Which way the data goes, seen from the buffer.
//===----------------------------------------------------------------------===//

/// The role of a buffer in a transfer (the kernel's `data_source`).
public enum Direction: UInt8, Sendable, CaseIterable {
  /// Data goes into the buffer: a read, ITER_DEST.
  case destination
  /// Data comes out of the buffer: a write, ITER_SOURCE.
  case source
}
