//===----------------------------------------------------------------------===//
// Steps and scenarios as Swift: what a shrunk program is printed as, to be
// pasted into the catalogue.
//===----------------------------------------------------------------------===//

extension Place: CustomStringConvertible {
  public var description: String {
    let page = offset >> 12
    return switch offset & 4095 {
    case 0 where page == 0: "Place(\(quoted(buffer)))"
    case let rest where rest % 512 == 0 && rest == 0: "Place(\(quoted(buffer)), page: \(page))"
    case let rest where rest % 512 == 0:
      "Place(\(quoted(buffer)), page: \(page), block: \(rest / 512))"
    default: "Place(\(quoted(buffer)), \(offset))"
    }
  }
}

extension Stretch: CustomStringConvertible {
  public var description: String {
    guard offset % 4096 == 0, length % 4096 == 0, length > 0 else {
      return "Stretch(\(quoted(buffer)), from: \(offset), length: \(length))"
    }
    let start = offset == 0 ? "" : ", page: \(offset >> 12)"
    let count = length == 4096 ? "" : ", pages: \(length >> 12)"
    return "Stretch(\(quoted(buffer))\(start)\(count))"
  }
}

extension Step: CustomStringConvertible {
  public var description: String {
    func byte(_ value: UInt8) -> String { "0x\(Words.hex(value))" }
    func list(_ stretches: [Stretch]) -> String {
      "[\(stretches.map(\.description).joined(separator: ", "))]"
    }
    return switch self {
    case .map(let by, let buffer, let pages, let backing):
      ".map(by: \(quoted(by)), buffer: \(quoted(buffer)), pages: \(pages), on: .\(backing))"
    case .unmap(let by, let s): ".unmap(by: \(quoted(by)), at: \(s))"
    case .protect(let by, let s, let access):
      ".protect(by: \(quoted(by)), at: \(s), to: .\(access))"
    case .advise(let by, let s, let counsel):
      ".advise(by: \(quoted(by)), at: \(s), to: .\(counsel))"
    case .move(let by, let s, let p): ".move(by: \(quoted(by)), at: \(s), to: \(p))"
    case .lift(let by, let s, let p): ".lift(by: \(quoted(by)), at: \(s), to: \(p))"
    case .touch(let by, let s): ".touch(by: \(quoted(by)), at: \(s))"
    case .store(let by, let p, let value):
      ".store(by: \(quoted(by)), at: \(p), value: \(byte(value)))"
    case .see(let by, let s): ".see(by: \(quoted(by)), at: \(s))"
    case .expect(let by, let p, let value):
      ".expect(by: \(quoted(by)), at: \(p), value: \(byte(value)))"
    case .peek(let by, let p): ".peek(by: \(quoted(by)), at: \(p))"
    case .poke(let by, let p, let value):
      ".poke(by: \(quoted(by)), at: \(p), value: \(byte(value)))"
    case .take(let by, let s, let name, let how, let times):
      ".take(by: \(quoted(by)), at: \(s), as: \(quoted(name)), how: .\(how), times: \(times))"
    case .deviceWrite(let name, let p, let value):
      ".deviceWrite(through: \(quoted(name)), at: \(p), value: \(byte(value)))"
    case .deviceRead(let name): ".deviceRead(through: \(quoted(name)))"
    case .expectDevice(let name, let p, let value):
      ".expectDevice(through: \(quoted(name)), at: \(p), value: \(byte(value)))"
    case .release(let name): ".release(hold: \(quoted(name)))"
    case .fork(let parent, let child): ".fork(by: \(quoted(parent)), child: \(quoted(child)))"
    case .exit(let name): ".exit(by: \(quoted(name)))"
    case .directRead(let by, let segments, let value):
      ".directRead(by: \(quoted(by)), into: \(list(segments)), value: \(byte(value)))"
    case .directWrite(let by, let segments):
      ".directWrite(by: \(quoted(by)), from: \(list(segments)))"
    case .frames(let s): ".frames(of: \(s))"
    case .resident(let by, let s): ".resident(by: \(quoted(by)), at: \(s))"
    case .counters: ".counters"
    }
  }
}

extension Scenario {
  /// The scenario as an expression for the catalogue.
  public var literal: String {
    let needs = needs == .bytes ? "" : ", needs: .\(needs)"
    let body = steps.map { "    \($0),\n" }.joined()
    return "Scenario(\n  \(quoted(id)), \(quoted(title))\(needs),\n  [\n\(body)  ])"
  }
}

private func quoted(_ text: String) -> String {
  var result = "\""
  for scalar in text.unicodeScalars {
    switch scalar {
    case "\"", "\\": result += "\\\(scalar)"
    case "\n": result += "\\n"
    default:
      result +=
        scalar.value < 0x20 ? "\\u{\(String(scalar.value, radix: 16))}" : String(scalar)
    }
  }
  return result + "\""
}
