//===----------------------------------------------------------------------===//
// Contenders side by side: in every round each gives one sample, and who begins
// turns from round to round, so that what the machine does meanwhile falls on all.
//===----------------------------------------------------------------------===//

import HostKernel
import SwiftGUP

/// Measures what `contenders` make.
/// - Parameters:
///   - pages: pages of one call.
///   - progress: called after each round with the rounds done.
/// - Returns: a column for each contender. It has a reason instead of samples where the host
///   or the machine refused the contender; any other error ends the measurement.
func takeTurns(
  _ contenders: [() throws -> any Contender], pages: Int, rounds: Int, progress: (Int) -> Void
) throws -> [BenchColumn] {
  var columns = [BenchColumn](repeating: BenchColumn(), count: contenders.count)
  var runners: [Runner?] = []
  for (index, make) in contenders.enumerated() {
    do {
      runners.append(try Runner(make(), pages: pages))
    } catch let error where error is HostError || error is MemoryError {
      runners.append(nil)
      columns[index].why = "\(error)"
    }
  }
  for round in 0..<rounds {
    for turn in runners.indices {
      let index = (turn + round) % runners.count
      if let runner = runners[index] { columns[index].samples.append(try runner.sample()) }
    }
    progress(round + 1)
  }
  return columns
}
