//===----------------------------------------------------------------------===//
// Threads of a test: plain ones, so that a test may block in them, and so that
// none of them is the cooperative pool's.
//===----------------------------------------------------------------------===//

#if canImport(Glibc)
  import Glibc
#endif

private final class ThreadBody: Sendable {
  let run: @Sendable () -> Void
  init(_ run: @escaping @Sendable () -> Void) { self.run = run }
}

/// Runs `body` on `count` threads at once, each with its number, and returns
/// when all have ended.
public func onThreads(_ count: Int, _ body: @escaping @Sendable (Int) -> Void) {
  var threads: [pthread_t] = []
  for number in 0..<count {
    let box = unsafe Unmanaged.passRetained(ThreadBody { body(number) })
    var thread = pthread_t()
    let failure = unsafe pthread_create(
      &thread, nil,
      { context in
        unsafe Unmanaged<ThreadBody>.fromOpaque(context!).takeRetainedValue().run()
        return nil
      }, box.toOpaque())
    precondition(failure == 0, "no thread for a test: errno \(failure)")
    threads.append(thread)
  }
  for thread in threads { pthread_join(thread, nil) }
}
