//===----------------------------------------------------------------------===//
// HostView: makes the host's mappings follow the page table.
//
// A page of a view is absent (the next touch is a fault), shown read-only, or
// shown writable; and what the host maps there is its home frame or something
// else. Whoever changes the page table calls `followTable` for the range, which
// finds the runs of pages that need the same change and makes one host call for
// each; pages that are absent stay so, and appear when they are touched
// (`reveal`).
//
//                 home, absent          home, read-only       home, writable
//   userfaultfd   no host entry         entry, protected      entry
//   SIGSEGV, none PROT_NONE             PROT_READ             PROT_READ|WRITE
//
// A page elsewhere costs a host mapping of its own; so does, in the SIGSEGV
// tier, every change of protection. A view has a budget of them: past it the
// stretches that were shown longest ago are hidden, one mapping each.
//
// The zero page cannot be shown run by run as one frame: the host would need a
// mapping a page. The machine keeps 512 zero frames, and page n of a stretch
// shows the n-th, so that a run of zero pages is one mapping, and reading
// untouched memory takes no frames from the pool.
//
// All under the mmap lock. In the userfaultfd tier a mapping that is replaced
// is untouchable until it is registered; a thread that touches it meanwhile
// waits in the trap (a system call sees EFAULT in that moment).
//===----------------------------------------------------------------------===//

internal import CShims
internal import Events
internal import PageFrames

extension MM {
  var usesUserfaultfd: Bool { unsafe state.pointee.tier == .userfaultfd }
  var userfaultfd: Int32 {
    guard let trap = unsafe state.pointee.trap else { return -1 }
    return unsafe cshims_trap_userfaultfd(trap)
  }

  func counted(_ error: Int32) -> Int32 {
    machine.count(CSHIMS_HOST_CALLS, 1)
    return error
  }

  // MARK: - Bare areas

  /// Maps the homes of [start, end), all pages absent: one call for each run of
  /// areas whose homes are consecutive. What lies in no area, or has no home,
  /// becomes an untouchable reservation.
  func establish(_ start: UInt64, _ end: UInt64) -> Int32 {
    guard unsafe state.pointee.hasView else { return 0 }
    var address = start
    while address < end {
      var pieceEnd = address
      var home: UInt64? = nil
      if let area = unsafe area(containing: address) {
        home = unsafe area.pointee.home(of: address)
        let base = unsafe area.pointee.homeBase
        pieceEnd = unsafe min(end, area.pointee.end)
        while pieceEnd < end, let next = unsafe self.area(containing: pieceEnd),
          unsafe next.pointee.homeBase == base
        { pieceEnd = unsafe min(end, next.pointee.end) }
      } else {
        pieceEnd =
          unsafe state.pointee.areas.first(atOrAfter: address).map {
            unsafe min(end, $0.pointee.start)
          } ?? end
      }
      pieceEnd = regionEnd(address, pieceEnd)
      let error = establishPiece(address, pieceEnd, home: home)
      if error != 0 { return error }
      address = pieceEnd
    }
    return 0
  }

  private func establishPiece(_ start: UInt64, _ end: UInt64, home: UInt64?) -> Int32 {
    guard let host = hostAddress(of: start) else { return ErrorNumber.badAddress.rawValue }
    guard let home else { return vacate(host, end - start) }
    return mapFrames(host, end - start, frame: home)
  }

  /// Makes host addresses of this view untouchable. Where memory was adopted, so
  /// that it can be seen later whose the addresses are.
  private func vacate(_ host: UInt64, _ length: UInt64) -> Int32 {
    guard isAdopted(host) else { return counted(cshims_rereserve(host, length)) }
    let file = unsafe machine.header.pointee.memfd
    return counted(cshims_show(host, length, CSHIMS_PROT_NONE, file, 0))
  }

  /// Maps frames at a host address, every page absent unless they may be read: then
  /// loads bring them in, and who opens them to stores has protected them before.
  private func mapFrames(
    _ host: UInt64, _ length: UInt64, frame: UInt64,
    _ protection: cshims_protection = CSHIMS_PROT_NONE
  ) -> Int32 {
    let file = unsafe machine.header.pointee.memfd
    let error = counted(cshims_show(host, length, protection, file, frame << 12))
    guard error == 0, usesUserfaultfd else { return error }
    let registered = counted(cshims_userfaultfd_register(userfaultfd, host, length))
    guard registered == 0, protection == CSHIMS_PROT_NONE else { return registered }
    return counted(cshims_protect(host, length, CSHIMS_PROT_READ_WRITE))
  }

