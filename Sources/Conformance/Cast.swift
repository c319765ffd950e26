//===----------------------------------------------------------------------===//
// Cast: who lives, which buffers each process knows and what is held, as a
// script goes on. It refuses scripts that make no sense, so that drivers need
// not, and says nothing about what any step leads to.
//===----------------------------------------------------------------------===//

/// What is wrong with a script.
public struct ScenarioError: Error, Sendable, Hashable, CustomStringConvertible {
  public let description: String

  init(_ description: String) { self.description = description }
}

/// The names of a script at one of its steps.
struct Cast {
  static let first = "P"
  static let processLimit = 8
  static let bufferLimit = 8
  static let holdLimit = 16
  static let stepLimit = 96
  /// Pages of a buffer but a huge one, and that one step looks at.
  static let pageLimit = 32
  static let hugePages = 512

  struct Buffer: Hashable {
    let pages: Int
    let backing: Backing
  }

  /// Processes that live, in order of their fork.
  private(set) var live = [Cast.first]
  /// Every name in order of its first appearance.
  private(set) var processes = [Cast.first]
  private(set) var bufferNames: [String] = []
  private(set) var holdNames: [String] = []
  private(set) var buffers: [String: Buffer] = [:]
  /// Buffers that a process mapped or inherited, mapped or not now.
  private var known: [String: Set<String>] = [Cast.first: []]
  /// What was taken and not released: what was asked for.
  private(set) var held: [String: (stretch: Stretch, how: Hold, by: String)] = [:]
  /// Holds that the device's reading has ended, and that are still to be released.
  private var spent: Set<String> = []

  /// The cast of a whole script.
  init(of script: [Step]) throws(ScenarioError) {
    guard script.count <= Cast.stepLimit else {
      throw ScenarioError("a script may have \(Cast.stepLimit) steps, not \(script.count)")
    }
    for step in script { try take(step) }
  }

  init() {}

  /// The processes that know a buffer, in order.
  func knowers(of buffer: String) -> [String] {
    live.filter { known[$0, default: []].contains(buffer) }
  }

  /// Can it be told who maps a page alone? Of pages in large folios Linux keeps no exact count.
  func tellsMappings(of buffer: String) -> Bool { buffers[buffer]?.backing != .huge }

  mutating func take(_ step: Step) throws(ScenarioError) {
    do throws(ScenarioError) {
      if let by = step.process, !live.contains(by) {
        throw ScenarioError("no process '\(by)' lives")
      }
      for stretch in step.stretches { try check(stretch, in: step) }
      if let name = spent.first, !step.onlyLooks {
        throw ScenarioError("'\(name)' has been read and is to be released first")
      }
      try apply(step)
    } catch {
      throw ScenarioError("step \(step): \(error)")
    }
  }

  private func check(_ stretch: Stretch, in step: Step) throws(ScenarioError) {
    guard let buffer = buffers[stretch.buffer] else {
      throw ScenarioError("no buffer '\(stretch.buffer)' was mapped")
    }
    guard stretch.offset >= 0, stretch.length >= 0,
      stretch.offset <= buffer.pages * 4096,
      stretch.length <= buffer.pages * 4096 - stretch.offset
    else { throw ScenarioError("bytes outside buffer '\(stretch.buffer)'") }
    if let by = step.process, !known[by, default: []].contains(stretch.buffer) {
      throw ScenarioError("process '\(by)' has never known buffer '\(stretch.buffer)'")
    }
    switch step {
    case .directRead, .directWrite:
      guard stretch.offset % 512 == 0, stretch.length % 512 == 0 else {
        throw ScenarioError("direct transfers move whole blocks of 512 bytes")
      }
    case .unmap, .protect, .advise, .move, .lift, .frames, .resident:
      guard stretch.length > 0, stretch.offset % 4096 == 0, stretch.length % 4096 == 0 else {
        throw ScenarioError("the stretch must be whole pages")
      }
      if case .frames = step { try checkLook(stretch) }
      if case .resident = step { try checkLook(stretch) }
    default:
      guard stretch.length > 0 else { throw ScenarioError("the stretch is empty") }
      if case .take(_, _, _, .pinToRead, _) = step,
        stretch.offset % 512 != 0 || stretch.length % 512 != 0
      {
        throw ScenarioError("direct transfers move whole blocks of 512 bytes")
      }
      try checkLook(stretch)
    }
  }

