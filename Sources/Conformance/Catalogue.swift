//===----------------------------------------------------------------------===//
// The catalogue: every named scenario, and the phrases they are written in.
//===----------------------------------------------------------------------===//

public enum Catalogue {
  /// Every scenario, in the order of the semantics.
  public static let all: [Scenario] =
    forkScenarios + copyOnWriteScenarios + refusalScenarios + forceScenarios + extractionScenarios
    + folioScenarios + moveScenarios
}

// The bytes of semantics D.6: what is there from the start, what a process stores, what the device
// brings; each at a block of its own.
let original: UInt8 = 0x11
let stored: UInt8 = 0x55
let brought: UInt8 = 0xdd
let storedAt = Place("x", page: 0, block: 1)
let broughtAt = Place("x", page: 0, block: 4)
let x = Stretch("x")

extension Step {
  /// P has a page with bytes of its own at both places.
  static func aPage(_ backing: Backing = .private) -> [Step] {
    [
      .map(by: "P", buffer: "x", pages: 1, on: backing),
      .store(by: "P", at: storedAt, value: original),
      .store(by: "P", at: broughtAt, value: original),
    ]
  }

  static func take(
    by process: String, at stretch: Stretch, as name: String, how: Hold
  ) -> Step {
    .take(by: process, at: stretch, as: name, how: how, times: 1)
  }

  static func hold(_ how: Hold, by process: String = "P") -> Step {
    .take(by: process, at: x, as: "device", how: how)
  }

  static func stores(_ process: String, _ value: UInt8 = stored) -> Step {
    .store(by: process, at: storedAt, value: value)
  }

  static let deviceWrites = Step.deviceWrite(through: "device", at: broughtAt, value: brought)

  /// What a process finds at the two places.
  static func finds(_ process: String, _ stored: UInt8, _ brought: UInt8) -> [Step] {
    [
      .expect(by: process, at: storedAt, value: stored),
      .expect(by: process, at: broughtAt, value: brought),
    ]
  }

  /// What the device finds where processes store.
  static func deviceFinds(_ value: UInt8) -> Step {
    .expectDevice(through: "device", at: storedAt, value: value)
  }
}
