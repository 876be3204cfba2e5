/**
 * How many small files a second does a storage node accept, and what does one cost it? `node --import tsx bench/store/small.ts`.
 *
 * The submissions are known beforehand, so nothing here waits for a chain. Each put is a request of its own over kept connections, answered when
 * the file is final on stable storage; the client writes its requests from ready bytes, because client and node share the cores. Rows: through
 * the raw route (what `zg-store put` uses) and through JSON-RPC (what the SDKs use), then the same files read back and compared.
 * Beside them, in the same run: the same requests to a server that does nothing with them, and 4 KiB writes each with a sync of its own.
 *
 *   FILES=20000   files a row
 *   WIDTH=128     connections
 *   ONLY=raw      some of: limits, raw, json
 *   PROFILE=DIR   a processor profile of the node there
 */
import { randomFillSync } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { createServer } from 'node:http'
import { type AddressInfo, connect } from 'node:net'
import { cpus, loadavg, tmpdir } from 'node:os'
import { join } from 'node:path'
import { encodeFrameHead } from '../../cmd/zg-store/node/frame.ts'
import { concat } from '../../lib/base/bytes.ts'
import { codec } from '../../lib/native.ts'
import { startFlowChain, type TestFile, testFile, wireSegment } from '../../test/harness/flow-chain.ts'
import { waitFor } from '../../test/harness/tools.ts'
import { metric, peakMib, round, startNode, usageOf } from './lib.ts'

const FILES = Number(process.env.FILES ?? 20_000)
const WIDTH = Number(process.env.WIDTH ?? 128)
const FILE_BYTES = 4096
/** What a block of 30 million gas may hold. */
const PER_BLOCK = 100
const wanted = (row: string): boolean => process.env.ONLY?.split(',').includes(row) ?? true

const dir = mkdtempSync(join(tmpdir(), 'zg-bench-small-'))
const chain = await startFlowChain()
const node = await startNode(join(dir, 'node'), chain.url)
say({ row: 'node, idle', node_peak_mib: peakMib(node.pid) })
try {
  if (wanted('limits')) {
    await syncedWrites(join(dir, 'plain'))
    await idleServer()
  }
  if (wanted('raw')) {
    const files = makeFiles()
    await putAll('put, raw route', files, await submitted(files), rawPut, '"finalized":true')
    await getAll(files)
  }
  if (wanted('json')) {
    const files = makeFiles()
    await putAll('put, JSON-RPC', files, await submitted(files), jsonPut, '"result":1')
  }
  const machine = { cpus: cpus().length, model: cpus()[0]?.model, load: round(loadavg()[0]!), codec: codec().cpu }
  say({ row: 'machine', node: process.version, files: FILES, connections: WIDTH, ...machine })
} finally {
  await node.stop()
  await chain.close()
  rmSync(dir, { recursive: true, force: true })
}

// ---- rows

async function putAll(
  row: string,
  files: readonly TestFile[],
  seqs: readonly number[],
  request: (f: TestFile, seq: number) => Buffer,
  sign: string
): Promise<void> {
  const requests = files.map((f, i) => request(f, seqs[i]!))
  const syncs = await count('zg_store_segment_syncs_total')
  const before = usageOf(node.pid)
  const own = process.cpuUsage()
  const seconds = await exchange(node.port, requests, answer => answer.includes(sign))
  const { user, system } = process.cpuUsage(own)
  const made = (await count('zg_store_segment_syncs_total')) - syncs
  say({
    row,
    per_second: Math.round(files.length / seconds),
    node_cpu_ms_each: round(((usageOf(node.pid) - before) / files.length) * 1000),
    client_cpu_ms_each: round((user + system) / 1000 / files.length),
    puts_per_sync: round(files.length / made),
    node_peak_mib: peakMib(node.pid)
  })
}

async function getAll(files: readonly TestFile[]): Promise<void> {
  const requests = files.map(f =>
    Buffer.from(`GET /v1/segment/0x${Buffer.from(f.root).toString('hex')}/0 HTTP/1.1\r\nhost: localhost\r\n\r\n`)
  )
  const before = usageOf(node.pid)
  const seconds = await exchange(node.port, requests, (answer, i) =>
    answer.endsWith(Buffer.from(files[i]!.bytes).toString('latin1'))
  )
  say({
    row: 'get, raw route',
    per_second: Math.round(files.length / seconds),
    node_cpu_ms_each: round(((usageOf(node.pid) - before) / files.length) * 1000)
  })
}

