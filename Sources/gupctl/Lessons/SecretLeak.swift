//===----------------------------------------------------------------------===//
// secret-leak: what reuse by map count gave away (semantics D.3 row 2, S15,
// G-03).
//===----------------------------------------------------------------------===//

import SwiftGUP

extension Lesson {
  static let secretLeak = Lesson(
    name: "secret-leak",
    title: "who counts mappings instead of references gives secrets away",
    teaches: """
      A child puts a page that it shares with its parent into a pipe, and lets go
      of its own mapping. Then the parent stores a secret (CVE-2020-29374).
      """,
    stakes: .policy(
      broken: .reuseByMappingCount,
      "a store reuses a page that is mapped once, whoever else holds it"),
    remember: [
      "A store may reuse a shared page only if nobody else has it: if its one reference is the "
        + "mapping. References are how pipes, drivers and devices hold pages that they do not map.",
      "Counting mappings looked as good for years, and was faster. It let a child read what its "
        + "parent wrote later.",
    ],
    seeAlso: ["short-lived-child", "read-only-unshare"]
  ) { stage in
    let parent = try stage.program("parent")
    try stage.step("The parent stores 'public' in a page of its own.") {
      try parent.store("public")
    }
    let child = try stage.step("The parent forks.") { try stage.fork(parent, as: "child") }

    let pipe = PipeHolder(try Pipe(memory: stage.memory))
    let page = try stage.step(
      "The child puts the page into a pipe, by reference (vmsplice)."
    ) {
      // vmsplice takes the page by GET, and the pipe keeps that reference.
      let taken = try stage.take(child, flags: [], by: "child")
      let length = ByteCount(2 * Stage.wordLength)
      var end = try IOVIter(pipe: stage.add(pipe).pipe, count: length)
      _ = try end.copyPage(taken.page, offset: 0, length: length)
      taken.letGo()
      return taken.page
    }
    stage.claim(
      "Two mappings and the pipe: three references.",
      page.referenceCount == 3 && page.mapCount == 2)

    try stage.step("The child unmaps the page.") {
      try child.space.unmap(child.address, length: .pages(1))
    }
    stage.claim(
      "The parent's is the only mapping left, but not the only reference.",
      page.mapCount == 1 && page.referenceCount == 2 && parent.page() == page)

    try stage.step("The parent stores 'secret' over 'public'.") { try parent.store("secret") }
    stage.claim(
      "Two references: the store copied. The pipe has the old bytes.",
      by: [.rfc, .upstream], parent.page() != page)
    stage.claim(
      "One mapping: the store went into the page that is in the pipe.", by: [.broken],
      parent.page() == page)

    let read = try stage.step("The child reads its pipe.") { pipe.read() }
    stage.find(
      "the child reads", read, expected: "public..........", broken: "secret..........")
    stage.find("the parent reads", try parent.read(), expected: "secret..........")
  }
}

/// A pipe, as one who holds the pages that are in it.
final class PipeHolder: Holder {
  let who = "pipe"
  let how = "ref"
  let pipe: Pipe

  init(_ pipe: Pipe) { self.pipe = pipe }

  var pages: [Page] { pipe.segments.map(\.page) }

  func read() -> String {
    var bytes = [UInt8](repeating: 0, count: 2 * Stage.wordLength)
    let length = unsafe bytes.withUnsafeMutableBytes { unsafe pipe.read(into: $0) }
    return shown(Array(bytes.prefix(length.rawValue)))
  }

  func letGo() { pipe.removeAll() }
}
