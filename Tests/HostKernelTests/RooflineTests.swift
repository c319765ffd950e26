//===----------------------------------------------------------------------===//
// The C roofline must obey the rules that it is the measure of.
//===----------------------------------------------------------------------===//

import CShims
import HostKernel
import Testing

/// Page tables for 1,024 pages across two last-level tables, on scattered frames whose
/// descriptors are each held once, as by a mapping.
@safe final class RooflineMachine: @unchecked Sendable {
  static let pageCount = 1024
  /// The last page of the first table's 2 MiB is at index 511.
  static let address: UInt64 = 5 << 39 | 3 << 30 | 7 << 21
  static let bits = CSHIMS_PTE_PRESENT | CSHIMS_PTE_USER | CSHIMS_PTE_WRITE

  private let memory: HostBuffer
  let pgd: UnsafeMutablePointer<cshims_pte>
  let pmd: UnsafeMutablePointer<cshims_pte>
  let entries: UnsafeMutablePointer<cshims_pte>
  let pages: UnsafeMutablePointer<cshims_page>
  let out: UnsafeMutablePointer<UnsafeMutablePointer<cshims_page>?>

  init() throws(HostError) {
    // One table each of the upper levels, two of the last; then descriptors; then the list.
    memory = try HostBuffer(byteCount: 16 * pageSize)
    let base = unsafe memory.bytes.baseAddress.unsafelyUnwrapped
    func part<T>(_ page: Int, _ count: Int, of type: T.Type) -> UnsafeMutablePointer<T> {
      unsafe (base + page * pageSize).bindMemory(to: type, capacity: count)
    }
    unsafe pgd = part(0, 512, of: cshims_pte.self)
    let pud = unsafe part(1, 512, of: cshims_pte.self)
    unsafe pmd = part(2, 512, of: cshims_pte.self)
    unsafe entries = part(3, Self.pageCount, of: cshims_pte.self)
    unsafe pages = part(5, Self.pageCount, of: cshims_page.self)
    unsafe out = part(9, Self.pageCount, of: UnsafeMutablePointer<cshims_page>?.self)
    func show(_ table: UnsafeMutablePointer<cshims_pte>, in entry: UnsafeMutablePointer<cshims_pte>)
    {
      unsafe cshims_pte_store(entry, UInt64(UInt(bitPattern: table)) | Self.bits)
    }
    unsafe show(pud, in: pgd + 5)
    unsafe show(pmd, in: pud + 3)
    unsafe show(entries, in: pmd + 7)
    unsafe show(entries + 512, in: pmd + 8)
    for index in 0..<Self.pageCount {
      unsafe cshims_pte_store(entries + index, Self.entry(index))
      _ = unsafe cshims_page_ref_exchange(pages + index, CSHIMS_REF_FREE, 1)
    }
  }

  static func frame(_ index: Int) -> Int { index * 77 % pageCount }
  static func entry(_ index: Int) -> UInt64 { UInt64(frame(index)) << 12 | bits }
  func page(_ index: Int) -> UnsafeMutablePointer<cshims_page> {
    unsafe pages + Self.frame(index)
  }
  /// The pages whose count is not what it should be; short enough to be read.
  func deviations(from expected: (Int) -> UInt32) -> String {
    var text = ""
    for index in 0..<Self.pageCount where text.count < 200 {
      let count = unsafe cshims_page_ref_load(page(index))
      if count != expected(index) { text += "page \(index): \(count), not \(expected(index)). " }
    }
    return text
  }

  func grab(_ count: Int, bias: UInt32, byWalk: Bool) -> Int {
    byWalk
      ? unsafe cshims_roofline_walk(
        pgd, Self.address, count, Self.bits, Self.bits, pages, bias, out)
      : unsafe cshims_roofline_grab(entries, count, Self.bits, Self.bits, pages, bias, out)
  }
  func drop(_ count: Int, bias: UInt32) -> Int {
    unsafe cshims_roofline_drop(out, count, bias)
  }
}

