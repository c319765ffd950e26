//===----------------------------------------------------------------------===//
// Events: what happened on a machine, told to one sink as it happens.
//
// Off, an event costs one load of a word that no hot path writes and one
// branch that is predicted right. On, the sink is called on the thread that
// did the thing, which may be the fault-service thread: see `EventSink`.
//===----------------------------------------------------------------------===//

public import CShims

/// What happened.
public enum EventKind: UInt32, Sendable, CaseIterable {
  /// A fault was handled: address, the frame it yielded, number of pages.
  case fault
  /// GUP took references: first address, pages taken.
  case get
  /// GUP took pins: first address, pages taken.
  case pin
  /// References were dropped: pages.
  case put
  /// Pins were dropped: pages.
  case unpin
  /// An area was mapped: address, pages.
  case map
  /// A range was unmapped: address, pages.
  case unmap
  /// A range was given another protection: address, pages.
  case protect
  /// A range was advised: address, pages.
  case advise
  /// A write fault gave an address a page of its own: address, new frame.
  case copy
  /// An address space was forked: pages that were shared or copied.
  case fork
  /// A range was moved to other addresses: the new address, pages.
  case move
  /// A page was moved to another frame: address, the new frame.
  case migrate
  /// A page was taken back from an address: address, the frame it had.
  case reclaim
  /// The program's own memory was adopted: address, pages.
  case adopt
  /// Adopted memory was given back: address, pages.
  case giveBack
  /// Adopted memory was dropped, because the program had unmapped some of it:
  /// address, pages.
  case adoptionLost
}

/// One event.
public struct Event: Sendable, Equatable {
  public let kind: EventKind
  /// The user address it happened at, 0 where it has none.
  public let address: UInt64
  /// The frame number it concerned, 0 where it has none.
  public let frame: UInt64
  /// How many pages it concerned.
  public let pageCount: UInt64

  public init(kind: EventKind, address: UInt64, frame: UInt64 = 0, pageCount: UInt64 = 1) {
    self.kind = kind
    self.address = address
    self.frame = frame
    self.pageCount = pageCount
  }
}

/// A function that is called for each event, with its context.
///
/// It runs inside the fault path: it must not allocate, block, take a lock that
/// may be held by a thread that faults, or touch user memory.
public typealias EventSink = cshims_event_sink

extension UnsafeMutablePointer<cshims_machine> {
  /// Hands an event to the machine's sink, if one is attached.
  @inlinable
  public func emit(
    _ kind: EventKind, address: UInt64, frame: UInt64 = 0, pageCount: Int = 1
  ) {
    guard unsafe cshims_instrumented(self) else { return }
    unsafe cshims_event_emit(self, kind.rawValue, address, frame, UInt64(pageCount))
  }
}
