/**
 * GF(2^16) in the Cantor basis (da-design.md 3): the number s stands for Σ sᵢ βᵢ, where βᵢ = βᵢ₊₁² + βᵢ₊₁. Addition is exclusive
 * or in either basis; products go through the polynomial basis once, when the tables are built.
 */
import { assert } from '../../base/errors.ts'

/** x¹⁶ + x⁵ + x³ + x² + 1; x generates the multiplicative group. */
const POLYNOMIAL = 0x1002d
const ORDER = 65_535

/** β₀ … β₁₅ as polynomials. */
export const CANTOR_BASIS = [
  0x0001, 0xacca, 0x3c0e, 0x163e, 0xc582, 0xed2e, 0x914c, 0x4012, 0x6c98, 0x10d8, 0x6a72, 0xb900, 0xfdb8, 0xfb34,
  0xff38, 0x991e
] as const

interface Tables {
  /** exp[i] = generatorⁱ in Cantor coordinates, twice over so that sums of two logs need no reduction. */
  exp: Uint16Array
  /** log[0] is never read. */
  log: Uint16Array
}

let tables: Tables | undefined

function build(): Tables {
  const toPolynomial = new Uint16Array(65_536)
  for (let i = 0; i < 16; i++) {
    for (let s = 0; s < 1 << i; s++) toPolynomial[s + (1 << i)] = toPolynomial[s]! ^ CANTOR_BASIS[i]!
  }
  const toCantor = new Uint16Array(65_536)
  for (let s = 0; s < 65_536; s++) toCantor[toPolynomial[s]!] = s
  const exp = new Uint16Array(2 * ORDER)
  const log = new Uint16Array(65_536)
  let x = 1
  for (let i = 0; i < ORDER; i++) {
    const s = toCantor[x]!
    exp[i] = s
    exp[i + ORDER] = s
    log[s] = i
    x <<= 1
    if (x >= 65_536) x ^= POLYNOMIAL
  }
  assert(x === 1, 'x generates the field')
  return { exp, log }
}

function field(): Tables {
  tables ??= build()
  return tables
}

/** Product of two field elements in Cantor coordinates. */
export function mul(a: number, b: number): number {
  if (a === 0 || b === 0) return 0
  const { exp, log } = field()
  return exp[log[a]! + log[b]!]!
}

/** Inverse of a field element that is not 0. */
export function inverse(a: number): number {
  assert(a !== 0, 'zero has no inverse')
  const { exp, log } = field()
  return exp[ORDER - log[a]!]!
}

/** to[j] += factor · from[j] for all j. */
export function addScaled(to: Uint16Array, from: Uint16Array, factor: number): void {
  if (factor === 0) return
  const { exp, log } = field()
  const f = log[factor]!
  for (let j = 0; j < to.length; j++) {
    const s = from[j]!
    if (s !== 0) to[j] = to[j]! ^ exp[f + log[s]!]!
  }
}
