/**
 * How fast is a storage node, and what bounds it? One command, one machine, every figure beside its limit measured in the same run.
 *
 *   npm run bench:store -- [--size 1GiB] [--quick] [--only put,get]
 *
 * The node and the client are processes of their own on the same cores: durable writes and verification on, files many times larger than
 * their windows. Chain: the stub of test/harness/flow-chain.ts, so that no block time is in the figures. One JSON line a row:
 * rate, processor seconds of node and client for a GB (10⁹ bytes), most resident memory of both. Limits first:
 *
 *   limit: tree          Merkle root of the file, one core, the plain one-lane path in C
 *   limit: http          the same bytes over HTTP between two processes, nothing done with them
 *   limit: disk          the same bytes written in 4 MiB pieces, synced after each 8
 *   peer: sdk hashing    merkleTree() of the newest SDK, 16 MiB: its own ceiling, hashed twice an upload
 *
 * A MinIO or another object store would stand here too: neither Debian nor npm carries one that is more than a test double.
 */
import { fork, spawn } from 'node:child_process'
import { randomFillSync } from 'node:crypto'
import { closeSync, existsSync, mkdtempSync, openSync, readFileSync, rmSync, writeSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { Agent, createServer, request } from 'node:http'
import { createRequire } from 'node:module'
import type { AddressInfo } from 'node:net'
import { cpus, loadavg, tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { encodeFrameHead } from '../cmd/zg-store/node/frame.ts'
import { concat } from '../lib/base/bytes.ts'
import { fromHex, toHex } from '../lib/base/hex.ts'
import { parseSize } from '../lib/base/units.ts'
import { RemoteFile } from '../lib/clients/store/get.ts'
import { NodePool } from '../lib/clients/store/nodes.ts'
import { hashSource } from '../lib/clients/store/put.ts'
import { openSource, type Source } from '../lib/clients/store/source.ts'
import { fileToSend, uploadTo } from '../lib/clients/store/upload.ts'
import { codec } from '../lib/native.ts'
import {
  type FlowChainServer,
  startFlowChain,
  type TestFile,
  testFile,
  wireSegment
} from '../test/harness/flow-chain.ts'
import { packageRoot, waitFor } from '../test/harness/tools.ts'

const { values } = parseArgs({
  options: {
    size: { type: 'string', default: '1GiB' },
    quick: { type: 'boolean', default: false },
    only: { type: 'string' },
    role: { type: 'string' },
    dir: { type: 'string' }
  }
})
const SIZE = values.quick ? 64 * 1024 * 1024 : parseSize(values.size)
const wanted = (name: string): boolean => values.only === undefined || values.only.split(',').includes(name)

if (values.role === undefined) await main()
else await client(values.role)

interface Row {
  name: string
  bytes: number
  seconds: number
  node?: Usage | undefined
  client?: Usage | undefined
  more?: Record<string, unknown>
}

interface Usage {
  cpuSeconds: number
  peakMib: number
}

function print({ name, bytes, seconds, node, client, more }: Row): void {
  const perGb = (u: Usage | undefined) => (u === undefined ? undefined : round(u.cpuSeconds / (bytes / 1e9)))
  const row = {
    row: name,
    mb_per_second: Math.round(bytes / 1e6 / seconds),
    seconds: round(seconds),
    node_cpu_s_per_gb: perGb(node),
    client_cpu_s_per_gb: perGb(client),
    node_peak_mib: node?.peakMib,
    client_peak_mib: client?.peakMib,
    ...more
  }
  process.stdout.write(`${JSON.stringify(row)}\n`)
}

function round(x: number): number {
  return Number(x.toFixed(2))
}

async function main(): Promise<void> {
  const dir = mkdtempSync(join(values.dir ?? tmpdir(), 'zg-bench-store-'))
  const chain = await startFlowChain()
  const node = await startNode(join(dir, 'node'), chain.url)
  try {
    const file = join(dir, 'file')
    writeRandom(file, SIZE)
    if (wanted('limits')) await limits(dir, file)
    if (wanted('put') || wanted('get')) await putAndGet(node, chain, file)
    if (wanted('json')) await json(node, chain)
    if (wanted('parallel')) await parallelUploads(node, chain)
    if (wanted('small')) await small(node, chain)
    const machine = { cpus: cpus().length, model: cpus()[0]?.model, load: round(loadavg()[0]!), codec: codec().cpu }
    process.stdout.write(`${JSON.stringify({ row: 'machine', node: process.version, size: SIZE, ...machine })}\n`)
  } finally {
    node.child.kill('SIGTERM')
    await node.ended
    await chain.close()
    rmSync(dir, { recursive: true, force: true })
  }
}

function writeRandom(path: string, size: number): void {
  const fd = openSync(path, 'w')
  const piece = new Uint8Array(4 * 1024 * 1024)
  for (let at = 0; at < size; at += piece.length) {
    randomFillSync(piece)
    writeSync(fd, piece, 0, Math.min(piece.length, size - at))
  }
  closeSync(fd)
}

// ---- limits and peers

async function limits(dir: string, file: string): Promise<void> {
  const part = readFileSync(file).subarray(0, Math.min(SIZE, 64 * 1024 * 1024))
  const data = new Uint8Array(part.buffer, part.byteOffset, part.length)
  for (const cpu of ['generic', codec().cpu]) {
    const own = process.cpuUsage()
    const begun = performance.now()
    codec().segmentRootsFlat(data, undefined, cpu)
    const seconds = (performance.now() - begun) / 1000
    print({ name: `limit: tree, one core, ${cpu}`, bytes: data.length, seconds, client: usageSince(own) })
  }
  await diskLimit(join(dir, 'plain'))
  await httpLimit()
  await sdkHashing()
}

async function diskLimit(path: string): Promise<void> {
  const piece = new Uint8Array(4 * 1024 * 1024)
  randomFillSync(piece)
  const own = process.cpuUsage()
  const begun = performance.now()
  const f = await open(path, 'w')
  for (let at = 0, n = 0; at < SIZE; at += piece.length) {
    await f.write(piece, 0, piece.length, at)
    if (++n % 2 === 0) await f.datasync()
  }
  await f.datasync()
  const seconds = (performance.now() - begun) / 1000
  await f.close()
  print({ name: 'limit: disk, write and sync', bytes: SIZE, seconds, client: usageSince(own) })
  rmSync(path)
}

async function httpLimit(): Promise<void> {
  const sink = fork(fileURLToPath(import.meta.url), ['--role', 'sink'], { execArgv: process.execArgv })
  const port = await new Promise<number>(resolve => sink.once('message', m => resolve(m as number)))
  const body = Buffer.alloc(1024 * 1024, 7)
  const agent = new Agent({ keepAlive: true, maxSockets: 8 })
  for (const [name, method] of [
    ['limit: http up, nothing done with it', 'PUT'],
    ['limit: http down, nothing done with it', 'GET']
  ] as const) {
    const before = usageOf(sink.pid!)
    const own = process.cpuUsage()
    const begun = performance.now()
    const items = Array.from({ length: Math.ceil(SIZE / body.length) }, (_, i) => i)
    await parallel(items, 4, () => send(port, agent, method, '/', method === 'PUT' ? [body] : []))
    const seconds = (performance.now() - begun) / 1000
    print({ name, bytes: SIZE, seconds, node: since(sink.pid!, before), client: usageSince(own) })
  }
  agent.destroy()
  sink.kill('SIGTERM')
  await new Promise(resolve => sink.once('close', resolve))
}

async function sdkHashing(): Promise<void> {
  const bench = join(packageRoot, 'bench', 'package.json')
  const where = existsSync(join(packageRoot, 'bench/node_modules/@0gfoundation/0g-ts-sdk')) ? bench : undefined
  if (where === undefined) return
  const require = createRequire(where)
  const sdk = require('@0gfoundation/0g-ts-sdk') as {
    MemData: new (b: Uint8Array) => { merkleTree(): Promise<[{ rootHash(): string | null } | null, unknown]> }
  }
  const bytes = new Uint8Array(values.quick ? 4 * 1024 * 1024 : 16 * 1024 * 1024)
  for (let at = 0; at < bytes.length; at += 65_536) randomFillSync(bytes, at, 65_536)
  const own = process.cpuUsage()
  const begun = performance.now()
  const [tree, err] = await new sdk.MemData(bytes).merkleTree()
  if (err !== null || tree?.rootHash() !== toHex(testFile(bytes).root))
    throw new Error(`the SDK finds another root ${err}`)
  const seconds = (performance.now() - begun) / 1000
  print({ name: 'peer: sdk hashing, once of the two times', bytes: bytes.length, seconds, client: usageSince(own) })
}

// ---- put and get with zg's own client

async function putAndGet(node: NodeProcess, chain: FlowChainServer, file: string): Promise<void> {
  let root = ''
  if (wanted('put') || wanted('get')) {
    const before = usageOf(node.pid)
    const put = fork(fileURLToPath(import.meta.url), ['--role', 'put'], { execArgv: process.execArgv })
    put.send({ url: node.url, file })
    const done = await new Promise<Message>((resolve, reject) => {
      put.once('close', code => reject(new Error(`the client ended with ${code}`)))
      put.on('message', m => {
        const message = m as Message
        if (message.nodes !== undefined) {
          const nodes = message.nodes.map(n => ({ height: n.height, root: fromHex(n.root, 'root') }))
          put.send({ seq: chain.submit([{ size: SIZE, nodes }])[0] })
        } else resolve(message)
      })
    })
    root = done.root!
    const { hashSeconds, sendSeconds, client } = done
    const more = { hash_seconds: round(hashSeconds!), send_mb_per_second: Math.round(SIZE / 1e6 / sendSeconds!) }
    const seconds = hashSeconds! + sendSeconds!
    print({
      name: 'put, zg client, hashed and durable',
      bytes: SIZE,
      seconds,
      node: since(node.pid, before),
      client,
      more
    })
  }
  for (const name of ['get, zg client, verified, first read', 'get, zg client, verified, again']) {
    const before = usageOf(node.pid)
    const get = fork(fileURLToPath(import.meta.url), ['--role', 'get'], { execArgv: process.execArgv })
    get.send({ url: node.url, root })
    const done = await new Promise<Message>((resolve, reject) => {
      get.once('close', code => reject(new Error(`the client ended with ${code}`)))
      get.on('message', m => resolve(m as Message))
    })
    const { sendSeconds, client } = done
    print({ name, bytes: SIZE, seconds: sendSeconds!, node: since(node.pid, before), client })
  }
}

interface Message {
  nodes?: { height: number; root: string }[]
  root?: string
  hashSeconds?: number
  sendSeconds?: number
  client?: Usage
}

/** The other side, in a process of its own. */
async function client(role: string): Promise<void> {
  if (role === 'sink') return sink()
  const own = process.cpuUsage()
  const task = (await new Promise(resolve => process.once('message', resolve))) as Record<string, string>
  const pool = new NodePool({ nodes: [task.url!] })
  const done = (message: Message): void => {
    process.send!({ ...message, client: { ...usageSince(own), peakMib: peakMib(process.pid) } }, () => process.exit(0))
  }
  if (role === 'get') {
    const begun = performance.now()
    const file = await RemoteFile.open(pool, fromHex(task.root!, 'root'))
    let bytes = 0
    for await (const segment of file.segments()) bytes += segment.length
    if (bytes !== file.sizeBytes) throw new Error('too little came')
    return done({ sendSeconds: (performance.now() - begun) / 1000 })
  }
  const begun = performance.now()
  const source = (await openSource(task.file!)) as Source
  const hash = await hashSource(source)
  const hashSeconds = (performance.now() - begun) / 1000
  process.send!({ nodes: hash.nodes.map(n => ({ height: n.height, root: toHex(n.root) })) })
  const { seq } = (await new Promise(resolve => process.once('message', resolve))) as { seq: number }
  const sent = performance.now()
  const [member] = await pool.members()
  await uploadTo(member!, fileToSend(hash, source, seq), { entryMs: 30_000, sealMs: 60_000 })
  done({ root: toHex(hash.root), hashSeconds, sendSeconds: (performance.now() - sent) / 1000 })
}

function sink(): void {
  const body = Buffer.alloc(1024 * 1024, 7)
  const server = createServer((req, res) => {
    req.on('data', () => {})
    req.on('end', () => (req.method === 'GET' ? res.end(body) : res.end()))
  })
  server.listen(0, '127.0.0.1', () => process.send!((server.address() as AddressInfo).port))
  process.once('SIGTERM', () => process.exit(0))
}

// ---- what other clients do

async function submitted(node: NodeProcess, chain: FlowChainServer, files: TestFile[]): Promise<number[]> {
  const seqs = chain.submit(files)
  const ready = async () => ((await (await fetch(`${node.url}/ready`)).json()) as { next_tx_seq: number }).next_tx_seq
  await waitFor(async () => (await ready()) === seqs.at(-1)! + 1, { what: 'the events', timeoutMs: 60_000 })
  return seqs
}

function randomFile(size: number): TestFile {
  const bytes = new Uint8Array(size)
  for (let at = 0; at < size; at += 65_536) randomFillSync(bytes, at, Math.min(65_536, size - at))
  return testFile(bytes)
}

function uploadBody(f: TestFile, index: number, seq: number): Buffer {
  const params = [[wireSegment(f.segments[index]!)], seq]
  return Buffer.from(JSON.stringify({ jsonrpc: '2.0', id: index, method: 'zgs_uploadSegmentsByTxSeq', params }))
}

async function measured(node: NodeProcess, name: string, bytes: number, fn: () => Promise<Record<string, unknown>>) {
  const before = usageOf(node.pid)
  const own = process.cpuUsage()
  const begun = performance.now()
  const more = await fn()
  const seconds = (performance.now() - begun) / 1000
  print({ name, bytes, seconds, node: since(node.pid, before), client: usageSince(own), more })
}

async function json(node: NodeProcess, chain: FlowChainServer): Promise<void> {
  const file = randomFile(Math.min(SIZE, 256 * 1024 * 1024))
  const [seq] = await submitted(node, chain, [file])
  const bodies = file.segments.map(g => uploadBody(file, g.index, seq!))
  const agent = new Agent({ keepAlive: true, maxSockets: 32 })
  await measured(node, 'upload by JSON-RPC, 32 clients', file.size, async () => {
    await parallel(bodies, 32, async b => {
      const text = await send(node.port, agent, 'POST', '/', [b], true)
      if (!text.includes('"result":1')) throw new Error(text.slice(0, 200))
    })
    return {}
  })
  await measured(node, 'download by JSON-RPC, 32 clients', file.size, async () => {
    await parallel(file.segments, 32, async g => {
      const params = [seq, g.index * 1024, g.index * 1024 + g.data.length / 256]
      const call = JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'zgs_downloadSegmentByTxSeq', params })
      await send(node.port, agent, 'POST', '/', [Buffer.from(call)])
    })
    return {}
  })
  agent.destroy()
}

