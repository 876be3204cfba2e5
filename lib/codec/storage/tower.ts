/**
 * The numbers by which holders of a stripe show that their shards belong together (storage.md 11, "Consistency of parity"). Each
 * publishes the inner product of its shard with the powers of one point; since the code is linear, true numbers are themselves a
 * code word. They find faults and lone liars; they prove neither possession nor parity.
 */
import { concat, equalBytes, view } from '../../base/bytes.ts'
import { ZgError } from '../../base/errors.ts'
import { checkShape, rsReconstruct } from '../../crypto/reed-solomon.ts'
import { TOWER_BYTES } from '../../crypto/tower.ts'
import { codec } from '../../native.ts'

export { shardSum, TOWER_BYTES, towerMul } from '../../crypto/tower.ts'

/**
 * The point ρ of a stripe: the first 16 bytes of keccak(root ‖ u64 stripe ‖ u16 k ‖ u16 m ‖ all shard roots), integers
 * big endian. It depends on every shard's root, so nobody can choose a shard after the point.
 * @param shardRoots - k + m roots of 32 bytes, by index.
 */
export function sumPoint(
  root: Uint8Array,
  stripe: number,
  k: number,
  m: number,
  shardRoots: readonly Uint8Array[]
): Uint8Array {
  checkShape(k, m)
  if (root.length !== 32 || shardRoots.length !== k + m || shardRoots.some(r => r.length !== 32)) {
    throw new ZgError('ERR_BAD_INPUT', `a file root and ${k + m} shard roots of 32 bytes are needed`)
  }
  if (!Number.isSafeInteger(stripe) || stripe < 0)
    throw new ZgError('ERR_BAD_INPUT', `no stripe has the number ${stripe}`)
  const numbers = new Uint8Array(12)
  const at = view(numbers)
  at.setBigUint64(0, BigInt(stripe))
  at.setUint16(8, k)
  at.setUint16(10, m)
  return codec()
    .keccak256(root, numbers, ...shardRoots)
    .slice(0, TOWER_BYTES)
}

/**
 * True when numbers belong to one code word.
 * @param sums - k + m numbers of 16 bytes by shard index, undefined where none is known; with k or fewer nothing can be said, which
 *   is true.
 */
export function sumsAgree(k: number, m: number, sums: readonly (Uint8Array | undefined)[]): boolean {
  checkShape(k, m)
  const known = sums.flatMap((sum, i) => (sum === undefined ? [] : [i]))
  if (known.length <= k) return true
  const base = sums.map((sum, i) => (known.indexOf(i) < k ? sum : undefined))
  const rest = known.slice(k)
  return equalBytes(concat(...rsReconstruct(k, m, base, rest)), concat(...rest.map(i => sums[i]!)))
}
