/** The system's cryptographic randomness. */
import { randomFillSync, randomInt } from 'node:crypto'
import { assert } from '../base/errors.ts'
import type { Random } from '../ports/random.ts'

export const systemRandom: Random = {
  bytes: size => randomFillSync(new Uint8Array(size)),
  below(bound) {
    assert(Number.isInteger(bound) && bound >= 1 && bound <= 2 ** 32, `bound ${bound} is not in 1 to 2^32`)
    return randomInt(bound)
  }
}
