//===----------------------------------------------------------------------===//
// The project's own files, read by tests that keep documents and code agreed.
//===----------------------------------------------------------------------===//

#if canImport(Glibc)
  import Glibc
#endif

/// Files of this checkout, by their path from its top folder.
public enum Documents {
  /// The top folder, found from where this file was compiled.
  public static let root: String = #filePath
    .split(separator: "/", omittingEmptySubsequences: false)
    .dropLast(3).joined(separator: "/")

  /// The lines of a file.
  public static func lines(of path: String) throws -> [String] {
    guard let file = unsafe fopen("\(root)/\(path)", "r") else {
      throw Mismatch(description: "cannot read \(path)")
    }
    defer { unsafe _ = fclose(file) }
    var text: [UInt8] = []
    var part = [UInt8](repeating: 0, count: 1 << 16)
    while true {
      let count = unsafe part.withUnsafeMutableBytes {
        unsafe fread($0.baseAddress!, 1, $0.count, file)
      }
      if count == 0 { break }
      text += part[..<count]
    }
    return String(decoding: text, as: UTF8.self)
      .split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
  }

  /// The files that a shell pattern names, in order.
  public static func paths(matching pattern: String) -> [String] {
    var found = unsafe glob_t()
    defer { unsafe globfree(&found) }
    guard unsafe glob("\(root)/\(pattern)", 0, nil, &found) == 0 else { return [] }
    return unsafe (0..<Int(found.gl_pathc)).map { i in
      unsafe String(String(cString: found.gl_pathv[i]!).dropFirst(root.count + 1))
    }
  }

  /// The fenced blocks of a language in a Markdown text, each without its fences.
  public static func blocks(_ language: String, in lines: [String]) -> [[String]] {
    var blocks: [[String]] = []
    var open: [String]? = nil
    for line in lines {
      if var block = open {
        if line == "```" {
          blocks.append(block)
          open = nil
        } else {
          block.append(line)
          open = block
        }
      } else if line == "```\(language)" {
        open = []
      }
    }
    return blocks
  }
}
