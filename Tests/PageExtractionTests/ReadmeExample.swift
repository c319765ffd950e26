//===----------------------------------------------------------------------===//
// The example of README.md, compiled and run as it stands there.
//===----------------------------------------------------------------------===//

// README-BEGIN
import SwiftGUP

func readFromDevice() throws(MemoryError) -> [UInt8] {
  // A machine of 64 MiB, a process on it, and memory of that process.
  let memory = try PhysicalMemory(capacity: .mebibytes(64))
  let space = try AddressSpace(memory: memory)
  let buffer = try space.map(length: .kibibytes(64))

  // Data goes into 10,000 bytes that start 100 bytes into the first page: three pages, pinned.
  var iterator = try IOVIter(ubuf: buffer + 100, count: 10_000, direction: .destination, in: space)
  let pages = try iterator.extractPages(maxSize: 10_000, maxPages: 16)
  print(pages.pageCount, pages.offset, pages.length, pages.retention)  // 3 100 10000 pinned

  // A device writes to the pages behind the program's back, and lets them go.
  try DMAEngine(memory: memory).write(Array("hello".utf8), to: pages)
  pages.release(dirty: true)

  // The program's own pointer sees the bytes.
  let text = unsafe UnsafeRawBufferPointer(start: space.pointer(at: buffer + 100), count: 5)
  return unsafe Array(text)
}
// README-END
