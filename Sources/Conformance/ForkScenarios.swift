//===----------------------------------------------------------------------===//
// S1 to S25 of semantics D.6, under GET and under PIN. Where GET lets a device
// write, no host call does: the script then shows by a device read which page
// the device was left with, and a script of the emulator's own has the write.
//===----------------------------------------------------------------------===//

private let paired =
  "a device write through a plain reference has no host call; the device reads instead"
private let waits = "the device's transfer waits in its middle, with the page pinned"
private let longReadPin = "no system call pins for long reading"

extension Catalogue {
  static let forkScenarios: [Scenario] = beforeFork + afterFork + leftOut + kept

  /// S1 to S5: the hold is there before the fork.
  private static let beforeFork: [Scenario] = [
    Scenario(
      "S1.get", "hold, fork, the parent stores: the device is left behind", note: paired,
      Step.aPage() + [
        .hold(.get), .fork(by: "P", child: "C"), Step.stores("P"), .deviceFinds(original),
      ] + Step.finds("P", stored, original) + Step.finds("C", original, original)),
    Scenario(
      "S1.get-write", "hold to write, fork, the parent stores: the child sees what is brought",
      Step.aPage() + [
        .hold(.getToWrite), .fork(by: "P", child: "C"), Step.stores("P"), .deviceWrites,
      ] + Step.finds("P", stored, original) + Step.finds("C", original, brought)),
    Scenario(
      "S1.pin", "hold, fork, the parent stores: the parent keeps the page",
      Step.aPage() + [.hold(.pin), .fork(by: "P", child: "C"), Step.stores("P"), .deviceWrites]
        + Step.finds("P", stored, brought) + Step.finds("C", original, original)),
    Scenario(
      "S2.get", "both store after the fork: the device is alone", note: paired,
      Step.aPage() + [
        .hold(.get), .fork(by: "P", child: "C"), Step.stores("C", 0x66), Step.stores("P"),
        .deviceFinds(original),
      ] + Step.finds("P", stored, original) + Step.finds("C", 0x66, original)),
    Scenario(
      "S2.pin", "both store after the fork: the parent keeps the page",
      Step.aPage() + [
        .hold(.pin), .fork(by: "P", child: "C"), Step.stores("C", 0x66), Step.stores("P"),
        .deviceWrites,
      ] + Step.finds("P", stored, brought) + Step.finds("C", 0x66, original)),
    Scenario(
      "S3.get", "nobody stores after the fork: the page is shared", needs: .frames, note: paired,
      Step.aPage() + [
        .hold(.get), .fork(by: "P", child: "C"), .frames(of: x), .deviceFinds(original),
      ]),
    Scenario(
      "S3.get-write", "nobody stores after the fork: both see what is brought",
      Step.aPage() + [.hold(.getToWrite), .fork(by: "P", child: "C"), .deviceWrites]
        + Step.finds("P", original, brought) + Step.finds("C", original, brought)),
    Scenario(
      "S3.pin", "nobody stores after the fork: the parent alone sees what is brought",
      Step.aPage() + [.hold(.pin), .fork(by: "P", child: "C"), .deviceWrites, .frames(of: x)]
        + Step.finds("P", original, brought) + Step.finds("C", original, original)),
    Scenario(
      "S4.get", "a short-lived child is enough to lose the device's page", note: paired,
      Step.aPage() + [
        .hold(.get), .fork(by: "P", child: "C"), .exit(by: "C"), Step.stores("P"),
        .deviceFinds(original),
      ] + Step.finds("P", stored, original)),
    Scenario(
      "S4.pin", "a short-lived child does no harm to a pin",
      Step.aPage() + [
        .hold(.pin), .fork(by: "P", child: "C"), .exit(by: "C"), Step.stores("P"), .deviceWrites,
      ] + Step.finds("P", stored, brought)),
    Scenario(
      "S5.get", "without a store the page stays", note: paired,
      Step.aPage() + [
        .hold(.get), .fork(by: "P", child: "C"), .exit(by: "C"), .deviceFinds(original),
        .frames(of: x),
      ] + Step.finds("P", original, original)),
    Scenario(
      "S5.pin", "without a store the page stays",
      Step.aPage() + [
        .hold(.pin), .fork(by: "P", child: "C"), .exit(by: "C"), .deviceWrites, .frames(of: x),
      ]
        + Step.finds("P", original, brought)),
  ]

