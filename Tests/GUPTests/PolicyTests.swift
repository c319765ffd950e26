//===----------------------------------------------------------------------===//
// A machine's policy: each wrong one changes the outcome of exactly those
// scenarios of semantics D.6 that its rule decides. The scenarios stand here as
// scripts, run under the right policy and under the wrong one; what differs is
// compared, not what each does (ForkScenarioTests says that).
//===----------------------------------------------------------------------===//

import AddressSpaces
import GUP
import PageFrames
import TestSupport
import Testing

/// A scenario as data.
private struct Script: Sendable {
  enum Who { case parent, child, second }
  enum Step {
    /// Acquires the page for a device, by GET or PIN as the case says.
    case acquire(Who, GUPFlags)
    /// The parent forks: first the child, then the second.
    case fork
    case exit(Who)
    case store(UInt8, Who)
    case unmap(Who)
    case discard(Who)
    case deviceWrites
  }
  let name: String
  /// Frames of the machine: enough, or just the parent's one.
  var capacity = ByteCount.mebibytes(4)
  let steps: [Step]

  static let all: [Script] = [
    Script("S1", .acquire(.parent, .write), .fork, .store(1, .parent), .deviceWrites),
    Script(
      "S2", .acquire(.parent, .write), .fork, .store(2, .child), .store(1, .parent), .deviceWrites),
    Script("S3", .acquire(.parent, .write), .fork, .deviceWrites),
    Script(
      "S4", .acquire(.parent, .write), .fork, .exit(.child), .store(1, .parent), .deviceWrites),
    Script("S5", .acquire(.parent, .write), .fork, .exit(.child), .deviceWrites),
    Script("S6", .fork, .acquire(.parent, .write), .deviceWrites),
    Script(
      "S7", .fork, .acquire(.parent, .write), .fork, .store(1, .parent), .deviceWrites),
    Script("S8", .fork, .acquire(.child, .write), .deviceWrites),
    Script("S10", .fork, .acquire(.parent, []), .store(1, .parent)),
    Script("S11", .acquire(.parent, []), .fork, .store(1, .parent)),
    Script("S15", .fork, .acquire(.child, []), .unmap(.child), .store(0x5e, .parent)),
    Script("S16a", .acquire(.parent, []), .fork, .unmap(.parent), .store(3, .child)),
    Script("S16b", .fork, .acquire(.parent, []), .unmap(.parent), .store(3, .child)),
    Script("S18", .discard(.parent), .acquire(.parent, []), .store(9, .parent)),
    Script("S18 long", .discard(.parent), .acquire(.parent, .longTerm), .store(9, .parent)),
    Script(
      "S20", .acquire(.parent, .write), .discard(.parent), .store(7, .parent), .deviceWrites),
    Script("S22", .fork, .exit(.child), .acquire(.parent, []), .store(4, .parent)),
    Script("S24", capacity: .pages(1), .acquire(.parent, .write), .fork),
  ]

  init(_ name: String, capacity: ByteCount = .mebibytes(4), _ steps: Step...) {
    self.name = name
    self.capacity = capacity
    self.steps = steps
  }

  /// LONGTERM needs PIN.
  func applies(to hold: PageHold) -> Bool {
    hold == .pin || !steps.contains { if case .acquire(_, .longTerm) = $0 { true } else { false } }
  }

  /// Everything that anybody could see at the end; nil for who is not there.
  struct Outcome: Equatable {
    var sights: [Sight?] = []
    var device = Sight.original
    var forkFailed = false
  }

