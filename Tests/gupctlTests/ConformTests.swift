//===----------------------------------------------------------------------===//
// gupctl conform and fuzz: the catalogue beside the running kernel, what a rule
// switched wrong comes to, and what is printed where there is nothing to see.
//===----------------------------------------------------------------------===//

import Foundation
import Glibc
import Testing

extension GupctlTests {
  @Suite("Conformance")
  struct Conformance {
    struct Row: Decodable {
      let id: String
      let emulator: String
      let host: String
      let verdict: String
      let why: String
    }

    @Test(
      "S1-S25, C, D, B: the emulator does what the running kernel does",
      arguments: [false, true])
    func catalogue(asNobody: Bool) throws {
      if asNobody, !OrdinaryUser.canBecomeNobody { try Test.cancel("takes root and setpriv") }
      let outcome = try gupctl(["conform", "--json"], asNobody: asNobody)
      #expect(outcome.status == 0, "\(outcome.errors)")
      let rows = try outcome.json(as: [Row].self)
      for row in rows {
        switch row.verdict {
        case "agree":
          // Others than root see less of the host.
          #expect(asNobody || row.host == row.emulator, "\(row.id)")
        case "explained", "unobservable": #expect(!row.why.isEmpty, "\(row.id)")
        default: Issue.record("\(row.id): \(row.verdict): \(row.why)")
        }
      }
      let agreeing = rows.count { $0.verdict == "agree" }
      print("conform: \(agreeing) of \(rows.count) scenarios agree with this host")
    }

    @Test(
      "D.2, D.3, D.4, G-01, G-03, G-04: each rule switched wrong is found",
      arguments: [
        ("reuse-by-mapping-count", "S15.get"), ("no-unshare", "S10.pin-read"),
        ("copy-referenced-at-fork", "S1.get-write"), ("share-at-fork", "S1.pin"),
      ])
    func mutation(_ rule: String, _ id: String) throws {
      let outcome = try gupctl(["conform", "--json", "--wrong", rule])
      #expect(outcome.status == 1)
      #expect(outcome.errors.contains("differ without an explanation"))
      let rows = try outcome.json(as: [Row].self)
      let row = try #require(rows.first { $0.id == id })
      #expect(row.verdict == "differ")
      #expect(row.why.contains("step"))
      // What has nothing to do with the rule is not blamed.
      #expect(rows.contains { $0.id == "extract.into.whole" && $0.verdict != "differ" })
    }

    @Test("A host that refuses pins is unobservable with its reason, never a silent pass")
    func noWitness() throws {
      guard OrdinaryUser.canBecomeNobody else { try Test.cancel("takes root and setpriv") }
      let outcome = try gupctl(
        ["conform", "--json", "--only", "S1"], asNobody: true, limits: "-l 0")
      #expect(outcome.status == 0, "\(outcome.errors)")
      let rows = try outcome.json(as: [Row].self)
      let row = try #require(rows.first { $0.id == "S1.pin" })
      #expect(row.verdict == "unobservable" && row.host.isEmpty && !row.emulator.isEmpty)
      #expect(row.why.contains("io_uring"), "\(row.why)")
      #expect(rows.contains { $0.id == "S1.get" && $0.verdict != "differ" })
    }

    @Test("Without a disk direct transfers are unobservable")
    func noDisk() throws {
      let outcome = try gupctl(
        ["conform", "--json", "--only", "extract.into", "--directory", "/dev/shm"])
      #expect(outcome.status == 0, "\(outcome.errors)")
      for row in try outcome.json(as: [Row].self) {
        #expect(row.verdict == "unobservable", "\(row.id)")
        #expect(row.why.contains("O_DIRECT") || row.why.contains("memlock"), "\(row.why)")
      }
    }

    @Test("--list plays nothing; its JSON is a script that can be played")
    func listAndScript() throws {
      let folder = try Folder()
      let list = try gupctl(["conform", "--list"])
      #expect(list.output.contains("S1.pin") && list.output.contains("frame numbers (root)"))
      let json = try gupctl(["conform", "--list", "--json", "--only", "S14"])
      try folder.write("script", Data(json.output.utf8))
      let played = try gupctl(["conform", "--script", "script", "--json"], in: folder)
      #expect(played.status == 0, "\(played.errors)")
      #expect(try played.json(as: [Row].self).map(\.id) == ["S14.get", "S14.pin"])
    }

