/**
 * BLS on BN254 as the data availability layer has it: the check values of da.md 14, the two byte orders, what is refused, and that
 * signatures, aggregates and proofs of possession hold for the right keys only.
 */
import t from 'tap'
import { bytesToBig } from '../../lib/base/bytes.ts'
import { fromHex, toHex } from '../../lib/base/hex.ts'
import * as bls from '../../lib/crypto/bn254.ts'
import { keccak256 } from '../../lib/crypto/hash.ts'

const ROOT = new Uint8Array(32).fill(0x11)
const keyOf = (n: number) => bls.secretKeyFrom(keccak256(Uint8Array.of(n)))

/** A point of the twist outside the subgroup: found by trial from x = (n, 0), with a square root in Fp². */
async function strayG2(): Promise<bls.G2> {
  const { bn254 } = await import('@noble/curves/bn254.js')
  const { Fp2 } = bn254.fields
  const b = Fp2.div(Fp2.fromBigTuple([3n, 0n]), Fp2.fromBigTuple([9n, 1n]))
  for (let n = 1n; n < 100n; n++) {
    const x = Fp2.fromBigTuple([n, 0n])
    const square = Fp2.add(Fp2.mul(Fp2.sqr(x), x), b)
    try {
      const y = Fp2.sqrt(square)
      if (!Fp2.eql(Fp2.sqr(y), square)) continue
      const point = bn254.G2.Point.fromAffine({ x, y })
      if (!point.isTorsionFree()) return { x: [x.c0, x.c1], y: [y.c0, y.c1] }
    } catch {
      // No root: the next x.
    }
  }
  throw new Error('no point found')
}

t.test('digest, map to the curve and certificate id have the published values', async t => {
  const digest = bls.blobDigest(ROOT, 1n, 2n, { x: 1n, y: 2n })
  t.equal(toHex(digest), '0x37412edc0fae2d298c470c1668f2ee05ff6197d6f40e06bdd6f341e501def8a0')
  t.same(bls.hashToG1(digest), {
    x: 3104132272622526655068902279970515367044771064982988265068273751564440697689n,
    y: 14983672482514514723382346054400511740670770934276906876175822994665721348371n
  })
  t.equal(toHex(bls.certificateId(ROOT, 1n, 2n)), '0xb17ae73b7d48db18adabbd31559bb80228399275ca5c82acdab14f1017480997')
})

t.test('messages of registration and epoch are packed as upstream packs them', async t => {
  const signer = new Uint8Array(20).fill(0x22)
  const text = Buffer.from('0G_BN254_Pubkey_Registration').toString('hex')
  const packed = `0x${'22'.repeat(20)}${(31337).toString(16).padStart(64, '0')}${text}`
  t.same(bls.registrationDigest(signer, 31337n), keccak256(fromHex(packed)))
  const epoch = `0x${'22'.repeat(20)}${'0000000000000007'}${(31337).toString(16).padStart(64, '0')}`
  t.same(bls.epochDigest(signer, 7n, 31337n), keccak256(fromHex(epoch)))
})

t.test('a signature verifies under its key, message and nothing else', async t => {
  const [a, b] = [keyOf(1), keyOf(2)]
  const digest = keccak256(Uint8Array.of(7))
  const other = keccak256(Uint8Array.of(8))
  const s = bls.signBls(a, digest)
  t.ok(bls.verifyBls(digest, s, bls.publicKeyG2(a)))
  t.notOk(bls.verifyBls(other, s, bls.publicKeyG2(a)))
  t.notOk(bls.verifyBls(digest, s, bls.publicKeyG2(b)))
  t.notOk(bls.verifyBls(digest, { x: s.x, y: bls.BN254_P - s.y }, bls.publicKeyG2(a)))
  t.notOk(bls.verifyBls(digest, { x: s.x, y: s.y + 1n }, bls.publicKeyG2(a)), 'off the curve')
  t.notOk(bls.verifyBls(digest, bls.G1_INFINITY, { x: [0n, 0n], y: [0n, 0n] }), 'infinity proves nothing')
  t.notOk(bls.verifyBls(digest, s, await strayG2()), 'outside the subgroup')

  const sum = bls.sumG1([s, bls.signBls(b, digest)])
  t.ok(bls.verifyBls(digest, sum, bls.sumG2([bls.publicKeyG2(a), bls.publicKeyG2(b)])), 'aggregate')
  t.notOk(bls.verifyBls(digest, sum, bls.publicKeyG2(a)))
  t.same(bls.sumG1([]), bls.G1_INFINITY)
  t.same(bls.sumG1([s, { x: s.x, y: bls.BN254_P - s.y }]), bls.G1_INFINITY)
  t.throws(() => bls.sumG1([{ x: 1n, y: 3n }]), { code: 'ERR_BAD_INPUT' })
  const stray = await strayG2()
  t.throws(() => bls.sumG2([stray]), { code: 'ERR_BAD_INPUT' })
})

