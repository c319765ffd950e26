//===----------------------------------------------------------------------===//
// BVEC and FOLIOQ: segments whose pages follow each other in physical memory,
// so that a segment's pages are listed by counting.
//===----------------------------------------------------------------------===//

internal import CShims
internal import PageFrames

/// A segment that lies in consecutive pages.
protocol PagedSegment: Segment {
  /// The page that `start` counts from.
  var basePage: Page { get }
}

extension BVec: PagedSegment {
  @inline(__always)
  var start: UInt64 { UInt64(truncatingIfNeeded: offset) }
  @inline(__always)
  var byteLength: Int { length }
  @inline(__always)
  var basePage: Page { page }

  /// Refuses what reaches outside the machine.
  func check(_ machine: Machine) throws(MemoryError) {
    guard machine.owns(page) else {
      throw MemoryError(.invalid, .machineMismatch, page.frameNumber.rawValue)
    }
    guard length >= 0 else { throw MemoryError(.invalid, .segmentTooLong, length) }
    let room = Int(machine.frameCount - page.frameNumber.rawValue) << pageShift
    guard offset >= 0, offset <= room else {
      throw MemoryError(.invalid, .positionOutOfRange, offset)
    }
    guard length <= room - offset else { throw MemoryError(.invalid, .segmentTooLong, length) }
  }
}

extension Page {
  /// The page `count` frames on, which the caller knows to exist.
  @inline(__always)
  func following(_ count: Int) -> Page { unsafe Page(descriptor + count) }
}

extension Segments where Element: PagedSegment {
  /// What lies from the cursor on without a break inside a page: goes on over
  /// segments that end where a page ends into ones that start where a page
  /// starts. Looks no further than `wanted` bytes and `maxPages` pages need.
  /// `count` > 0.
  func joinedStretch(at cursor: Cursor, wanted: Int, maxPages: Int) -> Stretch {
    var (index, offset) = skipExhausted(cursor)
    let start = list[index].start &+ UInt64(offset)
    var length = 0
    while true {
      length += list[index].byteLength - offset
      let end = start &+ UInt64(length)
      guard length < wanted, end & 0xfff == 0, pages(covering: length, from: start) <= maxPages
      else { break }
      // The bytes that are wanted lie in the list, so there is one more.
      repeat { index += 1 } while list[index].byteLength == 0
      guard list[index].start & 0xfff == 0 else { break }
      offset = 0
    }
    return Stretch(start: start, length: min(length, cursor.count))
  }

  /// Lists `count` pages from the cursor on. They lie in one stretch.
  func fill(_ slots: UnsafeMutablePointer<Page?>, count: Int, at cursor: Cursor) {
    var (index, offset) = skipExhausted(cursor)
    var slot = 0
    while true {
      let start = list[index].start &+ UInt64(offset)
      let first = list[index].basePage.following(Int(truncatingIfNeeded: start >> 12))
      let run = min(
        pages(covering: list[index].byteLength - offset, from: start), count - slot)
      for page in 0..<run { unsafe slots[slot + page] = first.following(page) }
      slot += run
      if slot == count { return }
      repeat { index += 1 } while list[index].byteLength == 0
      offset = 0
    }
  }

  /// The page at the cursor, and what lies in it. `count` > 0.
  func part(at cursor: Cursor) -> PagePart {
    let (index, offset) = skipExhausted(cursor)
    let start = list[index].start &+ UInt64(offset)
    let within = Int(start & 0xfff)
    return PagePart(
      page: list[index].basePage.following(Int(truncatingIfNeeded: start >> 12)), offset: within,
      length: min(list[index].byteLength - offset, cursor.count, pageSize - within))
  }
}

/// Bytes within one page.
struct PagePart {
  var page: Page
  var offset: Int
  var length: Int
}
