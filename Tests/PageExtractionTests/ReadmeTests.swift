//===----------------------------------------------------------------------===//
// README.md shows the example that is compiled here, and it does what it says.
//===----------------------------------------------------------------------===//

import Testing

#if canImport(Glibc)
  import Glibc
#endif

@Suite("README")
struct ReadmeTests {
  @Test("The example runs")
  func runs() throws {
    #expect(try readFromDevice() == Array("hello".utf8))
  }

  @Test("README.md shows exactly the example that runs")
  func text() throws {
    let folders = #filePath.split(separator: "/", omittingEmptySubsequences: false)
    let tests = folders.dropLast().joined(separator: "/")
    let root = folders.dropLast(3).joined(separator: "/")
    let source = try lines(of: "\(tests)/ReadmeExample.swift")
    let begin = try #require(source.firstIndex(of: "// README-BEGIN"))
    let end = try #require(source.firstIndex(of: "// README-END"))

    let readme = try lines(of: "\(root)/README.md")
    let open = try #require(readme.firstIndex(of: "```swift"), "README.md has no Swift block")
    let shown = readme[(open + 1)...].prefix { $0 != "```" }
    #expect(Array(shown) == Array(source[begin + 1..<end]))
  }

  private func lines(of path: String) throws -> [String] {
    guard let file = unsafe fopen(path, "r") else {
      throw Missing(path: path)
    }
    defer { unsafe _ = fclose(file) }
    var text: [UInt8] = []
    while true {
      let byte = unsafe fgetc(file)
      if byte < 0 { break }
      text.append(UInt8(truncatingIfNeeded: byte))
    }
    return String(decoding: text, as: UTF8.self)
      .split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
  }

  struct Missing: Error, CustomStringConvertible {
    let path: String
    var description: String { "cannot read \(path)" }
  }
}