  /// Takes [start, end) out of the view: nothing there can be touched any more.
  func withdraw(_ start: UInt64, _ end: UInt64) {
    guard unsafe state.pointee.hasView else { return }
    var address = start
    while address < end, let host = hostAddress(of: address) {
      let stop = regionEnd(address, end)
      var error = mayChange(address, stop) ? vacate(host, stop - address) : 0
      if error != 0 {
        // The process is out of mappings: make room and try once more.
        reduceMappings(to: 0)
        error = vacate(host, stop - address)
      }
      if error != 0 { Self.cannotHide(host, error) }
      address = stop
    }
    forget(start, end)
  }

  /// Where the region of `address` ends, or `end` if that is nearer. Regions that
  /// touch may stand at unrelated host addresses.
  private func regionEnd(_ address: UInt64, _ end: UInt64) -> UInt64 {
    guard let region = unsafe state.pointee.regions.find(containing: address) else { return end }
    return unsafe min(end, region.pointee.end)
  }

  private static func cannotHide(_ host: UInt64, _ error: Int32) -> Never {
    unsafe cshims_die("the host refuses to hide a page", host >> 12, UInt64(error), "host view")
  }

  /// Sets the record of [start, end) to absent, at home.
  func forget(_ start: UInt64, _ end: UInt64) {
    var address = start
    while address < end {
      let stop = recordEnd(address, end)
      if let stretch = unsafe stretch(at: address, create: false) {
        for index in Self.indices(address, stop) { unsafe stretch.pointee.pages[index] = 0 }
        unsafe recount(stretch, at: address)
      }
      address = stop
    }
  }

  /// Where the record of `address` ends, or `end` if that is nearer: two regions
  /// that meet within 2 MiB have a record each.
  private func recordEnd(_ address: UInt64, _ end: UInt64) -> UInt64 {
    regionEnd(address, Self.tableEnd(address, end))
  }

  private static func indices(_ start: UInt64, _ end: UInt64) -> Range<Int> {
    let first = Int(start >> 12) & 511
    return first..<(first + Int((end - start) >> 12))
  }

  // MARK: - Following the page table

  /// Makes the shown pages of [start, end) show what the page table says now.
  /// Cannot fail to hide: a page that cannot be shown as it should is hidden.
  func followTable(_ start: UInt64, _ end: UInt64) {
    _ = follow(start, end, revealing: false)
  }

  /// Shows every present page of [start, end). Returns 0 or an errno; the pages
  /// before the one that failed are shown.
  func reveal(_ start: UInt64, _ end: UInt64) -> Int32 {
    follow(start, end, revealing: true)
  }

  /// Shows the page that a thread waits for, and with it the neighbours in
  /// [start, end) that need the same host call. It is shown whatever the budget
  /// says: without it the thread would come back for ever. Returns 0 or the errno
  /// of showing it.
  func reveal(touched page: UInt64, within start: UInt64, _ end: UInt64) -> Int32 {
    let run = runOfEntries(around: page, start, end)
    let error = reveal(run.start, run.end)
    if error == 0, isShown(page) { return 0 }
    // The process is out of mappings: make room and try once more. Or the view is
    // mostly bare areas, so that what was just shown has been hidden again.
    if error != 0 { reduceMappings(to: 0) }
    return followRecords(page, page + 4096, revealing: true)
  }

