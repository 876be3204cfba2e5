/**
 * Single precision in JavaScript, each operation rounded once, and the elementary functions of inference.md section 12.3 over it. Sums,
 * products, quotients and roots of floats are exact enough in doubles that rounding twice is rounding once; a fused multiply-add is
 * not, so its double is made odd first (Boldo, Melquiond: Emulation of FMA, IEEE TC 57, 2008).
 */
const f32 = new Float32Array(1)
const u32 = new Uint32Array(f32.buffer)
const f64 = new Float64Array(1)
const w64 = new Uint32Array(f64.buffer)
const { fround } = Math
if (new Uint8Array(Uint32Array.of(1).buffer)[0] !== 1)
  throw new Error('the reference engine needs a little-endian machine')

export function bitsOf(x: number): number {
  f32[0] = x
  return u32[0]!
}

export function floatOf(bits: number): number {
  u32[0] = bits
  return f32[0]!
}

/** a·b + c of three floats, rounded once. */
export function fma(a: number, b: number, c: number): number {
  // 48 bits: exact.
  const p = a * b
  const s = p + c
  const t = s - p
  // What the sum lost; not a number where something is not finite.
  const lost = p - (s - t) + (c - t)
  if (lost > 0 || lost < 0) {
    f64[0] = s
    const low = w64[0]!
    if ((low & 1) === 0) {
      if (lost > 0 === s > 0) {
        w64[0] = low | 1
      } else {
        if (low === 0) w64[1] = w64[1]! - 1
        w64[0] = low - 1
      }
      return fround(f64[0]!)
    }
  }
  return fround(s)
}

export const add = (a: number, b: number): number => fround(a + b)
export const mul = (a: number, b: number): number => fround(a * b)
export const div = (a: number, b: number): number => fround(a / b)
export const sqrt = (a: number): number => fround(Math.sqrt(a))

/** To the nearest integer, ties to even; |x| < 2²². */
export function rint(x: number): number {
  const MAGIC = 12_582_912
  return fround(fround(x + MAGIC) - MAGIC)
}

/** An IEEE half, by its bits, as a float. */
export function halfFloat(half: number): number {
  const sign = (half & 0x8000) << 16
  const exponent = (half >> 10) & 31
  const fraction = half & 1023
  if (exponent === 31) return floatOf((sign | 0x7f800000 | (fraction << 13)) >>> 0)
  if (exponent !== 0) return floatOf((sign | ((exponent + 112) << 23) | (fraction << 13)) >>> 0)
  const value = fraction / 2 ** 24
  return sign === 0 ? value : -value
}

/** The half nearest to a float, as a float: ties to even, ±∞ beyond 65 504. */
export function roundHalf(x: number): number {
  const a = Math.abs(x)
  if (!(a < Number.POSITIVE_INFINITY)) return x
  if (a >= 65_520) return x > 0 ? Number.POSITIVE_INFINITY : Number.NEGATIVE_INFINITY
  // The unit in the last place: 2⁻²⁴ below the least normal half.
  let exponent = -14
  if (a >= 2 ** -14) {
    exponent = Math.floor(Math.log2(a))
    if (a < 2 ** exponent) exponent--
    else if (a >= 2 ** (exponent + 1)) exponent++
  }
  const unit = 2 ** (exponent - 10)
  const steps = a / unit
  let whole = Math.floor(steps)
  const rest = steps - whole
  if (rest > 0.5 || (rest === 0.5 && whole % 2 === 1)) whole++
  const value = whole * unit
  return x < 0 || Object.is(x, -0) ? -value : value
}

const LOG2E = floatOf(0x3fb8aa3b)
const LN2_HIGH = floatOf(0x3f317200)
const LN2_LOW = floatOf(0x35bfbe8e)
const EXP = [0x39506967, 0x3ab743ce, 0x3c088908, 0x3d2aa9c1, 0x3e2aaaaa, 0x3f000000].map(floatOf)
const TANH = [0x3cb327a4, 0xbd5d0dd1, 0x3e088889, 0xbeaaaaab].map(floatOf)
const LOWEST = fround(-87.3)
const HIGHEST = fround(88.7)

function horner(coefficients: readonly number[], x: number): number {
  let p = coefficients[0]!
  for (let i = 1; i < coefficients.length; i++) p = fma(p, x, coefficients[i]!)
  return p
}

/** e to the x. */
export function exp(x: number): number {
  if (Number.isNaN(x)) return x
  if (x < LOWEST) return 0
  if (x > HIGHEST) return Number.POSITIVE_INFINITY
  const n = rint(mul(x, LOG2E))
  const r = fma(n, -LN2_LOW, fma(n, -LN2_HIGH, x))
  const p = add(fma(horner(EXP, r), mul(r, r), r), 1)
  return floatOf((bitsOf(p) + (n << 23)) >>> 0)
}

export const silu = (x: number): number => div(x, add(1, exp(-x)))

export function tanh(x: number): number {
  if (Number.isNaN(x)) return x
  const a = Math.abs(x)
  let y = 1
  if (a <= 9) {
    if (a >= 0.25) {
      const e = exp(mul(-2, a))
      y = div(add(1, -e), add(1, e))
    } else {
      const z = mul(a, a)
      y = fma(mul(a, z), horner(TANH, z), a)
    }
  }
  return x < 0 || Object.is(x, -0) ? -y : y
}

const GELU_CUBE = floatOf(0x3d372713)
const GELU_SCALE = floatOf(0x3f4c422a)

/** The form with the hyperbolic tangent. */
export function gelu(x: number): number {
  const i = fma(mul(mul(x, x), x), GELU_CUBE, x)
  return mul(mul(x, 0.5), add(1, tanh(mul(i, GELU_SCALE))))
}

/** The larger; not a number wins over everything, and a zero counts as +0. */
export function larger(a: number, b: number): number {
  if (Number.isNaN(a)) return a
  if (Number.isNaN(b)) return b
  const m = a > b ? a : b
  return m === 0 ? 0 : m
}

/** The sum of 64 lanes, 64 → 32 → … → 1. The lanes are lost. */
export function joinLanes(lanes: Float32Array): number {
  for (let half = 32; half >= 1; half /= 2) {
    for (let j = 0; j < half; j++) lanes[j] = lanes[j]! + lanes[j + half]!
  }
  return lanes[0]!
}
