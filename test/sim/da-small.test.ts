/**
 * Proves the security bounds of da-design.md 9 on a code so small that its failures can be seen: k = 8, 24 rows on 24 places, a
 * check of 16 bits in place of 128. Lying encoders against bounds (A), (C) and (D), grinding, two sums for one blob, and readers
 * that must not differ. Pure functions over the plain code of lib/codec/da; the grinding runs through the native kernels too.
 */
import t from 'tap'
import { concat } from '../../lib/base/bytes.ts'
import { decodeSymbols, encodeSymbols } from '../../lib/codec/da/code.ts'
import { mul } from '../../lib/codec/da/field.ts'
import { daKernels } from '../../lib/codec/da/kernels.ts'
import { shapeOf, shapeTag } from '../../lib/codec/da/shape.ts'
import { keccak256 } from '../../lib/crypto/hash.ts'
import { SeededRandom } from '../../lib/sim/random.ts'
import { SEED } from '../harness/seed.ts'

const K = 8
const ROWS = 24
/** Symbols of a row. */
const W = 2
const NEED = 16
/** Places of honest signers; a third, the last eight places, signs anything. The division of da-design.md 17. */
const HONEST = [3, 3, 2, 2, 2, 2, 2]
const FAULTY = 8

t.setTimeout(120_000)
const random = new SeededRandom(SEED)

type Rows = Uint16Array[]
const range = (n: number): number[] => Array.from({ length: n }, (_, i) => i)
const symbol = (): number => random.below(65_536)
const noise = (rows: number, width = W): Rows => range(rows).map(() => Uint16Array.from({ length: width }, symbol))
const raw = (rows: Rows): Uint8Array => concat(...rows.map(r => new Uint8Array(r.buffer, r.byteOffset, r.byteLength)))
function draw(n: number, m: number): number[] {
  const all = range(n)
  for (let i = 0; i < m; i++) {
    const j = i + random.below(n - i)
    ;[all[i], all[j]] = [all[j]!, all[i]!]
  }
  return all.slice(0, m)
}

/** What the encoder committed to: rows fix r, rows and z fix the permutation and what is signed. */
interface Small {
  rows: Rows
  r: Uint16Array
  z: Rows
  sigma: number[]
  /** What a signature is about. */
  commitment: string
  /** Code rows that pass: row · r is the code's value of z. */
  passing: boolean[]
}

const utf8 = new TextEncoder()

function coefficients(rows: Rows): { r0: Uint8Array; r: Uint16Array } {
  const r0 = keccak256(raw(rows))
  const drawn = keccak256(utf8.encode('small/r'), r0)
  return { r0, r: Uint16Array.from({ length: W }, (_, j) => drawn[2 * j]! | (drawn[2 * j + 1]! << 8)) }
}

const dot = (row: Uint16Array, r: Uint16Array): number => {
  let sum = 0
  for (let j = 0; j < row.length; j++) sum ^= mul(row[j]!, r[j]!)
  return sum
}

/** @param sums - z from r. */
function commit(rows: Rows, sums: (r: Uint16Array) => Rows): Small {
  const { r0, r } = coefficients(rows)
  const z = sums(r)
  const zHash = keccak256(raw(z))
  const words = concat(...[0, 1, 2].map(i => keccak256(utf8.encode('small/perm'), r0, zHash, Uint8Array.of(i))))
  const view = new DataView(words.buffer, words.byteOffset)
  const sigma = range(ROWS)
  for (let i = ROWS - 1; i >= 1; i--) {
    // 2³² mod 24 is small enough to be no matter here.
    const j = view.getUint32(4 * (i - 1)) % (i + 1)
    ;[sigma[i], sigma[j]] = [sigma[j]!, sigma[i]!]
  }
  const e = encodeSymbols(z)
  const passing = rows.map((row, c) => dot(row, r) === e[c]![0])
  const commitment = Buffer.from(keccak256(r0, zHash)).toString('hex')
  return { rows, r, z, sigma, commitment, passing }
}

const sumsOf =
  (x: Rows) =>
  (r: Uint16Array): Rows =>
    x.slice(0, K).map(row => Uint16Array.of(dot(row, r)))

