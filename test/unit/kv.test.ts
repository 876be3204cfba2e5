/**
 * Proves the key-value node without sockets: the replay against a small model over random histories (roles, special keys, conflicts,
 * every version queried afterwards), the state after a crash at every write of a replay, the follower against a chain that
 * steps back and nodes that lose files, and the RPC with the quirks that 0G's SDKs rely on.
 */
import fc from 'fast-check'
import t from 'tap'
import { kvAdminMethods } from '../../cmd/zg-store/kv/admin.ts'
import { type FollowOptions, KvFollower } from '../../cmd/zg-store/kv/follow.ts'
import { escapeKey, unescapeKey } from '../../cmd/zg-store/kv/keys.ts'
import { checkSender, type KvTransaction, replay } from '../../cmd/zg-store/kv/replay.ts'
import { kvMethods } from '../../cmd/zg-store/kv/rpc.ts'
import { KvState } from '../../cmd/zg-store/kv/state.ts'
import { KvDatabase } from '../../cmd/zg-store/kv/store.ts'
import { systemClock } from '../../lib/adapters/clock.ts'
import { type RpcContext, RpcError } from '../../lib/adapters/jsonrpc/types.ts'
import { compareBytes, concat, equalBytes } from '../../lib/base/bytes.ts'
import { fromHex, toHex } from '../../lib/base/hex.ts'
import {
  ANY_VERSION,
  CONTROL_TYPES,
  type ControlName,
  decodeKv,
  encodeKv,
  encodeStreamTags,
  type KvControl,
  type KvOps
} from '../../lib/codec/storage/kv.ts'
import { silentLog } from '../../lib/ops/log.ts'
import { forEveryCrash } from '../../lib/sim/crash.ts'
import { SimDisk } from '../../lib/sim/disk.ts'
import { openSimKv } from '../../lib/sim/kv.ts'
import { TestChain } from '../harness/kv-chain.ts'
import { SEED } from '../harness/seed.ts'
import vectors from '../vectors/storage-vectors.json' with { type: 'json' }

const RUNS = { seed: SEED, numRuns: Number(process.env.RUNS ?? 60) }

const stream = (n: number): Uint8Array => concat(new Uint8Array(31), Uint8Array.of(n))
const account = (n: number): Uint8Array => new Uint8Array(20).fill(n)
const text = (s: string): Uint8Array => new Uint8Array(Buffer.from(s))
const database = async (disk = new SimDisk()): Promise<KvDatabase> => KvDatabase.open(await openSimKv(disk, '/kv'))

/** As the follower does it, on one submission. */
async function step(db: KvDatabase, tx: KvTransaction, ops: KvOps): Promise<string> {
  const result = (await checkSender(db.state, tx)) ?? (await replay(db.state, tx, ops, () => true))
  await db.apply(tx.seq, result.ops, result.text)
  return result.text
}

const ops = (part: Partial<KvOps>): KvOps => ({ version: ANY_VERSION, reads: [], writes: [], controls: [], ...part })

// ---- a model, written from storage.md 6.3 with sets and strings --------------------------------------------------------------

interface World {
  born: Map<string, number>
  admins: Set<string>
  writers: Set<string>
  special: Set<string>
  keyWriters: Set<string>
  values: Map<string, { version: number; value: string }>
}

const emptyWorld = (): World => ({
  born: new Map(),
  admins: new Set(),
  writers: new Set(),
  special: new Set(),
  keyWriters: new Set(),
  values: new Map()
})
const copyWorld = (w: World): World => ({
  born: new Map(w.born),
  admins: new Set(w.admins),
  writers: new Set(w.writers),
  special: new Set(w.special),
  keyWriters: new Set(w.keyWriters),
  values: new Map(w.values)
})
const id = (...parts: Uint8Array[]): string => parts.map(toHex).join('|')

