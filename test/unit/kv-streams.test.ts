/**
 * Proves what a key-value node owes to the order in which things come: streams that are followed later end in exactly the state
 * that a node has which followed them from the first block (random histories, killed at every write, with reorganisations); a log
 * that an RPC cuts, repeats or shuffles is read completely; and a range of sectors is proved by its two ends alone.
 */
import fc from 'fast-check'
import t from 'tap'
import { type FollowOptions, KvFollower } from '../../cmd/zg-store/kv/follow.ts'
import { KvDatabase } from '../../cmd/zg-store/kv/store.ts'
import { systemClock } from '../../lib/adapters/clock.ts'
import { concat } from '../../lib/base/bytes.ts'
import { toHex } from '../../lib/base/hex.ts'
import { appendSubmission, EMPTY_FLOW, flowHeight, flowRoot, sectorProof } from '../../lib/codec/storage/flow-tree.ts'
import { hashBytes } from '../../lib/codec/storage/hasher.ts'
import { ANY_VERSION, decodeKv, decodeKvHead, encodeKv, type KvOps } from '../../lib/codec/storage/kv.ts'
import { FIRST_SECTOR_LEAF, leafHash, nodeHash, zeroRoot } from '../../lib/codec/storage/merkle.ts'
import { rangeFault, type SectorRange } from '../../lib/codec/storage/range-proof.ts'
import { silentLog } from '../../lib/ops/log.ts'
import type { KvStore } from '../../lib/ports/kv.ts'
import { SimDisk } from '../../lib/sim/disk.ts'
import { openSimKv } from '../../lib/sim/kv.ts'
import { account, TestChain } from '../harness/kv-chain.ts'
import { SEED } from '../harness/seed.ts'

const RUNS = Number(process.env.RUNS ?? 40)

const stream = (n: number): Uint8Array => concat(new Uint8Array(31), Uint8Array.of(n))
const text = (s: string): Uint8Array => new Uint8Array(Buffer.from(s))
const never = new AbortController().signal

interface Node {
  db: KvDatabase
  kv: KvStore
  disk: SimDisk
}

async function open(disk = new SimDisk()): Promise<Node> {
  const kv = await openSimKv(disk, '/kv')
  return { kv, disk, db: await KvDatabase.open(kv) }
}

function follower(db: KvDatabase, chain: TestChain, more: Partial<FollowOptions> = {}): KvFollower {
  return new KvFollower({
    db,
    chain,
    clock: systemClock,
    log: silentLog,
    fetch: async f => {
      const content = chain.files.get(toHex(f.root))
      return content === undefined ? undefined : { content, headerBytes: 0 }
    },
    startBlock: 0,
    confirmations: 1,
    maxFileBytes: 1 << 20,
    ...more
  })
}

/** The whole state, without what only says how far a node has come. */
async function dump(kv: KvStore): Promise<string[]> {
  const out: string[] = []
  for await (const [key, value] of kv.scan({})) {
    if ('vdeawksrf'.includes(String.fromCharCode(key[0]!))) out.push(`${toHex(key)} ${toHex(value)}`)
  }
  return out
}

// ---- random logs of three streams that meet now and then -------------------------------------------------------------------------

const some = {
  stream: fc.integer({ min: 1, max: 3 }),
  key: fc.constantFrom('a', 'b', 'c'),
  who: fc.integer({ min: 1, max: 2 })
}
const someRead: fc.Arbitrary<{ stream: number; key: string }> = fc.record({ stream: some.stream, key: some.key })
const someFile = fc.record({
  by: fc.oneof({ weight: 4, arbitrary: fc.constant(1) }, { weight: 1, arbitrary: some.who }),
  streams: fc.oneof(
    { weight: 5, arbitrary: some.stream.map(s => [s]) },
    { weight: 1, arbitrary: fc.uniqueArray(some.stream, { minLength: 2, maxLength: 3 }) }
  ),
  reads: fc.oneof(
    { weight: 5, arbitrary: fc.constant<{ stream: number; key: string }[]>([]) },
    {
      weight: 1,
      arbitrary: fc.array(someRead, { minLength: 1, maxLength: 2 })
    }
  ),
  writes: fc.array(fc.record({ key: some.key, value: fc.integer({ min: 0, max: 9 }) }), { maxLength: 2 }),
  grant: fc.oneof({ weight: 3, arbitrary: fc.constant(0) }, { weight: 1, arbitrary: some.who }),
  careful: fc.boolean()
})
type File = typeof someFile extends fc.Arbitrary<infer T> ? T : never
const someLog = fc.array(fc.array(someFile, { maxLength: 3 }), { minLength: 3, maxLength: 12 })