/** What one SDK call does with a file of that many segments: a connection each, all at the same time. */
async function parallelUploads(node: NodeProcess, chain: FlowChainServer): Promise<void> {
  const count = Math.min(4096, SIZE / 262_144)
  const file = randomFile(count * 262_144)
  const [seq] = await submitted(node, chain, [file])
  const bodies = file.segments.map(g => uploadBody(file, g.index, seq!))
  await measured(node, `${count} JSON-RPC uploads at the same time`, file.size, async () => {
    const agent = new Agent({ keepAlive: false, maxSockets: count })
    let slowest = 0
    let retries = 0
    await Promise.all(
      bodies.map(async b => {
        const begun = performance.now()
        const text = await send(node.port, agent, 'POST', '/', [b], true).catch(String)
        if (!/"result":1|already uploaded and finalized/.test(text)) retries++
        slowest = Math.max(slowest, performance.now() - begun)
      })
    )
    agent.destroy()
    return { retries, slowest_seconds: round(slowest / 1000) }
  })
}

async function small(node: NodeProcess, chain: FlowChainServer): Promise<void> {
  const count = values.quick ? 2_000 : 10_000
  const files = Array.from({ length: count }, () => randomFile(4096))
  const seqs = await submitted(node, chain, files)
  const bodies = files.map(f => {
    const head = { index: 0, dataSize: 4096, fileSize: f.size, root: f.root }
    return concat(encodeFrameHead(head, { siblings: new Uint8Array(0), path: [] }), f.bytes)
  })
  const agent = new Agent({ keepAlive: true, maxSockets: 128 })
  const before = await metric(node, 'zg_store_segment_syncs_total')
  await measured(node, 'small files of 4 KiB, 128 at a time', 4096 * count, async () => {
    const begun = performance.now()
    await parallel(seqs, 128, async (seq, i) => {
      const text = await send(node.port, agent, 'PUT', `/v1/segments/${seq}`, [bodies[i]!], true)
      if (!text.includes('"finalized":true')) throw new Error(text.slice(0, 200))
    })
    const perSecond = Math.round(count / ((performance.now() - begun) / 1000))
    const syncs = (await metric(node, 'zg_store_segment_syncs_total')) - before
    return { puts_per_second: perSecond, syncs, puts_per_sync: round(count / syncs) }
  })
  agent.destroy()
}