function mayWriteModel(w: World, s: Uint8Array, who: Uint8Array, key: Uint8Array): boolean {
  if (!w.born.has(id(s)) || w.admins.has(id(s, who))) return true
  return w.special.has(id(s, key)) ? w.keyWriters.has(id(s, key, who)) : w.writers.has(id(s, who))
}

/** The world after a submission and its result's first word. */
function model(before: World, tx: KvTransaction, o: KvOps): [World, string] {
  const me = tx.sender
  const fresh = (s: Uint8Array): boolean => !before.born.has(id(s))
  const admin = (s: Uint8Array): boolean => fresh(s) || before.admins.has(id(s, me))
  for (const s of tx.streams) {
    const any = [...before.keyWriters].some(k => k.startsWith(`${toHex(s)}|`) && k.endsWith(`|${toHex(me)}`))
    if (!admin(s) && !before.writers.has(id(s, me)) && !any) return [before, 'SenderNoWritePermission']
  }
  const stale = (s: Uint8Array, key: Uint8Array): boolean =>
    BigInt(before.values.get(id(s, key))?.version ?? 0) > o.version
  for (const r of o.reads) if (stale(r.stream, r.key)) return [before, 'VersionConfliction']
  const tagged = (s: Uint8Array): boolean => tx.streams.some(x => equalBytes(x, s))
  for (const x of o.writes) {
    if (!tagged(x.stream)) return [before, 'TagsMismatch']
    if (stale(x.stream, x.key)) return [before, 'VersionConfliction']
    if (!mayWriteModel(before, x.stream, me, x.key)) return [before, 'WritePermissionDenied']
  }
  for (const c of o.controls) {
    if (!tagged(c.stream)) return [before, 'TagsMismatch']
    const allowed =
      c.type.startsWith('renounce') ||
      admin(c.stream) ||
      (c.type === 'grantWriter' && before.writers.has(id(c.stream, me))) ||
      (c.type === 'grantSpecialWriter' && before.keyWriters.has(id(c.stream, c.key!, me)))
    if (!allowed) return [before, 'AccessControlPermissionDenied']
  }
  const after = copyWorld(before)
  const renounced = new Set(o.controls.filter(c => c.type === 'renounceAdmin').map(c => id(c.stream, me)))
  for (const s of tx.streams.filter(fresh)) {
    after.born.set(id(s), tx.seq)
    after.admins.add(id(s, me))
  }
  for (const c of o.controls) {
    const who = c.account ?? me
    if (c.type === 'grantAdmin') after.admins.add(id(c.stream, who))
    if (c.type === 'grantWriter') after.writers.add(id(c.stream, who))
    if (c.type === 'revokeWriter' || c.type === 'renounceWriter') after.writers.delete(id(c.stream, who))
    if (c.type === 'setSpecial') after.special.add(id(c.stream, c.key!))
    if (c.type === 'setNormal') after.special.delete(id(c.stream, c.key!))
    if (c.type === 'grantSpecialWriter') after.keyWriters.add(id(c.stream, c.key!, who))
    if (c.type === 'revokeSpecialWriter' || c.type === 'renounceSpecialWriter')
      after.keyWriters.delete(id(c.stream, c.key!, who))
  }
  // Whoever renounces in a file is no admin after it, whatever else the file grants him.
  for (const gone of renounced) after.admins.delete(gone)
  for (const x of o.writes) after.values.set(id(x.stream, x.key), { version: tx.seq, value: toHex(x.value) })
  return [after, 'Commit']
}

// ---- random histories ----------------------------------------------------------------------------------------------------------

