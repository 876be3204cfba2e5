/**
 * Weights and their products as inference.md sections 2 and 12.2 define them, one column after another: what all fast kernels are
 * compared with. Rows are whole blocks; a quantized row is seen as blocks of 32 columns.
 */
import { ZgError } from '../../base/errors.ts'
import { add, bitsOf, div, floatOf, fma, halfFloat, mul, rint } from './float.ts'

export interface TypeShape {
  readonly id: number
  readonly name: string
  /** Values and bytes of a block in files. */
  readonly values: number
  readonly bytes: number
}

const SHAPES: readonly TypeShape[] = (
  [
    [0, 'F32', 1, 4],
    [1, 'F16', 1, 2],
    [2, 'Q4_0', 32, 18],
    [3, 'Q4_1', 32, 20],
    [6, 'Q5_0', 32, 22],
    [7, 'Q5_1', 32, 24],
    [8, 'Q8_0', 32, 34],
    [10, 'Q2_K', 256, 84],
    [11, 'Q3_K', 256, 110],
    [12, 'Q4_K', 256, 144],
    [13, 'Q5_K', 256, 176],
    [14, 'Q6_K', 256, 210],
    [20, 'IQ4_NL', 32, 18],
    [23, 'IQ4_XS', 256, 136],
    [30, 'BF16', 1, 2],
    [39, 'MXFP4', 32, 17]
  ] as const
).map(([id, name, values, bytes]) => ({ id, name, values, bytes }))

/** @throws {ZgError} ERR_BAD_INPUT for a type that has no product here. */
export function shapeOf(type: number | string): TypeShape {
  const shape = SHAPES.find(s => s.id === type || s.name === type)
  if (shape === undefined) {
    throw new ZgError('ERR_BAD_INPUT', `tensor type '${type}' is not one of ${SHAPES.map(s => s.name).join(', ')}`)
  }
  return shape
}

export const isFloat = (shape: TypeShape): boolean => shape.values === 1

/**
 * 32 columns of a row. Column i stands for d·s[i / 16]·q[i] − dm·m[i / 16]; the minimum only if `minimum`.
 */
interface Block {
  readonly q: Int8Array
  readonly s: [number, number]
  readonly m: [number, number]
  d: number
  dm: number
  minimum: boolean
}

const IQ4 = Int8Array.of(-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)
/** Twice the E2M1 values. */
const MX = Int8Array.of(0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12)

const u16 = (b: Uint8Array, at: number): number => b[at]! | (b[at + 1]! << 8)
const half = (b: Uint8Array, at: number): number => halfFloat(u16(b, at))
const signed = (byte: number): number => (byte << 24) >> 24
/** Low nibbles are values 0 to 15, high ones 16 to 31. */
const nibble = (b: Uint8Array, at: number, i: number): number => (i < 16 ? b[at + i]! & 15 : b[at + i - 16]! >> 4)

type Unpack = (b: Uint8Array, at: number, j: number, o: Block) => void

/** Pair j of the eight 6-bit scales and minima in 12 bytes. */
function scalePair(b: Uint8Array, at: number, j: number): [scale: number, minimum: number] {
  if (j < 4) return [b[at + j]! & 63, b[at + j + 4]! & 63]
  return [(b[at + j + 4]! & 15) | ((b[at + j - 4]! >> 6) << 4), (b[at + j + 4]! >> 4) | ((b[at + j]! >> 6) << 4)]
}

/** The minimum of Q4_1 and Q5_1 is added: its factor is −1. */
function addedMinimum(o: Block, m: number): void {
  o.minimum = true
  o.m[0] = -1
  o.m[1] = -1
  o.dm = m
}

function superBlock45(b: Uint8Array, at: number, j: number, o: Block, high: number | undefined, low: number): void {
  o.d = half(b, at)
  o.dm = half(b, at + 2)
  o.minimum = true
  const [scale, minimum] = scalePair(b, at + 4, j)
  o.s[0] = scale
  o.s[1] = scale
  o.m[0] = minimum
  o.m[1] = minimum
  for (let l = 0; l < 32; l++) {
    const byte = b[low + 32 * (j >> 1) + l]!
    const upper = high === undefined ? 0 : ((b[high + l]! >> j) & 1) << 4
    o.q[l] = (j % 2 === 0 ? byte & 15 : byte >> 4) | upper
  }
}

