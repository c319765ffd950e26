//===----------------------------------------------------------------------===//
// The emulator's side of a random program: address spaces for the model's
// processes, page lists for its holds, and each step carried out for real.
//===----------------------------------------------------------------------===//

import AddressSpaces
import ForkModel
import GUP
import PageFrames
import TestSupport

#if canImport(Glibc)
  import Glibc
#endif

/// The processes and holds of one machine.
@safe
final class World {
  let memory: PhysicalMemory
  let window: Window
  private(set) var spaces: [AddressSpace?]
  private var bases: [UserAddress]
  private(set) var held = [[Page]](repeating: [], count: Limits.holds)
  /// Memory of the program's that a process adopted.
  private(set) var adopted: [AdoptedRange?]
  private var pins = [Bool](repeating: false, count: Limits.holds)
  /// As many bytes as a window has.
  private let buffer: UnsafeMutableRawBufferPointer

  init(_ memory: PhysicalMemory, _ window: Window) {
    self.memory = memory
    self.window = window
    spaces = Array(repeating: nil, count: window.spaces)
    bases = Array(repeating: UserAddress(0), count: window.spaces)
    adopted = Array(repeating: nil, count: window.spaces)
    unsafe buffer = .allocate(byteCount: window.pages * pageSize, alignment: pageSize)
    unsafe buffer.initializeMemory(as: UInt8.self, repeating: 0)
  }

  deinit { unsafe buffer.deallocate() }

  /// Gives everything back.
  func close() {
    for hold in held.indices { release(hold) }
    for space in spaces.indices { _ = exit(space) }
    spaces = []
  }

  /// Where in a page the n-th word is: the first, the last, and some between.
  static func offset(ofWord word: Int) -> Int { word * (pageSize - 8) / (Limits.words - 1) & ~7 }

  func address(_ space: Int, _ page: Int, _ word: Int = 0) -> UserAddress {
    bases[space] + .pages(page) + ByteCount(Self.offset(ofWord: word))
  }

  // MARK: - Steps

  func perform(_ operation: Operation) throws -> Outcome {
    switch operation {
    case .begin(let space): try begin(space)
    case .fork(let space, let child): return try fork(space, child)
    case .adopt(let space, let seed): try adopt(space, seed)
    case .giveBack(let space): return try giveBack(space)
    case .exit(let space): return exit(space)
    case .map(let place, let access, let shared, let folios, let movable):
      return try onProcess(place) { space, start, length throws(MemoryError) in
        _ = try space.map(
          length: length, protection: access.protection, sharing: shared ? .shared : .private,
          folios: folios.size, of: movable ? .movable : .ordinary, at: .fixed(start))
      }
    case .unmap(let place):
      return try onProcess(place) { space, start, length throws(MemoryError) in
        try space.unmap(start, length: length)
      }
    case .protect(let place, let access):
      return try onProcess(place) { space, start, length throws(MemoryError) in
        try space.protect(start, length: length, access.protection)
      }
    case .advise(let place, let advice):
      return try onProcess(place) { space, start, length throws(MemoryError) in
        try space.advise(start, length: length, advice.advice)
      }
    case .wish(let place, let folios):
      return try onProcess(place) { space, start, length throws(MemoryError) in
        try space.advise(start, length: length, folios: folios.size)
      }
    case .collapse(let place):
      return try onProcess(place) { space, start, length throws(MemoryError) in
        try space.advise(start, length: length, .collapse)
      }
    case .splitFolio(let space, let page):
      return try onProcess(Place(space, page..<(page + 1))) { space, at, _ throws(MemoryError) in
        try space.splitFolio(at: at)
      }
    case .move(let place, let target, let keepsOld):
      let there = address(place.space, target)
      return try onProcess(place) { space, start, length throws(MemoryError) in
        try space.remap(
          start, length: length, newLength: length, to: .fixed(there), keepingOld: keepsOld)
      }
    case .resize(let place, let count):
      return try onProcess(place) { space, start, length throws(MemoryError) in
        try space.remap(start, length: length, newLength: .pages(count), to: .inPlace)
      }
    case .migrate(let place):
      var movement = PageMovement()
      var outcome = try onProcess(place) { space, start, length throws(MemoryError) in
        movement = try space.migrate(start, length: length)
      }
      outcome.pageCount = movement.moved
      outcome.value = Outcome.digest(
        [
          movement.pinned, movement.referenced, movement.unreachable, movement.unmovable,
          movement.withoutFrame,
        ].map(UInt64.init))
      return outcome
    case .compact: _ = try memory.compact()
    case .reclaim: return Outcome(pageCount: try memory.reclaim(.init(Int.max)).moved)
    case .store(let space, let page, let word, let value):
      spaces[space]?.storeWord(value, at: address(space, page, word))
    case .load(let space, let page, let word):
      return Outcome(value: spaces[space]?.loadWord(address(space, page, word)) ?? 0)
    case .copyIn(let place, let value): return try copyIn(place, value)
    case .copyOut(let place): return try copyOut(place)
    case .acquire(let hold, let place, let how): return try acquire(hold, place, how)
    case .release(let hold): release(hold)
    case .deviceStore(let hold, let page, let word, let value):
      unsafe held[hold][page].bytes.storeBytes(
        of: value, toByteOffset: Self.offset(ofWord: word), as: UInt64.self)
    case .deviceLoad(let hold, let page, let word):
      return Outcome(value: Self.word(word, of: held[hold][page]))
    }
    return Outcome()
  }

