//===----------------------------------------------------------------------===//
// What GUP tells a sink: one event a call, not one a page.
//===----------------------------------------------------------------------===//

import AddressSpaces
import CShims
import Events
import GUP
import PageFrames
import Testing

@Suite("Events of GUP")
struct EventTests {
  /// A sink's notebook: room for a few events, no allocation in the sink.
  struct Notebook {
    var count = 0
    var events = InlineArray<16, Event>(repeating: Event(kind: .fault, address: 0))
  }

  @Test("Getting, pinning and giving back are told once a call", arguments: Entry.allCases)
  func oncePerCall(entry: Entry) throws {
    try withSandbox { box in
      let start = try box.mapWritten(pages: 100)
      let frame = try box.page(start).frameNumber.rawValue
      let notebook = UnsafeMutablePointer<Notebook>.allocate(capacity: 1)
      unsafe notebook.initialize(to: Notebook())
      defer { unsafe notebook.deallocate() }
      unsafe box.memory.setEventSink(
        { context, kind, address, frame, pages in
          let book = unsafe context!.assumingMemoryBound(to: Notebook.self)
          guard let kind = EventKind(rawValue: kind), unsafe book.pointee.count < 16 else { return }
          let event = Event(kind: kind, address: address, frame: frame, pageCount: pages)
          unsafe book.pointee.events[book.pointee.count] = event
          unsafe book.pointee.count += 1
        }, context: notebook)
      try box.take(entry, start + ByteCount(5), 100)
      box.release(entry, 100)
      unsafe box.memory.setEventSink(nil)
      let book = unsafe notebook.pointee
      #expect(book.count == 2)
      let taken = Event(
        kind: entry.pins ? .pin : .get, address: start.rawValue, frame: frame, pageCount: 100)
      #expect(book.events[0] == taken)
      let dropped = Event(
        kind: entry.pins ? .unpin : .put, address: 0, frame: frame, pageCount: 100)
      #expect(book.events[1] == dropped)
    }
  }
}
