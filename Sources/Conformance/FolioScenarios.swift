//===----------------------------------------------------------------------===//
// The same in a folio of 2 MiB: S1 to S25 with their page in one, behind a leaf
// and behind entries of its pages, and what only folios have (S23, D.2.4, D.3
// row 3).
//===----------------------------------------------------------------------===//

private let huge = Cast.hugePages
private let eight = Stretch("x", pages: 8)

/// How a folio of 2 MiB is mapped.
private enum Mapped: String, CaseIterable {
  /// By one entry of the middle level.
  case leaf
  /// By an entry for each page: a part was advised otherwise for a while, which splits the leaf.
  case entries

  var steps: [Step] {
    switch self {
    case .leaf: []
    case .entries:
      [
        .advise(by: "P", at: Stretch("x", page: huge - 1), to: .dontFork),
        .advise(by: "P", at: Stretch("x", page: huge - 1), to: .doFork),
      ]
    }
  }
}

extension Catalogue {
  static let folioScenarios: [Scenario] =
    Mapped.allCases.flatMap { mapped in
      forkScenarios.compactMap { $0.inFolio(mapped) } + own(mapped)
    } + zero

  /// Huge memory that was only read, then written.
  private static let zero: [Scenario] = [
    Scenario(
      "folio.zero", "a store to huge memory that was only read brings a folio", needs: .frames,
      differences: [
        KnownDifference(
          before: KernelVersion(6, 13), host: [3: "00100000"],
          why: "D.3 row 4: before 6.13 a store splits the huge zero page and brings one page")
      ],
      [
        .map(by: "P", buffer: "x", pages: huge, on: .huge), .touch(by: "P", at: eight),
        .store(by: "P", at: Place("x", page: 2), value: stored), .resident(by: "P", at: eight),
        .see(by: "P", at: eight),
      ]),
    Scenario(
      "folio.zero.part", "a store to huge memory that was read, and of which a part was dropped",
      needs: .frames,
      differences: [
        KnownDifference(
          host: [4: "00100000"],
          why: """
            D.3 row 4: there is no huge zero page here that dropping a part would split, so a \
            store still brings a folio; on Linux it brings one page
            """)
      ],
      [
        .map(by: "P", buffer: "x", pages: huge, on: .huge), .touch(by: "P", at: eight),
        .advise(by: "P", at: Stretch("x", page: 4), to: .dontNeed),
        .store(by: "P", at: Place("x", page: 2), value: stored), .resident(by: "P", at: eight),
        .see(by: "P", at: eight),
      ]),
  ]

