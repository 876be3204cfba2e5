/**
 * Proves the two ways to the years of docs/durability.md against each other: the simulation's interval holds the Markov chain's answer for
 * every group, and would not hold that of a group with one node more or less to lose.
 */
import t from 'tap'
import { ASSUMED, GROUPS, type Group, generator, markovYears, simulate } from '../../scripts/durability.ts'
import { SEED } from '../harness/seed.ts'

/** Within so many sigma: at five, chance fails this test once in a million runs. */
function holds(g: Group, years: number, sigma: number): boolean {
  const model = { ...ASSUMED, lossesPerYear: 0.25, repair: 'exponential' as const }
  const e = simulate(g, model, 20_000, SEED)
  const half = (1 / e.low - 1 / e.years) * (sigma / 1.96)
  return Math.abs(1 / years - 1 / e.years) < half
}

t.test('simulation and Markov chain agree, and tell groups apart', t => {
  for (const g of GROUPS) {
    const model = { ...ASSUMED, lossesPerYear: 0.25, repair: 'exponential' as const }
    t.ok(holds(g, markovYears(g, model), 5), `${g.k}+${g.m}`)
    t.notOk(holds(g, markovYears({ k: g.k, m: g.m + 1 }, model), 3), `not ${g.k}+${g.m + 1}`)
    t.notOk(holds(g, markovYears({ k: g.k, m: g.m - 1 }, model), 3), `not ${g.k}+${g.m - 1}`)
  }
  t.end()
})

t.test('the chain is the known formula where there is one, and the generator is even', t => {
  // Two copies: (3λ + μ) / 2λ², for λ a year and μ repairs a year.
  const model = { ...ASSUMED, lossesPerYear: 0.1, repair: 'exponential' as const }
  const mu = 8766 / (0.25 + 1e12 / ASSUMED.bytesPerHour)
  const known = (3 * 0.1 + mu) / (2 * 0.1 ** 2)
  t.ok(Math.abs(markovYears({ k: 1, m: 1 }, model) / known - 1) < 1e-9)
  const random = generator(SEED)
  let sum = 0
  for (let i = 0; i < 100_000; i++) sum += random()
  t.ok(Math.abs(sum / 100_000 - 0.5) < 0.005)
  t.end()
})
