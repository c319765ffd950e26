//===----------------------------------------------------------------------===//
// gupctl extract: bytes arrive whole by every way, what is taken is given back,
// and a job that fails changes nothing.
//===----------------------------------------------------------------------===//

import Foundation
import Testing

/// What `extract --json` prints, as far as the tests look at it.
struct ExtractJSON: Decodable {
  struct Item: Decodable {
    let length: Int
    let offset: Int
    let pages: Int
    let retention: String
    let stop: String
  }

  let bytes: Int
  let compared: Bool
  let trap: String
  let kind: String
  let segments: Int
  let extractionCount: Int
  let extractions: [Item]
  let pages: Int
  let pinsAcquired: Int
  let pinsReleased: Int
  let referencesAcquired: Int
  let referencesReleased: Int
  let bytesPerSecond: Double

  /// What must hold of every job, whatever its settings.
  func checkBalance() {
    #expect(pinsAcquired == pinsReleased)
    #expect(referencesAcquired == referencesReleased)
    #expect(pinsAcquired + referencesAcquired == pages)
    #expect(bytesPerSecond > 0)
  }
}

/// How one extraction job is run.
struct Way: CustomTestStringConvertible {
  let direction: String
  let dialect: String
  let shape: [String]
  let trap: String

  var arguments: [String] {
    ["--direction", direction, "--dialect", dialect, "--trap", trap] + shape
  }
  var testDescription: String { arguments.joined(separator: " ") }

  /// What the dialect promises (1.1).
  var retention: String {
    direction == "out-of" && dialect == "rfc" ? "referenced" : "pinned"
  }

  static let all: [Way] = {
    var ways: [Way] = []
    for direction in ["into", "out-of"] {
      for dialect in ["rfc", "upstream"] {
        for shape in [["--kind", "ubuf"], ["--kind", "iovec", "--segments", "7"]] {
          for trap in ["userfaultfd", "sigsegv", "none"] {
            ways.append(Way(direction: direction, dialect: dialect, shape: shape, trap: trap))
          }
        }
      }
    }
    return ways
  }()
}

extension GupctlTests {
  @Suite("extract")
  struct Extract {
    /// Does userfaultfd work for who runs the tests?
    static let hasUserfaultfd =
      (try? gupctl(["extract", "--size", "1", "--trap", "userfaultfd"]))?.status == 0

    @Test(
      "The output equals the file, and what the dialect takes is given back (1.1, A-35)",
      arguments: Way.all)
    func equality(way: Way) throws {
      if way.trap == "userfaultfd", !Self.hasUserfaultfd {
        try Test.cancel("userfaultfd does not work here")
      }
      let folder = try Folder()
      for size in [1, 4095, 4096, 4097, 1 << 20 | 3] {
        let bytes = someBytes(size)
        try folder.write("in", bytes)
        let outcome = try gupctl(
          [
            "extract", "--file", "in", "--output", "out", "--json", "--verbose", "--max-size",
            "50000", "--max-pages", "13",
          ] + way.arguments, in: folder)
        try #require(outcome.status == 0, "\(outcome.errors)")
        #expect(outcome.errors == "")
        #expect(try folder.read("out") == bytes)
        #expect(try folder.names == ["in", "out"])

        let report = try outcome.json(as: ExtractJSON.self)
        report.checkBalance()
        #expect(report.trap == way.trap)
        #expect(report.bytes == size)
        #expect(!report.compared)
        #expect(report.extractions.count == report.extractionCount)
        #expect(report.extractions.reduce(0) { $0 + $1.length } == size)
        #expect(report.extractions.reduce(0) { $0 + $1.pages } == report.pages)
        for item in report.extractions {
          #expect(item.retention == way.retention)
          #expect(item.length > 0 && item.length <= 50_000)
          #expect(item.pages == (item.offset + item.length + 4095) / 4096 && item.pages <= 13)
        }
        #expect(report.extractions.last?.stop == "complete")
      }
    }

    @Test("10 MiB and three bytes arrive whole (1.1)", arguments: ["into", "out-of"])
    func large(direction: String) throws {
      let folder = try Folder()
      let bytes = someBytes(10 << 20 | 3)
      try folder.write("in", bytes)
      let outcome = try gupctl(
        ["extract", "--file", "in", "--output", "out", "--direction", direction], in: folder)
      #expect(outcome.status == 0, "\(outcome.errors)")
      #expect(try folder.read("out") == bytes)
    }

    @Test("Segments start where they like: one extraction never crosses into the next (A.4)")
    func segments() throws {
      let outcome = try gupctl(
        ["extract", "--size", "1000003", "--segments", "1024", "--json", "--verbose"])
      try #require(outcome.status == 0, "\(outcome.errors)")
      let report = try outcome.json(as: ExtractJSON.self)
      report.checkBalance()
      #expect(report.kind == "iovec")
      #expect(report.segments == 1024)
      #expect(report.compared)
      #expect(report.extractionCount == 1024)
      #expect(Set(report.extractions.map(\.length)).count > 2)
      #expect(report.extractions.contains { $0.offset % 2 == 1 })
      #expect(report.extractions.dropLast().allSatisfy { $0.stop == "segment end" })
    }