/** Places that sign: those of the faulty, and those of each honest signer all of whose lines pass. */
function signedBy(s: Small): number {
  let at = 0
  let signed = FAULTY
  for (const places of HONEST) {
    if (range(places).every(i => s.passing[s.sigma[at + i]!])) signed += places
    at += places
  }
  return signed
}

const equalRow = (a: Uint16Array, b: Uint16Array): boolean => a.every((v, i) => v === b[i])

/** The strict rule of section 7 on k rows: the value, or undefined. */
function read(s: Small, from: readonly number[]): string | undefined {
  const x = decodeSymbols(
    from,
    from.map(c => s.rows[c]!)
  )
  const matches = encodeSymbols(x).filter((row, c) => equalRow(row, s.rows[c]!)).length
  return matches >= 2 * K ? Buffer.from(raw(x)).toString('hex') : undefined
}

function binomial(n: number, m: number): number {
  let out = 1
  for (let i = 0; i < m; i++) out = (out * (n - i)) / (i + 1)
  return Math.round(out)
}

/** Exact chance of a certificate when `good` lines pass, by counting subsets of lines; and bound (C) for it. */
function chances(good: number): { exact: number; bound: number } {
  // ways[g][s]: subsets of the lines so far with g good ones that let s places sign.
  let ways = new Map<string, number>([['0/0', 1]])
  const times = (factor: [good: number, signed: number, ways: number][]): void => {
    const next = new Map<string, number>()
    for (const [key, n] of ways) {
      const [g, s] = key.split('/').map(Number) as [number, number]
      for (const [dg, ds, m] of factor) {
        const to = `${g + dg}/${s + ds}`
        next.set(to, (next.get(to) ?? 0) + n * m)
      }
    }
    ways = next
  }
  for (const m of HONEST) times(range(m + 1).map(g => [g, g === m ? m : 0, binomial(m, g)]))
  times(range(FAULTY + 1).map(g => [g, FAULTY, binomial(FAULTY, g)]))
  let enough = 0
  for (const [key, n] of ways) {
    const [g, s] = key.split('/').map(Number) as [number, number]
    if (g === good && s >= NEED) enough += n
  }
  const u = HONEST.length
  const bound = (binomial(u, Math.floor(u / 2)) * binomial(good, NEED - FAULTY)) / binomial(ROWS, NEED - FAULTY)
  return { exact: enough / binomial(ROWS, good), bound }
}

/** Five standard deviations: a right count leaves them once in a million runs. */
const within = (seen: number, expected: number): boolean => Math.abs(seen - expected) <= 5 * Math.sqrt(expected + 1)

t.test('the exact chance and bound (C) are the published ones', async t => {
  const table: [number, number, number][] = [
    [15, 0.119, 0.306],
    [14, 0.059, 0.143],
    [12, 0.0095, 0.024],
    [8, 0.0000136, 0.00005]
  ]
  for (const [good, exact, bound] of table) {
    const c = chances(good)
    t.ok(Math.abs(c.exact / exact - 1) < 0.2 && Math.abs(c.bound / bound - 1) < 0.2, `${good}: ${JSON.stringify(c)}`)
    t.ok(c.exact < c.bound)
  }
})

