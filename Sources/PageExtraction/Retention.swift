//===----------------------------------------------------------------------===//
// Retention: what keeps extracted pages in place. Kind.swift has the table that
// says which kind takes what.
//===----------------------------------------------------------------------===//

/// What an extraction holds on each of its pages, and so what releasing does.
public enum Retention: UInt8, Sendable, CaseIterable {
  /// Nothing: whoever made the iterator keeps the pages alive.
  case unretained
  /// One reference a page, dropped by put (FOLL_GET).
  case referenced
  /// One pin a page, dropped by unpin (FOLL_PIN). The zero page counts none.
  case pinned
}

extension IOVIter {
  /// What an extraction from this iterator will hold (iov_iter_extract_mode);
  /// `.unretained` too for a kind that cannot be extracted (`canBeExtracted`).
  ///
  /// A function of kind, direction and dialect alone: it stays true when the
  /// iterator advances, and may be asked before or after extracting.
  public var extractMode: Retention { retention }

  /// Has its dialect extraction for its kind? Else one of bytes throws EFAULT.
  public var canBeExtracted: Bool { isExtractable }

  /// Will an extraction pin (iov_iter_extract_will_pin)?
  public var extractWillPin: Bool { retention == .pinned }
}

/// What an extraction may take beyond the ordinary (iov_iter_extraction_t).
public struct ExtractionOptions: OptionSet, Sendable {
  public let rawValue: UInt8
  public init(rawValue: UInt8) { self.rawValue = rawValue }

  /// Pages of peer-to-peer device memory too (ITER_ALLOW_P2PDMA). Of the
  /// upstream dialect only.
  public static let allowP2PDMA = ExtractionOptions(rawValue: 1)
}
