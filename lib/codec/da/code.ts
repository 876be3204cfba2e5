/**
 * The Reed–Solomon code of rate 1/3, plain (da-design.md 3): column by column, the k data symbols are the values at points
 * 0 … k−1 of the one polynomial of degree < k; code row c is its value at point c. Rows are arrays of symbols here.
 *
 * Encoding is an additive FFT. Let s_j be the polynomial that vanishes on 0 … 2^j − 1. In the Cantor basis s_j(x + y) =
 * s_j(x) + s_j(y), s_j(2^j) = 1, and s_j of the number n is just n >> j. A polynomial of degree < 2^(j+1) is f0 + s_j·f1, and on
 * the 2^(j+1) points from `base` on s_j takes two values only, t = base >> j in the first half and t + 1 in the second:
 *
 *   first half   f0 + t·f1         second half   f0 + t·f1 + f1          (values of f0 and f1 on the first half)
 *
 * Decoding is Lagrange interpolation, row by row: O(k²) and independent of the FFT, which is what makes it worth testing with.
 */
import { assert } from '../../base/errors.ts'
import { addScaled, inverse, mul } from './field.ts'

/**
 * All 3k code rows.
 * @param data - k rows of equally many symbols, k a power of two.
 * @returns 3k rows; the first k are `data` themselves.
 */
export function encodeSymbols(data: readonly Uint16Array[]): Uint16Array[] {
  const k = data.length
  const coefficients = data.map(row => row.slice())
  interpolate(coefficients)
  const out = [...data]
  for (const shift of [k, 2 * k]) {
    const values = coefficients.map(row => row.slice())
    evaluate(values, shift)
    out.push(...values)
  }
  return out
}

/** Coefficients to values at points shift … shift + k − 1, in place. */
function evaluate(rows: Uint16Array[], shift: number): void {
  for (let half = rows.length / 2; half >= 1; half /= 2) {
    for (let base = 0; base < rows.length; base += 2 * half) {
      const t = (shift + base) / half
      for (let i = base; i < base + half; i++) {
        addScaled(rows[i]!, rows[i + half]!, t)
        addScaled(rows[i + half]!, rows[i]!, 1)
      }
    }
  }
}

/** Values at points 0 … k − 1 to coefficients, in place: the same steps backwards. */
function interpolate(rows: Uint16Array[]): void {
  for (let half = 1; half < rows.length; half *= 2) {
    for (let base = 0; base < rows.length; base += 2 * half) {
      const t = base / half
      for (let i = base; i < base + half; i++) {
        addScaled(rows[i + half]!, rows[i]!, 1)
        addScaled(rows[i]!, rows[i + half]!, t)
      }
    }
  }
}

/**
 * The k data rows from any k different code rows.
 * @param indexes - code rows, different.
 * @param rows - their symbols, in the same order.
 */
export function decodeSymbols(indexes: readonly number[], rows: readonly Uint16Array[]): Uint16Array[] {
  const k = indexes.length
  assert(rows.length === k && new Set(indexes).size === k, 'k different rows')
  const place = new Map(indexes.map((c, i) => [c, i]))
  const out: Uint16Array[] = []
  for (let x = 0; x < k; x++) {
    const known = place.get(x)
    if (known !== undefined) {
      out.push(rows[known]!)
      continue
    }
    const row = new Uint16Array(rows[0]!.length)
    for (let i = 0; i < k; i++) addScaled(row, rows[i]!, lagrange(indexes, i, x))
    out.push(row)
  }
  return out
}

/** Value at x of the polynomial that is 1 at indexes[i] and 0 at the others. */
export function lagrange(indexes: readonly number[], i: number, x: number): number {
  let above = 1
  let below = 1
  for (let j = 0; j < indexes.length; j++) {
    if (j === i) continue
    above = mul(above, x ^ indexes[j]!)
    below = mul(below, indexes[i]! ^ indexes[j]!)
  }
  return mul(above, inverse(below))
}

/** Symbols of a row: in each block of 64 bytes, byte i and byte 32 + i are the low and high byte of symbol i. */
export function rowSymbols(row: Uint8Array): Uint16Array {
  const out = new Uint16Array(row.length / 2)
  for (let j = 0; j < out.length; j++) {
    const at = 64 * Math.floor(j / 32) + (j % 32)
    out[j] = row[at]! | (row[at + 32]! << 8)
  }
  return out
}

/** The row of symbols. */
export function symbolRow(symbols: Uint16Array): Uint8Array {
  const out = new Uint8Array(2 * symbols.length)
  for (let j = 0; j < symbols.length; j++) {
    const at = 64 * Math.floor(j / 32) + (j % 32)
    out[at] = symbols[j]! & 0xff
    out[at + 32] = symbols[j]! >> 8
  }
  return out
}

/** Symbols in plain order, u16 little endian: coefficients r and sums z. */
export function plainSymbols(bytes: Uint8Array): Uint16Array {
  const out = new Uint16Array(bytes.length / 2)
  for (let j = 0; j < out.length; j++) out[j] = bytes[2 * j]! | (bytes[2 * j + 1]! << 8)
  return out
}

/** The inverse of {@link plainSymbols}. */
export function plainBytes(symbols: Uint16Array): Uint8Array {
  const out = new Uint8Array(2 * symbols.length)
  for (let j = 0; j < symbols.length; j++) {
    out[2 * j] = symbols[j]! & 0xff
    out[2 * j + 1] = symbols[j]! >> 8
  }
  return out
}