const STREAMS = [stream(1), stream(2)]
const ACCOUNTS = [account(1), account(2), account(3)]
const KEYS = [text('a'), text('a\0'), text('ab'), Uint8Array.of(0), Uint8Array.of(0xff, 0xff)]
const someStream = fc.constantFrom(...STREAMS)
const someKey = fc.constantFrom(...KEYS)
const someAccount = fc.constantFrom(...ACCOUNTS)
const needsKey = (type: ControlName): boolean => CONTROL_TYPES[type] >= 0x30 || (CONTROL_TYPES[type] & 0xf0) === 0x10
const needsAccount = (type: ControlName): boolean => [0x00, 0x20, 0x21, 0x30, 0x31].includes(CONTROL_TYPES[type])
const someControl = fc
  .record({
    type: fc.constantFrom(...(Object.keys(CONTROL_TYPES) as ControlName[])),
    stream: someStream,
    key: someKey,
    account: someAccount
  })
  .map(
    (c): KvControl => ({
      type: c.type,
      stream: c.stream,
      ...(needsKey(c.type) ? { key: c.key } : {}),
      ...(needsAccount(c.type) ? { account: c.account } : {})
    })
  )
const someFile = fc.record({
  sender: someAccount,
  streams: fc.uniqueArray(someStream, { minLength: 1, maxLength: 2, selector: toHex }),
  lag: fc.oneof(
    { weight: 3, arbitrary: fc.constant(undefined) },
    { weight: 1, arbitrary: fc.integer({ min: 1, max: 6 }) }
  ),
  reads: fc.array(fc.record({ stream: someStream, key: someKey }), { maxLength: 1 }),
  writes: fc.array(
    fc.record({
      stream: someStream,
      key: someKey,
      value: fc.oneof(fc.constant(text('')), fc.uint8Array({ minLength: 1, maxLength: 9 }))
    }),
    { maxLength: 4 }
  ),
  controls: fc.array(someControl, { maxLength: 3 })
})

async function compare(state: KvState, world: World, version: number): Promise<void> {
  const fail = (what: string): never => {
    throw new Error(`${what} as of ${version}`)
  }
  for (const s of STREAMS) {
    for (const who of ACCOUNTS) {
      if ((await state.isAdmin(s, who, version)) !== world.admins.has(id(s, who))) fail(`admin ${id(s, who)}`)
      if ((await state.isWriter(s, who, version)) !== world.writers.has(id(s, who))) fail(`writer ${id(s, who)}`)
      for (const k of KEYS) {
        if ((await state.isKeyWriter(s, who, k, version)) !== world.keyWriters.has(id(s, k, who))) fail('key writer')
        if ((await state.mayWrite(s, who, k, version)) !== mayWriteModel(world, s, who, k)) fail('may write')
      }
    }
    const living: string[] = []
    for (const k of [...KEYS].sort(compareBytes)) {
      const want = world.values.get(id(s, k))
      const ref = await state.value(s, k, version)
      if (ref?.version !== want?.version) fail(`version of ${id(s, k)}`)
      if (ref !== undefined && toHex(await state.read(ref, 0, 1000)) !== want!.value) fail(`value of ${id(s, k)}`)
      if (want !== undefined && want.value !== '0x') living.push(toHex(k))
    }
    for (const reverse of [false, true]) {
      const seen: string[] = []
      let from: Uint8Array | undefined
      for (;;) {
        const next = await state.seek(s, {
          ...(from === undefined ? {} : { from }),
          inclusive: from === undefined,
          reverse,
          version
        })
        if (next === undefined) break
        seen.push(toHex(next.key))
        from = next.key
      }
      if (seen.join() !== (reverse ? [...living].reverse() : living).join())
        fail(`keys ${seen.join()} of ${living.join()}`)
    }
  }
}

