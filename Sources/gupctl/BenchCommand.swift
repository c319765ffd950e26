//===----------------------------------------------------------------------===//
// gupctl bench: its arguments and their checks. Bench.swift measures,
// Contenders.swift and HostContenders.swift are what is measured, ThreadBench.swift,
// FaultBench.swift, ForkBench.swift and AdoptionBench.swift are both for what they name,
// Turns.swift has them take turns, and BenchReport.swift prints.
//===----------------------------------------------------------------------===//

import ArgumentParser
import HostKernel
import SwiftGUP

struct BenchCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "bench",
    abstract: "Measure pin, get, extract, faults, fork, adoption beside a C loop and the host.",
    discussion: """
      Three columns, in nanoseconds per 4 KiB page: 'ours' is this library, 'roofline' a C loop \
      over the same page tables, descriptors and lists that does what a pin cannot do without, \
      and 'host' the running kernel pinning (io_uring registered buffers) or taking references \
      (vmsplice) on as many 4 KiB pages of its own. All are measured in turn in every round; \
      figures are medians over the rounds, and a ratio is the median of the rounds' ratios. \
      Ratios are what compares between machines and days.

      Rows: pin and unpin, get and put, each alone and as a pair; extract (which makes its list) \
      and extract-list (into the caller's), beside 'gup', the pin call inside them. Those that end \
      in 2m are about pages inside 2 MiB folios, where one count serves all: their roofline fills \
      the list and looks through it, and the host works on transparent huge pages. \
      c-pin-unpin and c-extract-list are those calls through the C interface; their 'gup' is the \
      Swift call inside. \
      pin-unpin-threads: as many threads as processors, at most 8, each with 256 pages of its own; \
      their 'gup' is one thread that does the work of all. \
      fault-in: absent pages become present, a run at a time (MADV_POPULATE_WRITE). Its 'roofline' \
      is the host doing so for a memory file of its own, 'host' for private memory. \
      fork-64m: fork of 64 MiB of present pages. Its 'roofline' is mprotect(2) of as much \
      memory and a C loop that copies as many entries and counts their pages; 'host' is fork(2) \
      of this program with as much memory. \
      Last, adopt and release: private memory of this program's becomes pages of the machine where \
      it stands, and plain memory again. Their 'roofline' is one copy of the pages and one mmap(2) \
      over them.
      """)

  @Option(
    parsing: .unconditional,
    help: ArgumentHelp(
      "Pages per call, each 1 to \(limit) (default: 1,16,256,4096; 65536 is 256 MiB).",
      valueName: "n,n,…"))
  var pages: PageCounts?

  @Option(
    parsing: .unconditional,
    help: ArgumentHelp("Rounds, 1 to 10000 (default: 101; quick: 11).", valueName: "n"))
  var rounds: Int?

  @Option(
    help: """
      How native loads and stores fault (default: the best that works here). Adoption needs a trap.
      """)
  var trap: TrapName?

  @Flag(help: "Fewer rounds, and no more than 256 pages.")
  var quick = false

  @Flag(
    help: """
      Print one JSON array of objects: name, pages, and ours, roofline, host, gup in ns per page \
      (null where not measured; why says why), ratios, and hostCalls of a fork or of faults.
      """)
  var json = false

  /// What io_uring pins at once: 1 GiB.
  private static let limit = 1 << 18

  func validate() throws {
    for count in pages?.values ?? [] where !(1...Self.limit ~= count) {
      throw ValidationError("--pages must be 1 to \(Self.limit), not \(count).")
    }
    if let rounds, !(1...10_000 ~= rounds) {
      throw ValidationError("--rounds must be 1 to 10000, not \(rounds).")
    }
  }

  func run() throws {
    #if DEBUG
      Terminal.writeError(
        "Warning: this is a debug build; figures mean something with 'swift run -c release'.\n")
    #endif
    let sizes = pages?.values ?? (quick ? [1, 16, 256] : [1, 16, 256, 4096])
    let rounds = rounds ?? (quick ? 11 : 101)
    var progress = ProgressBar()
    let adoptions = quick ? [256] : [256, 4096]
    let all = (sizes.count + 3 + adoptions.count) * rounds
    let tier = trap?.tier ?? .best
    let bench = try Bench(largest: sizes.max() ?? 1, trap: tier)
    var rows: [BenchRow] = []
    for (index, size) in sizes.enumerated() {
      rows += try bench.measure(pages: size, rounds: rounds) { round in
        progress.show(index * rounds + round, of: all, unit: .steps)
      }
    }
    rows.append(
      try ThreadBench(trap: tier).measure(rounds: rounds) {
        progress.show(sizes.count * rounds + $0, of: all, unit: .steps)
      })
    rows.append(
      try FaultBench(pages: adoptions[adoptions.count - 1], trap: tier).measure(rounds: rounds) {
        progress.show((sizes.count + 1) * rounds + $0, of: all, unit: .steps)
      })
    rows.append(
      try ForkBench(trap: tier).measure(rounds: rounds) { round in
        progress.show((sizes.count + 2) * rounds + round, of: all, unit: .steps)
      })
    for (index, size) in adoptions.enumerated() {
      rows += try AdoptionBench(pages: size, trap: tier).measure(rounds: rounds) { round in
        progress.show((sizes.count + 3 + index) * rounds + round, of: all, unit: .steps)
      }
    }
    progress.clear()
    try bench.checkThatNothingIsHeld()
    if json { try printJSON(rows) } else { BenchReport(rows: rows, rounds: rounds).print() }
  }
}
