//===----------------------------------------------------------------------===//
// Real processes that play a script before the running kernel: real fork(2),
// mprotect, madvise, munmap and mremap, pins by io_uring, references by
// vmsplice, transfers by O_DIRECT, and what the processes then see.
//===----------------------------------------------------------------------===//

internal import CShims

/// A stage: processes of this program's own that take the steps of a script in turn, one at a
/// time. Made once and used for any number of scripts; every script starts with one fresh process,
/// number 0, and leaves nothing behind.
///
/// Works without privilege; `pagemap` entries then have no frame numbers. Thread safety: exclusive
/// access, as the language enforces it.
@safe public struct HostStage: ~Copyable, @unchecked Sendable {
  /// What a step does. The process named in the step does it, but the device's own steps.
  public enum Kind: Sendable {
    /// Maps `segments[0]`, a whole buffer, where it was before or anywhere.
    case map(Backing)
    case unmap
    /// mprotect(2) with these `PROT_` bits.
    case protect(Int32)
    /// madvise(2) with this number.
    case advise(Int32)
    /// mremap(2) of `segments[0]` to the place of `segments[1]`; MREMAP_DONTUNMAP if old stays.
    case move(keepingOld: Bool)
    /// Loads a byte every so many bytes of the segments.
    case load(stride: Int)
    /// Stores one byte at `segments[0]`.
    case store(UInt8)
    /// fork(2); the number of the child.
    case fork(Int)
    /// The process ends, and its memory is gone when the step is.
    case exit
    /// Pins `segments[0]` as this hold (io_uring: FOLL_PIN, FOLL_WRITE, FOLL_LONGTERM).
    case pin(Int)
    /// Pins `segments[0]`, whole blocks of 512 bytes, as this hold for one reading of the device's
    /// (O_DIRECT: FOLL_PIN), all or nothing. The process has to live until then.
    case pinToRead(Int)
    /// References `segments[0]` as this hold, so many times (vmsplice: FOLL_GET).
    case get(Int, times: Int)
    /// The device writes one byte at `segments[0]` through a pin. ENOTSUP through references.
    case deviceWrite(Int, UInt8)
    /// The device reads what it holds. A pin for reading ends with it.
    case deviceRead(Int)
    /// Drops a hold.
    case release(Int)
    /// O_DIRECT readv(2) into the segments of a file whose blocks start with this byte.
    case directRead(UInt8)
    /// O_DIRECT writev(2) of the segments.
    case directWrite
    /// Loads the byte at `segments[0]` whatever its protection (/proc/self/mem: FOLL_FORCE).
    case peek
    /// Stores a byte so.
    case poke(UInt8)
    /// Nothing but looking at pagemap.
    case look
    /// `nr_foll_pin_acquired` and `nr_foll_pin_released`, with all batches folded in: root only.
    case counters
  }

  public enum Backing: Sendable {
    /// Private anonymous memory in 4 KiB pages.
    case `private`
    case shared
    /// Private anonymous memory at a multiple of 2 MiB that shall stand in huge pages.
    case huge
    /// A file on the stage's file system; page n of 32 starts with the byte 0x40 + n.
    case privateFile
    case sharedFile
  }

  /// Bytes of a numbered buffer.
  public struct Segment: Sendable {
    public let buffer: Int
    public let offset: Int
    public let length: Int

    public init(buffer: Int, offset: Int, length: Int) {
      self.buffer = buffer
      self.offset = offset
      self.length = length
    }
  }

  public struct Step: Sendable {
    public let kind: Kind
    public let process: Int
    public let segments: [Segment]

    public init(_ kind: Kind, by process: Int = 0, _ segments: [Segment] = []) {
      self.kind = kind
      self.process = process
      self.segments = segments
    }
  }

  /// What came of a step.
  public struct Answer: Sendable {
    /// 0, or the errno that the call failed with.
    public let errno: Int32
    /// Bytes transferred or held; `counters`: pages pinned since the system started.
    public let amount: Int
    /// `counters`: pages unpinned.
    public let more: Int
    /// One byte for each that was loaded, or for each 512 bytes that were transferred.
    public let samples: [UInt8]
    /// For each page of the segments the signal that touching it ended in, or 0.
    public let signals: [Int32]
    /// pagemap's entries of the segments' pages before and after, at most 32.
    public let before: [UInt64]
    public let after: [UInt64]
  }

