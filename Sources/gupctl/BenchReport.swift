//===----------------------------------------------------------------------===//
// What `gupctl bench` says: rows of medians and of ratios.
//===----------------------------------------------------------------------===//

import TextTable

/// One thing that was measured at one number of pages per call. In ns per page.
struct BenchRow {
  let name: String
  let pages: Int
  let ours: Double?
  let roofline: Double?
  let host: Double?
  /// The GUP call inside an extraction; of threads, one alone.
  let gup: Double?
  let oursToRoofline: Double?
  let oursToGUP: Double?
  let hostToOurs: Double?
  /// Host calls that one call of ours made, where those are of interest.
  var hostCalls: Int?
  /// Why a column has no figure.
  let why: String?
}

extension BenchRow {
  private static let noHostCall = """
    host: the kernel has no call that only extracts pages; O_DIRECT extracts and does I/O.
    """

  /// - Parameters:
  ///   - part: which of a column's two halves it is about, or both.
  ///   - noHost: why there is no host column, where it is not measured at all.
  private init(
    _ name: String, _ pages: Int, _ part: (Cost) -> Double, ours: BenchColumn,
    roofline: BenchColumn, host: BenchColumn?, gup: BenchColumn? = nil,
    why noHost: String = noHostCall
  ) {
    func median(_ column: BenchColumn?) -> Double? { column?.samples.map(part).median }
    func ratio(_ above: BenchColumn?, _ below: BenchColumn?) -> Double? {
      guard let above, let below else { return nil }
      return zip(above.samples, below.samples).map { part($0) / part($1) }.median
    }
    self.name = name
    self.pages = pages
    self.ours = median(ours)
    self.roofline = median(roofline)
    self.host = median(host)
    self.gup = median(gup)
    oursToRoofline = ratio(ours, roofline)
    oursToGUP = ratio(ours, gup)
    hostToOurs = ratio(host, ours)
    why = if let host { host.why.map { "host: \($0)" } } else { noHost }
  }

  init(
    _ name: String, pages: Int, _ part: (Cost) -> Double, ours: BenchColumn, floor: BenchColumn,
    host: BenchColumn, hostCalls: Int
  ) {
    self.init(name, pages, part, ours: ours, roofline: floor, host: host)
    self.hostCalls = hostCalls
  }

  /// Threads at once, beside one thread that does the work of all.
  static func threads(
    _ name: String, pages: Int, ours: BenchColumn, floor: BenchColumn, alone: BenchColumn
  ) -> BenchRow {
    BenchRow(
      name, pages, \.both, ours: ours, roofline: floor, host: nil, gup: alone,
      why: "host: it is measured with one thread only.")
  }

  /// The rows of adoption and of its way back.
  static let adoptionNames = ["adopt", "release"]

  private static let noHostAdoption = "host: the kernel has no call that adopts memory."

  /// One for each way. Where ours has no figure, they say why before all else.
  static func adoption(pages: Int, ours: BenchColumn, floor: BenchColumn) -> [BenchRow] {
    let lacks = [("ours", ours.why), ("roofline", floor.why)].compactMap { column, why in
      why.map { "\(column): \($0)" }
    }
    return zip(adoptionNames, [\Cost.take, \Cost.give]).map { name, part in
      BenchRow(
        name, pages, { $0[keyPath: part] }, ours: ours, roofline: floor, host: nil,
        why: (lacks + [noHostAdoption]).joined(separator: " "))
    }
  }

  /// Every row of one number of pages.
  static func all(pages: Int, _ column: (Entrant) -> BenchColumn) -> [BenchRow] {
    let (pin, roofPin, hostPin) = (column(.pin), column(.roofPin), column(.hostPin))
    let (get, roofGet, hostGet) = (column(.get), column(.roofGet), column(.hostGet))
    func pinning(_ name: String, _ part: (Cost) -> Double) -> BenchRow {
      BenchRow(name, pages, part, ours: pin, roofline: roofPin, host: hostPin)
    }
    func getting(_ name: String, _ part: (Cost) -> Double) -> BenchRow {
      BenchRow(name, pages, part, ours: get, roofline: roofGet, host: hostGet)
    }
    func inHuge(
      _ name: String, _ ours: Entrant, _ host: Entrant, _ part: (Cost) -> Double
    ) -> BenchRow {
      BenchRow(
        name, pages, part, ours: column(ours), roofline: column(.fillHuge), host: column(host))
    }
    func extracting(_ name: String, _ ours: Entrant, _ part: (Cost) -> Double) -> BenchRow {
      BenchRow(name, pages, part, ours: column(ours), roofline: roofPin, host: nil, gup: pin)
    }
    return [
      pinning("pin-4k") { $0.take },
      pinning("unpin-4k") { $0.give },
      pinning("pin-unpin-4k") { $0.both },
      getting("get-4k") { $0.take },
      getting("put-4k") { $0.give },
      getting("get-put-4k") { $0.both },
      extracting("extract-4k", .extract) { $0.take },
      extracting("extract-release-4k", .extract) { $0.both },
      extracting("extract-list-4k", .extractIntoList) { $0.take },
      // The C interface, beside a C function that walks and counts, and beside
      // the Swift call that it makes.
      BenchRow(
        "c-pin-unpin-4k", pages, \.both, ours: column(.cPin), roofline: roofPin, host: nil,
        gup: pin),
      BenchRow(
        "c-extract-list-4k", pages, \.take, ours: column(.cExtract), roofline: roofPin, host: nil,
        gup: column(.extractIntoList)),
      inHuge("pin-2m", .pinHuge, .hostPinHuge) { $0.take },
      inHuge("unpin-2m", .pinHuge, .hostPinHuge) { $0.give },
      inHuge("pin-unpin-2m", .pinHuge, .hostPinHuge) { $0.both },
      inHuge("get-2m", .getHuge, .hostGetHuge) { $0.take },
      inHuge("put-2m", .getHuge, .hostGetHuge) { $0.give },
      inHuge("get-put-2m", .getHuge, .hostGetHuge) { $0.both },
    ]
  }
}