  private func checkLook(_ stretch: Stretch) throws(ScenarioError) {
    guard stretch.pages.count <= Cast.pageLimit else {
      throw ScenarioError("a step looks at \(Cast.pageLimit) pages, not \(stretch.pages.count)")
    }
  }

  private mutating func apply(_ step: Step) throws(ScenarioError) {
    switch step {
    case .map(let by, let name, let pages, let backing):
      if backing == .huge, pages != Cast.hugePages {
        throw ScenarioError("a huge buffer has \(Cast.hugePages) pages, not \(pages)")
      }
      guard backing == .huge || 1...Cast.pageLimit ~= pages else {
        throw ScenarioError("a buffer has 1 to \(Cast.pageLimit) pages, not \(pages)")
      }
      if let before = buffers[name] {
        guard before.pages == pages, known[by, default: []].contains(name) else {
          throw ScenarioError("buffer '\(name)' is mapped otherwise")
        }
      } else {
        bufferNames.append(name)
        guard bufferNames.count <= Cast.bufferLimit else { throw ScenarioError("too many buffers") }
      }
      buffers[name] = Buffer(pages: pages, backing: backing)
      known[by, default: []].insert(name)
    case .take(let by, let stretch, let name, let how, let times):
      guard held[name] == nil else { throw ScenarioError("'\(name)' holds something already") }
      guard 1...256 ~= times else { throw ScenarioError("1 to 256 times, not \(times)") }
      if !holdNames.contains(name) { holdNames.append(name) }
      guard holdNames.count <= Cast.holdLimit else { throw ScenarioError("too many holds") }
      guard how != .pinToRead || times == 1 else {
        throw ScenarioError("'\(name)' is for one reading")
      }
      held[name] = (stretch, how, by)
    case .deviceWrite(let name, let place, _), .expectDevice(let name, let place, _):
      let stretch = try stretch(heldBy: name)
      guard place.buffer == stretch.buffer, place.offset >= stretch.offset,
        place.offset < stretch.offset + stretch.length,
        (place.offset - stretch.offset) % 512 == 0
      else { throw ScenarioError("no block of what '\(name)' holds starts there") }
      if case .expectDevice = step { read(name) }
    case .deviceRead(let name):
      _ = try stretch(heldBy: name)
      read(name)
    case .release(let name):
      _ = try stretch(heldBy: name)
      held[name] = nil
      spent.remove(name)
    case .fork(let parent, let child):
      guard !processes.contains(child) else { throw ScenarioError("'\(child)' was there before") }
      live.append(child)
      processes.append(child)
      guard processes.count <= Cast.processLimit else { throw ScenarioError("too many processes") }
      known[child] = known[parent]
    case .exit(let name):
      if let hold = held.first(where: { $0.value.by == name && $0.value.how == .pinToRead }) {
        throw ScenarioError("'\(hold.key)' is '\(name)'s own transfer")
      }
      live.removeAll { $0 == name }
    case .directRead(_, let list, _), .directWrite(_, let list):
      guard 1...8 ~= list.count else { throw ScenarioError("1 to 8 segments, not \(list.count)") }
      guard list.reduce(0, { $0 + $1.length }) <= Cast.pageLimit * 4096 else {
        throw ScenarioError("more than \(Cast.pageLimit) pages")
      }
    case .move(_, let stretch, let place), .lift(_, let stretch, let place):
      // What stands where is told by the buffer's name.
      guard let from = buffers[stretch.buffer], let to = buffers[place.buffer],
        from.backing == to.backing, from.backing == .private || from.backing == .shared
      else { throw ScenarioError("only anonymous memory in small pages moves onto its like") }
    case .unmap, .protect, .advise, .touch, .store, .see, .expect, .peek, .poke, .frames,
      .resident, .counters:
      break
    }
  }

  private mutating func read(_ name: String) {
    if held[name]?.how == .pinToRead { spent.insert(name) }
  }

  private func stretch(heldBy name: String) throws(ScenarioError) -> Stretch {
    guard let held = held[name] else { throw ScenarioError("nothing is held as '\(name)'") }
    return held.stretch
  }
}

extension Step {
  /// Does it change nothing that a hold could tell, or release one?
  fileprivate var onlyLooks: Bool {
    switch self {
    case .see, .expect, .deviceRead, .expectDevice, .release, .frames, .resident: true
    default: false
    }
  }
}