  /// S6 to S11: the hold comes after a fork, or is for reading.
  private static let afterFork: [Scenario] = [
    Scenario(
      "S6.pin", "a pin after the fork gets a page of its own first",
      Step.aPage() + [.fork(by: "P", child: "C"), .hold(.pin), .deviceWrites, .frames(of: x)]
        + Step.finds("P", original, brought) + Step.finds("C", original, original)),
    Scenario(
      "S6.pin.alone", "the child has gone before the pin: no copy is made",
      Step.aPage() + [
        .fork(by: "P", child: "C"), .exit(by: "C"), .hold(.pin), .deviceWrites, .frames(of: x),
      ] + Step.finds("P", original, brought)),
    Scenario(
      "S7.get", "the next fork takes the page away from a reference again", note: paired,
      Step.aPage() + [
        .fork(by: "P", child: "C"), Step.stores("P"), .hold(.get), .fork(by: "P", child: "D"),
        Step.stores("P", 0x66), .deviceFinds(stored),
      ] + Step.finds("P", 0x66, original) + Step.finds("C", original, original)
        + Step.finds("D", stored, original)),
    Scenario(
      "S7.pin", "the next fork does no harm to a pin",
      Step.aPage() + [
        .fork(by: "P", child: "C"), .hold(.pin), .fork(by: "P", child: "D"), Step.stores("P"),
        .deviceWrites, .frames(of: x),
      ] + Step.finds("P", stored, brought) + Step.finds("C", original, original)
        + Step.finds("D", original, original)),
    Scenario(
      "S8.pin", "the child pins: it gets the copy",
      Step.aPage() + [
        .fork(by: "P", child: "C"), .hold(.pin, by: "C"), .deviceWrites, .frames(of: x),
      ] + Step.finds("P", original, original) + Step.finds("C", original, brought)),
    Scenario(
      "S9.pin", "a grandchild shares with the child: pins are not inherited", needs: .frames,
      Step.aPage() + [
        .hold(.pin), .fork(by: "P", child: "C"), .fork(by: "C", child: "D"), .frames(of: x),
        .deviceWrites,
      ] + Step.finds("P", original, brought) + Step.finds("C", original, original)
        + Step.finds("D", original, original)),
    Scenario(
      "S10.get", "fork, a hold for reading, the parent stores: the device reads old bytes",
      Step.aPage() + [
        .fork(by: "P", child: "C"), .hold(.get), Step.stores("P"), .deviceFinds(original),
      ] + Step.finds("P", stored, original) + Step.finds("C", original, original)),
    Scenario(
      "S10.pin-read", "fork, a pin for reading, the parent stores: the device reads new bytes",
      note: waits,
      Step.aPage() + [
        .fork(by: "P", child: "C"), .hold(.pinToRead), Step.stores("P"), .deviceFinds(stored),
      ] + Step.finds("C", original, original)),
    Scenario(
      "S10.direct", "a direct write's pin for reading gives the parent a page of its own",
      needs: .frames, note: "the pin lasts as long as the transfer",
      Step.aPage() + [
        .fork(by: "P", child: "C"), .directWrite(by: "P", from: [x]), .frames(of: x),
        Step.stores("P"),
        .frames(of: x),
      ] + Step.finds("P", stored, original) + Step.finds("C", original, original)),
    Scenario(
      "S11.get", "a reference for reading before the fork: the device reads old bytes",
      Step.aPage() + [
        .hold(.get), .fork(by: "P", child: "C"), Step.stores("P"), .deviceFinds(original),
      ] + Step.finds("C", original, original)),
    Scenario(
      "S11.pin", "a pin before the fork: the device reads new bytes",
      note: "the host's pin is for writing; the device only reads",
      Step.aPage() + [
        .hold(.pin), .fork(by: "P", child: "C"), Step.stores("P"), .deviceFinds(stored),
      ] + Step.finds("C", original, original)),
    Scenario(
      "S11.pin-read", "a pin for reading before the fork: the device reads new bytes",
      note: waits,
      Step.aPage() + [
        .hold(.pinToRead), .fork(by: "P", child: "C"), Step.stores("P"), .deviceFinds(stored),
      ] + Step.finds("C", original, original)),
  ]