  /// The present pages around `page`, all in one table, whose frames are
  /// consecutive and whose protection is the same.
  private func runOfEntries(
    around page: UInt64, _ start: UInt64, _ end: UInt64
  ) -> (start: UInt64, end: UInt64) {
    let entries = entries(around: page)
    let index = Int(page >> 12) & 511
    let mask = CSHIMS_PTE_FRAME_MASK | CSHIMS_PTE_PRESENT | CSHIMS_PTE_WRITE | CSHIMS_PTE_SPECIAL
    let value = entries[index] & mask
    let step: Int64 = Self.isZeroPage(value) ? 0 : 4096
    func belongs(_ distance: Int) -> Bool {
      let expected = value &+ UInt64(bitPattern: step &* Int64(distance))
      return entries[index + distance] & mask == expected
    }
    var first = 0
    while page - start > UInt64(-first) << 12, belongs(first - 1) { first -= 1 }
    var last = 1
    while end - page > UInt64(last) << 12, belongs(last) { last += 1 }
    return (page - UInt64(-first) << 12, page + UInt64(last) << 12)
  }

  private func isShown(_ page: UInt64) -> Bool {
    guard let stretch = unsafe stretch(at: page, create: false) else { return false }
    let view = PageView(rawValue: unsafe stretch.pointee.pages[Int(page >> 12) & 511])
    return view.contains(.shown)
  }

  /// Pages next to each other that need the same change.
  private struct Run {
    var start: UInt64
    var end: UInt64
    var from: PageView
    var to: PageView
    var frame: UInt64
  }

  private func follow(_ start: UInt64, _ end: UInt64, revealing: Bool) -> Int32 {
    let result = followRecords(start, end, revealing: revealing)
    // Without a trap a page that is hidden never comes back: no budget there.
    if unsafe state.pointee.tier != .none,
      unsafe state.pointee.view.mappings > state.pointee.view.budget
    {
      unsafe reduceMappings(to: state.pointee.view.budget * 3 / 4)
    }
    return result
  }

  private func followRecords(_ start: UInt64, _ end: UInt64, revealing: Bool) -> Int32 {
    var result: Int32 = 0
    var address = start
    while address < end {
      let stop = recordEnd(address, end)
      // After an error nothing more is shown, but what the page table has taken back
      // must still go out of sight: a writable view of a page that fork shares
      // would store into both.
      let reveals = revealing && result == 0
      var error: Int32 = 0
      if let stretch = unsafe stretch(at: address, create: reveals) {
        error = unsafe follow(address, stop, stretch, revealing: reveals)
      } else if reveals {
        error = ErrorNumber.outOfMemory.rawValue
      }
      if result == 0 { result = error }
      address = stop
    }
    return result
  }

  private func follow(
    _ start: UInt64, _ end: UInt64, _ stretch: UnsafeMutablePointer<Stretch>, revealing: Bool
  ) -> Int32 {
    let entries = entries(around: start)
    var run: Run? = nil
    var area: UnsafeMutablePointer<Area>? = nil
    var address = start
    for index in Self.indices(start, end) {
      defer { address += 4096 }
      let from = PageView(rawValue: unsafe stretch.pointee.pages[index])
      if from.isEmpty && !revealing { continue }
      let value = entries[index]
      if unsafe area == nil || area!.pointee.end <= address {
        unsafe area = self.area(containing: address)
      }
      var (to, frame) = unsafe target(value, address, area)
      if revealing && to.isEmpty && !from.contains(.shown) { to = from }
      // An elsewhere page is mapped anew even when its view stays the same: the
      // record does not say which frame it was.
      if from == to, !from.contains(.elsewhere) || from.contains(.zero) || revealing {
        if let current = run, current.to.isEmpty {
          // A run that hides must not reach over a page that stays.
          run = nil
          let error = unsafe change(current, stretch)
          if error != 0 { return error }
        }
        continue
      }
      if var current = run, Self.continues(current, address, from, to, frame) {
        current.end = address + 4096
        run = current
        continue
      }
      if let current = run {
        let error = unsafe change(current, stretch)
        if error != 0 { return error }
      }
      run = Run(start: address, end: address + 4096, from: from, to: to, frame: frame)
    }
    if let current = run { return unsafe change(current, stretch) }
    return 0
  }

  /// Does the page at `address` belong to the run? Hiding what is at home may
  /// reach over absent pages in between.
  private static func continues(
    _ run: Run, _ address: UInt64, _ from: PageView, _ to: PageView, _ frame: UInt64
  ) -> Bool {
    guard run.from == from, run.to == to else { return false }
    if to.isEmpty { return run.end == address || !from.contains(.elsewhere) }
    return run.end == address
      && (to.contains(.zero) || frame == run.frame + (address - run.start) >> 12)
  }

