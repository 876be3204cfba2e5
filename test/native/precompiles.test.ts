/**
 * Proves that Ethereum's precompiles in native/evm give the outputs, prices and refusals of the public vectors, that they agree with
 * @noble/curves, node:crypto and plain big integers on random and awkward inputs, that each costs what it costs before it works, and that
 * each revision has exactly its own.
 */
import { createHash, generateKeyPairSync, sign as signWith } from 'node:crypto'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { bls12_381 } from '@noble/curves/bls12-381.js'
import { bn254 } from '@noble/curves/bn254.js'
import { p256 } from '@noble/curves/nist.js'
import { secp256k1 } from '@noble/curves/secp256k1.js'
import { keccak_256 } from '@noble/hashes/sha3.js'
import t from 'tap'
import { bigToBytes, bytesToBig, concat } from '../../lib/base/bytes.ts'
import { fromHex, toHex } from '../../lib/base/hex.ts'
import { nativePath } from '../../lib/native.ts'
import { fixturesDir } from '../harness/evm-fixtures.ts'
import { SEED } from '../harness/seed.ts'

interface Answer {
  ok: boolean
  gasUsed: bigint
  output: Uint8Array
}
interface Addon {
  precompile(revision: string, address: number, input: Uint8Array, gas: bigint): Answer | undefined
}

const path = nativePath('evm' as 'codec')
const skip = existsSync(path) ? false : 'no native build here'
const addon = skip ? undefined : (createRequire(import.meta.url)(path) as Addon)

let state = SEED >>> 0
function random(below: number): number {
  state = (state + 0x6d2b79f5) >>> 0
  let x = Math.imul(state ^ (state >>> 15), state | 1)
  x ^= x + Math.imul(x ^ (x >>> 7), x | 61)
  return ((x ^ (x >>> 14)) >>> 0) % below
}
const randomBytes = (size: number) => Uint8Array.from({ length: size }, () => random(256))
const randomBig = (size: number) => (size === 0 ? 0n : bytesToBig(randomBytes(size)))
const word = (n: bigint) => bigToBytes(n, 32)

const PLENTY = 1n << 40n
function call(revision: string, address: number, input: Uint8Array, gas = PLENTY): Answer {
  const answer = addon!.precompile(revision, address, input, gas)
  if (answer === undefined) throw new Error(`${revision} has no precompile ${address}`)
  return answer
}
const outputOf = (revision: string, address: number, input: Uint8Array) => {
  const { ok, output } = call(revision, address, input)
  return ok ? toHex(output) : 'failure'
}

// ------------------------------------------------------------------------------------------------------------------------ vectors

/** File name without `fail-`: revision and address. */
const FILES: Record<string, [revision: string, address: number]> = {
  blake2F: ['Istanbul', 9],
  blake2f: ['Istanbul', 9],
  blsG1Add: ['Prague', 0x0b],
  blsG1Mul: ['Prague', 0x0c],
  blsG1MultiExp: ['Prague', 0x0c],
  blsG2Add: ['Prague', 0x0d],
  blsG2Mul: ['Prague', 0x0e],
  blsG2MultiExp: ['Prague', 0x0e],
  blsPairing: ['Prague', 0x0f],
  blsMapG1: ['Prague', 0x10],
  blsMapG2: ['Prague', 0x11],
  bn256Add: ['Istanbul', 6],
  bn256ScalarMul: ['Istanbul', 7],
  bn256Pairing: ['Istanbul', 8],
  ecRecover: ['Frontier', 1],
  modexp: ['Byzantium', 5],
  modexp_eip2565: ['Berlin', 5],
  modexp_eip7883: ['Osaka', 5],
  p256Verify: ['Osaka', 0x100],
  pointEvaluation: ['Cancun', 0x0a]
}

