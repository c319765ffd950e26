//===----------------------------------------------------------------------===//
// XARRAY: a range of a page cache. Pages are listed as they are found, none is
// counted; a page that is not there ends the list.
//===----------------------------------------------------------------------===//

internal import CShims
internal import PageFrames

/// The backing of an XARRAY iterator. The cursor's offset counts from `start`.
struct FileRange: Sendable {
  let pages: XArray
  /// A position in bytes; index 0 of the array is its first page.
  let start: UInt64

  @inline(__always)
  func position(at cursor: Cursor) -> UInt64 { start &+ UInt64(cursor.offset) }

  /// Lists up to `count` pages from the index of the cursor on. Returns how many
  /// there were, and what stands where the next one is missing.
  func fill(
    _ slots: UnsafeMutablePointer<Page?>, count: Int, at cursor: Cursor, _ machine: Machine
  ) -> (count: Int, stop: ExtractionStop?) {
    let first = position(at: cursor) >> 12
    var slot = 0
    while slot < count {
      let index = first + UInt64(slot)
      let entry = steadyEntry(at: index)
      guard let page = entry.page else { return (slot, stop(at: index, entry)) }
      guard machine.owns(page) else { return (slot, foreign) }
      if page.folioOrder == 0 {
        unsafe slots[slot] = page
        slot += 1
        continue
      }
      // One look for all pages of a folio.
      guard let span = folioSpan(at: index, page) else { continue }
      let run = min(count - slot, span.count)
      for step in 0..<run { unsafe slots[slot + step] = span.first.following(step) }
      slot += run
    }
    return (slot, nil)
  }

  /// The page at the cursor and what lies in it, or why there is none.
  /// `count` > 0.
  func part(at cursor: Cursor, _ machine: Machine) throws(MemoryError) -> PagePart {
    let position = position(at: cursor)
    let index = position >> 12
    let entry = steadyEntry(at: index)
    guard var page = entry.page else {
      throw MemoryError(.badAddress, entry.isEmpty ? .hole : .entryNotPage, index)
    }
    guard machine.owns(page) else { throw MemoryError(.invalid, .machineMismatch, index) }
    if page.folioOrder > 0, let span = folioSpan(at: index, page) { page = span.first }
    let within = Int(position & 0xfff)
    return PagePart(page: page, offset: within, length: min(cursor.count, pageSize - within))
  }

  /// The pages of a folio from `index` on, as far as its entry covers them; nil
  /// when the entry has changed since it was loaded.
  private func folioSpan(at index: UInt64, _ page: Page) -> (first: Page, count: Int)? {
    guard let item = pages.item(at: index), item.entry.page == page else { return nil }
    let into = index - item.index
    // An entry never stands for more pages than its folio has behind the page.
    let behind = (1 << UInt64(page.folioOrder)) - (page.frame - page.folioHead.frame)
    let covered = min(item.last - item.index + 1, behind)
    guard into < covered else { return (page, 1) }
    return (page.following(Int(into)), Int(covered - into))
  }

  /// The entry of an index; a retry entry is looked at again for a while, so
  /// that one which stays cannot hang the caller.
  @inline(__always)
  private func steadyEntry(at index: UInt64) -> XArrayEntry {
    let entry = pages.load(index)
    return entry == .retry ? loadAgain(index) : entry
  }

  @inline(never)
  private func loadAgain(_ index: UInt64) -> XArrayEntry {
    var entry = XArrayEntry.retry
    for _ in 0..<FileRange.patience where entry == .retry { entry = pages.load(index) }
    return entry
  }

  private static var patience: Int { 1 << 16 }

  private func stop(at index: UInt64, _ entry: XArrayEntry) -> ExtractionStop {
    entry.isEmpty ? .hole(index: index) : .entry(index: index, entry.kind)
  }

  private var foreign: ExtractionStop {
    .fault(MemoryError(.invalid, .machineMismatch, start))
  }
}

extension Page {
  @inline(__always)
  var frame: UInt64 { frameNumber.rawValue }
}

extension Machine {
  /// Is it one of this machine's pages? Asks the address alone.
  @inline(__always)
  func owns(_ page: Page) -> Bool {
    let first = unsafe UInt(bitPattern: header.pointee.pages)
    let distance = unsafe UInt(bitPattern: page.descriptor) &- first
    return UInt64(distance) < frameCount * UInt64(MemoryLayout<cshims_page>.stride)
  }
}
