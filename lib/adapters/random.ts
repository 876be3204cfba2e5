/** The system's cryptographic randomness. */
import { randomFillSync, randomInt } from 'node:crypto'
import { assert } from '../base/errors.ts'
import type { Random } from '../ports/random.ts'

/** Small requests are served from a stock: a call into the system's generator costs more than its bytes. What was given out is wiped. */
const SMALL_BYTES = 32
const stock = new Uint8Array(2_048)
let used = stock.length

function small(size: number): Uint8Array {
  if (used + size > stock.length) {
    randomFillSync(stock)
    used = 0
  }
  const out = stock.slice(used, used + size)
  stock.fill(0, used, used + size)
  used += size
  return out
}

export const systemRandom: Random = {
  bytes: size => (size <= SMALL_BYTES ? small(size) : randomFillSync(new Uint8Array(size))),
  below(bound) {
    assert(Number.isInteger(bound) && bound >= 1 && bound <= 2 ** 32, `bound ${bound} is not in 1 to 2^32`)
    return randomInt(bound)
  }
}