/** The limit of HTTP: a server of the same kind that reads each body and drops it. */
async function idleServer(): Promise<void> {
  const server = createServer((req, res) => {
    req.on('data', () => {})
    req.on('end', () => res.end('{"finalized":true}'))
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const body = Buffer.alloc(FILE_BYTES)
  const requests = Array.from({ length: FILES }, () => http('PUT', '/', body))
  const own = process.cpuUsage()
  const seconds = await exchange((server.address() as AddressInfo).port, requests, a => a.includes('true'))
  const { user, system } = process.cpuUsage(own)
  server.close()
  say({
    row: 'limit: HTTP in one process, nothing done',
    per_second: Math.round(FILES / seconds),
    cpu_ms_each: round((user + system) / 1000 / FILES)
  })
}

/** What the disk gives when each file has a sync of its own. */
async function syncedWrites(path: string): Promise<void> {
  const bytes = new Uint8Array(FILE_BYTES)
  randomFillSync(bytes)
  const f = await open(path, 'w')
  const begun = performance.now()
  let count = 0
  for (; performance.now() - begun < 1_000; count++) {
    await f.write(bytes, 0, bytes.length, count * FILE_BYTES)
    await f.datasync()
  }
  const seconds = (performance.now() - begun) / 1000
  await f.close()
  say({ row: 'limit: disk, a sync each', per_second: Math.round(count / seconds) })
}

// ---- requests

function makeFiles(): TestFile[] {
  return Array.from({ length: FILES }, () => {
    const bytes = new Uint8Array(FILE_BYTES)
    randomFillSync(bytes)
    return testFile(bytes)
  })
}

async function submitted(files: readonly TestFile[]): Promise<number[]> {
  const seqs: number[] = []
  for (let i = 0; i < files.length; i += PER_BLOCK) seqs.push(...chain.submit(files.slice(i, i + PER_BLOCK)))
  const next = async () => ((await (await fetch(`${node.url}/ready`)).json()) as { next_tx_seq: number }).next_tx_seq
  const before = usageOf(node.pid)
  await waitFor(async () => (await next()) === seqs.at(-1)! + 1, { what: 'the events', timeoutMs: 120_000 })
  say({ row: 'events read', node_cpu_ms_each: round(((usageOf(node.pid) - before) / files.length) * 1000) })
  return seqs
}

function http(method: string, path: string, body: Uint8Array): Buffer {
  const head = `${method} ${path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n`
  return Buffer.concat([Buffer.from(head), body])
}

function rawPut(f: TestFile, seq: number): Buffer {
  const head = { index: 0, dataSize: FILE_BYTES, fileSize: f.size, root: f.root }
  return http(
    'PUT',
    `/v1/segments/${seq}`,
    concat(encodeFrameHead(head, { siblings: new Uint8Array(0), path: [] }), f.bytes)
  )
}

function jsonPut(f: TestFile, seq: number): Buffer {
  const params = [[wireSegment(f.segments[0]!)], seq]
  return http(
    'POST',
    '/',
    Buffer.from(JSON.stringify({ jsonrpc: '2.0', id: seq, method: 'zgs_uploadSegmentsByTxSeq', params }))
  )
}

/**
 * Sends all requests over WIDTH connections, one at a time on each.
 * @returns seconds.
 * @throws {Error} for an answer that `good` does not like.
 */
async function exchange(
  port: number,
  requests: readonly Buffer[],
  good: (answer: string, i: number) => boolean
): Promise<number> {
  let next = 0
  const begun = performance.now()
  await Promise.all(Array.from({ length: Math.min(WIDTH, requests.length) }, () => connection()))
  return (performance.now() - begun) / 1000

  function connection(): Promise<void> {
    return new Promise((resolve, reject) => {
      const socket = connect(port, '127.0.0.1')
      socket.setNoDelay(true)
      let current = 0
      let text = ''
      const send = (): void => {
        if (next >= requests.length) {
          socket.end()
          resolve()
          return
        }
        current = next++
        text = ''
        socket.write(requests[current]!)
      }
      socket.on('connect', send)
      socket.on('error', reject)
      socket.on('close', () => (next >= requests.length ? resolve() : reject(new Error('connection closed'))))
      socket.on('data', (piece: Buffer) => {
        text += piece.toString('latin1')
        const end = text.indexOf('\r\n\r\n')
        if (end < 0) return
        const length = /content-length: (\d+)/i.exec(text.slice(0, end))
        if (length === null ? !text.endsWith('0\r\n\r\n') : text.length < end + 4 + Number(length[1])) return
        if (!good(text, current)) reject(new Error(text.slice(0, 300)))
        else send()
      })
    })
  }
}

// ---- node

/** Its own count of something. */
function count(name: string): Promise<number> {
  return metric(node, name)
}

function say(row: Record<string, unknown>): void {
  process.stdout.write(`${JSON.stringify(row)}\n`)
}