t.test('random histories give the model’s results, at every version, and are undone exactly', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(someFile, { minLength: 1, maxLength: 12 }), fc.nat(12), async (files, back) => {
      const db = await database()
      const worlds = [emptyWorld()]
      for (const [seq, f] of files.entries()) {
        const tx = { seq, sender: f.sender, streams: f.streams }
        const version = f.lag === undefined ? ANY_VERSION : BigInt(Math.max(0, seq - f.lag))
        // What stands in the tags only half of the time is written to anyway: that is a mismatch.
        const o = ops({ version, reads: f.reads, writes: f.writes, controls: f.controls })
        const [world, result] = model(worlds[seq]!, tx, o)
        const got = await step(db, tx, decodeKv(encodeKv(o)))
        if (got.split(':')[0] !== result) throw new Error(`seq ${seq}: ${got}, the model says ${result}`)
        worlds.push(world)
      }
      for (let v = 0; v < files.length; v++) await compare(db.state, worlds[v + 1]!, v)
      const keep = Math.min(back, files.length)
      await db.rollback(keep === 0 ? undefined : { block: 0, nextSeq: keep })
      await compare(db.state, worlds[keep]!, Number.MAX_SAFE_INTEGER)
      if (keep < files.length && (await db.state.result(keep)) !== undefined)
        throw new Error('a result outlived its submission')
    }),
    RUNS
  )
})

t.test('the model can fail: a replay without permissions is found', async t => {
  const db = await database()
  await step(db, { seq: 0, sender: account(1), streams: [stream(1)] }, ops({}))
  const [, result] = model(
    { ...emptyWorld(), born: new Map([[toHex(stream(1)), 0]]) },
    { seq: 1, sender: account(2), streams: [stream(1)] },
    ops({})
  )
  t.equal(result, 'SenderNoWritePermission')
  t.equal(await step(db, { seq: 1, sender: account(2), streams: [stream(1)] }, ops({})), 'SenderNoWritePermission')
})

t.test('keys of any bytes keep their order and come back', async () => {
  fc.assert(
    fc.property(
      fc.uint8Array({ minLength: 1, maxLength: 6 }),
      fc.uint8Array({ minLength: 1, maxLength: 6 }),
      (a, b) => {
        const order = Math.sign(compareBytes(escapeKey(a), escapeKey(b)))
        const back = unescapeKey(concat(escapeKey(a), Uint8Array.of(9, 9)), 0)
        return order === Math.sign(compareBytes(a, b)) && equalBytes(back.key, a) && back.end === escapeKey(a).length
      }
    ),
    { seed: SEED, numRuns: 2000 }
  )
})

t.test('every vector of the SDKs is replayed', async t => {
  for (const v of vectors.kv) {
    if (!('encoded' in v) || typeof v.encoded !== 'string') continue
    const db = await database()
    const content = decodeKv(fromHex(v.encoded))
    const streams = [
      ...new Set([...content.writes, ...content.controls, ...content.reads].map(x => toHex(x.stream)))
    ].map(s => fromHex(s))
    t.equal(toHex(encodeStreamTags(streams)), v.tags, v.id)
    t.equal(await step(db, { seq: 5, sender: account(9), streams }, content), 'Commit', v.id)
    for (const w of content.writes) {
      const ref = await db.state.value(w.stream, w.key)
      t.equal(ref?.version, 5)
      t.equal(toHex(await db.state.read(ref!, 0, 1 << 20)), toHex(w.value))
    }
  }
})

t.test('results have upstream’s words', async t => {
  const db = await database()
  const s = stream(3)
  const write = (key: string, value: string) => ({ stream: s, key: text(key), value: text(value) })
  const tx = (seq: number, who: number) => ({ seq, sender: account(who), streams: [s] })
  t.equal(
    await step(
      db,
      tx(0, 1),
      ops({ writes: [write('k', '1')], controls: [{ type: 'grantWriter', stream: s, account: account(2) }] })
    ),
    'Commit'
  )
  t.equal(await step(db, tx(1, 2), ops({ writes: [write('k', '2')] })), 'Commit')
  t.equal(await step(db, tx(2, 1), ops({ version: 0n, writes: [write('k', '3')] })), 'VersionConfliction')
  t.equal(await step(db, tx(3, 3), ops({ writes: [write('k', '3')] })), 'SenderNoWritePermission')
  t.equal(
    await step(db, tx(4, 2), ops({ controls: [{ type: 'grantAdmin', stream: s, account: account(3) }] })),
    `AccessControlPermissionDenied: operation: GRANT_ADMIN_ROLE, stream: ${toHex(s)}, account: ${toHex(account(3))}`
  )
  t.equal(await step(db, tx(5, 1), ops({ controls: [{ type: 'setSpecial', stream: s, key: text('k') }] })), 'Commit')
  t.equal(
    await step(db, tx(6, 2), ops({ writes: [write('k', '4')] })),
    `WritePermissionDenied: stream: ${toHex(s)}, key: 0x6b`
  )
  t.equal(await step(db, tx(7, 1), ops({ writes: [{ ...write('k', '5'), stream: stream(4) }] })), 'TagsMismatch')
  t.equal(await db.state.result(2), 'VersionConfliction')
})

