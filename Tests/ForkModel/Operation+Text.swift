//===----------------------------------------------------------------------===//
// Steps as a person reads them: a failing run prints its program, a line a step.
//===----------------------------------------------------------------------===//

extension Place: CustomStringConvertible {
  public var description: String {
    pages.count == 1
      ? "\(space).\(pages.lowerBound)" : "\(space).\(pages.lowerBound)-\(pages.upperBound - 1)"
  }
}

extension Acquisition: CustomStringConvertible {
  public var description: String {
    "\(pins ? "pin" : "get") \(writes ? "for writing" : "for reading"), \(path)"
      + (mayFault ? "" : ", no fault") + (isLong ? ", long" : "")
  }
}

extension Operation: CustomStringConvertible {
  public var description: String {
    switch self {
    case .begin(let space): "begin \(space)"
    case .adopt(let space, let seed): "adopt \(space): \(seed)"
    case .giveBack(let space): "give back \(space)"
    case .fork(let space, let child): "fork \(space) to \(child)"
    case .exit(let space): "exit \(space)"
    case .map(let place, let access, let shared, let folios, let movable):
      "map \(place) \(access) \(shared ? "shared" : "private")"
        + (folios == .base ? "" : ", \(folios)") + (movable ? ", movable" : "")
    case .unmap(let place): "unmap \(place)"
    case .protect(let place, let access): "protect \(place) \(access)"
    case .advise(let place, let advice): "advise \(place) \(advice)"
    case .wish(let place, let folios): "wish \(place) \(folios)"
    case .collapse(let place): "collapse \(place)"
    case .splitFolio(let space, let page): "split folio \(space).\(page)"
    case .move(let place, let target, let keepsOld):
      "move \(place) to \(target)\(keepsOld ? ", old place kept" : "")"
    case .resize(let place, let count): "resize \(place) to \(count)"
    case .migrate(let place): "migrate \(place)"
    case .compact: "compact"
    case .reclaim: "reclaim"
    case .store(let space, let page, let word, let value):
      "store \(space).\(page) word \(word): \(value)"
    case .load(let space, let page, let word): "load \(space).\(page) word \(word)"
    case .copyIn(let place, let value): "copy in \(place): \(value)"
    case .copyOut(let place): "copy out \(place)"
    case .acquire(let hold, let place, let how): "hold \(hold) = \(place) \(how)"
    case .release(let hold): "release hold \(hold)"
    case .deviceStore(let hold, let page, let word, let value):
      "device store hold \(hold)[\(page)] word \(word): \(value)"
    case .deviceLoad(let hold, let page, let word):
      "device load hold \(hold)[\(page)] word \(word)"
    }
  }
}
