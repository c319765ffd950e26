//===----------------------------------------------------------------------===//
// Structs of gup.h stand for values of the library: C fills and reads some in
// place, and others keep a value in their words. Whether they are laid out alike
// is known when both are compiled; a machine is refused otherwise, so that no
// other call has to ask.
//===----------------------------------------------------------------------===//

internal import AddressSpaces
internal import CGup
internal import PageExtraction

/// Is every struct of gup.h laid out as the value that it stands for? That the
/// fields are the same ones is a test's to say.
package var layoutsMatch: Bool {
  unsafe same(gup_iovec.self, UserSegment.self)
    && same(gup_kvec.self, KVec.self)
    && same(gup_bvec.self, BVec.self)
    && same(gup_folioq_slot.self, QueuedFolio.self)
    && same(gup_adopted.self, AdoptedRange.self)
    && same(gup_iter_state.self, IOVIter.State.self)
    && MemoryLayout<IOVIter>.size <= MemoryLayout<gup_iter>.size - iteratorOffset
    && MemoryLayout<IOVIter>.alignment <= MemoryLayout<gup_iter>.alignment
    && MemoryLayout<KeptExtraction>.size <= extractionWordsSize
}

@inline(__always)
private func same<C, Value>(_ c: C.Type, _ value: Value.Type) -> Bool {
  MemoryLayout<C>.stride == MemoryLayout<Value>.stride
    && MemoryLayout<C>.alignment >= MemoryLayout<Value>.alignment
}

/// Where a `gup_iter` keeps its iterator: behind the mark and the owner's handle.
@inline(__always)
var iteratorOffset: Int { 2 * MemoryLayout<UInt64>.size }

/// Bytes of the words of a `gup_extraction`.
private var extractionWordsSize: Int {
  unsafe MemoryLayout.size(ofValue: gup_extraction().words)
}
