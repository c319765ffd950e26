//===----------------------------------------------------------------------===//
// gupctl doctor: what this machine offers, and what each lack costs.
//===----------------------------------------------------------------------===//

import ArgumentParser
import HostKernel
import TextTable

struct DoctorCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "doctor",
    abstract: "Say what this machine offers, and what each lack costs.",
    discussion: """
      Everything is found by trying it as the user who asks: a privileged user may get other \
      answers. Nothing is changed. The exit status is 0 whatever is missing: the library works \
      without, and says here at what cost.
      """)

  @Flag(help: "Print one JSON array of objects: name, available, value, costOfLack.")
  var json = false

  private struct Item: Encodable {
    let name: String
    let available: Bool
    let value: String
    let costOfLack: String

    init(_ finding: HostCapabilities.Finding) {
      name = finding.name
      available = finding.isAvailable
      value = finding.value
      costOfLack = finding.costOfLack
    }
  }

  func run() throws {
    let items = HostCapabilities.probe().findings.map(Item.init)
    if json { return try printJSON(items) }

    printTable(items) {
      [
        Column(title: "", value: $0.available ? "ok" : "--"),
        Column(title: "what", value: $0.name),
        Column(title: "found", value: $0.value),
      ]
    }
    let lacks = items.filter { !$0.available }
    print()
    if lacks.isEmpty {
      print("Nothing is missing.")
    } else {
      print("What is missing (--) costs:")
      for item in lacks { print("  \(item.name): \(item.costOfLack)") }
    }
  }
}
