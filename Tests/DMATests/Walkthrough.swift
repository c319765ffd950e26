//===----------------------------------------------------------------------===//
// The steps of docs/walkthrough.md. What stands between STEP and SHOW is what
// the document shows, word for word; what SHOW draws is what stands after it
// there. WalkthroughTests.swift compares both.
//===----------------------------------------------------------------------===//

import AddressSpaces
import DMA
import GUP
import PageFrames
import TestSupport
import Testing

/// The program: plain loads and stores through the pointers it was given.
private func store(_ text: String, at address: UserAddress, in space: AddressSpace) {
  let bytes = Array(text.utf8)
  for i in bytes.indices { space.store(bytes[i], at: address + ByteCount(i)) }
}

private func load(_ count: Int, at address: UserAddress, in space: AddressSpace) -> String {
  String(decoding: (0..<count).map { space.load(address + ByteCount($0)) }, as: UTF8.self)
}

/// Takes a picture and the address spaces it is of.
typealias Show = (_ picture: [String], _ spaces: [AddressSpace]) -> Void

/// A buffer, its faults, a pin, a device, and a munmap that does not wait.
func walkOneBuffer(_ tier: TrapTier, _ show: Show) throws {
  // STEP
  let memory = try PhysicalMemory(capacity: .mebibytes(16), trapTier: tier)
  let space = try AddressSpace(memory: memory)
  let a = try space.map(length: .pages(4))
  // SHOW
  var picture = Picture(of: memory)
  show(picture.lines([space]), [space])

  // STEP
  _ = load(1, at: a, in: space)
  // SHOW
  show(picture.lines([space]), [space])

  // STEP
  store("program", at: a, in: space)
  // SHOW
  show(picture.lines([space]), [space])

  // STEP
  try space.protect(a, length: .pages(1), .readOnly)
  // SHOW
  show(picture.lines([space]), [space])

  // STEP
  try space.protect(a, length: .pages(1), .readWrite)
  var pages = try PageBuffer(capacity: 2)
  let result = try space.pinUserPagesFast(a, count: 2, flags: .write, into: &pages)
  #expect(result.pageCount == 2)
  // SHOW
  show(picture.lines([space]), [space])

  // STEP
  let device = DMAEngine(memory: memory)
  try device.write(Array("device".utf8), to: pages[0]!, offset: 8)
  try device.write(Array("device".utf8), to: pages[1]!)
  #expect(load(6, at: a + 8, in: space) == "device")
  // SHOW
  show(picture.lines([space]), [space])

  // STEP
  try space.unmap(a, length: .pages(4))
  // SHOW
  show(picture.lines([space]), [space])

  // STEP
  try device.write(Array("late".utf8), to: pages[0]!, offset: 8)
  unpinUserPagesDirtyLock(&pages, dirty: true)
  // SHOW
  show(picture.lines([space]), [space])
}

/// A fork under a pin.
func walkOneFork(_ tier: TrapTier, _ show: Show) throws {
  // STEP
  let memory = try PhysicalMemory(capacity: .mebibytes(16), trapTier: tier)
  let parent = try AddressSpace(memory: memory)
  let a = try parent.map(length: .pages(2))
  store("first", at: a, in: parent)
  store("second", at: a + .pages(1), in: parent)
  var pages = try PageBuffer(capacity: 1)
  _ = try parent.pinUserPagesFast(a, count: 1, flags: .write, into: &pages)
  // SHOW
  var picture = Picture(of: memory)
  show(picture.lines([parent]), [parent])

  // STEP
  let child = try parent.fork()
  // SHOW
  show(picture.lines([parent, child]), [parent, child])

  // STEP
  store("FIRST", at: a, in: parent)
  store("SECOND", at: a + .pages(1), in: parent)
  try DMAEngine(memory: memory).write(Array("device".utf8), to: pages[0]!, offset: 8)
  #expect(load(6, at: a + 8, in: parent) == "device")
  #expect(load(5, at: a, in: child) == "first")
  #expect(load(6, at: a + .pages(1), in: child) == "second")
  // SHOW
  show(picture.lines([parent, child]), [parent, child])

  // STEP
  store("forked", at: a + .pages(1), in: child)
  unpinUserPages(&pages)
  // SHOW
  show(picture.lines([parent, child]), [parent, child])

  // STEP
  child.exit()
  parent.exit()
  // SHOW
  show(picture.lines([parent, child]), [parent, child])
}
