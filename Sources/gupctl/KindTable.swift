//===----------------------------------------------------------------------===//
// Which kind of iterator can be extracted how: the library's own table, which
// its extractions obey, in words.
//===----------------------------------------------------------------------===//

import SwiftGUP

enum KindTable {
  /// What comes of extracting one kind, one way, by one dialect.
  enum Cell {
    case held(Retention)
    case refused(Refusal)
  }

  struct Refusal: CustomStringConvertible {
    let error: ErrorNumber
    /// By the initialiser of the iterator, else by the extraction.
    let isAtConstruction: Bool

    var description: String {
      isAtConstruction
        ? "\(error.name), no such iterator can be made" : "\(error.name), as in the kernel"
    }
  }

  static func cell(_ name: KindName, _ dialect: DialectName, _ way: Way) -> Cell {
    guard name.kind.takes(way.direction) else {
      return .refused(Refusal(error: .invalid, isAtConstruction: true))
    }
    guard let retention = name.kind.extraction(in: dialect.dialect, way.direction) else {
      return .refused(Refusal(error: .badAddress, isAtConstruction: false))
    }
    return .held(retention)
  }
}