extension BenchRow: Encodable {
  private enum Key: String, CodingKey {
    case name, pages, ours, roofline, host, gup, oursToRoofline, oursToGUP, hostToOurs
    case hostCalls, why
  }

  /// With null for what was not measured: every object has every key.
  func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: Key.self)
    try container.encode(name, forKey: .name)
    try container.encode(pages, forKey: .pages)
    try container.encode(ours, forKey: .ours)
    try container.encode(roofline, forKey: .roofline)
    try container.encode(host, forKey: .host)
    try container.encode(gup, forKey: .gup)
    try container.encode(oursToRoofline, forKey: .oursToRoofline)
    try container.encode(oursToGUP, forKey: .oursToGUP)
    try container.encode(hostToOurs, forKey: .hostToOurs)
    try container.encode(hostCalls, forKey: .hostCalls)
    try container.encode(why, forKey: .why)
  }
}

extension Array<Double> {
  /// The middle value, or the mean of the two in the middle; nil when empty.
  var median: Double? {
    guard !isEmpty else { return nil }
    let sorted = sorted()
    let middle = sorted.count / 2
    return sorted.count % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
  }
}

struct BenchReport {
  let rows: [BenchRow]
  let rounds: Int

  func print() {
    Swift.print(
      "Nanoseconds per 4 KiB page, medians of \(counted(rounds, "round")); ratios are medians of "
        + "the rounds' ratios.\n")
    printTable(rows) { row in
      func nanoseconds(_ value: Double?) -> String { value.map { fixed($0, 2) } ?? "-" }
      func ratio(_ value: Double?) -> String { value.map { fixed($0, $0 < 10 ? 2 : 0) } ?? "-" }
      return [
        Column(title: "name", value: row.name),
        Column(title: "pages", value: row.pages, align: .right),
        Column(title: "ours", value: nanoseconds(row.ours), align: .right),
        Column(title: "roofline", value: nanoseconds(row.roofline), align: .right),
        Column(title: "gup", value: nanoseconds(row.gup), align: .right),
        Column(title: "host", value: nanoseconds(row.host), align: .right),
        Column(title: "ours/roofline", value: ratio(row.oursToRoofline), align: .right),
        Column(title: "ours/gup", value: ratio(row.oursToGUP), align: .right),
        Column(title: "host/ours", value: ratio(row.hostToOurs), align: .right),
      ]
    }
    for row in rows {
      guard let calls = row.hostCalls else { continue }
      Swift.print("\n\(row.name): \(counted(calls, "host call")) for \(row.pages) pages.")
    }
    printReasons()
  }

  /// Why some figures are missing, each reason once.
  private func printReasons() {
    var reasons: [(why: String, names: [String], pages: [Int])] = []
    for row in rows {
      guard let why = row.why else { continue }
      let index = reasons.firstIndex { $0.why == why } ?? reasons.endIndex
      if index == reasons.endIndex { reasons.append((why, [], [])) }
      if !reasons[index].names.contains(row.name) { reasons[index].names.append(row.name) }
      if !reasons[index].pages.contains(row.pages) { reasons[index].pages.append(row.pages) }
    }
    if !reasons.isEmpty { Swift.print("\nNot measured:") }
    for reason in reasons {
      let pages = reason.pages.map(String.init).joined(separator: ", ")
      Swift.print("  \(reason.names.joined(separator: ", ")) at \(pages) pages:")
      Swift.print("    \(reason.why)")
    }
  }
}