const fixtures = fixturesDir()
const folder = fixtures === undefined ? undefined : join(fixtures, 'vectors/precompiles')
t.test(
  'all public vectors give their output and their price, or fail',
  { skip: skip || (folder ? false : 'no fixtures beside this checkout') },
  async t => {
    let cases = 0
    for (const file of readdirSync(folder!).sort()) {
      const target = FILES[file.replace(/^fail-|\.json$/g, '')]
      if (target === undefined) {
        t.fail(`${file} is not known`)
        continue
      }
      let wrong = 0
      for (const v of JSON.parse(readFileSync(join(folder!, file), 'utf8'))) {
        cases++
        const input = fromHex(`0x${v.Input}`)
        const got = call(...target, input)
        const good =
          v.ExpectedError === undefined
            ? got.ok && toHex(got.output) === `0x${v.Expected}` && got.gasUsed === BigInt(v.Gas)
            : !got.ok && got.output.length === 0 && got.gasUsed === PLENTY
        // One unit less than the price buys nothing.
        const poor = v.ExpectedError !== undefined || v.Gas === 0 || !call(...target, input, BigInt(v.Gas) - 1n).ok
        if (good && poor) continue
        wrong++
        t.comment(`${file}: ${v.Name}: ${got.ok} ${toHex(got.output)} ${got.gasUsed}`)
      }
      t.equal(wrong, 0, file)
    }
    t.ok(cases >= 1338, `${cases} cases`)
  }
)

t.test('each revision has its own precompiles', { skip }, async t => {
  const counts: Record<string, number> = {
    Frontier: 4,
    Homestead: 4,
    EIP150: 4,
    EIP158: 4,
    Byzantium: 8,
    Constantinople: 8,
    ConstantinopleFix: 8,
    Istanbul: 9,
    Berlin: 9,
    London: 9,
    Merge: 9,
    Shanghai: 9,
    Cancun: 10,
    Prague: 17,
    Osaka: 18
  }
  for (const [revision, count] of Object.entries(counts)) {
    const there: number[] = []
    for (let n = 0; n < 0x200; n++) if (addon!.precompile(revision, n, new Uint8Array(0), 0n)) there.push(n)
    const want = Array.from({ length: Math.min(count, 17) }, (_, i) => i + 1)
    if (count === 18) want.push(0x100)
    t.same(there, want, revision)
  }
  t.equal(addon!.precompile('Osaka', 0x1001, new Uint8Array(0), 0n), undefined)
  t.throws(() => addon!.precompile('Never', 1, new Uint8Array(0), 0n))
})

// ------------------------------------------------------------------------------------------------------------------------- hashes

t.test('hashes equal OpenSSL at every length around block borders', { skip }, async t => {
  const ripemd = (() => {
    try {
      return createHash('ripemd160') && true
    } catch {
      return false
    }
  })()
  const sizes = [...Array(260).keys(), 1000, 4096, 65_537]
  for (const size of sizes) {
    const input = randomBytes(size)
    const words = BigInt(Math.ceil(size / 32))
    const sha = call('Frontier', 2, input)
    if (toHex(sha.output) !== `0x${createHash('sha256').update(input).digest('hex')}`) t.fail(`sha256 of ${size} bytes`)
    if (sha.gasUsed !== 60n + 12n * words) t.fail(`price of sha256 of ${size} bytes`)
    const rip = call('Frontier', 3, input)
    if (ripemd && toHex(rip.output) !== `0x${'00'.repeat(12)}${createHash('ripemd160').update(input).digest('hex')}`)
      t.fail(`ripemd160 of ${size} bytes`)
    if (rip.gasUsed !== 600n + 120n * words) t.fail(`price of ripemd160 of ${size} bytes`)
    const same = call('Frontier', 4, input)
    if (toHex(same.output) !== toHex(input) || same.gasUsed !== 15n + 3n * words) t.fail(`identity of ${size} bytes`)
  }
  t.pass('done')
})

// --------------------------------------------------------------------------------------------------------------------- signatures

