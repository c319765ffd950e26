//===----------------------------------------------------------------------===//
// Two drivers as they would be written for the kernel, and what of them a check
// calls. They are in a file of their own, which names no address space: theirs is
// the one that the calling file named.
//===----------------------------------------------------------------------===//
#ifndef LINUX_DRIVERS_H
#define LINUX_DRIVERS_H

#include <gup/linux.h>

/// Direct I/O: a transfer's memory as bvecs, of whole blocks.
struct dio {
  struct bio_vec bvecs[16];
  unsigned int nr;
  size_t size;
  bool is_read, is_pinned;
};
/// Adds memory until the iterator or the bvecs are at their end.
int dio_add(struct dio *dio, struct iov_iter *iter, size_t block);
/// The transfer's end: the device moved all bytes.
void dio_end(struct dio *dio, unsigned char byte);

/// A region of user memory that a network card reaches by addresses of its own.
struct region {
  struct mm_struct *mm;
  struct xarray pages;
  struct sg_table table;
  unsigned long npages;
  bool writable;
};
/// Or an error, as ERR_PTR makes it.
struct region *region_register(unsigned long start, size_t length, bool writable);
void region_unregister(struct region *region);

/// Sends user memory without copying it: the bytes wait in fragments.
struct packet {
  struct {
    struct page *page;
    unsigned int offset, length;
  } frags[8];
  unsigned int nr_frags;
  unsigned int length;
};
int packet_fill(struct packet *packet, struct iov_iter *from, size_t length);
/// What the card sends; then the memory is its owner's again.
size_t packet_transmit(struct packet *packet, char *wire, size_t size);

#endif
