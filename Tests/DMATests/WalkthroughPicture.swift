//===----------------------------------------------------------------------===//
// A picture of what a machine holds, in lines: areas, page-table entries, the
// frames that were seen in them, counters. Addresses count from the first
// mapping, frames from the first one seen, so that every run draws the same.
//===----------------------------------------------------------------------===//

import AddressSpaces
import CShims
import PageFrames
import TestSupport

/// Draws the state of one machine.
struct Picture {
  private let memory: PhysicalMemory
  /// Address A.
  private var origin: UInt64?
  /// Frames F, G, H, ...: each the first of frames that follow one another.
  private var bases: [UInt64] = []
  /// The frames seen so far, in order.
  private var frames: [UInt64] = []

  init(of memory: PhysicalMemory) { self.memory = memory }

  /// The picture now, of one address space or of a parent and its child.
  mutating func lines(_ spaces: [AddressSpace]) -> [String] {
    var lines: [String] = []
    let titles = spaces.count > 1 ? ["parent:", "child:"] : []
    let indent = titles.isEmpty ? "" : "  "
    for (i, space) in spaces.enumerated() {
      if !titles.isEmpty { lines.append(titles[i]) }
      let areas = space.areas
      if areas.isEmpty { lines.append(indent + "no areas") }
      for area in areas {
        let range = "\(name(area.range.start))..<\(name(area.range.end))"
        let sharing = area.sharing == .private ? "private" : "shared"
        lines.append(indent + "area \(range) \(letters(area.protection)) \(sharing)")
        for address in stride(
          from: area.range.start.rawValue, to: area.range.end.rawValue, by: pageSize)
        {
          let at = padded(name(UserAddress(address)), 9)
          lines.append("\(indent)  \(at) \(entry(at: address, of: space))")
        }
      }
    }
    for frame in frames { lines.append("frame " + padded(name(frame: frame), 5) + state(frame)) }
    let counters = memory.counters
    let used = memory.totalFrameCount - memory.freeFrameCount
    lines.append(
      "frames in use \(used), faults \(counters.faults), pins \(counters.pinsAcquired) taken"
        + " \(counters.pinsReleased) given back")
    return lines
  }

  // MARK: - Parts

  /// An entry's frame and bits; the entry is noted as seen.
  private mutating func entry(at address: UInt64, of space: AddressSpace) -> String {
    guard let entry = unsafe space.mm.entry(at: address) else { return "absent" }
    let value = unsafe cshims_pte_load(entry)
    guard value != 0 else { return "absent" }
    let frame = (value & CSHIMS_PTE_FRAME_MASK) >> 12
    if !frames.contains(frame) { frames.append(frame) }
    var words = ["->", padded(name(frame: frame), 4)]
    let bits: [(UInt64, String)] = [
      (CSHIMS_PTE_PRESENT, "present"), (CSHIMS_PTE_PROTNONE, "protnone"),
      (CSHIMS_PTE_WRITE, "write"), (CSHIMS_PTE_DIRTY, "dirty"), (CSHIMS_PTE_SPECIAL, "special"),
    ]
    for (bit, word) in bits where value & bit != 0 { words.append(word) }
    return words.joined(separator: " ")
  }

  /// A frame's counts, flags and first 16 bytes.
  private func state(_ frame: UInt64) -> String {
    guard let page = memory.page(PageFrameNumber(frame)) else { return "no frame" }
    if page.isFree { return "free" }
    var words = ["refs \(page.referenceCount) pins \(page.pinCount) maps \(page.mapCount)"]
    if page.isAnonymousExclusive { words.append("exclusive") }
    if page.isDirty { words.append("dirty") }
    let text = unsafe page.bytes.prefix(16).map { byte in
      0x21..<0x7f ~= byte ? Character(UnicodeScalar(byte)) : "."
    }
    return words.joined(separator: " ") + "  |" + String(text) + "|"
  }

  // MARK: - Names

  private mutating func name(_ address: UserAddress) -> String {
    let base = origin ?? address.rawValue
    origin = base
    let distance = address.rawValue - base
    return distance == 0 ? "A" : "A+0x" + String(distance, radix: 16)
  }

  private mutating func name(frame: UInt64) -> String {
    if memory.page(PageFrameNumber(frame))?.isZeroPage == true { return "zero" }
    if !bases.contains(where: { frame >= $0 && frame - $0 < 8 }) { bases.append(frame) }
    let i = bases.firstIndex { frame >= $0 && frame - $0 < 8 }!
    let letter = String(UnicodeScalar(UInt8(ascii: "F") + UInt8(i)))
    return frame == bases[i] ? letter : "\(letter)+\(frame - bases[i])"
  }

  private func letters(_ protection: Protection) -> String {
    (protection.contains(.read) ? "r" : "-") + (protection.contains(.write) ? "w" : "-")
      + (protection.contains(.execute) ? "x" : "-")
  }

  private func padded(_ text: String, _ width: Int) -> String {
    text + String(repeating: " ", count: max(0, width - text.count))
  }
}
