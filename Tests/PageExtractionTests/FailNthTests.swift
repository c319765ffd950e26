//===----------------------------------------------------------------------===//
// The n-th passage of each failure point fails, for n = 1, 2, 3, ... until the
// call succeeds: for every consumer, with every kind of iterator. At each n all
// is as it was, or what was delivered is exactly what the iterator moved by.
//===----------------------------------------------------------------------===//

import AddressSpaces
import Events
import PageExtraction
import PageFrames
import TestSupport
import Testing

/// A consumer of extraction, as the sweep drives it.
enum Consumer: String, Sendable, CaseIterable {
  case pages, list, bvecs, scatterList, detach, exactPages, exactBVecs, bio

  /// Does it deliver all or nothing?
  var isExact: Bool { self == .scatterList || self == .exactPages || self == .exactBVecs }

  func takes(_ kind: IOVIter.Kind) -> Bool {
    switch self {
    case .detach: kind.isUserBacked
    case .scatterList: kind != .pipe
    // A single extraction, which stays within a segment.
    case .exactPages: kind == .ubuf || kind == .pipe
    // Not whole: the cache has a hole.
    case .exactBVecs: kind != .xarray
    default: true
    }
  }
}

/// A consumer with an iterator that it takes.
struct Sweep: Sendable, CustomTestStringConvertible {
  let consumer: Consumer
  let origin: Origin

  static let all: [Sweep] = Consumer.allCases.flatMap { consumer in
    Origin.all.compactMap { origin in
      consumer.takes(origin.kind) ? Sweep(consumer: consumer, origin: origin) : nil
    }
  }
  var testDescription: String { "\(consumer) of \(origin.testDescription)" }

  /// Does the call come by this point?
  func passes(_ point: FailurePoint) -> Bool {
    let kind = origin.kind
    switch point {
    case .pageListAllocation: return true
    case .listGrowth: return (consumer == .bvecs || consumer == .exactBVecs) && kind.isUserBacked
    case .grab, .fault, .metadataAllocation, .hostMapping: return kind.isUserBacked
    // A read fault shows the zero page.
    case .frameAllocation:
      return kind == .pipe || kind.isUserBacked && origin.direction == .destination
    }
  }
}

/// What one call did.
private struct Delivery {
  var length: ByteCount = 0
  var error: MemoryError?
}

@Suite("Fail the n-th")
struct FailNthTests {
  @Test(
    "F-14, F-16, F-23, F-24, F-25: whatever fails at its n-th passage, nothing leaks and nothing is lost",
    arguments: Sweep.all)
  func sweep(_ sweep: Sweep) throws {
    for point in FailurePoint.allCases {
      var nth = 1
      while try fails(sweep, point, nth) {
        nth += 1
        try #require(nth < 500, "\(point) fails for ever")
      }
      #expect((nth > 1) == sweep.passes(point), "\(point) was reached \(nth - 1) times")
    }
  }

  /// Runs one consumer on a machine of its own with the `nth` passage of a point
  /// failing. Says whether it was reached. The machine must end as it began.
  private func fails(_ sweep: Sweep, _ point: FailurePoint, _ nth: Int) throws -> Bool {
    var reached = false
    try withMachine { memory in
      let space = try AddressSpace(memory: memory)
      defer { space.exit() }
      let userPages = point == .listGrowth ? 140 : 6
      let mixed = try MixedMemory(space, userPages: userPages)
      defer { mixed.end() }
      // Enough for the cache's index to be there, not the pages.
      var iterator = try mixed.iterator(
        sweep.origin.kind, sweep.origin.direction, sweep.origin.dialect,
        userBytes: userPages << pageShift - 4000)
      if sweep.consumer == .exactPages, iterator.kind == .pipe { try iterator.truncate(to: 5000) }
      let before = iterator
      let outstanding = space.outstanding

      memory.arm(point, countdown: nth)
      let delivery = run(sweep.consumer, &iterator)
      reached = memory.failures(of: point) > 0
      memory.arm(point, countdown: 0)

      try #require(iterator.count == before.count - delivery.length)
      if let error = delivery.error {
        try #require(delivery.length == 0)
        if iterator.kind != .pipe { try #require(iterator.saveState() == before.saveState()) }
        try #require([.outOfMemory, .badAddress].contains(error.number))
        try #require(reached)
      } else {
        try #require(delivery.length > 0)
        if sweep.consumer.isExact, iterator.kind != .xarray {
          try #require(delivery.length == before.count)
        }
      }
      // All that the call held went with its result; a pipe keeps its pages.
      let published = iterator.kind == .pipe ? mixed.pipe.bufferCount : 0
      try #require(space.outstanding == outstanding + published)
      #expect(mixed.pipe.hazardCount == 0)

      // What is left can be had.
      if iterator.kind != .xarray {
        var calls = 0
        while iterator.count > 0 {
          let rest = run(sweep.consumer, &iterator)
          try #require(rest.error == nil && rest.length > 0)
          calls += 1
          try #require(calls < 10)
        }
      }
    }
    return reached
  }

  /// One call, and the release of what it delivered.
  private func run(_ consumer: Consumer, _ iterator: inout IOVIter) -> Delivery {
    let before = iterator.count
    var delivery = Delivery()
    do throws(MemoryError) {
      switch consumer {
      case .pages:
        let extraction = try iterator.extractPages()
        delivery.length = extraction.length
        extraction.release(dirty: true)
      case .list:
        var list = try PageBuffer(capacity: 200, machine: iterator.memory.machine)
        let result = try iterator.extractPages(into: &list)
        delivery.length = result.length
        result.release(list, dirty: true)
      case .bvecs:
        let extraction = try iterator.extractBVecs()
        delivery.length = extraction.length
        extraction.release(dirty: true)
      case .scatterList:
        var list = try ScatterList(capacity: 200, memory: iterator.memory)
        delivery.length = try iterator.extractToScatterList(&list).length
        list.release(dirty: true)
      case .detach:
        let detached = try iterator.detach()
        delivery.length = detached.length
        detached.release(dirty: true)
      case .exactPages:
        let extraction = try iterator.extractPagesExactly(before)
        delivery.length = extraction.length
        extraction.release(dirty: true)
      case .exactBVecs:
        let extraction = try iterator.extractBVecsExactly(before)
        delivery.length = extraction.length
        extraction.release(dirty: true)
      case .bio:
        var bio = try Bio(memory: iterator.memory, maxBVecs: 200, logicalBlockSize: 1)
        delivery.length = try bio.addPages(from: &iterator).length
        bio.release(dirty: true)
      }
    } catch {
      delivery.error = error
    }
    return delivery
  }
}