t.test('killed at any write, the node has the state after some submission, and goes on to the same end', async t => {
  const files = Array.from({ length: 6 }, (_, seq) => ({
    tx: { seq, sender: account(1), streams: [stream(1)] },
    ops: ops({
      writes: KEYS.slice(0, 1 + (seq % 4)).map(key => ({
        stream: stream(1),
        key,
        value: new Uint8Array(50 + 40_000 * (seq % 2)).fill(seq)
      })),
      controls: [{ type: seq % 2 === 0 ? 'grantWriter' : 'revokeWriter', stream: stream(1), account: account(2) }]
    })
  }))
  const worlds = [emptyWorld()]
  for (const f of files) worlds.push(model(worlds.at(-1)!, f.tx, f.ops)[0])
  const goOn = async (db: KvDatabase): Promise<void> => {
    for (const f of files.slice(db.progress.nextSeq)) {
      await step(db, f.tx, f.ops)
      await db.blockDone(f.tx.seq, new Uint8Array(32).fill(f.tx.seq))
    }
  }
  const report = await forEveryCrash({
    acked: () => ({ seq: -1 }),
    scenario: async (disk, acked) => {
      const db = await database(disk)
      for (const f of files) {
        await step(db, f.tx, f.ops)
        acked.seq = f.tx.seq
        await db.blockDone(f.tx.seq, new Uint8Array(32).fill(f.tx.seq))
      }
    },
    check: async (disk, acked) => {
      const db = await database(disk)
      const { nextSeq } = db.progress
      if (nextSeq < acked.seq + 1) throw new Error(`submission ${acked.seq} was lost`)
      await compareSmall(db.state, worlds[nextSeq]!)
      await goOn(db)
      await compareSmall(db.state, worlds[files.length]!)
    },
    seeds: 2
  })
  t.ok(report.points > 20, `${report.points} crash points, ${report.runs} reopenings`)

  async function compareSmall(state: KvState, world: World): Promise<void> {
    for (const k of KEYS) {
      const ref = await state.value(stream(1), k)
      const want = world.values.get(id(stream(1), k))
      const got = ref === undefined ? undefined : toHex(await state.read(ref, 0, 1 << 20))
      if (got !== want?.value) throw new Error(`value of ${toHex(k)} is of another submission`)
    }
    if ((await state.isWriter(stream(1), account(2))) !== world.writers.has(id(stream(1), account(2))))
      throw new Error('role')
  }
})

// ---- the follower ------------------------------------------------------------------------------------------------------------

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

const put1 = (key: string, value: string, s = stream(1)): Uint8Array =>
  encodeKv(ops({ writes: [{ stream: s, key: text(key), value: text(value) }] }))
const readValue = async (db: KvDatabase, key: string, s = stream(1)): Promise<string | undefined> => {
  const ref = await db.state.value(s, text(key))
  return ref === undefined ? undefined : Buffer.from(await db.state.read(ref, 0, 1000)).toString()
}

