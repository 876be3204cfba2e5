/**
 * Proves the key-value node as a process, on a real chain with a real storage node: killed with SIGKILL at random moments while
 * writes go on it ends in the state of a node that replays everything afresh; files that are lost do not block and an outage of all
 * storage nodes loses none; streams added at run time, encrypted streams, listing, and proofs that a lying node cannot make.
 */
import { randomBytes } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import t from 'tap'
import { RpcClient } from '../../lib/adapters/jsonrpc/client.ts'
import { concat } from '../../lib/base/bytes.ts'
import { fromHex, toHex } from '../../lib/base/hex.ts'
import { ChainClient } from '../../lib/clients/chain.ts'
import { parseKvProof, provenSubmission, provenValue } from '../../lib/clients/store/kv-proof.ts'
import {
  encryptedSource,
  FlowClient,
  hashSource,
  KvClient,
  memorySource,
  NodePool,
  put
} from '../../lib/clients/store.ts'
import { ANY_VERSION, encodeKv, encodeStreamTags, type KvOps } from '../../lib/codec/storage/kv.ts'
import { DEV_ACCOUNTS } from '../../lib/crypto/dev-accounts.ts'
import { SeededRandom } from '../../lib/sim/random.ts'
import { SEED } from '../harness/seed.ts'
import { freePort, type RunningTool, runTool, sandbox, startTool, waitFor } from '../harness/tools.ts'

const KILLS = Number(process.env.KILLS ?? 6)
const random = new SeededRandom(SEED)

const box = sandbox('kv-node')
const started: RunningTool[] = []
t.teardown(async () => {
  await Promise.all(started.map(p => p.kill9()))
  box.remove()
})
const run = async (args: string[]): Promise<RunningTool> => {
  const p = await startTool(args[0] as 'zg-store', args.slice(1), { env: box.env })
  started.push(p)
  return p
}

const [rpcPort, storePort, kvPort] = [await freePort(), await freePort(), await freePort()]
const chainNode = ['node', '--dev', '--kind', 'network', '--chain-id', '31337', '--block-time', '200ms']
await run(['zg-chain', ...chainNode, '--dir', box.path('chain'), '--rpc-port', `${rpcPort}`])
const rpc = `http://127.0.0.1:${rpcPort}`
const STORE = ['zg-store', 'node', '--dir', box.path('store'), '--rpc-port', `${storePort}`, '--rpc-url', rpc]
let store = await run(STORE)
const storeUrl = `http://127.0.0.1:${storePort}`
const FLOW = '0x22e03a6a89b950f1c82ec5e74f8eca321a105296'

const stream = (n: number): Uint8Array => concat(new Uint8Array(31), Uint8Array.of(n))
const text = (s: string): Uint8Array => new Uint8Array(Buffer.from(s))
const KV = (dir: string, port: number, streams: number[], more: string[] = []): string[] => [
  ...['zg-store', 'kv', 'node', '--dir', box.path(dir), '--rpc-port', `${port}`, '--rpc-url', rpc],
  ...['--node', storeUrl, '--flow', FLOW, '--download-timeout', '2s'],
  ...streams.flatMap(s => ['--stream', toHex(stream(s))]),
  ...more
]

const chain = new ChainClient(rpc)
const pool = new NodePool({ nodes: [storeUrl] })
const flow = new FlowClient(chain)
const signer = (n: number) => async () => ({
  address: fromHex(DEV_ACCOUNTS[n]!.address),
  privateKey: async () => fromHex(DEV_ACCOUNTS[n]!.privateKey)
})
const address = (n: number): Uint8Array => fromHex(DEV_ACCOUNTS[n]!.address)

/** One file of operations. @returns its seq. */
async function write(by: number, streams: number[], part: Partial<KvOps>, key?: Uint8Array): Promise<number> {
  const plain = memorySource(encodeKv({ version: ANY_VERSION, reads: [], writes: [], controls: [], ...part }))
  const source = key === undefined ? plain : await encryptedSource(plain, key)
  const o = { pool, flow, signer: signer(by) as never, journalDir: box.path('journal'), replicas: 1, always: true }
  const tags = encodeStreamTags(streams.map(stream))
  return (await put(source, await hashSource(source), { ...o, tags })).seq
}
const set = (s: number, key: string, value: string | Uint8Array) => ({
  stream: stream(s),
  key: text(key),
  value: typeof value === 'string' ? text(value) : value
})

/** A submission whose bytes nobody ever uploads. */
async function writeLost(by: number, s: number): Promise<number> {
  const content = encodeKv({ version: ANY_VERSION, reads: [], writes: [set(s, 'lost', randomBytes(8))], controls: [] })
  const { nodes } = await hashSource(memorySource(content))
  const submission = { size: content.length, tags: encodeStreamTags([stream(s)]), nodes }
  return (await flow.submit({ flow: fromHex(FLOW), submission, signer: (await signer(by)()) as never }, async () => {}))
    .seq
}

