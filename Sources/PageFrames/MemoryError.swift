//===----------------------------------------------------------------------===//
// The one error of the library rooms: an errno as the kernel would return it,
// the reason by name, and the value that was wrong.
//===----------------------------------------------------------------------===//

/// The errno values that this library returns, with Linux's numbers.
public enum ErrorNumber: Int32, Error, Sendable, CaseIterable {
  case notPermitted = 1
  case noEntry = 2
  case interrupted = 4
  case tryAgain = 11
  case outOfMemory = 12
  case accessDenied = 13
  case badAddress = 14
  case busy = 16
  case exists = 17
  case invalid = 22
  case tooManyFiles = 24
  case noSpace = 28
  case overflow = 75
  case notSupported = 95
  case remoteIO = 121
  case poisoned = 133
  case noSuchProcess = 3
  case inputOutput = 5

  /// The name that errno(3) gives it.
  public var name: String {
    switch self {
    case .notPermitted: "EPERM"
    case .noEntry: "ENOENT"
    case .interrupted: "EINTR"
    case .tryAgain: "EAGAIN"
    case .outOfMemory: "ENOMEM"
    case .accessDenied: "EACCES"
    case .badAddress: "EFAULT"
    case .busy: "EBUSY"
    case .exists: "EEXIST"
    case .invalid: "EINVAL"
    case .tooManyFiles: "EMFILE"
    case .noSpace: "ENOSPC"
    case .overflow: "EOVERFLOW"
    case .notSupported: "EOPNOTSUPP"
    case .remoteIO: "EREMOTEIO"
    case .poisoned: "EHWPOISON"
    case .noSuchProcess: "ESRCH"
    case .inputOutput: "EIO"
    }
  }
}

/// Why a call failed, or stopped early, on which value.
///
/// When a call throws one, nothing has changed, unless its documentation says
/// that it keeps the part that was done (as mprotect and madvise do).
public struct MemoryError: Error, Equatable, Sendable {
  /// The errno a C caller gets, negated.
  public let number: ErrorNumber
  public let reason: Reason
  /// The value that was wrong: an address, a length, a count, flags, an errno.
  public let value: UInt64

  public init(_ number: ErrorNumber, _ reason: Reason, _ value: UInt64 = 0) {
    self.number = number
    self.reason = reason
    self.value = value
  }
  public init(_ number: ErrorNumber, _ reason: Reason, _ value: Int) {
    self.init(number, reason, UInt64(bitPattern: Int64(value)))
  }
  public init(_ number: ErrorNumber, _ reason: Reason, _ address: UserAddress) {
    self.init(number, reason, address.rawValue)
  }

  /// Each refusal by its own name.
  public enum Reason: UInt8, Sendable, CaseIterable {
    // Arguments.
    case capacityInvalid
    case lengthNotPositive
    case lengthTooLarge
    case lengthMisaligned
    case addressMisaligned
    case addressOutsideUserSpace
    case addressTaken
    case rangeWraps
    case protectionUnknown
    case adviceUnknown
    case adviceNotApplicable
    case flagsNotForThisCall
    case flagsContradict
    case listMissing
    case listTooShort
    case countNegative
    case tooManySegments
    case segmentTooLong
    case countBeyondSegments
    case countTooLarge
    case positionOutOfRange
    case alignmentInvalid
    case orderInvalid
    case folioOrderInvalid
    case pageLimitZero
    // State.
    case notMapped
    case writeForbidden
    case readForbidden
    case notPresent
    case breakingSharingForbidden
    case fastPathOnly
    case directAccessForbidden
    case anonymousOnly
    case dirtyTrackingNeeded
    case deviceAccess
    case peerToPeerForbidden
    case pageless
    case poisonedPage
    case countOverflow
    case exited
    case otherProcess
    case notJoinable
    case joinedAlready
    case copyMissing
    case copyFailed
    case inUse
    case unsupportedKind
    case otherMachine
    case busError
    // Resources.
    case framesExhausted
    case metadataExhausted
    case pageListExhausted
    case trapUnavailable
    case trapMissing
    case hostRefused
    case injected
    // Refusals of GUP.
    case forcedWriteForbidden
    case forcedReadForbidden
    case hugePageArea
    case fileSystemMemory
    case movablePage
    case framesOutsideMachine
    // Extraction and DMA.
    case transferTooLarge
    case directionMismatch
    case machineMismatch
    case pageNotHeld
    // Consumers of extraction.
    case retentionMismatch
    case pageNotPinned
    case noProgress
    case notExact
    // Kinds of iterators.
    case ringFull
    case ringMoved
    case hole
    case entryNotPage
    case notFolioHead
    case notKernelAddress
    // Moving and locking.
    case rangesOverlap
    case crossesAreas
    case notShared
    case notPrivate
    case lockLimit
    case notAccounted
    // Adoption.
    case sharedMemory
    case machineMemory
    case protectionNotAdoptable
    case stackMemory
    case threadMemory
    case loaderMemory
    case libraryMemory
    case hugePageMemory
    case forkedAddresses
    case notAdopted
    case adoptedMemory
    case joinableMachine
    case adoptionLost
    case pinned
    // The C interface and the ledger.
    case handleInvalid
    case pageInvalid
    case iteratorInvalid
    case extractionInvalid
    case outputMissing
    case argumentUnknown
    case indexOutOfRange
    case holdMissing
    case layoutsDiffer

