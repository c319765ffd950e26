//===----------------------------------------------------------------------===//
// What is measured of the C interface: the calls that a C program makes, on a
// machine of its own with as many pages.
//===----------------------------------------------------------------------===//

import CGup
import LibGup
import SwiftGUP

/// Present, writable pages, by C handles.
@safe private final class CTarget {
  let mm: OpaquePointer?
  let start: UInt64
  let pages: Int
  private let machine: OpaquePointer?
  /// Room for the pages.
  let list: UnsafeMutablePointer<OpaquePointer?>

  init(pages: Int) throws {
    var machine: OpaquePointer?
    var mm: OpaquePointer?
    var start: UInt64 = 0
    let size = UInt64(pages) << 12
    let protection = Int32(GUP_PROT_READ | GUP_PROT_WRITE)
    guard unsafe gup_machine_create(nil, &machine) == 0, unsafe gup_mm_create(machine, &mm) == 0,
      unsafe gup_mm_map(mm, 0, size, protection, 0, &start) == 0,
      unsafe gup_mm_advise(mm, start, size, Int32(GUP_MADV_POPULATE_WRITE)) == 0
    else { throw Failure("no such buffer of \(pages) pages by the C interface.") }
    unsafe self.machine = machine
    unsafe self.mm = mm
    self.start = start
    self.pages = pages
    unsafe list = .allocate(capacity: pages)
    unsafe list.initialize(repeating: nil, count: pages)
  }

  deinit {
    unsafe _ = gup_mm_destroy(mm)
    unsafe _ = gup_machine_destroy(machine)
    unsafe list.deallocate()
  }

  func check(_ taken: Int64, _ wanted: Int) throws {
    guard taken == Int64(wanted) else { throw Failure("a C call gave \(taken), not \(wanted).") }
  }
}

/// gup_pin_user_pages_fast and gup_unpin_user_page or its list form.
final class CPinContender: Contender {
  private let target: CTarget
  let blockLimit = 4096

  init(pages: Int) throws { target = try CTarget(pages: pages) }

  func take(_ count: Int) throws {
    let (mm, start, pages, list) = unsafe (
      target.mm, target.start, Int64(target.pages), target.list
    )
    var taken: Int64 = 0
    for _ in 0..<count {
      taken = unsafe gup_pin_user_pages_fast(mm, start, pages, UInt32(GUP_FOLL_WRITE), list)
    }
    try target.check(taken, target.pages)
  }

  func give(_ count: Int) throws {
    let (pages, list) = unsafe (Int64(target.pages), target.list)
    var error: Int32 = 0
    if pages == 1 {
      let page = unsafe list[0]
      for _ in 0..<count { error |= unsafe gup_unpin_user_page(page) }
    } else {
      for _ in 0..<count { error |= unsafe gup_unpin_user_pages(list, pages) }
    }
    try target.check(Int64(error), 0)
  }
}

/// gup_iter_extract_pages into the caller's list.
@safe final class CExtractContender: Contender {
  private let target: CTarget
  private let iterators: UnsafeMutablePointer<gup_iter>
  /// So few that the iterators of a block stay in the cache beside the pages.
  let blockLimit = 64

  init(pages: Int) throws {
    target = try CTarget(pages: pages)
    var iterator = gup_iter()
    let error = unsafe gup_iter_ubuf(
      &iterator, target.mm, UInt32(GUP_DEST), target.start, pages << 12)
    try target.check(Int64(error), 0)
    unsafe iterators = .allocate(capacity: blockLimit)
    unsafe iterators.initialize(repeating: iterator, count: blockLimit)
  }

  deinit { unsafe iterators.deallocate() }

  func take(_ count: Int) throws {
    let (iterators, pages) = unsafe (iterators, target.pages)
    var list: UnsafeMutablePointer<OpaquePointer?>? = unsafe target.list
    var offset = 0
    var got: Int64 = 0
    for index in 0..<count {
      got = unsafe gup_iter_extract_pages(
        iterators + index, &list, .max, pages, 0, &offset)
    }
    try target.check(got, pages << 12)
  }

  func give(_ count: Int) throws {
    for _ in 0..<count { unsafe _ = gup_unpin_user_pages(target.list, Int64(target.pages)) }
  }

  func reset(_ count: Int) throws {
    for index in 0..<count {
      unsafe _ = gup_iter_revert(iterators + index, target.pages << 12)
    }
  }
}