/** All that a node answers about these streams, at every version. */
async function everything(url: string, streams: number[], seqs: number): Promise<string[]> {
  const client = new KvClient(url)
  const node = new RpcClient(url, { what: 'kv' })
  const out: string[] = []
  for (let seq = 0; seq < seqs; seq++) out.push(`result ${seq} ${await client.result(seq)}`)
  for (const s of streams) {
    for (let version = 0; version < seqs; version++) {
      for await (const e of client.list(stream(s), { version, values: true })) {
        out.push(`${s} at ${version}: ${toHex(e.key)} ${e.version} ${e.sizeBytes} ${toHex(e.data.subarray(0, 40))}`)
      }
      for (const who of [1, 2, 3]) {
        const roles = []
        for (const m of ['kv_isAdmin', 'kv_isWriterOfStream']) {
          roles.push(await node.call(m, [toHex(address(who)), toHex(stream(s)), version]))
        }
        out.push(`${s} at ${version}: ${who} ${roles}`)
      }
    }
  }
  return out
}

const nextSeq = async (): Promise<number> =>
  Number(await chain.call<string>('eth_call', [{ to: FLOW, data: '0x77e19824' }, 'latest']))

t.test('killed at random moments the node ends in the state of a fresh replay', { timeout: 240_000 }, async t => {
  let kv = await run(KV('kv', kvPort, [1, 2]))
  const client = new KvClient(`http://127.0.0.1:${kvPort}`)
  let stop = false
  let lagMs = 0
  const load = (async () => {
    for (let i = 0; !stop; i++) {
      const s = 1 + (i % 2)
      const writes = [
        set(s, `k${i % 5}`, `${i}`),
        set(s, `long${i % 2}`, randomBytes(100_000)),
        set(s, 'x', i % 3 ? '' : 'y')
      ]
      const controls =
        i % 4 === 3 ? [{ type: 'grantWriter' as const, stream: stream(s), account: address(1 + (i % 3)) }] : []
      await write(1 + (i % 5 === 4 ? 1 : 0), [s], { writes, controls, ...(i % 7 === 6 ? { version: 1n } : {}) })
    }
  })()
  for (let round = 0; round < KILLS; round++) {
    const before = await nextSeq()
    await waitFor(async () => (await nextSeq()) > before, { what: 'writes' })
    // Somewhere in a replay: the moment is drawn, what the node does then is up to it.
    await new Promise(resolve => setTimeout(resolve, random.below(400)))
    await kv.kill9()
    kv = await run(KV('kv', kvPort, [1, 2]))
  }
  stop = true
  await load
  for (let i = 0; i < 5; i++) {
    const seq = await write(1, [1], { writes: [set(1, 'lag', `${i}`)] })
    const since = performance.now()
    t.equal(await client.waitResult(seq, 20_000), 'Commit')
    lagMs = Math.max(lagMs, performance.now() - since)
  }
  t.comment(`readable at most ${lagMs.toFixed(0)} ms after the write was stored`)
  const seqs = await nextSeq()
  const port = await freePort()
  const fresh = await run(KV('fresh', port, [1, 2]))
  await waitFor(async () => (await new KvClient(fresh.url).progress()).appliedSeq === seqs - 1, {
    what: 'fresh replay'
  })
  await waitFor(async () => (await client.progress()).appliedSeq === seqs - 1, { what: 'the replay' })
  const [a, b] = [await everything(client.url, [1, 2], seqs), await everything(fresh.url, [1, 2], seqs)]
  t.same(a.filter((l, i) => l !== b[i]).slice(0, 5), [])
  t.equal(a.length, b.length)
  t.ok(
    seqs > KILLS && a.some(l => l.includes('VersionConfliction')),
    `${seqs} submissions, ${a.length} answers compared`
  )
  await fresh.stop()
})

t.test('a lost file is recorded and does not block; nodes that are all away only delay', async t => {
  const client = new KvClient(`http://127.0.0.1:${kvPort}`)
  const lost = await writeLost(1, 1)
  const after = await write(1, [1], { writes: [set(1, 'after', 'lost')] })
  t.equal(await client.waitResult(after, 30_000), 'Commit')
  t.equal(await client.result(lost), 'DownloadFailed')
  t.equal(Buffer.from((await client.get(stream(1), text('after')))!.data).toString(), 'lost')

  await store.kill9()
  const port = await freePort()
  const starting = run(KV('away', port, [1]))
  const ready = async (): Promise<any> => (await fetch(`http://127.0.0.1:${port}/ready`)).json().catch(() => ({}))
  const until = performance.now() + 5_000
  await waitFor(async () => performance.now() > until && (await ready().catch(() => ({}))).state === 'degraded', {
    timeoutMs: 30_000,
    what: 'longer than the time after which a file counts as lost'
  })
  t.match((await ready()).reason, 'no storage node answers')
  store = await run(STORE)
  const away = await starting
  const other = new KvClient(away.url)
  for (const seq of [0, lost, after]) t.equal(await other.result(seq), await client.result(seq), `submission ${seq}`)
  await away.stop()
})

