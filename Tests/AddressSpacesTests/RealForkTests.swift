//===----------------------------------------------------------------------===//
// Real fork(2), raw clone(2) and vfork(2), in the executable fork-helper: one
// scenario a process, one process at a time.
//===----------------------------------------------------------------------===//

import PageFrames
import TestSupport
import Testing

@Suite("Real fork(2)", .serialized)
struct RealForkTests {
  @Test(
    "9: a child made by fork(2) or clone(2) that touches a view or the window ends by SIGSEGV; the parent goes on",
    arguments: TrapTier.all)
  func touches(tier: TrapTier) throws { try expectDone("touches", tier) }

  @Test(
    "9: a child's own mappings never stand where its parent's views were",
    arguments: TrapTier.all)
  func noReuse(tier: TrapTier) throws { try expectDone("noReuse", tier) }

  @Test(
    "9: a child of vfork(2) has its parent's memory, and its touches are served",
    arguments: TrapTier.all)
  func sharedMemory(tier: TrapTier) throws { try expectDone("sharedMemory", tier) }

  @Test(
    "9: in a child every call says ESRCH and whose the machine is, and changes nothing",
    arguments: TrapTier.all)
  func calls(tier: TrapTier) throws { try expectDone("calls", tier) }

  @Test(
    "9, C.9: a child that releases what its parent took changes no count",
    arguments: TrapTier.all)
  func releases(tier: TrapTier) throws { try expectDone("releases", tier) }

  @Test(
    "9: a child that drops every object and ends by exit(3) leaves the parent's alone",
    arguments: TrapTier.all)
  func ends(tier: TrapTier) throws { try expectDone("ends", tier) }

  @Test(
    "9: threads fault and pin while 60 children come and go",
    arguments: TrapTier.all)
  func storm(tier: TrapTier) throws { try expectDone("storm", tier) }

  @Test(
    "9: a child makes machines of its own, down to the fourth generation",
    arguments: TrapTier.all)
  func ownMachine(tier: TrapTier) throws { try expectDone("ownMachine", tier) }

  @Test(
    "9, D.1, D.2: a child that joins reads the bytes of the fork, and neither sees the other's private stores",
    arguments: TrapTier.testable)
  func bytes(tier: TrapTier) throws { try expectDone("bytes", tier) }

  @Test("9: what cannot be joined, and why", arguments: TrapTier.testable)
  func refusals(tier: TrapTier) throws { try expectDone("refusals", tier) }

  @Test(
    "9: a child that is killed, exits, calls exec(2) or never joins leaves the parent's counts exact",
    arguments: TrapTier.testable)
  func deadChildren(tier: TrapTier) throws { try expectDone("deadChildren", tier) }

  @Test(
    "9: the process that made the machine is killed while it holds pins; its child goes on",
    arguments: TrapTier.testable)
  func deadFounder(tier: TrapTier) throws { try expectDone("deadFounder", tier) }

  @Test(
    "9: what a dead process had stored into a file of its own goes into no other process's",
    arguments: TrapTier.testable)
  func deadFile(tier: TrapTier) throws { try expectDone("deadFile", tier) }

  @Test(
    "9: four generations fork and join, pin, and end in every order",
    arguments: TrapTier.testable)
  func generations(tier: TrapTier) throws { try expectDone("generations", tier) }

  @Test(
    "9: four threads fork at once on two machines, and each child joins both",
    arguments: TrapTier.testable)
  func crowd(tier: TrapTier) throws { try expectDone("crowd", tier) }

  @Test(
    "9: 40 children killed at random while both sides fault, fork and pin leave every frame free",
    arguments: TrapTier.testable)
  func kills(tier: TrapTier) throws { try expectDone("kills", tier) }

  @Test(
    "9: a child joins and touches pages, though another thread was making Swift's metadata at the fork",
    arguments: TrapTier.testable)
  func busyRuntime(tier: TrapTier) throws { try expectDone("busyRuntime", tier) }

  @Test(
    "9: children join by the C interface; what one held that was killed is given back",
    arguments: TrapTier.testable)
  func cInterface(tier: TrapTier) throws { try expectDone("cInterface", tier) }

  private func expectDone(_ scenario: String, _ tier: TrapTier) throws {
    let run = try runHelper(scenario, tier, of: "fork-helper")
    #expect(run.isDone, "\(run)")
  }
}
