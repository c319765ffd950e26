//===----------------------------------------------------------------------===//
// The move-only values of this room as objects, for callers that cannot own a
// move-only value: the C interface. Each object owns one; `release` ends it,
// and the object's end does when it was forgotten.
//
// They stand here because Embedded Swift destroys a move-only value only where
// it sees all of it. They are made by functions, since an initialiser that
// throws leaves its object allocated there.
//===----------------------------------------------------------------------===//

package import PageFrames

/// Extracted bvecs.
package final class BVecBox: @unchecked Sendable {
  private var value: BVecExtraction?
  package let length: ByteCount
  package let count: Int
  private let bvecs: [BVec]

  private init(_ taken: consuming BVecExtraction) {
    length = taken.length
    count = taken.count
    bvecs = taken.list.bvecs
    value = consume taken
  }

  /// As `extractBVecs`, or `extractBVecsExactly`.
  package static func extract(
    from iterator: inout IOVIter, maxSize: ByteCount, maxBVecs: Int, exactly: Bool,
    options: ExtractionOptions
  ) throws(MemoryError) -> BVecBox {
    BVecBox(
      exactly
        ? try iterator.extractBVecsExactly(maxSize, maxBVecs: maxBVecs, options: options)
        : try iterator.extractBVecs(maxSize: maxSize, maxBVecs: maxBVecs, options: options))
  }

  package subscript(index: Int) -> BVec { bvecs[index] }
  package func release(dirty: Bool) { value.take()?.release(dirty: dirty) }
}

/// Detached pages.
package final class DetachedBox: @unchecked Sendable {
  private var value: DetachedIterator?
  package let length: ByteCount
  /// Over the pages; its segments live as long as this.
  package let iterator: IOVIter

  private init(_ taken: consuming DetachedIterator) {
    length = taken.length
    iterator = taken.iterator
    value = consume taken
  }

  /// As `detach`.
  package static func detach(
    from iterator: inout IOVIter, maxSize: ByteCount, options: ExtractionOptions
  ) throws(MemoryError) -> DetachedBox {
    DetachedBox(try iterator.detach(maxSize: maxSize, options: options))
  }

  package func release(dirty: Bool) { value.take()?.release(dirty: dirty) }
}

/// A scatter list.
package final class ScatterListBox: @unchecked Sendable {
  private var value: ScatterList?

  private init(_ list: consuming ScatterList) { value = consume list }

  package static func make(
    capacity: Int, memory: PhysicalMemory
  ) throws(MemoryError) -> ScatterListBox {
    ScatterListBox(try ScatterList(capacity: capacity, memory: memory))
  }

  /// As `extractToScatterList`; returns the bytes.
  package func add(
    from iterator: inout IOVIter, maxSize: ByteCount, maxEntries: Int, options: ExtractionOptions
  ) throws(MemoryError) -> Int {
    try iterator.extractToScatterList(
      &value!, maxSize: maxSize, maxEntries: maxEntries, options: options
    ).length.rawValue
  }

  package var count: Int {
    switch value {
    case .some(let list): list.entryCount
    case .none: 0
    }
  }
  /// The entry of an index below the count; nil for any other.
  package func entry(_ index: Int) -> ScatterList.Entry? {
    switch value {
    case .some(let list): index >= 0 && index < list.entryCount ? list[index] : nil
    case .none: nil
    }
  }
  /// As `markEnd` and `unmarkEnd`.
  package func markEnd(_ isEnd: Bool) throws(MemoryError) {
    if isEnd { try value!.markEnd() } else { value!.unmarkEnd() }
  }
  package func release(dirty: Bool) { value.take()?.release(dirty: dirty) }
}

/// A block transfer.
package final class BioBox: @unchecked Sendable {
  private var value: Bio?

  private init(_ bio: consuming Bio) { value = consume bio }

  package static func make(
    memory: PhysicalMemory, maxBVecs: Int, logicalBlockSize: ByteCount
  ) throws(MemoryError) -> BioBox {
    BioBox(try Bio(memory: memory, maxBVecs: maxBVecs, logicalBlockSize: logicalBlockSize))
  }

  /// As `addPages`; returns the bytes.
  package func add(
    from iterator: inout IOVIter, options: ExtractionOptions
  ) throws(MemoryError) -> Int {
    try value!.addPages(from: &iterator, options: options).length.rawValue
  }

  package var length: ByteCount {
    switch value {
    case .some(let bio): bio.length
    case .none: 0
    }
  }
  /// How many bvecs `bvec` gives; those of a borrowed iterator are counted.
  package var count: Int {
    switch value {
    case .some(let bio):
      guard bio.isBorrowed else { return bio.bvecCount }
      var count = 0
      bio.forEachBVec { _ in count += 1 }
      return count
    case .none: return 0
    }
  }
  /// The bvec with bytes at a place in their order; nil where there is none.
  package func bvec(_ index: Int) -> BVec? {
    switch value {
    case .some(let bio): bio.bvec(at: index)
    case .none: nil
    }
  }
  package func markDirty() {
    switch value {
    case .some(let bio): bio.markPagesDirty()
    case .none: break
    }
  }
  package func release(dirty: Bool) { value.take()?.release(dirty: dirty) }
}
