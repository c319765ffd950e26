//===----------------------------------------------------------------------===//
// The whole library under one name: `import SwiftGUP`.
//===----------------------------------------------------------------------===//

@_exported public import AddressSpaces
@_exported public import DMA
@_exported public import Events
@_exported public import GUP
@_exported public import PageExtraction
@_exported public import PageFrames
