//===----------------------------------------------------------------------===//
// Pins by io_uring: as many as there are pages, and all of them given back.
//===----------------------------------------------------------------------===//

import CShims
import HostKernel
import Testing

extension HostKernelTests {
  @Suite(
    "Pins",
    .enabled(if: host.pinsError == nil, "\(host.pinsError?.description ?? "")"))
  struct Pins {
    /// Runs `body`, which must pin and unpin `pageCount` pages, and holds the kernel's counters
    /// against that; says so where they cannot be compared.
    private func expectBalance(of pageCount: Int, in body: () throws -> Void) throws {
      if let error = host.countersError {
        print("pins not counted: \(error)")
        return try body()
      }
      let before = try HostCounters.read()
      try body()
      let after = try HostCounters.read()
      guard before.isExact, after.isExact else {
        return print("pins not compared: the kernel's counters lag without root")
      }
      #expect(after.pinsAcquired(since: before) >= pageCount)
      // Inside huge pages, io_uring gives all pins but one per huge page back at once.
      #expect(after.pinsReleased(since: before) >= pageCount)
    }

    private func cancelBeyondLimit(_ byteCount: Int) throws {
      // Some kernels count the ring, too.
      let needed = UInt64(byteCount) + 1 << 16
      if !host.mayLockWithoutLimit, let limit = host.memlockLimit, limit < needed {
        try Test.cancel("RLIMIT_MEMLOCK is \(limit) bytes, the test needs \(needed)")
      }
    }

    @Test(
      "Pin and unpin count each base page once, huge or not (C.10)",
      arguments: [1, 16, 256, 1024], [HostBuffer.HugePages.forbidden, .wanted])
    func balance(pageCount: Int, hugePages: HostBuffer.HugePages) throws {
      if hugePages == .wanted, host.hugePages == nil {
        try Test.cancel("this kernel has no transparent huge pages")
      }
      let buffer = try HostBuffer(byteCount: pageCount * pageSize, hugePages: hugePages)
      try cancelBeyondLimit(buffer.byteCount)
      var pins = try HostPins()
      try expectBalance(of: 3 * pageCount) {
        for _ in 0..<3 {
          try pins.pin(buffer)
          #expect(pins.pinnedByteCount == buffer.byteCount)
          try pins.unpin()
          #expect(pins.pinnedByteCount == 0)
        }
      }
    }

    @Test("The end of the owner unpins before it returns")
    func endOfOwner() throws {
      let buffer = try HostBuffer(byteCount: 16 * pageSize)
      try cancelBeyondLimit(buffer.byteCount)
      try expectBalance(of: 16) {
        var pins = try HostPins()
        try pins.pin(buffer)
      }
    }

    @Test("Pins outlive the mapping: who holds a count keeps the page (C.4)")
    func outlivingTheMapping() throws {
      try cancelBeyondLimit(4 * pageSize)
      var pins = try HostPins()
      do {
        let buffer = try HostBuffer(byteCount: 4 * pageSize)
        try pins.pin(buffer)
      }
      #expect(pins.pinnedByteCount == 4 * pageSize)
      try pins.unpin()
      #expect(pins.pinnedByteCount == 0)
    }

    @Test("Refusals name the reason and leave the ring usable")
    func refusals() throws {
      let buffer = try HostBuffer(byteCount: 2 * pageSize)
      try cancelBeyondLimit(buffer.byteCount)
      var pins = try HostPins()
      func error(_ body: (inout HostPins) throws(HostError) -> Void) -> HostError? {
        failure { () throws(HostError) in try body(&pins) }
      }
      let nothing = error { pins throws(HostError) in try pins.unpin() }
      #expect(nothing?.errno == ENXIO)
      let empty = error { pins throws(HostError) in
        try unsafe pins.pin(UnsafeRawBufferPointer(start: nil, count: 0))
      }
      #expect(empty?.errno == EINVAL)
      let forbidden = error { pins throws(HostError) in
        try unsafe pins.pin(guardPage(after: buffer, from: pageSize))
      }
      #expect(forbidden?.errno == EFAULT)
      #expect(forbidden?.hint.isEmpty == false)

      try pins.pin(buffer)
      let second = error { pins throws(HostError) in try pins.pin(buffer) }
      #expect(second?.errno == EBUSY)
      #expect(pins.pinnedByteCount == buffer.byteCount)
      try pins.unpin()
      #expect(pins.pinnedByteCount == 0)
    }
  }
}
