//===----------------------------------------------------------------------===//
// The same model, driven by libFuzzer: the first byte of an input picks the
// setting, the others are the model's choices. Built on request:
//
//     GUP_FUZZER=1 swift build --product iterator-fuzzer --sanitize=fuzzer \
//       -Xswiftc -sanitize=fuzzer,address
//===----------------------------------------------------------------------===//

import ExtractionModel

/// Runs one input; a difference stops the program.
@c(LLVMFuzzerTestOneInput)
public func testOneInput(_ data: UnsafePointer<UInt8>?, _ size: Int) -> CInt {
  let input = unsafe [UInt8](UnsafeBufferPointer(start: data, count: size))
  guard let first = input.first else { return 0 }
  var dice = Dice(bytes: Array(input.dropFirst()))
  do {
    try runModel(Setting.all[Int(first) % Setting.all.count], calls: 40, &dice)
  } catch {
    fatalError("\(error)")
  }
  return 0
}