  /// S12 to S17: memory that fork treats otherwise, and holds that outlive mappings.
  private static let leftOut: [Scenario] = [
    Scenario(
      "S12.get", "dontFork leaves the page to the parent",
      Step.aPage() + [
        .hold(.get), .advise(by: "P", at: x, to: .dontFork), .fork(by: "P", child: "C"),
        Step.stores("P"),
        .deviceFinds(stored), .touch(by: "C", at: x),
      ] + Step.finds("P", stored, original)),
    Scenario(
      "S12.pin", "dontFork leaves the page to the parent",
      Step.aPage() + [
        .hold(.pin), .advise(by: "P", at: x, to: .dontFork), .fork(by: "P", child: "C"),
        Step.stores("P"),
        .deviceWrites, .touch(by: "C", at: x),
      ] + Step.finds("P", stored, brought)),
    Scenario(
      "S13.get", "wipeOnFork: the child finds zeroes",
      Step.aPage() + [
        .hold(.get), .advise(by: "P", at: x, to: .wipeOnFork), .fork(by: "P", child: "C"),
        Step.stores("P"),
        .deviceFinds(stored),
      ] + Step.finds("P", stored, original) + Step.finds("C", 0, 0)),
    Scenario(
      "S13.pin", "wipeOnFork: the child finds zeroes",
      Step.aPage() + [
        .hold(.pin), .advise(by: "P", at: x, to: .wipeOnFork), .fork(by: "P", child: "C"),
        Step.stores("P"),
        .deviceWrites,
      ] + Step.finds("P", stored, brought) + Step.finds("C", 0, 0)),
    Scenario(
      "S14.get", "a shared mapping is coherent for all",
      Step.aPage(.shared) + [
        .hold(.get), .fork(by: "P", child: "C"), Step.stores("P"), .deviceFinds(stored),
        Step.stores("C", 0x66), .deviceFinds(0x66),
      ] + Step.finds("P", 0x66, original) + Step.finds("C", 0x66, original)),
    Scenario(
      "S14.pin", "a shared mapping is coherent for all",
      Step.aPage(.shared) + [
        .hold(.pin), .fork(by: "P", child: "C"), Step.stores("P"), .deviceWrites,
      ] + Step.finds("P", stored, brought) + Step.finds("C", stored, brought)),
    Scenario(
      "S15.get", "a child's reference never shows the parent's later secret (CVE-2020-29374)",
      Step.aPage() + [
        .fork(by: "P", child: "C"), .hold(.get, by: "C"), .unmap(by: "C", at: x),
        Step.stores("P", 0x5e),
        .deviceFinds(original),
      ] + Step.finds("P", 0x5e, original)),
    Scenario(
      "S15.pin", "a child's pin never shows the parent's later secret",
      Step.aPage() + [
        .fork(by: "P", child: "C"), .hold(.pin, by: "C"), .unmap(by: "C", at: x),
        Step.stores("P", 0x5e),
        .deviceFinds(original),
      ] + Step.finds("P", 0x5e, original)),
    Scenario(
      "S16.get.before", "held before the fork, unmapped, the child stores",
      Step.aPage() + [
        .hold(.get), .fork(by: "P", child: "C"), .unmap(by: "P", at: x), Step.stores("C"),
        .deviceFinds(original),
      ] + Step.finds("C", stored, original)),
    Scenario(
      "S16.get.after", "held after the fork, unmapped, the child stores",
      Step.aPage() + [
        .fork(by: "P", child: "C"), .hold(.get), .unmap(by: "P", at: x), Step.stores("C"),
        .deviceFinds(original),
      ] + Step.finds("C", stored, original)),
    Scenario(
      "S16.pin.before", "pinned before the fork, unmapped, the child stores",
      Step.aPage() + [
        .hold(.pin), .fork(by: "P", child: "C"), .unmap(by: "P", at: x), Step.stores("C"),
        .deviceFinds(original),
      ] + Step.finds("C", stored, original)),
    Scenario(
      "S16.pin.after", "pinned after the fork, unmapped, the child stores",
      Step.aPage() + [
        .fork(by: "P", child: "C"), .hold(.pin), .unmap(by: "P", at: x), Step.stores("C"),
        .deviceFinds(original),
      ] + Step.finds("C", stored, original)),
    Scenario(
      "S17.pin", "a pin that races with fork is taken before or after it",
      unobservable: "a race is no script; the emulator's threads race in its own tests",
      Step.aPage() + [.hold(.pin), .fork(by: "P", child: "C"), .deviceWrites]
        + Step.finds("P", original, brought) + Step.finds("C", original, original)),
  ]

