/**
 * Proves that storage stripes are coded as storage.md 11 says: the native code on every SIMD path and the TypeScript reference
 * against a third construction (interpolation instead of matrices), for every default code and every way to lose shards, for odd
 * sizes, and for the widest shapes. Then that the numbers of a stripe form a code word, that a wrong shard is found by them, that
 * their field is one, and that wrong arguments are refused.
 */
import { existsSync } from 'node:fs'
import t from 'tap'
import { defaultCode, rsEncode, rsReconstruct } from '../../lib/codec/storage/rs.ts'
import { shardSum, sumPoint, sumsAgree, towerMul } from '../../lib/codec/storage/tower.ts'
import { codec, nativePath, type ReedSolomon, reference } from '../../lib/native.ts'
import { SEED } from '../harness/seed.ts'

const seed = SEED
const skip = existsSync(nativePath('codec')) ? false : 'no native build here'

let state = seed >>> 0
function random(below: number): number {
  state = (Math.imul(state, 1664525) + 1013904223) >>> 0
  return Math.floor((state / 2 ** 32) * below)
}
const bytes = (size: number): Uint8Array => Uint8Array.from({ length: size }, () => random(256))

/** Multiplication bit by bit, and the inverse as a power. */
function mul(a: number, b: number): number {
  let product = 0
  for (let bit = 0; bit < 8; bit++) {
    if ((b >> bit) & 1) product ^= a << bit
  }
  for (let bit = 14; bit >= 8; bit--) {
    if ((product >> bit) & 1) product ^= 0x11d << (bit - 8)
  }
  return product
}
function inverse(a: number): number {
  let power = 1
  for (let i = 0; i < 254; i++) power = mul(power, a)
  return power
}

/**
 * The code as evaluations of one polynomial N of degree below k: with f(z) = Σ data_j / (z ⊕ j) = N(z) / Π_j (z ⊕ j), parity i is
 * f(k + i) and data j is the residue of f at j. So shard p is N(p) / D(p), D(p) = Π_{j < k, j ≠ p} (p ⊕ j), and any k shards give N
 * by Lagrange's formula.
 */
function interpolated(k: number, have: readonly number[], shards: readonly Uint8Array[], wanted: number): Uint8Array {
  const d = (p: number): number => {
    let out = 1
    for (let j = 0; j < k; j++) if (j !== p) out = mul(out, p ^ j)
    return out
  }
  const out = new Uint8Array(shards[0]!.length)
  for (const [i, h] of have.entries()) {
    let factor = mul(d(h), inverse(d(wanted)))
    for (const other of have) {
      if (other !== h) factor = mul(factor, mul(wanted ^ other, inverse(h ^ other)))
    }
    const products = Uint8Array.from({ length: 256 }, (_, v) => mul(factor, v))
    for (let b = 0; b < out.length; b++) out[b] = out[b]! ^ products[shards[i]![b]!]!
  }
  return out
}

function* subsets(n: number, k: number, from = 0): Generator<number[]> {
  if (k === 0) yield []
  else for (let i = from; i <= n - k; i++) for (const rest of subsets(n, k - 1, i + 1)) yield [i, ...rest]
}

function implementations(): [string, ReedSolomon][] {
  const slow: [string, ReedSolomon] = ['reference', reference().rs]
  if (skip !== false) return [slow]
  const { rs } = codec()
  return [slow, ...rs.paths.map((path): [string, ReedSolomon] => [path, rs.with(path)])]
}

const same = (a: readonly Uint8Array[], b: readonly Uint8Array[]): boolean =>
  a.length === b.length && a.every((x, i) => Buffer.compare(x, b[i]!) === 0)

t.test('the default codes are those of the protocol', async t => {
  const codes = [1, 2, 3, 4, 5, 6, 8, 9, 11, 12, 100].map(n => defaultCode(n))
  const text = codes.map(({ k, m }) => `${k}+${m}`).join(' ')
  t.equal(text, '1+0 1+1 2+1 2+2 2+2 4+2 4+2 6+3 6+3 8+4 8+4')
})

t.test('every implementation codes every default code and survives every loss', async t => {
  const codes = [2, 3, 4, 6, 9, 12].map(n => defaultCode(n))
  for (const [name, rs] of implementations()) {
    let patterns = 0
    for (const { k, m } of codes) {
      const n = k + m
      const data = Array.from({ length: k }, () => bytes(200))
      const parity = await rs.encode(k, m, data)
      const word = [...data, ...parity]
      const all = data.map((_, i) => i)
      const want = parity.map((_, i) => interpolated(k, all, data, k + i))
      t.ok(same(parity, want), `${name} ${k}+${m} parity`)
      for (const have of subsets(n, k)) {
        // Of the 495 of 8+4 about 60.
        if (k === 8 && random(8) !== 0) continue
        const known = word.map((shard, i) => (have.includes(i) ? shard : undefined))
        const missing = word.map((_, i) => i).filter(i => !have.includes(i))
        const made = await rs.reconstruct(k, m, known, missing)
        const ok = same(
          made,
          missing.map(i => word[i]!)
        )
        if (!ok) t.fail(`${name} ${k}+${m} from ${have}`)
        patterns++
      }
    }
    t.ok(patterns >= 2 + 3 + 6 + 15 + 84 + 20, `${name}: ${patterns} patterns`)
  }
})

