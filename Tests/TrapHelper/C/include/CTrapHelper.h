//===----------------------------------------------------------------------===//
// What Swift cannot do in the trap helper: touch memory under a handler of the
// program's own that jumps out of the fault.
//===----------------------------------------------------------------------===//
#ifndef CTRAPHELPER_H
#define CTRAPHELPER_H

#include <stdint.h>

#include "CAdoption.h"

/// What the program's handler was told; all zero when it was not called.
typedef struct traphelper_fault {
  int signal;
  int code;
  uint64_t address;
} traphelper_fault;

/// Installs the program's handler for SIGSEGV and SIGBUS. 0 or an errno.
int traphelper_install_handler(void);
/// Is that handler the one that SIGSEGV is delivered to?
int traphelper_handler_stands(void);
/// Stores, or loads into `*value`. What the handler was told, if it was called.
traphelper_fault traphelper_store(void *address, unsigned char value);
traphelper_fault traphelper_load(const void *address, unsigned char *value);

/// read(2) from a pipe that holds `length` bytes of `value`: the errno, or 0
/// when all came. write(2) into a pipe likewise; `*first` is what arrived.
int traphelper_read_into(void *address, unsigned long length, unsigned char value);
int traphelper_write_from(const void *address, unsigned long length, unsigned char *first);

/// Descriptors that this process has open.
int traphelper_descriptors(void);

#endif
