//===----------------------------------------------------------------------===//
// Program: one process of a play, its buffer, and how it touches it. Its loads
// and stores are plain machine instructions through its pointer, and fault by
// the machine's trap; without a trap they are explicit copies.
//===----------------------------------------------------------------------===//

import SwiftGUP

/// A process with one buffer.
final class Program {
  let name: String
  let space: AddressSpace
  let address: UserAddress
  let pageCount: Int
  /// What an address of the buffer is that leads into no area.
  let unmapped: String
  private(set) var hasExited = false

  init(
    name: String, space: AddressSpace, address: UserAddress, pageCount: Int,
    unmapped: String = "not mapped"
  ) {
    (self.name, self.space, self.address, self.pageCount) = (name, space, address, pageCount)
    self.unmapped = unmapped
  }

  /// The page that one of the buffer's addresses leads to now.
  func page(_ index: Int = 0) -> Page? { space.page(at: address + .pages(index)) }

  /// Ends the process.
  func exit() {
    hasExited = true
    space.exit()
  }

  /// Stores a word at the start of a page.
  func store(_ word: String, page index: Int = 0) throws {
    let bytes = Array(word.utf8) + [UInt8](repeating: 0, count: Stage.wordLength - word.utf8.count)
    let target = address + .pages(index)
    if space.memory.trapTier == .none {
      try unsafe bytes.withUnsafeBytes { try unsafe space.copyToUser(target, from: $0) }
    } else {
      let pointer = unsafe space.pointer(at: target)
      for i in bytes.indices {
        unsafe pointer.storeBytes(of: bytes[i], toByteOffset: i, as: UInt8.self)
      }
    }
  }

  /// What the program reads at the start of a page.
  /// - Throws: EFAULT by the trap `none` for an address that is not mapped;
  ///   by any other the program would end, so ask `tryToRead` there.
  func read(page index: Int = 0) throws -> String {
    guard space.memory.trapTier != .none else { return try tryToRead(page: index) }
    let pointer = unsafe space.pointer(at: address + .pages(index))
    return shown(
      (0..<2 * Stage.wordLength).map { unsafe pointer.load(fromByteOffset: $0, as: UInt8.self) })
  }

  /// The same as a system call would read it: an address that is not mapped is
  /// an error and not the program's end.
  func tryToRead(page index: Int = 0) throws(MemoryError) -> String {
    let bytes = UnsafeMutableRawBufferPointer.allocate(
      byteCount: 2 * Stage.wordLength, alignment: 16)
    defer { unsafe bytes.deallocate() }
    try unsafe space.copyFromUser(bytes, from: address + .pages(index))
    return shown(unsafe Array(bytes))
  }
}

/// Bytes as they are shown: letters as they are, all else as a dot.
func shown(_ bytes: [UInt8]) -> String {
  String(
    bytes.map { 0x21..<0x7f ~= $0 ? Character(UnicodeScalar($0)) : "." })
}
