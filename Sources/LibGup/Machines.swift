//===----------------------------------------------------------------------===//
// Machines, their counters, failure points, event sink and ledger.
//===----------------------------------------------------------------------===//

// swift-format-ignore-file: AlwaysUseLowerCamelCase
// The functions have their C names.

internal import AddressSpaces
public import CGup
internal import CShims
internal import Events
internal import PageExtraction
internal import PageFrames

private func tier(_ code: Int32) throws(MemoryError) -> TrapTier {
  switch Int(code) {
  case GUP_TRAP_BEST: .best
  case GUP_TRAP_NONE: .none
  case GUP_TRAP_SIGSEGV: .sigsegv
  case GUP_TRAP_USERFAULTFD: .userfaultfd
  default: throw MemoryError(.invalid, .argumentUnknown, Int(code))
  }
}

private func dialect(_ code: Int32) throws(MemoryError) -> Dialect {
  guard let code = UInt8(exactly: code), let dialect = Dialect(rawValue: code) else {
    throw MemoryError(.invalid, .argumentUnknown, Int(code))
  }
  return dialect
}

@c @implementation
public func gup_machine_create(
  _ options: UnsafePointer<gup_machine_options>?, _ machine: UnsafeMutablePointer<OpaquePointer?>?
) -> Int32 {
  guard let machine = unsafe machine else { return refuse(.outputMissing) }
  let options = unsafe options?.pointee ?? gup_machine_options()
  do throws(MemoryError) {
    guard layoutsMatch else { throw MemoryError(.notSupported, .layoutsDiffer) }
    let kind = try dialect(options.dialect)
    let memory = try PhysicalMemory(
      capacity: options.capacity == 0 ? .gibibytes(64) : byteCount(options.capacity),
      trapTier: try tier(options.trap),
      hostMappingBudget: options.host_mappings == 0
        ? nil : Int(clamping: options.host_mappings),
      joinable: options.joinable)
    memory.defaultDialect = kind
    let isKept = cshims_ledger_is_wanted()
    if isKept {
      guard unsafe Ledger.open(memory.machine.header) == 0 else {
        throw MemoryError(.outOfMemory, .metadataExhausted)
      }
      cshims_ledger_report_at_exit()
    }
    do throws(MemoryError) {
      unsafe machine.pointee = try open(memory, 0)
    } catch {
      if isKept { unsafe Ledger.close(memory.machine.header) }
      throw error
    }
    return 0
  } catch {
    return fail(error)
  }
}

@c @implementation
public func gup_machine_destroy(_ machine: OpaquePointer?) -> Int32 {
  do throws(MemoryError) {
    let memory = unsafe try close(machine, PhysicalMemory.self)
    unsafe Ledger.close(memory.machine.header)
    return 0
  } catch {
    return fail(error)
  }
}

@c @implementation
public func gup_machine_get_info(
  _ machine: OpaquePointer?, _ info: UnsafeMutablePointer<gup_machine_info>?
) -> Int32 {
  guard let info = unsafe info else { return refuse(.outputMissing) }
  return unsafe call(machine, PhysicalMemory.self) { memory in
    let trap =
      switch memory.trapTier {
      case .none: GUP_TRAP_NONE
      case .sigsegv: GUP_TRAP_SIGSEGV
      case .userfaultfd: GUP_TRAP_USERFAULTFD
      }
    unsafe info.pointee = gup_machine_info(
      total_frames: UInt64(memory.totalFrameCount.rawValue),
      free_frames: UInt64(memory.freeFrameCount.rawValue),
      resident_bytes: UInt64(memory.residentBytes.rawValue),
      host_mappings: UInt64(memory.hostMappingBudget), trap: Int32(trap),
      dialect: Int32(memory.defaultDialect.rawValue), policy: memory.policy.rawValue,
      joinable: memory.machine.isJoinable)
  }
}

@c @implementation
public func gup_machine_set_dialect(_ machine: OpaquePointer?, _ code: Int32) -> Int32 {
  unsafe call(machine, PhysicalMemory.self) { (memory) throws(MemoryError) in
    memory.defaultDialect = try dialect(code)
  }
}