t.test(
  'the follower replays in order, skips strangers, survives lost and malformed files, and is not fooled by names',
  async t => {
    const chain = new TestChain()
    const db = await database()
    await db.follow(stream(1))
    const never = new AbortController().signal
    chain.add({ by: 1, streams: [stream(1)], data: put1('k', 'one') })
    chain.add(
      { by: 1, streams: [stream(99)], data: put1('k', 'not followed', stream(99)) },
      { by: 1, streams: [stream(1)], data: put1('k', 'lost'), lost: true },
      { by: 1, streams: [stream(1)], data: text('no log') },
      { by: 2, streams: [stream(1)], data: put1('k', 'forged') },
      { by: 1, streams: [stream(1)], data: put1('k', 'last') }
    )
    const node = follower(db, chain)
    await node.catchUp(never)
    t.equal(await readValue(db, 'k'), 'last')
    const results = []
    for (let seq = 0; seq < 6; seq++) results.push(await db.state.result(seq))
    t.same(results, [
      'Commit',
      undefined,
      'DownloadFailed',
      'DataParseError: Invalid stream data',
      'SenderNoWritePermission',
      'Commit'
    ])
    t.same(db.progress, { nextSeq: 6, block: 2, firstSeq: 0, eventBlock: 2 })
    const before = db.progress
    await node.catchUp(never)
    t.same(db.progress, before, 'nothing twice')
    const gap = new TestChain()
    gap.add({ by: 1, streams: [stream(1)], data: put1('k', 'x') })
    gap.blocks[1]!.events[0]!.event.seq = 3
    await t.rejects(follower(await database(), gap).catchUp(never), { code: 'ERR_PROTOCOL' })
  }
)

t.test('the follower goes back with the chain', async t => {
  const chain = new TestChain()
  const db = await database()
  await db.followEverything()
  const never = new AbortController().signal
  const node = follower(db, chain)
  for (const v of ['1', '2', '3']) {
    chain.add({ by: 1, streams: [stream(1)], data: put1('k', v) })
    await node.catchUp(never)
  }
  chain.blocks.splice(2)
  chain.fork++
  chain.add({ by: 1, streams: [stream(1)], data: put1('other', 'x') })
  chain.add({ by: 1, streams: [stream(1)], data: put1('k', 'new 3') })
  chain.add()
  await node.catchUp(never)
  t.same([await readValue(db, 'k'), await readValue(db, 'other')], ['new 3', 'x'])
  t.equal((await db.state.value(stream(1), text('k')))?.version, 2)
  t.same(db.progress, { nextSeq: 3, block: 4, firstSeq: 0, eventBlock: 3 })
})

t.test('confirmations hold back the newest blocks', async t => {
  const chain = new TestChain()
  const db = await database()
  await db.follow(stream(1))
  chain.add({ by: 1, streams: [stream(1)], data: put1('k', '1') })
  const node = follower(db, chain, { confirmations: 3 })
  await node.catchUp(new AbortController().signal)
  t.equal(await readValue(db, 'k'), undefined)
  chain.add()
  chain.add()
  await node.catchUp(new AbortController().signal)
  t.equal(await readValue(db, 'k'), '1')
})

// ---- the RPC -----------------------------------------------------------------------------------------------------------------