    @Test("--junit writes a case for each scenario, and reasons as XML can hold them")
    func junit() throws {
      let folder = try Folder()
      let outcome = try gupctl(
        ["conform", "--only", "S1", "--wrong", "share-at-fork", "--junit", "report"], in: folder)
      #expect(outcome.status == 1)
      let text = String(decoding: try folder.read("report"), as: UTF8.self)
      let cases = text.split(separator: "<testcase ").count - 1
      let failures = text.split(separator: "<failure ").count - 1
      #expect(cases > 1 && failures > 0)
      #expect(
        text.contains(
          "<testsuite name=\"conform\" tests=\"\(cases)\" failures=\"\(failures)\""))
      #expect(text.contains("<testcase classname=\"conform\" name=\"S1.pin\"><failure message=\""))
      #expect(text.contains("&quot;P&quot;"))
    }

    @Test(
      "What cannot be done is said by name",
      arguments: [
        (["conform", "--only", "S99"], 64, "--only 'S99' names no scenario"),
        (["conform", "--directory", ""], 64, "--directory must not be empty"),
        (["conform", "--junit", ""], 64, "--junit must not be empty"),
        (["fuzz", "--steps", "-1"], 64, "--steps must be 1 to 10000000, not -1"),
        (["fuzz", "--directory", "/tmp"], 64, "--directory '/tmp' makes no sense without --host"),
        (["conform", "--script", "absent"], 1, "--script 'absent' cannot be read"),
        (["conform", "--script", "words"], 1, "--script 'words' holds no array of scenarios"),
        (["conform", "--script", "foolish"], 1, "no process 'Q' lives"),
        (["conform", "--directory", "/proc/nowhere"], 1, "--directory '/proc/nowhere'"),
        (["conform", "--wrong", "everything"], 64, "everything"),
        (
          ["conform", "--only", "S1.pin", "--junit", "/proc/no/file"], 1,
          "--junit '/proc/no/file' cannot be written: ENOENT"
        ),
        (["fuzz", "--steps", "0"], 64, "--steps must be 1 to 10000000, not 0"),
        (["fuzz", "--seed=-1"], 64, "--seed"),
      ])
    func badInput(_ arguments: [String], _ status: Int32, _ complaint: String) throws {
      let folder = try Folder()
      try folder.write("words", Data("no scenario".utf8))
      let foolish = #"[{"id":"f","title":"","needs":"bytes","note":"","differences":[],"#
      try folder.write("foolish", Data((foolish + #""steps":[{"exit":{"by":"Q"}}]}]"#).utf8))
      let outcome = try gupctl(arguments, in: folder)
      #expect(outcome.status == status, "\(outcome.errors)")
      #expect(outcome.errors.contains(complaint), "\(outcome.errors)")
    }
  }

  @Suite("Fuzz")
  struct Fuzz {
    @Test("Random programs come out as on the running kernel", arguments: [1, 2, 3])
    func besideHost(seed: Int) throws {
      let outcome = try gupctl(["fuzz", "--host", "--seed", "\(seed)", "--steps", "2000"])
      if outcome.errors.contains("nothing can be compared") { try Test.cancel("\(outcome.errors)") }
      #expect(outcome.status == 0, "\(outcome.output)\(outcome.errors)")
      #expect(outcome.output.hasPrefix("seed \(seed)\n"))
    }

    @Test("Traps and explicit faults come to the same; a seed of one's own is printed")
    func besideItself() throws {
      let outcome = try gupctl(["fuzz", "--steps", "1000"])
      #expect(outcome.status == 0, "\(outcome.output)\(outcome.errors)")
      #expect(outcome.output.hasPrefix("seed "))
    }

    @Test(
      "A rule switched wrong is found and shrunk to a short scenario",
      arguments: ["reuse-by-mapping-count", "copy-referenced-at-fork", "share-at-fork"])
    func findsMistakes(_ rule: String) throws {
      let outcome = try gupctl(["fuzz", "--seed", "1", "--steps", "10000", "--wrong", rule])
      #expect(outcome.status == 1)
      let lines = outcome.output.split(separator: "\n")
      let start = try #require(lines.firstIndex { $0.hasPrefix("Scenario(") })
      let steps = lines[start...].count { $0.hasPrefix("    .") }
      #expect(1...10 ~= steps, "\(outcome.output)")
    }
  }
}
