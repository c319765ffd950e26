//===----------------------------------------------------------------------===//
// Ledger: who holds which page, since which call (design: pins are owned). The
// rooms below tell it what they take and ask it before they drop. Off, that is
// one load of a word that nobody writes, once a call.
//
// Its table and its lock are C's (CShims/ledger.c), since its reports are made
// when the program exits. Never called on the fault path.
//===----------------------------------------------------------------------===//

public import CShims

/// The ledger of holds of all machines that keep one.
public enum Ledger {
  /// Does any machine keep one?
  @inlinable
  public static var isOn: Bool { cshims_ledger_is_on() }

  /// Begins to note a machine's holds. What was taken before is not known to
  /// it, and would be refused when it is dropped.
  /// - Returns: 0, or ENOMEM.
  public static func open(_ machine: UnsafeMutablePointer<cshims_machine>) -> Int32 {
    unsafe cshims_ledger_open(machine)
  }

  /// Forgets a machine and its holds, and reports them on standard error.
  /// - Returns: how many there were.
  @discardableResult
  public static func close(_ machine: UnsafeMutablePointer<cshims_machine>) -> Int {
    Int(unsafe cshims_ledger_close(machine))
  }

  /// Pins that are noted and were not dropped.
  public static var pins: Int { Int(cshims_ledger_count(UInt32(CSHIMS_HOLD_PIN))) }
  /// References that are noted and were not dropped.
  public static var references: Int {
    Int(cshims_ledger_count(UInt32(CSHIMS_HOLD_REFERENCE)))
  }

  /// Writes what is held, in which address spaces, since which calls; nothing
  /// when nothing is.
  /// - Returns: the holds that were written of.
  @discardableResult
  public static func report(to descriptor: Int32) -> Int { Int(cshims_ledger_report(descriptor)) }
}