  /// What the model asks about a step that was taken.
  func findings(_ outcome: Outcome) -> Findings {
    Findings(
      refusal: outcome.refusal,
      order: { space, page in
        self.spaces[space]?.page(at: self.address(space, page))?.folioOrder ?? 0
      },
      areas: { space in
        self.spaces[space]?.areas.map { self.pages(of: $0.range, space) } ?? []
      })
  }

  /// Which pages of a process's window a range is.
  func pages(of range: UserRange, _ space: Int) -> Range<Int> {
    func page(_ address: UserAddress) -> Int {
      Int(Int64(bitPattern: address.rawValue &- bases[space].rawValue)) >> 12
    }
    return page(range.start)..<page(range.end)
  }

  static func word(_ word: Int, of page: Page) -> UInt64 {
    unsafe page.bytes.load(fromByteOffset: offset(ofWord: word), as: UInt64.self)
  }

  /// Is every byte but those of the words zero?
  static func hasZeroesBetweenWords(_ page: Page) -> Bool {
    (1..<Limits.words).allSatisfy { word in
      let start = offset(ofWord: word - 1) + 8
      let bytes = unsafe page.bytes.baseAddress! + start
      // The first is zero, and each is like the next.
      return unsafe page.bytes[start] == 0
        && memcmp(bytes, bytes + 1, offset(ofWord: word) - start - 1) == 0
    }
  }

  /// Has a process that was made elsewhere.
  func take(
    _ space: AddressSpace, as number: Int, at base: UserAddress, adopted range: AdoptedRange
  ) {
    spaces[number] = space
    bases[number] = base
    adopted[number] = range
  }

  func forget(_ number: Int) {
    spaces[number] = nil
    adopted[number] = nil
  }

  /// The window lies across a border of 2 MiB.
  private func begin(_ number: Int) throws {
    let space = try AddressSpace(memory: memory)
    let start = try space.map(length: .mebibytes(8))
    try space.unmap(start, length: .mebibytes(8))
    spaces[number] = space
    bases[number] = start + (.mebibytes(4) - .pages(window.border))
  }

  private func fork(_ number: Int, _ child: Int) throws -> Outcome {
    guard let parent = spaces[number] else { return Outcome() }
    do throws(MemoryError) {
      spaces[child] = try parent.fork()
      bases[child] = bases[number]
      return Outcome()
    } catch {
      return Outcome(refusal: try Outcome.Refusal(error))
    }
  }

  private func onProcess(
    _ place: Place, _ body: (AddressSpace, UserAddress, ByteCount) throws(MemoryError) -> Void
  ) throws -> Outcome {
    guard let space = spaces[place.space] else { return Outcome() }
    do throws(MemoryError) {
      try body(space, address(place.space, place.pages.lowerBound), .pages(place.pages.count))
      return Outcome()
    } catch {
      return Outcome(refusal: try Outcome.Refusal(error))
    }
  }