const UNPACK: Record<string, Unpack> = {
  Q4_0: (b, at, _j, o) => {
    o.d = half(b, at)
    for (let i = 0; i < 32; i++) o.q[i] = nibble(b, at + 2, i) - 8
  },
  IQ4_NL: (b, at, _j, o) => {
    o.d = half(b, at)
    for (let i = 0; i < 32; i++) o.q[i] = IQ4[nibble(b, at + 2, i)]!
  },
  Q4_1: (b, at, _j, o) => {
    o.d = half(b, at)
    for (let i = 0; i < 32; i++) o.q[i] = nibble(b, at + 4, i)
    addedMinimum(o, half(b, at + 2))
  },
  Q5_0: (b, at, _j, o) => {
    o.d = half(b, at)
    for (let i = 0; i < 32; i++) o.q[i] = (nibble(b, at + 6, i) | (((b[at + 2 + (i >> 3)]! >> (i & 7)) & 1) << 4)) - 16
  },
  Q5_1: (b, at, _j, o) => {
    o.d = half(b, at)
    for (let i = 0; i < 32; i++) o.q[i] = nibble(b, at + 8, i) | (((b[at + 4 + (i >> 3)]! >> (i & 7)) & 1) << 4)
    addedMinimum(o, half(b, at + 2))
  },
  Q8_0: (b, at, _j, o) => {
    o.d = half(b, at)
    for (let i = 0; i < 32; i++) o.q[i] = b[at + 2 + i]!
  },
  MXFP4: (b, at, _j, o) => {
    const e = b[at]!
    // 2^(e − 128): subnormal for 0 and 1.
    o.d = e === 255 ? Number.NaN : floatOf(e >= 2 ? (e - 1) << 23 : 0x00200000 << e)
    for (let i = 0; i < 32; i++) o.q[i] = MX[nibble(b, at + 1, i)]!
  },
  Q4_K: (b, at, j, o) => superBlock45(b, at, j, o, undefined, at + 16),
  Q5_K: (b, at, j, o) => superBlock45(b, at, j, o, at + 16, at + 48),
  Q6_K: (b, at, j, o) => {
    o.d = half(b, at + 208)
    const n = j >> 2
    const g = j % 4
    for (let l = 0; l < 32; l++) {
      const byte = b[at + 64 * n + 32 * (g % 2) + l]!
      const upper = (b[at + 128 + 32 * n + l]! >> (2 * g)) & 3
      o.q[l] = ((g < 2 ? byte & 15 : byte >> 4) | (upper << 4)) - 32
    }
    o.s[0] = signed(b[at + 192 + 2 * j]!)
    o.s[1] = signed(b[at + 193 + 2 * j]!)
  },
  Q2_K: (b, at, j, o) => {
    o.d = half(b, at + 80)
    o.dm = half(b, at + 82)
    o.minimum = true
    for (let l = 0; l < 32; l++) o.q[l] = (b[at + 16 + 32 * (j >> 2) + l]! >> (2 * (j % 4))) & 3
    for (const h of [0, 1] as const) {
      o.s[h] = b[at + 2 * j + h]! & 15
      o.m[h] = b[at + 2 * j + h]! >> 4
    }
  },
  Q3_K: (b, at, j, o) => {
    o.d = half(b, at + 108)
    for (let l = 0; l < 32; l++) {
      const low = (b[at + 32 + 32 * (j >> 2) + l]! >> (2 * (j % 4))) & 3
      o.q[l] = low - (((b[at + l]! >> j) & 1) !== 0 ? 0 : 4)
    }
    const scales = at + 96
    for (const h of [0, 1] as const) {
      const i = 2 * j + h
      const low = i < 8 ? b[scales + i]! & 15 : b[scales + i - 8]! >> 4
      o.s[h] = (low | (((b[scales + 8 + (i % 4)]! >> (2 * (i >> 2))) & 3) << 4)) - 32
    }
  },
  IQ4_XS: (b, at, j, o) => {
    o.d = half(b, at)
    const scale = ((b[at + 4 + (j >> 1)]! >> (4 * (j % 2))) & 15) | (((u16(b, at + 2) >> (2 * j)) & 3) << 4)
    o.s[0] = scale - 32
    o.s[1] = scale - 32
    for (let i = 0; i < 32; i++) o.q[i] = IQ4[nibble(b, at + 8 + 16 * j, i)]!
  }
}

/** Block b of a row of a quantized type. */
function unpack(shape: TypeShape, row: Uint8Array, b: number, o: Block): void {
  o.s[0] = 1
  o.s[1] = 1
  o.m[0] = 0
  o.m[1] = 0
  o.dm = 0
  o.minimum = false
  const each = shape.values / 32
  UNPACK[shape.name]!(row, Math.floor(b / each) * shape.bytes, b % each, o)
}

