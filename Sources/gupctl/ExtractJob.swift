//===----------------------------------------------------------------------===//
// The work of `gupctl extract`: bytes go through pages that are extracted from
// a buffer, and come out equal.
//
//   into     source -> device -> extracted pages = buffer -> sink
//   out-of   source -> buffer = extracted pages -> device -> sink
//
// What the buffer is and how its own side reads and writes it is the business of
// `ExtractMemory`. System calls are given a user's pointer, so a user buffer is
// made present before read(2) and shown before write(2): that works in every
// trap tier, also where a system call's own faults are not served.
//===----------------------------------------------------------------------===//

import CShims
import SwiftGUP

/// What is to be done; checked by the command.
struct ExtractSettings {
  var way: Way
  var dialect: DialectName
  /// 1 for what is no list of segments.
  var segmentCount: Int
  var kind: KindName
  var size: Int
  var maxSize: Int
  var maxPages: Int
  var memory: Int
  var trap: TrapName?
  var noFault: Bool
  var populates: Bool
  /// How many extractions are listed; the others are only counted.
  var listLimit: Int
}

/// One extraction, after it was released.
struct ExtractionRecord {
  let length: Int
  let offset: Int
  let pages: Int
  let retention: Retention
  let stop: ExtractionStop
}

/// What an extraction job did.
struct ExtractOutcome {
  var trap = TrapName.none
  /// Where the buffer lies.
  var place = ""
  var segmentCount = 1
  var records: [ExtractionRecord] = []
  var extractionCount = 0
  var pageCount = 0
  var holds = HoldBalance()
  /// Extracting, the device's transfer, releasing.
  var transferSeconds = 0.0
  /// Extracting and releasing alone.
  var holdSeconds = 0.0
}

struct ExtractJob {
  let settings: ExtractSettings
  let source: ByteSource

  /// Bytes that the device moves at a time.
  private static let chunk = 1 << 20

  /// Moves the bytes from the source to the sink.
  /// - Throws: `Failure`. Then every page that was taken has been released.
  func run(to sink: inout some ByteSink, progress: inout ProgressBar) throws -> ExtractOutcome {
    let memory = try makeMachine()
    let buffer = try makeBuffer(memory)
    var outcome = ExtractOutcome()
    outcome.trap = TrapName(memory.trapTier)
    outcome.place = buffer.place
    outcome.segmentCount = buffer.segmentCount

    switch settings.way {
    case .into: try buffer.populate()
    case .outOf: try buffer.fill(from: source)
    }
    let before = memory.counters
    var position = 0
    while position < settings.size {
      let start = position
      switch settings.way {
      case .into:
        try unsafe transfer(
          buffer, &position, &outcome, &progress, since: before
        ) { device, extraction, part, bounce in
          try unsafe source.fill(bounce, at: part.position)
          try unsafe device.write(
            UnsafeRawBufferPointer(bounce), to: extraction, at: ByteCount(part.offset))
        }
        try buffer.drain(start..<position, to: &sink)
      case .outOf:
        try unsafe transfer(
          buffer, &position, &outcome, &progress, since: before
        ) { device, extraction, part, bounce in
          try unsafe device.read(from: extraction, at: ByteCount(part.offset), into: bounce)
          try unsafe sink.take(UnsafeRawBufferPointer(bounce), at: part.position)
        }
      }
    }
    outcome.holds = HoldBalance(from: before, to: memory.counters)
    guard outcome.holds.isEven else {
      throw Failure("pages were not released: \(outcome.holds).")
    }
    return outcome
  }

  private func makeMachine() throws -> PhysicalMemory {
    do throws(MemoryError) {
      return try PhysicalMemory(
        capacity: ByteCount(settings.memory), trapTier: settings.trap?.tier ?? .best)
    } catch {
      throw Failure("--memory \(ByteSize(settings.memory)): \(error)")
    }
  }

  private func makeBuffer(_ memory: PhysicalMemory) throws -> any ExtractMemory {
    switch settings.kind {
    case .ubuf, .iovec: try UserMemory(settings, in: memory)
    case .bvec: try BVecMemory(settings, in: memory)
    case .kvec: try KVecMemory(settings, in: memory)
    case .xarray: try PageCacheMemory(settings, in: memory)
    case .folioq: try FolioQueueMemory(settings, in: memory)
    case .pipe: try PipeMemory(settings, in: memory)
    case .discard: throw Failure("--kind discard keeps nothing: there is nothing to extract.")
    }
  }

  // MARK: - The transfer

  /// Some bytes of an extraction: where in it, and where in the whole.
  private struct Part {
    let offset: Int
    let position: Int
  }