t.test('shards of any size are coded, whole, unaligned and in odd tails', { skip }, async t => {
  const [k, m] = [5, 6]
  const sizes = [1, 15, 31, 32, 63, 64, 65, 127, 128, 129, 255, 4095, 4096, 4097, 8321, 70_001]
  for (const size of sizes) {
    const data = Array.from({ length: k }, (_, i) => bytes(size + i).subarray(i))
    const want = rsEncode(k, m, data)
    for (const [name, rs] of implementations()) {
      if (!same(await rs.encode(k, m, data), want)) t.fail(`${name} size ${size}`)
    }
  }
  const data = Array.from({ length: 8 }, () => new Uint8Array(bytes(1024).buffer, 0, 1024))
  const large = data.map(part => {
    const out = new Uint8Array(262_144)
    for (let at = 0; at < out.length; at += part.length) out.set(part, at)
    return out
  })
  const want = rsEncode(8, 4, data)
  for (const [name, rs] of implementations()) {
    const parity = await rs.encode(8, 4, large)
    const whole = parity.every(
      (p, i) =>
        p.length === 262_144 &&
        Buffer.compare(p.subarray(-1024), want[i]!) === 0 &&
        same([p.subarray(0, 1024)], [want[i]!])
    )
    t.ok(whole, `${name} whole segments`)
  }
})

t.test('the widest shapes and random ones', async t => {
  const shapes = [
    [1, 0],
    [1, 255],
    [255, 1],
    [128, 128],
    [20, 40],
    [1 + random(60), 1 + random(60)]
  ] as const
  for (const [k, m] of shapes) {
    const data = Array.from({ length: k }, () => bytes(97))
    const word = [...data, ...rsEncode(k, m, data)]
    if (m > 0)
      t.ok(
        same(
          [word[k + m - 1]!],
          [
            interpolated(
              k,
              data.map((_, i) => i),
              data,
              k + m - 1
            )
          ]
        ),
        `${k}+${m} last`
      )
    // Any k, drawn at random.
    const order = word.map((_, i) => i)
    for (let i = order.length - 1; i > 0; i--) {
      const j = random(i + 1)
      const swap = order[i]!
      order[i] = order[j]!
      order[j] = swap
    }
    const have = new Set(order.slice(0, k))
    const known = word.map((shard, i) => (have.has(i) ? shard : undefined))
    // Present ones too: those come back as they are.
    const wanted = order.slice(Math.max(0, k - 2), k + 5)
    for (const [name, rs] of implementations()) {
      if (!same(await rs.encode(k, m, data), word.slice(k))) t.fail(`${name} ${k}+${m} parity`)
      const made = await rs.reconstruct(k, m, known, wanted)
      if (
        !same(
          made,
          wanted.map(i => word[i]!)
        )
      )
        t.fail(`${name} ${k}+${m} from ${[...have]}`)
      if (made[0] !== known[wanted[0]!]) t.fail('a shard at hand was copied')
    }
  }
})

t.test('wrong arguments are refused alike', async t => {
  const a = new Uint8Array(64)
  const b = new Uint8Array(65)
  const none = new Uint8Array(0)
  const big = new Uint8Array(262_145)
  for (const [name, rs] of implementations()) {
    const bad: [string, Promise<unknown>][] = [
      ['no data', rs.encode(0, 1, [])],
      ['257 shards', rs.encode(129, 128, Array(129).fill(a))],
      ['half a shard', rs.encode(1.5, 1, [a])],
      ['negative parity', rs.encode(2, -1, [a, a])],
      ['too few shards', rs.encode(3, 1, [a, a])],
      ['odd lengths', rs.encode(2, 1, [a, b])],
      ['empty shards', rs.encode(2, 1, [none, none])],
      ['a shard too long', rs.encode(1, 1, [big])],
      ['fewer than k', rs.reconstruct(2, 2, [a, undefined, undefined, undefined], [1])],
      ['more than k + m', rs.reconstruct(2, 2, [a, a, a, a, a], [1])],
      ['no such shard', rs.reconstruct(2, 2, [a, a], [4])],
      ['odd lengths, reconstruct', rs.reconstruct(2, 1, [a, undefined, b], [1])],
      ['a short point', rs.shardSums(new Uint8Array(15), [a])]
    ]
    for (const [what, call] of bad) await t.rejects(call, { code: 'ERR_BAD_INPUT' }, `${name}: ${what}`)
    t.same(await rs.encode(2, 0, [a, a]), [], `${name}: no parity is none`)
    t.same(await rs.shardSums(new Uint8Array(16), []), [], `${name}: no shards, no sums`)
  }
  t.throws(() => reference().rs.with('avx2'), { code: 'ERR_BAD_INPUT' })
})

