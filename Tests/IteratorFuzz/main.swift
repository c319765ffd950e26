//===----------------------------------------------------------------------===//
// The long run of the model of iterators: as many calls as asked for, over all
// kinds in turn.
//
//     iterator-fuzz [calls [seed]]
//===----------------------------------------------------------------------===//

import ExtractionModel
import TestSupport

#if canImport(Glibc)
  import Glibc
#endif

let arguments = CommandLine.arguments.dropFirst().map { UInt64($0) }
guard arguments.count <= 2, !arguments.contains(nil) else {
  print("usage: iterator-fuzz [calls [seed]]")
  exit(2)
}
let calls = arguments.first.flatMap { $0 } ?? 1_000_000
let seed = arguments.count > 1 ? arguments[1]! : SeededRandom.seed
print("\(calls) calls from seed \(seed)")
// To be seen whatever comes.
fflush(nil)

var done: UInt64 = 0
var round: UInt64 = 0
while done < calls {
  for (number, setting) in Setting.all.enumerated() {
    var dice = Dice(seed: seed, stream: round << 8 | UInt64(number))
    do {
      done += UInt64(try runModel(setting, calls: 2000, &dice))
    } catch {
      print("\(setting): \(error); repeat with: iterator-fuzz \(calls) \(seed)")
      exit(1)
    }
  }
  round += 1
}
print("\(done) calls, no difference")
