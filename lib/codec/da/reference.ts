/**
 * The kernels in TypeScript, written from da-design.md 2 to 4 for clarity: the other half of every differential test, and what
 * works where no native part was built (a blob of 1 MiB takes seconds).
 */
import { concat, equalBytes } from '../../base/bytes.ts'
import { keccak256Reference } from '../../crypto/reference.ts'
import type { DaKernels } from '../../native.ts'
import { decodeSymbols, encodeSymbols, plainBytes, plainSymbols, rowSymbols, symbolRow } from './code.ts'
import { addScaled } from './field.ts'
import { rootOf, sectorHashes, treeNodes } from './row-tree.ts'

const R_DOMAIN = new TextEncoder().encode('zg-da/r/1')

const hash = (...parts: readonly Uint8Array[]): Uint8Array =>
  keccak256Reference(parts.length === 1 ? parts[0]! : concat(...parts))

/** Same face as the native kernels. */
export const referenceKernels: DaKernels = {
  async encode(tag, data, parity) {
    const k = 2 ** tag[1]!
    const w = new DataView(tag.buffer, tag.byteOffset).getUint32(4, true)
    const matrix = new Uint8Array(k * w)
    matrix.set(data)
    const x = rowsOf(matrix, w).map(rowSymbols)
    const rows = encodeSymbols(x).map(symbolRow)
    if (parity !== undefined) for (let i = 0; i < 2 * k; i++) parity.set(rows[k + i]!, i * w)
    const roots = concat(...rows.map(row => rowRoot(tag, row)))
    const padded = new Uint8Array(4 * k * 32)
    padded.set(roots)
    const r = coefficients(concat(tag, rootOf(treeNodes(hash, padded))), w)
    return concat(roots, ...x.map(row => plainBytes(combine(row, r))))
  },

  async rowRoots(tag, rows) {
    return concat(...rows.map(row => rowRoot(tag, row)))
  },

  async rowSums(p, rows) {
    if (rows.length === 0) return new Uint8Array(0)
    const r = coefficients(p, rows[0]!.length)
    return concat(...rows.map(row => plainBytes(combine(rowSymbols(row), r))))
  },

  extendZ(z) {
    return concat(...encodeSymbols(rowsOf(z, 16).map(plainSymbols)).map(plainBytes))
  },

  stream(seed, hashes) {
    return stream(seed, hashes)
  },

  treeNodes(leaves) {
    return treeNodes(hash, leaves)
  },

  async decode(w, indexes, rows) {
    const out = decodeSymbols([...indexes], rows.map(rowSymbols)).map(symbolRow)
    const matrix = new Uint8Array(indexes.length * w)
    for (const [i, row] of out.entries()) matrix.set(row, i * w)
    return matrix
  }
}

/** ρ of one row. Most sectors of a short row are zeros: nodes over nothing but those are hashed once a level. */
function rowRoot(tag: Uint8Array, row: Uint8Array): Uint8Array {
  const flat = sectorHashes(hash, tag, row)
  let level = rowsOf(flat, 32)
  let zero = hash(new Uint8Array(256))
  while (level.length > 1) {
    const next: Uint8Array[] = []
    const zeroParent = hash(zero, zero)
    for (let i = 0; i < level.length; i += 2) {
      const [left, right] = [level[i]!, level[i + 1]!]
      next.push(equalBytes(left, zero) && equalBytes(right, zero) ? zeroParent : hash(left, right))
    }
    level = next
    zero = zeroParent
  }
  return level[0]!
}

/** r[j], eight symbols for each of the w / 2 columns, from P. */
function coefficients(p: Uint8Array, w: number): Uint16Array[] {
  const seed = hash(R_DOMAIN, p)
  return rowsOf(stream(seed, w / 4), 16).map(plainSymbols)
}

/** Σ_j row[j] · r[j], eight symbols. */
function combine(row: Uint16Array, r: readonly Uint16Array[]): Uint16Array {
  const sum = new Uint16Array(8)
  for (let j = 0; j < row.length; j++) addScaled(sum, r[j]!, row[j]!)
  return sum
}

/** keccak(seed ‖ u64 0) ‖ keccak(seed ‖ u64 1) ‖ … */
function stream(seed: Uint8Array, hashes: number): Uint8Array {
  const message = new Uint8Array(40)
  message.set(seed)
  const counter = new DataView(message.buffer)
  const out = new Uint8Array(32 * hashes)
  for (let i = 0; i < hashes; i++) {
    counter.setBigUint64(32, BigInt(i), true)
    out.set(hash(message), 32 * i)
  }
  return out
}

function rowsOf(matrix: Uint8Array, width: number): Uint8Array[] {
  const out: Uint8Array[] = []
  for (let at = 0; at < matrix.length; at += width) out.push(matrix.subarray(at, at + width))
  return out
}
