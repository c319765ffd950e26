//===----------------------------------------------------------------------===//
// Why a command could not do its work.
//===----------------------------------------------------------------------===//

import CShims

/// What is printed to standard error after "Error: "; exit status 1.
struct Failure: Error, CustomStringConvertible {
  let description: String

  init(_ description: String) { self.description = description }

  /// A system call refused: what could not be done, and the errno.
  init(_ what: String, errno: Int32) {
    self.init("\(what): \(Failure.text(errno))")
  }

  /// An errno in words: `ENOENT (No such file or directory)`.
  static func text(_ errno: Int32) -> String {
    let name = unsafe String(cString: cshims_error_name(errno))
    let text = unsafe String(cString: cshims_error_text(errno))
    return "\(name) (\(text))"
  }
}