  /// What the page table wants a page to show, and which frame.
  func target(
    _ value: UInt64, _ address: UInt64, _ area: UnsafeMutablePointer<Area>?
  ) -> (PageView, UInt64) {
    guard value & CSHIMS_PTE_PRESENT != 0, let area = unsafe area else { return ([], 0) }
    if Self.isZeroPage(value) {
      return (.shownZero, (address >> 12) & 511)
    }
    var view: PageView = .shown
    if value & CSHIMS_PTE_WRITE != 0, !awaitsStore(value) { view.insert(.writable) }
    let frame = Self.frame(of: value)
    if unsafe area.pointee.home(of: address) != frame { view.insert(.elsewhere) }
    return (view, frame)
  }

  /// Carries out one run and records it.
  private func change(_ run: Run, _ stretch: UnsafeMutablePointer<Stretch>) -> Int32 {
    guard let host = hostAddress(of: run.start) else { return ErrorNumber.badAddress.rawValue }
    guard mayChange(run.start, run.end) else { return 0 }
    let length = run.end - run.start
    var error: Int32
    if run.to.isEmpty {
      error = hide(run, host, length)
      if error != 0 {
        // Out of mappings: hide the whole stretch, which needs none.
        unsafe hideStretch(run.start, stretch)
        return 0
      }
    } else if unsafe machine.header.fails(at: .hostMapping) {
      error = ErrorNumber.outOfMemory.rawValue
    } else {
      error = show(run, host, length)
    }
    if error != 0 {
      // Never leave an old frame in sight.
      unsafe hideStretch(run.start, stretch)
      return error
    }
    // The absent pages that a hiding run reached over are absent afterwards, too.
    unsafe record(run.to, run.start, run.end, stretch)
    if !run.to.isEmpty {
      unsafe state.pointee.view.clock += 1
      unsafe stretch.pointee.lastShown = state.pointee.view.clock
    }
    return 0
  }

  private func hide(_ run: Run, _ host: UInt64, _ length: UInt64) -> Int32 {
    // A denied page may be a bare reservation, which must not become accessible.
    if run.from.contains(.elsewhere) || run.from.contains(.denied) {
      return establish(run.start, run.end)
    }
    return usesUserfaultfd
      ? counted(cshims_zap(host, length))
      : counted(cshims_protect(host, length, CSHIMS_PROT_NONE))
  }

  private func show(_ run: Run, _ host: UInt64, _ length: UInt64) -> Int32 {
    let writable = run.to.contains(.writable)
    let protection = writable ? CSHIMS_PROT_READ_WRITE : CSHIMS_PROT_READ
    if run.to.contains(.elsewhere) {
      if run.to.contains(.zero), !materialiseZeroes() { return ErrorNumber.outOfMemory.rawValue }
      guard usesUserfaultfd else {
        let file = unsafe machine.header.pointee.memfd
        return counted(cshims_show(host, length, protection, file, run.frame << 12))
      }
      let isAdopted = isAdopted(host)
      // A system call of the program's that stores while a mapping is made anew gets
      // EFAULT, so where the frames stay theirs does.
      if isAdopted, run.from.contains(.shown), run.from.contains(.elsewhere),
        !run.from.contains(.zero),
        showsFrames(host, host + length, from: run.frame)
      {
        return counted(cshims_userfaultfd_write_protect(userfaultfd, host, length, !writable))
      }
      // What malloc's structures stand on must not be out of sight for a moment.
      var error = mapFrames(
        host, length, frame: run.frame, isAdopted ? protection : CSHIMS_PROT_NONE)
      if error == 0 { error = install(host, length, protected: !writable) }
      if error == 0, isAdopted, !writable {
        error = counted(cshims_protect(host, length, CSHIMS_PROT_READ_WRITE))
      }
      return error
    }
    if run.from.contains(.elsewhere) {
      let error = establish(run.start, run.end)
      if error != 0 { return error }
    }
    guard usesUserfaultfd else { return counted(cshims_protect(host, length, protection)) }
    if run.from.contains(.denied) {
      let error = counted(cshims_protect(host, length, CSHIMS_PROT_READ_WRITE))
      if error != 0 { return error }
    }
    if run.from.contains(.shown) && !run.from.contains(.elsewhere) {
      return counted(cshims_userfaultfd_write_protect(userfaultfd, host, length, !writable))
    }
    return install(host, length, protected: !writable)
  }

