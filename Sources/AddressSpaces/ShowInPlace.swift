//===----------------------------------------------------------------------===//
// ShowInPlace: puts a view where the program's own memory stands. Each run of
// pages is mapped aside and then moved over its place in one step, so that at no
// time nothing is there; pages that may be read can be read at every moment.
//
// Under the mmap lock. Nobody stores there meanwhile.
//===----------------------------------------------------------------------===//

internal import CShims
internal import Events
internal import PageFrames

extension MM {
  /// Pages next to each other that one host mapping shows.
  private struct Piece {
    var start: UInt64
    var end: UInt64
    var view: PageView
    var frame: UInt64?
  }

  /// Shows [start, end) of one area as the page table has it. Returns an errno or
  /// 0, and how far the view stands in the memory's place.
  func showInPlace(_ start: UInt64, _ end: UInt64) -> (done: UInt64, error: Int32) {
    var address = start
    while address < end {
      let piece = nextPiece(address, end)
      let (moved, error) = show(piece)
      if error != 0 { return (moved ? piece.end : piece.start, error) }
      address = piece.end
    }
    return (end, 0)
  }

  private func nextPiece(_ start: UInt64, _ end: UInt64) -> Piece {
    var piece = page(start)
    while piece.end < end {
      let next = page(piece.end)
      let distance = (piece.end - piece.start) >> 12
      guard next.view == piece.view, next.frame == piece.frame.map({ $0 + distance }) else {
        break
      }
      piece.end = next.end
    }
    return piece
  }

  /// One page's piece. The zero page is left to the first touch.
  private func page(_ address: UInt64) -> Piece {
    let area = unsafe area(containing: address)
    let value = unsafe entry(at: address).map { unsafe cshims_pte_load($0) } ?? 0
    let (view, frame) = unsafe target(value, address, area)
    if view.isEmpty || view.contains(.zero) {
      return Piece(
        start: address, end: address + 4096, view: [],
        frame: unsafe area?.pointee.home(of: address))
    }
    return Piece(start: address, end: address + 4096, view: view, frame: frame)
  }

  private func show(_ piece: Piece) -> (moved: Bool, error: Int32) {
    if unsafe machine.header.fails(at: .hostMapping) {
      return (false, ErrorNumber.outOfMemory.rawValue)
    }
    let length = piece.end - piece.start
    let isShown = piece.view.contains(.shown)
    let isWritable = piece.view.contains(.writable)
    let protection: UInt32 = isWritable ? 3 : isShown ? 1 : 0
    var base: UInt64 = 0
    var error = unsafe counted(
      cshims_view_aside(
        length, protection, machine.header.pointee.memfd, (piece.frame ?? 0) << 12, isShown,
        &base))
    guard error == 0 else { return (false, error) }
    error = counted(cshims_move_over(base, length, piece.start))
    guard error == 0 else {
      _ = counted(cshims_unmap(base, length))
      return (false, error)
    }
    if usesUserfaultfd, piece.frame != nil {
      error = counted(cshims_userfaultfd_register(userfaultfd, piece.start, length))
      if error == 0, isShown, !isWritable {
        error = install(piece.start, length, protected: true)
      }
      if error == 0, !isWritable {
        error = counted(cshims_protect(piece.start, length, CSHIMS_PROT_READ_WRITE))
      }
    }
    if error == 0 { note(piece) }
    return (true, error)
  }

  private func note(_ piece: Piece) {
    var address = piece.start
    while address < piece.end {
      let stop = Self.tableEnd(address, piece.end)
      // Made when the memory was adopted.
      if let stretch = unsafe stretch(at: address, create: false) {
        unsafe record(piece.view, address, stop, stretch)
      }
      address = stop
    }
  }
}
