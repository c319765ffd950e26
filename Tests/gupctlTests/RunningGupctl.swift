//===----------------------------------------------------------------------===//
// Running the built executable, and folders for it to work in. The tests know
// gupctl as its user does: by arguments, exit status, output, and files.
//===----------------------------------------------------------------------===//

import Foundation
import Testing

/// One command at a time: each may use some hundred megabytes.
@Suite("gupctl", .serialized)
struct GupctlTests {}

/// What a command left behind.
struct Outcome {
  let status: Int32
  let output: String
  let errors: String

  /// The output as JSON.
  func json<Value: Decodable>(as type: Value.Type) throws -> Value {
    try JSONDecoder().decode(Value.self, from: Data(output.utf8))
  }
}

/// The executable stands beside the tests' own.
private let executable: URL = {
  let tests = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath()
  return tests.deletingLastPathComponent().appendingPathComponent("gupctl")
}()

/// A command that runs. Its output goes to files, not pipes: nobody has to read meanwhile.
final class Running {
  let process = Process()
  private let arguments: [String]
  private let files: Folder

  /// - Parameters:
  ///   - asNobody: by way of setpriv(1), without any privilege.
  ///   - limits: what a nobody's shell gives to ulimit first.
  ///   - output: where its output goes instead.
  init(
    _ arguments: [String], in folder: Folder?, asNobody: Bool = false, limits: String? = nil,
    output: FileHandle? = nil
  ) throws {
    self.arguments = arguments
    files = try Folder()
    if asNobody {
      process.executableURL = URL(fileURLWithPath: "/usr/bin/setpriv")
      process.arguments =
        ["--reuid", "65534", "--regid", "65534", "--clear-groups"]
        + (limits.map { ["/bin/sh", "-c", "ulimit \($0) && exec \"$0\" \"$@\""] } ?? [])
        + [executable.path] + arguments
    } else {
      process.executableURL = executable
      process.arguments = arguments
    }
    if let folder { process.currentDirectoryURL = folder.url }
    process.standardInput = FileHandle.nullDevice
    let file = try files.write("output", Data())
    process.standardOutput = try output ?? FileHandle(forWritingTo: file)
    process.standardError = try FileHandle(forWritingTo: files.write("errors", Data()))
    // A test's thread may block signals, and the command would inherit that.
    var none = sigset_t()
    var before = sigset_t()
    unsafe sigemptyset(&none)
    unsafe pthread_sigmask(SIG_SETMASK, &none, &before)
    defer { unsafe pthread_sigmask(SIG_SETMASK, &before, nil) }
    try process.run()
  }

  /// Waits for its end, which must not be by a signal.
  func outcome() throws -> Outcome {
    process.waitUntilExit()
    #expect(process.terminationReason == .exit, "a signal ended gupctl \(arguments)")
    return Outcome(
      status: process.terminationStatus,
      output: String(decoding: try files.read("output"), as: UTF8.self),
      errors: String(decoding: try files.read("errors"), as: UTF8.self))
  }
}

/// Runs `gupctl` to its end.
func gupctl(
  _ arguments: [String], in folder: Folder? = nil, asNobody: Bool = false, limits: String? = nil
) throws -> Outcome {
  try Running(arguments, in: folder, asNobody: asNobody, limits: limits).outcome()
}

/// A folder of its own for a test, removed with everything in it.
final class Folder {
  let url: URL

  init() throws {
    url = FileManager.default.temporaryDirectory
      .appendingPathComponent("gupctl-tests-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true)
  }

  deinit { try? FileManager.default.removeItem(at: url) }

  @discardableResult
  func write(_ name: String, _ bytes: Data) throws -> URL {
    let file = url.appendingPathComponent(name)
    try bytes.write(to: file)
    return file
  }

  func read(_ name: String) throws -> Data {
    try Data(contentsOf: url.appendingPathComponent(name))
  }

  /// Every name in it, hidden ones too.
  var names: [String] {
    get throws { try FileManager.default.contentsOfDirectory(atPath: url.path).sorted() }
  }
}

/// Bytes of which no two pages are alike.
func someBytes(_ count: Int) -> Data {
  var state: UInt64 = 0x1234_5678
  return Data(
    (0..<count).map { _ in
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return UInt8(truncatingIfNeeded: state >> 56)
    })
}
