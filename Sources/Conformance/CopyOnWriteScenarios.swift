//===----------------------------------------------------------------------===//
// Copy-on-write and holds over every backing: who sees what, whose page it is
// and what the device is left with, step by step.
//===----------------------------------------------------------------------===//

/// How a page came to be as it is.
private struct Origin {
  let name: String
  let title: String
  let backing: Backing
  let steps: [Step]

  init(_ name: String, _ title: String, on backing: Backing = .private, _ steps: [Step]) {
    self.name = name
    self.title = title
    self.backing = backing
    self.steps = [.map(by: "P", buffer: "x", pages: 1, on: backing)] + steps
  }

  /// Whose the page is, where that is told whether it was touched after a fork or not.
  var owners: [Step] { backing.isAnonymous ? [.frames(of: x)] : [] }

  static let all = [
    Origin("untouched", "memory that nobody touched", []),
    Origin("zero", "memory that was only read", [.touch(by: "P", at: x)]),
    Origin("fresh", "a page just written", [.store(by: "P", at: storedAt, value: original)]),
    Origin(
      "once-shared", "a page that a child shared once",
      [.store(by: "P", at: storedAt, value: original), .fork(by: "P", child: "F"), .exit(by: "F")]),
    Origin(
      "remapped", "a page that was read-only for a while",
      [
        .store(by: "P", at: storedAt, value: original), .protect(by: "P", at: x, to: .readOnly),
        .protect(by: "P", at: x, to: .readWrite),
      ]),
    Origin(
      "closed", "a page that nobody could touch for a while",
      [
        .store(by: "P", at: storedAt, value: original), .protect(by: "P", at: x, to: .none),
        .protect(by: "P", at: x, to: .readWrite),
      ]),
    Origin(
      "shared", "shared memory", on: .shared, [.store(by: "P", at: storedAt, value: original)]),
    Origin("shared-untouched", "shared memory that nobody touched", on: .shared, []),
    Origin("file", "a private mapping of a file", on: .privateFile, [.touch(by: "P", at: x)]),
    Origin(
      "file-written", "a private mapping of a file, written", on: .privateFile,
      [.store(by: "P", at: storedAt, value: original)]),
    Origin("shared-file", "a shared mapping of a file", on: .sharedFile, [.touch(by: "P", at: x)]),
  ]
}

extension Catalogue {
  static let copyOnWriteScenarios: [Scenario] =
    Origin.all.map(plain)
    + Origin.all.flatMap { origin in
      [Hold.get, .pin].flatMap { [held(origin, $0), heldByChild(origin, $0)] }
        + [read(origin), readBeforeFork(origin)]
    } + [usedTwice]

  /// Of a page that is used again the kernel keeps count for a while, which is nobody's hold.
  private static let usedTwice = Scenario(
    "cow.used-twice", "a page that was populated and taken is reused when all have let go",
    needs: .frames,
    [
      .map(by: "P", buffer: "x", pages: 2, on: .private),
      .advise(by: "P", at: Stretch("x", page: 1), to: .populateWrite), .fork(by: "P", child: "C"),
      .store(by: "C", at: Place("x", page: 1), value: 0x66),
      .take(by: "P", at: Stretch("x", pages: 2), as: "device", how: .get, times: 1),
      .release(hold: "device"), .store(by: "P", at: Place("x", page: 1), value: stored),
      .frames(of: Stretch("x", pages: 2)),
    ])

  /// Without a hold: fork, and everybody stores.
  private static func plain(_ origin: Origin) -> Scenario {
    Scenario(
      "cow.\(origin.name)", "fork and stores over \(origin.title)",
      origin.steps + [
        .fork(by: "P", child: "C"), .see(by: "C", at: x), .see(by: "P", at: x), .frames(of: x),
        Step.stores("C", 0x66), .see(by: "P", at: x), .frames(of: x), Step.stores("P"),
        .see(by: "C", at: x),
        .frames(of: x), .exit(by: "C"), Step.stores("P", 0x77), .see(by: "P", at: x),
        .frames(of: x),
      ])
  }

  /// Held by the parent before the fork.
  private static func held(_ origin: Origin, _ how: Hold) -> Scenario {
    let brings = how == .pin ? [Step.deviceWrites] : []
    return Scenario(
      "cow.\(origin.name).\(how)", "\(how) before the fork over \(origin.title)",
      origin.steps + [.hold(how), Step.stores("P"), .deviceRead(through: "device")] + brings + [
        .see(by: "P", at: x), .fork(by: "P", child: "C"), .see(by: "C", at: x),
        Step.stores("C", 0x66),
        .see(by: "P", at: x), .deviceRead(through: "device"), Step.stores("P", 0x77),
        .deviceRead(through: "device"), .see(by: "C", at: x), .frames(of: x),
        .release(hold: "device"),
        Step.stores("P", 0x78), .see(by: "P", at: x), .frames(of: x),
      ])
  }

  /// Held by the child after the fork.
  private static func heldByChild(_ origin: Origin, _ how: Hold) -> Scenario {
    let brings = how == .pin ? [Step.deviceWrites] : []
    return Scenario(
      "cow.\(origin.name).\(how).child", "\(how) by the child over \(origin.title)",
      origin.steps + [.fork(by: "P", child: "C"), .hold(how, by: "C")] + brings + [
        .see(by: "P", at: x), .see(by: "C", at: x), .frames(of: x), Step.stores("P"),
        .deviceRead(through: "device"), Step.stores("C", 0x66), .deviceRead(through: "device"),
        .exit(by: "C"), .deviceRead(through: "device"), .release(hold: "device"),
        .see(by: "P", at: x),
        .frames(of: x),
      ])
  }

  /// Pinned by the parent to be read, after a fork, while both store.
  private static func read(_ origin: Origin) -> Scenario {
    Scenario(
      "cow.\(origin.name).pinToRead", "pinToRead after a fork over \(origin.title)",
      origin.steps + [.fork(by: "P", child: "C"), .hold(.pinToRead)] + origin.owners
        + [Step.stores("C", 0x66), Step.stores("P")] + origin.owners + readings)
  }

  /// The same before it.
  private static func readBeforeFork(_ origin: Origin) -> Scenario {
    Scenario(
      "cow.\(origin.name).pinToRead.fork", "pinToRead before the fork over \(origin.title)",
      origin.steps + [.hold(.pinToRead), .fork(by: "P", child: "C")] + origin.owners
        + [Step.stores("P"), Step.stores("C", 0x66)] + origin.owners + readings)
  }

  private static let readings: [Step] = [
    .deviceRead(through: "device"), .see(by: "P", at: x), .see(by: "C", at: x),
    .release(hold: "device"),
  ]
}
