/**
 * Seeded randomness (xoshiro128**). One generator is split per purpose, so that a new fault does not shift all the others.
 * Reproducible everywhere, and for that reason never fit for keys.
 */
import { createHash } from 'node:crypto'
import { view } from '../base/bytes.ts'
import { assert } from '../base/errors.ts'
import type { Random } from '../ports/random.ts'

export class SeededRandom implements Random {
  readonly seed: string
  readonly #s: Uint32Array

  constructor(seed: string | number) {
    this.seed = String(seed)
    const digest = createHash('sha256').update(this.seed).digest()
    this.#s = new Uint32Array(4)
    for (let i = 0; i < 4; i++) this.#s[i] = view(digest).getUint32(4 * i)
    // The all-zero state is the generator's only fixed point.
    this.#s[3] = this.#s[3]! | 1
  }

  /** An independent generator for one purpose; does not advance this one. */
  split(purpose: string): SeededRandom {
    return new SeededRandom(`${this.seed}/${purpose}`)
  }

  /** A uniform 32-bit integer. */
  u32(): number {
    const s = this.#s
    const x = Math.imul(s[1]!, 5)
    const out = Math.imul((x << 7) | (x >>> 25), 9) >>> 0
    const t = s[1]! << 9
    s[2]! ^= s[0]!
    s[3]! ^= s[1]!
    s[1]! ^= s[2]!
    s[0]! ^= s[3]!
    s[2]! ^= t
    s[3] = (s[3]! << 11) | (s[3]! >>> 21)
    return out
  }

  bytes(size: number): Uint8Array {
    const out = new Uint8Array(size)
    for (let i = 0; i < size; i += 4) {
      const word = this.u32()
      for (let j = 0; j < 4 && i + j < size; j++) out[i + j] = word >>> (8 * j)
    }
    return out
  }

  below(bound: number): number {
    assert(Number.isInteger(bound) && bound >= 1 && bound <= 2 ** 32, `bound ${bound} is not in 1 to 2^32`)
    // Reject the last, incomplete run of the bound, or small numbers would be likelier.
    const limit = 2 ** 32 - (2 ** 32 % bound)
    for (;;) {
      const x = this.u32()
      if (x < limit) return x % bound
    }
  }

  /** True with probability `p`. */
  chance(p: number): boolean {
    return this.u32() < p * 2 ** 32
  }

  /** One of the given. */
  pick<T>(items: readonly T[]): T {
    return items[this.below(items.length)]!
  }
}
