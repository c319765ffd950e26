//===----------------------------------------------------------------------===//
// Why an extraction ended, and how a result carries that in two words.
//===----------------------------------------------------------------------===//

public import PageFrames

/// Why an extraction ended where it did.
///
/// Where several ends coincide, the first that fits in this order: everything
/// that the iterator counts, the size asked for, the segment, the pages.
public enum ExtractionStop: Equatable, Sendable {
  /// The iterator has no bytes left.
  case complete
  /// All bytes that were asked for, or that one transfer may move.
  case sizeLimit
  /// The segment ended; the next call goes on in the next one.
  case segmentEnd
  /// All page slots are used.
  case pageLimit
  /// The pipe has no free buffer.
  case ringFull
  /// The page cache has no page at this index.
  case hole(index: UInt64)
  /// What the page cache has at this index is not a page: a value, a reserved
  /// entry, or a retry entry that stays.
  case entry(index: UInt64, XArrayEntry.Kind)
  /// The next page cannot be had: why, and its address as the value.
  case fault(MemoryError)
}

/// A stop with the rest of what a result knows, in whole words: a result is
/// handed on through memory, and parts of words there would cost a small
/// extraction more than finding its pages.
///
///     bits  0 ...  7  the stop's case
///           8 ... 15  the retention
///          16 ... 23  the direction
///          24 ... 31  the reason of a fault, or the kind of an entry
///          32 ... 63  the errno of a fault
struct PackedOutcome: Equatable, Sendable {
  private let bits: UInt64
  private let value: UInt64

  private enum Code: UInt64 {
    case complete, sizeLimit, segmentEnd, pageLimit, ringFull, hole, entry, fault
  }

  @inline(__always)
  private init(
    code: Code, _ retention: Retention, _ direction: Direction, detail: UInt64 = 0,
    value: UInt64 = 0
  ) {
    bits =
      code.rawValue | UInt64(retention.rawValue) << 8 | UInt64(direction.rawValue) << 16
      | detail << 24
    self.value = value
  }

  @inline(__always)
  init(_ end: PlannedEnd, left: Int, _ retention: Retention, _ direction: Direction) {
    let code: Code =
      switch end {
      case .request: left == 0 ? .complete : .sizeLimit
      case .segment: .segmentEnd
      case .pages: .pageLimit
      }
    self.init(code: code, retention, direction)
  }

  init(_ stop: ExtractionStop, _ retention: Retention, _ direction: Direction) {
    switch stop {
    case .complete: self.init(code: .complete, retention, direction)
    case .sizeLimit: self.init(code: .sizeLimit, retention, direction)
    case .segmentEnd: self.init(code: .segmentEnd, retention, direction)
    case .pageLimit: self.init(code: .pageLimit, retention, direction)
    case .ringFull: self.init(code: .ringFull, retention, direction)
    case .hole(let index): self.init(code: .hole, retention, direction, value: index)
    case .entry(let index, let kind):
      let detail = PackedOutcome.code(of: kind)
      self.init(code: .entry, retention, direction, detail: detail, value: index)
    case .fault(let error):
      let detail = UInt64(error.reason.rawValue) | UInt64(error.number.rawValue) << 8
      self.init(code: .fault, retention, direction, detail: detail, value: error.value)
    }
  }

  @inline(__always)
  var retention: Retention {
    unsafe Retention(rawValue: UInt8(truncatingIfNeeded: bits >> 8)).unsafelyUnwrapped
  }

  @inline(__always)
  var direction: Direction {
    unsafe Direction(rawValue: UInt8(truncatingIfNeeded: bits >> 16)).unsafelyUnwrapped
  }

  var stop: ExtractionStop {
    switch unsafe Code(rawValue: bits & 0xff).unsafelyUnwrapped {
    case .complete: .complete
    case .sizeLimit: .sizeLimit
    case .segmentEnd: .segmentEnd
    case .pageLimit: .pageLimit
    case .ringFull: .ringFull
    case .hole: .hole(index: value)
    case .entry: .entry(index: value, PackedOutcome.kinds[Int(bits >> 24 & 0xff)])
    case .fault:
      .fault(
        unsafe MemoryError(
          ErrorNumber(rawValue: Int32(truncatingIfNeeded: bits >> 32)).unsafelyUnwrapped,
          MemoryError.Reason(rawValue: UInt8(truncatingIfNeeded: bits >> 24)).unsafelyUnwrapped,
          value))
    }
  }

  private static let kinds: [XArrayEntry.Kind] = [
    .empty, .page, .value, .retry, .reserved, .sibling,
  ]

  private static func code(of kind: XArrayEntry.Kind) -> UInt64 {
    UInt64(kinds.firstIndex(of: kind) ?? 0)
  }
}
