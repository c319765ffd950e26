//===----------------------------------------------------------------------===//
// FOLL_FORCE, as a debugger's loads and stores have it: past the protection, and
// never past copy-on-write (C.5 rows 2 and 4, G-08).
//===----------------------------------------------------------------------===//

private let four = Stretch("x", pages: 4)
private let first = Place("x")
private let second = Place("x", page: 1)

/// Memory of four pages, and how it is protected then.
private struct Guarded {
  let name: String
  let backing: Backing
  let isWritten: Bool
  let access: Access

  init(_ name: String, on backing: Backing = .private, written: Bool = true, _ access: Access) {
    self.name = name
    self.backing = backing
    self.isWritten = written
    self.access = access
  }

  var steps: [Step] {
    [.map(by: "P", buffer: "x", pages: 4, on: backing)]
      + (0..<(isWritten ? 4 : 0)).map {
        .store(by: "P", at: Place("x", page: $0), value: UInt8(0x21 + $0))
      } + [.protect(by: "P", at: four, to: access)]
  }

  /// What is there, without the protection.
  var opened: [Step] {
    [.protect(by: "P", at: four, to: .readWrite), .see(by: "P", at: four)]
      + (backing.isAnonymous ? [.frames(of: four)] : [])
  }

  static let all = [
    Guarded("closed", .none), Guarded("read-only", .readOnly), Guarded("write-only", .writeOnly),
    Guarded("open", .readWrite), Guarded("untouched", written: false, .readOnly),
    Guarded("untouched-closed", written: false, .none),
    Guarded("shared", on: .shared, .readOnly), Guarded("shared-closed", on: .shared, .none),
    Guarded("shared-open", on: .shared, .readWrite),
    Guarded("file", on: .privateFile, written: false, .readOnly),
    Guarded("file-written", on: .privateFile, .none),
    Guarded("shared-file", on: .sharedFile, written: false, .readOnly),
    Guarded("shared-file-open", on: .sharedFile, written: false, .readWrite),
  ]
}

/// Stores that go through, and one of the program's own, which may not.
private let accesses: [Step] = [
  .peek(by: "P", at: first), .poke(by: "P", at: first, value: 0x91), .peek(by: "P", at: first),
  .poke(by: "P", at: second, value: 0x92), .store(by: "P", at: second, value: 0x93),
  .see(by: "P", at: four),
]

extension Catalogue {
  static let forceScenarios: [Scenario] =
    Guarded.all.flatMap(forced) + [
      Scenario(
        "force.hole", "a debugger's accesses to nothing",
        [
          .map(by: "P", buffer: "x", pages: 4, on: .private),
          .unmap(by: "P", at: Stretch("x", page: 1)), .peek(by: "P", at: second),
          .poke(by: "P", at: second, value: 1), .poke(by: "P", at: first, value: 2),
          .see(by: "P", at: four),
        ])
    ]

  private static func forced(_ memory: Guarded) -> [Scenario] {
    func scenario(_ name: String, _ title: String, _ steps: [Step]) -> Scenario {
      Scenario("force.\(memory.name)\(name)", title, memory.steps + steps + memory.opened)
    }
    let childFinds: [Step] = [.peek(by: "C", at: first), .peek(by: "C", at: second)]
    return [
      scenario("", "a debugger's accesses", accesses),
      scenario(
        ".forked", "a debugger's accesses to what a child shares",
        [.fork(by: "P", child: "C")] + accesses + childFinds),
      scenario(
        ".held", "a debugger's accesses to what a device and a child share",
        [
          .take(by: "P", at: Stretch("x"), as: "device", how: .get, times: 1),
          .fork(by: "P", child: "C"),
        ] + accesses + [.deviceRead(through: "device")] + childFinds),
    ]
  }
}
