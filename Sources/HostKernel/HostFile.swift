//===----------------------------------------------------------------------===//
// Small files of /proc and /sys.
//===----------------------------------------------------------------------===//

internal import CShims

enum HostFile {
  /// A file of less than 64 KiB as text.
  static func text(_ path: String) throws(HostError) -> String {
    var answer: Int32 = 0
    let text = unsafe String(unsafeUninitializedCapacity: 1 << 16) { buffer in
      var length = 0
      unsafe buffer.withMemoryRebound(to: CChar.self) { characters in
        answer = unsafe cshims_read_text(
          path, characters.baseAddress, characters.count, &length)
      }
      return answer == 0 ? length : 0
    }
    try check(answer, "reading \(path)")
    return text
  }

  /// A file that holds one number; nil when it is not there or holds none.
  static func number(_ path: String) -> UInt64? {
    guard let text = try? text(path) else { return nil }
    return UInt64(text.prefix { !$0.isWhitespace })
  }

  /// The value behind `name` in a file of `name value` lines, without the spaces around it.
  static func field(_ name: String, in text: String) -> Substring? {
    for line in text.split(separator: "\n") {
      let words = line.split(maxSplits: 1, whereSeparator: \.isWhitespace)
      if words.count == 2, words[0] == name {
        let value = words[1].drop(while: \.isWhitespace)
        return value
      }
    }
    return nil
  }

  /// The word in brackets of a file such as `always [madvise] never`; nil without the file.
  static func selectedWord(_ path: String) -> String? {
    guard let text = try? text(path) else { return nil }
    guard let open = text.firstIndex(of: "["), let close = text[open...].firstIndex(of: "]")
    else { return nil }
    return String(text[text.index(after: open)..<close])
  }
}