async function metric(node: NodeProcess, name: string): Promise<number> {
  const text = await (await fetch(`${node.url}/metrics`)).text()
  return Number(new RegExp(`^${name} (\\S+)`, 'm').exec(text)?.[1] ?? Number.NaN)
}

// ---- processes

interface NodeProcess {
  url: string
  port: number
  pid: number
  child: ReturnType<typeof spawn>
  ended: Promise<unknown>
}

async function startNode(dir: string, chain: string): Promise<NodeProcess> {
  const options = JSON.stringify({ dir, chain, rpcPort: 0 })
  const script = join(packageRoot, 'test/harness/store-node-process.ts')
  const child = spawn(process.execPath, ['--import', 'tsx', script, options], {
    cwd: packageRoot,
    stdio: ['ignore', 'pipe', 'inherit']
  })
  let line = ''
  child.stdout!.on('data', d => {
    line += d
  })
  const ended = new Promise(resolve => child.once('close', resolve))
  await waitFor(() => line.includes('\n'), { timeoutMs: 30_000, what: 'the node' })
  const url = JSON.parse(line).url as string
  return { url: url.replace(/\/$/, ''), port: Number(new URL(url).port), pid: child.pid!, child, ended }
}

async function parallel<T>(
  items: readonly T[],
  width: number,
  fn: (item: T, i: number) => Promise<unknown>
): Promise<void> {
  let next = 0
  await Promise.all(
    Array.from({ length: width }, async () => {
      for (let i = next++; i < items.length; i = next++) await fn(items[i]!, i)
    })
  )
}

