/**
 * Proves of single parts of a coding group what whole groups show only by luck of timing: what is known of a file stays in step with
 * its manifests however reading them and taking new ones interleave.
 */
import t from 'tap'
import { Manifests } from '../../cmd/zg-store/group/manifests.ts'
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