t.test('a lying encoder, 10 000 runs: k wrong rows change nothing, more of them stay within (A) and (C)', async t => {
  const tally = new Map<number, { runs: number; certified: number }>()
  let wrongRows = 0
  let wrongPassed = 0
  for (let run = 0; run < 10_000; run++) {
    // Half the runs where certificates can still be seen.
    const e = run % 2 === 0 ? 9 + random.below(4) : random.below(ROWS + 1)
    const x = noise(K)
    const code = encodeSymbols(x)
    const bad = new Set(draw(ROWS, e))
    const rows = code.map((row, c) => (bad.has(c) ? noise(1)[0]! : row))
    const s = commit(rows, sumsOf(x))
    const really = range(ROWS).filter(c => !equalRow(rows[c]!, code[c]!))
    wrongRows += really.length
    const escaped = really.filter(c => s.passing[c])
    wrongPassed += escaped.length
    for (const c of range(ROWS))
      if (!really.includes(c) && !s.passing[c]) t.fail(`run ${run}: an honest row is refused`)
    const good = s.passing.filter(Boolean).length
    const certified = signedBy(s) >= NEED
    if (good < NEED) {
      const entry = tally.get(good) ?? { runs: 0, certified: 0 }
      entry.runs++
      if (certified) entry.certified++
      tally.set(good, entry)
    }
    if (escaped.length > 0) continue
    if (e <= K) {
      const passing = range(ROWS).filter(c => s.passing[c])
      const from = draw(passing.length, K).map(i => passing[i]!)
      if (read(s, from) !== Buffer.from(raw(x)).toString('hex')) t.fail(`run ${run}: e ${e} is not the data`)
    }
  }
  t.ok(within(wrongPassed, wrongRows / 65_536), `(A): ${wrongPassed} of ${wrongRows} wrong rows passed`)
  let certified = 0
  for (const [good, n] of [...tally].sort((a, b) => b[0] - a[0])) {
    const { exact, bound } = chances(good)
    certified += n.certified
    t.ok(within(n.certified, exact * n.runs), `${good} good: ${n.certified} of ${n.runs} certified, ${exact * n.runs}`)
    t.ok(n.certified <= bound * n.runs + 5 * Math.sqrt(bound * n.runs) + 1, 'within (C)')
    if (good < NEED - FAULTY) t.equal(n.certified, 0, 'never without a third of honest places')
  }
  t.ok(certified > 50, `${certified} certificates of wrong encodings were seen`)
})

t.test('two sums for one set of rows: never one certificate', async t => {
  let signedSecond = 0
  for (let run = 0; run < 2_000; run++) {
    const x = noise(K)
    const rows = encodeSymbols(x)
    const honest = commit(rows, sumsOf(x))
    // The closest other sum agrees with the rows in k − 1 places: one through them, and one value changed.
    const other = commit(rows, r => {
      const at = draw(ROWS, K)
      const values = at.map(c => Uint16Array.of(dot(rows[c]!, r)))
      values[0]![0]! ^= 1 + random.below(65_535)
      return decodeSymbols(at, values)
    })
    t.not(honest.commitment, other.commitment)
    const agree = other.passing.filter(Boolean).length
    if (agree > K - 1) t.fail(`${agree} rows pass under a false sum`)
    const second = signedBy(other)
    if (second > FAULTY) signedSecond++
    if (second >= NEED) t.fail('a certificate of a false sum')
    if (signedBy(honest) !== ROWS) t.fail('an honest blob is not signed')
  }
  t.ok(signedSecond > 0, `${signedSecond} times somebody signed the false sum: its certificate still fails`)
})

