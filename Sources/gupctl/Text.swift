//===----------------------------------------------------------------------===//
// Numbers in words, and writing to the two outputs.
//===----------------------------------------------------------------------===//

import FoundationEssentials
import Glibc
import TextTable

/// A number with `digits` decimals, rounded half up; no locale.
func fixed(_ value: Double, _ digits: Int) -> String {
  var scale = 1
  for _ in 0..<digits { scale *= 10 }
  guard value.isFinite, abs(value) < 1e15 else { return "\(value)" }
  let scaled = Int((abs(value) * Double(scale)).rounded())
  let sign = value < 0 && scaled > 0 ? "-" : ""
  guard digits > 0 else { return "\(sign)\(scaled)" }
  let fraction = String(scaled % scale)
  let zeroes = String(repeating: "0", count: digits - fraction.count)
  return "\(sign)\(scaled / scale).\(zeroes)\(fraction)"
}

/// A number of bytes in the largest unit that leaves it readable: "64 MiB",
/// "10.0 MiB", "4097 bytes".
func inUnits(_ bytes: Int) -> String {
  for (shift, unit) in [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")]
  where bytes >= 1 << shift && (shift > 10 || bytes % 1024 == 0) {
    return bytes % (1 << shift) == 0
      ? "\(bytes >> shift) \(unit)"
      : "\(fixed(Double(bytes) / Double(1 << shift), 1)) \(unit)"
  }
  return counted(bytes, "byte")
}

/// "1 page", "2 pages".
func counted(_ number: Int, _ noun: String) -> String {
  "\(number) \(noun)\(number == 1 ? "" : "s")"
}

extension String {
  /// With spaces after it, up to a width.
  func padded(_ width: Int) -> String {
    self + String(repeating: " ", count: max(0, width - count))
  }
  /// With spaces before it.
  func padded(toEnd width: Int) -> String {
    String(repeating: " ", count: max(0, width - count)) + self
  }

  /// In lines of at most `width` columns, the first after `first`, the others
  /// after as many spaces. A word that is longer stands alone.
  func wrapped(_ width: Int, first: String = "") -> [String] {
    var lines: [String] = []
    var line = first
    var isEmpty = true
    for word in split(separator: " ") {
      if !isEmpty, line.count + 1 + word.count > width {
        lines.append(line)
        line = String(repeating: " ", count: first.count)
        isEmpty = true
      }
      line += (isEmpty ? "" : " ") + word
      isEmpty = false
    }
    return lines + [line]
  }
}

enum Terminal {
  /// Will a person see what standard error says, as it is said?
  static var errorIsTerminal: Bool { isatty(STDERR_FILENO) == 1 }

  /// May standard output be coloured? On a terminal that can, unless NO_COLOR is
  /// set to anything.
  static var outputTakesColour: Bool {
    func variable(_ name: String) -> String? {
      unsafe getenv(name).map { unsafe String(cString: $0) }
    }
    return isatty(STDOUT_FILENO) == 1 && variable("NO_COLOR")?.isEmpty != false
      && variable("TERM") != "dumb"
  }

  /// Writes to standard error. What it refuses is lost: there is nowhere to say so.
  static func writeError(_ text: String) {
    var text = text
    text.withUTF8 { bytes in
      _ = unsafe write(STDERR_FILENO, bytes.baseAddress, bytes.count)
    }
  }
}

/// Prints a table, if it has rows, without spaces at the ends of its lines.
func printTable<Row>(_ rows: [Row], indent: String = "", _ columns: @escaping (Row) -> [Column]) {
  guard let text = TextTable(columns).string(for: rows) else { return }
  for line in text.split(separator: "\n") {
    let end = line.lastIndex { $0 != " " }.map { line.index(after: $0) } ?? line.startIndex
    print(indent + line[..<end])
  }
}

/// Prints a value as JSON with its keys in order.
func printJSON(_ value: some Encodable) throws {
  let encoder = JSONEncoder()
  encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
  print(String(decoding: try encoder.encode(value), as: UTF8.self))
}
