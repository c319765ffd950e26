//===----------------------------------------------------------------------===//
// Area: a stretch of an address space with one protection and one backing (the
// kernel's vm_area_struct). What the program asked for; the page table holds
// what is there.
//
// Home and cache positions are kept as differences to the page number, not to
// the area's start: splitting and merging areas then changes nothing but the
// bounds.
//===----------------------------------------------------------------------===//

public import PageFrames

/// What a program may do with an area, as in mmap(2).
public struct Protection: OptionSet, Hashable, Sendable {
  public let rawValue: UInt32
  public init(rawValue: UInt32) { self.rawValue = rawValue }

  public static let read = Protection(rawValue: 1)
  public static let write = Protection(rawValue: 2)
  public static let execute = Protection(rawValue: 4)

  public static let none: Protection = []
  public static let readOnly: Protection = .read
  public static let readWrite: Protection = [.read, .write]
}

/// Who sees what is stored into an area.
public enum Sharing: Sendable, Hashable {
  /// This address space alone: copy-on-write after fork (MAP_PRIVATE).
  case `private`
  /// Everybody who maps the same object (MAP_SHARED).
  case shared
}

/// Where to map.
public enum Placement: Sendable, Hashable {
  /// Wherever there is room.
  case anywhere
  /// Here if there is room, anywhere else.
  case hint(UserAddress)
  /// Here; areas of this address space that are in the way are unmapped
  /// (MAP_FIXED). What belongs to others in the process is never touched.
  case fixed(UserAddress)
  /// Here or not at all (MAP_FIXED_NOREPLACE).
  case fixedNoReplace(UserAddress)
}

/// Properties of an area (VM_* flags).
@frozen
public struct AreaFlags: OptionSet, Hashable, Sendable, BitwiseCopyable {
  public let rawValue: UInt32
  @inlinable
  public init(rawValue: UInt32) { self.rawValue = rawValue }

  @inlinable public static var read: Self { Self(rawValue: 1 << 0) }
  @inlinable public static var write: Self { Self(rawValue: 1 << 1) }
  @inlinable public static var execute: Self { Self(rawValue: 1 << 2) }
  @inlinable public static var mayRead: Self { Self(rawValue: 1 << 3) }
  @inlinable public static var mayWrite: Self { Self(rawValue: 1 << 4) }
  @inlinable public static var mayExecute: Self { Self(rawValue: 1 << 5) }
  @inlinable public static var shared: Self { Self(rawValue: 1 << 6) }
  /// fork leaves it out (VM_DONTCOPY).
  @inlinable public static var dontFork: Self { Self(rawValue: 1 << 7) }
  /// A child finds it empty.
  @inlinable public static var wipeOnFork: Self { Self(rawValue: 1 << 8) }
  /// Maps a device.
  @inlinable public static var io: Self { Self(rawValue: 1 << 9) }
  /// Maps frames without pages.
  @inlinable public static var pfnMap: Self { Self(rawValue: 1 << 10) }
  @inlinable public static var secret: Self { Self(rawValue: 1 << 11) }
  /// Its file must hear of writes (LONGTERM write pins are refused).
  @inlinable public static var dirtyTracking: Self { Self(rawValue: 1 << 12) }
  /// Maps a file system's own memory directly.
  @inlinable public static var fsdax: Self { Self(rawValue: 1 << 13) }
  /// Private memory without an object (vma_is_anonymous).
  @inlinable public static var anonymous: Self { Self(rawValue: 1 << 14) }
  @inlinable public static var hugetlb: Self { Self(rawValue: 1 << 15) }
  /// Wants 2 MiB leaves (VM_HUGEPAGE).
  @inlinable public static var hugePage: Self { Self(rawValue: 1 << 16) }
  /// Must not be collapsed into them (VM_NOHUGEPAGE).
  @inlinable public static var noHugePage: Self { Self(rawValue: 1 << 17) }
  /// The order of the folios it wants behind small entries, 0 for none.
  static var folioOrderMask: Self { Self(rawValue: 15 << folioOrderShift) }
  static var folioOrderShift: UInt32 { 20 }
  /// Stays in memory (mlock). It may be moved: that is no pin.
  @inlinable public static var locked: Self { Self(rawValue: 1 << 24) }
  /// Pages are locked when they are first touched (mlock2 with MLOCK_ONFAULT).
  @inlinable public static var lockedOnFault: Self { Self(rawValue: 1 << 25) }
  /// Its pages come from frames that must stay movable (ZONE_MOVABLE).
  @inlinable public static var movable: Self { Self(rawValue: 1 << 26) }