  private static func own(_ mapped: Mapped) -> [Scenario] {
    let folio: [Step] =
      [.map(by: "P", buffer: "x", pages: huge, on: .huge)]
      + (0..<8).map { .store(by: "P", at: Place("x", page: $0), value: UInt8(0x21 + $0)) }
      + mapped.steps
    func scenario(_ id: String, _ title: String, _ steps: [Step]) -> Scenario {
      Scenario("\(id).\(mapped)", title, folio + steps)
    }
    let third = Stretch("x", page: 3)
    let looks: [Step] = [.frames(of: eight), .see(by: "P", at: eight), .see(by: "C", at: eight)]
    return [
      scenario(
        "S23.pin", "one page of a folio is pinned: every page of it is copied for the child",
        [
          .take(by: "P", at: third, as: "device", how: .pin), .fork(by: "P", child: "C"),
          .frames(of: eight), .store(by: "P", at: Place("x", page: 3), value: stored),
          .store(by: "P", at: Place("x", page: 5), value: stored),
          .deviceWrite(through: "device", at: Place("x", page: 3, block: 4), value: brought),
        ] + looks),
      scenario(
        "S23.get", "one page of a folio is referenced: all are shared",
        [
          .take(by: "P", at: third, as: "device", how: .get), .fork(by: "P", child: "C"),
          .frames(of: eight), .store(by: "P", at: Place("x", page: 3), value: stored),
          .store(by: "P", at: Place("x", page: 5), value: stored), .deviceRead(through: "device"),
        ] + looks),
      scenario(
        "folio.cow", "a store takes one page out of a shared folio",
        [
          .fork(by: "P", child: "C"), .store(by: "C", at: Place("x", page: 2), value: stored),
          .store(by: "P", at: Place("x", page: 3), value: stored),
        ] + looks),
      Scenario(
        "folio.reuse.\(mapped)", "the child has gone: stores reuse the folio, as this kernel does",
        needs: .frames,
        folio + [
          .fork(by: "P", child: "C"), .exit(by: "C"),
          .store(by: "P", at: Place("x", page: 2), value: stored), .frames(of: eight),
          .see(by: "P", at: eight),
        ]),
      Scenario(
        "folio.reuse.held.\(mapped)", "a reference anywhere in a folio forbids to reuse it",
        needs: .frames,
        folio + [
          .take(by: "P", at: third, as: "device", how: .get), .fork(by: "P", child: "C"),
          .exit(by: "C"), .store(by: "P", at: Place("x", page: 2), value: stored),
          .frames(of: eight), .see(by: "P", at: eight),
        ]),
      Scenario(
        "folio.reuse.pin.\(mapped)",
        "a pin of two pages: the first one's forbids to reuse the second",
        needs: .frames,
        folio + [
          .fork(by: "P", child: "C"), .protect(by: "C", at: third, to: .readOnly),
          .protect(by: "C", at: third, to: .readWrite), .exit(by: "P"),
          .take(by: "C", at: Stretch("x", page: 3, pages: 2), as: "device", how: .pin),
          .frames(of: eight), .see(by: "C", at: eight),
        ]),
      Scenario(
        "folio.reuse.advised.\(mapped)", "advice that changes nothing splits nothing",
        needs: .frames,
        folio + [
          .fork(by: "P", child: "C"), .exit(by: "C"),
          .advise(by: "P", at: third, to: .keepOnFork),
          .take(by: "P", at: Stretch("x"), as: "device", how: .pin),
          .store(by: "P", at: Place("x", page: 5), value: stored), .frames(of: eight),
        ]),
      Scenario(
        "folio.reuse.third.\(mapped)", "a second child is the last one left", needs: .frames,
        differences: mapped == .leaf
          ? []
          : [
            KnownDifference(
              from: KernelVersion(6, 15), host: [folio.count + 4: "moved"],
              why: """
                D.3 row 3: Linux knows two address spaces that map a folio; of a third it cannot \
                tell that it is alone, and copies
                """)
          ],
        folio + [
          .fork(by: "P", child: "C"), .fork(by: "P", child: "D"), .exit(by: "P"), .exit(by: "C"),
          .store(by: "D", at: Place("x", page: 2), value: stored), .see(by: "D", at: eight),
        ]),
      scenario(
        "folio.part", "parts are protected, dropped and unmapped under a pin",
        [
          .take(by: "P", at: Stretch("x", page: 1, pages: 4), as: "device", how: .pin),
          .protect(by: "P", at: Stretch("x", page: 1), to: .readOnly),
          .advise(by: "P", at: Stretch("x", page: 2), to: .dontNeed),
          .unmap(by: "P", at: third), .fork(by: "P", child: "C"),
          .deviceRead(through: "device"),
          .deviceWrite(through: "device", at: Place("x", page: 4), value: brought),
        ] + looks),
      scenario(
        "folio.dont-fork", "a part is left out of the child",
        [
          .advise(by: "P", at: third, to: .dontFork), .fork(by: "P", child: "C"),
          .store(by: "P", at: Place("x", page: 3), value: stored),
        ] + looks),
      scenario(
        "folio.extract", "transfers into and out of a part of a shared folio",
        [
          .fork(by: "P", child: "C"),
          .directRead(by: "P", into: [Stretch("x", from: 4608, length: 6144)], value: brought),
          .directWrite(by: "P", from: [Stretch("x", page: 4, pages: 2)]),
        ] + looks),
    ]
  }
}

extension Scenario {
  /// The script with its page in a folio; nil when it is not about a page that was written.
  fileprivate func inFolio(_ mapped: Mapped) -> Scenario? {
    guard Array(steps.prefix(3)) == Step.aPage(), frames == nil else { return nil }
    var copy = self
    copy.id = "\(id).\(mapped)"
    copy.title = "\(title) (in a folio)"
    copy.steps = steps.map { step in
      // Pins of a folio are counted apart from its references (C.4).
      if id == "S19.pin", case .expectDevice(let name, let place, _) = step {
        return .expectDevice(through: name, at: place, value: original)
      }
      if case .map(let by, "x", 1, .private) = step {
        return .map(by: by, buffer: "x", pages: huge, on: .huge)
      }
      return step
    }
    copy.steps.insert(contentsOf: mapped.steps, at: 3)
    return copy
  }
}
