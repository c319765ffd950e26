//===----------------------------------------------------------------------===//
// gupctl kinds: what an extraction holds, by kind, dialect and direction.
//===----------------------------------------------------------------------===//

import ArgumentParser
import SwiftGUP
import TextTable

struct KindsCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "kinds",
    abstract: "Say what can be extracted, and what that holds on the pages.",
    discussion: """
      One row for each kind of iterator. 'pinned' pages stay the buffer's own until they are \
      unpinned, 'referenced' ones merely exist until then, and on 'unretained' ones nothing is \
      held: whoever made the iterator keeps them. EFAULT: the dialect does not extract that \
      kind. EINVAL: no such iterator can be made. The table is the one that the library itself \
      goes by.
      """)

  @Flag(
    help: """
      Print one JSON array of objects: kind, kernelName, and extractions with dialect, \
      direction, and either retention or errno and refusedAt.
      """)
  var json = false

  private struct Row: Encodable {
    let kind: KindName
    let kernelName: String
    let extractions: [Item]

    init(_ kind: KindName) {
      self.kind = kind
      kernelName = kind.kernelName
      extractions = DialectName.allCases.flatMap { dialect in
        Way.allCases.map { way in Item(kind, dialect, way) }
      }
    }
  }

  private struct Item: Encodable {
    let dialect: DialectName
    let direction: Way
    let retention: String?
    let errno: String?
    let refusedAt: String?

    init(_ kind: KindName, _ dialect: DialectName, _ way: Way) {
      self.dialect = dialect
      direction = way
      switch KindTable.cell(kind, dialect, way) {
      case .held(let held):
        (retention, errno, refusedAt) = (held.text, nil, nil)
      case .refused(let refusal):
        retention = nil
        errno = refusal.error.name
        refusedAt = refusal.isAtConstruction ? "construction" : "extraction"
      }
    }

    var title: String { "\(dialect) \(direction.rawValue)" }
    var text: String { retention ?? errno ?? "" }
  }

  func run() throws {
    let rows = KindName.allCases.map(Row.init)
    if json { return try printJSON(rows) }
    printTable(rows) { row in
      [
        Column(title: "kind", value: row.kind.rawValue),
        Column(title: "kernel", value: row.kernelName),
      ] + row.extractions.map { Column(title: $0.title, value: $0.text) }
    }
  }
}
