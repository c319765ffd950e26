//===----------------------------------------------------------------------===//
// Stage: where a play runs. A machine, programs on it, whoever else holds their
// pages, and a record of what was done, drawn, claimed and found.
//===----------------------------------------------------------------------===//

import SwiftGUP

/// A sentence about what was observed, and whether it was.
struct Claim: Encodable {
  let text: String
  let holds: Bool
}

/// What was done, and how things stand after it.
struct LessonStep: Encodable {
  let text: String
  var claims: [Claim] = []
  let diagram: Diagram
}

/// What came of it all: one question, its answer, and the one that the lesson
/// gives.
struct Finding: Encodable {
  let question: String
  let observed: String
  let expected: String
}

/// A play in progress, and its record.
final class Stage {
  let policy: LessonPolicy
  let memory: PhysicalMemory
  private let engine: DMAEngine
  private(set) var steps: [LessonStep] = []
  private(set) var findings: [Finding] = []
  private var programs: [Program] = []
  private var holders: [any Holder] = []
  private var names = PageNames()

  /// The most that the two ends of a page show, the program's and the device's.
  static let wordLength = 8

  init(policy: LessonPolicy, machinePolicy: MemoryPolicy, trap: TrapName?) throws {
    self.policy = policy
    memory = try PhysicalMemory(capacity: .mebibytes(16), trapTier: trap?.tier ?? .best)
    memory.policy = machinePolicy
    memory.defaultDialect = policy.dialect
    engine = DMAEngine(memory: memory)
  }

  // MARK: - Who takes part

  /// A program with a buffer of untouched pages.
  func program(
    _ name: String, pages: Int = 1, folios: FolioSize = .base, of kind: MemoryKind = .ordinary
  ) throws -> Program {
    let space = try UserMemory.makeSpace(memory)
    let address = try space.map(length: .pages(pages), folios: folios, of: kind)
    let program = Program(name: name, space: space, address: address, pageCount: pages)
    programs.append(program)
    return program
  }

  /// A program whose buffer is a page of this process's own memory.
  @safe
  func program(_ name: String, ownMemory base: UnsafeRawPointer) throws -> Program {
    let program = Program(
      name: name, space: try UserMemory.makeSpace(memory),
      address: UserAddress(UInt64(UInt(bitPattern: base))), pageCount: 1,
      unmapped: "plain memory")
    programs.append(program)
    return program
  }

  /// A child of `parent`, by fork.
  func fork(_ parent: Program, as name: String) throws -> Program {
    let child = Program(
      name: name, space: try parent.space.fork(), address: parent.address,
      pageCount: parent.pageCount)
    programs.append(child)
    return child
  }

  /// A driver extracts a program's buffer for its device, from the page `first`
  /// on; what is held on the pages is the dialect's affair.
  func extract(
    _ program: Program, _ direction: Direction, from first: Int = 0, pages: Int? = nil
  ) throws -> ExtractedBuffer {
    let count = pages ?? program.pageCount - first
    var iterator = try IOVIter(
      ubuf: program.address + .pages(first), count: .pages(count), direction: direction,
      in: program.space)
    return extracted(try iterator.extractPages())
  }

  /// What a driver extracted for its device by an iterator of its own.
  func extracted(_ extraction: consuming Extraction) -> ExtractedBuffer {
    add(ExtractedBuffer(extraction, engine))
  }

  /// Somebody takes one page of a program's by GUP: a reference, or with
  /// LONGTERM a pin.
  func take(
    _ program: Program, page index: Int = 0, flags: GUPFlags, by name: String = "device"
  ) throws -> TakenPage {
    var list = try PageBuffer(capacity: 1)
    let address = program.address + .pages(index)
    let pins = flags.contains(.longTerm)
    _ =
      pins
      ? try program.space.pinUserPagesFast(address, count: 1, flags: flags, into: &list)
      : try program.space.getUserPagesFast(address, count: 1, flags: flags, into: &list)
    guard let page = list[0] else { throw Failure("no page at \(address)") }
    return add(TakenPage(page, isPin: pins, who: name, engine))
  }

  /// Puts another holder into the pictures from the next step on.
  @discardableResult
  func add<H: Holder>(_ holder: H) -> H {
    holders.append(holder)
    return holder
  }

