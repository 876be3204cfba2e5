/**
 * Proves of single parts of a coding group what whole groups show only by luck of timing: what is known of a file stays in step with
 * its manifests however reading them and taking new ones interleave; messages about shards are read back as they were written, and
 * nothing else is taken for one.
 */
import t from 'tap'
import { Manifests } from '../../cmd/zg-store/group/manifests.ts'
import type { HeldShard } from '../../cmd/zg-store/group/shards.ts'
import {
  decodeClaims,
  decodeKeep,
  decodeKept,
  decodePuts,
  decodeTake,
  encodeClaims,
  encodeKeep,
  encodeKept,
  encodePuts,
  encodeTake,
  KEEP_SHARDS,
  MESSAGE_CLAIMS,
  MESSAGE_SHARDS
} from '../../cmd/zg-store/group/wire.ts'
import {
  type Claim,
  claimStatement,
  coreStatement,
  type Manifest,
  signBatch
} from '../../lib/codec/storage/manifest.ts'
import { type SigningKey, signingKey } from '../../lib/crypto/ed25519.ts'
import type { KvStore } from '../../lib/ports/kv.ts'
import { SimDisk } from '../../lib/sim/disk.ts'
import { openSimKv } from '../../lib/sim/kv.ts'
import { SeededRandom } from '../../lib/sim/random.ts'

const random = new SeededRandom('group parts')
const keys: SigningKey[] = Array.from({ length: 6 }, () => signingKey(random.bytes(32)))

/** Stripe `stripe` of a file of two whole stripes, 4+2, acknowledged by all. */
function manifest(root: Uint8Array, stripe: number): Manifest {
  const base = { root, seq: 1, size: 2_097_152, stripe, k: 4, m: 2, epoch: 0, leaves: [] }
  const shardRoots = keys.map(() => random.bytes(32))
  const claims: Claim[] = keys.map((key, j) => {
    const [by] = signBatch(key, [claimStatement({ root, stripe, k: 4, m: 2, j }, shardRoots[j]!)])
    return { holder: key.publicKey, by: by! }
  })
  const core = { ...base, shardRoots, claims }
  const [by] = signBatch(keys[0]!, [coreStatement(core)])
  return { ...core, signer: keys[0]!.publicKey, by: by! }
}

t.test('manifests that come while those of the file are being read are counted', async t => {
  const kv = await openSimKv(new SimDisk(), '/kv')
  /** Scans have their snapshot at once, as LevelDB's do, and give it when the gate opens. */
  let gate: Promise<void> | undefined
  const slow: KvStore = {
    get: key => kv.get(key),
    getSync: key => kv.getSync(key),
    getMany: keys => kv.getMany(keys),
    batch: (ops, opts) => kv.batch(ops, opts),
    close: () => kv.close(),
    scan: range => {
      const snapshot = (async () => {
        const out: [Uint8Array, Uint8Array][] = []
        for await (const entry of kv.scan(range)) out.push(entry)
        return out
      })()
      const waits = gate
      return (async function* () {
        const all = await snapshot
        await waits
        yield* all
      })()
    }
  }
  const manifests = await Manifests.open(slow)
  const root = random.bytes(32)
  await manifests.accept([manifest(root, 0)])
  let open: () => void = () => {}
  gate = new Promise(resolve => {
    open = resolve
  })
  // The event of the chain has come: is the file complete? Meanwhile the comparison brings what was missing.
  const early = manifests.families(root)
  await new Promise(resolve => setImmediate(resolve))
  const late = manifests.accept([manifest(root, 1)])
  await new Promise(resolve => setImmediate(resolve))
  gate = undefined
  open()
  await early
  await late
  const [family] = await manifests.families(root)
  t.match(family, { stripes: 2, durable: 2, whole: 2 }, 'what came meanwhile is not forgotten')
  // The other way round: deleted while it is being read.
  await manifests.forget(root)
  t.same(await manifests.families(root), [], 'what went is gone')
  await manifests.accept([manifest(root, 0)])
  const again = manifests.families(root)
  await manifests.forget(root)
  await again
  t.same(await manifests.families(root), [], 'what went meanwhile is gone')
})

t.test('messages about shards: read back as written, nothing else is one', async t => {
  const shard = (stripe: number): HeldShard => {
    return { root: random.bytes(32), size: 2 ** 30, stripe, k: 4, m: 2, j: stripe % 6, shardRoot: random.bytes(32) }
  }
  const put = (n: number) => {
    return { shard: shard(n), epoch: n, proof: { siblings: random.bytes(64), path: [true, n % 2 === 0] } }
  }
  const puts = Array.from({ length: KEEP_SHARDS }, (_, n) => put(n))
  const ticket = Uint8Array.of(0, 0, 0, 0, 0, 0, 4, 210)
  t.same(decodeKeep(encodeKeep(1234, puts)), { ticket, puts })
  t.equal(decodeKeep(encodeKeep(1, [...puts, put(99)])), undefined, 'more than one message holds')
  t.equal(decodeKeep(encodeKeep(1, [])), undefined)
  t.equal(decodePuts(encodePuts(puts)), undefined, 'more than are sent as they are')
  t.same(decodePuts(encodePuts(puts.slice(0, MESSAGE_SHARDS))), puts.slice(0, MESSAGE_SHARDS))
  const wanted = puts.map((_, n) => n % 3 !== 0)
  t.same(decodeTake(encodeTake(ticket, wanted)), { ticket: 1234, wanted })
  t.equal(decodeTake(encodeTake(ticket, [])), undefined)
  t.equal(decodeTake(encodeTake(ticket, [...wanted, true])), undefined)
  t.equal(decodeTake(encodeTake(new Uint8Array(8).fill(255), [true])), undefined, 'a ticket beyond all numbers')
  t.same(decodeKept(encodeKept([undefined, 'the disk is full', undefined])), [undefined, 'the disk is full', undefined])
  t.same(decodeKept(encodeKept(['', 'x'.repeat(600)])), ['not stored', 'x'.repeat(500)], 'a fault has words')
  const claims = Array.from({ length: MESSAGE_CLAIMS }, (_, n) => shard(n))
  t.same(decodeClaims(encodeClaims(claims)), claims)
  t.equal(decodeClaims(encodeClaims([...claims, shard(1)])), undefined, 'more than one signature covers')
  const whole = encodeKeep(1, puts.slice(0, 2))
  for (let n = 0; n < 2_000; n++) {
    const cut = whole.slice(0, random.below(whole.length))
    if (decodeKeep(cut) !== undefined && cut.length !== whole.length) {
      // Cut exactly behind the first shard: a shorter message, as good as any.
      if (cut.length !== encodeKeep(1, puts.slice(0, 1)).length) t.fail(`${cut.length} bytes of ${whole.length}`)
    }
    const noise = random.bytes(random.below(400))
    for (const decode of [decodeKeep, decodeTake, decodeKept, decodeClaims]) decode(noise)
    if (noise.length !== 79 && decodeClaims(noise) !== undefined) t.fail('noise taken for shards')
  }
})
