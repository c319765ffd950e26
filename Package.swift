// swift-tools-version: 6.2
//===----------------------------------------------------------------------===//
// One module per room of the house. A room imports only rooms named before it
// here, and the compiler keeps it so.
//===----------------------------------------------------------------------===//

import PackageDescription

let settings: [SwiftSetting] = [
  .strictMemorySafety(),
  .enableUpcomingFeature("ExistentialAny"),
  .enableUpcomingFeature("InternalImportsByDefault"),
  .enableUpcomingFeature("MemberImportVisibility"),
  // Span-returning properties name what they borrow from with @_lifetime.
  .enableExperimentalFeature("Lifetimes"),
]

let rooms = ["Events", "PageFrames", "AddressSpaces", "GUP", "PageExtraction", "DMA"]

func asTargets(_ names: [String]) -> [Target.Dependency] {
  names.map { .target(name: $0) }
}

/// A library room: it sees CShims and the rooms above it, nothing else.
func room(_ name: String, above: [String]) -> Target {
  .target(name: name, dependencies: ["CShims"] + asTargets(above), swiftSettings: settings)
}

func tests(_ name: String, of rooms: [String]) -> Target {
  .testTarget(
    name: name, dependencies: ["CShims", "TestSupport"] + asTargets(rooms),
    swiftSettings: settings)
}

let package = Package(
  name: "swift-gup",
  products: [
    .library(name: "SwiftGUP", targets: ["SwiftGUP"] + rooms),
    .executable(name: "gupctl", targets: ["gupctl"]),
    .plugin(name: "InstallPlugin", targets: ["InstallPlugin"]),
  ],
  dependencies: [
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
    .package(url: "https://github.com/ordo-one/TextTable", from: "0.0.2"),
  ],
  targets: [
    .target(
      name: "CShims",
      path: "CShims",
      cSettings: [
        .define("_GNU_SOURCE"),
        .enableWarning("all"),
        .enableWarning("extra"),
      ]),

    // The library rooms: standard library only.
    room("Events", above: []),
    room("PageFrames", above: ["Events"]),
    room("AddressSpaces", above: ["Events", "PageFrames"]),
    room("GUP", above: ["Events", "PageFrames", "AddressSpaces"]),
    room("PageExtraction", above: ["Events", "PageFrames", "AddressSpaces", "GUP"]),
    room("DMA", above: ["Events", "PageFrames", "AddressSpaces", "GUP", "PageExtraction"]),
    room("SwiftGUP", above: rooms),

    // The C interface: a header, and the Swift that implements it.
    .target(
      name: "CGup",
      cSettings: [
        .enableWarning("all"),
        .enableWarning("extra"),
      ]),
    .target(
      name: "LibGup", dependencies: ["CGup", "CShims"] + asTargets(rooms),
      swiftSettings: settings),
    .plugin(
      name: "InstallPlugin",
      capability: .command(
        intent: .custom(
          verb: "install", description: "Build libgup for C and install it under --prefix DIR.")),
      path: "Sources/InstallPlugin"),

    // The hosted rooms.
    room("HostKernel", above: []),
    .target(
      name: "Conformance", dependencies: ["CShims", "SwiftGUP", "HostKernel"],
      swiftSettings: settings),
    .executableTarget(
      name: "gupctl",
      dependencies: [
        "CShims", "SwiftGUP", "HostKernel", "Conformance", "CGup", "LibGup",
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
        .product(name: "TextTable", package: "TextTable"),
      ],
      swiftSettings: settings),

    // What tests of faults run in a process of its own.
    .target(
      name: "CTrapHelper", path: "Tests/TrapHelper/C",
      cSettings: [
        .define("_GNU_SOURCE"),
        .enableWarning("all"),
        .enableWarning("extra"),
      ]),
    .executableTarget(
      name: "trap-helper",
      dependencies: [
        "CTrapHelper", "CShims", "TestSupport", "Events", "PageFrames", "AddressSpaces", "GUP",
      ],
      path: "Tests/TrapHelper/Main", swiftSettings: settings),

    .target(
      name: "CForkHelper", path: "Tests/ForkHelper/C",
      cSettings: [
        .define("_GNU_SOURCE"),
        .enableWarning("all"),
        .enableWarning("extra"),
      ]),
    .executableTarget(
      name: "fork-helper",
      dependencies: ["CForkHelper", "CGup", "CInterfaceChecks", "LibGup", "CShims", "TestSupport"]
        + asTargets(rooms),
      path: "Tests/ForkHelper/Main", swiftSettings: settings),

    // The tests: a folder per room, and what they share.
    .target(
      name: "TestSupport", dependencies: ["CShims"] + asTargets(rooms),
      path: "Tests/TestSupport", swiftSettings: settings),
    .target(
      name: "ExtractionModel", dependencies: ["TestSupport"] + asTargets(rooms),
      path: "Tests/ExtractionModel", swiftSettings: settings),
    // Knows the rules of fork and nothing of the rooms.
    .target(name: "ForkModel", path: "Tests/ForkModel", swiftSettings: settings),
    .executableTarget(
      name: "iterator-fuzz", dependencies: ["ExtractionModel", "TestSupport"],
      path: "Tests/IteratorFuzz", swiftSettings: settings),
    tests("PageFramesTests", of: ["Events", "PageFrames"]),
    tests("AddressSpacesTests", of: ["Events", "PageFrames", "AddressSpaces"]),
    tests("GUPTests", of: ["Events", "PageFrames", "AddressSpaces", "GUP"]),
    tests("ForkModelTests", of: ["Events", "PageFrames", "AddressSpaces", "GUP", "ForkModel"]),
    tests("PageExtractionTests", of: rooms + ["SwiftGUP", "ExtractionModel"]),
    tests("DMATests", of: rooms),
    tests("EventsTests", of: ["Events", "PageFrames", "AddressSpaces"]),
    tests("HostKernelTests", of: ["HostKernel"]),
    tests("ConformanceTests", of: ["Conformance", "HostKernel", "SwiftGUP"]),
    tests("gupctlTests", of: ["gupctl", "SwiftGUP"]),
    .target(
      name: "CInterfaceChecks", dependencies: ["CGup"], path: "Tests/CInterfaceChecks",
      cSettings: [
        .define("_GNU_SOURCE"),
        .enableWarning("all"),
        .enableWarning("extra"),
      ]),
    .testTarget(
      name: "LibGupTests",
      dependencies: ["CInterfaceChecks", "LibGup", "CGup", "SwiftGUP", "TestSupport"],
      exclude: ["Runner"],
      swiftSettings: settings),
  ],
  swiftLanguageModes: [.v6],
  cLanguageStandard: .c11
)

// The fuzzer's entry is no program without libFuzzer, so it is built on request.
if Context.environment["GUP_FUZZER"] == "1" {
  package.targets.append(
    .executableTarget(
      name: "iterator-fuzzer", dependencies: ["ExtractionModel"], path: "Tests/IteratorFuzzer",
      swiftSettings: settings + [.unsafeFlags(["-parse-as-library"])]))
}