@c @implementation
public func gup_machine_set_policy(_ machine: OpaquePointer?, _ policy: UInt32) -> Int32 {
  unsafe call(machine, PhysicalMemory.self) { (memory) throws(MemoryError) in
    let known = MemoryPolicy.wrong.union([.reuseLargeFolios, .remapSeveralAreas])
    guard MemoryPolicy(rawValue: policy).isSubset(of: known) else {
      throw MemoryError(.invalid, .argumentUnknown, Int(policy))
    }
    memory.policy = MemoryPolicy(rawValue: policy)
  }
}

@c @implementation
public func gup_machine_counters(
  _ machine: OpaquePointer?, _ counters: UnsafeMutablePointer<gup_counters>?
) -> Int32 {
  guard let counters = unsafe counters else { return refuse(.outputMissing) }
  return unsafe call(machine, PhysicalMemory.self) { memory in
    let now = memory.counters
    unsafe counters.pointee = gup_counters(
      pins_acquired: UInt64(now.pinsAcquired), pins_released: UInt64(now.pinsReleased),
      refs_acquired: UInt64(now.referencesAcquired),
      refs_released: UInt64(now.referencesReleased), faults: UInt64(now.faults),
      host_calls: UInt64(now.hostCalls))
  }
}

private func failurePoint(_ point: Int32) throws(MemoryError) -> FailurePoint {
  guard let code = UInt32(exactly: point), let point = FailurePoint(rawValue: code) else {
    throw MemoryError(.invalid, .argumentUnknown, Int(point))
  }
  return point
}

@c @implementation
public func gup_machine_arm(
  _ machine: OpaquePointer?, _ point: Int32, _ countdown: UInt64
) -> Int32 {
  unsafe call(machine, PhysicalMemory.self) { (memory) throws(MemoryError) in
    memory.arm(try failurePoint(point), countdown: Int(clamping: countdown))
  }
}

@c @implementation
public func gup_machine_failures(_ machine: OpaquePointer?, _ point: Int32) -> Int64 {
  unsafe count(machine, PhysicalMemory.self) { (memory) throws(MemoryError) in
    memory.failures(of: try failurePoint(point))
  }
}

@c @implementation
public func gup_machine_set_event_sink(
  _ machine: OpaquePointer?, _ sink: gup_event_sink?, _ context: UnsafeMutableRawPointer?
) -> Int32 {
  unsafe call(machine, PhysicalMemory.self) { memory in
    unsafe memory.setEventSink(sink, context: context)
  }
}

@c @implementation
public func gup_machine_reclaim(
  _ machine: OpaquePointer?, _ pages: UInt64, _ movement: UnsafeMutablePointer<gup_movement>?
) -> Int64 {
  unsafe count(machine, PhysicalMemory.self) { (memory) throws(MemoryError) in
    unsafe told(try memory.reclaim(PageCount(Int(clamping: pages))), movement)
  }
}

@c @implementation
public func gup_machine_compact(
  _ machine: OpaquePointer?, _ movement: UnsafeMutablePointer<gup_movement>?
) -> Int64 {
  unsafe count(machine, PhysicalMemory.self) { (memory) throws(MemoryError) in
    unsafe told(try memory.compact(), movement)
  }
}

@c @implementation
public func gup_machine_reap(_ machine: OpaquePointer?) -> Int64 {
  unsafe count(machine, PhysicalMemory.self) { $0.reapDeadProcesses() }
}

// MARK: - The ledger

@c @implementation
public func gup_ledger_enable(_ machine: OpaquePointer?) -> Int32 {
  unsafe call(machine, PhysicalMemory.self) { (memory) throws(MemoryError) in
    guard unsafe Ledger.open(memory.machine.header) == 0 else {
      throw MemoryError(.outOfMemory, .metadataExhausted)
    }
    cshims_ledger_report_at_exit()
  }
}

@c @implementation
public func gup_ledger_counts(
  _ pins: UnsafeMutablePointer<UInt64>?, _ refs: UnsafeMutablePointer<UInt64>?
) -> Int32 {
  guard let pins = unsafe pins, let refs = unsafe refs else { return refuse(.outputMissing) }
  unsafe pins.pointee = UInt64(Ledger.pins)
  unsafe refs.pointee = UInt64(Ledger.references)
  return 0
}

@c @implementation
public func gup_ledger_report(_ descriptor: Int32) -> Int64 {
  Int64(Ledger.report(to: descriptor))
}
