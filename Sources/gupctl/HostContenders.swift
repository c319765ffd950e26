//===----------------------------------------------------------------------===//
// The running kernel as a contender, on memory of its own: as many present
// pages of 4 KiB, alone or inside huge pages, pinned by io_uring or referenced by
// vmsplice. It holds one range at a time, so its blocks are single calls.
//===----------------------------------------------------------------------===//

import HostKernel

/// Memory of this process that the kernel pins.
final class HostMemory {
  private let buffer: HostBuffer

  /// - Parameter huge: in huge pages, every byte of it. `byteCount` is then whole
  ///   ones.
  init(byteCount: Int, huge: Bool = false) throws(HostError) {
    buffer = try HostBuffer(byteCount: byteCount, hugePages: huge ? .wanted : .forbidden)
    guard huge else { return }
    let got = try buffer.hugeByteCount()
    if got < byteCount {
      throw HostError(
        operation: "a buffer of \(byteCount) bytes in huge pages", errno: 12,
        hint: """
          \(got) bytes became huge: the kernel has no more to give, or \
          /sys/kernel/mm/transparent_hugepage/enabled forbids them.
          """)
    }
  }

  /// Its first pages.
  func bytes(pages: Int) -> UnsafeRawBufferPointer {
    unsafe UnsafeRawBufferPointer(rebasing: buffer.bytes[..<(pages << 12)])
  }
}

final class HostPinContender: Contender {
  private let memory: HostMemory
  private let pages: Int
  private var pins: HostPins
  let blockLimit = 1

  init(_ memory: HostMemory, pages: Int) throws {
    self.memory = memory
    self.pages = pages
    pins = try HostPins()
  }

  func take(_ count: Int) throws { try unsafe pins.pin(memory.bytes(pages: pages)) }
  func give(_ count: Int) throws { try pins.unpin() }
}

final class HostGetContender: Contender {
  private let memory: HostMemory
  private let pages: Int
  private var references: HostReferences
  let blockLimit = 1

  init(_ memory: HostMemory, pages: Int) throws {
    self.memory = memory
    self.pages = pages
    references = try HostReferences(capacity: pages << 12)
    guard references.capacity >= pages << 12 else {
      throw HostError(
        operation: "a pipe with room for \(pages) pages", errno: 1,
        hint: "It got \(references.capacity >> 12); /proc/sys/fs/pipe-max-size is the limit.")
    }
  }

  func take(_ count: Int) throws {
    let taken = try unsafe references.get(memory.bytes(pages: pages))
    guard taken == pages << 12 else {
      throw Failure("vmsplice took \(taken) bytes of \(pages << 12).")
    }
  }

  func give(_ count: Int) throws { try references.put() }
}
