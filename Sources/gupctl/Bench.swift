//===----------------------------------------------------------------------===//
// How things are measured. A contender takes something and gives it back; the
// two halves are timed apart, a block of calls at a time, so that the clock
// costs little and the lists of a block stay in the cache. A sample is as many
// blocks as make both halves last long enough, and each round takes one sample
// of every contender, in an order that turns from round to round.
//===----------------------------------------------------------------------===//

import CShims
import HostKernel
import SwiftGUP

/// Something that takes pages and gives them back.
protocol Contender {
  /// The most calls of `take` before as many of `give`.
  var blockLimit: Int { get }
  /// Takes, `count` times.
  func take(_ count: Int) throws
  /// Gives back what `take` took.
  func give(_ count: Int) throws
  /// Makes ready for the next block; not timed.
  func reset(_ count: Int) throws
}

extension Contender {
  func reset(_ count: Int) throws {}
}

/// Nanoseconds per page, of both halves.
struct Cost {
  var take: Double
  var give: Double

  var both: Double { take + give }
}

/// A contender with what calibration found.
struct Runner {
  let contender: any Contender
  let pages: Int
  private let callsPerBlock: Int
  private let blocks: Int

  /// A half of a sample lasts at least so long.
  private static let sampleNanoseconds = 200_000.0
  /// Blocks grow to this, as far as the contender lets them: the clock's cost is then below 1 %.
  private static let blockNanoseconds = 5_000.0

  init(_ contender: any Contender, pages: Int) throws {
    var calls = 1
    var cost = try Self.time(contender, calls: calls, blocks: 3)
    while min(cost.take, cost.give) < Self.blockNanoseconds, calls < contender.blockLimit {
      calls = min(calls * 2, contender.blockLimit)
      cost = try Self.time(contender, calls: calls, blocks: 3)
    }
    self.contender = contender
    self.pages = pages
    self.callsPerBlock = calls
    self.blocks = Int((Self.sampleNanoseconds / max(min(cost.take, cost.give), 1)).rounded(.up))
  }

  func sample() throws -> Cost {
    let cost = try Self.time(contender, calls: callsPerBlock, blocks: blocks)
    let pages = Double(callsPerBlock * pages)
    return Cost(take: cost.take / pages, give: cost.give / pages)
  }

  /// Nanoseconds per block.
  private static func time(
    _ contender: any Contender, calls: Int, blocks: Int
  ) throws -> Cost {
    var take: UInt64 = 0
    var give: UInt64 = 0
    for _ in 0..<blocks {
      let start = cshims_monotonic_ns()
      try contender.take(calls)
      let taken = cshims_monotonic_ns()
      try contender.give(calls)
      let given = cshims_monotonic_ns()
      take += taken - start
      give += given - taken
      try contender.reset(calls)
    }
    return Cost(take: Double(take) / Double(blocks), give: Double(give) / Double(blocks))
  }
}

/// The samples of one contender, or why there are none.
struct BenchColumn {
  var samples: [Cost] = []
  var why: String?
}

/// The machine, the buffer and the host's memory that all contenders work on.
final class Bench {
  private let space: AddressSpace
  private let start: UserAddress
  /// Where the pages are those of 2 MiB folios.
  private let hugeStart: UserAddress
  private let before: Counters
  private let hostBuffer: Result<HostMemory, HostError>
  private let hostHugeBuffer: Result<HostMemory, HostError>

  /// - Parameters:
  ///   - largest: the most pages that will be asked for.
  ///   - trap: how the address space traps; no pin meets a trap.
  init(largest: Int, trap: TrapTier) throws {
    let size = PageCount(largest).byteCount
    let hugeSize = PageCount((largest + 511) & ~511).byteCount
    do throws(MemoryError) {
      let memory = try PhysicalMemory(trapTier: trap)
      space = try AddressSpace(memory: memory)
      start = try space.map(length: size)
      try space.advise(start, length: size, .populateWrite)
      hugeStart = try space.map(length: hugeSize, folios: .huge)
      try space.advise(hugeStart, length: hugeSize, .populateWrite)
      before = memory.counters
    } catch {
      throw Failure("--pages \(largest): no such buffer: \(error)")
    }
    hostBuffer = Result { () throws(HostError) in try HostMemory(byteCount: size.rawValue) }
    hostHugeBuffer = Result { () throws(HostError) in
      try HostMemory(byteCount: hugeSize.rawValue, huge: true)
    }
  }

  /// One row for each thing that is measured, at one number of pages per call.
  /// - Parameter progress: called after each round with the rounds done.
  func measure(
    pages: Int, rounds: Int, progress: (Int) -> Void
  ) throws -> [BenchRow] {
    let names = Entrant.allCases
    let columns = try takeTurns(
      names.map { entrant in { try self.contender(entrant, pages: pages) } }, pages: pages,
      rounds: rounds, progress: progress)
    func column(_ entrant: Entrant) -> BenchColumn { columns[names.firstIndex(of: entrant)!] }
    return BenchRow.all(pages: pages, column)
  }

  private func contender(_ entrant: Entrant, pages: Int) throws -> any Contender {
    if entrant.isHuge {
      return try entrant.contender(
        Target(space: space, start: hugeStart, pages: pages), hostHugeBuffer)
    }
    return try entrant.contender(Target(space: space, start: start, pages: pages), hostBuffer)
  }

  /// Every page is held as often as before.
  func checkThatNothingIsHeld() throws {
    let holds = HoldBalance(from: before, to: space.memory.counters)
    guard holds.isEven else { throw Failure("pages were not released: \(holds).") }
  }
}

/// Everything that takes part.
enum Entrant: CaseIterable {
  case pin, roofPin, hostPin
  case get, roofGet, hostGet
  case extract, extractIntoList
  case cPin, cExtract
  case pinHuge, getHuge, fillHuge, hostPinHuge, hostGetHuge

  /// Inside 2 MiB folios.
  var isHuge: Bool {
    switch self {
    case .pinHuge, .getHuge, .fillHuge, .hostPinHuge, .hostGetHuge: true
    default: false
    }
  }

  func contender(
    _ target: Target, _ host: Result<HostMemory, HostError>
  ) throws -> any Contender {
    switch self {
    case .pin, .pinHuge: try CallContender(target, .pin)
    case .get, .getHuge: try CallContender(target, .get)
    case .fillHuge: try FillContender(target)
    case .roofPin: try RooflineContender(target, bias: CSHIMS_PIN_BIAS)
    case .roofGet: try RooflineContender(target, bias: 1)
    case .extract: try ExtractContender(target)
    case .extractIntoList: try ExtractIntoListContender(target)
    case .cPin: try CPinContender(pages: target.pages)
    case .cExtract: try CExtractContender(pages: target.pages)
    case .hostPin, .hostPinHuge: try HostPinContender(host.get(), pages: target.pages)
    case .hostGet, .hostGetHuge: try HostGetContender(host.get(), pages: target.pages)
    }
  }
}
