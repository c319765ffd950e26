//===----------------------------------------------------------------------===//
// What `ld -r` leaves open in an object though it is known: calls within one
// section. For each it keeps a relocation and the name of what is called, since
// it resolves only when it makes a program. In an object whose functions are all
// in one section these were a third of the file.
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

  /// Resolves each reference from the code to the code, and drops its relocation.
  /// Returns how many there were.
  mutating func resolveCalls() throws -> Int {
    let sections = sections
    let executable = 4
    let code = sections.indices.filter { sections[$0].flags & executable != 0 }
    guard code.count == 1, let text = code.first,
      let relocations = sections.first(where: { $0.type == 4 && $0.info == text })
    else { throw Failure("the library's code is not in one section") }
    let symbols = sections[relocations.link].offset
    var kept = relocations.offset
    var resolved = 0
    for at in stride(from: relocations.offset, to: relocations.offset + relocations.size, by: 24) {
      let place = number(at: at, width: 8)
      let symbol = symbols + number(at: at + 12, width: 4) * 24
      let distance = number(at: symbol + 8, width: 8) + number(at: at + 16, width: 8) - place
      // R_X86_64_PC32 and R_X86_64_PLT32, which a definition beside it makes the same.
      let isRelative = [2, 4].contains(number(at: at + 8, width: 4))
      if isRelative, number(at: symbol + 6, width: 2) == text, Int32(exactly: distance) != nil {
        store(distance, at: sections[text].offset + place, width: 4)
        resolved += 1
      } else {
        bytes.replaceSubrange(kept..<kept + 24, with: Array(bytes[at..<at + 24]))
        kept += 24
      }
    }
    store(kept - relocations.offset, at: relocations.header + 32, width: 8)
    return resolved
  }
}
