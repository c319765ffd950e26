//===----------------------------------------------------------------------===//
// Where an area's pages live (design decision 5). A page's home is the frame at
// its own index in the area's span, so that pages side by side are frames side
// by side, and one host mapping. When the home is somebody else's (a child keeps
// the original that the parent must leave, or a file's cache owns it), the page
// takes the same index of a second span, reserved when it is first needed.
//===----------------------------------------------------------------------===//

internal import CShims
internal import PageFrames

extension Area {
  /// What a fresh private page of it is.
  var privatePageFlags: UInt32 {
    CSHIMS_PAGE_ANON | CSHIMS_PAGE_ANON_EXCLUSIVE
      | (flags.contains(.movable) ? CSHIMS_PAGE_MOVABLE : 0)
  }
}

extension MM {
  /// Takes frames for up to `count` private pages from `address` on, as many as
  /// follow each other: their homes, else their second homes, else one from
  /// anywhere. The first, and how many; nil when no frame is free.
  func allocatePrivate(
    at address: UInt64, _ count: Int, in area: UnsafeMutablePointer<Area>
  ) -> (UInt64, Int)? {
    let flags = unsafe area.pointee.privatePageFlags
    var count = count
    // Of an area with a page cache the homes are the cache's.
    if unsafe area.pointee.cache == 0 {
      guard let home = unsafe area.pointee.home(of: address) else {
        return machine.allocateNear(nil, 1, flags: flags)
      }
      var taken = 0
      while taken < count, !machine.page(home + UInt64(taken)).isFree { taken += 1 }
      if taken == 0 { return machine.allocateNear(home, count, flags: flags) }
      count = taken
    }
    if unsafe area.pointee.secondBase == Area.noHome { unsafe reserveSecondSpan(area) }
    return unsafe machine.allocateNear(area.pointee.secondHome(of: address), count, flags: flags)
  }

  /// Without a span that is long enough nothing changes, and it is tried again
  /// for the next page.
  private func reserveSecondSpan(_ area: UnsafeMutablePointer<Area>) {
    let start = unsafe area.pointee.start >> 12
    let count = unsafe Int((area.pointee.end >> 12) - start)
    guard let span = machine.reserveSpan(count: count) else { return }
    unsafe area.pointee.secondBase = span &- start
  }

  /// Gives back what an area that is gone held: its spans, and its cache.
  func releaseBacking(_ area: Area) {
    let count = Int((area.end - area.start) >> 12)
    if let second = area.secondHome(of: area.start) {
      machine.releaseSpan(second, count: count)
    }
    if let cache = cache(of: area) {
      cache.release()
    } else if let home = area.home(of: area.start) {
      machine.releaseSpan(home, count: count)
    }
  }
}
