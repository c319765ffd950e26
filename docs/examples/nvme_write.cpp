//===----------------------------------------------------------------------===//
// A driver's write(2) in C++: owners that release what they hold, so that no way
// out of a function, an exception's included, forgets a pin.
//
//   c++ -std=c++17 nvme_write.cpp $(pkg-config --cflags --libs gup)
//===----------------------------------------------------------------------===//
#include <cstdio>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "nvme.h"

namespace {

/// The library's errors as exceptions.
void check(std::int64_t result) {
  if (result >= 0) return;
  char why[200];
  gup_last_error(why, sizeof why);
  throw std::runtime_error(why);
}

template <typename Handle, int (*destroy)(Handle *)>
struct Destroy {
  void operator()(Handle *handle) const { destroy(handle); }
};
using Machine = std::unique_ptr<gup_machine, Destroy<gup_machine, gup_machine_destroy>>;
using AddressSpace = std::unique_ptr<gup_mm, Destroy<gup_mm, gup_mm_destroy>>;

Machine make_machine() {
  gup_machine *machine = nullptr;
  check(gup_machine_create(nullptr, &machine));
  return Machine(machine);
}

AddressSpace make_address_space(const Machine &machine) {
  gup_mm *mm = nullptr;
  check(gup_mm_create(machine.get(), &mm));
  return AddressSpace(mm);
}

/// Pages that an iterator gave up, until this goes.
class Pinned {
 public:
  Pinned(gup_iter &iter, std::size_t bytes, std::size_t pages) {
    check(gup_iter_extract(&iter, bytes, pages, 0, &memory_));
  }
  Pinned(const Pinned &) = delete;
  Pinned &operator=(const Pinned &) = delete;
  ~Pinned() { gup_extraction_release(&memory_, false); }

  std::uint32_t length() const { return static_cast<std::uint32_t>(memory_.length); }
  nvme_command command(std::uint16_t opcode, std::uint64_t block) const {
    nvme_command command = {opcode, 0, length(), block, {}};
    for (std::size_t i = 0; i < memory_.page_count; i++)
      command.prp[i] = gup_page_frame(memory_.pages[i]) << GUP_PAGE_SHIFT;
    command.prp[0] |= memory_.offset;
    return command;
  }

 private:
  gup_extraction memory_;
};

/// Writes user memory to the disk's start.
void write_disk(nvme &disk, gup_mm *mm, std::uint64_t buffer, std::size_t length) {
  gup_iter iter;
  check(gup_iter_ubuf(&iter, mm, GUP_SOURCE | GUP_UPSTREAM, buffer, length));
  std::uint64_t done = 0;
  while (gup_iter_count(&iter) > 0) {
    Pinned pages(iter, NVME_PRPS * GUP_PAGE_SIZE, NVME_PRPS);
    if (pages.length() == 0) throw std::runtime_error("no progress");
    nvme_command command = pages.command(NVME_WRITE, done / NVME_BLOCK);
    if (nvme_submit(&disk, &command) != 0) throw std::runtime_error("the ring is full");
    nvme_run(&disk);
    nvme_completion completion;
    while (nvme_reap(&disk, &completion)) check(completion.status);
    done += pages.length();
  }
}

}  // namespace

int main() try {
  const std::size_t length = 64 * GUP_PAGE_SIZE;
  Machine machine = make_machine();
  AddressSpace mm = make_address_space(machine);
  std::uint64_t buffer = 0;
  check(gup_mm_map(mm.get(), 0, length, GUP_PROT_READ | GUP_PROT_WRITE, 0, &buffer));
  auto *bytes = static_cast<unsigned char *>(gup_mm_pointer(mm.get(), buffer));
  for (std::size_t i = 0; i < length; i++) bytes[i] = static_cast<unsigned char>(i * 7 + i / 512);

  nvme disk;
  if (nvme_open(&disk, machine.get(), length) != 0) throw std::runtime_error("no disk");
  std::unique_ptr<nvme, void (*)(nvme *)> closing(&disk, nvme_close);
  write_disk(disk, mm.get(), buffer, length);
  bool same = std::memcmp(disk.disk, bytes, length) == 0;

  // An extraction that fails leaves nothing behind: the pins of a whole write to
  // memory that ends early are gone when the exception arrives here.
  std::string why;
  try {
    write_disk(disk, mm.get(), buffer + length - GUP_PAGE_SIZE, 2 * GUP_PAGE_SIZE);
  } catch (const std::runtime_error &error) {
    why = error.what();
  }
  gup_counters counters;
  check(gup_machine_counters(machine.get(), &counters));
  bool balanced = counters.pins_acquired == counters.pins_released;
  std::printf("%zu bytes written, %s; then \"%s\"; pins %s\n", length,
              same ? "all on the disk" : "WRONG", why.c_str(), balanced ? "even" : "LEAKED");
  return same && balanced && why.rfind("EFAULT", 0) == 0 ? 0 : 1;
} catch (const std::exception &error) {
  std::fprintf(stderr, "nvme_write: %s\n", error.what());
  return 1;
}
