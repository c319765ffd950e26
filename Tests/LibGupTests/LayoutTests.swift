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
}
