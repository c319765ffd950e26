//===----------------------------------------------------------------------===//
// PIPE: an iterator's place at the end of a ring (semantics A.6 and A.8).
//
// The cursor's index is the buffer that ends where the iterator stands, and its
// offset says where that is in the buffer's page: positive in a page of the
// pipe's own, which may grow; negative in a borrowed one. With offset 0 nothing
// was appended yet, and the index is the next buffer.
//===----------------------------------------------------------------------===//

internal import CShims
internal import PageFrames

/// The backing of a PIPE iterator. Its methods take the pipe's lock.
struct PipePlace: Sendable {
  let pipe: Pipe
  /// The first buffer that may be its own: what lies before stays.
  let startHead: Int

  /// What can be appended from the cursor on: where the first page's part
  /// starts, and how many bytes there is room for. Nil for a ring that does not
  /// end here.
  func room(at cursor: Cursor) -> Stretch? {
    pipe.locked {
      guard pipe.endsAt(cursor) else { return nil }
      let free = (pipe.capacity - pipe.usage) << pageShift
      guard pipe.canGrow(cursor) else { return Stretch(start: 0, length: free) }
      return Stretch(start: UInt64(cursor.offset), length: free + pageSize - cursor.offset)
    }
  }

  func pageCount(at cursor: Cursor, limit: Int) -> Int {
    guard let room = room(at: cursor) else { return 0 }
    return min(pages(covering: room.length, from: room.start), limit)
  }

  /// Appends `length` bytes and lists their pages. The pages are published with
  /// whatever they hold: zeroes, as far as they are fresh.
  /// - Throws: when the first page cannot be had.
  func publish(
    _ slots: UnsafeMutablePointer<Page?>, length: Int, _ cursor: inout Cursor
  ) throws(MemoryError) -> (length: Int, count: Int, stop: MemoryError?, PipeListingHandle) {
    try pipe.locked { () throws(MemoryError) in
      let start = cursor
      var slot = 0
      let result = try unsafe pipe.grow(&cursor, by: length) { _, _, _ in
        unsafe slots[slot] = pipe.slot(pipe.head - 1).pointee.page
        slot += 1
      }
      let last = unsafe pipe.slot(pipe.head - 1).pointee.serial
      let first = unsafe pipe.slot(pipe.head - slot).pointee.serial
      // Those after the first were pushed one after the other just now.
      let serials = PipeSerials(first: first, next: last - UInt64(max(0, slot - 2)), count: slot)
      let listing = PipeListingHandle(PipeListing(pipe, serials))
      assert(cursor.consumed - start.consumed == result.length.rawValue)
      return (result.length.rawValue, slot, result.stop, listing)
    }
  }

  /// Appends bytes that `write` puts into the pages.
  func append(
    _ cursor: inout Cursor, by length: Int,
    _ write: (UnsafeMutableRawPointer, _ done: Int, _ length: Int) -> Void
  ) throws(MemoryError) -> CopyResult {
    try pipe.locked { () throws(MemoryError) in
      try unsafe pipe.grow(&cursor, by: length, write)
    }
  }

  /// Links a part of a page that somebody else owns, with a reference of the
  /// ring's (copy_page_to_iter).
  func link(
    _ page: Page, offset: Int, length: Int, _ cursor: inout Cursor
  ) throws(MemoryError) {
    try pipe.locked { () throws(MemoryError) in
      guard pipe.endsAt(cursor) else {
        throw MemoryError(.badAddress, .ringMoved, cursor.consumed)
      }
      let last = pipe.head - 1
      if offset > 0, cursor.offset == -offset, unsafe pipe.slot(last).pointee.page == page {
        unsafe pipe.slot(last).pointee.length += length
      } else {
        guard !pipe.isFull else { throw MemoryError(.badAddress, .ringFull, pipe.capacity) }
        try page.get()
        cursor.index = pipe.head
        pipe.push(page, offset: offset, length: length, isAnonymous: false)
      }
      cursor.offset = -(offset + length)
      cursor.count -= length
      cursor.consumed += length
    }
  }

  /// Keeps the next `size` bytes of what was published from here on, which a
  /// copy of this iterator did, and lets the rest go (pipe_advance). At the
  /// iterator's start, size 0 lets everything go.
  func advance(_ cursor: inout Cursor, by size: Int) throws(MemoryError) {
    try pipe.locked { () throws(MemoryError) in
      var index = cursor.index
      var size = size
      if cursor.offset == 0 {
        if size == 0 {
          while pipe.head > startHead, pipe.usage > 0 { pipe.pop(.truncation) }
          cursor.index = pipe.head
          return
        }
      } else {
        guard pipe.holds(index), let within = pipe.offset(of: cursor) else {
          throw MemoryError(.invalid, .ringMoved, cursor.consumed)
        }
        size += within
      }
      let moved = size
      // Look before anything changes.
      while unsafe pipe.holds(index) && size > pipe.slot(index).pointee.length {
        size -= unsafe pipe.slot(index).pointee.length
        index += 1
      }
      guard pipe.holds(index) else {
        throw MemoryError(.invalid, .positionOutOfRange, moved)
      }
      while pipe.head > index + 1 { pipe.pop(.truncation) }
      unsafe pipe.slot(index).pointee.length = size
      cursor.index = index
      cursor.offset = unsafe pipe.slot(index).pointee.lastOffset
    }
  }

