//===----------------------------------------------------------------------===//
// Runs programs, random ones and given ones, and makes a failing one short.
//===----------------------------------------------------------------------===//

import AddressSpaces
import ForkModel
import PageFrames
import TestSupport

/// Where a program runs.
struct Setting: Sendable {
  let tier: TrapTier
  let frames: Int
  var window = Window.small
  var reusesLargeFolios = false

  /// Enough for every folio, whatever is scattered between them.
  var isAmple: Bool { frames > 1 << 16 }
}

/// A world beside its model, step by step.
struct Runner {
  let world: World
  private(set) var model: ForkModel
  private var comparison = Comparison()
  /// Steps that meant something, and native stores among them.
  private(set) var steps = 0
  private(set) var stores = 0

  init(_ memory: PhysicalMemory, _ setting: Setting) {
    if setting.reusesLargeFolios { memory.policy = .reuseLargeFolios }
    world = World(memory, setting.window)
    model = ForkModel(
      window: setting.window, frames: memory.freeFrameCount.rawValue, isAmple: setting.isAmple,
      reusesLargeFolios: setting.reusesLargeFolios)
  }

  /// Takes a step on both sides and compares. False when it means nothing now.
  mutating func take(_ operation: Operation) throws -> Bool {
    guard model.hasMeaning(operation) else { return false }
    let touched = model.touchedPages(by: operation)
    let outcome = try world.perform(operation)
    let expected = model.apply(operation, world.findings(outcome))
    if let objection = model.objection {
      throw Mismatch(description: "\(operation): \(objection)")
    }
    guard outcome == expected else {
      throw Mismatch(description: "\(operation): \(outcome), not \(expected)")
    }
    steps += 1
    if operation.isNativeStore { stores += 1 }
    if steps % 100 == 0 {
      try comparison.checkAll(world, model)
    } else {
      try comparison.check(world, model, pages: touched)
    }
    return true
  }

  /// Compares everything, gives everything back, and sees that all is free.
  mutating func finish() throws {
    try comparison.checkAll(world, model)
    world.close()
    try mustHold(world.memory.zeroPage.referenceCount == 1)
    try mustHold(world.memory.freeFrameCount == world.memory.totalFrameCount)
  }
}

/// What a program came through.
struct Summary {
  let stores: Int
  let happenings: [Happening: Int]
}

/// A program that went wrong, and how.
struct FailedProgram: Error, CustomStringConvertible {
  var program: [Operation]
  var reason: String

  var description: String {
    "\(reason)\nafter \(program.count) steps:\n"
      + program.map { "  \($0)" }.joined(separator: "\n")
  }
}

extension Setting {
  /// Draws and takes `count` steps.
  func run<Source>(steps count: Int, _ dice: Dice<Source>) throws -> Summary {
    var program: [Operation] = []
    var dice = dice
    do {
      return try withMachine(capacity: .pages(frames), tier: tier) { memory in
        var runner = Runner(memory, self)
        defer { runner.world.close() }
        while runner.steps < count {
          let operation = dice.draw(runner.model)
          program.append(operation)
          if try !runner.take(operation) { program.removeLast() }
        }
        try runner.finish()
        return Summary(stores: runner.stores, happenings: runner.model.happenings)
      }
    } catch {
      throw shorten(FailedProgram(program: program, reason: "\(error)"))
    }
  }

  /// Takes the steps of `program`; nil when all is well.
  func failure(of program: [Operation]) -> FailedProgram? {
    var taken: [Operation] = []
    do {
      try withMachine(capacity: .pages(frames), tier: tier) { memory in
        var runner = Runner(memory, self)
        defer { runner.world.close() }
        for operation in program {
          taken.append(operation)
          if try !runner.take(operation) { taken.removeLast() }
        }
        try runner.finish()
      }
      return nil
    } catch {
      return FailedProgram(program: taken, reason: "\(error)")
    }
  }

  /// Leaves steps out, many at a time at first, as long as it still fails.
  func shorten(_ failed: FailedProgram) -> FailedProgram {
    guard var best = failure(of: failed.program) else {
      return FailedProgram(
        program: failed.program, reason: "\(failed.reason)\n(and not when run again)")
    }
    var stepsLeft = 500_000
    var length = best.program.count / 2
    while length > 0, stepsLeft > 0 {
      var start = 0
      var wasShortened = false
      while start < best.program.count, stepsLeft > 0 {
        var program = best.program
        program.removeSubrange(start..<min(start + length, program.count))
        stepsLeft -= program.count
        if let shorter = failure(of: program) {
          best = shorter
          wasShortened = true
        } else {
          start += length
        }
      }
      if !wasShortened || length > 1 { length /= 2 }
    }
    return best
  }
}