t.test('the RPC meets the SDKs’ quirks', async t => {
  const db = await database()
  const s = stream(7)
  const big = new Uint8Array(300_000).map((_, i) => i * 7)
  const write = (key: string, value: Uint8Array) => ({ stream: s, key: text(key), value })
  const tx = (seq: number) => ({ seq, sender: account(1), streams: [s] })
  await step(
    db,
    tx(0),
    ops({ writes: [write('a', text('one')), write('b', text('x')), write('big', big), write('c', text('y'))] })
  )
  await step(db, tx(1), ops({ writes: [write('a', text('two')), write('b', text(''))] }))
  const methods = kvMethods(db.state, { appliedSeq: 1, firstTxSeq: 0, holdingStreams: async () => [s] })
  const ctx = { signal: new AbortController().signal } as RpcContext
  const call = async (name: string, ...params: unknown[]): Promise<any> => methods[name]!(params, ctx)
  const refused = async (name: string, ...params: unknown[]): Promise<unknown[]> => {
    try {
      await call(name, ...params)
    } catch (err) {
      if (err instanceof RpcError) return [err.code, err.message, err.data]
    }
    return []
  }
  const hex = toHex(s)
  const b64 = (x: string): string => Buffer.from(x).toString('base64')
  t.same(await call('kv_getValue', hex, b64('a'), 0, 1000), { version: 1, data: b64('two'), size: 3 })
  t.same(await call('kv_getValue', hex, b64('a'), 0, 1000, 0), { version: 0, data: b64('one'), size: 3 })
  t.same(await call('kv_getValue', hex, b64('a'), 1, 1), { version: 1, data: b64('w'), size: 3 })
  t.same(await call('kv_getValue', hex, b64('none'), 0, 1000), { version: 0, data: '', size: 0 })
  t.same(await call('kv_getValue', hex, b64('b'), 0, 1000), { version: 1, data: '', size: 0 }, 'deleted')
  t.same(await call('kv_getValue', hex, b64('a'), 0, 0), { version: 1, data: '', size: 3 })
  const whole = await call('kv_getValue', hex, b64('big'), 0, 262_144)
  t.ok(Buffer.from(whole.data, 'base64').equals(big), 'the whole long value at once')
  t.equal(
    Buffer.from((await call('kv_getValue', hex, b64('big'), 65_530, 20)).data, 'base64').compare(
      big.subarray(65_530, 65_550)
    ),
    0
  )
  t.same(await refused('kv_getValue', hex, b64('big'), 0, 262_145), [
    -32602,
    'Invalid params: len',
    'query length too large'
  ])
  t.same(await refused('kv_getValue', hex, b64('a'), 4, 1), [
    -32602,
    'Invalid params: start',
    'start index is greater than value length'
  ])
  t.same(await refused('kv_getValue', hex, '', 0, 1), [-32602, 'Invalid params: key', 'key is empty'])
  t.equal((await call('kv_getFirst', hex, 0, 0)).key, b64('a'))
  t.same(
    await call('kv_getNext', hex, b64('a'), 0, 0, false),
    { key: b64('big'), version: 0, data: '', size: 300_000 },
    'over the deleted one'
  )
  t.equal(
    (await call('kv_getNext', hex, b64('b'), 0, 0, true)).key,
    b64('big'),
    'a deleted key is passed though inclusive'
  )
  t.equal((await call('kv_getNext', hex, b64('a'), 0, 0, false, 0)).key, b64('b'), 'it lived at seq 0')
  t.equal((await call('kv_getPrev', hex, b64('c'), 0, 9, false)).key, b64('big'))
  t.equal((await call('kv_getLast', hex, 0, 9)).key, b64('c'))
  t.equal(await call('kv_getNext', hex, b64('c'), 0, 0, false), null)
  t.equal(await call('kv_getTransactionResult', 1), 'Commit')
  t.equal(await call('kv_getTransactionResult', '1'), 'Commit', 'as a decimal string')
  t.equal(await call('kv_getTransactionResult', 2), null)
  for (const name of ['kv_isAdmin', 'kv_IsAdmin']) t.equal(await call(name, toHex(account(1)), hex), true, name)
  t.equal(await call('kv_hasWritePermission', toHex(account(2)), hex, b64('a')), false)
  t.equal(await call('kv_isSpecialKey', hex, b64('a')), false)
  t.same(await call('kv_getHoldingStreamIds'), [hex])
  t.same(await call('kv_getReplayProgress'), { appliedSeq: 1, firstTxSeq: 0 })
  t.equal(await call('kv_getStatus'), true)
})

