//===----------------------------------------------------------------------===//
// A scene for the fork scenarios of semantics D.6: a parent with one written
// page X, a device that holds it, and children. X is a page of its own, or one in
// the middle of a folio. Bytes live at fixed places of the page, so that "who sees
// what" is one line a person.
//===----------------------------------------------------------------------===//

import AddressSpaces
import CShims
import GUP
import PageFrames
import TestSupport
import Testing

/// How the page is acquired, how the program touches memory, and what the page
/// is part of.
struct ForkCase: Sendable, CustomTestStringConvertible {
  let hold: PageHold
  let tier: TrapTier
  var backing = FolioSize.base

  /// Single pages.
  static let all: [ForkCase] = cases([.base])
  /// Those, a folio behind small entries, and a leaf.
  static let onEveryBacking: [ForkCase] = cases([.base, .order(4), .huge])

  private static func cases(_ backings: [FolioSize]) -> [ForkCase] {
    [PageHold.reference, .pin].flatMap { hold in
      backings.flatMap { backing in
        TrapTier.all.map { ForkCase(hold: hold, tier: $0, backing: backing) }
      }
    }
  }
  var isPin: Bool { hold == .pin }
  var testDescription: String {
    "\(isPin ? "PIN" : "GET"), \(tier == .none ? "explicit faults" : "\(tier)"), \(backing)"
  }
}

/// What a process sees of the page.
struct Sight: Equatable, CustomStringConvertible {
  /// The byte that was there from the start, or what its owner stored over it.
  var stored: UInt8
  /// The byte that the device writes.
  var device: UInt8

  /// As it was at the fork.
  static let original = Sight(stored: 0x11, device: 0x22)
  func storing(_ value: UInt8) -> Sight { Sight(stored: value, device: device) }
  var withDeviceBytes: Sight { Sight(stored: stored, device: Scene.deviceByte) }
  var description: String { "stored \(stored), device \(device)" }
}

/// A machine with a parent that has one page of its own, all given back at the end.
final class Scene {
  static let storedAt: ByteCount = 8
  static let deviceAt: ByteCount = 2048
  static let deviceByte: UInt8 = 0xdd

  let memory: PhysicalMemory
  let parent: AddressSpace
  /// The area, one folio long, and the page in it that everything is about.
  let start: UserAddress
  let address: UserAddress
  let testCase: ForkCase
  private var held: [(page: Page, hold: PageHold)] = []

  /// Runs a scenario and settles the accounts.
  static func run(
    _ testCase: ForkCase, capacity: ByteCount = .mebibytes(8), sharing: Sharing = .private,
    of kind: MemoryKind = .ordinary, _ body: (Scene) throws -> Void
  ) throws {
    try withMachine(capacity: capacity, tier: testCase.tier) { memory in
      let scene = try Scene(memory, testCase, sharing, kind)
      try body(scene)
      scene.releaseAll()
      scene.parent.exit()
    }
  }

  private init(
    _ memory: PhysicalMemory, _ testCase: ForkCase, _ sharing: Sharing, _ kind: MemoryKind
  ) throws {
    self.memory = memory
    self.testCase = testCase
    parent = try AddressSpace(memory: memory)
    let folio = testCase.backing
    start = try parent.map(
      length: folio.pageCount.byteCount, sharing: sharing, folios: folio, of: kind)
    address = start + .pages(folio.pageCount.rawValue / 3)
    try store(Sight.original.stored, by: parent)
    try put(Sight.original.device, at: address + Scene.deviceAt, by: parent)
  }

  // MARK: - What processes do

  func store(_ value: UInt8, by process: AddressSpace) throws {
    try put(value, at: address + Scene.storedAt, by: process)
  }

  /// A native store where the tier traps them, an explicit one otherwise.
  private func put(_ value: UInt8, at address: UserAddress, by process: AddressSpace) throws {
    if testCase.tier == .none {
      try process.write([value], to: address)
    } else {
      process.store(value, at: address)
    }
  }

  func sight(of process: AddressSpace) throws -> Sight {
    if testCase.tier == .none {
      return try Sight(
        stored: process.read(1, at: address + Scene.storedAt)[0],
        device: process.read(1, at: address + Scene.deviceAt)[0])
    }
    return Sight(
      stored: process.load(address + Scene.storedAt),
      device: process.load(address + Scene.deviceAt))
  }

  // MARK: - What devices do

  /// Acquires the page for a device, by GET or PIN as the case says.
  @discardableResult
  func acquire(_ process: AddressSpace, flags: GUPFlags) throws -> Page {
    var list = try PageBuffer(capacity: 1)
    let result =
      testCase.isPin
      ? try process.pinUserPagesFast(address, count: 1, flags: flags, into: &list)
      : try process.getUserPagesFast(address, count: 1, flags: flags, into: &list)
    try #require(result.pageCount == 1)
    let page = try #require(list[0])
    held.append((page, testCase.hold))
    return page
  }

  func deviceWrites(_ page: Page) { unsafe page.bytes[Scene.deviceAt.rawValue] = Scene.deviceByte }
  func deviceReads(_ page: Page) -> Sight {
    unsafe Sight(
      stored: page.bytes[Scene.storedAt.rawValue], device: page.bytes[Scene.deviceAt.rawValue])
  }

  func releaseAll() {
    for (page, hold) in held {
      if hold == .pin { unpinUserPage(page) } else { putPage(page) }
    }
    held = []
  }
}
