/**
 * How long until a coding group loses data: `npm run durability` simulates groups of k + m nodes with given failure rates and prints the
 * table of docs/durability.md beside the exact answer of a Markov chain, a second way to the same number.
 *
 * The model. A node's disk is lost for good at rate λ (exponential). That is detected after `detect`, then its shards are rebuilt from k
 * others, k bytes read for each byte lost, by a replacement that reads at `bandwidth`: repair takes T = detect + k·data / bandwidth. A
 * group loses data when more than m of its k + m nodes are lost and not rebuilt at the same time. Failures are independent.
 *
 * The simulation goes event by event: in each state either the next repair ends or another node fails before. A loss is far too rare to
 * wait for, so a failure is made to happen with probability ½ and the run carries the weight of that lie (importance sampling: the
 * estimate stays unbiased). One run is one busy period, from the first failure until all is whole again or lost; the years to a loss
 * are (time between busy periods + their length) / probability that one ends in a loss.
 *
 * Seeded: SEED, RUNS. `--json` prints records.
 */
import { argv, env, stdout } from 'node:process'
import { pathToFileURL } from 'node:url'

export interface Group {
  k: number
  m: number
}

export interface Model {
  /** Losses a node and year: 0.04 = 4 % of the disks. */
  lossesPerYear: number
  detectHours: number
  /** Shards of one node, and what the replacement may read in an hour. */
  nodeBytes: number
  bytesPerHour: number
  /** The time of a repair is T always, or exponential with mean T as the Markov chain assumes. */
  repair: 'fixed' | 'exponential'
}

export interface Estimate {
  years: number
  /** 95 % confidence interval. */
  low: number
  high: number
}

const HOURS_PER_YEAR = 8766

export function repairHours(g: Group, m: Model): number {
  return m.detectHours + (g.k * m.nodeBytes) / m.bytesPerHour
}

/** A small generator with 53 good bits, so that a table can be made again. */
export function generator(seed: number): () => number {
  let [a, b, c, d] = [0x9e3779b9 ^ seed, 0x243f6a88, 0xb7e15162, seed | 1]
  const next = (): number => {
    // sfc32
    const x = (((a + b) | 0) + d) | 0
    d = (d + 1) | 0
    a = b ^ (b >>> 9)
    b = (c + (c << 3)) | 0
    c = ((c << 21) | (c >>> 11)) + x
    return x >>> 0
  }
  for (let i = 0; i < 16; i++) next()
  return () => (next() * 2 ** 21 + (next() >>> 11)) / 2 ** 53
}

/** The years to a loss by simulation of `runs` busy periods. */
export function simulate(g: Group, model: Model, runs: number, seed: number): Estimate {
  const random = generator(seed)
  const n = g.k + g.m
  const rate = model.lossesPerYear / HOURS_PER_YEAR
  const hours = repairHours(g, model)
  const repair = (): number => (model.repair === 'fixed' ? hours : -Math.log(1 - random()) * hours)
  let sum = 0
  let squares = 0
  let busy = 0
  for (let i = 0; i < runs; i++) {
    // Hours until each lost node is rebuilt.
    let lost = [repair()]
    let weight = 1
    let length = 0
    while (lost.length > 0 && lost.length <= g.m) {
      const soonest = Math.min(...lost)
      const failing = (n - lost.length) * rate
      const p = -Math.expm1(-failing * soonest)
      const bias = Math.max(p, 0.5)
      if (random() < bias) {
        weight *= p / bias
        // When within [0, soonest), given that it happens there.
        const after = -Math.log1p(-random() * p) / failing
        lost = [...lost.map(t => t - after), repair()]
        length += after
      } else {
        weight *= (1 - p) / (1 - bias)
        lost = lost.map(t => t - soonest).filter(t => t > 0)
        length += soonest
      }
    }
    if (lost.length > g.m) {
      sum += weight
      squares += weight * weight
    }
    busy += length * weight
  }
  const chance = sum / runs
  const error = (1.96 * Math.sqrt(Math.max(0, squares / runs - chance * chance))) / Math.sqrt(runs)
  const cycleYears = (1 / (n * rate) + busy / runs) / HOURS_PER_YEAR
  return {
    years: cycleYears / chance,
    low: cycleYears / (chance + error),
    high: chance > error ? cycleYears / (chance - error) : Number.POSITIVE_INFINITY
  }
}