t.test('each role and control over the wire, with its denial', async t => {
  const client = new KvClient(`http://127.0.0.1:${kvPort}`)
  const s = 2
  const told = async (by: number, part: Partial<KvOps>): Promise<string> =>
    client.waitResult(await write(by, [s], part), 20_000)
  const control = (type: string, more = {}) => ({ controls: [{ type, stream: stream(s), ...more } as never] })
  const fresh = 5
  t.equal(await told(fresh, { writes: [set(s, 'a', '1')] }), 'SenderNoWritePermission')
  t.equal(await told(1, control('grantWriter', { account: address(fresh) })), 'Commit')
  t.equal(await told(fresh, { writes: [set(s, 'a', '1')] }), 'Commit')
  t.equal(await told(1, control('setSpecial', { key: text('a') })), 'Commit')
  t.match(
    await told(fresh, { writes: [set(s, 'a', '2')] }),
    `WritePermissionDenied: stream: ${toHex(stream(s))}, key: 0x61`
  )
  t.equal(await told(1, control('grantSpecialWriter', { key: text('a'), account: address(fresh) })), 'Commit')
  t.equal(await told(fresh, { writes: [set(s, 'a', '2')] }), 'Commit')
  t.match(
    await told(fresh, control('setNormal', { key: text('a') })),
    'AccessControlPermissionDenied: operation: SET_KEY_TO_NORMAL'
  )
  t.match(await told(fresh, control('grantAdmin', { account: address(fresh) })), 'operation: GRANT_ADMIN_ROLE')
  t.match(await told(fresh, control('revokeWriter', { account: address(fresh) })), 'operation: REVOKE_WRITER_ROLE')
  t.equal(await told(fresh, control('renounceSpecialWriter', { key: text('a') })), 'Commit')
  t.match(await told(fresh, { writes: [set(s, 'a', '3')] }), 'WritePermissionDenied')
  t.equal(await told(1, control('setNormal', { key: text('a') })), 'Commit')
  t.equal(await told(fresh, { writes: [set(s, 'a', '3')] }), 'Commit')
  t.equal(await told(fresh, control('renounceWriter')), 'Commit')
  t.equal(await told(fresh, { writes: [set(s, 'a', '4')] }), 'SenderNoWritePermission')
  t.equal(await told(1, { writes: [{ ...set(1, 'a', '4') }] }), 'TagsMismatch')
})

