/**
 * The seed of a test's draws. The suite draws the same every time, so that it tells what a change did; `npm run test:seeds` draws anew
 * (docs/decisions/0098). A run repeats with ZG_SEED=the seed that it printed.
 */
import { randomInt } from 'node:crypto'
import t from 'tap'

const FIXED = 1

function drawn(): number {
  const given = process.env.ZG_SEED
  if (given === undefined) return FIXED
  if (given === 'new') return randomInt(2 ** 31 - 1)
  const seed = Number(given)
  if (!Number.isSafeInteger(seed) || seed < 0) throw new Error(`ZG_SEED is '${given}': give a number, or 'new'`)
  return seed
}

/** Below 2 ^ 31 unless it was given. */
export const SEED = drawn()
t.comment(`seed ${SEED}: ZG_SEED=${SEED} repeats the run`)
