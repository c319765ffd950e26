//===----------------------------------------------------------------------===//
// Filling scatter lists from every kind of iterator.
//===----------------------------------------------------------------------===//

import AddressSpaces
import Events
import PageExtraction
import PageFrames
import Testing

@Suite("Scatter lists")
struct ScatterListTests {
  private func list(_ space: AddressSpace, _ capacity: Int = 16) throws -> ScatterList {
    try ScatterList(capacity: capacity, memory: space.memory)
  }

  private func extents(_ list: borrowing ScatterList) -> [[Int]] {
    var extents: [[Int]] = []
    list.forEachEntry { extents.append([$0.offset, $0.length.rawValue]) }
    return extents
  }

  private func bytes(_ list: borrowing ScatterList) -> [UInt8] {
    var bytes: [UInt8] = []
    list.forEachEntry {
      bytes += BVec(page: $0.page, offset: $0.offset, length: $0.length.rawValue).bytes
    }
    return bytes
  }

  @Test(
    "G: user memory is one entry a page, by several calls behind each other", arguments: Way.all)
  func user(_ way: Way) throws {
    try withSpace { space in
      let base = try space.filledArea(3)
      var iterator = try way.iterator(base + 100, 9000, in: space)
      var list = try list(space)
      #expect(try iterator.extractToScatterList(&list, maxSize: 5000).stop == .sizeLimit)
      #expect(list.entryCount == 2 && list.length == 5000 && iterator.count == 4000)
      let rest = try iterator.extractToScatterList(&list)
      #expect(rest == AdditionResult(length: 4000, stop: .complete))
      #expect(extents(list) == [[100, 3996], [0, 1004], [1004, 3092], [0, 908]])
      #expect(try bytes(list) == space.bytes(base + 100, 9000))
      #expect(list.retention == way.retention && list.direction == way.direction)
      // the page that two calls share is held by both.
      #expect(space.outstanding == 4)
      list.release(dirty: true)
      #expect(space.outstanding == 0)
    }
  }

  @Test("G: the end is marked by who asks for it, and nothing is added behind it")
  func end() throws {
    try withSpace { space in
      let base = try space.filledArea(3)
      var iterator = try IOVIter(
        ubuf: base, count: .pages(3), direction: .source, in: space)
      var list = try list(space)
      #expect(errorNumber { try list.markEnd() } == .invalid)
      _ = try iterator.extractToScatterList(&list, maxSize: .pages(2))
      #expect(list.entries.allSatisfy { !$0.isLast })
      #expect(list.entryCount == 2 && list.originalEntryCount == 0)
      try list.markEnd()
      #expect(list.entries.map(\.isLast) == [false, true])
      #expect(list.originalEntryCount == 2 && list.isEnded == true)
      #expect(errorNumber { _ = try iterator.extractToScatterList(&list) } == .invalid)
      #expect(iterator.count == 4096 && space.outstanding == 2)
      list.unmarkEnd()
      _ = try iterator.extractToScatterList(&list)
      #expect(list.entries.allSatisfy { !$0.isLast } && list.originalEntryCount == 2)
      try list.markEnd()
      #expect(list.entries.map(\.isLast) == [false, false, true])
      #expect(list.originalEntryCount == 3)
    }
  }

