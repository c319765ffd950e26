//===----------------------------------------------------------------------===//
// Adopted memory of a random program: the driver maps it, fills it, has it
// adopted, and looks at it again when it has it back.
//===----------------------------------------------------------------------===//

import AddressSpaces
import ForkModel
import PageFrames
import TestSupport

#if canImport(Glibc)
  import Glibc
#endif

extension World {
  /// A process whose window is around memory that it adopts.
  func adopt(_ number: Int, _ seed: UInt64) throws {
    // What is unmapped around that memory may be taken before the window is.
    for _ in 0..<20 {
      let space = try AddressSpace(memory: memory)
      let length = ByteCount.mebibytes(8).rawValue
      let memory = unsafe mmap(
        nil, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
      try mustHold(unsafe memory != MAP_FAILED)
      let host = UInt64(UInt(bitPattern: memory))
      let border = (host + 4 << 20) & ~(1 << 21 - 1)
      let base = UserAddress(border - UInt64(window.border * pageSize))
      let own = window.adopted
      for page in own {
        for (word, value) in Window.words(seed, page).enumerated() {
          let at = base + .pages(page) + ByteCount(Self.offset(ofWord: word))
          unsafe Self.host(at).storeBytes(of: value, as: UInt64.self)
        }
      }
      let start = base + .pages(own.lowerBound)
      let end = base + .pages(own.upperBound)
      let size = ByteCount.pages(own.count)
      let range = try unsafe space.adopt(Self.host(start), length: size)
      unsafe munmap(memory, Int(start.rawValue - host))
      unsafe munmap(Self.host(end), Int(host + UInt64(length) - end.rawValue))
      do throws(MemoryError) {
        for (from, pages) in [(base, own.lowerBound), (end, window.pages - own.upperBound)]
        where pages > 0 {
          _ = try space.map(length: .pages(pages), at: .fixed(from))
          try space.unmap(from, length: .pages(pages))
        }
      } catch {
        space.exit()
        unsafe munmap(Self.host(start), size.rawValue)
        if error.number == .exists { continue }
        throw error
      }
      take(space, as: number, at: base, adopted: range)
      return
    }
    throw Mismatch(description: "there is no room around adopted memory")
  }

  func giveBack(_ number: Int) throws -> Outcome {
    guard let space = spaces[number], let range = adopted[number] else { return Outcome() }
    let pages = adoptedPages(number)
    do throws(MemoryError) {
      try space.release(range)
    } catch {
      return Outcome(refusal: try Outcome.Refusal(error))
    }
    let bytes = takeBack(pages)
    _ = exit(number)
    return Outcome(value: bytes)
  }

  /// Ends a process; adopted memory is the program's again.
  func exit(_ number: Int) -> Outcome {
    let pages = adoptedPages(number)
    spaces[number]?.exit()
    forget(number)
    return Outcome(value: takeBack(pages))
  }

  /// Pages of adopted memory that were not unmapped.
  private func adoptedPages(_ number: Int) -> [UserAddress] {
    guard let areas = spaces[number]?.areas, adopted[number] != nil else { return [] }
    return areas.filter { $0.flags.contains(.adopted) }.flatMap { area in
      (0..<area.range.pageCount.rawValue).map { area.range.start + .pages($0) }
    }
  }

  /// Looks at pages that were given back, and unmaps them.
  private func takeBack(_ pages: [UserAddress]) -> UInt64 {
    var words: [UInt64] = []
    for page in pages {
      unsafe mprotect(Self.host(page), pageSize, PROT_READ)
      for word in 0..<Limits.words {
        let at = page + ByteCount(Self.offset(ofWord: word))
        words.append(unsafe Self.host(at).load(as: UInt64.self))
      }
      unsafe munmap(Self.host(page), pageSize)
    }
    return Outcome.digest(words)
  }

  private static func host(_ address: UserAddress) -> UnsafeMutableRawPointer {
    unsafe UnsafeMutableRawPointer(bitPattern: UInt(address.rawValue))!
  }
}
