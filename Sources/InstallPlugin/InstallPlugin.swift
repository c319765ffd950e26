//===----------------------------------------------------------------------===//
// swift package install --prefix DIR: builds libgup as Embedded Swift, so that
// it needs no Swift where it is used, and puts library, headers, pkg-config
// files and manual pages under DIR.
//
// The rooms are compiled by hand and not by SwiftPM: one object of all that the
// interface reaches, instead of one a source file with copies of what they
// share, is a third of the size. That object is linked with the C ones into a
// single one, whose global symbols are those that gup.h declares.
//===----------------------------------------------------------------------===//

import Foundation
import PackagePlugin

@main
struct InstallPlugin: CommandPlugin {
  func performCommand(context: PluginContext, arguments: [String]) throws {
    var extractor = ArgumentExtractor(arguments)
    let prefixes = extractor.extractOption(named: "prefix")
    guard prefixes.count == 1, let prefix = prefixes.first, !prefix.isEmpty,
      extractor.remainingArguments.isEmpty
    else {
      throw Failure(
        "usage: swift package --allow-writing-to-directory DIR install --prefix DIR")
    }
    let build = try Build(
      package: context.package.directoryURL,
      work: context.pluginWorkDirectoryURL.appending(path: "libgup"))
    let object = try build.object()
    try Installation(
      build: build, object: object, prefix: URL(filePath: prefix).standardizedFileURL
    ).install()
  }
}

struct Failure: Error, CustomStringConvertible {
  let description: String
  init(_ description: String) { self.description = description }
}

/// Runs a tool to its end; its output when `captures`.
@discardableResult
func run(_ tool: String, _ arguments: [String], captures: Bool = false) throws -> String {
  let process = Process()
  process.executableURL = URL(filePath: "/usr/bin/env")
  process.arguments = [tool] + arguments
  let pipe = Pipe()
  if captures { process.standardOutput = pipe }
  try process.run()
  let output = captures ? try pipe.fileHandleForReading.readToEnd() : nil
  process.waitUntilExit()
  guard process.terminationReason == .exit, process.terminationStatus == 0 else {
    throw Failure("\(tool) failed: \(arguments.joined(separator: " "))")
  }
  return String(decoding: output ?? Data(), as: UTF8.self)
}

/// The files of a folder with an extension, in order.
func files(in folder: URL, _ fileExtension: String) throws -> [String] {
  try FileManager.default.contentsOfDirectory(atPath: folder.path)
    .filter { $0.hasSuffix(".\(fileExtension)") }
    .sorted().map { folder.appending(path: $0).path }
}