  /// S18 to S25: counts, and what becomes of a page that is held.
  private static let kept: [Scenario] =
    [
      Scenario(
        "S18.get", "a reference on untouched memory is the zero page's",
        [
          .map(by: "P", buffer: "x", pages: 1, on: .private), .hold(.get), Step.stores("P"),
          .deviceFinds(0),
        ]),
      Scenario(
        "S18.pin-read", "a pin for reading of untouched memory is the zero page's",
        note: waits,
        [
          .map(by: "P", buffer: "x", pages: 1, on: .private), .hold(.pinToRead), Step.stores("P"),
          .deviceFinds(0),
        ]),
      Scenario(
        "S18.pin-read-long", "a pin for long reading of untouched memory stays coherent",
        unobservable: longReadPin,
        [
          .map(by: "P", buffer: "x", pages: 1, on: .private), .hold(.pinToReadLong),
          Step.stores("P"),
          .deviceFinds(stored),
        ]),
      Scenario(
        "S18.direct", "a direct write from untouched memory takes no page", needs: .frames,
        [
          .map(by: "P", buffer: "x", pages: 1, on: .private), .directWrite(by: "P", from: [x]),
          .resident(by: "P", at: x), Step.stores("P"), .directWrite(by: "P", from: [x]),
        ]),
      references(
        "S19.get", "1,024 references are no pins to a process that never pinned", [],
        deviceFinds: original),
      references(
        "S19.pin", "1,024 references look like a pin to a process that pinned once",
        [
          .map(by: "P", buffer: "y", pages: 1, on: .private),
          .take(by: "P", at: Stretch("y"), as: "pin", how: .pin), .release(hold: "pin"),
        ], deviceFinds: stored),
      Scenario(
        "S19.child", "that a process pinned once is not inherited: its child never did",
        Step.aPage() + [
          .hold(.pin), .release(hold: "device"), .fork(by: "P", child: "C"), .exit(by: "P"),
          Step.stores("C", original),
        ]
          + (0..<4).map {
            .take(by: "C", at: x, as: "pipe\($0)", how: .get, times: 256)
          } + [
            .fork(by: "C", child: "D"), .frames(of: x), Step.stores("C"),
            .expectDevice(through: "pipe0", at: storedAt, value: original), .frames(of: x),
          ]),
      Scenario(
        "S13.grandchild", "wipeOnFork is inherited: a child's child finds zeroes, too",
        Step.aPage() + [
          .advise(by: "P", at: x, to: .wipeOnFork), .fork(by: "P", child: "C"), Step.stores("C"),
          .fork(by: "C", child: "D"),
        ] + Step.finds("C", stored, 0) + Step.finds("D", 0, 0)),
    ] + dropped(.get) + dropped(.pin) + [
      Scenario(
        "S21.get", "read-only and back keeps the page",
        Step.aPage() + [
          .hold(.get), .protect(by: "P", at: x, to: .readOnly),
          .protect(by: "P", at: x, to: .readWrite),
          Step.stores("P"), .deviceFinds(stored),
        ]),
      Scenario(
        "S21.pin", "read-only and back keeps the page",
        Step.aPage() + [
          .hold(.pin), .protect(by: "P", at: x, to: .readOnly),
          .protect(by: "P", at: x, to: .readWrite),
          Step.stores("P"), .deviceFinds(stored), .deviceWrites,
        ] + Step.finds("P", stored, brought)),
      Scenario(
        "S22.direct", "the last mapper's pin for reading makes the page its own without a copy",
        needs: .frames,
        Step.aPage() + [
          .fork(by: "P", child: "C"), .exit(by: "C"), .directWrite(by: "P", from: [x]),
          .frames(of: x),
          Step.stores("P"),
        ]),
      Scenario(
        "S22.pin", "the last mapper's pin makes the page its own without a copy", needs: .frames,
        Step.aPage() + [
          .fork(by: "P", child: "C"), .exit(by: "C"), .hold(.pin), .deviceWrites, .frames(of: x),
        ] + Step.finds("P", original, brought)),
      Scenario(
        "S24.pin", "no frame for the eager copy: fork fails, the parent is as before",
        unobservable: "a host's memory is not exhausted on purpose", frames: 1,
        Step.aPage() + [.hold(.pin), .fork(by: "P", child: "C"), Step.stores("P"), .deviceWrites]
          + Step.finds("P", stored, brought)),
      Scenario(
        "S25.get", "a reference that was dropped leaves nothing behind", needs: .frames,
        Step.aPage() + [
          .hold(.get), .release(hold: "device"), .fork(by: "P", child: "C"), .frames(of: x),
          .exit(by: "C"),
          Step.stores("P"), .frames(of: x),
        ]),
      Scenario(
        "S25.pin", "no pin left: shared, although pins were taken once", needs: .frames,
        Step.aPage() + [
          .hold(.pin), .release(hold: "device"), .fork(by: "P", child: "C"), .frames(of: x),
        ]),
    ]

