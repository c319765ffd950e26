//===----------------------------------------------------------------------===//
// What cannot be taken, touched or changed: partial results, permissions,
// mixed ranges, calls that meet holes, and requests that must not fault.
//===----------------------------------------------------------------------===//

private let four = Stretch("x", pages: 4)

private func page(_ index: Int) -> Stretch { Stretch("x", page: index) }

/// Four pages, each written at its start.
private let fourPages: [Step] =
  [.map(by: "P", buffer: "x", pages: 4, on: .private)]
  + (0..<4).map { .store(by: "P", at: Place("x", page: $0), value: UInt8(0x21 + $0)) }

private func take(_ how: Hold, _ stretch: Stretch) -> Step {
  .take(by: "P", at: stretch, as: "device", how: how)
}

extension Catalogue {
  static let refusalScenarios: [Scenario] =
    [Hold.get, .pin, .pinToRead].flatMap(refusals) + noFault + calls + [counts]

  private static func refusals(_ how: Hold) -> [Scenario] {
    func scenario(_ name: String, _ title: String, _ steps: [Step]) -> Scenario {
      Scenario(
        "refuse.\(how).\(name)", "\(how): \(title)",
        steps + [.deviceRead(through: "device"), .see(by: "P", at: four), .frames(of: four)])
    }
    return [
      scenario("all", "four pages", fourPages + [take(how, four)]),
      scenario(
        "unaligned", "from the middle of a page to the middle of another",
        fourPages + [take(how, Stretch("x", from: 1536, length: 9728))]),
      scenario(
        "hole", "a hole after two pages",
        fourPages + [.unmap(by: "P", at: page(2)), take(how, four)]),
      scenario(
        "hole-first", "a hole at once", fourPages + [.unmap(by: "P", at: page(0)), take(how, four)]),
      scenario(
        "closed", "a page that nobody may touch after one",
        fourPages + [.protect(by: "P", at: page(1), to: .none), take(how, four)]),
      scenario(
        "closed-first", "a page that nobody may touch",
        fourPages + [.protect(by: "P", at: page(0), to: .none), take(how, page(0))]),
      scenario(
        "read-only", "read-only pages",
        fourPages + [
          .protect(by: "P", at: four, to: .readOnly), take(how, four),
        ]),
      scenario(
        "write-only", "pages that may only be written",
        fourPages + [
          .protect(by: "P", at: four, to: .writeOnly), take(how, four),
        ]),
      scenario(
        "write-only-later", "a page that may only be written, after one that a fault brings",
        [
          .map(by: "P", buffer: "x", pages: 4, on: .private),
          .protect(by: "P", at: page(1), to: .writeOnly),
          .store(by: "P", at: Place("x", page: 1), value: 0x21), take(how, four),
        ]),
      scenario(
        "write-only-untouched", "untouched pages that may only be written",
        [
          .map(by: "P", buffer: "x", pages: 4, on: .private),
          .protect(by: "P", at: four, to: .writeOnly),
          take(how, four),
        ]),
      scenario(
        "read-only-untouched", "untouched read-only pages",
        [
          .map(by: "P", buffer: "x", pages: 4, on: .private),
          .protect(by: "P", at: four, to: .readOnly),
          take(how, four),
        ]),
      scenario(
        "mixed", "written, untouched, read, shared with a child",
        [
          .map(by: "P", buffer: "x", pages: 4, on: .private),
          .store(by: "P", at: Place("x", page: 3), value: 0x24), .fork(by: "P", child: "C"),
          .store(by: "P", at: Place("x"), value: 0x21), .touch(by: "P", at: page(2)),
          take(how, four),
        ]),
      scenario(
        "two-areas", "over the seam of two areas with different protection",
        fourPages + [
          .protect(by: "P", at: page(1), to: .readOnly),
          .protect(by: "P", at: page(1), to: .readWrite),
          .advise(by: "P", at: page(2), to: .dontFork), take(how, four),
        ]),
    ]
  }

  /// FOLL_NOFAULT: no host call asks for it; the emulator's answers stand alone.
  private static let noFault: [Scenario] = [
    (Hold.getNoFault, "absent", [.map(by: "P", buffer: "x", pages: 4, on: .private)]),
    (.getNoFault, "present", fourPages),
    (.getToWriteNoFault, "read-only", fourPages + [.protect(by: "P", at: four, to: .readOnly)]),
    (.pinNoFault, "closed", fourPages + [.protect(by: "P", at: four, to: .none)]),
    (.pinNoFault, "shared-by-fork", fourPages + [.fork(by: "P", child: "C")]),
    (.getToWriteNoFault, "shared-by-fork", fourPages + [.fork(by: "P", child: "C")]),
    (
      .pinToWriteNoFault, "zero",
      [
        .map(by: "P", buffer: "x", pages: 4, on: .private), .touch(by: "P", at: four),
      ]
    ),
  ].map { (how: Hold, name: String, steps: [Step]) in
    Scenario(
      "nofault.\(how).\(name)", "without faults: \(how) of pages that are \(name)",
      steps + [take(how, four), .frames(of: four)])
  }

