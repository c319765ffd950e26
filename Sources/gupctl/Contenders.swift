//===----------------------------------------------------------------------===//
// What is measured on the library's own page tables: its GUP calls, its
// extractions, and the C roofline. All take the same pages for writing.
//
// A block of takes fills one list again and again: the same pages each time, so
// as many gives of that list undo it. A page can be pinned two million times.
//===----------------------------------------------------------------------===//

import CShims
import SwiftGUP

/// The pages that are taken: present, writable, and nobody else's.
struct Target {
  let space: AddressSpace
  let start: UserAddress
  let pages: Int

  func check(_ taken: Int) throws {
    guard taken == pages else { throw Failure("a call took \(taken) of \(pages) pages.") }
  }
}

/// Calls that fill the same list again and again.
private let listBlockLimit = 4096

/// The library's own calls: pin and unpin, or get and put.
final class CallContender: Contender {
  enum Hold { case get, pin }

  private let target: Target
  private let hold: Hold
  private let list: PageBuffer
  let blockLimit = listBlockLimit

  init(_ target: Target, _ hold: Hold) throws {
    self.target = target
    self.hold = hold
    list = try PageBuffer(capacity: target.pages)
  }

  // One loop a call: which one it is must not be asked inside.

  func take(_ count: Int) throws {
    var taken = 0
    switch hold {
    case .pin:
      for _ in 0..<count {
        taken = try unsafe target.space.pinUserPagesFast(
          target.start, count: target.pages, flags: .write, into: list.baseAddress
        ).pageCount
      }
    case .get:
      for _ in 0..<count {
        taken = try unsafe target.space.getUserPagesFast(
          target.start, count: target.pages, flags: .write, into: list.baseAddress
        ).pageCount
      }
    }
    try target.check(taken)
  }

  func give(_ count: Int) {
    switch hold {
    case .pin:
      for _ in 0..<count { unsafe unpinUserPages(list.baseAddress, count: target.pages) }
    case .get:
      for _ in 0..<count { unsafe putPages(list.baseAddress, count: target.pages) }
    }
  }
}

/// The C loop on the same tables, descriptors and a list like the others'.
@safe final class RooflineContender: Contender {
  private let target: Target
  private let list: PageBuffer
  private let bias: UInt32
  let blockLimit = listBlockLimit

  init(_ target: Target, bias: UInt32) throws {
    self.target = target
    self.bias = bias
    list = try PageBuffer(capacity: target.pages)
  }

  /// The list as C has it: `Page?` is a pointer to a descriptor.
  private var slots: UnsafeMutablePointer<UnsafeMutablePointer<cshims_page>?> {
    unsafe UnsafeMutableRawPointer(list.baseAddress)
      .assumingMemoryBound(to: UnsafeMutablePointer<cshims_page>?.self)
  }

  func take(_ count: Int) throws {
    // The same bits that the library's walk asks of an entry.
    let needed = CSHIMS_PTE_PRESENT | CSHIMS_PTE_USER | CSHIMS_PTE_WRITE
    let mask = needed | CSHIMS_PTE_PROTNONE | CSHIMS_PTE_SPECIAL | CSHIMS_PTE_FOLIO
    let mm = unsafe target.space.mm.hot
    let pgd = unsafe mm.pointee.pgd
    let pages = unsafe mm.pointee.machine.pointee.pages
    let slots = unsafe slots
    var taken = 0
    for _ in 0..<count {
      taken = unsafe cshims_roofline_walk(
        pgd, target.start.rawValue, target.pages, mask, needed, pages, bias, slots)
    }
    try target.check(taken)
  }

  func give(_ count: Int) throws {
    let slots = unsafe slots
    for _ in 0..<count {
      _ = unsafe cshims_roofline_drop(slots, target.pages, bias)
    }
  }
}

/// The floor inside folios: one count serves all their pages, so what is left to
/// do is to fill the list, and to look through it.
@safe final class FillContender: Contender {
  private let target: Target
  private let list: PageBuffer
  private let first: Page
  let blockLimit = listBlockLimit

