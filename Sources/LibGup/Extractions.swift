//===----------------------------------------------------------------------===//
// Extraction of pages, into a list or into a value that owns it.
//===----------------------------------------------------------------------===//

// swift-format-ignore-file: AlwaysUseLowerCamelCase
// The functions have their C names.

public import CGup
internal import CShims
internal import GUP
internal import PageExtraction
internal import PageFrames

func options(_ flags: UInt32) throws(MemoryError) -> ExtractionOptions {
  guard flags & ~UInt32(GUP_EXTRACT_P2PDMA) == 0 else {
    throw MemoryError(.invalid, .flagsNotForThisCall, Int(flags))
  }
  return ExtractionOptions(rawValue: UInt8(flags))
}

@c @implementation
public func gup_iter_extract_pages(
  _ iter: UnsafeMutablePointer<gup_iter>?,
  _ pages: UnsafeMutablePointer<UnsafeMutablePointer<OpaquePointer?>?>?, _ maxSize: Int,
  _ maxPages: Int, _ flags: UInt32, _ offset: UnsafeMutablePointer<Int>?
) -> Int64 {
  unsafe cshims_ledger_enter(owner(iter))
  guard let pages = unsafe pages, let offset = unsafe offset else {
    return refuse(.outputMissing)
  }
  return unsafe count(iter) { (iterator) throws(MemoryError) in
    let options = try options(flags)
    let size = ByteCount(clamped(maxSize))
    let result: ExtractionResult
    if let list = unsafe pages.pointee {
      let slots = unsafe UnsafeMutableBufferPointer(
        start: LibGup.pages(list), count: clamped(maxPages))
      result = try unsafe iterator.pointee.extractPages(
        into: slots, maxSize: size, options: options)
    } else {
      let list: UnsafeMutablePointer<Page?>?
      (result, unsafe list) = try unsafe iterator.pointee.extractToNewList(
        maxSize: size, maxPages: PageCount(clamped(maxPages)), options: options)
      if result.length == 0 {
        // Nothing is handed out of an empty extraction.
        if let list = unsafe list { unsafe cshims_free(list) }
      } else if let list = unsafe list {
        unsafe pages.pointee = UnsafeMutableRawPointer(list)
          .assumingMemoryBound(to: OpaquePointer?.self)
      }
    }
    if result.length > 0 { unsafe offset.pointee = result.offset }
    // A pipe's pages are the ring's; here nobody says when they are done with.
    if result.retention == .unretained { result.forget() }
    return result.length.rawValue
  }
}

// MARK: - Extractions that own

private let mark: UInt64 = 0x6775_705f_6578_7472

/// What a `gup_extraction` keeps in its words.
struct KeptExtraction {
  var mark: UInt64
  var result: ExtractionResult
}

extension UnsafeMutablePointer<gup_extraction> {
  fileprivate func store(_ result: ExtractionResult, _ list: UnsafeMutablePointer<Page?>?) {
    unsafe pointee = gup_extraction()
    unsafe pointee.pages = list.map {
      unsafe UnsafeMutableRawPointer($0).assumingMemoryBound(to: OpaquePointer?.self)
    }
    unsafe pointee.page_count = result.pageCount
    unsafe pointee.offset = result.offset
    unsafe pointee.length = result.length.rawValue
    unsafe pointee.retention = Int32(result.retention.rawValue)
    unsafe pointee.direction = UInt32(result.direction.rawValue)
    unsafe pointee.stop = stop(result.stop)
    unsafe withUnsafeMutablePointer(to: &pointee.words) {
      unsafe UnsafeMutableRawPointer($0).storeBytes(
        of: KeptExtraction(mark: mark, result: result), as: KeptExtraction.self)
    }
  }
}

