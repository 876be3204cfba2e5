/**
 * GF(2¹²⁸) as a tower over the storage code's GF(2⁸), X¹⁶ + X³ + X + 6 (storage.md 11, "Consistency of parity"); byte i of an element
 * is the coefficient of Xⁱ. The plain half of the differential tests and the fallback without a native build.
 */
import { ZgError } from '../base/errors.ts'
import { gfMul } from './reed-solomon.ts'

/** Bytes of an element. */
export const TOWER_BYTES = 16

/** a · b. */
export function towerMul(a: Uint8Array, b: Uint8Array): Uint8Array {
  const wide = new Uint8Array(2 * TOWER_BYTES - 1)
  for (let i = 0; i < TOWER_BYTES; i++) {
    for (let j = 0; j < TOWER_BYTES; j++) wide[i + j] = wide[i + j]! ^ gfMul(a[i]!, b[j]!)
  }
  for (let i = wide.length - 1; i >= TOWER_BYTES; i--) {
    const top = wide[i]!
    wide[i - 16] = wide[i - 16]! ^ gfMul(6, top)
    wide[i - 15] = wide[i - 15]! ^ top
    wide[i - 13] = wide[i - 13]! ^ top
  }
  return wide.slice(0, TOWER_BYTES)
}

/**
 * The inner product of a shard with the powers of a point: Σ shard[i] · ρⁱ from i = 0, by Horner's rule.
 * @param rho - the point, 16 bytes.
 * @returns 16 bytes.
 * @throws {ZgError} ERR_BAD_INPUT for a point of another length.
 */
export function shardSum(rho: Uint8Array, shard: Uint8Array): Uint8Array {
  checkPoint(rho)
  // X^i · ρ for all i: one step of the rule is then 16 scaled rows.
  const rows: Uint8Array[] = []
  const unit = new Uint8Array(TOWER_BYTES)
  for (let i = 0; i < TOWER_BYTES; i++) {
    unit.fill(0)
    unit[i] = 1
    rows.push(towerMul(unit, rho))
  }
  const tables = rows.map(row => Array.from({ length: 256 }, (_, v) => row.map(c => gfMul(v, c))))
  let sum = new Uint8Array(TOWER_BYTES)
  for (let at = shard.length - 1; at >= 0; at--) {
    const next = new Uint8Array(TOWER_BYTES)
    for (let i = 0; i < TOWER_BYTES; i++) {
      const product = tables[i]![sum[i]!]!
      for (let n = 0; n < TOWER_BYTES; n++) next[n] = next[n]! ^ product[n]!
    }
    next[0] = next[0]! ^ shard[at]!
    sum = next
  }
  return sum
}

/** @throws {ZgError} ERR_BAD_INPUT unless the point has 16 bytes. */
export function checkPoint(rho: Uint8Array): void {
  if (rho.length !== TOWER_BYTES) throw new ZgError('ERR_BAD_INPUT', `a point has 16 bytes, not ${rho.length}`)
}
