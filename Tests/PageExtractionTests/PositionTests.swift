//===----------------------------------------------------------------------===//
// Advance, revert, truncate, reexpand, save and restore: the place alone, no
// page is touched.
//===----------------------------------------------------------------------===//

import AddressSpaces
import PageExtraction
import PageFrames
import TestSupport
import Testing

/// Lengths of segments; their bases are far from each other and never mapped.
private func iterator(_ lengths: [Int], in space: AddressSpace) throws -> IOVIter {
  try IOVIter(
    iovec: lengths.enumerated().map { index, length in
      UserSegment(base: UserAddress(UInt64(index + 1) << 32 + 100), length: ByteCount(length))
    }, direction: .destination, in: space)
}

/// Segments behind, offset, count.
private func place(_ iterator: IOVIter, of segments: Int) -> [Int] {
  [segments - iterator.segmentCount, iterator.offset.rawValue, iterator.count.rawValue]
}

@Suite("Position")
struct PositionTests {
  struct Step: Sendable, CustomTestStringConvertible {
    let lengths: [Int]
    let by: Int
    let place: [Int]
    var testDescription: String { "\(lengths) by \(by)" }
  }

  static let advances = [
    Step(lengths: [10, 20, 30], by: 0, place: [0, 0, 60]),
    Step(lengths: [10, 20, 30], by: 9, place: [0, 9, 51]),
    // A segment that is used up is left at once.
    Step(lengths: [10, 20, 30], by: 10, place: [1, 0, 50]),
    Step(lengths: [10, 20, 30], by: 35, place: [2, 5, 25]),
    Step(lengths: [10, 20, 30], by: 60, place: [3, 0, 0]),
    // More than the count means the count.
    Step(lengths: [10, 20, 30], by: Int.max, place: [3, 0, 0]),
    // Empty segments are stepped over, wherever they stand, even by nothing.
    Step(lengths: [0, 0, 10], by: 0, place: [2, 0, 10]),
    Step(lengths: [10, 0, 0, 10], by: 10, place: [3, 0, 10]),
    Step(lengths: [10, 0], by: 10, place: [2, 0, 0]),
    // Nothing moves when nothing is left.
    Step(lengths: [0, 0], by: 5, place: [0, 0, 0]),
  ]

  @Test("A.8.2: advance", arguments: advances)
  func advance(_ step: Step) throws {
    try withSpace { space in
      var iterator = try iterator(step.lengths, in: space)
      try iterator.advance(by: ByteCount(step.by))
      #expect(place(iterator, of: step.lengths.count) == step.place)
    }
  }

  @Test("A.8.2: a UBUF advances by its offset")
  func advanceUBuf() throws {
    try withSpace { space in
      var iterator = try IOVIter(
        ubuf: UserAddress(0x1000), count: 100, direction: .source, in: space)
      try iterator.advance(by: 30)
      #expect(place(iterator, of: 1) == [0, 30, 70])
      try iterator.advance(by: 500)
      #expect(place(iterator, of: 1) == [0, 100, 0])
      #expect(throws: MemoryError(.invalid, .countNegative, -1)) { try iterator.advance(by: -1) }
    }
  }

  @Test("A.8.4: revert restores the byte position, not always the pair of segment and offset")
  func revertPairs() throws {
    try withSpace { space in
      let lengths = [10, 0, 20]
      var iterator = try iterator(lengths, in: space)
      try iterator.advance(by: 10)
      #expect(place(iterator, of: 3) == [2, 0, 20])
      try iterator.revert(by: 0)
      #expect(place(iterator, of: 3) == [2, 0, 20])
      try iterator.revert(by: 1)
      #expect(place(iterator, of: 3) == [0, 9, 21])
      try iterator.advance(by: 21)
      #expect(place(iterator, of: 3) == [3, 0, 0])
      // Back exactly to a start: it stays there, before the empty segment too.
      try iterator.revert(by: 20)
      #expect(place(iterator, of: 3) == [2, 0, 20])
      try iterator.revert(by: 10)
      #expect(place(iterator, of: 3) == [0, 0, 30])
    }
  }

