//===----------------------------------------------------------------------===//
// Extraction of user iterators, as O_DIRECT transfers show it: into memory and
// out of it, over segments of any shape, and over pages of every backing.
//===----------------------------------------------------------------------===//

private let four = Stretch("x", pages: 4)

/// Four pages, each written at its start and near its end.
private func fourPages(_ backing: Backing = .private) -> [Step] {
  [.map(by: "P", buffer: "x", pages: 4, on: backing)]
    + (0..<4).flatMap { page in
      [
        Step.store(by: "P", at: Place("x", page: page), value: UInt8(0x21 + page)),
        .store(by: "P", at: Place("x", page: page, block: 7), value: UInt8(0x31 + page)),
      ]
    }
}

/// Segments by block and number of blocks.
private func blocks(_ list: (from: Int, count: Int)...) -> [Stretch] {
  list.map { Stretch("x", from: $0.from * 512, length: $0.count * 512) }
}

extension Catalogue {
  static let extractionScenarios: [Scenario] = shapes + states + stops + [atOnce]

  /// What one segment brings into a file is not there yet when another's page is copied from it.
  private static let atOnce = Scenario(
    "extract.into.at-once", "all segments are held before the first byte moves",
    [
      .map(by: "P", buffer: "x", pages: 4, on: .privateFile),
      .map(by: "P", buffer: "y", pages: 4, on: .sharedFile),
      .directRead(
        by: "P",
        into: [Stretch("y", page: 2), Stretch("x", from: 7168, length: 3072)], value: brought),
      .see(by: "P", at: four), .see(by: "P", at: Stretch("y", pages: 4)),
    ])

  private static let shapes: [Scenario] = [
    ("whole", "whole pages", [four]),
    ("head", "a head within a page", blocks((3, 29))),
    ("tail", "a tail within a page", blocks((0, 27))),
    ("inside", "blocks within one page", blocks((2, 3))),
    ("both", "head and tail within pages", blocks((5, 19))),
    ("segments", "segments that meet within a page", blocks((0, 4), (4, 9), (13, 19))),
    (
      "empty", "segments without bytes wherever they stand",
      blocks((0, 0), (1, 6), (8, 0), (9, 0), (16, 8), (3, 0))
    ),
    ("backwards", "segments in descending order", blocks((24, 8), (16, 8), (0, 8))),
    ("same", "the same page twice", blocks((8, 8), (8, 8))),
  ].flatMap { (name: String, title: String, segments: [Stretch]) in
    [
      Scenario(
        "extract.into.\(name)", "a transfer into \(title)",
        fourPages() + [
          .directRead(by: "P", into: segments, value: brought), .see(by: "P", at: four),
        ]),
      Scenario(
        "extract.out-of.\(name)", "a transfer out of \(title)",
        fourPages() + [.directWrite(by: "P", from: segments), .see(by: "P", at: four)]),
    ]
  }

  /// Pages that an extraction must break sharing of, or must not.
  private static let states: [Scenario] = origins.flatMap { (name: String, steps: [Step]) in
    // What the device holds and the child sees, where there are such.
    let rest = steps.compactMap { step -> Step? in
      switch step {
      case .take: .deviceRead(through: "device")
      case .fork where !steps.contains(.exit(by: "C")): .see(by: "C", at: four)
      default: nil
      }
    }
    return [
      Scenario(
        "extract.into.\(name)", "a transfer into pages that are \(name)",
        steps + [
          .directRead(by: "P", into: [four], value: brought), .frames(of: four),
          .see(by: "P", at: four),
        ] + rest),
      Scenario(
        "extract.out-of.\(name)", "a transfer out of pages that are \(name)",
        steps + [.directWrite(by: "P", from: [four]), .frames(of: four), .see(by: "P", at: four)]
          + rest),
    ]
  }

  private static let origins: [(name: String, steps: [Step])] = [
    ("untouched", [.map(by: "P", buffer: "x", pages: 4, on: .private)]),
    ("zero", [.map(by: "P", buffer: "x", pages: 4, on: .private), .touch(by: "P", at: four)]),
    ("forked", fourPages() + [.fork(by: "P", child: "C")]),
    ("once-shared", fourPages() + [.fork(by: "P", child: "C"), .exit(by: "C")]),
    ("referenced", fourPages() + [.take(by: "P", at: four, as: "device", how: .get)]),
    ("pinned", fourPages() + [.take(by: "P", at: four, as: "device", how: .pin)]),
    ("shared", fourPages(.shared) + [.fork(by: "P", child: "C")]),
    ("file", [.map(by: "P", buffer: "x", pages: 4, on: .privateFile)]),
    ("file-written", fourPages(.privateFile) + [.fork(by: "P", child: "C")]),
    ("shared-file", [.map(by: "P", buffer: "x", pages: 4, on: .sharedFile)]),
  ]

  private static let stops: [Scenario] = [
    ("hole-first", [.unmap(by: "P", at: Stretch("x"))]),
    ("closed", [.protect(by: "P", at: four, to: .none)]),
    ("read-only", [.protect(by: "P", at: four, to: .readOnly)]),
  ].flatMap { (name: String, steps: [Step]) in
    [
      Scenario(
        "extract.into.\(name)", "a transfer into pages that are \(name)",
        fourPages() + steps + [
          .directRead(by: "P", into: [four], value: brought), .see(by: "P", at: four),
        ]),
      Scenario(
        "extract.out-of.\(name)", "a transfer out of pages that are \(name)",
        fourPages() + steps + [.directWrite(by: "P", from: [four]), .see(by: "P", at: four)]),
    ]
  }
}