  public static let stepLimit = Int(CSHIMS_STAGE_STEPS)
  public static let processLimit = Int(CSHIMS_STAGE_PROCESSES)
  public static let bufferLimit = Int(CSHIMS_STAGE_BUFFERS)
  public static let holdLimit = Int(CSHIMS_STAGE_HOLDS)
  public static let segmentLimit = Int(CSHIMS_STAGE_SEGMENTS)
  /// The most pages that one step tells about.
  public static let pageLimit = Int(CSHIMS_STAGE_PAGES)

  private let stage: OpaquePointer
  /// Why there are no O_DIRECT transfers; nil when there are.
  public let directError: HostError?
  /// Why nothing can be pinned to be read; nil when it can.
  public let stallError: HostError?
  /// The frame numbers of the zero page and of the huge one, which untouched memory shows; 0 and
  /// none where frame numbers are hidden.
  public let zeroFrames: (page: UInt64, huge: Range<UInt64>)

  /// Forks the director of the stage.
  /// - Parameter directory: where its files are made; O_DIRECT needs a disk's file system.
  /// - Throws: what fork(2) or making a file there failed with.
  public init(directory: String) throws(HostError) {
    var stage: OpaquePointer?
    var directError: Int32 = 0
    try check(
      unsafe cshims_stage_open(directory, &stage, &directError),
      "making a stage of processes with files in '\(directory)'")
    // The shim yields a stage whenever it returns 0.
    unsafe self.stage = stage.unsafelyUnwrapped
    self.directError =
      directError == 0
      ? nil
      : HostError(
        operation: "opening a file in '\(directory)' with O_DIRECT", errno: directError,
        hint: "Choose a directory on a disk.")
    let stallError = unsafe cshims_stage_stall_error(stage)
    self.stallError =
      stallError == 0
      ? nil
      : HostError(
        operation: "making a direct transfer wait by a userfaultfd", errno: stallError,
        hint: "It takes root, or vm.unprivileged_userfaultfd = 1.")
    let huge = unsafe cshims_stage_zero_frame(stage, true)
    self.zeroFrames = unsafe (
      cshims_stage_zero_frame(stage, false), huge..<(huge == 0 ? 0 : huge + 512)
    )
  }

  deinit { unsafe cshims_stage_close(stage) }

  /// Plays a script.
  /// - Returns: an answer for each step.
  /// - Throws: E2BIG for a script beyond the limits, EINVAL for numbers beyond them; ENOSYS, EPERM
  ///   or EMFILE when the device's means are refused; EPROTO when a process died, ETIMEDOUT
  ///   when one hung, EPIPE when the whole stage did, and then it is of no more use.
  public mutating func play(_ script: [Step]) throws(HostError) -> [Answer] {
    try checkLimits(script)
    let steps = unsafe cshims_stage_steps(stage).unsafelyUnwrapped
    for (index, step) in script.enumerated() {
      unsafe encode(step, into: &steps[index])
    }
    try check(
      unsafe cshims_stage_play(stage, UInt32(script.count)),
      "playing a script of \(script.count) steps")
    let answers = unsafe cshims_stage_answers(stage).unsafelyUnwrapped
    return script.indices.map { unsafe decode(answers + $0, of: script[$0]) }
  }

  private func checkLimits(_ script: [Step]) throws(HostError) {
    func refuse(_ what: String, _ value: Int, _ errno: Int32 = EINVAL) -> HostError {
      HostError(operation: "playing a script", errno: errno, hint: "\(what) \(value).")
    }
    guard script.count <= Self.stepLimit else {
      throw refuse("It may have \(Self.stepLimit) steps, not", script.count, E2BIG)
    }
    for step in script {
      guard 0..<Self.processLimit ~= step.process else {
        throw refuse("There is no process", step.process)
      }
      guard step.segments.count <= Self.segmentLimit else {
        throw refuse("A step may have \(Self.segmentLimit) segments, not", step.segments.count)
      }
      for segment in step.segments {
        guard 0..<Self.bufferLimit ~= segment.buffer else {
          throw refuse("There is no buffer", segment.buffer)
        }
        guard segment.offset >= 0, 0...(1 << 30) ~= segment.length else {
          throw refuse("No segment can have length", segment.length)
        }
      }
      switch step.kind {
      case .pin(let hold), .pinToRead(let hold), .get(let hold, _), .deviceWrite(let hold, _),
        .deviceRead(let hold), .release(let hold):
        guard 0..<Self.holdLimit ~= hold else { throw refuse("There is no hold", hold) }
      case .fork(let child):
        guard 0..<Self.processLimit ~= child else { throw refuse("There is no process", child) }
      default: break
      }
    }
  }