/**
 * The same by the birth-death chain with i lost nodes: failures at (n − i)λ, repairs at i/T. The mean time from i to i + 1 is
 * h(i) = (1 + i/T · h(i − 1)) / ((n − i)λ), and the time to a loss is the sum over i = 0 … m.
 */
export function markovYears(g: Group, model: Model): number {
  const n = g.k + g.m
  const rate = model.lossesPerYear / HOURS_PER_YEAR
  const hours = repairHours(g, model)
  let total = 0
  let step = 0
  for (let i = 0; i <= g.m; i++) {
    step = (1 + (i / hours) * step) / ((n - i) * rate)
    total += step
  }
  return total / HOURS_PER_YEAR
}

export const GROUPS: readonly Group[] = [
  { k: 1, m: 1 },
  { k: 2, m: 1 },
  { k: 2, m: 2 },
  { k: 4, m: 2 },
  { k: 6, m: 3 },
  { k: 8, m: 4 }
]
const RATES = [0.02, 0.04, 0.1, 0.25]

/** 1 TB a node; 30 % of a link of 1 Gbit/s; lost after a quarter of an hour. */
export const ASSUMED = {
  detectHours: 0.25,
  nodeBytes: 1e12,
  bytesPerHour: 0.3 * 125e6 * 3600
}

function main(): void {
  const seed = Number(env.SEED ?? 1)
  const runs = Number(env.RUNS ?? 200_000)
  const json = argv.includes('--json')
  const say = (line: string): void => void stdout.write(`${line}\n`)
  if (!json) {
    say(`seed ${seed}, ${runs} runs a figure\n`)
    say(
      '| group | factor | repair, h | losses a node and year | years to a loss, fixed repair | exponential repair | Markov | one year without loss |'
    )
    say('| --- | --- | --- | --- | --- | --- | --- | --- |')
  }
  for (const g of GROUPS) {
    for (const lossesPerYear of RATES) {
      const model = { ...ASSUMED, lossesPerYear }
      const fixed = simulate(g, { ...model, repair: 'fixed' }, runs, seed)
      const exponential = simulate(g, { ...model, repair: 'exponential' }, runs, seed + 1)
      const markov = markovYears(g, { ...model, repair: 'exponential' })
      if (json) {
        say(
          JSON.stringify({
            type: 'durability',
            ...g,
            losses_per_year: lossesPerYear,
            fixed,
            exponential,
            markov_years: markov
          })
        )
        continue
      }
      const range = (e: Estimate): string => `${figure(e.years)} (${figure(e.low)} … ${figure(e.high)})`
      say(
        `| ${g.k}+${g.m} | ${((g.k + g.m) / g.k).toFixed(2)} | ${repairHours(g, { ...model, repair: 'fixed' }).toFixed(1)} | ${lossesPerYear * 100} % | ` +
          `${range(fixed)} | ${range(exponential)} | ${figure(markov)} | ${nines(1 / fixed.years)} |`
      )
    }
  }
}

/** Three digits, as people read them. */
function figure(x: number): string {
  if (!Number.isFinite(x)) return '∞'
  if (x < 1e6) return Number(x.toPrecision(3)).toLocaleString('en')
  const exponent = Math.floor(Math.log10(x))
  return `${(x / 10 ** exponent).toFixed(2)}·10^${exponent}`
}

/** The probability of no loss in a year. */
function nines(perYear: number): string {
  const loss = -Math.expm1(-perYear)
  return `1 − ${loss.toExponential(1)}`
}

if (argv[1] !== undefined && import.meta.url === pathToFileURL(argv[1]).href) main()
