//===----------------------------------------------------------------------===//
// Diagram: who leads to which page, and what the page's descriptor says, as the
// API observes it at one moment. Pages are numbered in the order in which they
// were first seen, so that a page keeps its name throughout a lesson and every
// run of it draws the same.
//===----------------------------------------------------------------------===//

import SwiftGUP

/// Names for the pages of a play.
struct PageNames {
  /// Those seen so far.
  private(set) var pages: [Page] = []
  /// The first pages of the large folios among them.
  private var heads: [Page] = []

  mutating func note(_ page: Page) {
    if !pages.contains(page) { pages.append(page) }
    if page.folioOrder > 0, !heads.contains(page.folioHead) { heads.append(page.folioHead) }
  }

  /// The large folio that a page is part of; nil for a single page.
  func folio(of page: Page) -> String? {
    guard page.folioOrder > 0, let index = heads.firstIndex(of: page.folioHead) else { return nil }
    return "folio \(index + 1)"
  }

  func name(of page: Page) -> String {
    guard !page.isZeroPage else { return "zero" }
    return "page \(pages.prefix { $0 != page }.count { !$0.isZeroPage } + 1)"
  }
}

/// How things stand at one moment.
struct Diagram: Encodable {
  /// Somebody who leads to a page.
  struct Way: Encodable {
    /// A program, with the page of its buffer if it has several; or a holder.
    let who: String
    /// "rw" or "r" for an entry of a page table, else what the holder says.
    let how: String
    /// Was it not so in the diagram before?
    var changed = false

    func isSame(as other: Way) -> Bool { who == other.who && how == other.how }
  }

  /// What a page's descriptor says, and its first bytes. References and pins are
  /// those of the whole folio.
  struct Facts: Encodable, Equatable {
    let free: Bool
    /// The large folio's name.
    let folio: String?
    let refs: Int
    let pins: Int
    let maps: Int
    let exclusive: Bool
    let bytes: String
  }

  /// A page, and all who lead to it.
  struct Row: Encodable {
    let page: String
    let facts: Facts
    /// Were the facts others in the diagram before?
    let changed: Bool
    let ways: [Way]
  }

  /// A program's address that leads nowhere.
  struct Absence: Encodable {
    let who: String
    let state: String
    let changed: Bool
  }

  let rows: [Row]
  let absences: [Absence]

  init(
    _ programs: [Program], _ holders: [any Holder], in memory: PhysicalMemory,
    names: inout PageNames, before: Diagram?
  ) {
    var ways: [Page: [Way]] = [:]
    var absences: [Absence] = []
    func lead(_ page: Page, _ way: Way) {
      names.note(page)
      ways[page, default: []].append(way)
    }
    for program in programs {
      for index in 0..<program.pageCount {
        let who = index == 0 ? program.name : "\(program.name)+\(index)"
        let address = program.address + .pages(index)
        if let page = program.page(index) {
          lead(page, Way(who: who, how: program.space.isWritable(at: address) ? "rw" : "r"))
        } else {
          let state = Self.state(of: program, at: address)
          let isOld = before?.absences.contains { $0.who == who && $0.state == state }
          absences.append(Absence(who: who, state: state, changed: isOld != true))
        }
      }
    }
    for holder in holders {
      for page in holder.pages { lead(page, Way(who: holder.who, how: holder.how)) }
    }
    rows = names.pages.map { page in
      let name = names.name(of: page)
      let facts = Self.facts(of: page, in: names.folio(of: page))
      let old = before?.rows.first { $0.page == name }
      return Row(
        page: name, facts: facts, changed: facts != old?.facts,
        ways: (ways[page] ?? []).map { way in
          var way = way
          way.changed = old?.ways.contains { $0.isSame(as: way) } != true
          return way
        })
    }
    self.absences = absences
  }

  private static func facts(of page: Page, in folio: String?) -> Facts {
    if page.isFree {
      return Facts(
        free: true, folio: nil, refs: 0, pins: 0, maps: 0, exclusive: false, bytes: "")
    }
    return Facts(
      free: false, folio: folio, refs: page.referenceCount, pins: page.pinCount,
      maps: page.mapCount, exclusive: page.isAnonymousExclusive,
      bytes: shown(unsafe Array(page.bytes.prefix(2 * Stage.wordLength))))
  }

  private static func state(of program: Program, at address: UserAddress) -> String {
    let areas = program.space.areas
    if areas.contains(where: { $0.range.contains(address) }) { return "nothing yet" }
    return program.hasExited ? "has exited" : program.unmapped
  }
}

extension Diagram {
  private static let header = "                                 refs pins maps excl  first 16 bytes"

  /// The diagram in lines of at most 80 columns; `mark` dresses those that have
  /// changed, `dim` the header.
  func lines(mark: (String) -> String, dim: (String) -> String) -> [String] {
    if rows.isEmpty, absences.isEmpty { return ["    nobody has a page"] }
    var lines = rows.isEmpty ? [] : [dim(Self.header)]
    for row in rows {
      let ways = row.ways.isEmpty ? [Way(who: "nobody", how: "")] : row.ways
      for (i, way) in ways.enumerated() {
        let isChanged = way.changed || i == 0 && row.changed
        var line = (isChanged ? "  * " : "    ") + way.who.padded(10) + way.how.padded(4)
        switch (i, ways.count) {
        case (0, 1): line += row.ways.isEmpty ? "       " : "-----> "
        case (0, _): line += "--+--> "
        case (ways.count - 1, _): line += "--'"
        default: line += "--|"
        }
        if i == 0 { line += row.page.padded(8) + text(of: row.facts) }
        lines.append(isChanged ? mark(line) : line)
      }
    }
    for absence in absences {
      let line = (absence.changed ? "  * " : "    ") + absence.who.padded(10) + absence.state
      lines.append(absence.changed ? mark(line) : line)
    }
    return lines
  }

  private func text(of facts: Facts) -> String {
    guard !facts.free else { return "free" }
    return "\(facts.refs)".padded(toEnd: 4) + "\(facts.pins)".padded(toEnd: 5)
      + "\(facts.maps)".padded(toEnd: 5) + (facts.exclusive ? "yes" : "no").padded(toEnd: 5)
      + "  " + facts.bytes + (facts.folio.map { "  " + $0 } ?? "")
  }
}