t.test('ecrecover equals noble, for good and bad signatures', { skip }, async t => {
  const n = secp256k1.Point.Fn.ORDER
  const reference = (digest: Uint8Array, v: bigint, r: bigint, s: bigint): string => {
    if ((v !== 27n && v !== 28n) || r <= 0n || r >= n || s <= 0n || s >= n) return '0x'
    try {
      const signature = new secp256k1.Signature(r, s, Number(v - 27n))
      const key = signature.recoverPublicKey(digest).toBytes(false)
      return toHex(concat(new Uint8Array(12), keccak_256(key.subarray(1)).subarray(12)))
    } catch {
      return '0x'
    }
  }
  let recovered = 0
  for (let i = 0; i < 120; i++) {
    const digest = randomBytes(32)
    const signed = secp256k1.Signature.fromBytes(
      secp256k1.sign(digest, secp256k1.utils.randomSecretKey(randomBytes(48)), { prehash: false, format: 'recovered' }),
      'recovered'
    )
    let { r, s } = signed
    let v = 27n + BigInt(signed.recovery!)
    const kind = i % 12
    if (kind === 1) s = n - s
    if (kind === 2) r = randomBig(32)
    if (kind === 3) s = [0n, n, n - 1n, 1n][random(4)]!
    if (kind === 4) r = [0n, n, n - 1n, 1n][random(4)]!
    if (kind === 5) v = [0n, 1n, 26n, 29n, 27n + (1n << 64n), 1n << 255n][random(6)]!
    const want = reference(digest, v, r, s)
    if (want !== '0x') recovered++
    const got = outputOf('Osaka', 1, concat(digest, word(v), word(r), word(s)))
    if (got !== want) t.fail(`case ${i}: ${got}, not ${want}`)
  }
  t.ok(recovered > 50, `${recovered} recovered`)
  t.equal(outputOf('Osaka', 1, new Uint8Array(0)), '0x')
})

t.test('P-256 equals OpenSSL and noble, for good and bad signatures', { skip }, async t => {
  const n = p256.Point.Fn.ORDER
  const p = p256.Point.Fp.ORDER
  const yes = toHex(word(1n))
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const jwk = publicKey.export({ format: 'jwk' })
  const key = [jwk.x!, jwk.y!].map(c => Uint8Array.from(Buffer.from(c, 'base64url')))
  for (let i = 0; i < 40; i++) {
    const message = randomBytes(50)
    const digest = Uint8Array.from(createHash('sha256').update(message).digest())
    const raw = Uint8Array.from(signWith('sha256', message, { key: privateKey, dsaEncoding: 'ieee-p1363' }))
    const [r, s] = [bytesToBig(raw.subarray(0, 32)), bytesToBig(raw.subarray(32))]
    const check = (d: Uint8Array, r: bigint, s: bigint, x: bigint, y: bigint) =>
      outputOf('Osaka', 0x100, concat(d, word(r), word(s), word(x), word(y))) === yes
    const [x, y] = [bytesToBig(key[0]!), bytesToBig(key[1]!)]
    if (!check(digest, r, s, x, y) || !check(digest, r, n - s, x, y)) t.fail('a good signature was refused')
    const bad: [Uint8Array, bigint, bigint, bigint, bigint][] = [
      [randomBytes(32), r, s, x, y],
      [digest, s, r, x, y],
      [digest, 0n, s, x, y],
      [digest, r, 0n, x, y],
      [digest, n, s, x, y],
      [digest, r, n, x, y],
      [digest, r, s, x, p - y],
      [digest, r, s, 0n, 0n],
      [digest, r, s, p, y],
      [digest, r, s, x, y ^ 1n]
    ]
    for (const [k, b] of bad.entries()) if (check(...b)) t.fail(`bad signature ${k} was taken`)
  }
  for (let i = 0; i < 30; i++) {
    const secret = p256.utils.randomSecretKey(randomBytes(48))
    const digest = i === 0 ? new Uint8Array(32) : i === 1 ? new Uint8Array(32).fill(255) : randomBytes(32)
    const signature = p256.sign(digest, secret, { prehash: false, lowS: false })
    if (outputOf('Osaka', 0x100, concat(digest, signature, p256.getPublicKey(secret, false).subarray(1))) !== yes)
      t.fail(`noble's signature ${i}`)
  }
  t.pass('done')
})

