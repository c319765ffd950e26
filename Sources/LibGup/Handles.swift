//===----------------------------------------------------------------------===//
// Handles: what a C caller's number means, and how a call through one ends. The
// object behind a handle is retained by it; a call through the handle counts
// nothing, so that one page's pin stays as cheap as the walk.
//
// Every function of gup.h stands in one of this folder's files, by the part of
// the header it belongs to. The compiler holds each against its declaration.
//===----------------------------------------------------------------------===//

internal import AddressSpaces
internal import CShims
internal import DMA
internal import PageExtraction
internal import PageFrames

/// A class whose objects have handles.
protocol Handled: AnyObject {
  static var kind: cshims_handle_kind { get }
  /// What calls read without going through the object.
  var state: UnsafeMutableRawPointer? { get }
}

extension Handled {
  var state: UnsafeMutableRawPointer? { nil }
}

extension PhysicalMemory: Handled {
  static var kind: cshims_handle_kind { CSHIMS_HANDLE_MACHINE }
}
extension AddressSpace: Handled {
  static var kind: cshims_handle_kind { CSHIMS_HANDLE_MM }
  var state: UnsafeMutableRawPointer? { unsafe UnsafeMutableRawPointer(mm.hot) }
}
extension MappedFile: Handled {
  static var kind: cshims_handle_kind { CSHIMS_HANDLE_FILE }
}
extension Pipe: Handled {
  static var kind: cshims_handle_kind { CSHIMS_HANDLE_PIPE }
}
extension VirtualMapping: Handled {
  static var kind: cshims_handle_kind { CSHIMS_HANDLE_VMAP }
}
extension DMAEngine: Handled {
  static var kind: cshims_handle_kind { CSHIMS_HANDLE_DMA }
}

extension OpaquePointer? {
  /// A handle as the number that it is.
  @inline(__always)
  var number: UInt64 { UInt64(UInt(bitPattern: self)) }
}

// MARK: - Calls through handles

/// Calls `body` with what a handle means. 0, or the negative errno.
@inline(__always)
func call<Object: Handled>(
  _ handle: OpaquePointer?, _ type: Object.Type, _ body: (Object) throws(MemoryError) -> Void
) -> Int32 {
  unsafe Int32(
    truncatingIfNeeded: count(handle, type) { (object) throws(MemoryError) in
      try body(object)
      return 0
    })
}

/// Calls `body` with what a handle means. What it counts, or the negative errno.
@inline(__always)
func count<Object: Handled>(
  _ handle: OpaquePointer?, _ type: Object.Type, _ body: (Object) throws(MemoryError) -> Int
) -> Int64 {
  guard let object = unsafe cshims_handle_object(handle.number, type.kind.rawValue) else {
    return unsafe refuse(.handleInvalid, handle.number)
  }
  return unsafe Unmanaged<Object>.fromOpaque(object)._withUnsafeGuaranteedRef { object -> Int64 in
    do throws(MemoryError) {
      return Int64(try body(object))
    } catch {
      return fail(error)
    }
  }
}

/// Calls `body` with what a handle means and yields the handle of what it makes,
/// which keeps the machine's from being closed.
@inline(__always)
func make<Object: Handled, Made: Handled>(
  _ handle: OpaquePointer?, _ type: Object.Type, into out: UnsafeMutablePointer<OpaquePointer?>?,
  _ body: (Object) throws(MemoryError) -> Made
) -> Int32 {
  guard let out = unsafe out else { return refuse(.outputMissing) }
  return unsafe call(handle, type) { (object) throws(MemoryError) in
    unsafe out.pointee = try open(try body(object), machineOf(handle))
  }
}

/// The handle of the machine that a handle belongs to.
func machineOf(_ handle: OpaquePointer?) -> UInt64 {
  let owner = unsafe cshims_handle_owner(handle.number)
  return unsafe owner == 0 ? handle.number : owner
}

/// A handle that keeps `object`.
func open<Object: Handled>(
  _ object: Object, _ owner: UInt64
) throws(MemoryError) -> OpaquePointer? {
  let kept = unsafe Unmanaged.passRetained(object)
  let handle = unsafe cshims_handle_open(
    Object.kind.rawValue, kept.toOpaque(), object.state, owner)
  guard handle != 0 else {
    unsafe kept.release()
    throw MemoryError(.outOfMemory, .metadataExhausted, Int(CSHIMS_HANDLE_SLOTS))
  }
  return unsafe OpaquePointer(bitPattern: UInt(handle))
}

/// Closes a handle; yields what it kept, which goes when the caller lets go.
func close<Object: Handled>(
  _ handle: OpaquePointer?, _ type: Object.Type
) throws(MemoryError) -> Object {
  var object: UnsafeMutableRawPointer?
  let error = unsafe cshims_handle_close(handle.number, type.kind.rawValue, &object)
  guard error == 0, let object = unsafe object else {
    if error == ErrorNumber.busy.rawValue { throw unsafe MemoryError(.busy, .inUse, handle.number) }
    throw unsafe MemoryError(.invalid, .handleInvalid, handle.number)
  }
  return unsafe Unmanaged<Object>.fromOpaque(object).takeRetainedValue()
}

/// Closes a handle and lets go of what it kept.
func destroy<Object: Handled>(_ handle: OpaquePointer?, _ type: Object.Type) -> Int32 {
  do throws(MemoryError) {
    _ = unsafe try close(handle, type)
    return 0
  } catch {
    return fail(error)
  }
}

// MARK: - Failures

/// Notes an error for `gup_last_error`; returns it as the kernel would.
@inline(never)
func fail<Result: FixedWidthInteger & SignedInteger>(_ error: MemoryError) -> Result {
  // What the host said is told as it said it.
  let isHost = error.reason == .hostRefused && error.value > 0 && error.value < 4096
  let number = isHost ? Int32(truncatingIfNeeded: error.value) : error.number.rawValue
  cshims_failure_note(number, UInt32(error.reason.rawValue), error.value, nil)
  return -Result(truncatingIfNeeded: number)
}

/// Refuses an argument with EINVAL.
@inline(never)
func refuse<Result: FixedWidthInteger & SignedInteger>(
  _ reason: MemoryError.Reason, _ value: UInt64 = 0
) -> Result {
  fail(MemoryError(.invalid, reason, value))
}

/// A length as C passes it: what `Int` cannot hold is more than anything.
@inline(__always)
func clamped(_ size: Int) -> Int { size < 0 ? Int.max : size }

/// The same for numbers that are 64 bits wide.
func byteCount(_ count: UInt64) -> ByteCount {
  ByteCount(Int(clamping: count))
}
