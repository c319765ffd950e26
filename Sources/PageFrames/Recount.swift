//===----------------------------------------------------------------------===//
// Recount: makes every frame's counts, and the allocator's lists, what the living
// processes hold. It is how a dead one's pins, references and mappings go, and
// whatever it was in the midst of when it was killed.
//
// Runs while the gate is closed, so nothing moves: a page's counts are what its
// mappings, its page cache and the notes say, and a frame that none of them names
// is free. What it works with is memory of its own, two words a frame, touched
// only where something is held.
//
// Lock: the zone lock, during `apply`.
//===----------------------------------------------------------------------===//

internal import CShims

@safe
package struct Recount: ~Copyable {
  private let machine: Machine
  private let base: UnsafeMutableRawPointer
  private let byteCount: UInt64
  private var references: UnsafeMutablePointer<UInt32>
  private var maps: UnsafeMutablePointer<UInt32>

  /// nil when the host has no address space for it.
  package init?(_ machine: Machine) {
    let bytes = machine.frameCount * 8
    var memory: UnsafeMutableRawPointer?
    guard unsafe cshims_anonymous(bytes, &memory) == 0, let memory = unsafe memory else {
      return nil
    }
    self.machine = machine
    unsafe base = memory
    byteCount = bytes
    let count = Int(machine.frameCount)
    unsafe references = memory.bindMemory(to: UInt32.self, capacity: 2 * count)
    unsafe maps = references + count
  }

  /// Gives its memory back. No deinit: an embedded build wants that of a move-only
  /// value in sight wherever it is used.
  package consuming func end() {
    _ = unsafe cshims_unmap(UInt64(UInt(bitPattern: base)), byteCount)
  }

  /// A page-table entry shows this frame.
  package func addMapping(_ frame: UInt64) {
    guard frame < machine.frameCount else { return }
    unsafe maps[Int(frame)] += 1
    addReference(frame)
  }

  /// A 2 MiB leaf shows the folio that begins with this frame.
  package func addLeaf(_ frame: UInt64) {
    guard frame < machine.frameCount - 1 else { return }
    addReference(frame)
    // A tail has no references: its word counts the leaves.
    unsafe references[Int(frame) + 1] += 1
  }

  /// A page cache has this frame.
  package func addReference(_ frame: UInt64) {
    guard frame < machine.frameCount else { return }
    unsafe references[Int(machine.page(frame).folioHead.frame)] += 1
  }

  /// Adds what the process in a slot has noted.
  package func addNotes(_ slot: Int) {
    machine.forEachSeenFrame { frame in
      let plain = unsafe cshims_note_load(cshims_note_of(machine.header, Int32(slot), frame, false))
      let pins = unsafe cshims_note_load(cshims_note_of(machine.header, Int32(slot), frame, true))
      if plain | pins == 0 { return }
      let bias = machine.page(frame).folioOrder == 0 ? CSHIMS_PIN_BIAS : 1
      unsafe references[Int(frame)] &+= plain &+ pins &* bias
    }
  }

  /// Forgets the notes of a slot.
  package func clearNotes(_ slot: Int) {
    machine.forEachSeenFrame { frame in
      unsafe cshims_note_clear(cshims_note_of(machine.header, Int32(slot), frame, false))
      unsafe cshims_note_clear(cshims_note_of(machine.header, Int32(slot), frame, true))
    }
    unsafe cshims_member_close_books(machine.header, Int32(slot))
  }

  /// Puts every frame right. `living` are the slots whose notes were added.
  package func apply(living: UInt32) {
    // The machine itself has the zero page.
    let zero = machine.zeroPage
    unsafe cshims_page_restore(zero.descriptor, 1 + references[0], 0, 0)
    machine.rebuildZone { frame in
      let page = machine.page(frame)
      let held = unsafe references[Int(frame)]
      guard held > 0 else { return nil }
      let order = page.isFree ? 0 : page.folioOrder
      var pins: UInt32 = 0
      if order > 0 {
        for slot in 0..<Int(CSHIMS_MEMBERS) where living & 1 << UInt32(slot) != 0 {
          pins += unsafe cshims_note_load(cshims_note_of(machine.header, Int32(slot), frame, true))
        }
      }
      unsafe cshims_page_restore(page.descriptor, held, pins, maps[Int(frame)])
      for i in 1..<max(1, UInt64(1) << UInt64(order)) {
        unsafe cshims_page_restore(
          machine.page(frame + i).descriptor, CSHIMS_REF_FREE,
          i == 1 ? references[Int(frame) + 1] : 0, maps[Int(frame + i)])
      }
      return 1 << order
    }
  }
}
