//===----------------------------------------------------------------------===//
// The random test of fork: processes that fork, exit, store, pin, unpin, unmap
// and protect, and another of folios that come, are cut, collapsed, moved and given
// back, beside a model that knows only the rules.
//===----------------------------------------------------------------------===//

import AddressSpaces
import ForkModel
import PageFrames
import TestSupport
import Testing

/// A seed, and where its program runs.
struct RandomRun: Sendable, CustomTestStringConvertible {
  let number: Int
  let isFresh: Bool
  let setting: Setting

  static let steps = 10_000

  /// Four seeds that stay, and two of this run's own. Every other one is short
  /// of frames.
  static let all: [RandomRun] = (0..<6).map { number in
    RandomRun(
      number: number, isFresh: number >= 4,
      setting: Setting(
        tier: TrapTier.testable[number / 2 % TrapTier.testable.count],
        frames: number % 2 == 0 ? 1024 : 48))
  }

  /// Four seeds that stay and a fresh one, in windows with folios. One is short of
  /// frames, so that folios are smaller than was wished, or none.
  static let withFolios: [RandomRun] = [
    (Window.middle, 1 << 18, false), (.large, 1 << 18, false), (.middle, 1 << 18, true),
    (.large, 1536, true), (.middle, 1 << 18, true),
  ].enumerated().map { number, setting in
    RandomRun(
      number: 10 + number, isFresh: number == 4,
      setting: Setting(
        tier: TrapTier.testable[number % TrapTier.testable.count], frames: setting.1,
        window: setting.0, reusesLargeFolios: setting.2))
  }

  /// What a run of this seed comes through: undoing a fork takes a lack of frames,
  /// leaves take plenty.
  var mustHappen: [Happening] {
    if setting.window.hasFolios {
      let hasLeaves = setting.window == .large && setting.isAmple
      return Happening.ofFolios + (hasLeaves ? Happening.ofLeaves : [])
        + (setting.reusesLargeFolios ? [.reusedInFolio] : [])
    }
    return Happening.ofPages + (setting.frames < 64 ? [.forkUndone] : [])
  }
  var source: SeededRandom {
    isFresh ? SeededRandom(stream: 400 + UInt64(number)) : SeededRandom(seed: UInt64(number))
  }
  var name: String {
    isFresh ? "GUP_SEED=\(SeededRandom.seed), stream \(400 + number)" : "seed \(number)"
  }
  var testDescription: String {
    "\(isFresh ? "fresh seed" : "seed") \(number), \(setting.tier), \(setting.frames) frames"
      + (setting.window.hasFolios ? ", \(setting.window.pages) pages" : "")
  }
}

@Suite("Fork against a model")
struct ForkModelTests {
  @Test(
    "G1, G2, G5, D.1 to D.3: bytes, counts and errors of random processes are the model's",
    arguments: RandomRun.all)
  func randomProcesses(run: RandomRun) throws {
    try play(run)
  }

  @Test(
    "C.4, D.2.4, D.3, G6: 50,000 random steps in folios, moved or adopted, end as the model says",
    arguments: RandomRun.withFolios)
  func randomFolios(run: RandomRun) throws {
    try play(run)
  }

  private func play(_ run: RandomRun) throws {
    if run.isFresh { print("random processes: \(run.name)") }
    do {
      let summary = try run.setting.run(steps: RandomRun.steps, Dice(run.source))
      // What this run's own seeds come through may differ.
      if run.isFresh { return }
      if !run.setting.window.hasFolios {
        #expect(summary.stores * 3 >= RandomRun.steps, "a third of the steps are native stores")
      }
      for happening in run.mustHappen {
        #expect(summary.happenings[happening, default: 0] > 0, "\(happening) never happened")
      }
    } catch {
      print("random processes, \(run.name), \(run.setting.tier): \(error)")
      throw error
    }
  }
}