  /// Extracts from `position` on bit by bit, to the end or until the buffer is full. Of each
  /// extraction `move` transfers every part, by way of memory that the device has to itself.
  private func transfer(
    _ buffer: any ExtractMemory, _ position: inout Int, _ outcome: inout ExtractOutcome,
    _ progress: inout ProgressBar, since before: Counters,
    _ move: (DMAEngine, borrowing Extraction, Part, UnsafeMutableRawBufferPointer) throws -> Void
  ) throws {
    let memory = buffer.memory
    let device = DMAEngine(memory: memory)
    let bounce = UnsafeMutableRawBufferPointer.allocate(
      byteCount: min(Self.chunk, settings.size), alignment: pageSize)
    defer { unsafe bounce.deallocate() }
    var iterator = try buffer.iterator(from: position)
    let start = cshims_monotonic_ns()
    var held: UInt64 = 0

    while iterator.count > 0, !buffer.isFull {
      let begin = cshims_monotonic_ns()
      let extraction = try extract(&iterator, outcome, position, memory, since: before)
      let taken = cshims_monotonic_ns()
      let length = extraction.length.rawValue
      var done = 0
      while done < length {
        let count = min(length - done, bounce.count)
        try unsafe move(
          device, extraction, Part(offset: done, position: position + done),
          UnsafeMutableRawBufferPointer(rebasing: bounce[..<count]))
        done += count
      }
      outcome.add(extraction, listLimit: settings.listLimit)
      position += length
      let moved = cshims_monotonic_ns()
      extraction.release(dirty: settings.way == .into)
      let released = cshims_monotonic_ns()
      held += taken - begin + (released - moved)
      progress.show(position, of: settings.size, unit: .bytes)
    }
    progress.clear()
    outcome.transferSeconds += Double(cshims_monotonic_ns() - start) / 1e9
    outcome.holdSeconds += Double(held) / 1e9
  }

  private func extract(
    _ iterator: inout IOVIter, _ outcome: ExtractOutcome, _ position: Int,
    _ memory: PhysicalMemory, since before: Counters
  ) throws -> Extraction {
    let what = "extraction \(outcome.extractionCount + 1), at byte \(position) of the buffer"
    let reason: String
    do throws(MemoryError) {
      let extraction = try iterator.extractPages(
        maxSize: ByteCount(settings.maxSize), maxPages: PageCount(settings.maxPages))
      if !extraction.isEmpty { return extraction }
      reason = "no progress (\(extraction.stop.text))"
    } catch {
      reason = "\(error)"
    }
    let hint =
      settings.noFault && !settings.populates
      ? " With --nofault only pages that are present can be had: --populate brings them in." : ""
    let holds = HoldBalance(from: before, to: memory.counters)
    throw Failure("\(what): \(reason).\(hint) Held until then: \(holds).")
  }
}

extension ExtractOutcome {
  mutating func add(_ extraction: borrowing Extraction, listLimit: Int) {
    extractionCount += 1
    pageCount += extraction.pageCount
    guard records.count < listLimit else { return }
    records.append(
      ExtractionRecord(
        length: extraction.length.rawValue, offset: extraction.offset,
        pages: extraction.pageCount, retention: extraction.retention, stop: extraction.stop))
  }
}

/// Pins and references, taken and given back.
struct HoldBalance: CustomStringConvertible {
  var pinsAcquired = 0
  var pinsReleased = 0
  var referencesAcquired = 0
  var referencesReleased = 0

  init() {}

  /// What was counted between two readings.
  init(from earlier: Counters, to later: Counters) {
    pinsAcquired = later.pinsAcquired - earlier.pinsAcquired
    pinsReleased = later.pinsReleased - earlier.pinsReleased
    referencesAcquired = later.referencesAcquired - earlier.referencesAcquired
    referencesReleased = later.referencesReleased - earlier.referencesReleased
  }

  var isEven: Bool {
    pinsAcquired == pinsReleased && referencesAcquired == referencesReleased
  }

  var description: String {
    "pins acquired \(pinsAcquired), released \(pinsReleased); "
      + "references acquired \(referencesAcquired), released \(referencesReleased)"
  }
}

extension ExtractionStop {
  /// Why it ended there, in two words.
  var text: String {
    switch self {
    case .complete: "complete"
    case .sizeLimit: "size limit"
    case .segmentEnd: "segment end"
    case .pageLimit: "page limit"
    case .ringFull: "ring full"
    case .hole: "hole"
    case .entry: "entry that is no page"
    case .fault(let error): "fault: \(error.number.name)"
    }
  }
}

extension Retention {
  var text: String {
    switch self {
    case .unretained: "unretained"
    case .referenced: "referenced"
    case .pinned: "pinned"
    }
  }
}
