/**
 * Proves that sealing and searching are those of storage.md 9: every intermediate value of the protocol's vectors, by the TypeScript
 * reference and natively, then both against each other on random data on every SIMD path; that sealing can be undone; that the range
 * and the target of a miner are computed as the contract does; and that wrong arguments are refused.
 */
import { createHash } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import t from 'tap'
import { bytesToBig, concat } from '../../lib/base/bytes.ts'
import { fromHex, toHex } from '../../lib/base/hex.ts'
import {
  type MineRange,
  mix,
  nonceAt,
  padSeed,
  quality,
  rangeDigest,
  rangeOf,
  rangeTarget,
  recallSegment,
  scratchPad,
  seal,
  sealMask,
  shardsOf,
  unseal
} from '../../lib/codec/storage/pora.ts'
import { poraKernels, referencePora } from '../../lib/codec/storage/pora-kernels.ts'
import { codec, nativePath, type PoraKernels } from '../../lib/native.ts'
import { SEED } from '../harness/seed.ts'

const seed = SEED
const skip = existsSync(nativePath('codec')) ? false : 'no native build here'
const vectors = JSON.parse(readFileSync(new URL('../vectors/storage-vectors.json', import.meta.url), 'utf8'))

/** The generator of the vectors. */
function generated(seed: number, size: number): Uint8Array {
  let s = (Math.imul(seed, 2654435761) + 1) >>> 0
  return Uint8Array.from({ length: size }, () => {
    s = (Math.imul(s, 1664525) + 1013904223) >>> 0
    return s >>> 24
  })
}

const sha256 = (b: Uint8Array): string => createHash('sha256').update(b).digest('hex')

function implementations(): [string, PoraKernels][] {
  const slow: [string, PoraKernels] = ['reference', referencePora]
  const native = skip === false ? codec().pora : undefined
  if (native === undefined) return [slow]
  return [slow, ...codec().paths.map((path): [string, PoraKernels] => [path, native.with(path)])]
}

t.test('the vectors, value by value', async t => {
  t.ok(vectors.pora.length >= 2)
  for (const v of vectors.pora) {
    const range: MineRange = {
      startPosition: BigInt(v.range.startPosition),
      mineLength: BigInt(v.range.mineLength),
      shardId: BigInt(v.range.shardId),
      shardMask: BigInt(v.range.shardMask)
    }
    const [miner, nonce, subtask] = [fromHex(v.minerId), fromHex(v.nonce), fromHex(v.subtaskDigest)]
    const digest = rangeDigest(range)
    t.equal(toHex(digest), v.rangeDigest, v.id)
    const padSeedBytes = padSeed(miner, nonce, subtask, digest)
    t.equal(toHex(padSeedBytes), v.padSeed)
    const { pad, recall } = scratchPad(padSeedBytes)
    t.equal(sha256(pad), v.scratchPadSha256)
    t.equal(toHex(recall), v.recallSeed)
    const segment = recallSegment(range, recall)!
    t.equal(segment + 16n * BigInt(v.sealOffset), BigInt(v.recallPosition))
    const raw = generated(v.sealSeed, 4096)
    const mask = sealMask(miner, fromHex(v.sealedContextDigest), BigInt(v.recallPosition))
    const sealed = seal(raw, mask)
    t.equal(sha256(sealed), v.sealedSha256)
    t.equal(toHex(sealed.subarray(0, 64)), v.sealedFirst64)
    t.same(unseal(sealed, mask), raw)
    const mixed = mix(sealed, pad, v.sealOffset)
    t.equal(sha256(mixed), v.mixedSha256)
    t.equal(toHex(quality(v.sealOffset, padSeedBytes, mixed)), v.poraHash)

    for (const [name, p] of implementations()) {
      t.equal(sha256(await p.seal(mask, raw)), v.sealedSha256, name)
      t.same(await p.unseal(mask, sealed), raw)
      const pads = await p.pads(miner, nonce, subtask, digest)
      t.equal(toHex(pads.seeds), v.padSeed)
      t.equal(toHex(pads.recalls), v.recallSeed)
      t.equal(sha256(pads.pads), v.scratchPadSha256)
      const whole = new Uint8Array(262_144)
      whole.set(sealed, 4096 * v.sealOffset)
      const [found] = await p.best(pads, [{ index: 0, held: 1n << BigInt(v.sealOffset), sealed: whole }])
      t.equal(found!.seal, v.sealOffset)
      t.equal(toHex(found!.quality), v.poraHash)
    }
  }
})