  /// Gives absent pages a host entry (userfaultfd tier).
  func install(_ host: UInt64, _ length: UInt64, protected: Bool) -> Int32 {
    var done: UInt64 = 0
    while done < length {
      var step: UInt64 = 0
      let error = unsafe counted(
        cshims_userfaultfd_continue(userfaultfd, host + done, length - done, protected, &step))
      done += step
      if error == ErrorNumber.exists.rawValue {
        // Somebody was faster: it is there, see that its protection is right.
        let again = counted(
          cshims_userfaultfd_write_protect(userfaultfd, host + done, 4096, protected))
        if again != 0 { return again }
        done += 4096
      } else if error != 0 {
        return error
      }
    }
    return 0
  }

  /// Makes the host allocate the zero frames, once a machine.
  private func materialiseZeroes() -> Bool {
    let mark = machine.page(1)
    if mark.flags & CSHIMS_PAGE_ZERO != 0 { return true }
    let length = Machine.reservedFrames << 12
    guard unsafe counted(cshims_populate_write(machine.address(ofFrame: 0), length)) == 0 else {
      return false
    }
    unsafe _ = cshims_page_set_flags(mark.descriptor, CSHIMS_PAGE_ZERO)
    return true
  }

  /// Makes a forbidden access to a page the program's SIGSEGV: under
  /// userfaultfd the toucher is woken to touch again, and must then meet the
  /// host's protection.
  func deny(_ page: UInt64, readable: Bool) {
    guard usesUserfaultfd, let host = hostAddress(of: page), mayChange(page, page + 4096)
    else { return }
    // Once more, because a failure that is injected comes once.
    guard let stretch = unsafe stretch(at: page, create: true) ?? stretch(at: page, create: true)
    else { Self.cannotHide(host, ErrorNumber.outOfMemory.rawValue) }
    let index = Int(page >> 12) & 511
    let view = PageView(rawValue: unsafe stretch.pointee.pages[index])
    let protection = readable ? CSHIMS_PROT_READ : CSHIMS_PROT_NONE
    var error = view.contains(.elsewhere) ? establish(page, page + 4096) : 0
    if error == 0 { error = counted(cshims_protect(host, 4096, protection)) }
    if error != 0 {
      // The process is out of mappings. The toucher would come back for ever, so
      // make room and try once more.
      reduceMappings(to: 0)
      error = establish(page, page + 4096)
      if error == 0 { error = counted(cshims_protect(host, 4096, protection)) }
    }
    if error != 0 { Self.cannotHide(host, error) }
    unsafe record(.denied, page, page + 4096, stretch)
  }

  /// A touch of a page that is recorded as shown means that the record is
  /// wrong, or that somebody else changed the mapping: show it again.
  func distrust(_ page: UInt64) {
    guard let stretch = unsafe stretch(at: page, create: false) else { return }
    let index = Int(page >> 12) & 511
    let view = PageView(rawValue: unsafe stretch.pointee.pages[index])
    if view.contains(.elsewhere) {
      unsafe record(.elsewhere, page, page + 4096, stretch)
    } else if view.contains(.shown) {
      unsafe record([], page, page + 4096, stretch)
    }
  }

  // MARK: - The budget

  /// What of a page's view decides whether it can share its neighbour's mapping.
  private func mappingClass(_ view: PageView) -> UInt8 {
    let telling: PageView =
      usesUserfaultfd ? .tellingUserfaultfd : .tellingSignal
    return view.intersection(telling).rawValue
  }