@Suite("C roofline")
struct RooflineTests {
  @Test(
    "Grab adds the bias to each page once and names it, drop takes it back (C.4)",
    arguments: [CSHIMS_PIN_BIAS, 1], [false, true])
  func balance(bias: UInt32, byWalk: Bool) throws {
    let machine = try RooflineMachine()
    for count in [0, 1, 15, 16, 17, 511, 512, 513, 1024] {
      try #require(machine.grab(count, bias: bias, byWalk: byWalk) == count)
      #expect(machine.deviations { $0 < count ? 1 + bias : 1 } == "")
      #expect((0..<count).allSatisfy { unsafe machine.out[$0] == machine.page($0) })
      #expect(machine.drop(count, bias: bias) == 0)
    }
    #expect(machine.deviations { _ in 1 } == "")
  }

  enum Obstacle: CaseIterable, Sendable {
    case absent, readOnly, countOfZero, freePage, fullCount
  }

  @Test(
    "Grab stops before a page it may not take and leaves its count alone (C.3, C.4)",
    arguments: Obstacle.allCases, [0, 20, 511, 512, 1023])
  func obstacles(obstacle: Obstacle, index: Int) throws {
    let machine = try RooflineMachine()
    let entry = unsafe machine.entries + index
    let page = unsafe machine.page(index)
    switch obstacle {
    case .absent: unsafe cshims_pte_store(entry, 0)
    case .readOnly: unsafe cshims_pte_store(entry, RooflineMachine.entry(index) & ~CSHIMS_PTE_WRITE)
    case .countOfZero: #expect(unsafe cshims_page_ref_exchange(page, 1, 0))
    case .freePage: #expect(unsafe cshims_page_ref_exchange(page, 1, CSHIMS_REF_FREE))
    case .fullCount: #expect(unsafe cshims_page_ref_exchange(page, 1, CSHIMS_REF_MAX - 1023))
    }
    let before = unsafe cshims_page_ref_load(page)
    for byWalk in [false, true] {
      let taken = machine.grab(1024, bias: CSHIMS_PIN_BIAS, byWalk: byWalk)
      try #require(taken == index)
      _ = machine.drop(taken, bias: CSHIMS_PIN_BIAS)
      #expect(machine.deviations { $0 == index ? before : 1 } == "")
    }
  }