/// The result behind an extraction; nil for what is none, or was released.
func kept(_ extraction: UnsafePointer<gup_extraction>) -> ExtractionResult? {
  unsafe withUnsafePointer(to: extraction.pointee.words) {
    let kept = unsafe UnsafeRawPointer($0).loadUnaligned(as: KeptExtraction.self)
    return kept.mark == mark ? kept.result : nil
  }
}

/// Why an extraction ended, as C has it.
func stop(_ stop: ExtractionStop) -> gup_stop {
  func say(_ reason: Int, _ error: ErrorNumber? = nil, _ value: UInt64 = 0) -> gup_stop {
    gup_stop(reason: Int32(reason), error: error.map { -$0.rawValue } ?? 0, value: value)
  }
  return switch stop {
  case .complete: say(GUP_STOP_COMPLETE)
  case .sizeLimit: say(GUP_STOP_SIZE)
  case .segmentEnd: say(GUP_STOP_SEGMENT)
  case .pageLimit: say(GUP_STOP_PAGES)
  case .ringFull: say(GUP_STOP_RING_FULL)
  case .hole(let index): say(GUP_STOP_HOLE, nil, index)
  case .entry(let index, _): say(GUP_STOP_ENTRY, nil, index)
  case .fault(let error): say(GUP_STOP_FAULT, error.number, error.value)
  }
}

@c @implementation
public func gup_iter_extract(
  _ iter: UnsafeMutablePointer<gup_iter>?, _ maxSize: Int, _ maxPages: Int, _ flags: UInt32,
  _ extraction: UnsafeMutablePointer<gup_extraction>?
) -> Int64 {
  unsafe cshims_ledger_enter(owner(iter))
  guard let extraction = unsafe extraction else { return refuse(.outputMissing) }
  return unsafe count(iter) { (iterator) throws(MemoryError) in
    let (result, list) = try unsafe iterator.pointee.extractToNewList(
      maxSize: ByteCount(clamped(maxSize)), maxPages: PageCount(clamped(maxPages)),
      options: try options(flags))
    unsafe extraction.store(result, list)
    return result.length.rawValue
  }
}

@c @implementation
public func gup_iter_extract_exactly(
  _ iter: UnsafeMutablePointer<gup_iter>?, _ length: Int, _ maxPages: Int, _ flags: UInt32,
  _ extraction: UnsafeMutablePointer<gup_extraction>?
) -> Int64 {
  unsafe cshims_ledger_enter(owner(iter))
  guard let extraction = unsafe extraction else { return refuse(.outputMissing) }
  return unsafe count(iter) { (iterator) throws(MemoryError) in
    let (result, list) = try unsafe iterator.pointee.extractExactlyToNewList(
      ByteCount(clamped(length)), maxPages: PageCount(clamped(maxPages)),
      options: try options(flags))
    unsafe extraction.store(result, list)
    return result.length.rawValue
  }
}

@c @implementation
public func gup_extraction_release(
  _ extraction: UnsafeMutablePointer<gup_extraction>?, _ dirty: Bool
) -> Int32 {
  cshims_ledger_enter(0)
  guard let extraction = unsafe extraction, let result = unsafe kept(extraction) else {
    return refuse(.extractionInvalid)
  }
  var warning: MemoryError?
  if let list = unsafe extraction.pointee.pages, result.pageCount > 0 {
    guard unsafe real(unsafe list[0]) != nil else {
      return refuse(.pageInvalid, unsafe list[0].number)
    }
    let slots = unsafe pages(list)
    switch result.retention {
    case .unretained:
      unsafe result.release(
        UnsafeMutableBufferPointer(start: slots, count: result.pageCount), dirty: dirty)
    case .referenced:
      warning = unsafe putPages(slots, count: result.pageCount)
    case .pinned:
      warning = unsafe unpinUserPagesDirtyLock(
        slots, count: result.pageCount, dirty: dirty && result.direction == .destination)
    }
  }
  if let warning { return fail(warning) }
  unsafe gup_free(extraction.pointee.pages)
  unsafe extraction.pointee = gup_extraction()
  return 0
}
