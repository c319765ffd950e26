//===----------------------------------------------------------------------===//
// The installed library, used as its users do: by compilers of C and C++, by
// make and CMake, under sanitizers and valgrind. They need an installation:
//
//   swift package --allow-writing-to-directory DIR install --prefix DIR
//   GUP_PREFIX=DIR swift test --filter ConsumerTests
//===----------------------------------------------------------------------===//

import Foundation
import TestSupport
import Testing

private let prefix = ProcessInfo.processInfo.environment["GUP_PREFIX"]

/// The path of a tool, or nil with a word of why its tests are skipped.
private func tool(_ name: String) -> Bool {
  let path = ProcessInfo.processInfo.environment["PATH"] ?? ""
  let found = path.split(separator: ":").contains {
    FileManager.default.isExecutableFile(atPath: "\($0)/\(name)")
  }
  if !found { print("not tested here: there is no \(name)") }
  return found
}

private func isInstalled() -> Bool {
  if prefix == nil { print("the installed library is not tested: GUP_PREFIX is not set") }
  return prefix != nil
}

@Suite("The installed library", .serialized, .enabled(if: isInstalled()))
struct ConsumerTests {
  private let folder: URL

  init() throws {
    folder = FileManager.default.temporaryDirectory.appendingPathComponent(
      "gup-consumer-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
  }

  /// Runs a line of the shell in the test's folder: `$P` is the installation,
  /// `$R` the checkout. Its status and all that it said.
  private func shell(_ line: String) throws -> (status: Int32, text: String) {
    let process = Process()
    let output = folder.appendingPathComponent("output")
    try Data().write(to: output)
    process.executableURL = URL(fileURLWithPath: "/bin/sh")
    process.arguments = ["-c", line]
    process.currentDirectoryURL = folder
    process.environment = ProcessInfo.processInfo.environment.merging([
      "P": prefix ?? "", "R": Documents.root,
      "PKG_CONFIG_PATH": "\(prefix ?? "")/lib/pkgconfig", "LD_LIBRARY_PATH": "\(prefix ?? "")/lib",
    ]) { $1 }
    let handle = try FileHandle(forWritingTo: output)
    process.standardOutput = handle
    process.standardError = handle
    try process.run()
    process.waitUntilExit()
    return (process.terminationStatus, try String(contentsOf: output, encoding: .utf8))
  }

  private func passes(_ line: String) throws {
    let (status, text) = try shell(line)
    #expect(status == 0, "\(line)\n\(text)")
  }

  private func end() { try? FileManager.default.removeItem(at: folder) }

  private static let strict = "-O1 -g -Wall -Wextra -Wpedantic -Werror"
  private static let checks =
    "-std=c11 -D_GNU_SOURCE -rdynamic -I$R/Tests/CInterfaceChecks/include"
    + " -I$R/Tests/CInterfaceChecks -I$P/include $R/Tests/CInterfaceChecks/*.c"
    + " $R/Tests/LibGupTests/Runner/main.c -o checks"

  @Test(
    "the C checks pass with the shared library and the archive",
    arguments: ["gcc", "clang"], ["-lgup", "-l:libgup.a"])
  func checks(compiler: String, library: String) throws {
    defer { end() }
    guard tool(compiler) else { return }
    try passes(
      "\(compiler) \(Self.strict) \(Self.checks) -L$P/lib \(library) -lpthread -ldl && ./checks")
  }

  @Test("the C checks pass under AddressSanitizer and UndefinedBehaviorSanitizer")
  func sanitizers() throws {
    defer { end() }
    guard tool("gcc") else { return }
    // Leaks are valgrind's to find: the sanitizer's search needs ptrace(2), which not every place has.
    try passes(
      "gcc \(Self.strict) -fsanitize=address,undefined -fno-sanitize-recover=all \(Self.checks)"
        + " -L$P/lib -l:libgup.a -lpthread && ASAN_OPTIONS=detect_leaks=0:handle_segv=0"
        + ":allocator_may_return_null=1 ./checks")
  }

  @Test("valgrind finds no error and no leak in the static build")
  func valgrind() throws {
    defer { end() }
    guard tool("gcc"), tool("valgrind") else { return }
    try passes(
      "gcc \(Self.strict) \(Self.checks) -L$P/lib -l:libgup.a -lpthread"
        + " && valgrind -q --error-exitcode=9 --leak-check=full"
        + " --errors-for-leak-kinds=definite,indirect ./checks without-traps")
  }

  @Test(
    "the headers are clean C11 and C++17",
    arguments: [
      "gcc -xc -std=c11", "clang -xc -std=c11", "g++ -xc++ -std=c++17",
      "clang++ -xc++ -std=c++17",
    ],
    ["gup.h", "gup/mm.h", "gup/linux.h"])
  func headers(compiler: String, header: String) throws {
    defer { end() }
    guard tool(String(compiler.prefix { $0 != " " })) else { return }
    for dialect in ["", "-DGUP_LINUX_RFC"] {
      try passes(
        "echo '#include <\(header)>' | \(compiler) -D_DEFAULT_SOURCE \(dialect) \(Self.strict)"
          + " -fsyntax-only $(pkg-config --cflags gup) -")
    }
  }

  @Test(
    "drivers in the kernel's names are clean C11 and C++17",
    arguments: [
      "gcc -xc -std=c11", "clang -xc -std=c11", "g++ -xc++ -std=c++17",
      "clang++ -xc++ -std=c++17",
    ])
  func drivers(compiler: String) throws {
    defer { end() }
    guard tool(String(compiler.prefix { $0 != " " })) else { return }
    try passes(
      "\(compiler) -D_DEFAULT_SOURCE \(Self.strict) -fsyntax-only $(pkg-config --cflags gup)"
        + " $R/Tests/CInterfaceChecks/linux_drivers.c")
  }

  @Test("the examples build by a plain Makefile and run", arguments: ["gup", "gup-static"])
  func makefile(package: String) throws {
    defer { end() }
    guard tool("make"), tool("pkg-config") else { return }
    try passes(
      "make -s -f $R/docs/examples/consumer/Makefile GUP=\(package)"
        + " && ./nvme_read && ./nvme_write && ./pin_fork && ./join_fork && ./linux_names")
  }

  @Test("the examples build by CMake and run")
  func cmake() throws {
    defer { end() }
    guard tool("cmake"), tool("pkg-config") else { return }
    try passes(
      "cmake -S $R/docs/examples/consumer -B build && cmake --build build"
        + " && for p in nvme_read nvme_write pin_fork join_fork linux_names; do"
        + " ./build/$p || exit 1; done")
  }

  @Test("the archive needs no Swift, and the library exports only gup_ names")
  func symbols() throws {
    defer { end() }
    let (_, libraries) = try shell("ldd $P/lib/libgup.so")
    #expect(!libraries.contains("swift"))
    for line in ["nm -D --defined-only $P/lib/libgup.so", "nm -g --defined-only $P/lib/libgup.a"] {
      let (status, text) = try shell(line)
      #expect(status == 0)
      let names = text.split(separator: "\n").compactMap { row -> Substring? in
        let fields = row.split(separator: " ")
        return fields.count == 3 ? fields[2] : nil
      }
      #expect(names.count > 130)
      #expect(names.filter { !$0.hasPrefix("gup_") } == [])
    }
    // Code and constants, without the relocations and names that a linker uses up.
    let (_, size) = try shell("size $P/lib/libgup.a | awk 'NR == 2 { print $1 + $2 }'")
    #expect((Int(size.filter(\.isNumber)) ?? .max) < 500_000)
  }

  @Test(
    "a program that exits with holds is told so when GUP_LEDGER=1, and else not",
    arguments: ["-O2", "-O2 -no-pie", "-O0 -DIN_KERNEL_NAMES", "-O2 -rdynamic -s"],
    ["gup", "gup-static"])
  func ledger(options: String, package: String) throws {
    defer { end() }
    guard tool("gcc"), tool("addr2line") else { return }
    try """
    #include <gup/linux.h>
    __attribute__((noinline)) void take_and_forget(gup_mm *mm, uint64_t at) {
      static gup_page *pages[5];
    #ifdef IN_KERNEL_NAMES
      if (pin_user_pages_fast(at, 5, FOLL_WRITE, (struct page **)pages) != 5) pages[0] = 0;
      (void)mm;
    #else
      if (gup_pin_user_pages_fast(mm, at, 5, GUP_FOLL_WRITE, pages) != 5) pages[0] = 0;
    #endif
      if (gup_get_user_pages_fast(mm, at, 2, 0, pages) != 2) pages[0] = 0;
    }
    int main(void) {
      gup_machine *machine;
      gup_mm *mm;
      uint64_t at;
      if (gup_machine_create(0, &machine) || gup_mm_create(machine, &mm) ||
          gup_mm_map(mm, 0, 5 * 4096, 3, 0, &at)) return 1;
      gup_use_mm(machine, mm);
      take_and_forget(mm, at);
      return chdir("/");
    }
    """.write(to: folder.appendingPathComponent("leak.c"), atomically: true, encoding: .utf8)
    try passes(
      "gcc -g \(options) -include unistd.h leak.c $(pkg-config --cflags --libs \(package)) -o leak")
    let (_, silent) = try shell("./leak")
    #expect(silent == "")
    let (status, report) = try shell("GUP_LEDGER=1 ./leak")
    #expect(status == 0)
    #expect(report.contains("gup: ledger: 5 pins and 2 references not released"))
    let lines = report.split(separator: "\n")
    let pins = try #require(lines.first { $0.contains("5 pins and 0 references taken in") })
    #expect(pins.contains("./leak(take_and_forget+0x"), "\(report)")
    let address = try #require(pins.split(separator: " ").last)
    let (_, place) = try shell("addr2line -ie leak \(address)")
    let line = options.contains("KERNEL") ? 5 : 8
    #expect(options.hasSuffix("-s") || place.contains("leak.c:\(line)"), "\(place)")
  }

  @Test("a child is told of its own holds, not of its parent's")
  func ledgerOfChild() throws {
    defer { end() }
    guard tool("gcc") else { return }
    try """
    #include <errno.h>
    #include <gup.h>
    #include <stdlib.h>
    #include <sys/wait.h>
    #include <unistd.h>
    int main(int argc, char **argv) {
      struct gup_machine_options options = {.joinable = true};
      gup_machine *machine;
      gup_mm *mm, *own;
      gup_page *pages[5];
      uint64_t at;
      int status;
      if (gup_machine_create(&options, &machine) || gup_mm_create(machine, &mm) ||
          gup_mm_map(mm, 0, 5 * 4096, 3, 0, &at) ||
          gup_pin_user_pages_fast(mm, at, 5, GUP_FOLL_WRITE, pages) != 5) return 1;
      if (fork() == 0) {
        if (argc == 1) exit(0);
        if (gup_mm_join(mm, &own) ||
            gup_pin_user_pages_fast(own, at, 2, GUP_FOLL_WRITE, pages) != 2) exit(2);
        if (gup_unpin_user_page(pages[0]) || gup_put_page(pages[1]) != -EINVAL) exit(3);
        exit(0);
      }
      if (wait(&status) < 0 || status) return 4;
      return gup_unpin_user_pages(pages, 5) ? 5 : 0;
    }
    """.write(to: folder.appendingPathComponent("child.c"), atomically: true, encoding: .utf8)
    try passes("gcc -g child.c $(pkg-config --cflags --libs gup-static) -o child")
    let (stranger, silent) = try shell("GUP_LEDGER=1 ./child")
    #expect(stranger == 0 && silent == "")
    // Where the ledger's own memory stands in a child is chance.
    let (status, report) = try shell(
      "export GUP_LEDGER=1; for i in $(seq 30); do ./child join || exit; done")
    #expect(status == 0)
    #expect(report.contains("gup: ledger: put_page of frame"))
    #expect(report.contains("gup: ledger: 1 pin and 0 references not released"))
  }
}
