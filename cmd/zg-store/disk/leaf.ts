/** Segment roots with the native codec, on its own threads. */
import { segmentLeaves, shape } from '../../../lib/codec/storage/shape.ts'
import { codec } from '../../../lib/native.ts'
import type { LeafOf } from './segment-log.ts'

const NO_ROOT = new Uint8Array(32)

/**
 * Root of segment `index` of a file of `fileSize` bytes, with the padding sectors that belong to it. A damaged record may claim a size that
 * cannot hold its data: that has no root and matches nothing.
 */
export const leafOf: LeafOf = async (data, index, fileSize) => {
  const s = shape(fileSize)
  if (index >= s.segments) return NO_ROOT
  const leaves = segmentLeaves(s, index)
  if (data.length > leaves * 256) return NO_ROOT
  return (await codec().segmentRoots(data, leaves))[0]!
}
