//===----------------------------------------------------------------------===//
// Spans: which stretches of frame numbers are promised to which area.
//
// An area that is mapped reserves as many consecutive frame numbers as it has
// pages (its homes), so that host mappings merge, folios align and scatter
// lists coalesce. A reservation holds no memory and binds nobody: any frame may
// be handed out by the allocator, and an area without a span works.
//
// Lock: the span lock, a leaf.
//===----------------------------------------------------------------------===//

internal import CShims

struct Spans: ~Copyable {
  var lock: cshims_lock
  var free: ExtentMap
  /// A process died while it changed the map: nothing is handed out or taken
  /// back until it is made anew.
  var isBroken = false
}

extension Machine {
  private var spans: UnsafeMutablePointer<Spans> {
    unsafe header.pointee.spans.assumingMemoryBound(to: Spans.self)
  }

  /// Takes the span lock; false when the map cannot be used.
  private func acquireSpans() -> Bool {
    if unsafe cshims_lock_acquire(&spans.pointee.lock) { unsafe spans.pointee.isBroken = true }
    return unsafe !spans.pointee.isBroken
  }

  /// Returns 0 or an errno.
  func initialiseSpans() -> Int32 {
    unsafe spans.initialize(to: Spans(lock: cshims_lock(), free: ExtentMap(arena: arena)))
    let error = unsafe cshims_lock_init(&spans.pointee.lock)
    guard error == 0 else { return error }
    let frames = frameCount - Machine.reservedFrames
    return unsafe spans.pointee.free.release(start: Machine.reservedFrames, length: frames)
      ? 0 : ErrorNumber.outOfMemory.rawValue
  }

  /// Reserves `count` consecutive frame numbers, from `preferred` on if those
  /// are free; nil when no stretch is long enough.
  ///
  /// - Parameters:
  ///   - page: the user page number that the first of them is the home of.
  ///   - forFolios: homes should stand at their pages' places within 2 MiB, so
  ///     that folios and leaves fit. Spans of 2 MiB and more always should.
  package func reserveSpan(
    count: Int, preferred: UInt64? = nil, page: UInt64 = 0, forFolios: Bool = false
  ) -> UInt64? {
    let spans = unsafe spans
    let isUsable = acquireSpans()
    defer { unsafe cshims_lock_release(&spans.pointee.lock) }
    guard isUsable else { return nil }
    let length = UInt64(count)
    let aligned = forFolios || count >= 512
    if let preferred, !aligned || (preferred ^ page) & 511 == 0,
      unsafe spans.pointee.free.allocate(at: preferred, length: length)
    {
      return preferred
    }
    // From a multiple of 512 on, as far before the first page as that is into
    // its 2 MiB; what is before it goes back.
    let lead = page & 511
    if aligned,
      let start = unsafe spans.pointee.free.allocate(length: lead + length, alignment: 512)
    {
      if lead > 0 { _ = unsafe spans.pointee.free.release(start: start, length: lead) }
      return start + lead
    }
    return unsafe spans.pointee.free.allocate(length: length)
  }

  /// Gives frame numbers back that an area no longer maps. When the arena has
  /// no node for them, also at a second attempt (a failure that is injected comes
  /// once), they stay reserved, which costs contiguity only.
  package func releaseSpan(_ start: UInt64, count: Int) {
    let spans = unsafe spans
    let isUsable = acquireSpans()
    let length = UInt64(count)
    if isUsable, unsafe !spans.pointee.free.release(start: start, length: length) {
      _ = unsafe spans.pointee.free.release(start: start, length: length)
    }
    unsafe cshims_lock_release(&spans.pointee.lock)
  }

  /// Makes the map anew: `body` claims what the living use, all else is free.
  package func rebuildSpans(_ body: ((UInt64, Int) -> Void) -> Void) {
    let spans = unsafe spans
    if acquireSpans() {
      unsafe spans.pointee.free.removeAll()
    } else {
      // Its nodes may be linked anyhow: they stay the arena's, unused.
      unsafe spans.pointee.free = ExtentMap(arena: arena)
    }
    unsafe spans.pointee.isBroken = false
    _ = unsafe spans.pointee.free.release(
      start: Machine.reservedFrames, length: frameCount - Machine.reservedFrames)
    body { start, count in
      _ = unsafe spans.pointee.free.allocate(at: start, length: UInt64(count))
    }
    unsafe cshims_lock_release(&spans.pointee.lock)
  }
}