  @Test("G: nothing is asked for, or nothing fits: 0, of every kind", arguments: Origin.all)
  func nothing(_ origin: Origin) throws {
    try withMixedMemory { mixed in
      var iterator = try mixed.iterator(origin.kind, origin.direction, origin.dialect)
      let place = iterator.saveState()
      var list = try list(mixed.space, 0)
      #expect(try iterator.extractToScatterList(&list, maxSize: 0).length == 0)
      #expect(try iterator.extractToScatterList(&list, maxEntries: 0).length == 0)
      #expect(errorNumber { _ = try iterator.extractToScatterList(&list, maxSize: -1) } == .invalid)
      #expect(
        errorNumber { _ = try iterator.extractToScatterList(&list, maxEntries: -1) } == .invalid)
      if origin.kind != .pipe {
        #expect(
          try iterator.extractToScatterList(&list) == AdditionResult(length: 0, stop: .pageLimit))
      }
      #expect(iterator.saveState() == place && list.entryCount == 0)
      try iterator.truncate(to: 0)
      #expect(
        try iterator.extractToScatterList(&list) == AdditionResult(length: 0, stop: .complete))
    }
  }

  @Test(
    "F-07 and the hazards of F: a failing call gives back what it took, and nothing else",
    arguments: Way.segmented)
  func failure(_ way: Way) throws {
    try withSpace { space in
      let base = try space.filledArea(4)
      try space.unmap(base + .pages(3), length: .pages(1))
      let segments = [
        UserSegment(base: base, length: 5000), UserSegment(base: base + .pages(2), length: 100),
        UserSegment(base: base + .pages(2) + 50, length: .pages(1)),
      ]
      var iterator = try way.iterator(segments, in: space)
      var list = try list(space)
      _ = try iterator.extractToScatterList(&list, maxSize: 4500)
      let entries = list.entries
      let place = iterator.saveState()
      for _ in 0..<3 {
        #expect(
          throws: MemoryError(.badAddress, .notMapped, base + .pages(3))
        ) { _ = try iterator.extractToScatterList(&list) }
        #expect(iterator.saveState() == place)
        #expect(list.entries == entries && list.length == 4500)
        #expect(space.outstanding == 2)
      }
      // What can be had can still be added.
      #expect(try iterator.extractToScatterList(&list, maxSize: 600).length == 600)
      #expect(list.entryCount == 4 && space.outstanding == 4)
      #expect(Array(list.entries.prefix(2)) == entries)
    }
  }

  @Test("F-20: what is in the list stays as it is, up to the last free entry", arguments: Way.all)
  func scratch(_ way: Way) throws {
    try withSpace { space in
      let base = try space.filledArea(24)
      for capacity in [1, 2, 3, 5, 8, 23, 24] {
        var list = try list(space, capacity)
        var iterator = try way.iterator(base + 7, .pages(24) - 7, in: space)
        var expected: [Page] = []
        var step = 1
        while list.entryCount < capacity {
          let before = list.entries
          _ = try iterator.extractToScatterList(&list, maxEntries: step)
          #expect(Array(list.entries.prefix(before.count)) == before)
          #expect(list.entryCount == min(capacity, before.count + step))
          step += 1
        }
        for index in 0..<capacity {
          expected.append(try #require(space.page(at: base + .pages(index))))
        }
        #expect(list.entries.map(\.page) == expected)
        #expect(list.length == .pages(capacity) - 7)
        #expect(space.outstanding == capacity)
      }
    }
  }

  @Test("F-19: entries of a KVEC stay within pages, and what does not fit is not counted")
  func kvec() throws {
    try withMixedMemory { mixed in
      var iterator = try mixed.iterator(.kvec, .source, .upstream)
      var list = try list(mixed.space, 4)
      let added = try iterator.extractToScatterList(&list)
      #expect(added == AdditionResult(length: 10_000 + 4091, stop: .pageLimit))
      #expect(iterator.count == 4909)
      #expect(extents(list) == [[100, 3996], [0, 4096], [0, 1908], [5, 4091]])
      #expect(list.entries.allSatisfy { $0.offset + $0.length.rawValue <= pageSize })
      let mapped = mixed.space.memory
      #expect(
        unsafe list[3].page
          == mapped.page(atKernelAddress: mixed.mapping.bytes.baseAddress! + 4101))
      var rest = try self.list(mixed.space)
      #expect(try iterator.extractToScatterList(&rest).length == 9000 - 4091)
      #expect(extents(rest) == [[0, 4096], [0, 813]])
    }
  }

  @Test("G: a BVEC is one entry a bvec, whole, wherever its pages end")
  func bvec() throws {
    try withMixedMemory { mixed in
      var iterator = try mixed.iterator(.bvec, .destination, .upstream)
      try iterator.advance(by: 500)
      var list = try list(mixed.space)
      #expect(
        try iterator.extractToScatterList(&list, maxSize: 15_000)
          == AdditionResult(length: 15_000, stop: .sizeLimit))
      #expect(extents(list) == [[600, 9500], [0, 4096], [5000, 1404]])
      #expect(list.retention == .unretained && mixed.folios[0].referenceCount == 1 + 4)
      list.release(dirty: true)
      #expect(mixed.folios.allSatisfy { $0.isDirty })
    }
  }

  @Test("F-21: each folio of an XARRAY from where the range enters it, up to a hole")
  func xarray() throws {
    try withMixedMemory { mixed in
      var iterator = try mixed.iterator(.xarray, .source, .rfc)
      var list = try list(mixed.space)
      let added = try iterator.extractToScatterList(&list)
      #expect(added == AdditionResult(length: .pages(5) - 4200, stop: .hole(index: 5)))
      #expect(extents(list) == [[104, 3 * 4096 - 104], [0, 4096]])
      #expect(unsafe list[0].page.descriptor == mixed.folios[0].descriptor + 1)
      #expect(list[1].page == mixed.folios[1])
      // A hole at first: nothing, and no move.
      let place = iterator.saveState()
      #expect(
        try iterator.extractToScatterList(&list)
          == AdditionResult(length: 0, stop: .hole(index: 5)))
      #expect(iterator.saveState() == place)
      try iterator.advance(by: 4096)
      #expect(try iterator.extractToScatterList(&list).stop == .complete)
      #expect(list[2].page == mixed.folios[2] && list[2].offset == 0)
      #expect(list.length == 19_904)
    }
  }

  @Test("G: a queue of folios is one entry a folio")
  func folioQueue() throws {
    try withMixedMemory { mixed in
      var iterator = try mixed.iterator(.folioQueue, .source, .upstream)
      let expected = (4100..<7 * 4096).map { pattern(UInt64($0)) }
      var list = try list(mixed.space)
      #expect(try iterator.extractToScatterList(&list, maxEntries: 2).stop == .pageLimit)
      #expect(try iterator.extractToScatterList(&list).stop == .complete)
      #expect(extents(list) == [[4100, 4 * 4096 - 4100], [0, 4096], [0, 8192]])
      #expect(bytes(list) == expected)
    }
  }

  @Test(
    "F-20, F: whatever fails at its n-th passage, entries of earlier calls stay and stay held",
    arguments: Way.countedZeroPage, [FailurePoint.fault, .grab])
  func failNth(_ way: Way, _ point: FailurePoint) throws {
    var nth = 1
    var failures = 0
    var reached = true
    while reached {
      try withSpace { space in
        let base = try space.map(length: .pages(7))
        try space.fill(base, .pages(1))
        var iterator = try way.iterator(base + 50, .pages(6), in: space)
        var list = try list(space)
        var bio = try Bio(memory: space.memory, logicalBlockSize: 1)
        var early = iterator
        _ = try iterator.extractToScatterList(&list, maxSize: 1000)
        try early.truncate(to: 1000)
        _ = try bio.addPages(from: &early)
        let (entries, place) = (list.entries, iterator.saveState())
        try early.reexpand(to: .pages(6) - 1000)

        space.memory.arm(point, countdown: nth)
        let error = errorNumber { _ = try iterator.extractToScatterList(&list) }
        reached = space.memory.failures(of: point) > 0
        space.memory.arm(point, countdown: 0)
        // A fault that is handled again, or a grab that the slow path repeats,
        // shows nowhere.
        #expect(error == nil || reached)
        if error != nil {
          failures += 1
          #expect(list.entries == entries && iterator.saveState() == place)
          #expect(space.outstanding == 2)
        } else {
          #expect(list.length == .pages(6) && space.outstanding == 1 + 1 + 7)
        }
        list.release()

        // The same for a transfer, which keeps what it gets.
        try space.advise(base + .pages(1), length: .pages(6), .dontNeed)
        space.memory.arm(point, countdown: nth)
        let before = early.count
        let added = try? bio.addPages(from: &early).length
        space.memory.arm(point, countdown: 0)
        #expect(early.count == before - (added ?? 0))
        #expect(bio.length == 1000 + (added ?? 0))
        #expect(bio.bvecs[0].offset == 50 && bio.bvecs[0].length >= 1000)
        expectOwned(bio.bvecs, length: bio.length, in: space)
      }
      nth += 1
      try #require(nth < 200)
    }
    #expect(nth > 2)
    #expect(failures > 0)
  }

  @Test("G: kinds that have no entries, and lists that hold otherwise, are refused")
  func refused() throws {
    try withMixedMemory { mixed in
      var list = try list(mixed.space)
      for kind in [IOVIter.Kind.pipe, .discard] {
        var iterator = try mixed.iterator(kind, .destination, .rfc)
        #expect(errorNumber { _ = try iterator.extractToScatterList(&list) } == .inputOutput)
        #expect(iterator.count == 20_000)
      }
      var queue = try IOVIter(
        folioQueue: FolioQueue(mixed.folios), direction: .source, memory: mixed.space.memory,
        dialect: .rfc)
      #expect(errorNumber { _ = try queue.extractToScatterList(&list) } == .badAddress)
      #expect(list.entryCount == 0 && list.retention == nil)

      var user = try mixed.iterator(.ubuf, .source, .rfc)
      _ = try user.extractToScatterList(&list, maxSize: 10)
      var pinned = try mixed.iterator(.ubuf, .source, .upstream)
      #expect(throws: MemoryError(.invalid, .retentionMismatch, 2)) {
        _ = try pinned.extractToScatterList(&list)
      }
      var bvec = try mixed.iterator(.bvec, .source, .rfc)
      #expect(throws: MemoryError(.invalid, .retentionMismatch, 0)) {
        _ = try bvec.extractToScatterList(&list)
      }
      #expect(list.entryCount == 1)
      #expect(throws: MemoryError(.invalid, .countNegative, -1)) {
        try ScatterList(capacity: -1, memory: mixed.space.memory).release()
      }
    }
  }
}