t.test('grinding: each try succeeds with 3k · 2⁻¹⁶, no better and no worse', async t => {
  // Plain code: many tries side by side, one a column.
  const side = 1_000
  let tries = 0
  let successes = 0
  let beyond = 0
  for (let batch = 0; batch < 200; batch++) {
    const fixed = noise(ROWS)
    const x = noise(K)
    const code = encodeSymbols(x)
    const hash = keccak256(raw(fixed))
    const r = range(side).map(n => keccak256(hash, Uint8Array.of(n & 255, n >> 8)))
    const at = (n: number, j: number): number => r[n]![2 * j]! | (r[n]![2 * j + 1]! << 8)
    const sum = (row: Uint16Array): Uint16Array =>
      Uint16Array.from({ length: side }, (_, n) => mul(row[0]!, at(n, 0)) ^ mul(row[1]!, at(n, 1)))
    const expected = encodeSymbols(x.map(sum))
    const seen = fixed.map(sum)
    for (let n = 0; n < side; n++) {
      let passed = 0
      for (let c = 0; c < ROWS; c++) if (seen[c]![n] === expected[c]![n]) passed++
      if (passed > 0) successes++
      // (D): one row fewer than 2k is honest, and noise must supply the last.
      let last = false
      for (let c = 2 * K - 1; c < ROWS; c++) if (seen[c]![n] === expected[c]![n]) last = true
      if (last) beyond++
    }
    tries += side
    if (batch === 0)
      t.ok(
        code.every((row, c) => sum(row).every((v, n) => v === expected[c]![n])),
        'sums commute'
      )
  }
  const bound = (tries * ROWS) / 65_536
  t.ok(within(successes, bound), `${successes} of ${tries} tries, ${bound.toFixed(1)} expected`)
  t.ok(successes > bound / 2, 'the bound is tight')
  const nine = (tries * (ROWS - 2 * K + 1)) / 65_536
  t.ok(within(beyond, nine) && beyond < bound, `(D): ${beyond} of ${tries}, ${nine.toFixed(1)} expected`)

  // Native kernels: the eight symbols of a sum are eight such checks, each from its own coefficients.
  const kernels = daKernels()
  const shape = shapeOf(K * 64, 3)
  const rows = range(ROWS + K).map(() => random.bytes(64))
  const passed = new Array<number>(8).fill(0)
  const rounds = 12_000
  for (let n = 0; n < rounds; n++) {
    const p = concat(shapeTag(shape), random.bytes(32))
    const sums = await kernels.rowSums(p, rows)
    const want = kernels.extendZ(sums.slice(16 * ROWS))
    for (let c = 0; c < ROWS; c++) {
      for (let j = 0; j < 8; j++) {
        const i = 16 * c + 2 * j
        if (sums[i] === want[i] && sums[i + 1] === want[i + 1]) passed[j]!++
      }
    }
  }
  const all = passed.reduce((a, b) => a + b, 0)
  const expected = (rounds * ROWS * 8) / 65_536
  t.ok(within(all, expected), `native: ${all} of ${rounds * ROWS * 8} checks, ${expected.toFixed(1)} expected`)
  t.ok(
    passed.every(n => within(n, expected / 8)),
    `evenly: ${passed}`
  )
})

t.test('two readers with any rows: one value or none, for both', async t => {
  const count = { value: 0, none: 0, fewRows: 0, escaped: 0 }
  for (let run = 0; run < 10_000; run++) {
    const x = noise(K)
    const rival = noise(K)
    const [code, other] = [encodeSymbols(x), encodeSymbols(rival)]
    const bad = new Set(draw(ROWS, random.below(ROWS + 1)))
    const kind = random.below(3)
    const rows = code.map((row, c) => {
      if (!bad.has(c)) return row
      return kind === 0 ? noise(1)[0]! : kind === 1 ? other[c]! : random.below(2) === 0 ? other[c]! : noise(1)[0]!
    })
    const s = commit(rows, r => {
      switch (random.below(4)) {
        case 0:
          return sumsOf(rival)(r)
        case 1: {
          // The sum that makes any eight rows pass, whatever they are.
          const at = draw(ROWS, K)
          return decodeSymbols(
            at,
            at.map(c => Uint16Array.of(dot(rows[c]!, r)))
          )
        }
        default:
          return sumsOf(x)(r)
      }
    })
    const passing = range(ROWS).filter(c => s.passing[c])
    if (passing.length < K) {
      count.fewRows++
      continue
    }
    const some = (): number[] => draw(passing.length, K).map(i => passing[i]!)
    const [one, two] = [read(s, some()), read(s, some())]
    if (one !== two) {
      // Only where the short check let a wrong row through beside a value that exists.
      const truth = [code, other].find(c => rows.filter((row, i) => equalRow(row, c[i]!)).length >= 2 * K)
      if (truth === undefined || passing.every(c => equalRow(rows[c]!, truth[c]!))) t.fail(`run ${run}: readers differ`)
      count.escaped++
    } else if (one === undefined) count.none++
    else count.value++
  }
  t.comment(JSON.stringify(count))
  // (B) with q = 10 000 and 16 bits.
  t.ok(count.escaped <= 4 + 5 * 2, `${count.escaped} differed by a row that escaped the 16 bits`)
  t.ok(count.value > 500 && count.none > 500, 'both ends were reached')
})
