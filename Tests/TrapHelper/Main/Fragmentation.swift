//===----------------------------------------------------------------------===//
// Design decision 6: a view's host mappings stay within its budget, whatever the
// program touches and in whatever order.
//===----------------------------------------------------------------------===//

import AddressSpaces
import CShims
import PageFrames
import TestSupport

/// Faults an area in in random order, then protects every second page, and
/// checks every page's bytes, and that the host's own count of mappings never
/// passes the view's, nor that its budget.
func fragment(_ tier: TrapTier, mebibytes: Int, budget: Int?) throws {
  let memory = try PhysicalMemory(
    capacity: .mebibytes(mebibytes + 64), trapTier: tier, hostMappingBudget: budget)
  let space = try AddressSpace(memory: memory)
  let start = try space.map(length: .mebibytes(mebibytes))
  let count = mebibytes << 8
  let pointer = unsafe space.pointer(at: start)
  var most = 0

  func checkMappings() {
    let counted = space.hostMappingCount
    let real = AddressSpace.hostMappings(start, pages: count)
    check(counted <= memory.hostMappingBudget, "\(counted) mappings of \(memory.hostMappingBudget)")
    check(real <= counted, "\(real) real mappings, \(counted) counted")
    most = max(most, real)
  }
  func word(_ page: Int) -> UInt64 { UInt64(page) &* 0x9e37_79b9_7f4a_7c15 | 1 }
  func phase(_ name: String, _ body: () throws -> Void) rethrows {
    let calls = memory.counters.hostCalls
    let begin = cshims_monotonic_ns()
    try body()
    let milliseconds = (cshims_monotonic_ns() - begin) / 1_000_000
    checkMappings()
    print(
      "\(name): \(milliseconds) ms, \(memory.counters.hostCalls - calls) host calls,"
        + " \(space.hostMappingCount) mappings counted")
  }

  var random = SeededRandom(stream: 300)
  var order = Array(0..<count)
  order.shuffle(using: &random)
  phase("stores in random order") {
    for (i, page) in order.enumerated() {
      unsafe pointer.storeBytes(of: word(page), toByteOffset: page << 12, as: UInt64.self)
      if i % (count / 16) == 0 { checkMappings() }
    }
  }
  try phase("every second page protected") {
    for page in stride(from: 0, to: count, by: 2) {
      try space.protect(start + .pages(page), length: .pages(1), .readOnly)
      if page % (count / 16) == 0 { checkMappings() }
    }
  }
  order.shuffle(using: &random)
  phase("loads in random order") {
    for page in order {
      let value = unsafe pointer.load(fromByteOffset: page << 12, as: UInt64.self)
      check(value == word(page), "page \(page) \(howToRepeat)")
    }
  }
  phase("stores to the others") {
    for page in stride(from: 1, to: count, by: 2) {
      unsafe pointer.storeBytes(of: ~word(page), toByteOffset: page << 12, as: UInt64.self)
    }
  }
  for page in 0..<count {
    let expected = page & 1 == 0 ? word(page) : ~word(page)
    let frame = unsafe space.page(at: start + .pages(page))?.bytes
    check(unsafe frame?.load(as: UInt64.self) == expected, "page \(page)'s frame")
  }
  try phase("zero pages between pages of its own") {
    try space.protect(start, length: .mebibytes(mebibytes), .readWrite)
    for page in stride(from: 0, to: count, by: 3) {
      try space.advise(start + .pages(page), length: .pages(1), .dontNeed)
      check(unsafe pointer.load(fromByteOffset: page << 12, as: UInt64.self) == 0)
    }
  }
  for page in order.prefix(10000) {
    let old = page & 1 == 0 ? word(page) : ~word(page)
    let value = unsafe pointer.load(fromByteOffset: page << 12, as: UInt64.self)
    check(value == (page % 3 == 0 ? 0 : old), "page \(page)")
  }
  checkMappings()
  print("at most \(most) host mappings, budget \(memory.hostMappingBudget)")
}