t.test('proofs hold for what was written, long or short or deleted, and for nothing else', async t => {
  const url = `http://127.0.0.1:${kvPort}`
  const client = new KvClient(url)
  const long = randomBytes(300_000)
  const seq = await write(1, [1], {
    writes: [set(1, 'p-short', 'value'), set(1, 'p-long', long), set(1, 'p-gone', '')]
  })
  t.equal(await client.waitResult(seq, 20_000), 'Commit')
  const o = { chain, flow: FLOW }
  const short = await client.prove(stream(1), text('p-short'), o)
  t.equal(Buffer.from(short!.data).toString(), 'value')
  t.equal(short!.version, seq)
  t.ok(Buffer.from((await client.prove(stream(1), text('p-long'), o))!.data).equals(long), 'a value in two pages')
  t.match(await client.prove(stream(1), text('p-gone'), o), { version: seq, sizeBytes: 0 }, 'that it was deleted')
  t.equal(await client.prove(stream(1), text('never'), o), undefined)

  const node = new RpcClient(url, { what: 'kv' })
  const key = Buffer.from('p-short').toString('base64')
  const honest = await node.call<any>('kv_getProof', [toHex(stream(1)), key, 0, 1000])
  const what = { stream: stream(1), key: text('p-short'), start: 0, length: 1000 }
  const submission = await provenSubmission(chain, FLOW, parseKvProof(honest))
  const check = (change: (p: any) => void, about = what): Uint8Array => {
    const p = structuredClone(honest)
    change(p)
    return provenValue(parseKvProof(p), submission, about)
  }
  t.equal(Buffer.from(check(() => {})).toString(), 'value')
  const bytes = Buffer.from(honest.ranges[0].data, 'base64')
  const lies: [string, (p: any) => void, typeof what?][] = [
    [
      'another byte',
      p => (p.ranges[0].data = Buffer.from(bytes.map((b, i) => (i === 200 ? b ^ 1 : b))).toString('base64'))
    ],
    ['another size', p => (p.size = 4)],
    ['another write', p => (p.index = 1)],
    ['a write that is not there', p => (p.index = 9)],
    ['another place', p => (p.ranges[0].sector += 1)],
    ['a path cut', p => p.ranges[0].left.path.pop()],
    ['another key', () => {}, { ...what, key: text('p-other') }],
    ['another stream', () => {}, { ...what, stream: stream(2) }]
  ]
  for (const [name, change, about] of lies) t.throws(() => check(change, about), { code: 'ERR_BAD_PROOF' }, name)
  const foreign = { ...parseKvProof(honest), version: seq - 1 }
  await t.rejects(provenSubmission(chain, FLOW, foreign), { code: 'ERR_BAD_PROOF' }, 'another submission')

  const at = ['--kv', url, '--rpc-url', rpc]
  const got = await runTool(
    'zg-store',
    ['kv', 'get', toHex(stream(1)), 'p-short', '--proof', '--flow', FLOW, '--json', ...at],
    { env: box.env }
  )
  t.equal(got.code, 0, got.stderr)
  t.match(JSON.parse(got.stdout), {
    value: toHex(text('value')),
    version: seq,
    proof: { flow_root: /^0x/, txHash: /^0x/ }
  })
  const gone = await runTool('zg-store', ['kv', 'get', toHex(stream(1)), 'p-gone', '--proof', '--flow', FLOW, ...at], {
    env: box.env
  })
  t.equal(gone.code, 1)
  t.match(gone.stderr, `submission ${seq} deleted it, as proven`)

  const list = async (...args: string[]): Promise<string> =>
    (await runTool('zg-store', ['kv', 'list', toHex(stream(1)), '--kv', url, ...args], { env: box.env })).stdout
  t.equal(await list('p-'), 'p-long\np-short\n', 'deleted keys are not listed')
  t.equal(await list('p-', '--reverse', '--limit', '1'), 'p-short\n')
  t.equal(await list('p-', '--from', 'p-m', '--values'), 'p-short\tvalue\n')
  t.equal(await list('p-', '--from', 'p-m', '--reverse', '-l'), `${seq}\t300000\tp-long\n`)
  t.equal((await list()).split('\n')[0], 'after')
})

t.test('a stream added at run time and an encrypted one are replayed from the start', async t => {
  const secret = new Uint8Array(randomBytes(32))
  writeFileSync(box.path('key'), toHex(secret), { mode: 0o600 })
  const early = await write(1, [7], { writes: [set(7, 'k', 'early')] })
  const hidden = await write(1, [8], { writes: [set(8, 'k', 'hidden'), set(8, 'long', randomBytes(70_000))] }, secret)
  const port = await freePort()
  const args = KV('late', port, [1], ['--encryption-key-file', box.path('key')])
  let late = await run(args)
  const client = new KvClient(late.url)
  t.equal(await client.result(early), undefined)
  const { Wallet } = await import('ethers')
  const wallet = Wallet.createRandom()
  const types = {
    RegisterStream: [
      { name: 'purpose', type: 'string' },
      { name: 'wallet', type: 'address' },
      { name: 'streamId', type: 'bytes32' }
    ]
  }
  const domain = { name: '0G Storage Scan', version: '1', chainId: 31337 }
  const node = new RpcClient(late.url, { what: 'kv' })
  for (const s of [7, 8]) {
    const value = { purpose: 'register-stream', wallet: wallet.address, streamId: toHex(stream(s)) }
    const signature = await wallet.signTypedData(domain, types, value)
    t.equal(await node.call('admin_addStream', [value.streamId, wallet.address, signature]), true)
  }
  await late.kill9()
  late = await run(args)
  t.equal(await client.waitResult(early, 30_000), 'Commit')
  t.equal(await client.waitResult(hidden, 30_000), 'Commit')
  t.equal(Buffer.from((await client.get(stream(7), text('k')))!.data).toString(), 'early')
  t.equal(Buffer.from((await client.get(stream(8), text('k')))!.data).toString(), 'hidden')
  const proven = await client.prove(stream(8), text('long'), { chain, flow: FLOW, encryptionKey: secret })
  t.equal(proven!.sizeBytes, 70_000, 'and proved to who has the key')
  await t.rejects(client.prove(stream(8), text('k'), { chain, flow: FLOW }), { code: 'ERR_BAD_PROOF' }, 'only to him')
  const without = await run(KV('without', await freePort(), [8]))
  t.match(await new KvClient(without.url).waitResult(hidden, 30_000), 'DataParseError')
  await Promise.all([late.stop(), without.stop()])
})
