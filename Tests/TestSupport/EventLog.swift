//===----------------------------------------------------------------------===//
// What a machine told its event sink, in order.
//===----------------------------------------------------------------------===//

public import Events
public import PageFrames
internal import Synchronization

/// Attached to a machine for its own life. Room for 4,096 events; what comes
/// after them is counted but not kept. The sink allocates and locks nothing.
@safe
public final class EventLog: @unchecked Sendable {
  private static let capacity = 4096

  @safe
  private struct Book: ~Copyable {
    let next = Atomic<Int>(0)
    let events: UnsafeMutablePointer<Event>
  }

  private let memory: PhysicalMemory
  private let book: UnsafeMutablePointer<Book>

  public init(_ memory: PhysicalMemory) {
    self.memory = memory
    let events = UnsafeMutablePointer<Event>.allocate(capacity: Self.capacity)
    unsafe events.initialize(
      repeating: Event(kind: .fault, address: 0), count: Self.capacity)
    unsafe book = .allocate(capacity: 1)
    unsafe book.initialize(to: Book(events: events))
    unsafe memory.setEventSink(
      { context, kind, address, frame, count in
        let book = unsafe context!.assumingMemoryBound(to: Book.self)
        let index = unsafe book.pointee.next.add(1, ordering: .relaxed).oldValue
        guard index < EventLog.capacity, let kind = EventKind(rawValue: kind) else { return }
        unsafe book.pointee.events[index] = Event(
          kind: kind, address: address, frame: frame, pageCount: count)
      }, context: UnsafeMutableRawPointer(book))
  }

  deinit {
    unsafe memory.setEventSink(nil)
    unsafe book.pointee.events.deallocate()
    unsafe book.deinitialize(count: 1)
    unsafe book.deallocate()
  }

  /// How many events came.
  public var count: Int { unsafe book.pointee.next.load(ordering: .acquiring) }

  /// The events so far; call it when nothing is going on.
  public var events: [Event] {
    (0..<min(count, Self.capacity)).map { unsafe book.pointee.events[$0] }
  }

  /// The events so far, and forgets them.
  public func take() -> [Event] {
    let taken = events
    unsafe book.pointee.next.store(0, ordering: .releasing)
    return taken
  }
}
