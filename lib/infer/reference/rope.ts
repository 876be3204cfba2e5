/** Tables of rotary positions: each entry the float nearest to the real number that inference.md section 4's formula gives. */
import {
  type Dd,
  difference,
  exponential,
  less,
  logarithm,
  nearestFloat,
  negative,
  product,
  quotient,
  scaled,
  sineCosine,
  sum,
  whole
} from './double-double.ts'

export interface Rope {
  /** Of a head that turn. */
  readonly dims: number
  readonly base: number
  /** Of the frequencies, one a pair; empty: none. */
  readonly divisors: Float32Array
  readonly linear: number
  readonly yarn?: {
    readonly factor: number
    readonly originalContext: number
    readonly betaFast: number
    readonly betaSlow: number
    /** 0: by the factor. */
    readonly attention: number
  }
}

const TWO_PI: Dd = { hi: 2 * Math.PI, lo: 2.4492935982947064e-16 }

function floorOf(a: Dd): number {
  const f = Math.floor(a.hi)
  return f === a.hi && a.lo < 0 ? f - 1 : f
}

function ceilOf(a: Dd): number {
  const c = Math.ceil(a.hi)
  return c === a.hi && a.lo > 0 ? c + 1 : c
}

/** Cosines and sines of positions, made when first asked for. */
export class RopeTable {
  readonly #frequencies: Dd[] = []
  #magnitude: Dd = whole(1)
  readonly #rows: Float32Array[] = []

  constructor(p: Rope) {
    const pairs = p.dims / 2
    const logBase = logarithm(whole(p.base))
    for (let i = 0; i < pairs; i++) {
      let f = exponential(negative(quotient(product(logBase, whole(2 * i)), whole(p.dims))))
      if (p.divisors.length > 0) f = quotient(f, whole(p.divisors[i]!))
      if (p.linear !== 1) f = quotient(f, whole(p.linear))
      this.#frequencies.push(f)
    }
    if (p.yarn === undefined) return
    const { factor, originalContext, betaFast, betaSlow, attention } = p.yarn
    const corrected = (beta: number): Dd => {
      const turns = quotient(whole(originalContext), product(TWO_PI, whole(beta)))
      return quotient(product(whole(p.dims), logarithm(turns)), scaled(logBase, 2))
    }
    const low = Math.max(0, floorOf(corrected(betaFast)))
    const high = Math.min(p.dims - 1, ceilOf(corrected(betaSlow)))
    const span = high - low > 0.001 ? whole(high - low) : quotient(whole(1), whole(1000))
    for (let i = 0; i < pairs; i++) {
      let ramp = quotient(whole(i - low), span)
      if (less(ramp, whole(0))) ramp = whole(0)
      if (less(whole(1), ramp)) ramp = whole(1)
      const keep = difference(whole(1), ramp)
      this.#frequencies[i] = product(this.#frequencies[i]!, sum(keep, quotient(ramp, whole(factor))))
    }
    this.#magnitude = attention > 0 ? whole(attention) : sum(whole(1), quotient(logarithm(whole(factor)), whole(10)))
  }

  /** Cosine and sine of each pair, one behind the other. */
  row(position: number): Float32Array {
    let row = this.#rows[position]
    if (row === undefined) {
      row = new Float32Array(2 * this.#frequencies.length)
      for (const [i, f] of this.#frequencies.entries()) {
        const [sine, cosine] = sineCosine(product(f, whole(position)))
        row[2 * i] = nearestFloat(product(cosine, this.#magnitude))
        row[2 * i + 1] = nearestFloat(product(sine, this.#magnitude))
      }
      this.#rows[position] = row
    }
    return row
  }
}
