//===----------------------------------------------------------------------===//
// The values that options take, as words and numbers of the command line.
//===----------------------------------------------------------------------===//

import ArgumentParser
import SwiftGUP

/// A number of bytes, with a unit if wanted: `4097`, `64KiB`, `10M`. May be
/// negative, so that the commands can say what is wrong with that.
struct ByteSize: ExpressibleByArgument, CustomStringConvertible {
  let bytes: Int
  /// As it was given; of a number, in the largest unit that it is a multiple of.
  let description: String

  init(_ bytes: Int) {
    self.bytes = bytes
    for (shift, unit) in [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")]
    where bytes != 0 && bytes % (1 << shift) == 0 {
      description = "\(bytes >> shift)\(unit)"
      return
    }
    description = "\(bytes)"
  }

  init?(argument: String) {
    let digits = argument.prefix { $0.isNumber || $0 == "-" || $0 == "+" }
    guard let number = Int(digits) else { return nil }
    let shift: Int
    switch argument.dropFirst(digits.count).uppercased() {
    case "", "B": shift = 0
    case "K", "KIB": shift = 10
    case "M", "MIB": shift = 20
    case "G", "GIB": shift = 30
    case "T", "TIB": shift = 40
    default: return nil
    }
    let (bytes, overflow) = number.multipliedReportingOverflow(by: 1 << shift)
    guard !overflow else { return nil }
    self.bytes = bytes
    description = argument
  }

  var defaultValueDescription: String { description }
}

/// Numbers of pages: `1,16,256`.
struct PageCounts: ExpressibleByArgument {
  let values: [Int]

  init(_ values: [Int]) { self.values = values }

  init?(argument: String) {
    var values: [Int] = []
    for word in argument.split(separator: ",", omittingEmptySubsequences: false) {
      guard let value = Int(word) else { return nil }
      values.append(value)
    }
    self.values = values
  }

  var defaultValueDescription: String { values.map(String.init).joined(separator: ",") }
}

/// Which way the bytes go, seen from the user's buffer.
enum Way: String, ExpressibleByArgument, CaseIterable, Encodable {
  case into
  case outOf = "out-of"

  var direction: Direction { self == .into ? .destination : .source }
}

enum DialectName: String, ExpressibleByArgument, CaseIterable, Encodable {
  case rfc, upstream

  var dialect: Dialect { self == .rfc ? .rfc : .upstream }
}

enum KindName: String, ExpressibleByArgument, CaseIterable, Encodable {
  case ubuf, iovec, bvec, kvec, xarray, folioq, pipe, discard

  /// Also by the library's name for it.
  init?(argument: String) {
    self.init(rawValue: argument == "folioQueue" ? "folioq" : argument)
  }

  var kind: IOVIter.Kind {
    switch self {
    case .ubuf: .ubuf
    case .iovec: .iovec
    case .bvec: .bvec
    case .kvec: .kvec
    case .xarray: .xarray
    case .folioq: .folioQueue
    case .pipe: .pipe
    case .discard: .discard
    }
  }

  /// The kernel's name for it.
  var kernelName: String { "ITER_\(rawValue.uppercased())" }

  /// Is it a list whose segments `--segments` counts?
  var isSegmented: Bool { self == .iovec || self == .bvec || self == .kvec }
}

enum TrapName: String, ExpressibleByArgument, CaseIterable, Encodable {
  case userfaultfd, sigsegv, none

  init(_ tier: TrapTier) {
    switch tier {
    case .userfaultfd: self = .userfaultfd
    case .sigsegv: self = .sigsegv
    case .none: self = .none
    }
  }

  var tier: TrapTier {
    switch self {
    case .userfaultfd: .userfaultfd
    case .sigsegv: .sigsegv
    case .none: .none
    }
  }
}
