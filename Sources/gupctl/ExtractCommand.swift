//===----------------------------------------------------------------------===//
// gupctl extract: its arguments, their checks, and the order of the work.
// ExtractJob.swift does it, ExtractReport.swift prints it.
//===----------------------------------------------------------------------===//

import ArgumentParser
import CShims
import SwiftGUP

struct ExtractCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "extract",
    abstract: "Move a file through pages extracted from a buffer of any kind.",
    discussion: """
      Direction 'into': a device writes the file's bytes into the pages that were extracted \
      from a buffer, and the output is written from the program's own side of it: its pointer \
      to user memory (ubuf, iovec), the reader's end of a pipe, or else a copy by iterator. \
      Direction 'out-of': the program's side is filled first, and a device reads the output's \
      bytes from the extracted pages. Either way the output equals the file byte for byte, and \
      every reference and pin that was taken is given back.

      Kinds: ubuf is one user buffer and iovec a list of user segments; bvec is segments of \
      physical memory, kvec of the library's own addresses (its window and virtual mappings), \
      xarray the page cache of a file, folioq a queue of folios, pipe a ring of 16 pages that \
      is filled and drained in turns. Which dialect extracts which of them, and what it holds, \
      says 'gupctl kinds'; what it does not extract is refused.

      Without --file the bytes are made up (64MiB of them, or --size). Without --output they \
      are compared in memory. The output appears as a whole when all is done; if anything \
      fails, what was there stays as it was.

      Sizes are bytes, or take a unit: 64KiB, 10M, 1G.
      """)

  @Option(help: ArgumentHelp("The file to move. Made-up bytes without it.", valueName: "path"))
  var file: String?

  @Option(
    help: ArgumentHelp(
      "Where its bytes are to appear. Compared in memory without it.", valueName: "path"))
  var output: String?

  @Option(help: "Which way the bytes go, seen from the buffer.")
  var direction: Way = .into

  @Option(
    help: """
      Whose rules: rfc holds pages that data leaves by references and pages that data enters \
      by pins; upstream (Linux 6.12) pins both.
      """)
  var dialect: DialectName = .rfc

  @Option(help: "What the buffer is (default: ubuf; iovec with --segments). See above.")
  var kind: KindName?

  @Option(
    parsing: .unconditional,
    help: ArgumentHelp(
      """
      Segments of uneven lengths to cut the buffer into, 1 to 1024 (iovec, bvec, kvec; default: 8). Of bvec \
      and kvec, those of more than 2MiB are cut again.
      """,
      valueName: "n"))
  var segments: Int?

  @Option(
    parsing: .unconditional,
    help: ArgumentHelp("Only the first bytes of the file.", valueName: "bytes"))
  var size: ByteSize?

  @Option(
    parsing: .unconditional,
    help: ArgumentHelp("The most bytes of one extraction.", valueName: "bytes"))
  var maxSize = ByteSize(1 << 20)

  @Option(
    parsing: .unconditional,
    help: ArgumentHelp("The most pages of one extraction.", valueName: "n"))
  var maxPages = 256

  @Option(
    parsing: .unconditional,
    help: ArgumentHelp(
      "The machine's physical memory; sparse, so only what is touched costs.",
      valueName: "bytes"))
  var memory = ByteSize(64 << 30)

  @Option(help: "How native loads and stores fault (default: the best that works here).")
  var trap: TrapName?

  @Flag(
    name: .customLong("nofault"),
    help: "Extract only what is present: an absent page is EFAULT. See --populate.")
  var noFault = false

  @Flag(help: "Bring the buffer in before extracting. Always so for out-of.")
  var populate = false

  @Flag(help: "List every extraction, not only the first 20.")
  var verbose = false

  @Flag(help: "Print one JSON object instead.")
  var json = false

  /// What `--kind` and `--segments` mean together.
  private var segmentation: (kind: KindName, count: Int) {
    let kind = kind ?? (segments == nil ? .ubuf : .iovec)
    return (kind, kind.isSegmented ? segments ?? 8 : 1)
  }

  func validate() throws {
    for (name, path) in [("--file", file), ("--output", output)] where path?.isEmpty == true {
      throw ValidationError("\(name) must not be empty.")
    }
    func check(_ name: String, _ value: ByteSize?) throws {
      if let value, value.bytes <= 0 {
        throw ValidationError("\(name) must be positive, not \(value).")
      }
    }
    try check("--size", size)
    try check("--max-size", maxSize)
    guard maxPages > 0 else {
      throw ValidationError("--max-pages must be positive, not \(maxPages).")
    }
    if let segments {
      guard 1...UserSegment.limit ~= segments else {
        throw ValidationError("--segments must be 1 to \(UserSegment.limit), not \(segments).")
      }
      guard kind?.isSegmented != false else {
        throw ValidationError(
          "--segments \(segments) makes no sense with --kind \(segmentation.kind): "
            + "it is no list of segments.")
      }
    }
    try checkKind()
    try check("--memory", memory)
    let limit = PhysicalMemory.maximumCapacity.rawValue
    guard memory.bytes % pageSize == 0, memory.bytes <= limit else {
      throw ValidationError(
        "--memory must be whole pages of \(pageSize) bytes, up to \(ByteSize(limit)), "
          + "not \(memory).")
    }
  }

  /// Can the kind be extracted at all, and is it brought in by faults if that is asked about?
  private func checkKind() throws {
    let kind = segmentation.kind
    guard case .refused(let refusal) = KindTable.cell(kind, dialect, direction) else {
      for (name, isSet) in [("--nofault", noFault), ("--populate", populate)]
      where isSet && !kind.kind.isUserBacked {
        throw ValidationError("\(name) makes no sense with --kind \(kind): it is always present.")
      }
      return
    }
    let others = DialectName.allCases.filter {
      if case .held = KindTable.cell(kind, $0, direction) { true } else { false }
    }
    let hint = others.map { " --dialect \($0) extracts it." }.joined()
    throw ValidationError(
      "--kind \(kind) cannot be extracted with --dialect \(dialect) --direction "
        + "\(direction.rawValue): \(refusal).\(hint)")
  }

  func run() throws {
    let input = try file.map(InputFile.init(path:))
    let source = input.map(ByteSource.file) ?? .made
    let settings = try settings(available: input?.size)
    let job = ExtractJob(settings: settings, source: source)
    var progress = ProgressBar()
    let outcome: ExtractOutcome
    if let output {
      var sink = try OutputFile(path: output, source: input?.identity)
      outcome = try job.run(to: &sink, progress: &progress)
      try sink.commit()
    } else {
      var sink = Comparison(source: source)
      outcome = try job.run(to: &sink, progress: &progress)
    }
    let report = ExtractReport(
      file: file, output: output, settings: settings, outcome: outcome)
    if json { try printJSON(report) } else { report.print() }
  }

  private func settings(available: Int?) throws -> ExtractSettings {
    let wanted = size?.bytes ?? available ?? 64 << 20
    if let file, let available, wanted > available {
      throw Failure(
        "--size \(wanted) is more than --file '\(file)' has: \(counted(available, "byte")).")
    }
    var host: UInt64 = 0
    if unsafe cshims_memory_total(&host) == 0, UInt64(wanted) > host {
      throw Failure(
        "\(size == nil ? "--file" : "--size"): \(wanted) bytes are more than the memory of this "
          + "host, \(host) bytes: use a smaller --size.")
    }
    let segmentation = segmentation
    return ExtractSettings(
      way: direction, dialect: dialect, segmentCount: segmentation.count,
      kind: segmentation.kind, size: wanted, maxSize: maxSize.bytes, maxPages: maxPages,
      memory: memory.bytes, trap: trap, noFault: noFault, populates: populate,
      listLimit: verbose ? .max : 20)
  }
}
