//===----------------------------------------------------------------------===//
// Compiling and linking the one object of libgup.
//===----------------------------------------------------------------------===//

import Foundation

struct Build {
  let package: URL
  let work: URL
  /// The functions that gup.h and its part declare.
  let names: [String]

  /// The rooms in the order in which they may import each other.
  private static let rooms = [
    "Events", "PageFrames", "AddressSpaces", "GUP", "PageExtraction", "DMA",
  ]

  /// What waits for the host anyway.
  private static let smallRooms: Set = ["AddressSpaces"]

  init(package: URL, work: URL) throws {
    self.package = package
    self.work = work
    try? FileManager.default.removeItem(at: work)
    try FileManager.default.createDirectory(at: work, withIntermediateDirectories: true)
    let declarations = try ["gup.h", "gup/mm.h"].map { name in
      try String(
        contentsOf: package.appending(path: "Sources/CGup/include/\(name)"), encoding: .utf8)
    }.joined()
    // Comments name functions too, but with nothing between their brackets.
    names = Set(declarations.matches(of: /\b(gup_[a-z0-9_]+)\([^)]/).map { String($0.1) }).sorted()
  }

  func path(_ name: String) -> String { work.appending(path: name).path }

  private func sources(_ room: String) throws -> [String] {
    try files(in: package.appending(path: "Sources/\(room)"), "swift")
  }

  private func note(_ text: String) { print(text) }

  /// Builds the object, and checks what it defines.
  func object() throws -> String {
    let shims = package.appending(path: "CShims")
    let include = shims.appending(path: "include").path
    try """
    module CShims {
      umbrella header "\(include)/CShims.h"
      export *
    }
    """.write(toFile: path("CShims.modulemap"), atomically: true, encoding: .utf8)
    // The settings of Package.swift, for a compiler that SwiftPM does not drive.
    var flags = [
      "-wmo", "-num-threads", "0", "-parse-as-library", "-swift-version", "6",
      "-package-name", "gup", "-strict-memory-safety", "-suppress-notes", "-I", work.path,
      "-Xcc", "-D_GNU_SOURCE", "-Xcc", "-fmodule-map-file=\(path("CShims.modulemap"))",
      "-Xcc", "-I\(include)",
      "-Xcc", "-I\(package.appending(path: "Sources/CGup/include").path)",
    ]
    for feature in ["Embedded", "Lifetimes"] { flags += ["-enable-experimental-feature", feature] }
    for feature in ["ExistentialAny", "InternalImportsByDefault", "MemberImportVisibility"] {
      flags += ["-enable-upcoming-feature", feature]
    }
    for room in Build.rooms {
      note("Compiling \(room)")
      try run(
        "swiftc",
        flags + [
          Build.smallRooms.contains(room) ? "-Osize" : "-O", "-module-name", room,
          "-emit-module", "-emit-module-path", path("\(room).swiftmodule"),
        ] + sources(room))
    }
    note("Compiling LibGup")
    try run(
      "swiftc",
      flags + [
        "-O", "-Xfrontend", "-function-sections", "-module-name", "LibGup", "-c", "-o",
        path("LibGup.o"),
      ] + sources("LibGup"))
    var objects = [path("LibGup.o")]
    for source in try files(in: shims, "c") {
      let object = path((source as NSString).lastPathComponent + ".o")
      try run(
        "clang",
        [
          // What is hot of C stands in headers. Nothing unwinds through the library:
          // Swift's code has no tables for that here.
          "-std=c11", "-Os", "-fno-asynchronous-unwind-tables", "-fPIC", "-ffunction-sections",
          "-fdata-sections", "-D_GNU_SOURCE", "-I\(include)", "-c", "-o", object, source,
        ])
      objects.append(object)
    }
    return try link(objects)
  }

  private func link(_ objects: [String]) throws -> String {
    note("Linking")
    let whole = path("whole.o")
    let object = path("gup.o")
    // From what the header declares, only what is reached.
    let reached = path("reached.o")
    try run("ld", ["-r", "--gc-sections", "-o", reached] + names.flatMap { ["-u", $0] } + objects)
    // A section a function was for that.
    try """
    SECTIONS {
      .text : { *(.text .text.*) }
      .rodata : { *(.rodata .rodata.*) }
      .data.rel.ro : { *(.data.rel.ro .data.rel.ro.*) }
      .data : { *(.data .data.*) }
      .bss : { *(.bss .bss.*) }
    }
    """.write(toFile: path("merge.ld"), atomically: true, encoding: .utf8)
    try run("ld", ["-r", "-T", path("merge.ld"), "-o", whole, reached])
    try names.joined(separator: "\n").write(
      toFile: path("names"), atomically: true, encoding: .utf8)
    try run("objcopy", ["--keep-global-symbols=\(path("names"))", whole, object])
    var file = try ObjectFile(path: object)
    note("Resolved \(try file.resolveCalls()) calls within the library")
    try file.write(to: object)
    try run("strip", ["--strip-unneeded", "-R", ".comment", "-R", ".llvm_addrsig", object])
    let defined = try run("nm", ["-g", "--defined-only", "-f", "posix", object], captures: true)
      .split(separator: "\n").map { String($0.prefix { $0 != " " }) }
    let missing = Set(names).symmetricDifference(defined)
    guard missing.isEmpty else {
      throw Failure("gup.h and the library differ in: \(missing.sorted().joined(separator: ", "))")
    }
    return object
  }
}
