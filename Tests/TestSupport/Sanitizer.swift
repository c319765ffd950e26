//===----------------------------------------------------------------------===//
// Which sanitizer runs with the tests: not everything can be tried under each.
//===----------------------------------------------------------------------===//

#if canImport(Glibc)
  import Glibc
#endif

public enum Sanitizer: Sendable {
  case address, thread

  /// The one whose runtime is in this program.
  public static let current: Sanitizer? =
    if has("__asan_init") { .address } else if has("__tsan_init") { .thread } else { nil }

  private static func has(_ symbol: String) -> Bool { unsafe dlsym(nil, symbol) != nil }
}
