//===----------------------------------------------------------------------===//
// gupctl kinds, and gupctl extract of every kind: what the table says can be
// extracted moves a file whole, and all else is refused and changes nothing.
//===----------------------------------------------------------------------===//

import Foundation
import Testing

/// A row that `kinds --json` prints.
struct KindJSON: Decodable {
  struct Item: Decodable {
    let dialect: String
    let direction: String
    let retention: String?
    let errno: String?
    let refusedAt: String?
  }

  let kind: String
  let kernelName: String
  let extractions: [Item]
}

/// One kind of buffer, one way, by one dialect, and what comes of it (1.1).
struct KindCase: CustomTestStringConvertible {
  let kind: String
  let dialect: String
  let direction: String
  /// What is held on the pages, or the errno.
  let result: String

  var isRefused: Bool { result.hasPrefix("E") }
  var arguments: [String] {
    ["--kind", kind, "--dialect", dialect, "--direction", direction]
  }
  var testDescription: String { arguments.joined(separator: " ") }

  static let columns = [
    ("rfc", "into"), ("rfc", "out-of"), ("upstream", "into"), ("upstream", "out-of"),
  ]

  static let all: [KindCase] = {
    let unretained = [String](repeating: "unretained", count: 4)
    let upstreamAlone = ["EFAULT", "EFAULT", "unretained", "unretained"]
    let rows: [(String, [String])] = [
      ("ubuf", ["pinned", "referenced", "pinned", "pinned"]),
      ("iovec", ["pinned", "referenced", "pinned", "pinned"]),
      ("bvec", unretained),
      ("kvec", upstreamAlone),
      ("xarray", unretained),
      ("folioq", upstreamAlone),
      ("pipe", ["unretained", "EINVAL", "EFAULT", "EINVAL"]),
      ("discard", ["EFAULT", "EINVAL", "EFAULT", "EINVAL"]),
    ]
    return rows.flatMap { kind, results in
      zip(columns, results).map { column, result in
        KindCase(kind: kind, dialect: column.0, direction: column.1, result: result)
      }
    }
  }()
}

extension GupctlTests {
  @Suite("kinds")
  struct Kinds {
    @Test(
      "Every kind that its dialect extracts moves a file whole (1.1)",
      arguments: KindCase.all.filter { !$0.isRefused })
    func equality(kind: KindCase) throws {
      let folder = try Folder()
      for size in [1, 4095, 4097, 1 << 20 | 3] {
        let bytes = someBytes(size)
        try folder.write("in", bytes)
        for limits in [["50000", "13"], ["4097", "2"], ["1G", "100000"]] {
          let outcome = try gupctl(
            [
              "extract", "--file", "in", "--output", "out", "--json", "--verbose", "--max-size",
              limits[0], "--max-pages", limits[1],
            ] + kind.arguments, in: folder)
          try #require(outcome.status == 0, "\(outcome.errors)")
          #expect(outcome.errors == "")
          #expect(try folder.read("out") == bytes)
          #expect(try folder.names == ["in", "out"])

          let report = try outcome.json(as: ExtractJSON.self)
          #expect(report.kind == kind.kind)
          #expect(report.extractions.reduce(0) { $0 + $1.length } == size)
          #expect(report.extractions.allSatisfy { $0.retention == kind.result })
          #expect(report.pinsAcquired == report.pinsReleased)
          #expect(report.referencesAcquired == report.referencesReleased)
          #expect(report.pinsAcquired == (kind.result == "pinned" ? report.pages : 0))
        }
      }
    }

    @Test(
      "What is not extracted is refused by name, and changes nothing (1.1)",
      arguments: KindCase.all.filter(\.isRefused))
    func refusal(kind: KindCase) throws {
      let folder = try Folder()
      try folder.write("in", someBytes(4097))
      try folder.write("out", Data("as it was".utf8))
      let outcome = try gupctl(
        ["extract", "--file", "in", "--output", "out"] + kind.arguments, in: folder)
      #expect(outcome.status == 64)
      #expect(outcome.output == "")
      for name in kind.arguments + [kind.result] { #expect(outcome.errors.contains(name)) }
      #expect(try folder.read("out") == Data("as it was".utf8))
      #expect(try folder.names == ["in", "out"])
    }

    @Test(
      "Segments of any number, also without bytes, and of any length (A.8.2)",
      arguments: ["iovec", "bvec", "kvec"], ["1", "2", "7", "1024"])
    func segments(kind: String, count: String) throws {
      for size in ["5", "10000003"] {
        for direction in ["into", "out-of"] {
          let outcome = try gupctl([
            "extract", "--kind", kind, "--dialect", "upstream", "--direction", direction,
            "--segments", count, "--size", size, "--json",
          ])
          try #require(outcome.status == 0, "\(outcome.errors)")
          let report = try outcome.json(as: ExtractJSON.self)
          #expect(report.compared)
          #expect(report.segments >= Int(count)!)
          #expect(report.pinsAcquired == report.pinsReleased)
        }
      }
    }

    @Test(
      "A buffer that memory has no room for is ENOMEM",
      arguments: ["bvec", "kvec", "xarray", "folioq"])
    func noRoom(kind: String) throws {
      let outcome = try gupctl([
        "extract", "--kind", kind, "--dialect", "upstream", "--memory", "4MiB", "--size", "16MiB",
      ])
      #expect(outcome.status == 1)
      #expect(outcome.errors.contains("ENOMEM") && outcome.errors.contains("--memory"))
    }

    @Test("One row for each kind, and the retention or the errno of each case (1.1)")
    func table() throws {
      let rows = try gupctl(["kinds", "--json"]).json(as: [KindJSON].self)
      let found = rows.flatMap { row in
        row.extractions.map {
          [row.kind, $0.dialect, $0.direction, $0.retention ?? $0.errno ?? ""]
        }
      }
      #expect(found == KindCase.all.map { [$0.kind, $0.dialect, $0.direction, $0.result] })
      #expect(Set(rows.map(\.kernelName)).count == 8)
      for item in rows.flatMap(\.extractions) {
        #expect((item.retention == nil) == (item.errno != nil))
        #expect((item.errno == nil) == (item.refusedAt == nil))
      }

      let text = try gupctl(["kinds"])
      #expect(text.status == 0)
      let lines = text.output.split(separator: "\n").dropFirst(2)
      #expect(lines.map { $0.prefix { $0 != " " } } == rows.map { Substring($0.kind) })
    }
  }
}