// ------------------------------------------------------------------------------------------------------------------- big integers

t.test('modular powers equal big integers, for moduli of every kind', { skip }, async t => {
  const power = (b: bigint, e: bigint, m: bigint): bigint => {
    if (m === 0n) return 0n
    let r = 1n % m
    for (let x = b % m; e > 0n; e >>= 1n, x = (x * x) % m) if (e & 1n) r = (r * x) % m
    return r
  }
  const shapes = (size: number) => {
    const n = randomBig(size)
    switch (random(9)) {
      case 0:
        return 0n
      case 1:
        return 1n
      case 2:
        return size === 0 ? 0n : 1n << BigInt(random(8 * size))
      case 3:
        return (n >> 3n) << 3n
      case 4:
        return (n >> BigInt(random(8 * size + 1))) << 0n
      case 5:
        return size === 0 ? 0n : (1n << BigInt(8 * size)) - 1n
      case 6:
        return size < 9 ? n : (n >> BigInt(random(8 * size))) << BigInt(random(4 * size))
      default:
        return n | 1n
    }
  }
  const fit = (n: bigint, size: number) => (size === 0 ? 0n : n & ((1n << BigInt(8 * size)) - 1n))
  for (let i = 0; i < 400; i++) {
    const sizes = [0, 1, 2].map(
      () => [0, 1, 7, 8, 9, 16, 31, 32, 33, 64, 65, 100, 128, 256][random(i < 350 ? 11 : 14)]!
    )
    const [b, e, m] = sizes.map(size => fit(size === 0 ? 0n : shapes(size), size)) as [bigint, bigint, bigint]
    const body = [b, e, m].map((n, k) => (sizes[k] === 0 ? new Uint8Array(0) : bigToBytes(n, sizes[k]!)))
    const input = concat(...sizes.map(s => word(BigInt(s))), ...body)
    const want = toHex(sizes[2] === 0 ? new Uint8Array(0) : bigToBytes(power(b, e, m), sizes[2]!))
    for (const revision of ['Byzantium', 'Osaka']) {
      const got = outputOf(revision, 5, input)
      if (got !== want) t.fail(`${b}^${e} mod ${m} (${sizes}): ${got}, not ${want}`)
    }
  }
  const huge = (1n << 256n) - 1n
  t.equal(outputOf('Osaka', 5, concat(word(1025n), word(1n), word(1n))), 'failure', 'EIP-7823 bounds the base')
  t.equal(outputOf('Osaka', 5, concat(word(1n), word(1025n), word(1n))), 'failure', 'and the exponent')
  t.equal(
    outputOf('Berlin', 5, concat(word(huge), word(huge), word(huge))),
    'failure',
    'nobody can pay for lengths of 2^256'
  )
  t.equal(
    outputOf('Byzantium', 5, concat(word(0n), word(huge), word(0n))),
    '0x',
    'a power modulo nothing is nothing, whatever the exponent'
  )
})

// -------------------------------------------------------------------------------------------------------------------------- BN254

const P = bn254.fields.Fp.ORDER
const R = bn254.fields.Fr.ORDER
const G1 = bn254.G1.Point
const G2 = bn254.G2.Point
type G1 = InstanceType<typeof G1>
type G2 = InstanceType<typeof G2>
const g1Bytes = (p: G1) => {
  const { x, y } = p.is0() ? { x: 0n, y: 0n } : p.toAffine()
  return concat(word(x), word(y))
}
const g2Bytes = (q: G2) => {
  if (q.is0()) return new Uint8Array(128)
  const { x, y } = q.toAffine()
  return concat(word(x.c1), word(x.c0), word(y.c1), word(y.c0))
}
const scalar = () => (randomBig(40) % (R - 1n)) + 1n