  @Test("Walk stops at absent tables, 2 MiB leaves and the end of user space (C.2, C.3)")
  func walkLimits() throws {
    let machine = try RooflineMachine()
    let second = unsafe cshims_pte_load(machine.pmd + 8)
    for value in [0, second | CSHIMS_PTE_HUGE] {
      unsafe cshims_pte_store(machine.pmd + 8, value)
      try #require(machine.grab(1024, bias: 1, byWalk: true) == 512)
      _ = machine.drop(512, bias: 1)
    }
    unsafe cshims_pte_store(machine.pmd + 8, second)
    for (address, count) in [
      (RooflineMachine.address + 2 << 21, 1), (0, 1), (CSHIMS_TASK_SIZE, 1),
      (CSHIMS_TASK_SIZE - 4096, 2), (.max, 1), (RooflineMachine.address, Int.max),
      (1 << 48 | RooflineMachine.address, 1),
    ] {
      #expect(
        unsafe cshims_roofline_walk(
          machine.pgd, address, count, RooflineMachine.bits, RooflineMachine.bits, machine.pages,
          1, machine.out) == 0)
    }
    #expect(machine.deviations { _ in 1 } == "")
  }

  @Test("Drop reports the pages whose count came to zero (C.4)")
  func lastDrop() throws {
    let machine = try RooflineMachine()
    try #require(machine.grab(32, bias: 1, byWalk: false) == 32)
    #expect(machine.drop(32, bias: 1) == 0)
    #expect(machine.drop(32, bias: 1) == 32)
    #expect(machine.deviations { $0 < 32 ? 0 : 1 } == "")
  }

  @Test(
    "Fork's loop counts each page once, copies its entry write-protected, and stops where none is",
    arguments: [0, 1, 511, 512, 513, 1023, 1024])
  func forkLoop(absent: Int) throws {
    let machine = try RooflineMachine()
    if absent < 1024 { unsafe cshims_pte_store(machine.entries + absent, 0) }
    let copy = UnsafeMutablePointer<cshims_pte>.allocate(capacity: 1024)
    defer { unsafe copy.deallocate() }
    unsafe copy.initialize(repeating: cshims_pte(), count: 1024)
    let count = unsafe cshims_roofline_fork(
      machine.pgd, RooflineMachine.address, 1024, machine.pages, copy)
    try #require(count == absent)
    #expect(machine.deviations { $0 < count ? 2 : 1 } == "")
    for i in 0..<count {
      #expect(unsafe cshims_page_map_load(machine.page(i)) == 1)
      let expected = RooflineMachine.entry(i) & ~CSHIMS_PTE_WRITE
      #expect(unsafe cshims_pte_load(copy + i) == expected)
    }
    unsafe cshims_roofline_unfork(copy, count, machine.pages)
    #expect(machine.deviations { _ in 1 } == "")
  }

  @Test("Adoption's floor keeps the bytes, and makes the memory the file's and private again")
  func adoptionFloor() throws {
    let buffer = try HostBuffer(byteCount: 16 << 12)
    var file: Int32 = -1
    var frames: UnsafeMutableRawPointer?
    try #require(unsafe cshims_memfd_create("roofline", 16 << 12, &file) == 0)
    defer { _ = cshims_close(file) }
    try #require(unsafe cshims_map_memfd(file, 16 << 12, 4096, &frames) == 0)
    let window = unsafe UnsafeMutableRawBufferPointer(start: frames, count: 16 << 12)
    defer { _ = cshims_unmap(UInt64(UInt(bitPattern: frames)), 16 << 12) }
    let base = unsafe buffer.bytes.baseAddress
    for page in 0..<16 { unsafe buffer.bytes[page << 12 + 5] = UInt8(page + 1) }

    try #require(unsafe cshims_roofline_adopt(base, 16, frames, file) == 0)
    unsafe buffer.bytes[3 << 12] = 0x33
    #expect(unsafe window[3 << 12] == 0x33)
    try #require(unsafe cshims_roofline_release(base, 16, frames) == 0)
    unsafe window[3 << 12] = 0
    #expect(unsafe buffer.bytes[3 << 12] == 0x33)
    for page in 0..<16 {
      #expect(unsafe buffer.bytes[page << 12 + 5] == UInt8(page + 1))
      #expect(unsafe window[page << 12 + 5] == UInt8(page + 1))
    }
  }

  @Test("A grab that succeeds is seen by whoever unmaps the page and looks at its count (G3)")
  func unmappingRace() async throws {
    let machine = try RooflineMachine()
    // Takes pages out of the table; one that nobody else holds gets a new owner for a while,
    // and its map count says so. No grab may then have it.
    async let givenAway = {
      var count = 0
      for round in 0..<300_000 {
        let index = round * 3 % 8
        let (entry, page) = unsafe (machine.entries + index, machine.page(index))
        let value = unsafe cshims_pte_exchange(entry, 0)
        if unsafe cshims_page_ref_exchange(page, 1, CSHIMS_REF_FREE) {
          // A grab that is about to back out makes this fail for a moment.
          while unsafe !cshims_page_ref_exchange(page, CSHIMS_REF_FREE, 1) {}
          _ = unsafe cshims_page_map_fetch_add(page, 1)
          for _ in 0..<50 { _ = unsafe cshims_pte_load(entry) }
          _ = unsafe cshims_page_map_fetch_sub(page, 1)
          count += 1
        }
        unsafe cshims_pte_store(entry, value)
      }
      return count
    }()
    var wronglyTaken = 0
    for round in 0..<600_000 {
      // Few pages at a time: on most of them the other side meets nobody else's count.
      let index = round * 5 % 7
      let taken = unsafe cshims_roofline_grab(
        machine.entries + index, 2, RooflineMachine.bits, RooflineMachine.bits, machine.pages,
        CSHIMS_PIN_BIAS, machine.out)
      for index in index..<index + taken
      where unsafe cshims_page_map_load(machine.page(index)) != 0 {
        wronglyTaken += 1
      }
      _ = machine.drop(taken, bias: CSHIMS_PIN_BIAS)
    }
    #expect(await givenAway > 0)
    #expect(wronglyTaken == 0)
    #expect(machine.deviations { _ in 1 } == "")
  }
}