  private func encode(_ step: Step, into raw: inout cshims_stage_step) {
    raw = cshims_stage_step()
    raw.process = UInt8(step.process)
    for (index, segment) in step.segments.enumerated() {
      unsafe cshims_stage_set_segment(
        &raw, UInt32(index), UInt32(segment.buffer), UInt64(segment.offset),
        UInt32(segment.length))
    }
    func set(_ kind: cshims_stage_kind, other: Int = 0, value: UInt8 = 0, detail: Int32 = 0) {
      raw.kind = UInt8(kind.rawValue)
      raw.other = UInt8(other)
      raw.value = value
      raw.detail = UInt32(bitPattern: detail)
    }
    switch step.kind {
    case .map(let backing): set(CSHIMS_STAGE_MAP, other: Int(backing.raw.rawValue))
    case .unmap: set(CSHIMS_STAGE_UNMAP)
    case .protect(let bits): set(CSHIMS_STAGE_PROTECT, detail: bits)
    case .advise(let advice): set(CSHIMS_STAGE_ADVISE, detail: advice)
    case .move(let keepingOld): set(CSHIMS_STAGE_MOVE, detail: keepingOld ? 1 : 0)
    case .load(let stride): set(CSHIMS_STAGE_LOAD, detail: Int32(stride))
    case .store(let value): set(CSHIMS_STAGE_STORE, value: value)
    case .fork(let child): set(CSHIMS_STAGE_FORK, other: child)
    case .exit: set(CSHIMS_STAGE_EXIT)
    case .pin(let hold): set(CSHIMS_STAGE_PIN, other: hold)
    case .pinToRead(let hold): set(CSHIMS_STAGE_PIN_TO_READ, other: hold)
    case .get(let hold, let times): set(CSHIMS_STAGE_GET, other: hold, detail: Int32(times))
    case .deviceWrite(let hold, let value):
      set(CSHIMS_STAGE_DEVICE_WRITE, other: hold, value: value)
    case .deviceRead(let hold): set(CSHIMS_STAGE_DEVICE_READ, other: hold)
    case .release(let hold): set(CSHIMS_STAGE_RELEASE, other: hold)
    case .directRead(let value): set(CSHIMS_STAGE_DIRECT_READ, value: value)
    case .directWrite: set(CSHIMS_STAGE_DIRECT_WRITE)
    case .peek: set(CSHIMS_STAGE_PEEK)
    case .poke(let value): set(CSHIMS_STAGE_POKE, value: value)
    case .look: set(CSHIMS_STAGE_PAGEMAP)
    case .counters: set(CSHIMS_STAGE_COUNTERS)
    }
  }

  private func decode(
    _ raw: UnsafePointer<cshims_stage_answer>, of step: Step
  ) -> Answer {
    let pages = min(
      step.segments.reduce(0) { sum, segment in
        let first = segment.offset >> 12
        let end = (segment.offset + segment.length + 4095) >> 12
        return sum + (segment.length == 0 ? 0 : end - first)
      }, Self.pageLimit)
    return unsafe Answer(
      errno: raw.pointee.error, amount: Int(raw.pointee.amount), more: Int(raw.pointee.more),
      samples: (0..<raw.pointee.sample_count).map { unsafe cshims_stage_sample(raw, $0) },
      signals: (0..<UInt32(pages)).map { unsafe cshims_stage_signal(raw, $0) },
      before: (0..<UInt32(pages)).map { unsafe cshims_stage_before(raw, $0) },
      after: (0..<UInt32(pages)).map { unsafe cshims_stage_after(raw, $0) })
  }
}

extension HostStage.Backing {
  fileprivate var raw: cshims_stage_backing {
    switch self {
    case .private: CSHIMS_STAGE_PRIVATE
    case .shared: CSHIMS_STAGE_SHARED
    case .huge: CSHIMS_STAGE_HUGE
    case .privateFile: CSHIMS_STAGE_PRIVATE_FILE
    case .sharedFile: CSHIMS_STAGE_SHARED_FILE
    }
  }
}
