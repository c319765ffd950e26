//===----------------------------------------------------------------------===//
// Threads that pin and unpin, each a range of its own, beside the C loop on as
// many threads, and beside one thread that does the work of all: what the threads
// share (the machine's counters, the address space) must cost them nothing.
//===----------------------------------------------------------------------===//

import CShims
import Dispatch
import FoundationEssentials
import SwiftGUP
import Synchronization

/// A buffer with a range for each thread.
final class ThreadBench {
  static let name = "pin-unpin-threads"
  /// Pages of one call.
  static let pages = 256

  private let ranges: [Target]

  init(trap: TrapTier) throws {
    let threads = min(8, ProcessInfo.processInfo.activeProcessorCount)
    let length = PageCount(threads * Self.pages).byteCount
    do throws(MemoryError) {
      let space = try AddressSpace(memory: PhysicalMemory(trapTier: trap))
      let start = try space.map(length: length)
      try space.advise(start, length: length, .populateWrite)
      ranges = (0..<threads).map {
        Target(space: space, start: start + PageCount($0 * Self.pages).byteCount, pages: Self.pages)
      }
    } catch {
      throw Failure("\(Self.name): no such buffer: \(error)")
    }
  }

  /// - Parameter progress: called after each round with the rounds done.
  func measure(rounds: Int, progress: (Int) -> Void) throws -> BenchRow {
    let calls = try ranges.map { try CallContender($0, .pin) }
    let loops = try ranges.map { try RooflineContender($0, bias: CSHIMS_PIN_BIAS) }
    let columns = try takeTurns(
      [
        { Crew(calls, isParallel: true) }, { Crew(loops, isParallel: true) },
        { Crew(calls, isParallel: false) },
      ], pages: Crew.callsInBothHalves * ranges.count * Self.pages, rounds: rounds,
      progress: progress)
    return .threads(
      Self.name, pages: Self.pages, ours: columns[0], floor: columns[1], alone: columns[2])
  }
}

/// Contenders at once, each on a thread, or one after the other. Either half of a sample takes
/// and gives back; it lasts so long that waking the threads costs little.
private final class Crew: Contender {
  private static let calls = 64
  private static let turns = 64
  static let callsInBothHalves = 2 * turns * calls

  private let members: [any Contender]
  private let isParallel: Bool
  let blockLimit = 1

  init(_ members: [any Contender], isParallel: Bool) {
    self.members = members
    self.isParallel = isParallel
  }

  func take(_ count: Int) throws { try work() }
  func give(_ count: Int) throws { try work() }

  private func work() throws {
    guard isParallel else { return try members.forEach(Self.work) }
    let failure = Mutex<(any Error)?>(nil)
    // Each is used by one thread.
    nonisolated(unsafe) let members = members
    unsafe DispatchQueue.concurrentPerform(iterations: members.count) { index in
      do {
        try unsafe Self.work(members[index])
      } catch {
        failure.withLock { $0 = error }
      }
    }
    if let error = failure.withLock({ $0 }) { throw error }
  }

  private static func work(_ member: any Contender) throws {
    for _ in 0..<turns {
      try member.take(calls)
      try member.give(calls)
    }
  }
}
