//===----------------------------------------------------------------------===//
// See symbol_internal.h. The file is mapped for one question and read with every
// offset in it checked: it may have been replaced since it was loaded.
//===----------------------------------------------------------------------===//
#include "symbol_internal.h"

#include <dlfcn.h>
#include <elf.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct image {
  const char *bytes;
  uint64_t size;
} image;

static image image_map(const char *path) {
  image it = {NULL, 0};
  struct stat status;
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return it;
  if (fstat(fd, &status) == 0 && status.st_size > 0) {
    void *bytes = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (bytes != MAP_FAILED) it = (image){bytes, (uint64_t)status.st_size};
  }
  close(fd);
  return it;
}

/// A table of `count` entries in the file, or NULL where it does not lie in it.
static const void *table_at(image it, uint64_t offset, uint64_t count, uint64_t entry) {
  if (offset > it.size || offset % 8 != 0 || count > (it.size - offset) / entry) return NULL;
  return it.bytes + offset;
}

/// The name of the function that an address of the file lies in, and its start.
/// NULL where none is known.
static const char *name_of(image it, uint64_t address, uint64_t *start) {
  const Elf64_Ehdr *header = table_at(it, 0, 1, sizeof *header);
  if (!header || memcmp(header->e_ident, ELFMAG, SELFMAG) != 0 ||
      header->e_ident[EI_CLASS] != ELFCLASS64 || header->e_shentsize != sizeof(Elf64_Shdr))
    return NULL;
  const Elf64_Shdr *sections =
      table_at(it, header->e_shoff, header->e_shnum, sizeof *sections);
  for (unsigned i = 0; sections && i < header->e_shnum; i++) {
    if (sections[i].sh_type != SHT_SYMTAB || sections[i].sh_link >= header->e_shnum) continue;
    uint64_t count = sections[i].sh_size / sizeof(Elf64_Sym);
    const Elf64_Sym *symbols =
        table_at(it, sections[i].sh_offset, count, sizeof *symbols);
    const Elf64_Shdr *names = &sections[sections[i].sh_link];
    if (!symbols || names->sh_offset > it.size || names->sh_size > it.size - names->sh_offset)
      return NULL;
    const char *strings = it.bytes + names->sh_offset;
    for (uint64_t k = 0; k < count; k++) {
      const Elf64_Sym *symbol = &symbols[k];
      if (ELF64_ST_TYPE(symbol->st_info) != STT_FUNC || symbol->st_name >= names->sh_size ||
          address - symbol->st_value >= symbol->st_size ||
          !memchr(strings + symbol->st_name, 0, names->sh_size - symbol->st_name))
        continue;
      *start = symbol->st_value;
      return strings + symbol->st_name;
    }
  }
  return NULL;
}

void cshims_describe_site(const void *site, char *text, size_t size) {
  // A call's last byte: what follows it may be another line's, or function's.
  const char *call = (const char *)site - 1;
  Dl_info info;
  if (dladdr(call, &info) == 0 || !info.dli_fname) {
    snprintf(text, size, "%p", (const void *)call);
    return;
  }
  const Elf64_Ehdr *loaded = info.dli_fbase;
  uint64_t address = (uintptr_t)call;
  // Only a program at fixed addresses has in its file the addresses that it runs at.
  if (loaded->e_type != ET_EXEC) address -= (uintptr_t)loaded;
  // The program knows itself by the name that it was called by, from where it was then.
  bool isProgram = (uintptr_t)loaded + loaded->e_phoff == getauxval(AT_PHDR);
  image it = image_map(isProgram ? "/proc/self/exe" : info.dli_fname);
  uint64_t start = 0;
  const char *name = it.bytes ? name_of(it, address, &start) : NULL;
  if (!name && info.dli_sname) {
    name = info.dli_sname;
    start = address - (uint64_t)(call - (const char *)info.dli_saddr);
  }
  if (name) {
    snprintf(text, size, "%s(%s+0x%llx) 0x%llx", info.dli_fname, name,
             (unsigned long long)(address - start), (unsigned long long)address);
  } else {
    snprintf(text, size, "%s 0x%llx", info.dli_fname, (unsigned long long)address);
  }
  if (it.bytes) munmap((void *)(uintptr_t)it.bytes, it.size);
}
