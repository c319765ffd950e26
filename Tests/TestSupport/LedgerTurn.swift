//===----------------------------------------------------------------------===//
// The ledger of holds is the process's: tests that look at it go one at a time.
//===----------------------------------------------------------------------===//

internal import Synchronization

private let turn = Mutex(())

/// Runs `body` while no other test has a ledger.
public func withLedger(_ body: () throws -> Void) throws {
  try turn.withLock { _ in try body() }
}
