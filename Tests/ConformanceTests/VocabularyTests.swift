//===----------------------------------------------------------------------===//
// Scenarios as values: they survive being written down, nonsense is refused by
// name, and the catalogue has what the semantics has.
//===----------------------------------------------------------------------===//

import Conformance
import Foundation
import SwiftGUP
import Testing

@Suite("Scenarios")
struct VocabularyTests {
  @Test("Every scenario of the catalogue is the same after JSON")
  func roundTrip() throws {
    let text = try JSONEncoder().encode(Catalogue.all)
    let again = try JSONDecoder().decode([Scenario].self, from: text)
    #expect(again == Catalogue.all)
  }

  @Test("Every scenario has a name of its own, and the scenarios of D.6 are all there")
  func catalogue() {
    let ids = Catalogue.all.map(\.id)
    #expect(Set(ids).count == ids.count)
    for number in 1...25 {
      #expect(ids.contains { $0.hasPrefix("S\(number).") }, "S\(number) is missing")
    }
    for scenario in Catalogue.all {
      let needed = scenario.steps.contains { if case .counters = $0 { true } else { false } }
      #expect(!needed || scenario.needs == .counters, "\(scenario.id)")
    }
  }

  @Test("A scenario prints as the Swift that makes it")
  func literal() {
    let scenario = Scenario(
      "a.b", "a \"title\"", needs: .frames,
      [
        .map(by: "P", buffer: "x", pages: 2, on: .private),
        .store(by: "P", at: Place("x", page: 1, block: 3), value: 0x0a),
        .store(by: "P", at: Place("x", 7), value: 0xff),
        .take(by: "P", at: Stretch("x", pages: 2), as: "h", how: .pin, times: 1),
        .directWrite(by: "P", from: [Stretch("x", from: 512, length: 0)]),
        .release(hold: "h"),
      ])
    #expect(
      scenario.literal == """
        Scenario(
          "a.b", "a \\"title\\"", needs: .frames,
          [
            .map(by: "P", buffer: "x", pages: 2, on: .private),
            .store(by: "P", at: Place("x", page: 1, block: 3), value: 0x0a),
            .store(by: "P", at: Place("x", 7), value: 0xff),
            .take(by: "P", at: Stretch("x", pages: 2), as: "h", how: .pin, times: 1),
            .directWrite(by: "P", from: [Stretch("x", from: 512, length: 0)]),
            .release(hold: "h"),
          ])
        """)
  }

  static let nonsense: [(steps: [Step], complaint: String)] = [
    ([.touch(by: "P", at: Stretch("x"))], "no buffer 'x'"),
    ([.map(by: "Q", buffer: "x", pages: 1, on: .private)], "no process 'Q'"),
    ([.map(by: "P", buffer: "x", pages: 0, on: .private)], "1 to 32 pages, not 0"),
    ([.map(by: "P", buffer: "x", pages: 33, on: .private)], "1 to 32 pages, not 33"),
    ([.map(by: "P", buffer: "x", pages: 32, on: .huge)], "512 pages, not 32"),
    (x + [.map(by: "P", buffer: "x", pages: 2, on: .private)], "mapped otherwise"),
    (x + [.touch(by: "P", at: Stretch("x", pages: 2))], "outside buffer 'x'"),
    (x + [.touch(by: "P", at: Stretch("x", from: -1, length: 1))], "outside buffer 'x'"),
    (x + [.touch(by: "P", at: Stretch("x", from: 0, length: .max))], "outside buffer 'x'"),
    (x + [.touch(by: "P", at: Stretch("x", from: 0, length: 0))], "empty"),
    (x + [.unmap(by: "P", at: Stretch("x", from: 1, length: 4095))], "whole pages"),
    (x + [.directRead(by: "P", into: [], value: 1)], "1 to 8 segments, not 0"),
    (
      x + [.directRead(by: "P", into: [Stretch("x", from: 1, length: 512)], value: 1)],
      "blocks of 512"
    ),
    (x + [.take(by: "P", at: Stretch("x"), as: "h", how: .get, times: 0)], "1 to 256 times"),
    (x + hold + hold, "'h' holds something"),
    (x + [.release(hold: "h")], "nothing is held as 'h'"),
    (x + [reading(Stretch("x", from: 1, length: 512))], "blocks of 512"),
    (x + [reading(Stretch("x"), times: 2)], "'h' is for one reading"),
    (x + [reading(Stretch("x")), .exit(by: "P")], "'h' is 'P's own transfer"),
    (
      x + [
        reading(Stretch("x")), .deviceRead(through: "h"),
        .store(by: "P", at: Place("x"), value: 1),
      ], "'h' has been read"
    ),
    (x + hold + [.deviceWrite(through: "h", at: Place("x", 1), value: 1)], "no block"),
    ([.fork(by: "P", child: "P")], "'P' was there before"),
    ([.fork(by: "P", child: "C"), .exit(by: "C"), .exit(by: "C")], "no process 'C'"),
    (
      [.fork(by: "P", child: "C")] + x + [.touch(by: "C", at: Stretch("x"))],
      "'C' has never known buffer 'x'"
    ),
    ((0..<8).map { .fork(by: "P", child: "C\($0)") }, "too many processes"),
    ((0..<9).map { .map(by: "P", buffer: "b\($0)", pages: 1, on: .private) }, "too many buffers"),
    (Array(repeating: .counters, count: 97), "96 steps, not 97"),
  ]
  private static let x: [Step] = [.map(by: "P", buffer: "x", pages: 1, on: .private)]
  private static func reading(_ stretch: Stretch, times: Int = 1) -> Step {
    .take(by: "P", at: stretch, as: "h", how: .pinToRead, times: times)
  }
  private static let hold: [Step] = [
    .take(by: "P", at: Stretch("x"), as: "h", how: .get, times: 1)
  ]

  @Test("A script that makes no sense is refused with its reason", arguments: nonsense)
  func refusals(_ steps: [Step], _ complaint: String) throws {
    let driver = try EmulatorDriver(tier: .none)
    let error = #expect(throws: ScenarioError.self) { try driver.play(Scenario("n", "", steps)) }
    #expect(error?.description.contains(complaint) == true, "\(String(describing: error))")
  }

  @Test(
    "A kernel's release is read as far as it counts",
    arguments: [
      ("6.18.44-custom", 6, 18), ("5.4", 5, 4), ("6.1-rc3", 6, 1), ("", 0, 0), ("next", 0, 0),
    ])
  func releases(_ text: String, _ major: Int, _ minor: Int) {
    #expect(KernelVersion(release: text) == KernelVersion(major, minor))
  }

  @Test("D.3 row 3, C.11 G5: large folios are reused, and areas move, as the host's kernel does")
  func policies() {
    #expect(MemoryPolicy(of: KernelVersion(6, 12)) == [])
    #expect(MemoryPolicy(of: KernelVersion(6, 14)) == [])
    #expect(MemoryPolicy(of: KernelVersion(6, 15)) == .reuseLargeFolios)
    #expect(MemoryPolicy(of: KernelVersion(6, 16)) == .reuseLargeFolios)
    #expect(MemoryPolicy(of: KernelVersion(6, 17)) == [.reuseLargeFolios, .remapSeveralAreas])
    #expect(MemoryPolicy(of: KernelVersion(7, 0)) == [.reuseLargeFolios, .remapSeveralAreas])
  }
}