function content(f: File, seq: number): Uint8Array {
  const first = stream(f.streams[0]!)
  const o: KvOps = {
    version: f.careful ? BigInt(Math.max(0, seq - 3)) : ANY_VERSION,
    reads: f.reads.map(r => ({ stream: stream(r.stream), key: text(r.key) })),
    writes: f.streams.flatMap(s =>
      f.writes.map(w => ({
        stream: stream(s),
        key: text(w.key),
        value: text(w.value === 0 ? '' : `${seq} ${w.value}`)
      }))
    ),
    controls: f.grant === 0 ? [] : [{ type: 'grantWriter', stream: first, account: account(f.grant) }]
  }
  return encodeKv(o)
}

class Log {
  readonly chain = new TestChain()
  #seq = 0
  block(files: File[]): void {
    this.chain.add(
      ...files.map(f => ({ by: f.by, streams: f.streams.map(stream), data: content(f, this.#seq++), lost: false }))
    )
  }
}

async function fresh(chain: TestChain): Promise<string[]> {
  const { db, kv } = await open()
  for (const s of [1, 2, 3]) await db.follow(stream(s))
  await follower(db, chain).catchUpAll(never)
  return dump(kv)
}

t.test('streams followed later end in the state of a node that followed them always', async () => {
  await fc.assert(
    fc.asyncProperty(someLog, fc.nat(8), fc.nat(8), fc.boolean(), async (blocks, second, third, reorg) => {
      const log = new Log()
      const { db, kv } = await open()
      await db.follow(stream(1))
      const node = follower(db, log.chain)
      for (const [i, files] of blocks.entries()) {
        log.block(files)
        if (i === second) await db.follow(stream(2))
        if (i === third) await db.follow(stream(3))
        if (i % 2 === 0) await node.catchUp(never)
        if (i % 3 === 2) await node.catchUpAll(never)
      }
      await db.follow(stream(2))
      await db.follow(stream(3))
      if (reorg && log.chain.blocks.length > 2) {
        log.chain.blocks.splice(-2)
        log.chain.fork++
        log.chain.add()
        log.chain.add()
        log.chain.add()
      }
      await node.catchUpAll(never)
      const [got, want] = [await dump(kv), await fresh(log.chain)]
      if (got.join('\n') !== want.join('\n')) {
        const other = [...got.filter(x => !want.includes(x)), '---', ...want.filter(x => !got.includes(x))]
        throw new Error(`the states differ:\n${other.slice(0, 12).join('\n')}`)
      }
      if ([...db.streams.values()].some(s => s !== 'joined')) throw new Error('a stream waits for ever')
    }),
    { seed: SEED, numRuns: RUNS }
  )
})

t.test('the log above has files that meet: a replay that ignores them is found', async t => {
  const log = new Log()
  const base: File = { by: 1, streams: [1], reads: [], writes: [{ key: 'a', value: 1 }], grant: 0, careful: false }
  log.block([base, { ...base, streams: [2] }])
  log.block([{ ...base, streams: [1, 2], writes: [{ key: 'a', value: 2 }] }])
  log.block([{ ...base, reads: [{ stream: 2, key: 'a' }], writes: [{ key: 'b', value: 3 }] }])
  const { db } = await open()
  await db.follow(stream(1))
  const node = follower(db, log.chain)
  await node.catchUp(never)
  t.same(await Promise.all([0, 1, 2, 3].map(s => db.state.result(s))), ['Commit', undefined, undefined, 'TagsMismatch'])
  await db.follow(stream(2))
  await node.catchUpAll(never)
  t.same(await Promise.all([0, 1, 2, 3].map(s => db.state.result(s))), ['Commit', 'Commit', 'Commit', 'Commit'])
})

t.test('killed at any write of a late stream’s replay or of a rewind, the node goes on to the same end', async t => {
  const log = new Log()
  const base: File = { by: 1, streams: [1], reads: [], writes: [{ key: 'a', value: 1 }], grant: 0, careful: false }
  for (let i = 0; i < 4; i++) log.block([base, { ...base, streams: [2], writes: [{ key: 'b', value: 1 + i }] }])
  log.block([
    { ...base, streams: [1, 2], writes: [{ key: 'c', value: 5 }] },
    { ...base, streams: [2], grant: 2 }
  ])
  log.block([{ ...base, writes: [{ key: 'a', value: 0 }] }])
  log.block([{ ...base, streams: [3] }])
  const want = await (async () => {
    const { db, kv } = await open()
    for (const s of [1, 2, 3]) await db.follow(stream(s))
    await follower(db, log.chain).catchUpAll(never)
    return (await dump(kv)).join('\n')
  })()
  const { forEveryCrash } = await import('../../lib/sim/crash.ts')
  const goOn = async ({ db }: Node): Promise<void> => {
    for (const s of [1, 2, 3]) await db.follow(stream(s))
    await follower(db, log.chain).catchUpAll(never)
  }
  const report = await forEveryCrash({
    acked: () => ({}),
    scenario: async disk => {
      const node = await open(disk)
      await node.db.follow(stream(1))
      await follower(node.db, log.chain).catchUpAll(never)
      await goOn(node)
    },
    check: async disk => {
      const node = await open(disk)
      // A node that has read nothing has lost nothing: it starts with stream 1 as before.
      await node.db.follow(stream(1))
      await follower(node.db, log.chain).catchUpAll(never)
      await goOn(node)
      if ((await dump(node.kv)).join('\n') !== want) throw new Error('another state')
    },
    seeds: 2
  })
  t.ok(report.points > 20, `${report.points} crash points, ${report.runs} reopenings`)
})

t.test('an RPC that leaves out, repeats or shuffles events delays and loses nothing', async () => {
  await fc.assert(
    fc.asyncProperty(someLog, fc.integer(), async (blocks, seed) => {
      const log = new Log()
      const { db, kv } = await open()
      for (const s of [1, 2, 3]) await db.follow(stream(s))
      const honest = log.chain.submissions
      let n = seed
      const chance = (of: number): boolean => {
        n = (n * 1_103_515_245 + 12_345) & 0x7fffffff
        return n % of === 0
      }
      log.chain.submissions = async (from, to) => {
        let events = await honest(from, to)
        if (chance(3)) events = events.filter(() => !chance(2))
        if (chance(3)) events = [...events, ...events]
        if (chance(3)) events = events.toReversed()
        return events
      }
      let now = 0
      const clock = { ...systemClock, monotonic: () => (now += 3_000) }
      const node = follower(db, log.chain, { clock })
      for (const files of blocks) {
        log.block(files)
        await node.catchUp(never).catch(() => {})
      }
      const all = await log.chain.count()
      for (let i = 0; i < 200 && db.progress.nextSeq < all; i++) {
        log.chain.add()
        await node.catchUp(never).catch(() => {})
      }
      log.chain.submissions = honest
      if (db.progress.nextSeq !== all) throw new Error(`stuck at ${db.progress.nextSeq} of ${all}`)
      if ((await dump(kv)).join('\n') !== (await fresh(log.chain)).join('\n')) throw new Error('another state')
    }),
    { seed: SEED, numRuns: RUNS / 2 }
  )
})

t.test('who starts in the middle of a chain takes the first submission that he sees', async t => {
  const log = new Log()
  const base: File = { by: 1, streams: [1], reads: [], writes: [{ key: 'a', value: 1 }], grant: 0, careful: false }
  for (let i = 0; i < 4; i++) log.block([base])
  const { db } = await open()
  await db.follow(stream(1))
  await follower(db, log.chain, { startBlock: 3 }).catchUp(never)
  t.match(db.progress, { firstSeq: 2, nextSeq: 4 })
})

// ---- proofs of ranges --------------------------------------------------------------------------------------------------------------

t.test('any range of sectors is proved by its ends, and by nothing else', async t => {
  const sectors = 37
  const data = new Uint8Array(sectors * 256).map((_, i) => (i * 7) ^ (i >> 8))
  const file = hashBytes(data)
  const first = hashBytes(data.subarray(0, 700))
  let flow = appendSubmission(EMPTY_FLOW, first.nodes).state
  const added = appendSubmission(flow, file.nodes)
  flow = added.state
  const start = added.place.start
  // Every leaf of the flow, to answer what no complete node tells.
  const leaves: Uint8Array[] = Array.from({ length: flow.length }, () => zeroRoot(0))
  leaves[0] = FIRST_SECTOR_LEAF
  const firstAt = 4 // 700 bytes take three sectors, the first of height 1: aligned to 2
  for (let i = 0; i < 3; i++) {
    const sector = new Uint8Array(256)
    sector.set(data.subarray(i * 256, Math.min(700, (i + 1) * 256)))
    leaves[(appendSubmission(EMPTY_FLOW, first.nodes).place.start ?? firstAt) + i] = leafHash(sector)
  }
  for (let i = 0; i < sectors; i++) leaves[start + i] = leafHash(data.subarray(i * 256, (i + 1) * 256))
  const node = async (h: number, i: number): Promise<Uint8Array> => {
    if (h === 0) return leaves[i] ?? zeroRoot(0)
    return nodeHash(await node(h - 1, 2 * i), await node(h - 1, 2 * i + 1))
  }
  const reader = { node, inside: node }
  const root = flowRoot(flow)
  const height = flowHeight(flow.length)
  const range = async (from: number, to: number): Promise<SectorRange> => ({
    start: start + from,
    data: data.slice(from * 256, to * 256),
    left: await sectorProof(start + from, flow.length, reader),
    right: await sectorProof(start + to - 1, flow.length, reader)
  })
  let checked = 0
  for (let from = 0; from < sectors; from += 3) {
    for (let to = from + 1; to <= sectors; to += 4) {
      const r = await range(from, to)
      if (rangeFault(r, root, height) !== undefined) t.fail(`${from} to ${to}: ${rangeFault(r, root, height)}`)
      const flipped = { ...r, data: r.data.slice() }
      flipped.data[(from * 131) % flipped.data.length]! ^= 1
      if (rangeFault(flipped, root, height) === undefined) t.fail('a flipped bit passes')
      if (rangeFault({ ...r, start: r.start + 1 }, root, height) === undefined) t.fail('another place passes')
      if (rangeFault(r, root, height + 1) === undefined) t.fail('another height passes')
      if (to - from > 1 && rangeFault({ ...r, data: r.data.slice(256) }, root, height) === undefined) t.fail('cut')
      checked++
    }
  }
  t.ok(checked > 50, `${checked} ranges`)
})

t.test('the head of a file tells where its values lie', t => {
  const o = {
    version: 7n,
    reads: [{ stream: stream(1), key: text('r') }],
    writes: [
      { stream: stream(1), key: text('a'), value: text('one') },
      { stream: stream(2), key: text('b'), value: text('') },
      { stream: stream(1), key: text('c'), value: text('three') }
    ],
    controls: []
  }
  const bytes = encodeKv(o)
  const whole = decodeKv(bytes)
  const head = decodeKvHead(bytes.subarray(0, whole.valuesAt))
  t.equal(head.valuesAt, whole.valuesAt)
  t.equal(Buffer.from(bytes.subarray(head.valuesAt)).toString('latin1').startsWith('onethree'), true)
  t.same(
    head.writes.map(w => w.sizeBytes),
    [3, 0, 5]
  )
  t.throws(() => decodeKvHead(bytes.subarray(0, whole.valuesAt - 1)), { code: 'ERR_CORRUPT' })
  t.end()
})
