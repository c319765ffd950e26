//===----------------------------------------------------------------------===//
// OutputFile: appears under its name as a whole, or not at all. The bytes go to
// a new file beside it that takes its name when all is done; until then, and
// for ever if the work fails, what was there stays.
//
// What is there and is not a regular file (a pipe, /dev/null) must not be
// replaced by one: it is written in place.
//===----------------------------------------------------------------------===//

import Glibc

/// Takes bytes in order.
protocol ByteSink {
  mutating func take(_ bytes: UnsafeRawBufferPointer, at offset: Int) throws
}

/// A file to be. Forgotten without `commit`, it leaves nothing behind.
final class OutputFile: ByteSink {
  /// As the user wrote it.
  let path: String
  /// The file that is made or replaced: `path` with its symbolic links followed.
  private let target: String
  /// The new file's name until it is committed; nil where none is made.
  private var temporary: String?
  private let descriptor: Int32

  /// - Parameters:
  ///   - path: where the bytes are to appear.
  ///   - source: the file that is read, which must not be this one.
  /// - Throws: what is wrong with `--output`.
  init(path: String, source: FileIdentity?) throws {
    var status = stat()
    let exists = unsafe stat(path, &status) == 0
    guard exists || errno == ENOENT else {
      throw Failure("--output '\(path)' cannot be examined", errno: errno)
    }
    let type = exists ? status.st_mode & S_IFMT : S_IFREG
    if exists {
      guard type != S_IFDIR else { throw Failure("--output '\(path)' is a directory.") }
      guard FileIdentity(status) != source else {
        throw Failure("--output '\(path)' is the same file as --file: it would be overwritten.")
      }
      guard unsafe access(path, W_OK) == 0 else {
        throw Failure("--output '\(path)' cannot be written", errno: errno)
      }
    }
    self.path = path
    guard type == S_IFREG else {
      target = path
      temporary = nil
      descriptor = unsafe open(path, O_WRONLY | O_CLOEXEC)
      guard descriptor >= 0 else {
        throw Failure("--output '\(path)' cannot be opened", errno: errno)
      }
      return
    }
    let target = exists ? Self.resolved(path) : path
    let (descriptor, temporary) = try Self.create(beside: target, for: path)
    // The new file is to look like the one it replaces, as far as we may say so.
    if exists {
      _ = fchown(descriptor, status.st_uid, status.st_gid)
      _ = fchmod(descriptor, status.st_mode & 0o7777)
    }
    self.target = target
    self.temporary = temporary
    self.descriptor = descriptor
  }

  deinit {
    close(descriptor)
    if let temporary { unsafe unlink(temporary) }
    unsafe unfinished = nil
  }

  /// Writes bytes at the end; `offset` is there already.
  func take(_ bytes: UnsafeRawBufferPointer, at offset: Int) throws {
    var done = 0
    while done < bytes.count {
      let count = unsafe write(
        descriptor, bytes.baseAddress.unsafelyUnwrapped + done, bytes.count - done)
      if count < 0, errno == EINTR { continue }
      guard count >= 0 else {
        throw Failure("--output '\(path)': write(2) at byte \(offset + done)", errno: errno)
      }
      done += count
    }
  }

  /// Gives the file its name.
  func commit() throws {
    guard let temporary else { return }
    guard unsafe rename(temporary, target) == 0 else {
      throw Failure("--output '\(path)' cannot be put in place", errno: errno)
    }
    self.temporary = nil
  }

  /// A new file in the directory of `target`, so that renaming it moves no bytes.
  private static func create(
    beside target: String, for path: String
  ) throws -> (descriptor: Int32, name: String) {
    let directory = target.lastIndex(of: "/").map { target[...$0] } ?? ""
    // No interruption between making the file and being ready to remove it.
    var all = sigset_t()
    var before = sigset_t()
    unsafe sigfillset(&all)
    unsafe pthread_sigmask(SIG_BLOCK, &all, &before)
    defer { unsafe pthread_sigmask(SIG_SETMASK, &before, nil) }
    // Somebody else's leftovers may have the first names.
    for attempt in 0..<100 {
      let name = "\(directory).gupctl-\(getpid())-\(attempt)"
      let descriptor = unsafe open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o666)
      if descriptor >= 0 {
        removeWhenInterrupted(name)
        return (descriptor, name)
      }
      if errno != EEXIST { break }
    }
    throw Failure("--output '\(path)' cannot be created", errno: errno)
  }

  private static func resolved(_ path: String) -> String {
    guard let name = unsafe realpath(path, nil) else { return path }
    defer { unsafe free(name) }
    return unsafe String(cString: name)
  }
}

/// The file to remove when the program is interrupted. One output is open at a time; the main
/// thread sets this, the signal handler reads it.
nonisolated(unsafe) private var unfinished: UnsafeMutablePointer<CChar>?

/// From now on SIGINT and its like remove the file before they end the program. Its name is
/// never freed: a handler may be reading it.
private func removeWhenInterrupted(_ path: String) {
  unsafe unfinished = strdup(path)
  for number in [SIGINT, SIGTERM, SIGHUP] {
    let previous = signal(number) { number in
      if let name = unsafe unfinished { _ = unsafe unlink(name) }
      _ = signal(number, SIG_DFL)
      _ = raise(number)
    }
    // A background job ignores some of them, and is to go on doing so (SIG_IGN is 1).
    if unsafe unsafeBitCast(previous, to: Int.self) == 1 { _ = signal(number, previous) }
  }
}
