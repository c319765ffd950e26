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

let rooms = ["Events", "PageFrames"]

func asTargets(_ names: [String]) -> [Target.Dependency] {
  names.map { .target(name: $0) }
}

/// A library room: it sees CShims and the rooms above it, nothing else.
func room(_ name: String, above: [String]) -> Target {
  .target(name: name, dependencies: ["CShims"] + asTargets(above), swiftSettings: settings)
}

let package = Package(
  name: "swift-gup",
  products: [
    .library(name: "SwiftGUP", targets: rooms),
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


  ],
  swiftLanguageModes: [.v6],
  cLanguageStandard: .c11
)
