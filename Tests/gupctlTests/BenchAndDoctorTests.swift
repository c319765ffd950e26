//===----------------------------------------------------------------------===//
// gupctl bench and doctor: the shape of what they print. What they measure and
// find is this machine's affair.
//===----------------------------------------------------------------------===//

import Foundation
import Testing

/// What `bench --json` prints, one object of it.
struct BenchJSON: Decodable {
  let name: String
  let pages: Int
  let ours: Double?
  let roofline: Double?
  let host: Double?
  let gup: Double?
  let oursToRoofline: Double?
  let oursToGUP: Double?
  let hostToOurs: Double?
  let hostCalls: Int?
  let why: String?
}

extension GupctlTests {
  @Suite("bench")
  struct Bench {
    static let names = [
      "pin-4k", "unpin-4k", "pin-unpin-4k", "get-4k", "put-4k", "get-put-4k", "extract-4k",
      "extract-release-4k", "extract-list-4k", "c-pin-unpin-4k", "c-extract-list-4k", "pin-2m",
      "unpin-2m", "pin-unpin-2m", "get-2m",
      "put-2m", "get-put-2m",
    ]

    /// The rows that come once, whatever the numbers of pages.
    static let threads = "pin-unpin-threads"
    static let faults = "fault-in"
    static let fork = "fork-64m"
    static let adoption = ["adopt", "release"]

    @Test("Every row has its figures, and says why where it has none")
    func json() throws {
      let outcome = try gupctl(["bench", "--pages", "1,16,300", "--rounds", "2", "--json"])
      try #require(outcome.status == 0, "\(outcome.errors)")
      let rows = try outcome.json(as: [BenchJSON].self)
      #expect(
        rows.map(\.name)
          == Self.names + Self.names + Self.names + [Self.threads, Self.faults]
          + [Self.fork] + Self.adoption + Self.adoption)
      #expect(
        rows.map(\.pages)
          == [1, 16, 300].flatMap { [Int](repeating: $0, count: Self.names.count) }
          + [256, 4096, 16384, 256, 256, 4096, 4096])
      for row in rows {
        #expect(try #require(row.ours) > 0)
        #expect(try #require(row.roofline) > 0)
        #expect(try #require(row.oursToRoofline) > 0)
        let hasInner = row.name.hasPrefix("extract") || row.name.hasPrefix("c-")
        #expect((row.gup != nil) == (hasInner || row.name == Self.threads))
        #expect((row.gup != nil) == (row.oursToGUP != nil))
        #expect((row.host != nil) == (row.hostToOurs != nil))
        #expect((row.host == nil) == (row.why != nil))
        #expect((row.hostCalls != nil) == [Self.faults, Self.fork].contains(row.name))
        // At most two calls for each 2 MiB, and a few for the areas: none a page.
        if let calls = row.hostCalls { #expect((1...(row.pages / 256)).contains(calls)) }
      }
      // Null is spelled out: every object has every key.
      let objects = try JSONSerialization.jsonObject(with: Data(outcome.output.utf8))
      let keys = Set((objects as? [[String: Any]] ?? []).map { $0.keys.sorted() })
      #expect(keys.count == 1)
    }

    @Test("Without a trap nothing is adopted: those rows say so, and have the roofline's figures")
    func withoutTrap() throws {
      let outcome = try gupctl([
        "bench", "--quick", "--rounds", "1", "--pages", "1", "--trap", "none", "--json",
      ])
      try #require(outcome.status == 0, "\(outcome.errors)")
      let rows = try outcome.json(as: [BenchJSON].self).filter { Self.adoption.contains($0.name) }
      #expect(rows.map(\.name) == Self.adoption && rows.allSatisfy { $0.pages == 256 })
      for row in rows {
        #expect(row.ours == nil && row.oursToRoofline == nil)
        #expect(try #require(row.roofline) > 0)
        #expect(try #require(row.why).hasPrefix("ours: EOPNOTSUPP"))
      }
    }

    @Test("The table has the columns that its readers know")
    func table() throws {
      let outcome = try gupctl(["bench", "--quick", "--rounds", "1"])
      try #require(outcome.status == 0, "\(outcome.errors)")
      let header = outcome.output.split(separator: "\n").first { $0.hasPrefix("name") }
      #expect(outcome.output.contains("\n\(Self.fork): "))
      #expect(
        header?.split(separator: " ") == [
          "name", "pages", "ours", "roofline", "gup", "host", "ours/roofline", "ours/gup",
          "host/ours",
        ])
      for name in Self.names + [Self.threads, Self.faults, Self.fork] + Self.adoption {
        #expect(outcome.output.contains("\n\(name) "))
      }
    }
  }

  @Suite("doctor")
  struct Doctor {
    struct Item: Decodable {
      let name: String
      let available: Bool
      let value: String
      let costOfLack: String
    }

    @Test("Says what is there, and of what is not, what it costs")
    func findings() throws {
      let text = try gupctl(["doctor"])
      let json = try gupctl(["doctor", "--json"])
      #expect(text.status == 0 && json.status == 0)
      let items = try json.json(as: [Item].self)
      for name in [
        "fault trap", "vm.unprivileged_userfaultfd", "io_uring registered buffers", "pagemap",
        "RLIMIT_MEMLOCK", "vm.max_map_count", "huge pages, private",
      ] {
        #expect(items.contains { $0.name == name })
      }
      for item in items {
        #expect(text.output.contains(item.name))
        if !item.available { #expect(text.output.contains(item.costOfLack)) }
      }
    }
  }

  @Suite("Help")
  struct Help {
    @Test(
      "Help is there for the asking and ends well",
      arguments: [
        ["--help"], [], ["help"], ["extract", "-h"], ["bench", "--help"], ["doctor", "--help"],
      ])
    func help(arguments: [String]) throws {
      let outcome = try gupctl(arguments)
      #expect(outcome.status == 0)
      #expect(outcome.output.contains("USAGE: gupctl"))
      #expect(outcome.errors == "")
    }
  }
}
