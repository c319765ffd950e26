//===----------------------------------------------------------------------===//
// Machine: an unowned handle on a machine's shared metadata, for code that must
// not retain or release (the fault path, the hot loops, put_page from a page
// alone). `PhysicalMemory` owns what it points to.
//
//   metadata mapping   header | zone | frame records | descriptors | arena
//   window             frames 0 ... frame_count, mapped once and for ever
//
// Frames 0 to 511 are never allocated: frame 0 is the zero page, and the whole
// aligned 2 MiB shows it in user views (see AddressSpaces/HostView.swift).
//===----------------------------------------------------------------------===//

public import CShims
internal import Events

/// An unowned handle on a machine. Copying it is copying a pointer.
@frozen @safe
public struct Machine: @unchecked Sendable {
  public let header: UnsafeMutablePointer<cshims_machine>

  @inlinable
  public init(_ header: UnsafeMutablePointer<cshims_machine>) { unsafe self.header = header }

  /// Does the machine belong to this process? In a copy of the process that made
  /// it (fork(2), a bare clone(2)) it does not.
  @inlinable
  public var isOwn: Bool { unsafe cshims_membership_of(header) != CSHIMS_MACHINE_FOREIGN.rawValue }

  /// ESRCH, naming the process that made the machine.
  package var otherProcess: MemoryError {
    MemoryError(.noSuchProcess, .otherProcess, UInt64(unsafe header.pointee.owner_id))
  }

  /// The machine that a page belongs to.
  @inlinable
  public init(of page: Page) {
    unsafe self.header = cshims_machine_of(page.descriptor)
  }

  /// Frames that are never handed out: they show the zero page.
  @inlinable
  public static var reservedFrames: UInt64 { 512 }

  @inlinable
  public var frameCount: UInt64 { unsafe header.pointee.frame_count }

  @inlinable
  public var zeroPage: Page { unsafe Page(header.pointee.pages + Int(header.pointee.zero_frame)) }

  /// The page of a frame. The number must be one of this machine's.
  @inlinable
  public func page(_ frame: UInt64) -> Page { unsafe Page(header.pointee.pages + Int(frame)) }

  /// The bytes of a frame through the window (page_address).
  @inlinable
  public func address(ofFrame frame: UInt64) -> UnsafeMutableRawPointer {
    unsafe UnsafeMutableRawPointer(header.pointee.window) + Int(frame << 12)
  }

  /// The memory that page tables, areas and index nodes come from.
  public var arena: Arena { unsafe Arena(at: header.pointee.arena) }

  @inlinable
  public func count(_ counter: cshims_counter, _ n: Int) {
    unsafe cshims_count(header, counter, UInt64(n))
  }
}

extension Machine: Equatable {
  @inlinable
  public static func == (a: Machine, b: Machine) -> Bool { unsafe a.header == b.header }
}
