/**
 * Reed-Solomon of storage stripes in plain TypeScript (storage.md 11): GF(2⁸) modulo 0x11d, systematic, parity row i with the
 * coefficients 1 / ((k + i) ⊕ j). The slow, clear half of the differential tests and the fallback without a native build;
 * `codec().rs` of lib/native.ts chooses between the two.
 */
import { ZgError } from '../base/errors.ts'

/** Data and parity shards of a code word together. */
export const SHARDS_MAX = 256
/** One segment. */
export const SHARD_BYTES_MAX = 262_144

const exp = new Uint8Array(510)
const log = new Uint8Array(256)
for (let i = 0, x = 1; i < 255; i++) {
  exp[i] = x
  exp[i + 255] = x
  log[x] = i
  x = x << 1 >= 256 ? (x << 1) ^ 0x11d : x << 1
}

/** a · b in GF(2⁸). */
export function gfMul(a: number, b: number): number {
  return a === 0 || b === 0 ? 0 : exp[log[a]! + log[b]!]!
}

/** 1 / a, a not 0. */
export function gfInverse(a: number): number {
  return exp[255 - log[a]!]!
}

/**
 * The parity of a stripe.
 * @param data - k shards of equal length.
 * @returns m parity shards.
 * @throws {ZgError} ERR_BAD_INPUT for shapes outside 1 ≤ k, k + m ≤ 256, and shards that are missing or of odd lengths.
 */
export function rsEncode(k: number, m: number, data: readonly Uint8Array[]): Uint8Array[] {
  checkShape(k, m)
  if (data.length !== k) throw new ZgError('ERR_BAD_INPUT', `${data.length} data shards given, the code has ${k}`)
  const bytes = shardBytes(data)
  return Array.from({ length: m }, (_, i) => combination(generatorRow(k, k + i), data, bytes))
}

/**
 * Makes shards again from any k others.
 * @param shards - by index, k + m places; what is not at hand is undefined. The first k present ones are used.
 * @param wanted - indexes of the shards to return; one that is present is handed back as it is.
 * @throws {ZgError} ERR_BAD_INPUT as {@link rsEncode}, and when fewer than k shards are present.
 */
export function rsReconstruct(
  k: number,
  m: number,
  shards: readonly (Uint8Array | undefined)[],
  wanted: readonly number[]
): Uint8Array[] {
  const { have, given, bytes, missing } = recoveryPlan(k, m, shards, wanted)
  const inverse = invert(have.map(i => generatorRow(k, i)))
  const made = new Map(
    missing.map(w => {
      const row = generatorRow(k, w)
      const coefficients = new Uint8Array(k)
      for (let j = 0; j < k; j++) addRow(coefficients, inverse[j]!, row[j]!)
      return [w, combination(coefficients, given, bytes)] as const
    })
  )
  return wanted.map(w => shards[w] ?? made.get(w)!)
}

/**
 * What a reconstruction works on, checked: the indexes and bytes of the k shards it uses, their length, and which of the wanted
 * shards it has to make, each once.
 */
export function recoveryPlan(
  k: number,
  m: number,
  shards: readonly (Uint8Array | undefined)[],
  wanted: readonly number[]
): { have: number[]; given: Uint8Array[]; bytes: number; missing: number[] } {
  checkShape(k, m)
  if (shards.length > k + m) throw new ZgError('ERR_BAD_INPUT', `${shards.length} shards given, the code has ${k + m}`)
  const present: Uint8Array[] = []
  const have: number[] = []
  for (const [i, shard] of shards.entries()) {
    if (shard === undefined) continue
    present.push(shard)
    if (have.length < k) have.push(i)
  }
  if (have.length < k) throw new ZgError('ERR_BAD_INPUT', `${have.length} shards are at hand, ${k} are needed`)
  for (const w of wanted) {
    if (!Number.isInteger(w) || w < 0 || w >= k + m) throw new ZgError('ERR_BAD_INPUT', `no shard has the number ${w}`)
  }
  const missing = [...new Set(wanted)].filter(w => shards[w] === undefined)
  return { have, given: present.slice(0, k), bytes: shardBytes(present), missing }
}

/** @throws {ZgError} ERR_BAD_INPUT unless 1 ≤ k, 0 ≤ m, k + m ≤ 256. */
export function checkShape(k: number, m: number): void {
  if (!Number.isInteger(k) || !Number.isInteger(m) || k < 1 || m < 0 || k + m > SHARDS_MAX) {
    throw new ZgError('ERR_BAD_INPUT', `there is no code of ${k} + ${m} shards, at most ${SHARDS_MAX} together`)
  }
}

/** The one length of all shards. */
export function shardBytes(shards: readonly Uint8Array[]): number {
  const bytes = shards[0]!.length
  if (shards.some(s => s.length !== bytes)) throw new ZgError('ERR_BAD_INPUT', 'shards of a stripe differ in length')
  if (bytes === 0 || bytes > SHARD_BYTES_MAX) {
    throw new ZgError('ERR_BAD_INPUT', `a shard has 1 to ${SHARD_BYTES_MAX} bytes, not ${bytes}`)
  }
  return bytes
}

/** Coefficients of shard `index` from the data shards. */
function generatorRow(k: number, index: number): Uint8Array {
  return Uint8Array.from({ length: k }, (_, j) => (index < k ? (index === j ? 1 : 0) : gfInverse(index ^ j)))
}

function combination(coefficients: Uint8Array, shards: readonly Uint8Array[], bytes: number): Uint8Array {
  const out = new Uint8Array(bytes)
  for (const [j, shard] of shards.entries()) addRow(out, shard, coefficients[j]!)
  return out
}

/** to += factor · from. */
function addRow(to: Uint8Array, from: Uint8Array, factor: number): void {
  if (factor === 0) return
  const products = Uint8Array.from({ length: 256 }, (_, v) => gfMul(factor, v))
  for (let i = 0; i < to.length; i++) to[i] = to[i]! ^ products[from[i]!]!
}

/** Inverse of a square matrix by Gauss and Jordan; any k rows of the generator are independent. */
function invert(rows: Uint8Array[]): Uint8Array[] {
  const k = rows.length
  const work = rows.map((row, i) => {
    const wide = new Uint8Array(2 * k)
    wide.set(row)
    wide[k + i] = 1
    return wide
  })
  for (let c = 0; c < k; c++) {
    const pivot = work.findIndex((row, r) => r >= c && row[c] !== 0)
    const row = work[pivot]!
    work[pivot] = work[c]!
    const scale = gfInverse(row[c]!)
    work[c] = row.map(v => gfMul(scale, v))
    for (let r = 0; r < k; r++) {
      if (r !== c) addRow(work[r]!, work[c]!, work[r]![c]!)
    }
  }
  return work.map(row => row.subarray(k))
}
