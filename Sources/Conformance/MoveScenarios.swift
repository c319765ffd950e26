//===----------------------------------------------------------------------===//
// Scenarios of mremap: pages move with their frames, holds and sharing; only the
// address changes (rule G5).
//===----------------------------------------------------------------------===//

/// Two buffers of four pages, the first stored to.
private let twoBuffers: [Step] =
  [
    .map(by: "P", buffer: "x", pages: 4, on: .private),
    .map(by: "P", buffer: "y", pages: 4, on: .private),
  ]
  + (0..<4).map { .store(by: "P", at: Place("x", page: $0), value: 0x30 + UInt8($0)) }
private let whole = Stretch("x", pages: 4)
private let target = Stretch("y", pages: 4)
private let middle = Stretch("x", page: 1, pages: 2)
private let moved = Stretch("y", pages: 2)
private let move = Step.move(by: "P", at: middle, to: Place("y"))

extension Catalogue {
  static let moveScenarios: [Scenario] = moveAnswers + movesUnderHolds + movesAcrossForks

  private static let moveAnswers = [
    Scenario(
      "move.bytes", "pages move onto others, and leave a hole behind",
      twoBuffers + [
        .store(by: "P", at: Place("y", page: 3), value: 0x41), move, .frames(of: target),
        .see(by: "P", at: target), .touch(by: "P", at: whole),
        .store(by: "P", at: Place("y", page: 1), value: 0x42), .see(by: "P", at: moved),
      ]),
    Scenario(
      "move.back", "there and back again",
      twoBuffers + [
        move, .move(by: "P", at: moved, to: Place("x", page: 1)), .see(by: "P", at: whole),
        .touch(by: "P", at: target),
      ]),
    Scenario(
      "move.absent", "pages that were never touched",
      [
        .map(by: "P", buffer: "x", pages: 4, on: .private),
        .map(by: "P", buffer: "y", pages: 4, on: .private),
        .touch(by: "P", at: Stretch("x", page: 1)),
        move, .touch(by: "P", at: target), .resident(by: "P", at: target),
      ]),
    Scenario(
      "move.shared", "shared memory stays shared",
      [
        .map(by: "P", buffer: "x", pages: 4, on: .shared),
        .map(by: "P", buffer: "y", pages: 4, on: .shared),
        .store(by: "P", at: Place("x", page: 1), value: 0x51), .fork(by: "P", child: "C"), move,
        .store(by: "P", at: Place("y"), value: 0x52), .see(by: "C", at: whole),
        .see(by: "P", at: moved),
      ]),
    Scenario(
      "move.overlap", "onto a part of itself",
      twoBuffers + [.move(by: "P", at: middle, to: Place("x", page: 2)), .see(by: "P", at: whole)]),
    Scenario(
      "move.hole", "what is not mapped",
      twoBuffers + [.unmap(by: "P", at: middle), move, .touch(by: "P", at: whole)]),
    Scenario(
      "move.gap", "a range with a hole in it",
      twoBuffers + [
        .unmap(by: "P", at: middle), .move(by: "P", at: whole, to: Place("y")),
        .touch(by: "P", at: whole), .see(by: "P", at: target),
      ]),
    Scenario(
      "move.several", "a range of several areas, onto others of which some are not mapped",
      twoBuffers + [
        .unmap(by: "P", at: Stretch("y", page: 1)), .protect(by: "P", at: middle, to: .readOnly),
        .move(by: "P", at: whole, to: Place("y")), .touch(by: "P", at: whole),
        .see(by: "P", at: target), .store(by: "P", at: Place("y"), value: 0x43),
        .store(by: "P", at: Place("y", page: 2), value: 0x44), .see(by: "P", at: target),
      ]),
    Scenario(
      "move.overlap.hole", "onto a part of itself, and nothing is there",
      twoBuffers + [
        .unmap(by: "P", at: middle), .move(by: "P", at: middle, to: Place("x", page: 2)),
        .see(by: "P", at: whole),
      ]),
    Scenario(
      "move.lift", "pages move, and leave their place mapped and empty",
      twoBuffers + [
        .lift(by: "P", at: middle, to: Place("y")), .resident(by: "P", at: whole),
        .see(by: "P", at: target), .see(by: "P", at: whole),
        .store(by: "P", at: Place("x", page: 1), value: 0x45), .frames(of: whole),
        .frames(of: target),
      ]),
    Scenario(
      "move.lift.several", "the same of a range of several areas",
      twoBuffers + [
        .protect(by: "P", at: middle, to: .readOnly),
        .lift(by: "P", at: whole, to: Place("y")), .see(by: "P", at: whole),
        .see(by: "P", at: target),
      ]),
    Scenario(
      "move.lift.shared", "the same of shared memory",
      [
        .map(by: "P", buffer: "x", pages: 4, on: .shared),
        .map(by: "P", buffer: "y", pages: 4, on: .shared),
        .store(by: "P", at: Place("x", page: 1), value: 0x51),
        .lift(by: "P", at: middle, to: Place("y")), .see(by: "P", at: whole),
        .see(by: "P", at: target),
      ]),
    Scenario(
      "move.protected", "protection moves along",
      twoBuffers + [
        .protect(by: "P", at: middle, to: .readOnly), move,
        .store(by: "P", at: Place("y"), value: 1), .see(by: "P", at: target),
      ]),
  ]

  private static let movesUnderHolds = [Hold.get, .pin, .pinToRead].map { how in
    let brings: [Step] =
      how == .pin
      ? [.deviceWrite(through: "device", at: Place("x", page: 1, block: 2), value: 0x61)] : []
    return Scenario(
      "move.\(how)", "the device keeps the frames that move, and the program its device",
      twoBuffers
        + [.take(by: "P", at: middle, as: "device", how: how, times: 1), move] + brings + [
          .store(by: "P", at: Place("y", page: 0, block: 3), value: 0x62), .see(by: "P", at: moved),
        ] + (how == .pinToRead ? [] : [.deviceRead(through: "device")]) + [
          .fork(by: "P", child: "C"),
          .store(by: "P", at: Place("y", page: 0, block: 4), value: 0x63),
          .deviceRead(through: "device"), .release(hold: "device"), .see(by: "P", at: moved),
          .see(by: "C", at: moved),
        ])
  }

  private static let movesAcrossForks = [
    Scenario(
      "move.fork.parent", "the parent moves what a child shares",
      twoBuffers + [
        .fork(by: "P", child: "C"), move, .store(by: "P", at: Place("y"), value: 0x71),
        .see(by: "P", at: moved), .see(by: "C", at: whole), .exit(by: "C"),
        .store(by: "P", at: Place("y", page: 1), value: 0x72), .see(by: "P", at: moved),
      ]),
    Scenario(
      "move.fork.child", "the child moves it",
      twoBuffers + [
        .fork(by: "P", child: "C"), .move(by: "C", at: middle, to: Place("y")),
        .store(by: "C", at: Place("y"), value: 0x73),
        .store(by: "P", at: Place("x", page: 1), value: 0x74),
        .see(by: "C", at: moved), .see(by: "P", at: whole), .touch(by: "P", at: target),
      ]),
    Scenario(
      "move.dontfork", "advice moves along",
      twoBuffers + [
        .advise(by: "P", at: middle, to: .dontFork), move, .fork(by: "P", child: "C"),
        .touch(by: "C", at: target), .see(by: "P", at: target),
      ]),
  ]
}
