//===----------------------------------------------------------------------===//
// What belongs to no machine: the version, the last failure, memory.
//===----------------------------------------------------------------------===//

// swift-format-ignore-file: AlwaysUseLowerCamelCase
// The functions have their C names.

internal import CGup
internal import CShims
internal import PageFrames

private let version: StaticString = "0.1"

@c @implementation
public func gup_version() -> UnsafePointer<CChar>? {
  unsafe UnsafeRawPointer(version.utf8Start).assumingMemoryBound(to: CChar.self)
}

@c @implementation
public func gup_free(_ memory: UnsafeMutableRawPointer?) {
  if let memory = unsafe memory { unsafe cshims_free(memory) }
}

@c @implementation
public func gup_last_error(_ buffer: UnsafeMutablePointer<CChar>?, _ size: Int) -> Int {
  let failure = unsafe cshims_failure_last()
  var text = unsafe TextWriter(buffer: unsafe buffer, size: size)
  let known = ErrorNumber(rawValue: unsafe failure.number)
  if unsafe failure.number != 0,
    let reason = MemoryError.Reason(rawValue: UInt8(truncatingIfNeeded: unsafe failure.reason))
  {
    if let known { text.write(known.name) } else { text.write("errno ", unsafe failure.number) }
    text.write(": ")
    text.write(reason.text)
    text.write(": ", Int64(bitPattern: unsafe failure.value))
  }
  text.end()
  return text.length
}

/// Writes into a caller's buffer as far as it reaches, and counts on.
@safe
private struct TextWriter {
  let buffer: UnsafeMutablePointer<CChar>?
  let size: Int
  private(set) var length = 0

  init(buffer: UnsafeMutablePointer<CChar>?, size: Int) {
    unsafe self.buffer = buffer
    self.size = unsafe buffer == nil ? 0 : size
  }

  private mutating func put(_ byte: UInt8) {
    if length + 1 < size, let buffer = unsafe buffer {
      unsafe buffer[length] = CChar(bitPattern: byte)
    }
    length += 1
  }

  mutating func write(_ text: String) {
    for byte in text.utf8 { put(byte) }
  }

  mutating func write<Number: FixedWidthInteger & SignedInteger>(
    _ text: String, _ number: Number
  ) {
    write(text)
    if number < 0 { put(UInt8(ascii: "-")) }
    var digits = InlineArray<20, UInt8>(repeating: 0)
    var count = 0
    var rest = number.magnitude
    repeat {
      digits[count] = UInt8(ascii: "0") + UInt8(truncatingIfNeeded: rest % 10)
      rest /= 10
      count += 1
    } while rest > 0
    while count > 0 {
      count -= 1
      put(digits[count])
    }
  }

  mutating func end() {
    if size > 0, let buffer = unsafe buffer { unsafe buffer[min(length, size - 1)] = 0 }
  }
}