t.test('writing into the list after a call changes nothing', { skip }, async t => {
  const { rs } = codec()
  const data = [bytes(500), bytes(500)]
  const parity = rsEncode(2, 2, data)
  const list: (Uint8Array | undefined)[] = [undefined, data[1]!, parity[0]!]
  const wanted = [0]
  const running = rs.reconstruct(2, 2, list, wanted)
  list[1] = undefined
  wanted[0] = 1
  t.ok(same(await running, [data[0]!]))
})

t.test('the modulus of the tower is irreducible', async t => {
  // Rabin's test for degree 16: X^(256^16) = X, and X^(256^8) − X has no factor in common with the modulus, that is, an inverse.
  const power = (a: Uint8Array, squarings: number): Uint8Array => {
    let out = a
    for (let i = 0; i < squarings; i++) out = towerMul(out, out)
    return out
  }
  const x = new Uint8Array(16)
  x[1] = 1
  const one = new Uint8Array(16)
  one[0] = 1
  t.same(power(x, 128), x)
  const difference = power(x, 64).map((v, i) => v ^ x[i]!)
  // a^(2^128 − 1) as the product of a^(2^i).
  let product: Uint8Array = one
  let square: Uint8Array = difference
  for (let i = 0; i < 128; i++) {
    product = towerMul(product, square)
    square = towerMul(square, square)
  }
  t.same(product, one)
})

t.test('sums are the inner product with the powers of the point, on every path', async t => {
  const rho = bytes(16)
  const sizes = [1, 2, 255, 256, 511, 512, 513, 1024, 5000]
  for (const size of sizes) {
    const shards = [bytes(size), bytes(size), new Uint8Array(size)]
    // From the definition, with powers instead of Horner's rule.
    const want = shards.map(shard => {
      const sum = new Uint8Array(16)
      let power: Uint8Array = new Uint8Array(16)
      power[0] = 1
      for (const byte of shard) {
        for (let i = 0; i < 16; i++) sum[i] = sum[i]! ^ mul(byte, power[i]!)
        power = towerMul(power, rho)
      }
      return sum
    })
    for (const [name, rs] of implementations()) {
      if (!same(await rs.shardSums(rho, shards), want)) t.fail(`${name} size ${size}`)
    }
  }
  if (skip === false) {
    const shard = bytes(262_144)
    const want = shardSum(rho, shard)
    for (const path of codec().rs.paths) {
      t.ok(same(await codec().rs.with(path).shardSums(rho, [shard]), [want]), `${path} whole segment`)
    }
  }
})

t.test('the sums of a stripe form a code word, and one wrong shard breaks it', async t => {
  for (const [k, m] of [
    [2, 1],
    [4, 2],
    [8, 4]
  ] as const) {
    const data = Array.from({ length: k }, () => bytes(512))
    const word = [...data, ...rsEncode(k, m, data)]
    const roots = word.map(shard => codec().keccak256(shard))
    const rho = sumPoint(bytes(32), 7, k, m, roots)
    t.equal(rho.length, 16)
    t.notSame(rho, sumPoint(bytes(32), 7, k, m, roots), 'another file has another point')
    const sums = word.map(shard => shardSum(rho, shard))
    t.equal(sumsAgree(k, m, sums), true, `${k}+${m}`)
    for (let bad = 0; bad < k + m; bad++) {
      const wrong = word[bad]!.slice()
      const at = random(wrong.length)
      wrong[at] = wrong[at]! ^ (1 << random(8))
      const claimed = sums.map((sum, i) => (i === bad ? shardSum(rho, wrong) : sum))
      if (sumsAgree(k, m, claimed)) t.fail(`${k}+${m}: shard ${bad} is wrong unnoticed`)
      // Without its number the others still agree; with k numbers or fewer there is nothing to compare.
      if (
        !sumsAgree(
          k,
          m,
          claimed.map((sum, i) => (i === bad ? undefined : sum))
        )
      )
        t.fail(`${k}+${m} without ${bad}`)
    }
    const few = sums.map((sum, i) => (i < k ? sum : undefined))
    t.equal(sumsAgree(k, m, few), true)
  }
  t.throws(() => sumPoint(bytes(32), 0, 2, 1, [bytes(32)]), { code: 'ERR_BAD_INPUT' })
  t.throws(() => sumPoint(bytes(32), -1, 1, 0, [bytes(32)]), { code: 'ERR_BAD_INPUT' })
  t.same(rsReconstruct(1, 0, [Uint8Array.of(5)], [0]), [Uint8Array.of(5)])
})