  func outcome(_ testCase: ForkCase, _ policy: MemoryPolicy) throws -> Outcome {
    var outcome = Outcome()
    try Scene.run(testCase, capacity: capacity) { scene in
      scene.memory.policy = policy
      var people: [Who: AddressSpace] = [.parent: scene.parent]
      var page: Page?
      for step in steps {
        switch step {
        case .acquire(let who, let flags):
          page = try scene.acquire(#require(people[who]), flags: flags)
        case .fork:
          do {
            people[people[.child] == nil ? .child : .second] = try scene.parent.fork()
          } catch {
            outcome.forkFailed = true
          }
        case .exit(let who):
          try #require(people[who]).exit()
          people[who] = nil
        case .store(let value, let who): try scene.store(value, by: #require(people[who]))
        case .unmap(let who):
          try #require(people[who]).unmap(scene.address, length: .pages(1))
          people[who] = nil
        case .discard(let who):
          try #require(people[who]).advise(scene.address, length: .pages(1), .dontNeed)
        case .deviceWrites: scene.deviceWrites(try #require(page))
        }
      }
      for who in [Who.parent, .child, .second] {
        outcome.sights.append(try people[who].map { try scene.sight(of: $0) })
      }
      outcome.device = scene.deviceReads(try #require(page))
    }
    return outcome
  }
}

@Suite("A machine's policy: right, wrong on purpose, and a kernel's choice")
struct PolicyTests {
  /// A policy and what it changes.
  struct Change: Sendable, CustomTestStringConvertible {
    let testDescription: String
    let policy: MemoryPolicy
    let byReference: [String]
    let byPin: [String]

    static let all: [Change] = [
      Change(
        testDescription: "reuseByMappingCount", policy: .reuseByMappingCount,
        byReference: ["S2", "S4", "S15", "S16a", "S16b", "S22"], byPin: []),
      Change(
        testDescription: "noUnshare", policy: .noUnshare, byReference: [],
        byPin: ["S10", "S18 long", "S22"]),
      Change(
        testDescription: "copyReferencedAtFork", policy: .copyReferencedAtFork,
        byReference: ["S1", "S2", "S3", "S4", "S7", "S11", "S24"], byPin: []),
      Change(
        testDescription: "shareAtFork", policy: .shareAtFork, byReference: [],
        byPin: ["S1", "S2", "S3", "S4", "S7", "S11", "S24"]),
      Change(
        testDescription: "shareAtFork prevails over copyReferencedAtFork",
        policy: [.shareAtFork, .copyReferencedAtFork], byReference: [],
        byPin: ["S1", "S2", "S3", "S4", "S7", "S11", "S24"]),
      Change(
        testDescription: "reuseLargeFolios", policy: .reuseLargeFolios, byReference: [], byPin: []),
      Change(
        testDescription: "remapSeveralAreas", policy: .remapSeveralAreas, byReference: [],
        byPin: []),
      Change(
        testDescription: "bits without a name", policy: MemoryPolicy(rawValue: ~0 << 6),
        byReference: [], byPin: []),
    ]
  }

  @Test(
    "D.2, D.3, D.4: each wrong policy changes its scenarios, those of its rule and no other",
    arguments: Change.all, ForkCase.all)
  func changes(_ change: Change, _ c: ForkCase) throws {
    var changed: [String] = []
    for script in Script.all where script.applies(to: c.hold) {
      if try script.outcome(c, change.policy) != script.outcome(c, []) {
        changed.append(script.name)
      }
    }
    #expect(changed == (c.isPin ? change.byPin : change.byReference))
  }

  @Test(
    "C.3 row 11, G-04: without unsharing the walk and the slow path pin the shared page itself",
    arguments: Entry.pinning, [GUPFlags.noFault, []])
  func noUnshare(_ entry: Entry, _ more: GUPFlags) throws {
    try Scene.run(ForkCase(hold: .pin, tier: .none)) { scene in
      let shared = try #require(scene.parent.page(at: scene.address))
      let child = try scene.parent.fork()
      scene.memory.policy = .noUnshare
      #expect(!scene.memory.policy.keepsPinsExclusive)
      var page: Page?
      let result = try unsafe entry.take(scene.parent, scene.address, 1, more, &page)
      #expect(result.pageCount == 1 && page == shared)
      #expect(shared.pinCount == 1 && !shared.isAnonymousExclusive && shared.mapCount == 2)
      unpinUserPage(try #require(page))
      #expect(child.page(at: scene.address) == shared && shared.referenceCount == 2)
    }
  }

  @Test("A policy is its machine's, may be set at any time, and is right at first")
  func isTheMachines() throws {
    try withMachine { memory in
      try withMachine { other in
        #expect(memory.policy.isEmpty && memory.policy.keepsPinsExclusive)
        memory.policy = .wrong
        #expect(memory.policy == .wrong && other.policy.isEmpty)
        #expect(memory.machine.policy == .wrong)
        memory.policy.remove(.noUnshare)
        #expect(!memory.policy.keepsPinsExclusive)
        memory.policy.remove(.shareAtFork)
        #expect(memory.policy == [.reuseByMappingCount, .copyReferencedAtFork])
        #expect(memory.policy.keepsPinsExclusive)
        memory.policy = []
        #expect(memory.policy.isEmpty)
      }
    }
  }
}