t.test('every path seals, prepares and searches as the reference', { skip }, async t => {
  const random = (n: number, size: number) => generated(seed + n, size)
  const [miner, subtask, digest] = [random(1, 32), random(2, 32), random(3, 32)]
  // Odd numbers of seals and tries leave lanes empty.
  const masks = random(4, 32 * 11)
  const data = random(5, 4096 * 11)
  const sealed = await referencePora.seal(masks, data)
  const nonces = concat(...Array.from({ length: 9 }, (_, i) => nonceAt(random(6, 32), BigInt(i))))
  const pads = await referencePora.pads(miner, nonces, subtask, digest)
  const segment = random(7, 262_144)
  const other = random(8, 262_144)
  const reads = [
    { index: 8, held: (1n << 64n) - 1n, sealed: segment },
    { index: 3, held: 0n, sealed: segment },
    { index: 3, held: (1n << 63n) | (1n << 17n), sealed: other },
    { index: 0, held: ((1n << 64n) - 1n) ^ 1n, sealed: other }
  ]
  const found = await referencePora.best(pads, reads)
  t.equal(found[1]!.seal, undefined)
  for (const path of codec().paths) {
    const p = codec().pora!.with(path)
    t.ok(Buffer.compare(await p.seal(masks, data), sealed) === 0, `${path} seals`)
    t.ok(Buffer.compare(await p.unseal(masks, sealed), data) === 0, `${path} unseals`)
    const prepared = await p.pads(miner, nonces, subtask, digest)
    t.same(
      [prepared.seeds, prepared.recalls, prepared.pads].map(b => sha256(b)),
      [pads.seeds, pads.recalls, pads.pads].map(b => sha256(b)),
      `${path} prepares`
    )
    const best = await p.best(prepared, reads)
    t.same(
      best.map(b => [b.seal, b.seal === undefined ? '' : toHex(b.quality)]),
      found.map(b => [b.seal, b.seal === undefined ? '' : toHex(b.quality)]),
      `${path} searches`
    )
  }
  t.same(await poraKernels().best(pads, []), [])
})

t.test('ranges and targets are those of the contract', async t => {
  const all = (1n << 64n) - 1n
  t.equal(rangeOf(1023n), undefined, 'no whole segment')
  t.same(rangeOf(5000n), { startPosition: 0n, mineLength: 4096n, shardId: 0n, shardMask: all })
  t.same(rangeOf(1n << 37n), { startPosition: 0n, mineLength: 1n << 35n, shardId: 0n, shardMask: all })
  t.same(rangeOf(1n << 37n, 0n, 1n, 2n), { startPosition: 0n, mineLength: 1n << 36n, shardId: 1n, shardMask: all - 1n })
  t.equal(rangeOf(1n << 37n, 1n), undefined, 'a start that is not aligned')
  t.equal(rangeOf(1n << 35n, 1n << 25n), undefined, 'a start that leaves too little')
  const one = rangeOf(8192n)!
  const two = rangeOf(8192n, 0n, 1n, 2n)!
  t.equal(shardsOf(one), 1n)
  t.equal(shardsOf(two), 2n)
  const target = (1n << 256n) / 64_000n
  t.equal(rangeTarget(one, target, 8192n), (target >> 64n) << 64n)
  t.equal(rangeTarget(two, target, 8192n), (target / (2n << 64n)) << 64n, 'half the data, half the chance')
  // Odd numbers of segments: the last shard's index can lie one past the range.
  const odd: MineRange = { ...two, mineLength: 1024n }
  t.equal(recallSegment(odd, new Uint8Array(32)), undefined)
  t.equal(recallSegment(one, new Uint8Array(32).fill(255)), (((1n << 256n) - 1n) % 8n) * 1024n)
  // Buffers too, whose slice() is no copy.
  const nonce = Buffer.alloc(32, 255)
  t.notSame(nonceAt(nonce, 2n), nonceAt(nonce, 3n))
  const piece = Buffer.from(generated(seed, 4096))
  const before = Buffer.from(piece)
  t.notSame(seal(piece, nonce), unseal(piece, nonce))
  t.same(piece, before, 'what is sealed or unsealed stays as it was')
  t.equal(bytesToBig(nonceAt(nonce, 2n).subarray(24)), 1n, 'the counter wraps within its 8 bytes')
})

t.test('the binding refuses what it cannot work on', { skip }, async t => {
  const p = codec().pora!
  const h = new Uint8Array(32)
  const pads = await p.pads(h, h, h, h)
  const sealed = new Uint8Array(262_144)
  const bad: [string, () => Promise<unknown>][] = [
    ['no seal', () => p.seal(h.subarray(0, 0), h.subarray(0, 0))],
    ['half a seal', () => p.seal(h, new Uint8Array(4095))],
    ['too few masks', () => p.seal(h, new Uint8Array(8192))],
    ['a short miner', () => p.pads(h.subarray(1), h, h, h)],
    ['65 tries', () => p.pads(h, new Uint8Array(32 * 65), h, h)],
    ['no such try', () => p.best(pads, [{ index: 1, held: 1n, sealed }])],
    ['a short segment', () => p.best(pads, [{ index: 0, held: 1n, sealed: h }])],
    ['a pad too few', () => p.best({ ...pads, pads: h }, [{ index: 0, held: 1n, sealed }])],
    ['no such path', () => p.with('none').seal(h, new Uint8Array(4096))]
  ]
  for (const [what, call] of bad) await t.rejects(async () => call(), TypeError, what)
})
