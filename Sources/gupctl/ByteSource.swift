//===----------------------------------------------------------------------===//
// Where the bytes of an extraction come from: a file, or bytes made up here.
//===----------------------------------------------------------------------===//

import Glibc

/// A file as the file system knows it, whatever its name.
struct FileIdentity: Equatable {
  let device: dev_t
  let inode: ino_t

  init(_ status: stat) {
    device = status.st_dev
    inode = status.st_ino
  }
}

/// An open regular file that is not empty. Closed with its last use.
final class InputFile {
  let path: String
  let size: Int
  let identity: FileIdentity
  private let descriptor: Int32

  /// - Throws: what is wrong with `--file`.
  init(path: String) throws {
    // Without O_NONBLOCK, opening a FIFO would wait for a writer.
    let descriptor = unsafe open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
    guard descriptor >= 0 else {
      throw Failure("--file '\(path)' cannot be opened", errno: errno)
    }
    var status = stat()
    let answer = unsafe fstat(descriptor, &status)
    do {
      guard answer == 0 else {
        throw Failure("--file '\(path)' cannot be examined", errno: errno)
      }
      let type = status.st_mode & S_IFMT
      guard type != S_IFDIR else { throw Failure("--file '\(path)' is a directory.") }
      guard type == S_IFREG else { throw Failure("--file '\(path)' is not a regular file.") }
      guard status.st_size > 0 else {
        throw Failure("--file '\(path)' is empty: there is nothing to extract.")
      }
    } catch {
      close(descriptor)
      throw error
    }
    self.path = path
    self.size = status.st_size
    self.identity = FileIdentity(status)
    self.descriptor = descriptor
  }

  deinit { close(descriptor) }

  /// Reads exactly `buffer.count` bytes from `offset` on, by lseek(2) and read(2).
  func read(into buffer: UnsafeMutableRawBufferPointer, at offset: Int) throws {
    guard lseek(descriptor, offset, SEEK_SET) == offset else {
      throw Failure("--file '\(path)' cannot be read at byte \(offset)", errno: errno)
    }
    var done = 0
    while done < buffer.count {
      let count = unsafe Glibc.read(
        descriptor, buffer.baseAddress.unsafelyUnwrapped + done, buffer.count - done)
      if count < 0, errno == EINTR { continue }
      guard count >= 0 else {
        throw Failure("--file '\(path)': read(2) at byte \(offset + done)", errno: errno)
      }
      guard count > 0 else {
        throw Failure("--file '\(path)' became shorter: it ends at byte \(offset + done) now.")
      }
      done += count
    }
  }
}

/// What bytes an extraction moves: any part can be had again.
enum ByteSource {
  case file(InputFile)
  /// Numbers that repeat nowhere: a page in the wrong place is noticed.
  case made

  /// Fills `buffer` with the bytes from `offset` on.
  func fill(_ buffer: UnsafeMutableRawBufferPointer, at offset: Int) throws {
    switch self {
    case .file(let file):
      try unsafe file.read(into: buffer, at: offset)
    case .made:
      var done = 0
      while done < buffer.count {
        let position = offset + done
        let skip = position & 7
        let length = min(8 - skip, buffer.count - done)
        let word = Self.word(position >> 3) >> UInt64(8 * skip)
        if length == 8 {
          unsafe buffer.storeBytes(of: word, toByteOffset: done, as: UInt64.self)
        } else {
          for i in 0..<length {
            unsafe buffer[done + i] = UInt8(truncatingIfNeeded: word >> UInt64(8 * i))
          }
        }
        done += length
      }
    }
  }

  /// The `index`-th eight bytes: the index, mixed (SplitMix64).
  private static func word(_ index: Int) -> UInt64 {
    var z = UInt64(index) &+ 0x9e37_79b9_7f4a_7c15
    z = (z ^ z >> 30) &* 0xbf58_476d_1ce4_e5b9
    z = (z ^ z >> 27) &* 0x94d0_49bb_1331_11eb
    return z ^ z >> 31
  }
}