  /// The program's own memory, moved into frames where it stands.
  @inlinable public static var adopted: Self { Self(rawValue: 1 << 18) }

  // By their bits: without optimisation a literal of a set allocates, and these are
  // looked at on the fault path.
  static var anyAccess: AreaFlags { AreaFlags(rawValue: 7) }
  static var mayAccess: AreaFlags { AreaFlags(rawValue: 7 << 3) }
  static var lockFlags: AreaFlags { AreaFlags(rawValue: 3 << 24) }
  /// A device's memory: io, pfnMap.
  static var device: AreaFlags { AreaFlags(rawValue: 3 << 9) }
  /// Areas whose pages are not memory as others are, never locked or populated:
  /// a device's, secret, fsdax, hugetlb.
  static var special: AreaFlags { AreaFlags(rawValue: 3 << 9 | 1 << 11 | 1 << 13 | 1 << 15) }
  /// hugePage, noHugePage and the folio order.
  static var allFolioFlags: AreaFlags {
    AreaFlags(rawValue: 3 << 16 | 15 << folioOrderShift)
  }
  var access: AreaFlags { intersection(.anyAccess) }

  init(access protection: Protection) {
    var flags: AreaFlags = []
    if protection.contains(.read) { flags.insert(.read) }
    if protection.contains(.write) { flags.insert(.write) }
    if protection.contains(.execute) { flags.insert(.execute) }
    self = flags
  }
}

/// An area. Lives in its address space's tree, valid under the mmap lock.
public struct Area: BitwiseCopyable {
  /// First address, and one past the last: multiples of the page size.
  public var start: UInt64
  public var end: UInt64
  public var flags: AreaFlags
  /// The frame number that page number 0 would have as its home; a page's home
  /// is this plus its page number. `noHome` where the area has no span.
  var homeBase: UInt64
  /// The same of a second span, for pages whose home is somebody else's; `noHome`
  /// until one is needed.
  var secondBase = Area.noHome
  /// The page cache behind it, as an address in the metadata mapping, or 0.
  var cache: UInt
  /// The cache index that page number 0 would have.
  var cacheBase: UInt64

  static let noHome = UInt64.max

  /// Stores go to a copy of the program's own (is_cow_mapping): private, and
  /// may be made writable.
  public var isCopyOnWrite: Bool { !flags.contains(.shared) && flags.contains(.mayWrite) }

  public var protection: Protection {
    var protection: Protection = []
    if flags.contains(.read) { protection.insert(.read) }
    if flags.contains(.write) { protection.insert(.write) }
    if flags.contains(.execute) { protection.insert(.execute) }
    return protection
  }

  /// The home frame of a user address, if the area has a span.
  func home(of address: UInt64) -> UInt64? {
    homeBase == Area.noHome ? nil : homeBase &+ (address >> 12)
  }

  /// The frame at the same index of the second span, if there is one.
  func secondHome(of address: UInt64) -> UInt64? {
    secondBase == Area.noHome ? nil : secondBase &+ (address >> 12)
  }

  /// What a store into untouched memory of it brings in.
  public var folios: FolioSize { flags.folios }

  func cacheIndex(of address: UInt64) -> UInt64 { cacheBase &+ (address >> 12) }

  /// May a neighbour that starts where this one ends become one with it?
  func merges(with next: Area) -> Bool {
    end == next.start && flags == next.flags && homeBase == next.homeBase
      && secondBase == next.secondBase && cache == next.cache && cacheBase == next.cacheBase
      && !flags.contains(.adopted)
  }
}
