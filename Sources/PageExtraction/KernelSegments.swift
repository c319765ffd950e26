//===----------------------------------------------------------------------===//
// KVEC: segments at addresses of the window, whose pages follow each other, or
// of virtual mappings, whose pages are looked up one by one.
//===----------------------------------------------------------------------===//

internal import CShims
internal import PageFrames

extension KVec: Segment {
  @inline(__always)
  var start: UInt64 { unsafe UInt64(UInt(bitPattern: base)) }
  @inline(__always)
  var byteLength: Int { length }

  /// Refuses what does not lie in the window or in one virtual mapping.
  func check(_ machine: Machine) throws(MemoryError) {
    guard length >= 0 else { throw MemoryError(.invalid, .segmentTooLong, length) }
    guard length > 0 else { return }
    guard !start.addingReportingOverflow(UInt64(length)).overflow else {
      throw MemoryError(.invalid, .rangeWraps, start)
    }
    let last = start + UInt64(length - 1)
    if machine.windowFrame(of: start) != nil {
      guard machine.windowFrame(of: last) != nil else {
        throw MemoryError(.invalid, .segmentTooLong, length)
      }
      return
    }
    var address = start
    while true {
      guard machine.page(atKernelAddress: address) != nil else {
        throw MemoryError(.invalid, .notKernelAddress, address)
      }
      if address >> 12 == last >> 12 { return }
      address = (address & ~0xfff) + 4096
    }
  }
}

extension Machine {
  /// The frame that an address of the window shows (virt_to_pfn).
  @inline(__always)
  func windowFrame(of address: UInt64) -> UInt64? {
    let window = unsafe UInt64(UInt(bitPattern: header.pointee.window))
    let distance = address &- window
    return distance >> 12 < frameCount ? distance >> 12 : nil
  }
}

extension Segments<KVec> {
  /// Lists up to `count` pages of one segment, as far as its addresses still
  /// show any. Returns how many.
  func fill(
    _ slots: UnsafeMutablePointer<Page?>, count: Int, from address: UInt64, _ machine: Machine
  ) -> Int {
    if let frame = machine.windowFrame(of: address) {
      let first = machine.page(frame)
      for slot in 0..<count { unsafe slots[slot] = first.following(slot) }
      return count
    }
    let start = address & ~0xfff
    for slot in 0..<count {
      guard let page = machine.page(atKernelAddress: start + UInt64(slot) << 12) else {
        return slot
      }
      unsafe slots[slot] = page
    }
    return count
  }

  /// The page at the cursor, and what lies in it; nil when its mapping is gone.
  /// `count` > 0.
  func part(at cursor: Cursor, _ machine: Machine) -> PagePart? {
    let next = stretch(at: cursor)
    guard let page = machine.page(atKernelAddress: next.start) else { return nil }
    let within = Int(next.start & 0xfff)
    return PagePart(page: page, offset: within, length: min(next.length, pageSize - within))
  }
}
