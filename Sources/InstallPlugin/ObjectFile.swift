//===----------------------------------------------------------------------===//
// What `ld -r` leaves open in an object though it is known: calls within one
// section. For each it keeps a relocation and the name of what is called, since
// it resolves only when it makes a program. In an object whose functions are all
// in one section these were a quarter of the file.
//===----------------------------------------------------------------------===//

import Foundation

/// A relocatable ELF object for x86-64.
struct ObjectFile {
  private var bytes: [UInt8]

  private struct Section {
    let header: Int
    let type: Int
    let flags: Int
    let offset: Int
    let size: Int
    let link: Int
    let info: Int
  }

  init(path: String) throws {
    bytes = [UInt8](try Data(contentsOf: URL(filePath: path)))
    // 64 bits, little-endian; ET_REL; EM_X86_64.
    guard bytes.count >= 64, bytes.starts(with: [0x7f, 0x45, 0x4c, 0x46, 2, 1]),
      number(at: 16, width: 2) == 1, number(at: 18, width: 2) == 62
    else { throw Failure("\(path) is not a relocatable object for x86-64") }
  }

  func write(to path: String) throws {
    try Data(bytes).write(to: URL(filePath: path))
  }

  private func number(at offset: Int, width: Int) -> Int {
    var value: UInt64 = 0
    for i in 0..<width { value |= UInt64(bytes[offset + i]) << UInt64(8 * i) }
    return Int(truncatingIfNeeded: value)
  }

  private mutating func store(_ value: Int, at offset: Int, width: Int) {
    for i in 0..<width { bytes[offset + i] = UInt8(truncatingIfNeeded: value >> (8 * i)) }
  }

  private var sections: [Section] {
    let table = number(at: 40, width: 8)
    return (0..<number(at: 60, width: 2)).map { index in
      let at = table + index * 64
      return Section(
        header: at, type: number(at: at + 4, width: 4), flags: number(at: at + 8, width: 8),
        offset: number(at: at + 24, width: 8), size: number(at: at + 32, width: 8),
        link: number(at: at + 40, width: 4), info: number(at: at + 44, width: 4))
    }
  }

  /// Resolves each reference from the code to the code, drops its relocation, and
  /// lets the others name sections where they can, so that no name of what they
  /// refer to is needed. Returns how many were resolved.
  mutating func resolveCalls() throws -> Int {
    let sections = sections
    let (executable, mergeable) = (4, 0x10)
    let code = sections.indices.filter { sections[$0].flags & executable != 0 }
    guard code.count == 1, let text = code.first else {
      throw Failure("the library's code is not in one section")
    }
    var resolved = 0
    for table in sections where table.type == 4 {
      let places = sections[table.info]
      let symbols = sections[table.link]
      let names = sectionSymbols(symbols)
      var kept = table.offset
      for at in stride(from: table.offset, to: table.offset + table.size, by: 24) {
        let place = number(at: at, width: 8)
        let symbol = symbols.offset + number(at: at + 12, width: 4) * 24
        let home = number(at: symbol + 6, width: 2)
        let target = number(at: symbol + 8, width: 8) + number(at: at + 16, width: 8)
        let kind = number(at: at + 8, width: 4)
        // What the linker has dropped.
        if kind == 0 { continue }
        // R_X86_64_PC32 and R_X86_64_PLT32, which a definition beside it makes the same.
        let isRelative = kind == 2 || kind == 4
        if isRelative, table.info == text, home == text, Int32(exactly: target - place) != nil {
          store(target - place, at: places.offset + place, width: 4)
          resolved += 1
          continue
        }
        // R_X86_64_64 or relative, to what is the library's own. What a linker may
        // merge with its likes it finds by name only.
        let isLocal = bytes[symbol + 4] >> 4 == 0
        if isRelative || kind == 1, isLocal, let name = names[home],
          sections[home].flags & mergeable == 0
        {
          store(name, at: at + 12, width: 4)
          store(target, at: at + 16, width: 8)
        }
        bytes.replaceSubrange(kept..<kept + 24, with: Array(bytes[at..<at + 24]))
        kept += 24
      }
      store(kept - table.offset, at: table.header + 32, width: 8)
    }
    return resolved
  }

  /// The symbols that stand for sections, by section.
  private func sectionSymbols(_ table: Section) -> [Int: Int] {
    var found: [Int: Int] = [:]
    for index in 0..<table.size / 24 where bytes[table.offset + index * 24 + 4] & 15 == 3 {
      found[number(at: table.offset + index * 24 + 6, width: 2)] = index
    }
    return found
  }
}
