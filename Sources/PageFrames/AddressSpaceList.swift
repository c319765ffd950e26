//===----------------------------------------------------------------------===//
// Where a machine keeps the list of its address spaces, for who must find every
// page-table entry that shows a page. This room knows only where it stands.
//
// Lock: the list's, after one mmap lock and before a cache lock. Who holds it
// may try other mmap locks and never waits for one.
//===----------------------------------------------------------------------===//

package import CShims

@safe
package struct AddressSpaceList {
  package var lock: cshims_lock
  package var first: UnsafeMutablePointer<cshims_mm>?
}

extension Machine {
  package var addressSpaces: UnsafeMutablePointer<AddressSpaceList> {
    unsafe header.pointee.address_spaces.assumingMemoryBound(to: AddressSpaceList.self)
  }
}