  private static func references(
    _ id: String, _ title: String, _ before: [Step], deviceFinds value: UInt8
  ) -> Scenario {
    let holds = (0..<4).map { Step.take(by: "P", at: x, as: "pipe\($0)", how: .get, times: 256) }
    return Scenario(
      id, title,
      Step.aPage() + before + holds + [
        .fork(by: "P", child: "C"), .frames(of: x), Step.stores("P"),
        .expectDevice(through: "pipe0", at: storedAt, value: value),
      ] + Step.finds("P", stored, original) + Step.finds("C", original, original))
  }

  /// S20.
  private static func dropped(_ how: Hold) -> [Scenario] {
    let ways: [(name: String, title: String, steps: [Step])] = [
      (
        "unmap", "unmapped and mapped again",
        [.unmap(by: "P", at: x), .map(by: "P", buffer: "x", pages: 1, on: .private)]
      ),
      ("dontNeed", "dropped by advice", [.advise(by: "P", at: x, to: .dontNeed)]),
    ]
    return ways.map { way in
      let brings = how == .pin ? [Step.deviceWrites] : []
      return Scenario(
        "S20.\(how).\(way.name)",
        "\(way.title) under a hold: a fresh page, the device keeps the old",
        Step.aPage() + [.hold(how)] + way.steps + [Step.stores("P")] + brings
          + [.deviceRead(through: "device"), .release(hold: "device")] + Step.finds("P", stored, 0))
    }
  }
}