t.test('a read that a rewind overtakes answers the value that is left', async t => {
  const s = stream(7)
  const b64 = (x: string): string => Buffer.from(x).toString('base64')
  const write = (key: string, value: string) => ({ stream: s, key: text(key), value: text(value) })
  const undone: ((db: KvDatabase) => Promise<unknown>)[] = [
    db => db.rollback({ block: 1, nextSeq: 1 }),
    db => db.rewind(1, 2),
    // Whole again before the read comes back, with another value.
    async db => {
      await db.rollback({ block: 1, nextSeq: 1 })
      await step(db, { seq: 1, sender: account(1), streams: [s] }, ops({ writes: [write('b', 'other')] }))
    }
  ]
  for (const undo of undone) {
    const kv = await openSimKv(new SimDisk(), '/kv')
    let overtaken = -1
    // The rewind comes after the look-up and before the bytes.
    const db: KvDatabase = await KvDatabase.open({
      get: key => kv.get(key),
      getSync: key => kv.getSync(key),
      scan: range => kv.scan(range),
      batch: (list, o) => kv.batch(list, o),
      close: () => kv.close(),
      getMany: async keys => {
        if (overtaken++ === 0) await undo(db)
        return kv.getMany(keys)
      }
    })
    await step(db, { seq: 0, sender: account(1), streams: [s] }, ops({ writes: [write('a', 'one')] }))
    await step(
      db,
      { seq: 1, sender: account(1), streams: [s] },
      ops({ writes: [write('a', 'two'), write('z', 'end')] })
    )
    const { state } = db
    overtaken = 0
    const methods = kvMethods(state, { appliedSeq: 1, firstTxSeq: 0, holdingStreams: async () => [s] })
    const call = async (name: string, ...params: unknown[]): Promise<any> =>
      methods[name]!(params, { signal: new AbortController().signal } as RpcContext)
    t.same(await call('kv_getValue', toHex(s), b64('a'), 0, 100), { version: 0, data: b64('one'), size: 3 })
    t.ok(overtaken >= 2)
    t.same(await call('kv_getFirst', toHex(s), 0, 100), { key: b64('a'), version: 0, data: b64('one'), size: 3 })
  }
  // What is named and never there is damage, and said so.
  const kv = await openSimKv(new SimDisk(), '/kv')
  const db = await KvDatabase.open(kv)
  await step(db, { seq: 0, sender: account(1), streams: [s] }, ops({ writes: [write('a', 'one')] }))
  const state = new KvState({
    get: key => kv.get(key),
    scan: range => kv.scan(range),
    getMany: async keys => keys.map(() => undefined)
  })
  const methods = kvMethods(state, { appliedSeq: 0, firstTxSeq: 0, holdingStreams: async () => [s] })
  const ctx = { signal: new AbortController().signal } as RpcContext
  await t.rejects(async () => methods.kv_getValue!([toHex(s), b64('a'), 0, 100], ctx), /is missing/)
})

t.test('a stream is added at the word of its wallet only', async t => {
  // The wallet library that clients sign with is the other half of this check.
  const { Wallet } = await import('ethers')
  const wallet = Wallet.createRandom()
  const value = { purpose: 'register-stream', wallet: wallet.address, streamId: toHex(stream(5)) }
  const types = {
    RegisterStream: [
      { name: 'purpose', type: 'string' },
      { name: 'wallet', type: 'address' },
      { name: 'streamId', type: 'bytes32' }
    ]
  }
  const signature = await wallet.signTypedData({ name: '0G Storage Scan', version: '1', chainId: 31337 }, types, value)
  const added: string[] = []
  const methods = kvAdminMethods({
    chainId: async () => 31337,
    add: async s => {
      added.push(toHex(s))
    }
  })
  const call = async (...params: unknown[]) => methods.admin_addStream!(params, {} as RpcContext)
  t.equal(await call(value.streamId, wallet.address, signature), true)
  t.same(added, [value.streamId])
  await t.rejects(call(toHex(stream(6)), wallet.address, signature), { code: -32602 })
  await t.rejects(call(value.streamId, Wallet.createRandom().address, signature), { code: -32602 })
  await t.rejects(call(value.streamId, wallet.address, '0x12'), { code: -32602 })
  t.equal(added.length, 1)
})