const newBlock = (): Block => ({ q: new Int8Array(32), s: [1, 1], m: [0, 0], d: 0, dm: 0, minimum: false })

/** Column c of a row of F32, F16 or BF16. */
function floatWeight(shape: TypeShape, row: Uint8Array, c: number): number {
  if (shape.name === 'F16') return halfFloat(u16(row, 2 * c))
  if (shape.name === 'BF16') return floatOf((u16(row, 2 * c) << 16) >>> 0)
  return floatOf((u16(row, 4 * c) | (u16(row, 4 * c + 2) << 16)) >>> 0)
}

/**
 * Whole blocks as floats.
 * @throws {ZgError} ERR_BAD_INPUT when the bytes are not whole blocks.
 */
export function dequantize(shape: TypeShape, row: Uint8Array): Float32Array {
  if (row.length % shape.bytes !== 0) {
    throw new ZgError('ERR_BAD_INPUT', `${row.length} bytes are not whole blocks of ${shape.bytes} of ${shape.name}`)
  }
  const out = new Float32Array((row.length / shape.bytes) * shape.values)
  if (isFloat(shape)) {
    for (let c = 0; c < out.length; c++) out[c] = floatWeight(shape, row, c)
    return out
  }
  const w = newBlock()
  for (let b = 0; b < out.length / 32; b++) {
    unpack(shape, row, b, w)
    for (let i = 0; i < 32; i++) {
      const h = i >> 4
      // As an integer: there is no −0 among those.
      const v = mul(w.d, (w.s[h]! * w.q[i]!) | 0)
      out[32 * b + i] = w.minimum ? add(v, -mul(w.dm, w.m[h]!)) : v
    }
  }
  return out
}

/** Activations as 8-bit blocks of 32, the last one filled up with zeros. */
export interface Activations {
  readonly q: Int8Array
  readonly d: Float32Array
  /** Sums of the first and the second 16 quants of each block. */
  readonly sums: Int32Array
}

/** Section 2: scale and quants of each block of 32. */
export function quantizeActivations(x: Float32Array): Activations {
  const blocks = Math.ceil(x.length / 32)
  const out = { q: new Int8Array(blocks * 32), d: new Float32Array(blocks), sums: new Int32Array(blocks * 2) }
  for (let b = 0; b < blocks; b++) {
    const end = Math.min(32 * b + 32, x.length)
    let largest = 0
    for (let i = 32 * b; i < end; i++) largest = Math.max(largest, bitsOf(x[i]!) & 0x7fffffff)
    // Not finite: a scale that is no number. Below 2⁻¹⁰⁰: nothing.
    if (largest >= 0x7f800000) {
      out.d[b] = Number.NaN
      continue
    }
    if (largest < 0x0d800000) continue
    const a = floatOf(largest)
    out.d[b] = div(a, 127)
    const factor = div(127, a)
    for (let i = 32 * b; i < end; i++) {
      const q = rint(mul(x[i]!, factor))
      out.q[i] = q
      out.sums[2 * b + ((i >> 4) & 1)]! += q
    }
  }
  return out
}

/** Row · x by section 12.2: integers within a block, floats in segments of 256 columns. */
export function quantizedProduct(shape: TypeShape, row: Uint8Array, columns: number, x: Activations): number {
  const w = shared
  const blocks = columns / 32
  let total = 0
  for (let first = 0; first < blocks; first += 8) {
    let acc = 0
    for (let b = first; b < Math.min(first + 8, blocks); b++) {
      unpack(shape, row, b, w)
      let low = 0
      let high = 0
      for (let i = 0; i < 16; i++) low += w.q[i]! * x.q[32 * b + i]!
      for (let i = 16; i < 32; i++) high += w.q[i]! * x.q[32 * b + i]!
      acc = fma((w.s[0] * low + w.s[1] * high) | 0, mul(w.d, x.d[b]!), acc)
      if (w.minimum) {
        const m = w.m[0] * x.sums[2 * b]! + w.m[1] * x.sums[2 * b + 1]!
        acc = fma(-m | 0, mul(w.dm, x.d[b]!), acc)
      }
    }
    total = add(total, acc)
  }
  return total
}
const shared = newBlock()

export function floatProduct(shape: TypeShape, row: Uint8Array, columns: number, x: Float32Array): number {
  let total = 0
  for (let first = 0; first < columns; first += 256) {
    let acc = 0
    const end = Math.min(first + 256, columns)
    for (let c = first; c < end; c++) acc = fma(floatWeight(shape, row, c), x[c]!, acc)
    total = add(total, acc)
  }
  return total
}
