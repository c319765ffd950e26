//===----------------------------------------------------------------------===//
// The structs of gup.h that C fills and the library reads in place.
//===----------------------------------------------------------------------===//

import CGup
import SwiftGUP
import Testing

@testable import LibGup
@testable import PageExtraction

@Suite("Layouts")
struct LayoutTests {
  @Test("every struct of gup.h is laid out as the value that it stands for")
  func sizes() { #expect(layoutsMatch) }

  /// Where a field stands in C and in Swift.
  struct Field: Sendable, CustomTestStringConvertible {
    let testDescription: String
    let inC: Int?
    let inSwift: Int?

    init<C, Value>(_ c: PartialKeyPath<C>, _ value: PartialKeyPath<Value>) {
      testDescription = "\(c) is \(value)"
      inC = MemoryLayout<C>.offset(of: c)
      inSwift = MemoryLayout<Value>.offset(of: value)
    }
  }

  static let fields: [Field] = unsafe [
    Field(\gup_iovec.base, \UserSegment.base),
    Field(\gup_iovec.length, \UserSegment.length),
    Field(\gup_bvec.page, \BVec.page),
    Field(\gup_bvec.length, \BVec.length),
    Field(\gup_bvec.offset, \BVec.offset),
    Field(\gup_kvec.base, \KVec.base),
    Field(\gup_kvec.length, \KVec.length),
    Field(\gup_folioq_slot.head, \QueuedFolio.basePage),
    Field(\gup_folioq_slot.order, \QueuedFolio.order),
  ]

  @Test("a segment's field stands in C where it stands in Swift", arguments: fields)
  func field(_ field: Field) {
    #expect(field.inC != nil)
    #expect(field.inC == field.inSwift)
  }

  @Test("events, failure points, advice and policies have the same numbers in C, and all have one")
  func numbers() {
    let events: [(Int, EventKind)] = [
      (GUP_EVENT_FAULT, .fault), (GUP_EVENT_GET, .get), (GUP_EVENT_PIN, .pin),
      (GUP_EVENT_PUT, .put), (GUP_EVENT_UNPIN, .unpin), (GUP_EVENT_MAP, .map),
      (GUP_EVENT_UNMAP, .unmap), (GUP_EVENT_PROTECT, .protect), (GUP_EVENT_ADVISE, .advise),
      (GUP_EVENT_COPY, .copy), (GUP_EVENT_FORK, .fork), (GUP_EVENT_MOVE, .move),
      (GUP_EVENT_MIGRATE, .migrate), (GUP_EVENT_RECLAIM, .reclaim), (GUP_EVENT_ADOPT, .adopt),
      (GUP_EVENT_GIVE_BACK, .giveBack), (GUP_EVENT_ADOPTION_LOST, .adoptionLost),
    ]
    #expect(events.map(\.0) == events.map { Int($0.1.rawValue) })
    #expect(events.map(\.1) == EventKind.allCases)
    let points: [(Int, FailurePoint)] = [
      (GUP_FAIL_FRAME, .frameAllocation), (GUP_FAIL_METADATA, .metadataAllocation),
      (GUP_FAIL_PAGE_LIST, .pageListAllocation), (GUP_FAIL_FAULT, .fault),
      (GUP_FAIL_GRAB, .grab), (GUP_FAIL_HOST_MAPPING, .hostMapping),
      (GUP_FAIL_LIST_GROWTH, .listGrowth),
    ]
    #expect(points.map(\.0) == points.map { Int($0.1.rawValue) })
    #expect(points.map(\.1) == FailurePoint.allCases)
    let advice = [
      GUP_MADV_NORMAL, GUP_MADV_RANDOM, GUP_MADV_SEQUENTIAL, GUP_MADV_WILLNEED, GUP_MADV_DONTNEED,
      GUP_MADV_FREE, GUP_MADV_DONTFORK, GUP_MADV_DOFORK, GUP_MADV_HUGEPAGE, GUP_MADV_NOHUGEPAGE,
      GUP_MADV_WIPEONFORK, GUP_MADV_KEEPONFORK, GUP_MADV_COLD, GUP_MADV_PAGEOUT,
      GUP_MADV_POPULATE_READ, GUP_MADV_POPULATE_WRITE, GUP_MADV_DONTNEED_LOCKED,
      GUP_MADV_COLLAPSE,
    ]
    #expect(Set(advice) == Set(Advice.allCases.map { Int($0.rawValue) }))
    let policies: [(Int, MemoryPolicy)] = [
      (GUP_POLICY_REUSE_BY_MAPPING_COUNT, .reuseByMappingCount),
      (GUP_POLICY_NO_UNSHARE, .noUnshare),
      (GUP_POLICY_COPY_REFERENCED_AT_FORK, .copyReferencedAtFork),
      (GUP_POLICY_SHARE_AT_FORK, .shareAtFork),
      (GUP_POLICY_REUSE_LARGE_FOLIOS, .reuseLargeFolios),
      (GUP_POLICY_REMAP_SEVERAL_AREAS, .remapSeveralAreas),
    ]
    #expect(policies.map(\.0) == policies.map { Int($0.1.rawValue) })
    let scopes: [LockScope] = [.current, .future, .onFault]
    #expect([GUP_MCL_CURRENT, GUP_MCL_FUTURE, GUP_MCL_ONFAULT] == scopes.map { Int($0.rawValue) })
  }
}
