//===----------------------------------------------------------------------===//
// Names for call sites, for reports that people read: of functions that the
// dynamic linker does not know too, by the symbol table of the file they are in.
//===----------------------------------------------------------------------===//
#ifndef CSHIMS_SYMBOL_INTERNAL_H
#define CSHIMS_SYMBOL_INTERNAL_H

#include <stddef.h>

/// Writes where the call is that returns to `site`: file(function+0x1f) 0x112f.
/// The last number is the place in the file as addr2line(1) wants it; the function
/// is left out where its file has been stripped, and the rest for what lies in no
/// file. Reads the file, takes no lock of ours.
void cshims_describe_site(const void *site, char *text, size_t size);

#endif