  /// What mprotect, madvise and munmap answer, and what a touch then meets.
  private static let calls: [Scenario] = [
    Scenario(
      "call.protect-hole", "protect stops at a hole, and what was before it has changed",
      fourPages + [
        .unmap(by: "P", at: page(2)), .protect(by: "P", at: four, to: .readOnly),
        .store(by: "P", at: Place("x", page: 0), value: 1),
        .store(by: "P", at: Place("x", page: 3), value: 1),
        .see(by: "P", at: four),
      ]),
    Scenario(
      "call.advise-hole", "advice steps over a hole and says so",
      fourPages + [
        .unmap(by: "P", at: page(1)), .advise(by: "P", at: four, to: .dontNeed),
        .see(by: "P", at: four),
      ]),
    Scenario(
      "call.populate-hole", "populating stops at a hole",
      [
        .map(by: "P", buffer: "x", pages: 4, on: .private), .unmap(by: "P", at: page(2)),
        .advise(by: "P", at: four, to: .populateWrite), .resident(by: "P", at: four),
      ]),
    Scenario(
      "call.populate-read-only", "populating read-only memory for writing",
      [
        .map(by: "P", buffer: "x", pages: 4, on: .private),
        .protect(by: "P", at: four, to: .readOnly),
        .advise(by: "P", at: four, to: .populateWrite),
        .advise(by: "P", at: four, to: .populateRead),
        .see(by: "P", at: four),
      ]),
    Scenario(
      "call.populate-closed", "populating memory that nobody may touch",
      [
        .map(by: "P", buffer: "x", pages: 4, on: .private), .protect(by: "P", at: four, to: .none),
        .advise(by: "P", at: four, to: .populateRead), .touch(by: "P", at: four),
      ]),
    Scenario(
      "call.wipe-shared", "wipeOnFork is for private anonymous memory",
      [
        .map(by: "P", buffer: "x", pages: 4, on: .shared),
        .advise(by: "P", at: four, to: .wipeOnFork),
        .map(by: "P", buffer: "y", pages: 1, on: .privateFile),
        .advise(by: "P", at: Stretch("y"), to: .wipeOnFork),
        .advise(by: "P", at: Stretch("y"), to: .keepOnFork),
      ]),
    Scenario(
      "call.unmap-twice", "unmapping what is not there is fine",
      fourPages + [.unmap(by: "P", at: four), .unmap(by: "P", at: four), .touch(by: "P", at: four)]),
    Scenario(
      "call.touch-closed", "loads and stores that the protection forbids",
      fourPages + [
        .protect(by: "P", at: page(0), to: .none), .protect(by: "P", at: page(1), to: .readOnly),
        .touch(by: "P", at: four), .store(by: "P", at: Place("x", page: 0), value: 1),
        .store(by: "P", at: Place("x", page: 1), value: 1),
        .store(by: "P", at: Place("x", page: 2), value: 1),
        .see(by: "P", at: four),
      ]),
    Scenario(
      "call.touch-write-only", "loads and stores of memory that may only be written",
      fourPages + [
        .protect(by: "P", at: four, to: .writeOnly), .touch(by: "P", at: page(0)),
        .store(by: "P", at: Place("x", page: 1), value: 1), .see(by: "P", at: four),
        .advise(by: "P", at: four, to: .populateRead), .advise(by: "P", at: four, to: .dontNeed),
        .touch(by: "P", at: page(0)), .advise(by: "P", at: four, to: .populateWrite),
        .resident(by: "P", at: four),
      ]),
    Scenario(
      "call.dont-need-shared", "dropped shared memory keeps its bytes",
      [
        .map(by: "P", buffer: "x", pages: 4, on: .shared),
        .store(by: "P", at: Place("x"), value: 0x21),
        .advise(by: "P", at: four, to: .dontNeed), .see(by: "P", at: four),
      ]),
    Scenario(
      "call.dont-need-file", "dropped private pages of a file are the file's again",
      [
        .map(by: "P", buffer: "x", pages: 4, on: .privateFile),
        .store(by: "P", at: Place("x"), value: 0x21),
        .see(by: "P", at: four), .advise(by: "P", at: four, to: .dontNeed), .see(by: "P", at: four),
      ]),
    Scenario(
      "call.fork-protections", "a child inherits protections, and changes its own",
      fourPages + [
        .protect(by: "P", at: page(1), to: .readOnly), .fork(by: "P", child: "C"),
        .store(by: "C", at: Place("x", page: 1), value: 1),
        .protect(by: "C", at: page(1), to: .readWrite),
        .store(by: "C", at: Place("x", page: 1), value: 0x31),
        .store(by: "P", at: Place("x", page: 1), value: 1),
        .see(by: "P", at: four), .see(by: "C", at: four), .frames(of: four),
      ]),
    Scenario(
      "call.do-fork", "doFork undoes dontFork, keepOnFork undoes wipeOnFork",
      fourPages + [
        .advise(by: "P", at: page(0), to: .dontFork),
        .advise(by: "P", at: page(1), to: .wipeOnFork),
        .advise(by: "P", at: page(2), to: .dontFork), .advise(by: "P", at: page(2), to: .doFork),
        .advise(by: "P", at: page(3), to: .wipeOnFork),
        .advise(by: "P", at: page(3), to: .keepOnFork),
        .fork(by: "P", child: "C"), .see(by: "C", at: four), .see(by: "P", at: four),
      ]),
  ]

  private static let counts = Scenario(
    "count.pin", "pins are counted by the page when they are taken and dropped", needs: .counters,
    fourPages + [
      .counters, take(.pin, four), .counters, .release(hold: "device"), .counters,
      .directWrite(by: "P", from: [four]), .counters,
      .take(by: "P", at: four, as: "reader", how: .pinToRead, times: 1), .counters,
      .deviceRead(through: "reader"), .release(hold: "reader"), .counters,
      .map(by: "P", buffer: "y", pages: 4, on: .private), .counters,
      .directWrite(by: "P", from: [Stretch("y", pages: 4)]), .counters,
      take(.get, four), .release(hold: "device"), .counters,
    ])
}
