//===----------------------------------------------------------------------===//
// The running kernel as a witness: that our ways to make it pin and reference
// pages do what they say. One test at a time, because the kernel's counters are
// everybody's; they are evidence (at least so many pins), never exact.
//
// What this host lacks is skipped with the kernel's own reason.
//===----------------------------------------------------------------------===//

import CShims
import Glibc
import HostKernel
import Testing

let host = HostCapabilities.probe()
let pageSize = Int(CSHIMS_PAGE_SIZE)

@Suite("Host kernel", .serialized)
struct HostKernelTests {}

/// The error that `body` throws; nil when it throws none.
func failure(of body: () throws(HostError) -> Void) -> HostError? {
  do throws(HostError) {
    try body()
    return nil
  } catch {
    return error
  }
}

/// Memory that is mapped but that nobody may touch: the guard page after a buffer.
func guardPage(after buffer: borrowing HostBuffer, from offset: Int) -> UnsafeRawBufferPointer {
  let start = unsafe buffer.bytes.baseAddress.unsafelyUnwrapped + offset
  return unsafe UnsafeRawBufferPointer(
    start: start, count: buffer.byteCount - offset + pageSize)
}

extension HostKernelTests {
  @Test("fork(2): a child that ends at once, waited for or let go, leaves no zombie")
  func children() throws {
    let waitedFor = try HostChild()
    let first = waitedFor.processID
    #expect(kill(first, 0) == 0)
    waitedFor.wait()
    #expect(kill(first, 0) == -1 && errno == ESRCH)
    let second: Int32
    do {
      let letGo = try HostChild()
      second = letGo.processID
    }
    #expect(kill(second, 0) == -1 && errno == ESRCH)
  }

  @Suite("Capabilities")
  struct Capabilities {
    @Test("Probing works on any host, again and again, and says what each lack costs")
    func probing() {
      for _ in 0..<8 { _ = HostCapabilities.probe() }
      for finding in host.findings {
        print("\(finding.isAvailable ? "has  " : "lacks") \(finding)")
        #expect(!finding.name.isEmpty)
        #expect(!finding.value.isEmpty)
        #expect(finding.costOfLack.hasSuffix("."))
      }
      #expect(host.processorCount > 0)
      #expect(host.memoryByteCount > 0)
    }

    @Test("An error names the call, the errno and the way out")
    func errorDescription() {
      let error = HostError(operation: "vmsplice(2) of 1 bytes", errno: EFAULT, hint: "Map it.")
      #expect(error.description == "vmsplice(2) of 1 bytes: EFAULT 14 (Bad address). Map it.")
      #expect(HostError(operation: "x", errno: 4000).description == "x: errno 4000 (unknown error)")
    }
  }

  @Suite("Buffers")
  struct Buffers {
    @Test("A buffer is zeroed, aligned and writable", arguments: HostBuffer.HugePages.allCases)
    func contents(hugePages: HostBuffer.HugePages) throws {
      if hugePages == .wanted, host.hugePages == nil {
        try Test.cancel("this kernel has no transparent huge pages")
      }
      let buffer = try HostBuffer(byteCount: 4 << 20, hugePages: hugePages)
      #expect(buffer.pageCount == 1024)
      let bytes = unsafe buffer.bytes
      #expect(UInt(bitPattern: bytes.baseAddress) % (2 << 20) == 0)
      #expect(unsafe bytes.allSatisfy { $0 == 0 })
      unsafe bytes[buffer.byteCount - 1] = 1
      let huge = try buffer.hugeByteCount()
      if hugePages == .forbidden { #expect(huge == 0) }
      #expect(huge <= buffer.byteCount)
    }

    @Test(
      "A size that is not a positive number of pages is refused by name",
      arguments: [0, -4096, 1, 4097, .max, .min])
    func badSizes(byteCount: Int) {
      let error = failure { () throws(HostError) in
        _ = try HostBuffer(byteCount: byteCount)
      }
      #expect(error?.errno == EINVAL)
      #expect(error?.operation.contains("\(byteCount)") == true)
    }

    @Test("More memory than there is is refused")
    func tooMuch() {
      let error = failure { () throws(HostError) in
        _ = try HostBuffer(byteCount: Int.max - Int.max % pageSize)
      }
      #expect(error?.errno == ENOMEM)
    }
  }
}