  @Test("A.8.4: reverting past the start is an error that changes nothing", arguments: Way.all)
  func revertPastStart(_ way: Way) throws {
    try withSpace { space in
      var iterator = try way.iterator(UserAddress(0x1000), 100, in: space)
      try iterator.advance(by: 40)
      let before = iterator.saveState()
      #expect(throws: MemoryError(.invalid, .positionOutOfRange, 41)) {
        try iterator.revert(by: 41)
      }
      #expect(throws: MemoryError(.invalid, .countNegative, -1)) { try iterator.revert(by: -1) }
      #expect(throws: MemoryError(.invalid, .transferTooLarge, 0x7fff_f001)) {
        try iterator.revert(by: 0x7fff_f001)
      }
      #expect(iterator.saveState() == before)
    }
  }

  @Test("A.8.4: 0x7ffff000 is the most that one revert gives back", arguments: Way.all)
  func revertLimit(_ way: Way) throws {
    try withSpace { space in
      var iterator = try way.iterator(UserAddress(0), .gibibytes(3), in: space)
      try iterator.advance(by: .gibibytes(3))
      #expect(throws: MemoryError(.invalid, .transferTooLarge, 1 << 31)) {
        try iterator.revert(by: .gibibytes(2))
      }
      try iterator.revert(by: .maximumTransfer)
      #expect(iterator.count == .maximumTransfer)
    }
  }

  @Test("Truncate lowers only; reexpand reaches the constructed count", arguments: Way.all)
  func truncateAndReexpand(_ way: Way) throws {
    try withSpace { space in
      var iterator = try way.iterator(UserAddress(0x1000), 100, in: space)
      try iterator.truncate(to: 200)
      #expect(iterator.count == 100)
      try iterator.truncate(to: 60)
      try iterator.advance(by: 100)
      #expect(iterator.offset == 60)
      #expect(iterator.count == 0)
      #expect(throws: MemoryError(.invalid, .countTooLarge, 41)) { try iterator.reexpand(to: 41) }
      #expect(throws: MemoryError(.invalid, .countNegative, -1)) { try iterator.reexpand(to: -1) }
      #expect(throws: MemoryError(.invalid, .countNegative, -1)) { try iterator.truncate(to: -1) }
      try iterator.reexpand(to: 40)
      #expect(iterator.count == 40)
      try iterator.revert(by: 60)
      #expect(iterator.count == 100)
    }
  }

  @Test("A count of less than the segments hold cannot be expanded beyond it")
  func constructedCount() throws {
    try withSpace { space in
      let segment = UserSegment(base: UserAddress(0x1000), length: 100)
      var iterator = try IOVIter(iovec: [segment], count: 10, direction: .source, in: space)
      #expect(throws: MemoryError(.invalid, .countTooLarge, 11)) { try iterator.reexpand(to: 11) }
      try iterator.advance(by: 10)
      #expect(place(iterator, of: 1) == [0, 10, 0])
    }
  }

  @Test("A kept place is found again, and a place of another iterator is refused")
  func saveAndRestore() throws {
    try withSpace { space in
      var iterator = try iterator([10, 0, 20], in: space)
      try iterator.advance(by: 15)
      let kept = iterator.saveState()
      try iterator.truncate(to: 4)
      try iterator.advance(by: 4)
      try iterator.restore(kept)
      #expect(place(iterator, of: 3) == [2, 5, 15])
      for lengths in [[10, 20], [15, 0, 20], [10, 0, 14]] {
        var other = try PageExtractionTests.iterator(lengths, in: space)
        let before = other.saveState()
        #expect(throws: MemoryError(.invalid, .positionOutOfRange, 15)) {
          try other.restore(kept)
        }
        #expect(other.saveState() == before)
      }
      var ubuf = try IOVIter(ubuf: UserAddress(0), count: 30, direction: .source, in: space)
      #expect(throws: MemoryError(.invalid, .positionOutOfRange, 15)) { try ubuf.restore(kept) }
    }
  }

  @Test("A.8.2, A.8.4: random walks beside a plain byte position", arguments: 0..<20)
  func randomWalk(_ stream: Int) throws {
    try withSpace { space in
      try withSeededRandom(stream: UInt64(stream)) { random in
        let lengths = (0..<random.below(12)).map { _ in
          random.oneIn(3) ? 0 : random.below(9000)
        }
        let total = lengths.reduce(0, +)
        var iterator = try iterator(lengths, in: space)
        var position = 0
        for _ in 0..<300 {
          if random.oneIn(2) {
            let size = random.below(5000)
            try iterator.advance(by: ByteCount(size))
            position = min(total, position + size)
          } else {
            let size = random.below(position + 1)
            try iterator.revert(by: ByteCount(size))
            position -= size
          }
          let passed = lengths[..<(lengths.count - iterator.segmentCount)].reduce(0, +)
          try #require(passed + iterator.offset.rawValue == position)
          try #require(iterator.count.rawValue == total - position)
        }
      }
    }
  }
}
