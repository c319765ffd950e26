//===----------------------------------------------------------------------===//
// Address arithmetic, exhaustively around the borders.
//===----------------------------------------------------------------------===//

import PageFrames
import Testing

@Suite("Quantities")
struct QuantitiesTests {
  static let borders: [UInt64] = [
    0, 1, 4095, 4096, 4097, 8191, 8192, 0x7fff_ffff_f000, 0x8000_0000_0000, .max - 4096,
    .max - 4095, .max,
  ]

  @Test("an address is its page's start plus its offset", arguments: borders)
  func pages(raw: UInt64) {
    let address = UserAddress(raw)
    #expect(address.pageStart.rawValue == raw / 4096 * 4096)
    #expect(address.pageOffset == Int(raw % 4096))
    #expect(address.isPageAligned == (raw % 4096 == 0))
    #expect(address.pageStart + ByteCount(address.pageOffset) == address)
  }

  @Test("adding and subtracting wrap at 2^64 and never trap", arguments: borders, borders)
  func arithmetic(a: UInt64, b: UInt64) {
    let distance = UserAddress(a) - UserAddress(b)
    #expect(UserAddress(b) + distance == UserAddress(a))
    #expect(distance.rawValue == Int(truncatingIfNeeded: a &- b))
    #expect((UserAddress(a) < UserAddress(b)) == (a < b))
    let range = UserRange(start: UserAddress(a), end: UserAddress(b))
    #expect(range.length.rawValue == Int(truncatingIfNeeded: b &- a))
    #expect(range.contains(UserAddress(a)) == (a < b))
    #expect(!range.contains(UserAddress(b)))
  }

  @Test("the pages that a length covers from an offset: ceil(offset + length)")
  func covering() {
    for offset in [0, 1, 2047, 4094, 4095] {
      for length in [0, 1, 2, 4095, 4096, 4097, 8191, 8192, 8193, 1 << 30] {
        var expected = (offset + length) / 4096
        if (offset + length) % 4096 != 0 { expected += 1 }
        #expect(PageCount(covering: ByteCount(length), from: offset).rawValue == expected)
      }
    }
    #expect(PageCount(covering: ByteCount(.max), from: 4095).rawValue == 1 << 51 + 1)
    let range = UserRange(start: UserAddress(4095), length: 2)
    #expect(range.pageCount == 2 && range.end == UserAddress(4097))
  }

  @Test("units")
  func units() {
    #expect(ByteCount.pages(3) == 12288 && PageCount(3).byteCount == .pages(3))
    #expect(ByteCount.kibibytes(4) == .pages(1) && ByteCount.mebibytes(1) == .kibibytes(1024))
    #expect(ByteCount.gibibytes(1) == .mebibytes(1024))
    var count: ByteCount = 5
    count += 3
    count -= 2
    #expect(count == 6 && count - 1 == 5 && PageCount(7) - 2 == 5 && PageCount(1) < 2)
    #expect("\(UserAddress(0x1f00))" == "0x1f00" && "\(PageFrameNumber(7))" == "pfn 7")
    #expect("\(UserRange(start: UserAddress(16), length: 16))" == "0x10..<0x20")
  }
}