  // MARK: - What is recorded

  /// Does something, and draws what stands then.
  @discardableResult
  func step<Value>(_ text: String, _ action: () throws -> Value) throws -> Value {
    let value = try action()
    steps.append(LessonStep(text: text, diagram: draw()))
    return value
  }

  /// Says what the last step showed; only by the policies named.
  func claim(_ text: String, by policies: [LessonPolicy] = LessonPolicy.allCases, _ holds: Bool) {
    guard policies.contains(policy) else { return }
    steps[steps.count - 1].claims.append(Claim(text: text, holds: holds))
  }

  /// Answers one of the lesson's questions; the expected answer is the right
  /// machine's unless another is given for a policy.
  func find(
    _ question: String, _ observed: String, expected: String, rfc: String? = nil,
    broken: String? = nil
  ) {
    let expected =
      switch policy {
      case .rfc: rfc ?? expected
      case .upstream: expected
      case .broken: broken ?? expected
      }
    findings.append(Finding(question: question, observed: observed, expected: expected))
  }

  private func draw() -> Diagram {
    Diagram(
      programs, holders, in: memory, names: &names, before: steps.last?.diagram)
  }

  /// Ends the play: everybody lets go and leaves. What is then still held is
  /// said as a claim that does not hold.
  func close() {
    for holder in holders { holder.letGo() }
    for program in programs { program.exit() }
    let left = memory.totalFrameCount - memory.freeFrameCount
    let outstanding = memory.counters.outstanding
    if left != 0 || outstanding != 0, !steps.isEmpty {
      claim("In the end every frame, reference and pin has been given back.", false)
    }
  }
}

/// Somebody other than a program's page table who holds pages.
protocol Holder: AnyObject {
  var who: String { get }
  /// "get", "pin", "ref" for a pipe's own, or "-" where nothing is counted.
  var how: String { get }
  /// Those that it holds now.
  var pages: [Page] { get }
  func letGo()
}

/// A page that GUP took for somebody.
final class TakenPage: Holder {
  let who: String
  let page: Page
  private let isPin: Bool
  private let engine: DMAEngine
  private var isHeld = true

  init(_ page: Page, isPin: Bool, who: String, _ engine: DMAEngine) {
    (self.page, self.isPin, self.who, self.engine) = (page, isPin, who, engine)
  }

  var how: String { isPin ? "pin" : "get" }
  var pages: [Page] { isHeld ? [page] : [] }

  /// The device writes after the program's own word.
  func deviceWrites(_ word: String) throws {
    try engine.write(Array(word.utf8), to: page, offset: Stage.wordLength)
  }

  func deviceReads() throws -> String {
    shown(try engine.read(from: page, count: 2 * Stage.wordLength))
  }

  func letGo() {
    guard isHeld else { return }
    isHeld = false
    if isPin { unpinUserPage(page) } else { putPage(page) }
  }
}

/// A buffer that a driver extracted.
final class ExtractedBuffer: Holder {
  let who = "device"
  let how: String
  let length: Int
  let stop: ExtractionStop
  /// What was extracted, held or not.
  let listed: [Page]
  private let engine: DMAEngine
  private var extraction: Extraction?

  init(_ extraction: consuming Extraction, _ engine: DMAEngine) {
    switch extraction.retention {
    case .unretained: how = "-"
    case .referenced: how = "get"
    case .pinned: how = "pin"
    }
    length = extraction.length.rawValue
    stop = extraction.stop
    var listed: [Page] = []
    for i in 0..<extraction.pageCount { listed.append(extraction[i]) }
    self.listed = listed
    self.engine = engine
    self.extraction = consume extraction
  }

  var page: Page { listed[0] }
  var pages: [Page] { extraction == nil ? [] : listed }

  /// The device writes after the program's own word.
  func deviceWrites(_ word: String) throws {
    try engine.write(Array(word.utf8), to: page, offset: Stage.wordLength)
  }

  func deviceReads() throws -> String {
    shown(try engine.read(from: page, count: 2 * Stage.wordLength))
  }

  func letGo() { extraction.take()?.release(dirty: true) }
}
