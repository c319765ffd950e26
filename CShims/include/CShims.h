//===----------------------------------------------------------------------===//
// CShims: what Swift cannot say. System calls that return errno, the fault
// trap, locks, the layouts that several processes and both languages share,
// and the inline atomics the hot loops are made of.
//
// Everything here is private to the package (prefix cshims_). The order of the
// headers is the order in which to read them.
//===----------------------------------------------------------------------===//
#ifndef CSHIMS_H
#define CSHIMS_H

#include "cshims_basics.h"
#include "cshims_lock.h"
#include "cshims_process.h"
#include "cshims_page.h"
#include "cshims_members.h"
#include "cshims_pte.h"
#include "cshims_machine.h"
#include "cshims_mm.h"
#include "cshims_xarray.h"
#include "cshims_handle.h"
#include "cshims_ledger.h"
#include "cshims_host.h"
#include "cshims_file.h"
#include "cshims_trap.h"
#include "cshims_adopt.h"
#include "cshims_userfaultfd.h"
#include "cshims_roofline.h"
#include "cshims_uring.h"
#include "cshims_witness.h"
#include "cshims_stage.h"

#endif
