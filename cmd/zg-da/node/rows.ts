/** Rows of a stored share by place: payload and row path of each, whichever record of the share carries them. */
import { rowTree } from '../../../lib/codec/da/blob.ts'
import { daKernels } from '../../../lib/codec/da/kernels.ts'
import { codeRow, permutation } from '../../../lib/codec/da/open.ts'
import { pathOf } from '../../../lib/codec/da/row-tree.ts'
import type { DaHeader, LineRecord } from '../../../lib/codec/da/types.ts'
import { toSlice } from '../../../lib/codec/da/upstream.ts'

export interface ShareRows {
  /** Place with payload and row path; undefined when the share has no such place. */
  row(place: number): LineRecord | undefined
  /** The row as upstream's readers get it: 32 776 bytes. */
  slice(row: LineRecord): Uint8Array
}

/** @param share - its records as verified: each code row's payload (and in the paths form its path) in the first record of it. */
export function rowsOf(share: { header: DaHeader; rowRoots: Uint8Array; lines: readonly LineRecord[] }): ShareRows {
  const { header } = share
  const kernels = daKernels()
  const sigma = permutation(header.p, header.zHash, kernels)
  const code = (p: number): number => codeRow({ header, sigma }, p)
  const first = new Map<number, LineRecord>()
  const places = new Set<number>()
  for (const line of share.lines) {
    places.add(line.p)
    if (!first.has(code(line.p))) first.set(code(line.p), line)
  }
  let tree: Uint8Array | undefined
  const pathFromRoots = (c: number): Uint8Array => {
    tree ??= rowTree(share.rowRoots, kernels)
    return pathOf(tree, c)
  }
  return {
    row(p) {
      if (!places.has(p)) return undefined
      const c = code(p)
      const { payload, rowPath } = first.get(c)!
      return { p, payload, rowPath: rowPath ?? pathFromRoots(c) }
    },
    slice: row => toSlice(header.tag, row.payload!)
  }
}
