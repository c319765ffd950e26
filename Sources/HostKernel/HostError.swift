//===----------------------------------------------------------------------===//
// What the running kernel refused, and what to do about it.
//===----------------------------------------------------------------------===//

internal import CShims

/// A call to the running kernel that failed.
public struct HostError: Error, Sendable, Hashable, CustomStringConvertible {
  /// The call, with the argument that matters: `"vmsplice(2) of 4096 bytes"`.
  public let operation: String
  /// The errno value, never 0.
  public let errno: Int32
  /// What is behind it or what would help; a sentence, or empty.
  public let hint: String

  /// - Parameters:
  ///   - operation: The call that failed.
  ///   - errno: What it failed with.
  ///   - hint: What is behind it; empty when the errno says it all.
  public init(operation: String, errno: Int32, hint: String = "") {
    self.operation = operation
    self.errno = errno
    self.hint = hint
  }

  /// The errno value's name: `"ENOMEM"`.
  public var name: String { unsafe String(cString: cshims_error_name(errno)) }

  public var description: String {
    let text = unsafe String(cString: cshims_error_text(errno))
    let core = "\(operation): \(name) \(errno) (\(text))"
    return hint.isEmpty ? core : "\(core). \(hint)"
  }
}

/// Throws unless a shim's answer is 0. The messages are only made on failure.
func check(
  _ answer: Int32, _ operation: @autoclosure () -> String, hint: @autoclosure () -> String = ""
) throws(HostError) {
  if answer != 0 { throw HostError(operation: operation(), errno: answer, hint: hint()) }
}
