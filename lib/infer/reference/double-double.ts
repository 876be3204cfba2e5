/** Numbers of about 106 bits as unevaluated sums of two doubles, with the functions that RoPE tables need (inference.md section 12.3). */
export interface Dd {
  readonly hi: number
  readonly lo: number
}

const SPLIT = 2 ** 27 + 1
const HALF_PI: Dd = { hi: Math.PI / 2, lo: 6.123233995736766e-17 }
const LN2: Dd = { hi: Math.LN2, lo: 2.3190468138462996e-17 }

export const whole = (x: number): Dd => ({ hi: x, lo: 0 })

function quickSum(a: number, b: number): Dd {
  const s = a + b
  return { hi: s, lo: b - (s - a) }
}

function twoSum(a: number, b: number): Dd {
  const s = a + b
  const t = s - a
  return { hi: s, lo: a - (s - t) + (b - t) }
}

/** Product and what it lost (Dekker). */
function twoProduct(a: number, b: number): Dd {
  const p = a * b
  const x = SPLIT * a
  const aHigh = x - (x - a)
  const aLow = a - aHigh
  const y = SPLIT * b
  const bHigh = y - (y - b)
  const bLow = b - bHigh
  return { hi: p, lo: aHigh * bHigh - p + aHigh * bLow + aLow * bHigh + aLow * bLow }
}

export function sum(a: Dd, b: Dd): Dd {
  const s = twoSum(a.hi, b.hi)
  const t = twoSum(a.lo, b.lo)
  const u = quickSum(s.hi, s.lo + t.hi)
  return quickSum(u.hi, u.lo + t.lo)
}
export const negative = (a: Dd): Dd => ({ hi: -a.hi, lo: -a.lo })
export const difference = (a: Dd, b: Dd): Dd => sum(a, negative(b))
export function product(a: Dd, b: Dd): Dd {
  const p = twoProduct(a.hi, b.hi)
  return quickSum(p.hi, p.lo + (a.hi * b.lo + a.lo * b.hi))
}
export function quotient(a: Dd, b: Dd): Dd {
  const first = a.hi / b.hi
  let rest = difference(a, product(b, whole(first)))
  const second = rest.hi / b.hi
  rest = difference(rest, product(b, whole(second)))
  return sum(quickSum(first, second), whole(rest.hi / b.hi))
}
/** Times a power of two. */
export const scaled = (a: Dd, power: number): Dd => ({ hi: a.hi * power, lo: a.lo * power })
export const less = (a: Dd, b: Dd): boolean => a.hi < b.hi || (a.hi === b.hi && a.lo < b.lo)

/** e to the a. */
export function exponential(a: Dd): Dd {
  const k = Math.round(a.hi / LN2.hi)
  const r = scaled(difference(a, product(LN2, whole(k))), 2 ** -9)
  let term = r
  // e^r − 1, squared nine times.
  let s = r
  for (let i = 2; i <= 12; i++) {
    term = quotient(product(term, r), whole(i))
    s = sum(s, term)
  }
  for (let i = 0; i < 9; i++) s = sum(scaled(s, 2), product(s, s))
  return scaled(sum(s, whole(1)), 2 ** k)
}

/** Natural logarithm of a positive number, by Newton from the double's. */
export function logarithm(a: Dd): Dd {
  let y = whole(Math.log(a.hi))
  for (let i = 0; i < 2; i++) y = difference(sum(y, product(a, exponential(negative(y)))), whole(1))
  return y
}

/** |a| < 2³⁰. */
export function sineCosine(a: Dd): [sine: Dd, cosine: Dd] {
  const q = Math.round(a.hi / HALF_PI.hi)
  const r = difference(a, product(HALF_PI, whole(q)))
  const z = product(r, r)
  let s = r
  let c = whole(1)
  let sTerm = r
  let cTerm = c
  for (let i = 1; i <= 14; i++) {
    const n = 2 * i
    cTerm = negative(quotient(product(cTerm, z), whole(n * (n - 1))))
    sTerm = negative(quotient(product(sTerm, z), whole(n * (n + 1))))
    c = sum(c, cTerm)
    s = sum(s, sTerm)
  }
  const quadrant = ((q % 4) + 4) % 4
  if (quadrant === 0) return [s, c]
  if (quadrant === 1) return [c, negative(s)]
  if (quadrant === 2) return [negative(s), negative(c)]
  return [negative(c), s]
}

const f32 = new Float32Array(1)
const i32 = new Int32Array(f32.buffer)

function neighbour(f: number, up: boolean): number {
  if (f === 0) return up ? 2 ** -149 : -(2 ** -149)
  f32[0] = f
  i32[0] = i32[0]! + (f > 0 === up ? 1 : -1)
  return f32[0]!
}

/** The float nearest to a. */
export function nearestFloat(a: Dd): number {
  const f = Math.fround(a.hi)
  const rest = twoSum(a.hi - f, a.lo)
  if (rest.hi === 0) return f
  const next = neighbour(f, rest.hi > 0)
  const half = (next - f) / 2
  const over = rest.hi > 0 ? difference(rest, whole(half)) : difference(whole(half), rest)
  return over.hi > 0 ? next : f
}