    /// What is wrong with the value, as a clause that follows it.
    public var text: String {
      switch self {
      case .capacityInvalid: "capacity must be 1 page to 1 TiB in whole pages"
      case .lengthNotPositive: "length must be positive"
      case .lengthTooLarge: "length is more than the address space holds"
      case .lengthMisaligned: "length must be a multiple of the page size"
      case .addressMisaligned: "address must be a multiple of the page size"
      case .addressOutsideUserSpace: "address or range lies outside user space"
      case .addressTaken: "address range is taken by something else in this process"
      case .rangeWraps: "range wraps around the end of the address space"
      case .protectionUnknown: "protection has unknown bits"
      case .adviceUnknown: "advice is not one that madvise knows"
      case .adviceNotApplicable: "advice does not fit this area"
      case .flagsNotForThisCall: "flags hold a bit that this call does not take"
      case .flagsContradict: "flags contradict each other"
      case .listMissing: "a page list is needed for GET and PIN"
      case .listTooShort: "page list has fewer slots than pages were asked for"
      case .countNegative: "count must not be negative"
      case .tooManySegments: "more than 1024 segments"
      case .segmentTooLong: "segment length is negative or overflows"
      case .countBeyondSegments: "count is more than the segments hold"
      case .countTooLarge: "count is more than was constructed"
      case .positionOutOfRange: "position lies outside what the iterator covers"
      case .alignmentInvalid: "alignment must be a power of two"
      case .orderInvalid: "order must be 0 to 10"
      case .folioOrderInvalid: "folio order must be 2 to 9"
      case .pageLimitZero: "page limit is zero on a non-empty request"
      case .notMapped: "no area there"
      case .writeForbidden: "area forbids writing"
      case .readForbidden: "area forbids reading"
      case .notPresent: "page is absent and faults are not allowed"
      case .breakingSharingForbidden: "sharing would have to be broken and faults are not allowed"
      case .fastPathOnly: "the fast walk stopped and falling back is not allowed"
      case .directAccessForbidden: "area is secret or has no pages of its own"
      case .anonymousOnly: "area is not anonymous"
      case .dirtyTrackingNeeded: "area's file tracks dirtying; it cannot be pinned for long writing"
      case .deviceAccess: "area maps a device"
      case .peerToPeerForbidden: "peer-to-peer page without the flag for it"
      case .pageless: "frame has no page"
      case .poisonedPage: "page is poisoned"
      case .countOverflow: "reference count is not positive or would overflow"
      case .exited: "address space has exited"
      case .notJoinable: "machine was not made joinable"
      case .joinedAlready: "belongs to this process already"
      case .copyMissing: "no copy was made for this process, or it has joined by it (owner's id)"
      case .copyFailed: "the copy for this process could not be made (errno)"
      case .otherProcess: "belongs to another process (its id), which this one is a copy of"
      case .inUse: "still in use"
      case .unsupportedKind: "this kind of iterator cannot be extracted"
      case .otherMachine: "belongs to another machine"
      case .busError: "page cannot be brought in"
      case .framesExhausted: "physical memory is exhausted"
      case .metadataExhausted: "metadata memory is exhausted"
      case .pageListExhausted: "page list could not be allocated"
      case .trapUnavailable: "this trap tier does not work here (errno)"
      case .trapMissing: "without a trap nothing can hold stores up while memory is adopted"
      case .hostRefused: "the host kernel refused (errno)"
      case .injected: "failure injected at this point"
      case .forcedWriteForbidden: "area forbids writing, and no private copy can be forced"
      case .forcedReadForbidden: "area may never be read, forced or not"
      case .hugePageArea: "area of huge pages cannot be forced or split"
      case .fileSystemMemory: "area maps a file system's own memory; no long-term pins"
      case .movablePage: "page must stay movable; it cannot be pinned for long"
      case .framesOutsideMachine: "range of frames reaches outside the machine"
      case .transferTooLarge: "more bytes than one transfer may move (0x7ffff000)"
      case .directionMismatch: "transfer runs against the direction the memory is held for"
      case .machineMismatch: "page belongs to another machine (frame)"
      case .pageNotHeld: "nobody holds this frame"
      case .retentionMismatch: "pages would be held otherwise than those that are there"
      case .pageNotPinned: "page is not pinned (frame)"
      case .noProgress: "nothing can be extracted at this position, or no whole block"
      case .notExact: "not all bytes could be had, only this many"
      case .ringFull: "pipe has no free buffer"
      case .ringMoved: "pipe's ring does not end where the iterator stands"
      case .hole: "no page at this index"
      case .entryNotPage: "entry at this index is not a page"
      case .notFolioHead: "page is not the first of its folio (frame)"
      case .notKernelAddress: "address lies neither in the window nor in a virtual mapping"
      case .rangesOverlap: "old and new range overlap"
      case .crossesAreas: "range reaches into another area"
      case .notShared: "only shared memory can be shown a second time"
      case .notPrivate: "secret memory is shared memory"
      case .lockLimit: "more pages would be locked than the limit allows"
      case .notAccounted: "more pages than were accounted"
      case .sharedMemory: "memory is shared by its mapping; only private memory can be adopted"
      case .machineMemory: "memory is a machine's already: adopted, a view or a window"
      case .protectionNotAdoptable:
        "memory is executable, inaccessible, or not all of one protection"
      case .stackMemory: "memory is the process's stack"
      case .threadMemory: "memory holds a thread's stack or thread-local data"
      case .loaderMemory: "memory is the loader's, the C library's, a runtime's or the kernel's"
      case .libraryMemory:
        "page may hold this library's own variables; align the buffer to whole pages"
      case .hugePageMemory: "memory has huge pages"
      case .forkedAddresses: "a forked address space's addresses are not the program's"
      case .notAdopted: "nothing adopted there, or it was released"
      case .joinableMachine: "a joinable machine adopts no memory"
      case .adoptedMemory: "adopted memory stays where the program has it"
      case .adoptionLost: "the program has unmapped adopted memory"
      case .pinned: "page is pinned"
      case .handleInvalid: "handle is NULL, of another kind, or destroyed"
      case .pageInvalid: "pointer is NULL or no page of a machine that lives"
      case .iteratorInvalid: "no iterator, or what it was made of is gone"
      case .extractionInvalid: "no extraction, or one that was released"
      case .outputMissing: "no place was given for what the call yields"
      case .argumentUnknown: "no such value of this argument"
      case .indexOutOfRange: "index is beyond the last one"
      case .holdMissing: "page has no such hold to drop, says the ledger (frame)"
      case .layoutsDiffer: "library and gup.h lay out their structs differently"
      }
    }
  }
}

extension MemoryError: CustomStringConvertible {
  public var description: String {
    "\(number.name): \(reason.text): \(value) (0x\(String(value, radix: 16)))"
  }
}

extension MemoryError {
  /// The error for an errno that the host returned.
  public static func host(_ errno: Int32) -> MemoryError {
    let number: ErrorNumber =
      switch errno {
      case 12: .outOfMemory
      case 17: .exists
      case 11: .tryAgain
      case 13: .accessDenied
      case 28: .noSpace
      case 16: .busy
      case 24: .tooManyFiles
      default: .invalid
      }
    return MemoryError(number, .hostRefused, Int(errno))
  }
}
