//===----------------------------------------------------------------------===//
// Arguments that make no sense, and files that are not what they should be: an
// error names what was wrong, the status says whose fault it is, and nothing
// has changed.
//===----------------------------------------------------------------------===//

import Foundation
import Testing

/// A command line that must be refused.
struct BadInput: CustomTestStringConvertible {
  let arguments: [String]
  let status: Int32
  /// What the error must contain: the argument, and its value.
  let names: [String]

  init(_ arguments: String..., status: Int32, names: String...) {
    self.arguments = arguments
    self.status = status
    self.names = names
  }

  var testDescription: String { arguments.joined(separator: " ") }
}

extension BadInput {
  /// Whose arguments alone are wrong.
  static let usage: [BadInput] = {
    func number(_ option: String, _ values: [String]) -> [BadInput] {
      values.map { BadInput("extract", option, $0, status: 64, names: option, $0) }
    }
    let sizes = ["0", "-1", "-4096", "", "x", "12Q", "1.5K", "99999999999999999999", "9999999T"]
    return number("--size", sizes) + number("--max-size", sizes) + number("--memory", sizes)
      + number("--max-pages", ["0", "-3", "", "x", "99999999999999999999"])
      + number("--segments", ["0", "-2", "", "1025", "99999999999999999999"])
      + number("--memory", ["5000", "2T"])
      + number("--direction", ["sideways", ""]) + number("--dialect", ["linux"])
      + number("--kind", ["mapped", ""]) + number("--trap", ["mprotect"])
      + [
        BadInput("extract", "--file", "", status: 64, names: "--file"),
        BadInput("extract", "--output", "", status: 64, names: "--output"),
        BadInput("extract", "--file", status: 64, names: "--file"),
        BadInput("extract", "--no-such", status: 64, names: "--no-such"),
        BadInput("extract", "extra", status: 64, names: "extra"),
        BadInput(
          "extract", "--kind", "ubuf", "--segments", "3", status: 64, names: "--segments", "3"),
        BadInput(
          "extract", "--kind", "xarray", "--segments", "3", status: 64, names: "--segments",
          "xarray"),
        BadInput(
          "extract", "--kind", "bvec", "--nofault", status: 64, names: "--nofault", "bvec"),
        BadInput(
          "extract", "--kind", "pipe", "--populate", status: 64, names: "--populate", "pipe"),
        BadInput("kinds", "bvec", status: 64, names: "bvec"),
        BadInput("bench", "--pages", "0", status: 64, names: "--pages", "0"),
        BadInput("bench", "--pages", "16,-1", status: 64, names: "--pages", "-1"),
        BadInput("bench", "--pages", "16,,1", status: 64, names: "--pages", "16,,1"),
        BadInput("bench", "--pages", "262145", status: 64, names: "--pages", "262145"),
        BadInput("bench", "--rounds", "0", status: 64, names: "--rounds", "0"),
        BadInput("bench", "--rounds", "-7", status: 64, names: "--rounds", "-7"),
        BadInput("lesson", "no-such", status: 64, names: "no-such", "fork-loss", "pipe-hazard"),
        BadInput("lesson", "", status: 64, names: "fork-loss"),
        BadInput("lesson", "fork-pin", "extra", status: 64, names: "extra"),
        BadInput(
          "lesson", "fork-pin", "--policy", "linux", status: 64, names: "--policy", "linux"),
        BadInput("lesson", "fork-pin", "--trap", "x", status: 64, names: "--trap", "x"),
        BadInput("lesson", "list", "--policy", "rfc", status: 64, names: "--policy", "rfc"),
        BadInput("lesson", "--trap", "none", status: 64, names: "--trap", "none"),
        BadInput("doctor", "--no-such", status: 64, names: "--no-such"),
        BadInput("no-such", status: 64, names: "no-such"),
      ]
  }()

  /// Whose files, sizes or memory do not fit.
  static let files: [BadInput] = [
    BadInput("extract", "--file", "missing", status: 1, names: "--file", "missing", "ENOENT"),
    BadInput("extract", "--file", "folder", status: 1, names: "--file", "folder", "directory"),
    BadInput("extract", "--file", "empty", status: 1, names: "--file", "empty"),
    BadInput("extract", "--file", "/dev/zero", status: 1, names: "--file", "/dev/zero"),
    BadInput(
      "extract", "--file", "in", "--size", "9001", status: 1, names: "--size", "9001", "9000"),
    BadInput("extract", "--size", "30T", status: 1, names: "--size", "32985348833280"),
    BadInput(
      "extract", "--size", "1M", "--memory", "1020K", status: 1, names: "--memory", "1020K",
      "ENOMEM"),
  ]

  /// Whose output cannot be.
  static let outputs: [BadInput] = [
    BadInput("extract", "--output", "folder", status: 1, names: "--output", "folder"),
    BadInput("extract", "--output", "in", status: 1, names: "--output", "'in'", "same file"),
    BadInput("extract", "--output", "link", status: 1, names: "--output", "link", "same file"),
    BadInput("extract", "--output", "hard", status: 1, names: "--output", "hard", "same file"),
    BadInput("extract", "--output", "missing/x", status: 1, names: "--output", "missing/x"),
    BadInput("extract", "--output", "in/x", status: 1, names: "--output", "in/x"),
    BadInput("extract", "--output", "new/", status: 1, names: "--output", "new/"),
  ]
}

extension GupctlTests {
  @Suite("Bad input")
  struct BadInputs {
    @Test(
      "Arguments that make no sense are refused by name with status 64", arguments: BadInput.usage)
    func usage(input: BadInput) throws { try check(input) }

    @Test(
      "A job that cannot be done leaves the output as it was", arguments: BadInput.files,
      ["into", "out-of"])
    func files(input: BadInput, direction: String) throws {
      try check(input, "--output", "out", "--direction", direction)
    }

    @Test(
      "An output that cannot be, or that is the file itself, is refused",
      arguments: BadInput.outputs)
    func outputs(input: BadInput) throws { try check(input, "--file", "in") }

    /// Runs it in a folder with one of everything, and finds nothing changed.
    private func check(_ input: BadInput, _ more: String...) throws {
      let folder = try Folder()
      let bytes = someBytes(9000)
      try folder.write("in", bytes)
      try folder.write("empty", Data())
      try folder.write("out", Data("as it was".utf8))
      let files = FileManager.default
      func path(_ name: String) -> String { folder.url.appendingPathComponent(name).path }
      try files.createDirectory(atPath: path("folder"), withIntermediateDirectories: false)
      try files.createSymbolicLink(atPath: path("link"), withDestinationPath: "in")
      try files.linkItem(atPath: path("in"), toPath: path("hard"))
      let names = try folder.names

      let outcome = try gupctl(input.arguments + more, in: folder)
      #expect(outcome.status == input.status)
      #expect(outcome.output == "")
      for name in input.names where name != "" {
        #expect(outcome.errors.contains(name), "\(outcome.errors)")
      }
      #expect(try folder.names == names)
      #expect(try folder.read("in") == bytes)
      #expect(try folder.read("out") == Data("as it was".utf8))
    }
  }
}