  init(_ target: Target) throws {
    self.target = target
    list = try PageBuffer(capacity: target.pages)
    guard let first = target.space.page(at: target.start) else {
      throw Failure("the buffer has no page at \(target.start).")
    }
    self.first = first
  }

  private var slots: UnsafeMutablePointer<UnsafeMutablePointer<cshims_page>?> {
    unsafe UnsafeMutableRawPointer(list.baseAddress)
      .assumingMemoryBound(to: UnsafeMutablePointer<cshims_page>?.self)
  }

  func take(_ count: Int) {
    let slots = unsafe slots
    for _ in 0..<count { unsafe cshims_roofline_fill(first.descriptor, target.pages, slots) }
  }

  func give(_ count: Int) throws {
    let slots = unsafe slots
    var inPlace = 0
    for _ in 0..<count { inPlace = unsafe cshims_roofline_scan(slots, target.pages) }
    try target.check(inPlace)
  }
}

/// Extraction into a list that it makes: iterator in, owned pages out.
@safe final class ExtractContender: Contender {
  private let target: Target
  private let iterators: UnsafeMutablePointer<IOVIter>
  private let extractions: UnsafeMutablePointer<Extraction>
  /// Each of a block's extractions has a list of its own.
  let blockLimit: Int

  init(_ target: Target) throws {
    self.target = target
    blockLimit = max(1, min(256, (1 << 16) / (target.pages * 8)))
    unsafe iterators = try makeIterators(target, blockLimit)
    unsafe extractions = .allocate(capacity: blockLimit)
  }

  deinit {
    unsafe iterators.deinitialize(count: blockLimit)
    unsafe iterators.deallocate()
    unsafe extractions.deallocate()
  }

  func take(_ count: Int) throws {
    for index in 0..<count {
      unsafe (extractions + index).initialize(to: try iterators[index].extractPages())
    }
    try target.check(unsafe extractions[count - 1].pageCount)
  }

  func give(_ count: Int) {
    for index in 0..<count { unsafe (extractions + index).move().release() }
  }

  func reset(_ count: Int) throws { try unsafe rewind(iterators, count, target) }
}

/// Extraction into the caller's list.
@safe final class ExtractIntoListContender: Contender {
  private let target: Target
  private let list: PageBuffer
  private let iterators: UnsafeMutablePointer<IOVIter>
  private var result: ExtractionResult?
  /// So few that the iterators of a block stay in the cache beside the pages.
  let blockLimit = 64

  init(_ target: Target) throws {
    self.target = target
    list = try PageBuffer(capacity: target.pages)
    unsafe iterators = try makeIterators(target, blockLimit)
  }

  deinit {
    unsafe iterators.deinitialize(count: blockLimit)
    unsafe iterators.deallocate()
  }

  private var slots: UnsafeMutableBufferPointer<Page?> {
    unsafe UnsafeMutableBufferPointer(start: list.baseAddress, count: list.capacity)
  }

  func take(_ count: Int) throws {
    let slots = unsafe slots
    var last: ExtractionResult?
    for index in 0..<count {
      last = try unsafe iterators[index].extractPages(into: slots)
    }
    result = last
    try target.check(last?.pageCount ?? 0)
  }

  func give(_ count: Int) {
    guard let result else { return }
    let slots = unsafe slots
    for _ in 0..<count { unsafe result.release(slots) }
  }

  func reset(_ count: Int) throws { try unsafe rewind(iterators, count, target) }
}

/// Iterators over the target; a device would write to it.
private func makeIterators(
  _ target: Target, _ count: Int
) throws -> UnsafeMutablePointer<IOVIter> {
  let iterator = try IOVIter(
    ubuf: target.start, count: PageCount(target.pages).byteCount, direction: .destination,
    in: target.space)
  let iterators = UnsafeMutablePointer<IOVIter>.allocate(capacity: count)
  unsafe iterators.initialize(repeating: iterator, count: count)
  return unsafe iterators
}

/// Takes iterators that were extracted from as a whole back to their start.
private func rewind(
  _ iterators: UnsafeMutablePointer<IOVIter>, _ count: Int, _ target: Target
) throws {
  let length = PageCount(target.pages).byteCount
  for index in 0..<count { try unsafe iterators[index].revert(by: length) }
}
