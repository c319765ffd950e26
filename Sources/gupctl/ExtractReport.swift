//===----------------------------------------------------------------------===//
// What `gupctl extract` says about a job that succeeded.
//===----------------------------------------------------------------------===//

import SwiftGUP
import TextTable

struct ExtractReport {
  let file: String?
  let output: String?
  let settings: ExtractSettings
  let outcome: ExtractOutcome

  private var bytesPerSecond: Double {
    Double(settings.size) / max(outcome.transferSeconds, 1e-9)
  }

  func print() {
    printHeader()
    printExtractions()
    printSums()
  }

  private func printHeader() {
    let source = file.map { "'\($0)'" } ?? "bytes made up here, for want of --file"
    let sink = output.map { "'\($0)'" } ?? "compared in memory, for want of --output"
    let way =
      settings.way == .into
      ? "a device writes the extracted pages, the program reads \(ownSide)"
      : "the program fills \(ownSide), a device reads the extracted pages"
    let segments =
      settings.kind.isSegmented ? " in \(counted(outcome.segmentCount, "segment"))" : ""
    Swift.print(
      """
      from     \(source), \(inUnits(settings.size))
      to       \(sink)
      way      \(settings.way.rawValue): \(way)
      buffer   \(settings.kind)\(segments) \(outcome.place), \(settings.dialect) dialect
      machine  \(inUnits(settings.memory)) of page frames, faults trapped by \(trapText)

      """)
  }

  /// What the program has of the buffer beside the pages.
  private var ownSide: String {
    switch settings.kind {
    case .ubuf, .iovec: "its pointer"
    case .pipe: "the pipe"
    default: "it by iterator"
    }
  }

  private var trapText: String { outcome.trap == .none ? "nobody" : outcome.trap.rawValue }

  private func printExtractions() {
    printTable(Array(outcome.records.enumerated())) { index, record in
      [
        Column(title: "#", value: index + 1, align: .right),
        Column(title: "length", value: record.length, align: .right),
        Column(title: "offset", value: record.offset, align: .right),
        Column(title: "pages", value: record.pages, align: .right),
        Column(title: "retention", value: record.retention.text),
        Column(title: "stop", value: record.stop.text),
      ]
    }
    let more = outcome.extractionCount - outcome.records.count
    if more > 0 {
      Swift.print("\(more) more, \(outcome.extractionCount) in all: --verbose lists them.")
    }
    Swift.print()
  }

  private func printSums() {
    let holds = outcome.holds
    let perPage = outcome.holdSeconds * 1e9 / Double(max(outcome.pageCount, 1))
    let result =
      output == nil
      ? "\(settings.size) bytes compared: all equal"
      : "\(settings.size) bytes written"
    Swift.print(
      """
      extracted   \(counted(outcome.pageCount, "page")) by \(
        counted(outcome.extractionCount, "extraction"))
      pins        \(holds.pinsAcquired) acquired, \(holds.pinsReleased) released
      references  \(holds.referencesAcquired) acquired, \(
        holds.referencesReleased) released
      rate        \(inUnits(Int(bytesPerSecond)))/s with the device's copying; \(
        fixed(perPage, 1)) ns a page to extract and release
      result      \(result)
      """)
  }
}

extension ExtractReport: Encodable {
  private enum Key: String, CodingKey {
    case file, output, direction, dialect, kind, segments, bytes, trap, compared
    case extractionCount, extractions, pages
    case pinsAcquired, pinsReleased, referencesAcquired, referencesReleased
    case seconds, bytesPerSecond, holdNanosecondsPerPage
  }

  func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: Key.self)
    try container.encode(file, forKey: .file)
    try container.encode(output, forKey: .output)
    try container.encode(settings.way, forKey: .direction)
    try container.encode(settings.dialect, forKey: .dialect)
    try container.encode(settings.kind, forKey: .kind)
    try container.encode(outcome.segmentCount, forKey: .segments)
    try container.encode(settings.size, forKey: .bytes)
    try container.encode(outcome.trap, forKey: .trap)
    try container.encode(output == nil, forKey: .compared)
    try container.encode(outcome.extractionCount, forKey: .extractionCount)
    try container.encode(outcome.records, forKey: .extractions)
    try container.encode(outcome.pageCount, forKey: .pages)
    try container.encode(outcome.holds.pinsAcquired, forKey: .pinsAcquired)
    try container.encode(outcome.holds.pinsReleased, forKey: .pinsReleased)
    try container.encode(outcome.holds.referencesAcquired, forKey: .referencesAcquired)
    try container.encode(outcome.holds.referencesReleased, forKey: .referencesReleased)
    try container.encode(outcome.transferSeconds, forKey: .seconds)
    try container.encode(bytesPerSecond, forKey: .bytesPerSecond)
    try container.encode(
      outcome.holdSeconds * 1e9 / Double(max(outcome.pageCount, 1)),
      forKey: .holdNanosecondsPerPage)
  }
}

extension ExtractionRecord: Encodable {
  private enum Key: String, CodingKey {
    case length, offset, pages, retention, stop
  }

  func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: Key.self)
    try container.encode(length, forKey: .length)
    try container.encode(offset, forKey: .offset)
    try container.encode(pages, forKey: .pages)
    try container.encode(retention.text, forKey: .retention)
    try container.encode(stop.text, forKey: .stop)
  }
}