/** One exchange; the answer's text when `keep`, else '' and its bytes are dropped. */
function send(
  port: number,
  agent: Agent,
  method: string,
  path: string,
  body: readonly Uint8Array[],
  keep = false
): Promise<string> {
  return new Promise((resolve, reject) => {
    const length = body.reduce((sum, b) => sum + b.length, 0)
    const headers = { 'content-type': 'application/json', 'content-length': length }
    const req = request({ host: '127.0.0.1', port, method, path, agent, headers }, res => {
      const parts: Buffer[] = []
      res.on('data', d => {
        if (keep) parts.push(d)
      })
      res.on('end', () => {
        const text = Buffer.concat(parts).toString('latin1')
        if (res.statusCode === 200) resolve(text)
        else reject(new Error(`${res.statusCode} ${text.slice(0, 200)}`))
      })
      res.on('error', reject)
    })
    req.on('error', reject)
    for (const b of body) req.write(b)
    req.end()
  })
}

/** User and system seconds of a process so far, in hundredths. Linux only, as all of this. */
function usageOf(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]!.split(' ')
  return (Number(fields[11]) + Number(fields[12])) / 100
}

function since(pid: number, before: number): Usage {
  return { cpuSeconds: usageOf(pid) - before, peakMib: peakMib(pid) }
}

function usageSince(own: NodeJS.CpuUsage): Usage {
  const u = process.cpuUsage(own)
  return { cpuSeconds: (u.user + u.system) / 1e6, peakMib: peakMib(process.pid) }
}

function peakMib(pid: number): number {
  return Math.round(Number(/VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0) / 1024)
}