t.test('a proof of possession ties both public keys to the signature', async t => {
  const [a, b] = [keyOf(1), keyOf(2)]
  const digest = bls.registrationDigest(new Uint8Array(20), 31337n)
  const s = bls.signBls(a, digest)
  const [a1, a2] = [bls.publicKeyG1(a), bls.publicKeyG2(a)]
  t.ok(bls.verifyPossession(digest, s, a1, a2))
  t.notOk(bls.verifyPossession(digest, s, bls.publicKeyG1(b), a2), 'G1 key of somebody else')
  t.notOk(bls.verifyPossession(digest, s, a1, bls.publicKeyG2(b)), 'G2 key of somebody else')
  t.notOk(bls.verifyPossession(digest, bls.signBls(b, digest), a1, a2), 'signature of somebody else')
  t.notOk(bls.verifyPossession(digest, s, bls.G1_INFINITY, a2))
  t.notOk(bls.verifyPossession(digest, bls.G1_INFINITY, bls.G1_INFINITY, { x: [0n, 0n], y: [0n, 0n] }))
  // A rogue key cancels the honest one in the sum; without the secret key there is no signature for it.
  const rogue = bls.sumG1([bls.publicKeyG1(b), { x: a1.x, y: bls.BN254_P - a1.y }])
  const negA2: bls.G2 = { x: a2.x, y: [bls.BN254_P - a2.y[0], bls.BN254_P - a2.y[1]] }
  const rogue2 = bls.sumG2([bls.publicKeyG2(b), negA2])
  t.same(bls.sumG1([rogue, a1]), bls.publicKeyG1(b))
  t.notOk(bls.verifyPossession(digest, bls.signBls(b, digest), rogue, rogue2))
})

t.test('keys stay in range', async t => {
  for (const bad of [0n, -1n, bls.BN254_R, bls.BN254_R + 1n]) {
    t.throws(() => bls.publicKeyG1(bad), { code: 'ERR_BAD_INPUT' })
    t.throws(() => bls.publicKeyG2(bad), { code: 'ERR_BAD_INPUT' })
    t.throws(() => bls.signBls(bad, ROOT), { code: 'ERR_BAD_INPUT' })
  }
  t.same(bls.publicKeyG1(1n), bls.G1_GENERATOR)
  const top = bls.publicKeyG1(bls.BN254_R - 1n)
  t.same(top, { x: 1n, y: bls.BN254_P - 2n })
  t.throws(() => bls.secretKeyFrom(new Uint8Array(31)), { code: 'ERR_BAD_INPUT' })
  t.equal(keyOf(1), keyOf(1))
  t.not(keyOf(1), keyOf(2))
})

t.test('little-endian points: flags are written, masked, and must not lie', async t => {
  const g = bls.G1_GENERATOR
  const le = bls.encodeG1Le(g)
  t.equal(toHex(le), `0x01${'00'.repeat(31)}02${'00'.repeat(31)}`)
  const negative = { x: 1n, y: bls.BN254_P - 2n }
  const larger = bls.encodeG1Le(negative)
  t.equal(larger[63]! & 0xc0, 0x80)
  const bare = Uint8Array.from(larger)
  bare[63]! &= 0x3f
  for (const form of [larger, bare]) t.same(bls.decodeG1Le(form), negative)
  for (let n = 3; n < 9; n++) {
    const p = bls.publicKeyG1(keyOf(n))
    t.same(bls.decodeG1Le(bls.encodeG1Le(p)), p)
  }
  const infinity = bls.encodeG1Le(bls.G1_INFINITY)
  t.equal(toHex(infinity), `0x${'00'.repeat(63)}40`)
  t.throws(() => bls.decodeG1Le(infinity), { message: /infinity/ })
  t.throws(() => bls.decodeG1Le(new Uint8Array(64)), { message: /infinity/ })
  t.same(bls.decodeG1Le(infinity, 'point', { infinity: true }), bls.G1_INFINITY)

  const edit = (at: number, value: number, from = le) => {
    const out = Uint8Array.from(from)
    out[at] = value
    return out
  }
  t.throws(() => bls.decodeG1Le(edit(63, 0x80)), { message: /flag/ })
  t.throws(() => bls.decodeG1Le(edit(63, 0x40)), { message: /infinity/ })
  t.throws(() => bls.decodeG1Le(edit(0, 2)), { message: /curve/ })
  t.throws(() => bls.decodeG1Le(edit(31, 0xff)), { message: /curve/ }, 'x above p')
  t.throws(() => bls.decodeG1Le(le.subarray(0, 63)), { message: /63 bytes/ })
  const above = bls.BN254_P + 1n
  const notReduced = Uint8Array.from(le)
  notReduced.set(fromHex(`0x${above.toString(16).padStart(64, '0')}`).reverse())
  t.throws(() => bls.decodeG1Le(notReduced), { code: 'ERR_BAD_INPUT' }, 'x + p is not another form of x')
})

t.test('the two orders of G2 are each other reversed', async t => {
  const p = bls.publicKeyG2(1n)
  // EIP-197's generator: the imaginary part first.
  t.same(bls.g2PairingWords(p), [
    11559732032986387107991004021392285783925812861821192530917403151452391805634n,
    10857046999023057135944570762232829481370756359578518086990519993285655852781n,
    4082367875863433681332203403145435568316851327593401208105741076214120093531n,
    8495653923123431417604973247489272438418190587263600148770280649306958101930n
  ])
  const [c0, c1, d0, d1] = bls.g2Words(p)
  t.same(bls.g2PairingWords(p), [c1, c0, d1, d0])
  t.same(bls.g2Abi(p), { X: [c0, c1], Y: [d0, d1] })
  t.same(bls.g2PairingAbi(p), { X: [c1, c0], Y: [d1, d0] })
  t.same(bls.g1Abi(bls.G1_GENERATOR), { X: 1n, Y: 2n })
  t.equal(bytesToBig(bls.encodeG1Be(bls.G1_GENERATOR)), (1n << 256n) + 2n)
  t.ok(bls.isG2(p))
  t.notOk(bls.isG2({ x: [c1, c0], y: [d1, d0] }), 'the wrong order is no point')
  t.notOk(bls.isG2(await strayG2()))
})
