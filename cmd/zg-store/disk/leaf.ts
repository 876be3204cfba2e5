/** Segment roots with the native codec, on its own threads unless there is little to hash. */
import { segmentLeaves, shape } from '../../../lib/codec/storage/shape.ts'
import { codec } from '../../../lib/native.ts'
import type { LeafOf } from './segment-log.ts'

/** So little is hashed at once, in some 40 µs: a turn in the thread pool costs as much, and more for everybody who waits for it. */
const AT_ONCE_BYTES = 16_384
const AT_ONCE_LEAVES = 64
const NO_ROOT = new Uint8Array(32)

/**
 * Root of segment `index` of a file of `fileSize` bytes, with the padding sectors that belong to it. A damaged record may claim a size that
 * cannot hold its data: that has no root and matches nothing.
 */
export const leafOf: LeafOf = (data, index, fileSize) => {
  const s = shape(fileSize)
  if (index >= s.segments) return NO_ROOT
  const leaves = segmentLeaves(s, index)
  if (data.length > leaves * 256) return NO_ROOT
  if (data.length <= AT_ONCE_BYTES && leaves <= AT_ONCE_LEAVES) return codec().segmentRootsSync(data, leaves)[0]!
  return codec()
    .segmentRoots(data, leaves)
    .then(roots => roots[0]!)
}