  // MARK: - Copies

  private func copyIn(_ place: Place, _ value: UInt64) throws -> Outcome {
    for page in 0..<place.pages.count {
      for word in 0..<Limits.words {
        unsafe buffer.storeBytes(
          of: value, toByteOffset: page * pageSize + Self.offset(ofWord: word), as: UInt64.self)
      }
    }
    return try onProcess(place) { space, start, length throws(MemoryError) in
      try unsafe space.copyToUser(
        start, from: UnsafeRawBufferPointer(rebasing: buffer[..<length.rawValue]))
    }
  }

  private func copyOut(_ place: Place) throws -> Outcome {
    unsafe buffer.initializeMemory(as: UInt8.self, repeating: 0)
    var outcome = try onProcess(place) { space, start, length throws(MemoryError) in
      try unsafe space.copyFromUser(
        UnsafeMutableRawBufferPointer(rebasing: buffer[..<length.rawValue]), from: start)
    }
    var words: [UInt64] = []
    for page in 0..<place.pages.count {
      for word in 0..<Limits.words {
        words.append(
          unsafe buffer.load(
            fromByteOffset: page * pageSize + Self.offset(ofWord: word), as: UInt64.self))
      }
    }
    outcome.value = Outcome.digest(words)
    return outcome
  }

  // MARK: - Holds

  private func acquire(_ hold: Int, _ place: Place, _ how: Acquisition) throws -> Outcome {
    guard let space = spaces[place.space] else { return Outcome() }
    var list = try PageBuffer(capacity: place.pages.count)
    let start = address(place.space, place.pages.lowerBound)
    let count = place.pages.count
    var flags: GUPFlags = how.writes ? .write : []
    if !how.mayFault { flags.insert(.noFault) }
    if how.isLong { flags.insert(.longTerm) }
    do throws(MemoryError) {
      let result =
        switch (how.path, how.pins) {
        case (.fast, true):
          try space.pinUserPagesFast(start, count: count, flags: flags, into: &list)
        case (.fast, false):
          try space.getUserPagesFast(start, count: count, flags: flags, into: &list)
        case (.fastOnly, true):
          try space.pinUserPagesFastOnly(start, count: count, flags: flags, into: &list)
        case (.fastOnly, false):
          try space.getUserPagesFastOnly(start, count: count, flags: flags, into: &list)
        case (.slow, true): try space.pinUserPages(start, count: count, flags: flags, into: &list)
        case (.slow, false): try space.getUserPages(start, count: count, flags: flags, into: &list)
        }
      held[hold] = (0..<result.pageCount).compactMap { list[$0] }
      pins[hold] = how.pins
      return Outcome(pageCount: result.pageCount)
    } catch {
      return Outcome(refusal: try Outcome.Refusal(error))
    }
  }

  private func release(_ hold: Int) {
    for page in held[hold] {
      if pins[hold] { unpinUserPage(page) } else { putPage(page) }
    }
    held[hold] = []
  }
}

extension Access {
  var protection: Protection {
    switch self {
    case .none: .none
    case .read: .readOnly
    case .readWrite: .readWrite
    }
  }
}

extension FolioWish {
  fileprivate var size: FolioSize {
    switch self {
    case .base: .base
    case .order(let order): .order(order)
    case .leaf: .huge
    }
  }
}

extension ModelAdvice {
  fileprivate var advice: Advice {
    switch self {
    case .dontNeed: .dontNeed
    case .free: .free
    case .dontFork: .dontFork
    case .doFork: .doFork
    case .wipeOnFork: .wipeOnFork
    case .keepOnFork: .keepOnFork
    case .populateRead: .populateRead
    case .populateWrite: .populateWrite
    }
  }
}

extension Outcome.Refusal {
  init(_ error: MemoryError) throws {
    switch error.number {
    case .badAddress: self = .badAddress
    case .outOfMemory: self = .outOfMemory
    case .invalid: self = .invalid
    case .tryAgain: self = .tryAgain
    case .busy: self = .busy
    case .exists: self = .exists
    case .notSupported: self = .notSupported
    default: throw error
    }
  }
}