t.test('BN254 sums and products equal noble', { skip }, async t => {
  const points = [G1.ZERO, G1.BASE, ...Array.from({ length: 10 }, () => G1.BASE.multiply(scalar()))]
  for (const a of points) {
    for (const b of [...points, a, a.negate()]) {
      if (outputOf('Osaka', 6, concat(g1Bytes(a), g1Bytes(b))) !== toHex(g1Bytes(a.add(b)))) t.fail('a sum differs')
    }
    const scalars = [
      0n,
      1n,
      2n,
      R - 1n,
      R,
      R + 1n,
      2n * R,
      (1n << 256n) - 1n,
      (1n << 128n) - 1n,
      1n << 128n,
      randomBig(32),
      randomBig(32),
      randomBig(16),
      randomBig(20)
    ]
    for (const k of scalars) {
      const want = k % R === 0n || a.is0() ? G1.ZERO : a.multiply(k % R)
      if (outputOf('Osaka', 7, concat(g1Bytes(a), word(k))) !== toHex(g1Bytes(want)))
        t.fail(`a product with ${k} differs`)
    }
  }
  t.equal(outputOf('Osaka', 6, concat(word(P), word(0n))), 'failure', 'a coordinate of p')
  t.equal(outputOf('Osaka', 6, concat(word(1n), word(1n))), 'failure', 'a point off the curve')
  t.equal(outputOf('Osaka', 7, concat(word(1n), word(2n))), toHex(new Uint8Array(64)), 'a short input is padded')
  t.equal(call('Byzantium', 6, new Uint8Array(0)).gasUsed, 500n)
  t.equal(call('Byzantium', 7, new Uint8Array(0)).gasUsed, 40_000n)
  t.equal(call('Byzantium', 8, new Uint8Array(192)).gasUsed, 180_000n)
})

t.test('BN254 pairings are bilinear and refuse points outside the subgroup', { skip }, async t => {
  const yes = toHex(word(1n))
  const no = toHex(word(0n))
  for (let i = 0; i < 12; i++) {
    const [a, b] = [scalar(), scalar()]
    const p = G1.BASE.multiply(a)
    const q = G2.BASE.multiply(b)
    const pq = G1.BASE.multiply((a * b) % R)
    const equal = concat(g1Bytes(p), g2Bytes(q), g1Bytes(pq.negate()), g2Bytes(G2.BASE))
    const unequal = concat(g1Bytes(p), g2Bytes(q), g1Bytes(pq), g2Bytes(G2.BASE))
    if (outputOf('Osaka', 8, equal) !== yes) t.fail('an equation that holds was refused')
    if (outputOf('Osaka', 8, unequal) !== no) t.fail('an equation that does not hold was taken')
    if (outputOf('Osaka', 8, concat(equal, g1Bytes(p), g2Bytes(G2.ZERO), g1Bytes(G1.ZERO), g2Bytes(q))) !== yes)
      t.fail('infinities count')
  }
  // More pairs than one loop takes.
  const many: Uint8Array[] = []
  let sum = 0n
  for (let i = 0; i < 40; i++) {
    const a = scalar()
    sum += a
    many.push(g1Bytes(G1.BASE.multiply(a)), g2Bytes(G2.BASE))
  }
  many.push(g1Bytes(G1.BASE.multiply(sum % R).negate()), g2Bytes(G2.BASE))
  t.equal(outputOf('Osaka', 8, concat(...many)), yes)
  t.equal(outputOf('Osaka', 8, new Uint8Array(0)), yes)
  t.equal(outputOf('Osaka', 8, new Uint8Array(191)), 'failure')

  // On the twist, but of another order: found by trying abscissas.
  const { Fp2 } = bn254.fields
  const b2 = Fp2.div(Fp2.fromBigTuple([3n, 0n]), Fp2.fromBigTuple([9n, 1n]))
  let outside = 0
  for (let i = 0; outside < 8 && i < 200; i++) {
    const x = Fp2.fromBigTuple([randomBig(40) % P, randomBig(40) % P])
    try {
      const y = Fp2.sqrt(Fp2.add(Fp2.mul(Fp2.sqr(x), x), b2))
      outside++
      const bytes = concat(word(x.c1), word(x.c0), word(y.c1), word(y.c0))
      if (outputOf('Osaka', 8, concat(g1Bytes(G1.BASE), bytes)) !== 'failure')
        t.fail('a point outside the subgroup was taken')
    } catch {
      // not a square
    }
  }
  t.equal(outside, 8)
  const off = g2Bytes(G2.BASE)
  off[127]! ^= 1
  t.equal(outputOf('Osaka', 8, concat(g1Bytes(G1.BASE), off)), 'failure', 'off the twist')
})

