/**
 * Proves the storage client against two real storage nodes in this process, on a chain that records every transaction: bytes come
 * back equal at every size border, the same content is paid once, an interrupted put goes on with its own transaction, and nothing
 * that does not match the root is ever handed out, whatever a node in between does. Indexer and gateway run on the same nodes.
 */
import { createHash } from 'node:crypto'
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { createServer, type IncomingMessage, request, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import t from 'tap'
import { parseRange } from '../../cmd/zg-store/indexer/answer.ts'
import { NodeBook } from '../../cmd/zg-store/indexer/book.ts'
import { believable, runDiscovery, urlsOf } from '../../cmd/zg-store/indexer/discovery.ts'
import { gatewayRoute } from '../../cmd/zg-store/indexer/gateway.ts'
import { indexerMethods, parseLocations } from '../../cmd/zg-store/indexer/rpc.ts'
import { uploads } from '../../cmd/zg-store/indexer/upload.ts'
import { type StoreNode as RunningNode, startStoreNode } from '../../cmd/zg-store/node/store-node.ts'
import { systemClock } from '../../lib/adapters/clock.ts'
import { serveRpc } from '../../lib/adapters/jsonrpc/server.ts'
import { ZgError } from '../../lib/base/errors.ts'
import { fromHex, toHex } from '../../lib/base/hex.ts'
import { ChainClient } from '../../lib/clients/chain.ts'
import { callSocket } from '../../lib/clients/store/admin.ts'
import {
  decrypting,
  download,
  encryptedSource,
  encrypting,
  FlowClient,
  hashSource,
  listNewest,
  memorySource,
  NodePool,
  openSource,
  type PutOptions,
  put,
  quote,
  RemoteFile,
  RemoteStream,
  readAll,
  type Source,
  spool,
  statFile
} from '../../lib/clients/store.ts'
import { encodeFolder } from '../../lib/codec/storage/folder.ts'
import { hashBytes } from '../../lib/codec/storage/hasher.ts'
import { DEV_ACCOUNTS } from '../../lib/crypto/dev-accounts.ts'
import { silentLog } from '../../lib/ops/log.ts'
import { waitFor } from '../harness/tools.ts'
import { FLOW, startPayingChain } from './paying-chain.ts'

const dir = mkdtempSync(join(tmpdir(), 'zg-client-'))
const chain = await startPayingChain()
const nodes: RunningNode[] = []
for (const name of ['a', 'b']) {
  nodes.push(
    await startStoreNode({
      dir: join(dir, name),
      chain: chain.url,
      flow: FLOW,
      rpcPort: 0,
      socket: join(dir, `${name}.sock`),
      log: () => silentLog
    })
  )
}
const urls = nodes.map(n => n.url)
const closers: (() => Promise<void>)[] = []
t.teardown(async () => {
  for (const close of closers.reverse()) await close()
  for (const n of nodes) await n.close()
  await chain.close()
  rmSync(dir, { recursive: true, force: true })
})

const payer = DEV_ACCOUNTS[0]!
const signer = async () => ({
  address: fromHex(payer.address),
  name: '0',
  wellKnown: true,
  privateKey: async () => fromHex(payer.privateKey)
})
const flow = () => new FlowClient(new ChainClient(chain.url))
const options = (more: Partial<PutOptions> = {}): PutOptions => ({
  pool: new NodePool({ nodes: urls }),
  flow: flow(),
  signer,
  journalDir: join(dir, 'journal'),
  replicas: 2,
  waitMs: 10_000,
  ...more
})

/** Bytes that differ for every seed. */
function content(seed: string, size: number): Uint8Array {
  const out = Buffer.alloc(size)
  let block = createHash('sha256').update(seed).digest()
  for (let at = 0; at < size; at += 32) {
    block.copy(out, at)
    if (at % 4096 === 0) block = createHash('sha256').update(block).digest()
  }
  return out
}

async function store(source: Source, more: Partial<PutOptions> = {}) {
  return put(source, await hashSource(source), options(more))
}

async function read(root: Uint8Array, pool = new NodePool({ nodes: urls })): Promise<Uint8Array> {
  return readAll(await RemoteFile.open(pool, root), 1 << 30)
}

type Tamper = (req: IncomingMessage, body: Buffer) => { status?: number; body: Buffer } | 'cut' | undefined

/** A node seen through a proxy that may change answers or cut the connection. */
async function through(target: string, tamper: Tamper): Promise<string> {
  const server = createServer((req: IncomingMessage, res: ServerResponse) => {
    const parts: Buffer[] = []
    req.on('error', () => {})
    req.on('data', p => parts.push(p))
    req.on('end', () => {
      const sent = Buffer.concat(parts)
      const headers = { ...req.headers, host: new URL(target).host }
      const up = request(new URL(req.url!, target), { method: req.method!, headers, agent: false }, from => {
        const got: Buffer[] = []
        from.on('data', p => got.push(p))
        from.on('end', () => {
          const answer = Object.assign(req, { sent })
          const changed = tamper(answer, Buffer.concat(got))
          if (changed === 'cut') {
            res.destroy()
            return
          }
          const body = changed?.body ?? Buffer.concat(got)
          const { 'content-length': _, 'transfer-encoding': __, ...rest } = from.headers
          res.writeHead(changed?.status ?? from.statusCode ?? 500, { ...rest, 'content-length': body.length })
          res.end(body)
        })
      })
      up.on('error', () => res.destroy())
      up.end(sent)
    })
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  closers.push(
    () =>
      new Promise(resolve => {
        server.close(() => resolve())
        server.closeAllConnections()
      })
  )
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

const SIZES = [1, 255, 256, 257, 4097, 262_143, 262_144, 262_145, 1_048_577, 5_242_881]

t.test('what is put comes back equal at every size border, on both nodes', async t => {
  for (const size of SIZES) {
    const bytes = content(`size ${size}`, size)
    const r = await store(memorySource(bytes))
    t.equal(toHex(r.root), toHex(hashBytes(bytes).root), `root of ${size} bytes`)
    t.same([r.urls.length, r.already, r.resumed], [2, false, false])
    t.ok(Buffer.from(await read(r.root)).equals(bytes), `${size} bytes are equal`)
    for (const url of urls) {
      t.ok(Buffer.from(await read(r.root, new NodePool({ nodes: [url] }))).equals(bytes), `${size} bytes from ${url}`)
    }
  }
})

t.test('the same content again sends nothing and pays nothing', async t => {
  const bytes = content('twice', 300_000)
  const first = await store(memorySource(bytes))
  const before = chain.sent.length
  const second = await store(memorySource(bytes))
  t.equal(chain.sent.length, before)
  t.same([second.already, second.feeNeuron, second.seq], [true, 0n, first.seq])
  const third = await store(memorySource(bytes), { always: true })
  t.equal(chain.sent.length, before + 1, 'a key-value write is submitted all the same')
  t.not(third.seq, first.seq)
})

t.test('the fee is the price of the sectors, and tags arrive unchanged', async t => {
  const bytes = content('fee', 262_145)
  const hash = hashBytes(bytes)
  const q = await quote(hash, options())
  t.equal(q.feeNeuron, chain.price * 1152n)
  const r = await store(memorySource(bytes), { tags: fromHex('0xabcdef') })
  const tx = chain.sent.at(-1)!
  t.same(
    [r.feeNeuron, tx.value, toHex(tx.submission.tags), tx.from],
    [q.feeNeuron, q.feeNeuron, '0xabcdef', payer.address.toLowerCase()]
  )
})

t.test('an account without money is told so before anything is sent', async t => {
  const { balance } = chain
  chain.balance = 1n
  t.teardown(() => {
    chain.balance = balance
  })
  const before = chain.sent.length
  await t.rejects(store(memorySource(content('poor', 1000))), { code: 'ERR_FUNDS', hint: /zg-devnet fund 0x/ })
  t.equal(chain.sent.length, before)
})

t.test('a put that was killed while its transaction waited goes on with it', async t => {
  const source = memorySource(content('pending', 400_000))
  chain.hold = true
  const stop = new AbortController()
  const first = store(source, {
    signal: stop.signal,
    flow: new FlowClient(new ChainClient(chain.url, { signal: stop.signal }), stop.signal)
  })
  const before = chain.sent.length
  await waitFor(() => chain.sent.length === before + 1, { what: 'the transaction' })
  stop.abort(new ZgError('ERR_STOPPED', 'killed'))
  await t.rejects(first, { code: 'ERR_STOPPED' })
  chain.hold = false
  chain.mine()
  const r = await store(source)
  t.equal(chain.sent.length, before + 1, 'nothing was paid twice')
  t.same([r.resumed, r.feeNeuron, toHex(r.txHash!)], [true, 0n, chain.sent.at(-1)!.hash])
  t.ok(Buffer.from(await read(r.root)).equals(await source.read(0, 400_000)))
})

t.test('an upload that broke off sends only what is missing', async t => {
  const bytes = content('broken', 80 * 262_144 + 77)
  let puts = 0
  const broken = await through(urls[0]!, req =>
    req.method === 'PUT' && ++puts > 1
      ? { status: 507, body: Buffer.from('{"error":{"code":"ERR_DISK_FULL","message":"full"}}') }
      : undefined
  )
  const before = chain.sent.length
  const pool = new NodePool({ nodes: [broken] })
  await t.rejects(store(memorySource(bytes), { pool, replicas: 1 }), { code: 'ERR_DISK_FULL' })
  const r = await store(memorySource(bytes), { pool: new NodePool({ nodes: [urls[0]!] }), replicas: 1 })
  t.equal(chain.sent.length, before + 1)
  t.ok(r.hadBytes > 0 && r.hadBytes < bytes.length, `${r.hadBytes} bytes were there`)
  t.ok(Buffer.from(await read(r.root)).equals(bytes))
})

t.test('a node that fails is replaced by another one', async t => {
  const dead = await through(urls[0]!, req =>
    req.method === 'PUT'
      ? { status: 507, body: Buffer.from('{"error":{"code":"ERR_DISK_FULL","message":"full"}}') }
      : undefined
  )
  const problems: string[] = []
  const r = await store(memorySource(content('spare', 600_000)), {
    pool: new NodePool({ nodes: [dead, urls[1]!] }),
    replicas: 1,
    on: { problem: url => problems.push(url) }
  })
  t.same([problems, r.urls], [[dead], [urls[1]]])
})

t.test('too few nodes: refused, or fewer copies where that was allowed', async t => {
  const pool = new NodePool({ nodes: [urls[0]!, 'http://127.0.0.1:9'] })
  const source = memorySource(content('few', 5000))
  await t.rejects(store(source, { pool }), {
    code: 'ERR_UNAVAILABLE',
    message: /1 storage nodes? answers?, too few for 2/
  })
  const told: number[] = []
  const r = await store(source, { pool, fewer: true, on: { fewer: n => told.push(n) } })
  t.same([r.urls, told], [[urls[0]], [1]])
})

t.test('foreign nodes without the raw routes are served by JSON-RPC', async t => {
  const foreign = await Promise.all(
    urls.map(u =>
      through(u, req => (req.url!.startsWith('/v1/') ? { status: 404, body: Buffer.from('not found') } : undefined))
    )
  )
  const bytes = content('foreign', 9 * 262_144 + 5)
  const pool = new NodePool({ nodes: foreign })
  const r = await store(memorySource(bytes), { pool })
  t.same(r.urls.length, 2)
  t.ok(Buffer.from(await read(r.root, pool)).equals(bytes))
})

t.test('a node that changes a byte is found out, and another one is asked', async t => {
  const bytes = content('liar', 20 * 262_144)
  const { root } = await store(memorySource(bytes))
  const flips: Tamper = (req, body) => {
    if (!req.url!.startsWith('/v1/segments/') || body.length < 1000) return undefined
    const changed = Buffer.from(body)
    changed[777]! ^= 1
    return { body: changed }
  }
  const liar = await through(urls[0]!, flips)
  const both = await RemoteFile.open(new NodePool({ nodes: [liar, urls[1]!] }), root)
  t.ok(Buffer.from(await readAll(both, 1 << 30)).equals(bytes))
  t.match(both.problems.join(), new RegExp(`segment \\d+ from ${liar} does not match the root`))
  await t.rejects(read(root, new NodePool({ nodes: [liar] })), {
    code: 'ERR_BAD_PROOF',
    message: new RegExp(`^segment 0 from ${liar} does not match the root$`)
  })
})

t.test('false roots, false proofs and false sizes give an error, never bytes', async t => {
  const bytes = content('liar 2', 3 * 262_144 + 100)
  const { root } = await store(memorySource(bytes))
  const roots = await through(urls[0]!, (req, body) => {
    if (!req.url!.startsWith('/v1/roots/') || req.method === 'HEAD') return undefined
    const changed = Buffer.from(body)
    changed[5]! ^= 1
    return { body: changed }
  })
  t.ok(
    Buffer.from(await read(root, new NodePool({ nodes: [roots] }))).equals(bytes),
    'proofs take the place of false roots'
  )
  const json = await through(urls[0]!, (req, body) => {
    if (req.url!.startsWith('/v1/')) return { status: 404, body: Buffer.from('') }
    const text = body.toString()
    if (!text.includes('"lemma"')) return undefined
    const a = JSON.parse(text)
    a.result.data = Buffer.from(a.result.data, 'base64').fill(7, 0, 1).toString('base64')
    return { body: Buffer.from(JSON.stringify(a)) }
  })
  await t.rejects(read(root, new NodePool({ nodes: [json] })), { code: 'ERR_BAD_PROOF' })
  const shorter = await through(urls[0]!, (_, body) => ({
    body: Buffer.from(
      body.toString('latin1').replaceAll(`"size":${bytes.length}`, `"size":${bytes.length - 1}`),
      'latin1'
    )
  }))
  await t.rejects(read(root, new NodePool({ nodes: [shorter] })), { code: 'ERR_BAD_PROOF', message: /size/ })
})

t.test('a node that says nothing costs seconds, not the file', async t => {
  const bytes = content('silent', 12 * 262_144)
  const { root } = await store(memorySource(bytes))
  const open: ServerResponse[] = []
  const mute = createServer((_, res) => open.push(res))
  await new Promise<void>(resolve => mute.listen(0, '127.0.0.1', resolve))
  const silent = `http://127.0.0.1:${(mute.address() as AddressInfo).port}`
  const begun = performance.now()
  const file = await RemoteFile.open(new NodePool({ nodes: [silent, urls[1]!] }), root)
  t.ok(Buffer.from(await readAll(file, 1 << 30)).equals(bytes))
  t.ok(performance.now() - begun < 8_000, `${Math.round(performance.now() - begun)} ms`)
  mute.closeAllConnections()
  await new Promise(resolve => mute.close(resolve))
  // Says at first what it has, then nothing more.
  let asked = 0
  const dying = await through(urls[0]!, (req, body) =>
    req.url!.startsWith('/v1/segments/') && ++asked > 0 ? 'cut' : { body }
  )
  const half = await RemoteFile.open(new NodePool({ nodes: [dying, urls[1]!] }), root)
  t.ok(Buffer.from(await readAll(half, 1 << 30)).equals(bytes))
  t.ok(asked > 0 && half.problems.length > 0)
})

t.test('what nobody holds, or nobody can say, is told apart', async t => {
  const unknown = fromHex(`0x${'5a'.repeat(32)}`)
  await t.rejects(read(unknown), { code: 'ERR_NOT_FOUND', message: `no node holds ${toHex(unknown)} (asked 2)` })
  await t.rejects(read(unknown, new NodePool({ nodes: ['http://127.0.0.1:9'] })), { code: 'ERR_UNAVAILABLE' })
  const hash = hashBytes(content('only submitted', 70_000))
  chain.submit({ size: hash.size, tags: new Uint8Array(0), nodes: hash.nodes }, payer.address)
  await waitFor(
    async () => (await statFile(new NodePool({ nodes: urls }), hash.root)).every(v => v.state === 'uploading'),
    {
      what: 'the entry on both nodes'
    }
  )
  await t.rejects(read(hash.root), { code: 'ERR_NOT_SYNCED' })
  const before = chain.sent.length
  await store(memorySource(content('only submitted', 70_000)))
  t.equal(chain.sent.length, before, 'an entry that somebody paid for is used')
  t.throws(() => new NodePool({}), { code: 'ERR_NO_NETWORK', hint: /zg-devnet up/ })
})

t.test('a download continues what is right of its part and starts over what is not', async t => {
  const bytes = Buffer.from(content('part', 30 * 262_144 + 9))
  const { root } = await store(memorySource(bytes))
  const open = () => RemoteFile.open(new NodePool({ nodes: urls }), root)
  const target = join(dir, 'out.bin')
  writeFileSync(`${target}.part`, bytes.subarray(0, 10 * 262_144 + 5))
  t.same(await download(await open(), target), { resumedBytes: 10 * 262_144 })
  t.ok(readFileSync(target).equals(bytes))
  t.notOk(existsSync(`${target}.part`))
  await t.rejects(download(await open(), target), { code: 'ERR_EXISTS' })
  const rotten = Buffer.from(bytes)
  rotten[3 * 262_144 + 1]! ^= 0x10
  writeFileSync(`${target}.part`, rotten)
  t.same(await download(await open(), target, { force: true }), { resumedBytes: 3 * 262_144 })
  t.ok(readFileSync(target).equals(bytes))
  writeFileSync(`${target}.part`, Buffer.concat([bytes, Buffer.from('more')]))
  t.same(await download(await open(), target, { force: true }), { resumedBytes: bytes.length })
  t.equal(statSync(target).size, bytes.length)
})

t.test('any range of bytes is read exactly', async t => {
  const bytes = content('range', 5 * 262_144 + 300)
  const { root } = await store(memorySource(bytes))
  const file = await RemoteFile.open(new NodePool({ nodes: urls }), root)
  const edges = [0, 1, 255, 262_143, 262_144, 262_145, 4 * 262_144, 5 * 262_144, bytes.length - 1, bytes.length]
  for (const start of edges) {
    for (const end of edges.filter(e => e >= start)) {
      const parts: Uint8Array[] = []
      for await (const p of file.bytes(start, end)) parts.push(p)
      if (!Buffer.concat(parts).equals(bytes.subarray(start, end))) t.fail(`[${start}, ${end}) differs`)
    }
  }
  t.pass('all ranges')
})

t.test('an encrypted file has one root for one content and comes back in the clear', async t => {
  const key = fromHex(`0x${'42'.repeat(32)}`)
  const bytes = content('secret', 700_001)
  const source = await encryptedSource(memorySource(bytes), key)
  const first = await store(source)
  t.equal(first.sizeBytes, bytes.length + 17)
  t.ok((await store(await encryptedSource(memorySource(bytes), key))).already)
  const stored = await read(first.root)
  t.notOk(Buffer.from(stored).includes(Buffer.from(bytes.subarray(0, 64))))
  const clear: Uint8Array[] = []
  for await (const p of decrypting(Readable.from([stored.subarray(0, 3), stored.subarray(3)]), { key })) clear.push(p)
  t.ok(Buffer.concat(clear).equals(bytes))
  const again: Uint8Array[] = []
  for await (const p of decrypting(encrypting(Readable.from([bytes]), key), { key })) again.push(p)
  t.ok(Buffer.concat(again).equals(bytes), 'streams too')
})

t.test('pieces cut before encryption, as the newer SDK does, and after it, as storage.md has it', async t => {
  const key = fromHex(`0x${'43'.repeat(32)}`)
  const bytes = content('cut', 700_001)
  const pieceBytes = 262_144
  const roots = async (sources: readonly Source[]): Promise<Uint8Array[]> => {
    const out: Uint8Array[] = []
    for (const source of sources) out.push((await store(source)).root)
    return out
  }
  const pieces = (all: Uint8Array): Uint8Array[] =>
    Array.from({ length: Math.ceil(all.length / pieceBytes) }, (_, i) =>
      all.subarray(i * pieceBytes, (i + 1) * pieceBytes)
    )
  const whole = await encryptedSource(memorySource(bytes), key)
  const sealed = await Promise.all(pieces(bytes).map(p => encryptedSource(memorySource(p), key)))
  t.ok(new Set(sealed.map(s => toHex(s.stream.nonce))).size === 3, 'each piece has a nonce of its own')
  const ways: [string, Source[]][] = [
    ['before', sealed],
    ['after', pieces(await whole.read(0, whole.sizeBytes)).map(memorySource)]
  ]
  for (const [way, sources] of ways) {
    const stream = await RemoteStream.open(new NodePool({ nodes: urls }), await roots(sources), { key: { key } })
    t.equal(stream.sizeBytes, bytes.length, `cut ${way}: the size`)
    t.ok(Buffer.from(await stream.all(1_000_000)).equals(bytes), `cut ${way}: all bytes`)
    for (const [start, end] of [
      [0, 1],
      [262_120, 262_170],
      [262_144, 524_288],
      [300_001, 700_001],
      [700_000, 700_001]
    ] as const) {
      const parts: Uint8Array[] = []
      for await (const p of stream.bytes(start, end)) parts.push(p)
      t.ok(Buffer.concat(parts).equals(bytes.subarray(start, end)), `cut ${way}: [${start}, ${end})`)
    }
    const path = join(dir, `cut-${way}.bin`)
    const begun = Buffer.from(bytes.subarray(0, 600_000))
    begun[599_999]! ^= 1
    writeFileSync(`${path}.part`, begun)
    const { resumedBytes } = await download(stream, path)
    t.ok(resumedBytes > 262_144 && resumedBytes < 600_000, `cut ${way}: goes on after whole segments (${resumedBytes})`)
    t.ok(readFileSync(path).equals(bytes), `cut ${way}: on disk`)
  }
})

t.test('a pipe is spooled to disk, and a file that changes meanwhile is refused', async t => {
  const bytes = content('pipe', 1_000_000)
  const seen: number[] = []
  const source = await spool(Readable.from([bytes.subarray(0, 10), bytes.subarray(10)]), join(dir, 'spool'), part => {
    seen.push(part.length)
  })
  t.same([source.sizeBytes, seen], [1_000_000, [10, 999_990]])
  const r = await store(source)
  t.ok(Buffer.from(await read(r.root)).equals(bytes))
  await source.close()
  const path = join(dir, 'changing.bin')
  writeFileSync(path, content('before', 900_000))
  const opened = (await openSource(path)) as Source
  const hash = await hashSource(opened)
  writeFileSync(path, content('after!', 900_000))
  await t.rejects(put(opened, hash, options()), { code: 'ERR_BAD_INPUT', message: /changed while it was read/ })
  await opened.close()
  await t.rejects(openSource(join(dir, 'none')), { code: 'ERR_NO_INPUT' })
})

t.test('the newest submissions are listed, newest first', async t => {
  const files = await listNewest(new NodePool({ nodes: urls }), 5)
  t.equal(files.length, 5)
  t.same(
    files.map(f => f.info.seq),
    files.map(f => f.info.seq).sort((a, b) => b - a)
  )
})

t.test('indexer and gateway', async t => {
  const stop = new AbortController()
  const all = new NodePool({ nodes: [...urls, 'http://127.0.0.1:9'] })
  const book = new NodeBook(
    [...urls, 'http://127.0.0.1:9'].map(u => all.node(u)),
    systemClock,
    silentLog
  )
  let rounds = 0
  const probing = book.run(stop.signal, () => rounds++)
  const pool = new NodePool({ nodes: () => book.living().map(e => e.node.url) })
  const bugs: unknown[] = []
  const server = await serveRpc({
    port: 0,
    cors: 'any',
    methods: indexerMethods(book),
    routes: [gatewayRoute({ book, pool, onError: err => bugs.push(err) })]
  })
  const { signer: payingSigner } = options()
  const store1 = uploads({
    pool,
    maxBytes: 2_000_000,
    replicas: 1,
    journalDir: join(dir, 'gateway-journal'),
    payer: async () => ({ flow: flow(), signer: payingSigner })
  })
  const paying = await serveRpc({
    port: 0,
    cors: 'any',
    methods: {},
    routes: [gatewayRoute({ book, pool, store: store1, onError: err => bugs.push(err) })]
  })
  t.teardown(async () => {
    stop.abort()
    await probing
    await server.close()
    await paying.close()
  })
  await waitFor(() => rounds > 0, { what: 'a probe' })
  const at = server.url!
  const rpc = async (method: string, ...params: unknown[]) => {
    const res = await fetch(at, { method: 'POST', body: JSON.stringify({ jsonrpc: '2.0', id: 1, method, params }) })
    return (await res.json()) as { result?: any; error?: any }
  }
  const bytes = Buffer.from(content('gateway', 6 * 262_144 + 11))
  const { root, seq } = await store(memorySource(bytes), { pool: new NodePool({ indexer: at }) })
  const hex = toHex(root)

  await t.test('lists living nodes in turn, and locations only where a file is final', async t => {
    const firsts = new Set<string>()
    for (let i = 0; i < 4; i++) {
      const { result } = await rpc('indexer_getShardedNodes')
      t.equal(result.trusted.length, 2)
      t.equal(result.discovered, null)
      t.same(result.trusted[0].config, { shardId: 0, numShard: 1 })
      t.ok(Number.isInteger(result.trusted[0].latency) && Number.isInteger(result.trusted[0].since))
      firsts.add(result.trusted[0].url)
    }
    t.equal(firsts.size, 2)
    t.equal((await rpc('indexer_getFileLocations', hex)).result.length, 2)
    t.equal((await rpc('indexer_getFileLocations', hex.slice(2))).result.length, 2)
    t.same((await rpc('indexer_getFileLocations', `0x${'11'.repeat(32)}`)).result, [])
    t.same((await rpc('indexer_getNodeLocations')).result, {})
    t.equal((await rpc('indexer_getFileLocations', 'nonsense')).error.code, -32602)
    t.equal((await rpc('indexer_getSelectedNodes', 1, 'min', true, [urls[0]])).result.trusted[0].url, urls[1])
    t.equal((await rpc('indexer_getSelectedNodes', 3, 'min', true, [])).error.code, -32000)
  })

  await t.test('serves whole files and ranges', async t => {
    const get = (path: string, init?: RequestInit) => fetch(`${at}${path}`, init)
    const whole = await get(`/file?root=${hex}&name=a%20b.bin`)
    t.same(
      ['content-disposition', 'content-length', 'etag', 'accept-ranges'].map(h => whole.headers.get(h)),
      ['attachment; filename="a b.bin"', String(bytes.length), `"${hex}"`, 'bytes']
    )
    t.ok(Buffer.from(await whole.arrayBuffer()).equals(bytes))
    t.equal((await get(`/file?txSeq=${seq}`)).headers.get('content-disposition'), `attachment; filename="${hex}"`)
    const head = await get(`/file?root=${hex}`, { method: 'HEAD' })
    t.same(
      [head.status, head.headers.get('content-length'), (await head.text()).length],
      [200, String(bytes.length), 0]
    )
    const part = await get(`/file?root=${hex}`, { headers: { range: 'bytes=262140-262150' } })
    t.same([part.status, part.headers.get('content-range')], [206, `bytes 262140-262150/${bytes.length}`])
    t.ok(Buffer.from(await part.arrayBuffer()).equals(bytes.subarray(262_140, 262_151)))
    const tail = await get(`/file/${hex}`, { headers: { range: 'bytes=-11' } })
    t.ok(Buffer.from(await tail.arrayBuffer()).equals(bytes.subarray(-11)))
    t.equal((await get(`/file?root=${hex}`, { headers: { range: `bytes=${bytes.length}-` } })).status, 416)
    t.equal((await get(`/file?root=${hex}`, { headers: { 'if-none-match': `"${hex}"` } })).status, 304)
    const segment = await get(`/v1/segment/${hex}/6`)
    t.ok(Buffer.from(await segment.arrayBuffer()).equals(bytes.subarray(6 * 262_144)))
    t.equal((await get(`/v1/segment/${hex}/7`)).status, 400)
    t.equal((await get(`/v1/segment/0x${'11'.repeat(32)}/0`)).status, 404)
    t.equal((await get('/v1/file', { method: 'PUT', body: 'x' })).status, 403)
    const preflight = await get('/file', { method: 'OPTIONS', headers: { 'access-control-request-headers': 'range' } })
    t.same([preflight.status, preflight.headers.get('access-control-allow-origin')], [204, '*'])
  })

  await t.test('answers business errors in the envelope', async t => {
    const code = async (path: string, init?: RequestInit) => {
      const res = await fetch(`${at}${path}`, init)
      return [res.status, ((await res.json()) as { code: number }).code]
    }
    t.same(await code('/file'), [200, 1])
    t.same(await code('/file?root=zz'), [200, 1])
    t.same(await code(`/file?root=0x${'11'.repeat(32)}`), [200, 101])
    t.same(await code('/file?txSeq=99999'), [200, 101])
    t.same(await code(`/file/info/0x${'11'.repeat(32)}`), [200, 101])
    t.same(await code(`/file/${hex}/inner`), [200, 106])
    t.same(await code('/file/segment', { method: 'POST', body: '{}' }), [200, 1])
    t.same(await code('/file/segment', { method: 'POST', body: 'nonsense' }), [200, 1])
    t.same(
      await code('/file/segment', {
        method: 'POST',
        body: JSON.stringify({ root: `0x${'11'.repeat(32)}`, data: 'AA==' })
      }),
      [200, 101]
    )
  })

  await t.test('tells what nodes know, and takes single segments', async t => {
    const json = async (path: string, init?: RequestInit) =>
      ((await (await fetch(`${at}${path}`, init)).json()) as any).data
    const info = await json(`/file/info/${seq}`)
    t.same([info.finalized, info.tx.dataMerkleRoot, info.uploadedSegNum], [true, hex, 7])
    const list = await json(`/files/info?cid=${hex}&cid=0x${'11'.repeat(32)}`)
    t.same([list[0].tx.seq, list[1]], [seq, null])
    t.match(await json('/node/status'), { networkIdentity: { chainId: 31337, flowAddress: FLOW }, nextTxSeq: Number })
    const small = content('by gateway', 1000)
    const hash = hashBytes(small)
    const mine = chain.submit({ size: 1000, tags: new Uint8Array(0), nodes: hash.nodes }, payer.address)
    await waitFor(async () => (await statFile(pool, mine)).every(v => v.state === 'uploading'), { what: 'the entry' })
    const wire = Buffer.alloc(1024)
    Buffer.from(small).copy(wire)
    const body = {
      root: toHex(hash.root),
      data: wire.toString('base64'),
      index: 0,
      proof: { lemma: [toHex(hash.root)], path: [] },
      expectedReplica: 2
    }
    t.equal(await json('/file/segment', { method: 'POST', body: JSON.stringify(body) }), 'Segment uploaded')
    await waitFor(async () => (await statFile(pool, mine)).every(v => v.state === 'final'), { what: 'finality' })
    t.equal(await json('/file/segment', { method: 'POST', body: JSON.stringify(body) }), 'Segment uploaded', 'again')
  })

  await t.test('walks folders', async t => {
    const one = content('one.txt', 500)
    const two = content('two.txt', 300_000)
    const roots = [(await store(memorySource(one))).root, (await store(memorySource(two))).root]
    const file = (name: string, rootsOf: Uint8Array[], size: number) => ({
      name,
      type: 'file' as const,
      roots: rootsOf,
      size,
      link: '',
      entries: []
    })
    const folder = encodeFolder({
      name: '',
      type: 'directory',
      roots: [],
      size: 0,
      link: '',
      entries: [
        file('both.bin', roots, 300_500),
        file('empty', [], 0),
        { name: 'link', type: 'symbolic', roots: [], size: 0, link: 'both.bin', entries: [] },
        { name: 'sub', type: 'directory', roots: [], size: 0, link: '', entries: [file('one.txt', [roots[0]!], 500)] }
      ]
    })
    const cid = toHex((await store(memorySource(folder))).root)
    const data = async (path: string) => ((await (await fetch(`${at}/file/${cid}${path}`)).json()) as any).data
    t.same(
      (await data('')).map((e: any) => e.name),
      ['both.bin', 'empty', 'link', 'sub']
    )
    t.same(await data('/sub'), [{ name: 'one.txt', type: 'file', size: 500 }])
    t.match(await data('/link'), { type: 'symbolic', link: 'both.bin' })
    const got = await fetch(`${at}/file/${cid}/sub/one.txt`)
    t.equal(got.headers.get('content-disposition'), 'attachment; filename="one.txt"')
    t.ok(Buffer.from(await got.arrayBuffer()).equals(one))
    const both = Buffer.concat([one, two])
    const across = await fetch(`${at}/file/${cid}/both.bin`, { headers: { range: 'bytes=490-600' } })
    t.ok(Buffer.from(await across.arrayBuffer()).equals(both.subarray(490, 601)), 'a range over two fragments')
    t.equal((await (await fetch(`${at}/file/${cid}/empty`)).arrayBuffer()).byteLength, 0)
    t.equal(((await (await fetch(`${at}/file/${cid}/none`)).json()) as any).code, 104)
  })

  await t.test('types by name, tags of content, and nothing that runs in a browser', async t => {
    const get = (path: string, headers: Record<string, string> = {}) => fetch(`${at}${path}`, { headers })
    for (const [name, type] of [
      ['a.html', 'text/html; charset=utf-8'],
      ['A.PNG', 'image/png'],
      ['a.constructor', 'application/octet-stream'],
      ['none', 'application/octet-stream']
    ]) {
      const res = await get(`/file?root=${hex}&name=${name}`)
      t.equal(res.headers.get('content-type'), type, `${name}`)
      t.equal(res.headers.get('x-content-type-options'), 'nosniff')
      t.match(res.headers.get('content-security-policy'), /sandbox/)
      await res.body?.cancel()
    }
    for (const tag of ['*', `"x", W/"${hex}"`]) {
      t.equal((await get(`/file?root=${hex}`, { 'if-none-match': tag })).status, 304, tag)
    }
    const several = await get(`/file?root=${hex}`, { range: 'bytes=0-1,4-5' })
    t.equal(several.status, 200, 'several ranges are answered by the whole, as HTTP allows')
    await several.body?.cancel()
    const changed = await get(`/file?root=${hex}`, { range: 'bytes=0-1', 'if-range': '"old"' })
    t.equal(changed.status, 200)
    await changed.body?.cancel()
  })

  await t.test('a form: files, folders, and what is refused before anything is paid', async t => {
    const post = async (body: FormData | string, query = '', headers: Record<string, string> = {}) => {
      const res = await fetch(`${paying.url}/v1/file${query}`, { method: 'POST', body, headers })
      return { status: res.status, body: (await res.json()) as any }
    }
    const form = (...files: [name: string, bytes: Uint8Array][]): FormData => {
      const f = new FormData()
      for (const [name, b] of files) f.append('file', new Blob([new Uint8Array(b)]), name)
      return f
    }
    const one = content('form one', 300_000)
    const two = content('form two', 5)
    const plain = await post(form(['a.txt', one], ['b.txt', two]))
    t.equal(plain.status, 200)
    t.same(
      plain.body.files.map((f: any) => [f.name, f.root, f.size]),
      [
        ['a.txt', toHex(hashBytes(one).root), 300_000],
        ['b.txt', toHex(hashBytes(two).root), 5]
      ]
    )
    const folder = await post(form(['x/a.txt', one], ['x/y/b.txt', two], ['e', new Uint8Array(0)]), '?folder=site')
    const inner = await fetch(`${at}/file/${folder.body.folder.root}/x/y/b.txt`)
    t.ok(Buffer.from(await inner.arrayBuffer()).equals(two))
    const paid = chain.sent.length
    for (const [what, body, query, headers] of [
      ['a way out', form(['../a', one]), '?folder=x', {}],
      ['an absolute name', form(['/a', one]), '?folder=x', {}],
      ['a device', form(['con', one]), '?folder=x', {}],
      ['a name twice', form(['a', one], ['a', two]), '?folder=x', {}],
      ['a file as a folder', form(['a', one], ['a/b', two]), '?folder=x', {}],
      ['too large', form(['a', content('large', 2_100_000)]), '', {}],
      ['empty', form(['a', new Uint8Array(0)]), '', {}],
      ['no file', form(), '', {}],
      ['no form', 'x', '', { 'content-type': 'text/plain' }],
      [
        'cut off',
        '--b\r\ncontent-disposition: form-data; name="f"; filename="a"\r\n\r\nhalf',
        '',
        {
          'content-type': 'multipart/form-data; boundary=b'
        }
      ],
      ['bad tags', form(['a', one]), '?tags=0xzz', {}]
    ] as [string, FormData | string, string, Record<string, string>][]) {
      const r = await post(body, query, headers)
      t.equal(r.status, 400, `${what}: ${r.body.error?.message}`)
    }
    t.equal(chain.sent.length, paid, 'nothing was paid for any of them')
    const raw = await fetch(`${paying.url}/v1/file`, { method: 'PUT', body: content('raw body', 1000) })
    t.equal(raw.status, 200)
    t.equal((await fetch(`${paying.url}/v1/file`, { method: 'PUT', body: '' })).status, 400)
  })

  await t.test('a file that was given up is told apart from one that never was', async t => {
    const bytes = content('given up', 3000)
    const { root: gone, seq: goneSeq } = await store(memorySource(bytes))
    for (const name of ['a', 'b']) await callSocket(join(dir, `${name}.sock`), 'admin_pruneFile', [goneSeq])
    const res = await fetch(`${at}/file?root=${toHex(gone)}`)
    t.same([res.status, ((await res.json()) as any).code], [200, 102])
    t.equal((await fetch(`${at}/v1/segment/${toHex(gone)}/0`)).status, 410)
  })

  await t.test('nodes that others tell of are listed once they prove themselves', async t => {
    const told: (string | null)[] = []
    const teller = await through(urls[0]!, req =>
      req.url === '/v1/peers'
        ? { status: 200, body: Buffer.from(JSON.stringify({ peers: told.map(url => ({ id: 'x', url })) })) }
        : undefined
    )
    const liar = await through(urls[1]!, (_, body) => ({
      body: Buffer.from(body.toString().replace('"chainId":31337', '"chainId":1'))
    }))
    told.push(urls[1]!, liar, null, 'ftp://127.0.0.1/', 'http://user@127.0.0.1/', 'nonsense', 'http://127.0.0.1:1')
    const nodesOf = new NodePool({ nodes: [teller] })
    const small = new NodeBook([nodesOf.node(teller)], systemClock, silentLog)
    const end = new AbortController()
    const work = [
      small.run(end.signal, () => {}),
      runDiscovery({ book: small, pool: nodesOf, clock: systemClock, log: silentLog }, end.signal)
    ]
    const methods = indexerMethods(small, { '127.0.0.1': { city: 'here' }, '10.1.1.1': { city: 'there' } })
    const call = (name: string, ...params: unknown[]) => methods[name]!(params, {} as never) as any
    await waitFor(() => small.livingDiscovered().length > 0, { what: 'a discovered node', timeoutMs: 25_000 })
    await waitFor(() => small.discovered.every(e => e.up || e.failures > 0), { what: 'all asked', timeoutMs: 10_000 })
    t.same(
      small.discovered.map(e => [e.node.url, e.up]),
      [
        [urls[1]!, true],
        [liar, false],
        ['http://127.0.0.1:1', false]
      ]
    )
    t.match(small.discovered[1]!.problem, /another network/)
    const listed = call('indexer_getShardedNodes')
    t.same([listed.trusted.length, listed.discovered.map((n: any) => n.url)], [1, [urls[1]]])
    const mixed = call('indexer_getSelectedNodes', 2, 'min', false, [])
    t.same([mixed.trusted[0].url, mixed.discovered[0].url], [teller, urls[1]])
    t.throws(() => call('indexer_getSelectedNodes', 2, 'min', true, []), { code: -32000 })
    t.same(call('indexer_getNodeLocations'), { '127.0.0.1': { city: 'here' } })
    t.same(urlsOf({ a: { httpUrl: 'http://a' }, b: { seenIps: ['1.2.3.4', 'x', '::1'] }, c: 5 }), [
      'http://a',
      'http://1.2.3.4:5678',
      'http://[::1]:5678'
    ])
    for (const inside of [
      'http://127.0.0.1',
      'http://[::1]:1',
      'http://[::ffff:10.0.0.1]',
      'http://192.168.1.1',
      'http://box'
    ])
      t.notOk(believable(inside, 'http://203.0.113.7:5678'), `${inside} told by a stranger`)
    t.ok(
      believable('http://203.0.113.8', 'http://203.0.113.7:5678') && believable('http://10.0.0.1', 'http://10.0.0.2')
    )
    for (const bad of ['[]', '{', '{"x": {}}', '{"1.2.3.4": {"city": 1}}'])
      t.throws(() => parseLocations(bad), { code: 'ERR_CONFIG' }, bad)
    t.match(parseLocations('{"1.2.3.4": {"city": "Ulm"}}'), { '1.2.3.4': { city: 'Ulm', timezone: '' } })
    end.abort()
    await Promise.all(work)
  })

  await t.test('a node that dies is not listed ten seconds later, one that fails often stands last', async t => {
    let alive = true
    const dying = await through(urls[1]!, () => (alive ? undefined : 'cut'))
    const p = new NodePool({ nodes: [urls[0]!, dying] })
    const clock = steppedClock()
    const small = new NodeBook([p.node(urls[0]!), p.node(dying)], clock, silentLog)
    const end = new AbortController()
    const work = small.run(end.signal, () => {})
    await clock.round()
    t.equal(small.living().length, 2)
    alive = false
    const from = clock.monotonic()
    let steadyFirst = 0
    while (small.living().length === 2) {
      await clock.round()
      if (small.living()[0]!.node.url === urls[0]) steadyFirst++
    }
    t.ok(clock.monotonic() - from <= 10_000, `dropped after ${clock.monotonic() - from} ms`)
    t.ok(steadyFirst > 0)
    alive = true
    await clock.round()
    t.equal(small.living().length, 2, 'and taken back after one good answer')
    for (let i = 0; i < 4; i++) t.equal(small.living()[0]!.node.url, urls[0], 'behind the steady one at first')
    end.abort()
    clock.end()
    await work
  })
  t.same(bugs, [])
})

/** A clock of which the time passes only in sleeps, one sleep a round. */
function steppedClock() {
  let ms = 0
  let wake: (() => void) | undefined
  let asleep: (() => void) | undefined
  return {
    now: () => ms,
    monotonic: () => ms,
    after: () => () => {},
    sleep: (n: number) =>
      new Promise<void>(resolve => {
        wake = () => {
          ms += n
          resolve()
        }
        asleep?.()
      }),
    /** Lets the next round run to its end. */
    async round(): Promise<void> {
      const done = new Promise<void>(resolve => {
        asleep = resolve
      })
      const go = wake
      wake = undefined
      go?.()
      await done
    },
    end: () => wake?.()
  }
}

t.test('ranges are read as HTTP says', async t => {
  t.same(parseRange('bytes=0-0', 10), [0, 1])
  t.same(parseRange('bytes=5-', 10), [5, 10])
  t.same(parseRange('bytes=-3', 10), [7, 10])
  t.same(parseRange('bytes=-30', 10), [0, 10])
  t.same(parseRange('bytes=2-99', 10), [2, 10])
  t.equal(parseRange('bytes=10-', 10), 'unsatisfiable')
  t.equal(parseRange('bytes=-0', 10), 'unsatisfiable')
  for (const whole of [undefined, 'bytes=5-2', 'bytes=0-1,3-4', 'lines=1-2', 'bytes=-'])
    t.equal(parseRange(whole, 10), undefined)
})