  /// Brings the ring to a kept place.
  func move(_ cursor: inout Cursor, to place: Cursor) throws(MemoryError) {
    let distance = place.consumed - cursor.consumed
    if distance < 0 {
      try revert(&cursor, by: -distance)
    } else if distance > 0 {
      try advance(&cursor, by: distance)
    }
    cursor.consumed = place.consumed
    cursor.count = place.count
  }

  /// Takes the last `size` bytes back, and the pages that only they are in.
  /// - Throws: EINVAL when the ring does not end here, or a reader has some of
  ///   the bytes. Then nothing has changed.
  func revert(_ cursor: inout Cursor, by size: Int) throws(MemoryError) {
    try pipe.locked { () throws(MemoryError) in
      guard pipe.endsAt(cursor) else {
        throw MemoryError(.invalid, .ringMoved, cursor.consumed)
      }
      var rest = size
      var number = pipe.head
      while rest > 0, number > startHead, pipe.holds(number - 1) {
        number -= 1
        rest -= unsafe pipe.slot(number).pointee.length
      }
      guard rest <= 0 else { throw MemoryError(.invalid, .positionOutOfRange, size) }
      rest = size
      while pipe.head > startHead, pipe.usage > 0 {
        let last = unsafe pipe.slot(pipe.head - 1)
        if unsafe rest < last.pointee.length {
          unsafe last.pointee.length -= rest
          cursor.index = pipe.head - 1
          cursor.offset = unsafe last.pointee.lastOffset
          return
        }
        rest -= unsafe last.pointee.length
        pipe.pop(.revert)
      }
      cursor.index = pipe.head
      cursor.offset = 0
    }
  }
}

extension Pipe {
  /// Does the ring end where the iterator stands (sanity, A.8.3)?
  func endsAt(_ cursor: Cursor) -> Bool {
    guard cursor.offset != 0 else { return cursor.index == head }
    guard cursor.index == head - 1, usage > 0 else { return false }
    let last = unsafe slot(cursor.index).pointee
    return last.offset + last.length == abs(cursor.offset)
  }

  /// Is there room in the page that ends here?
  func canGrow(_ cursor: Cursor) -> Bool { cursor.offset > 0 && cursor.offset < pageSize }

  /// The bytes of the cursor's buffer that lie before the cursor; nil when it
  /// does not stand in them.
  func offset(of cursor: Cursor) -> Int? {
    let buffer = unsafe slot(cursor.index).pointee
    let within = abs(cursor.offset) - buffer.offset
    return within >= 0 && within <= buffer.length ? within : nil
  }

  /// Appends up to `length` bytes (append_pipe): grows the last page, then takes
  /// fresh ones. Calls `write` with each part's memory. Under the lock.
  /// - Throws: EFAULT for a ring that ends elsewhere or is full, ENOMEM, when no
  ///   byte could be appended.
  func grow(
    _ cursor: inout Cursor, by length: Int,
    _ write: (UnsafeMutableRawPointer, _ done: Int, _ length: Int) -> Void
  ) throws(MemoryError) -> CopyResult {
    guard length > 0 else { return CopyResult(length: 0) }
    guard endsAt(cursor) else { throw MemoryError(.badAddress, .ringMoved, cursor.consumed) }
    var done = 0
    var stop: MemoryError?
    while done < length {
      var part = length - done
      var start = 0
      if done == 0, canGrow(cursor) {
        start = cursor.offset
        part = min(part, pageSize - start)
        unsafe slot(head - 1).pointee.length += part
      } else {
        part = min(part, pageSize)
        do throws(MemoryError) {
          guard !isFull else { throw MemoryError(.badAddress, .ringFull, capacity) }
          push(try memory.allocatePage(), offset: 0, length: part, isAnonymous: true)
        } catch {
          stop = error
          break
        }
      }
      cursor.index = head - 1
      cursor.offset = start + part
      unsafe write(slot(head - 1).pointee.page.bytes.baseAddress! + start, done, part)
      done += part
    }
    if let stop, done == 0 { throw stop }
    cursor.count -= done
    cursor.consumed += done
    return CopyResult(length: ByteCount(done), stop: stop)
  }
}
