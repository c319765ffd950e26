//===----------------------------------------------------------------------===//
// Putting what was built where it belongs.
//===----------------------------------------------------------------------===//

import Foundation

struct Installation {
  let build: Build
  let object: String
  let prefix: URL

  /// The shared library's interface: raised when it breaks.
  private static let interface = "0"
  private static let version = "0.1"

  private func folder(_ name: String) throws -> URL {
    let folder = prefix.appending(path: name)
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    return folder
  }

  private func copy(_ source: URL, to folder: URL) throws {
    let target = folder.appending(path: source.lastPathComponent)
    try? FileManager.default.removeItem(at: target)
    try FileManager.default.copyItem(at: source, to: target)
  }

  private func link(_ name: String, to target: String, in folder: URL) throws {
    let link = folder.appending(path: name).path
    try? FileManager.default.removeItem(atPath: link)
    try FileManager.default.createSymbolicLink(atPath: link, withDestinationPath: target)
  }

  func install() throws {
    let library = try folder("lib")
    let archive = library.appending(path: "libgup.a").path
    try? FileManager.default.removeItem(atPath: archive)
    try run("ar", ["rcs", archive, object])
    let shared = "libgup.so.\(Self.version)"
    let soname = "libgup.so.\(Self.interface)"
    try run(
      "cc",
      [
        "-shared", "-Wl,-soname,\(soname)", "-Wl,-z,defs", "-Wl,-z,relro", "-s", "-o",
        library.appending(path: shared).path, object, "-lpthread", "-ldl",
      ])
    try link(soname, to: shared, in: library)
    try link("libgup.so", to: soname, in: library)

    let headers = build.package.appending(path: "Sources/CGup/include")
    try copy(headers.appending(path: "gup.h"), to: folder("include"))
    for header in try files(in: headers.appending(path: "gup"), "h") {
      try copy(URL(filePath: header), to: folder("include/gup"))
    }

    let packages = try folder("lib/pkgconfig")
    try description("gup", libraries: "-lgup", more: "Libs.private: -lpthread -ldl\n").write(
      to: packages.appending(path: "gup.pc"), atomically: true, encoding: .utf8)
    try description("gup-static", libraries: "-l:libgup.a -lpthread -ldl", more: "").write(
      to: packages.appending(path: "gup-static.pc"), atomically: true, encoding: .utf8)

    let manual = build.package.appending(path: "docs/man")
    for section in ["3", "7"] {
      for page in try files(in: manual, section) {
        try copy(URL(filePath: page), to: folder("share/man/man\(section)"))
      }
    }
    print("Installed libgup \(Self.version) under \(prefix.path)")
  }

  private func description(_ name: String, libraries: String, more: String) -> String {
    """
    prefix=\(prefix.path)
    libdir=${prefix}/lib
    includedir=${prefix}/include

    Name: \(name)
    Description: get_user_pages, pin_user_pages and iov_iter extraction in user space
    Version: \(Self.version)
    Cflags: -I${includedir}
    Libs: -L${libdir} \(libraries)

    """ + more
  }
}
