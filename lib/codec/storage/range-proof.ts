/**
 * Proof that consecutive sectors lie in the flow: the sector proofs of the first and of the last of them (storage.md 1.5, 3.5).
 * What is between follows from the data, so two paths prove any number of sectors:
 *
 *              root
 *            /      \          sectors 2 … 5: the left path brings the sibling of the pair (2,3), the right path none here
 *          .          .        that is not made from the data
 *        /   \      /   \
 *       L     .    .     R     L is left.lemma, R is right.lemma; the rest is hashed from the data
 *      0 1   2 3  4 5   6 7
 */
import { equalBytes } from '../../base/bytes.ts'
import { FIRST_SECTOR_LEAF, leafHash, nodeHash, type Proof } from './merkle.ts'
import { SECTOR_BYTES } from './shape.ts'

export interface SectorRange {
  /** First sector in the flow. */
  start: number
  /** Whole sectors. */
  data: Uint8Array
  /** Sector proofs of the first and the last sector. */
  left: Proof
  right: Proof
}

/**
 * Checks a range against a flow root.
 * @param height - height of the flow's tree at that root (`flowHeight` of its length).
 * @returns undefined when it holds, otherwise what is wrong.
 */
export function rangeFault(r: SectorRange, root: Uint8Array, height: number): string | undefined {
  const count = r.data.length / SECTOR_BYTES
  if (!Number.isInteger(count) || count < 1) return 'data is not whole sectors'
  let lo = r.start
  let hi = r.start + count - 1
  if (!Number.isSafeInteger(lo) || lo < 0 || hi >= 2 ** height) return 'range is beyond the flow'
  for (const [proof, index] of [
    [r.left, lo],
    [r.right, hi]
  ] as const) {
    if (proof.path.length !== height) return 'path has another length than the tree'
    if (proof.lemma.length !== (height === 0 ? 1 : height + 2)) return 'lemma does not fit the path'
    for (let h = 0; h < height; h++) {
      if (proof.path[h] !== (Math.floor(index / 2 ** h) % 2 === 0)) return 'path leads to another sector'
    }
  }
  let level: Uint8Array[] = []
  for (let i = 0; i < count; i++) {
    const leaf = leafHash(r.data.subarray(i * SECTOR_BYTES, (i + 1) * SECTOR_BYTES))
    // The first sector of the flow is no data.
    level.push(lo + i === 0 ? FIRST_SECTOR_LEAF : leaf)
  }
  for (let h = 0; h < height; h++) {
    if (lo % 2 === 1) level.unshift(r.left.lemma[h + 1]!)
    if (hi % 2 === 0) level.push(r.right.lemma[h + 1]!)
    const above: Uint8Array[] = []
    for (let i = 0; i < level.length; i += 2) above.push(nodeHash(level[i]!, level[i + 1]!))
    level = above
    lo = Math.floor(lo / 2)
    hi = Math.floor(hi / 2)
  }
  return equalBytes(level[0]!, root) ? undefined : 'hashes do not lead to the flow root'
}
