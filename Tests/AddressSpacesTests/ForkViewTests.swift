//===----------------------------------------------------------------------===//
// What a view looks like to the host after fork: copies of neighbours are
// neighbours, so that a process that stores everywhere ends with few mappings.
//===----------------------------------------------------------------------===//

import AddressSpaces
import CShims
import Events
import PageFrames
import TestSupport
import Testing

@Suite("Fork and the host's mappings")
struct ForkViewTests {
  static let pages = 600

  /// In which order a process stores to its pages.
  enum Order: CaseIterable {
    case ascending, descending, everyThird

    var indices: [Int] {
      let all = Array(0..<ForkViewTests.pages)
      return switch self {
      case .ascending: all
      case .descending: all.reversed()
      case .everyThird: (0..<3).flatMap { first in all.filter { $0 % 3 == first } }
      }
    }
  }

  /// Who leaves the pages that they shared.
  enum Copier: CaseIterable { case parent, child, parentTwice }

  private func hostMappings(_ space: AddressSpace, _ start: UserAddress) -> Int {
    let host = unsafe UInt(bitPattern: space.pointer(at: start))
    return AddressSpace.hostMappings(UserAddress(UInt64(host)), pages: Self.pages)
  }

  @Test(
    "copies made after fork follow each other, in whatever order, and are one mapping again",
    arguments: TrapTier.testable.flatMap { tier in Copier.allCases.map { (tier, $0) } },
    Order.allCases)
  func copies(who: (tier: TrapTier, copier: Copier), order: Order) throws {
    try withMachine(tier: who.tier) { memory in
      let parent = try AddressSpace(memory: memory)
      let start = try parent.map(length: .pages(Self.pages))
      for i in 0..<Self.pages { parent.storeWord(UInt64(i), at: start + .pages(i)) }
      let child = try parent.fork()
      let (storer, other) = who.copier == .child ? (child, parent) : (parent, child)
      // The storer sees the shared frames first.
      for i in 0..<Self.pages { #expect(storer.loadWord(start + .pages(i)) == UInt64(i)) }
      for i in order.indices { storer.storeWord(UInt64(1000 + i), at: start + .pages(i)) }
      #expect(hostMappings(storer, start) == 1)
      for i in 0..<Self.pages { #expect(other.loadWord(start + .pages(i)) == UInt64(i)) }
      if who.copier == .parentTwice {
        // With the first child the frames at home have gone.
        child.exit()
        let second = try parent.fork()
        for i in order.indices { parent.storeWord(UInt64(2000 + i), at: start + .pages(i)) }
        #expect(hostMappings(parent, start) == 1)
        for i in 0..<Self.pages { #expect(second.loadWord(start + .pages(i)) == UInt64(1000 + i)) }
        second.exit()
      }
      // Parts of an area give their parts of both spans back.
      try storer.unmap(start + .pages(7), length: .pages(5))
      try storer.protect(start + .pages(40), length: .pages(3), .readOnly)
      child.exit()
      parent.exit()
      // All frame numbers are to be had again.
      let last = try AddressSpace(memory: memory)
      let all = ByteCount(memory.totalFrameCount.byteCount.rawValue)
      let whole = try last.map(length: all)
      try last.advise(whole, length: all, .populateWrite)
      #expect(hostMappings(last, whole) == 1)
      last.exit()
    }
  }

  /// How stores to written pages come to be forbidden.
  enum Taking: CaseIterable { case fork, protect }

  // What userfaultfd protects by itself is not seen in the host's protection, and
  // without a trap a native store after fork would end the program.
  @Test(
    "D.1: where the host refuses to show one stretch read-only, the others are so all the same",
    arguments: TrapTier.testable.map { ($0, Taking.fork) } + [
      (.sigsegv, .protect), (.none, .protect),
    ])
  func refusedStretch(tier: TrapTier, taking: Taking) throws {
    try withAddressSpace(tier: tier) { space in
      let start = try space.map(length: .mebibytes(6))
      // One page a stretch.
      let pages = (0..<3).map { start + .mebibytes(2 * $0) }
      func store(_ value: UInt8) throws {
        for page in pages {
          if tier == .none {
            try space.write([value], to: page)
          } else {
            space.store(value, at: page)
          }
        }
      }
      try store(1)
      var countdown = 0
      var hasFailed = true
      while hasFailed {
        countdown += 1
        try #require(countdown < 20)
        space.memory.arm(.hostMapping, countdown: countdown)
        var child: AddressSpace?
        if taking == .fork {
          child = try? space.fork()
        } else {
          try space.protect(start, length: .mebibytes(6), .readOnly)
        }
        hasFailed = space.memory.failures(of: .hostMapping) > 0
        space.memory.arm(.hostMapping, countdown: 0)
        if taking == .protect {
          let isOpen = pages.map { cshims_is_accessible($0.rawValue, true) }
          #expect(isOpen == [false, false, false], "at \(countdown)")
          try space.protect(start, length: .mebibytes(6), .readWrite)
        }
        try store(2)
        if let child {
          for page in pages { #expect(try child.read(1, at: page) == [1], "at \(countdown)") }
          child.exit()
        }
        try store(1)
      }
      #expect(countdown > 3)
    }
  }
}