  /// Notes what some pages show now, and how the mappings change by that.
  func record(
    _ view: PageView, _ start: UInt64, _ end: UInt64, _ stretch: UnsafeMutablePointer<Stretch>
  ) {
    let pages = Self.indices(start, end)
    var strange = view.isStrange
    for index in pages {
      strange = unsafe strange || PageView(rawValue: stretch.pointee.pages[index]).isStrange
    }
    // Strange frames merge as the page table says, which has changed already;
    // everything else can be counted by what changes at the edges.
    let before = unsafe strange ? 0 : edges(stretch, pages, nil)
    for index in pages { unsafe stretch.pointee.pages[index] = view.rawValue }
    if strange { return unsafe recount(stretch, at: start) }
    let more = unsafe edges(stretch, pages, nil) - before
    unsafe stretch.pointee.extraMappings += more
    unsafe state.pointee.view.extra += more
  }

  /// How many host mappings begin where one of `pages` begins, or where the last
  /// of them ends. `entries` are the stretch's, needed where frames are strange.
  private func edges(
    _ stretch: UnsafeMutablePointer<Stretch>, _ pages: Range<Int>, _ entries: StretchEntries?
  ) -> Int {
    var count = 0
    var previous: UInt8 = 0
    var nextFrame: UInt64 = 0
    if pages.lowerBound > 0 {
      let before = unsafe stretch.pointee.pages[pages.lowerBound - 1]
      previous = mappingClass(PageView(rawValue: before))
    }
    for index in pages.lowerBound...pages.upperBound {
      let view = index == 512 ? [] : PageView(rawValue: unsafe stretch.pointee.pages[index])
      let own = mappingClass(view)
      // Two denials side by side may be of different kinds.
      var continues = own == previous && !view.contains(.denied)
      if view.isStrange, let entries {
        // Strange frames are one mapping as long as they are consecutive.
        let frame = Self.frame(of: entries[index])
        continues = continues && frame == nextFrame
        nextFrame = frame + 1
      }
      if !continues { count += 1 }
      previous = own
    }
    return count
  }

  /// Counts the mappings that the stretch of `address` adds to its bare areas'.
  private func recount(_ stretch: UnsafeMutablePointer<Stretch>, at address: UInt64) {
    let count = unsafe edges(stretch, 0..<512, entries(around: address))
    unsafe state.pointee.view.extra += count - stretch.pointee.extraMappings
    unsafe stretch.pointee.extraMappings = count
  }

  /// Hides the coldest stretches until the view needs at most `target`.
  private func reduceMappings(to target: Int) {
    while unsafe state.pointee.view.mappings > target {
      guard let (address, stretch) = unsafe coldestStretch() else { return }
      unsafe hideStretch(address, stretch)
    }
  }

  private func coldestStretch() -> (UInt64, UnsafeMutablePointer<Stretch>)? {
    var coldest: (UInt64, UnsafeMutablePointer<Stretch>)? = nil
    var node = unsafe state.pointee.regions.first
    while let current = unsafe node {
      let region = unsafe current.pointee.payload
      // What malloc and the program's own variables stand on is not hidden.
      for i in 0..<(region.kind == .reserved ? region.stretchCount : 0) {
        guard let stretch = unsafe region.stretches[i],
          unsafe stretch.pointee.extraMappings > 0
        else { continue }
        if let best = unsafe coldest,
          unsafe best.1.pointee.lastShown <= stretch.pointee.lastShown
        {
          continue
        }
        let start = (region.firstStretch + UInt64(i)) << ViewRegion.stretchShift
        unsafe coldest = (max(start, current.pointee.start), stretch)
      }
      unsafe node = state.pointee.regions.next(after: current)
    }
    return unsafe coldest
  }

  /// Hides every page of a stretch: one host mapping for each piece of it.
  private func hideStretch(_ address: UInt64, _ stretch: UnsafeMutablePointer<Stretch>) {
    guard let region = unsafe state.pointee.regions.find(containing: address) else { return }
    let base = address & ~((1 << ViewRegion.stretchShift) - 1)
    let start = unsafe max(base, region.pointee.start)
    let end = unsafe min(base + (1 << ViewRegion.stretchShift), region.pointee.end)
    // More than what is to change: where memory was adopted all of it is looked at.
    guard mayChange(start, end) else { return }
    let error = establish(start, end)
    if error != 0 { Self.cannotHide(start, error) }
    for index in 0..<512 { unsafe stretch.pointee.pages[index] = 0 }
    unsafe recount(stretch, at: address)
  }
}