    @Test("More segments than bytes: those without bytes are passed over (A.8.2)")
    func emptySegments() throws {
      let outcome = try gupctl(["extract", "--size", "5", "--segments", "1024", "--json"])
      try #require(outcome.status == 0, "\(outcome.errors)")
      let report = try outcome.json(as: ExtractJSON.self)
      report.checkBalance()
      #expect(report.bytes == 5)
    }

    @Test("--size takes the first bytes of the file, also in units", arguments: ["4096", "4KiB"])
    func firstBytes(size: String) throws {
      let folder = try Folder()
      let bytes = someBytes(10_000)
      try folder.write("in", bytes)
      let outcome = try gupctl(
        ["extract", "--file", "in", "--output", "out", "--size", size], in: folder)
      #expect(outcome.status == 0, "\(outcome.errors)")
      #expect(try folder.read("out") == bytes.prefix(4096))
    }

    @Test("Without arguments: 64 MiB of its own, compared in memory, and it says so")
    func mainJob() throws {
      let outcome = try gupctl(["extract"])
      try #require(outcome.status == 0, "\(outcome.errors)")
      #expect(outcome.errors == "")
      let lines = outcome.output.split(separator: "\n")
      func words(_ name: String) -> [Substring] {
        lines.first { $0.hasPrefix(name) }?.split(separator: " ") ?? []
      }
      #expect(outcome.output.contains("for want of --file, 64 MiB"))
      #expect(outcome.output.contains("for want of --output"))
      #expect(outcome.output.contains("44 more, 64 in all"))
      #expect(words("pins") == ["pins", "16384", "acquired,", "16384", "released"])
      #expect(words("references") == ["references", "0", "acquired,", "0", "released"])
      #expect(words("result").suffix(2) == ["all", "equal"])
      #expect(lines.count { $0.contains(" 1048576 ") } == 20)
    }

    @Test("--nofault takes what is present, and fails on what is not (C.7)")
    func noFault() throws {
      let folder = try Folder()
      try folder.write("out", Data("as it was".utf8))
      let size = ["--size", "100000", "--nofault"]
      let absent = try gupctl(["extract", "--output", "out"] + size, in: folder)
      #expect(absent.status == 1)
      #expect(absent.errors.contains("EFAULT"))
      #expect(absent.errors.contains("--populate"))
      #expect(try folder.read("out") == Data("as it was".utf8))
      #expect(try folder.names == ["out"])
      for way in [["--populate"], ["--direction", "out-of"]] {
        let present = try gupctl(["extract"] + size + way)
        #expect(present.status == 0, "\(present.errors)")
      }
    }

    @Test("The output looks like the file it replaces, and links are followed")
    func replacing() throws {
      let folder = try Folder()
      let bytes = someBytes(5000)
      try folder.write("in", bytes)
      let old = try folder.write("old", Data("old".utf8))
      let files = FileManager.default
      try files.setAttributes([.posixPermissions: 0o640], ofItemAtPath: old.path)
      try files.createSymbolicLink(
        atPath: folder.url.appendingPathComponent("link").path, withDestinationPath: "old")
      let outcome = try gupctl(["extract", "--file", "in", "--output", "link"], in: folder)
      #expect(outcome.status == 0, "\(outcome.errors)")
      #expect(try folder.read("old") == bytes)
      #expect(try folder.names == ["in", "link", "old"])
      let attributes = try files.attributesOfItem(atPath: old.path)
      #expect(attributes[.posixPermissions] as? Int == 0o640)
      #expect(
        try files.destinationOfSymbolicLink(
          atPath: folder.url.appendingPathComponent("link").path) == "old")
    }

    @Test("What is not a regular file is written to, not replaced")
    func device() throws {
      let outcome = try gupctl(["extract", "--size", "5000", "--output", "/dev/null"])
      #expect(outcome.status == 0, "\(outcome.errors)")
      let full = try gupctl(["extract", "--size", "5000", "--output", "/dev/full"])
      #expect(full.status == 1)
      #expect(full.errors.contains("--output '/dev/full'") && full.errors.contains("ENOSPC"))
      for name in ["/dev/null", "/dev/full"] {
        let type = try FileManager.default.attributesOfItem(atPath: name)[.type]
        #expect(type as? FileAttributeType == .typeCharacterSpecial)
      }
    }

    @Test("An interrupted job leaves nothing behind", arguments: [SIGINT, SIGTERM])
    func interruption(signal: Int32) throws {
      let folder = try Folder()
      try folder.write("out", Data("as it was".utf8))
      let job = try Running(["extract", "--output", "out", "--size", "2G"], in: folder)
      while try folder.names.count == 1, job.process.isRunning { usleep(1000) }
      #expect(kill(job.process.processIdentifier, signal) == 0)
      job.process.waitUntilExit()
      #expect(job.process.terminationReason == .uncaughtSignal)
      #expect(try folder.names == ["out"])
      #expect(try folder.read("out") == Data("as it was".utf8))
    }
  }
}
