//===----------------------------------------------------------------------===//
// XARRAY: the page cache of a file that has no name, from an odd position on.
//===----------------------------------------------------------------------===//

import CShims
import SwiftGUP

final class PageCacheMemory: KernelMemory {
  let settings: ExtractSettings
  private let file: MappedFile

  init(_ settings: ExtractSettings, in memory: PhysicalMemory) throws {
    self.settings = settings
    let length = ByteCount(oddOffset + settings.size)
    try memory.require(pages: PageCount(covering: length))
    var descriptor: Int32 = -1
    let error = unsafe cshims_memfd_create("gupctl", UInt64(length.rawValue), &descriptor)
    guard error == 0 else {
      throw Failure("no file of \(counted(length.rawValue, "byte"))", errno: error)
    }
    defer { _ = cshims_close(descriptor) }
    do throws(MemoryError) {
      file = try MappedFile(duplicating: descriptor, memory: memory)
      try file.bringIn(length: length)
    } catch {
      throw Failure(
        "no page cache of a file of \(counted(length.rawValue, "byte")): \(error).")
    }
  }

  var memory: PhysicalMemory { file.memory }
  var place: String { "on \(counted(file.pages.count, "page")) of a file's cache" }
  var segmentCount: Int { 1 }

  func iterator(_ direction: Direction) throws(MemoryError) -> IOVIter {
    try IOVIter(
      xarray: file.pages, start: ByteCount(oddOffset), count: ByteCount(settings.size),
      direction: direction, memory: memory, dialect: settings.dialect.dialect)
  }
}