// ------------------------------------------------------------------------------------------------------------------------- BLS12-381

t.test('BLS12-381 sums equal noble', { skip }, async t => {
  const B1 = bls12_381.G1.Point
  const order = bls12_381.fields.Fr.ORDER
  const bytes = (p: InstanceType<typeof B1>) => {
    const { x, y } = p.is0() ? { x: 0n, y: 0n } : p.toAffine()
    return concat(bigToBytes(x, 64), bigToBytes(y, 64))
  }
  for (let i = 0; i < 8; i++) {
    const count = [1, 2, 3, 17][i % 4]!
    let want = B1.ZERO
    const input: Uint8Array[] = []
    for (let k = 0; k < count; k++) {
      const p = k === 2 ? B1.ZERO : B1.BASE.multiply((randomBig(40) % (order - 1n)) + 1n)
      const s = randomBig(32)
      input.push(bytes(p), word(s))
      if (!p.is0() && s % order !== 0n) want = want.add(p.multiply(s % order))
    }
    if (outputOf('Prague', 0x0c, concat(...input)) !== toHex(bytes(want))) t.fail(`sum of ${count} products`)
  }
  t.equal(
    outputOf('Prague', 0x0c, concat(new Uint8Array(128), word(5n))),
    toHex(new Uint8Array(128)),
    'only infinities'
  )
})

t.test(
  'point evaluation refuses whatever is not the proof',
  { skip: skip || (folder ? false : 'no fixtures beside this checkout') },
  async t => {
    const [v] = JSON.parse(readFileSync(join(folder!, 'pointEvaluation.json'), 'utf8'))
    const good = fromHex(`0x${v.Input}`)
    t.ok(call('Cancun', 10, good).ok)
    for (let i = 0; i < 60; i++) {
      const bad = good.slice()
      bad[i < 24 ? i * 8 : random(192)]! ^= 1 << random(8)
      if (call('Cancun', 10, bad).ok) t.fail(`changed input ${toHex(bad)} was taken`)
    }
    const order = bls12_381.fields.Fr.ORDER
    const withCommitment = (z: bigint, y: bigint, c: Uint8Array, proof: Uint8Array) => {
      const hash = Uint8Array.from(createHash('sha256').update(c).digest())
      hash[0] = 1
      return concat(hash, word(z), word(y), c, proof)
    }
    const infinity = new Uint8Array(48)
    infinity[0] = 0xc0
    // The polynomial 0 is 0 everywhere; a constant is itself everywhere, its quotient is 0.
    t.ok(call('Cancun', 10, withCommitment(5n, 0n, infinity, infinity)).ok)
    t.notOk(call('Cancun', 10, withCommitment(5n, 1n, infinity, infinity)).ok)
    const seven = bls12_381.G1.Point.BASE.multiply(7n).toBytes(true)
    t.ok(call('Cancun', 10, withCommitment(order - 1n, 7n, seven, infinity)).ok)
    t.notOk(call('Cancun', 10, withCommitment(order, 7n, seven, infinity)).ok, 'z is not reduced')
    t.notOk(call('Cancun', 10, withCommitment(3n, 7n + order, seven, infinity)).ok, 'y is not reduced')
    t.notOk(call('Cancun', 10, withCommitment(3n, 8n, seven, infinity)).ok)
    t.notOk(call('Cancun', 10, good.subarray(0, 191)).ok)
    t.notOk(call('Cancun', 10, concat(good, Uint8Array.of(0))).ok)
  }
)
