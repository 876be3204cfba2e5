/**
 * How fast does one storage node take and give data? A node process and a client process on one machine; raw frames, raw reads and
 * JSON-RPC, each against a plain write + fsync and a plain read of the same bytes in the same run. Run: `node --import tsx bench/store-node.ts [MiB]`.
 */
import { spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { Agent, request } from 'node:http'
import { cpus, loadavg, tmpdir } from 'node:os'
import { join } from 'node:path'
import { encodeFrameHead } from '../cmd/zg-store/node/frame.ts'
import { concat } from '../lib/base/bytes.ts'
import { codec } from '../lib/native.ts'
import { startFlowChain, testFile, wireSegment } from '../test/harness/flow-chain.ts'
import { packageRoot, waitFor } from '../test/harness/tools.ts'

const MIB = Number(process.argv[2] ?? 128)
const ROUNDS = 3
const dir = mkdtempSync(join(tmpdir(), 'zg-bench-'))
const chain = await startFlowChain()
const options = JSON.stringify({ dir: join(dir, 'node'), chain: chain.url, rpcPort: 0 })
const child = spawn(
  process.execPath,
  ['--import', 'tsx', join(packageRoot, 'test/harness/store-node-process.ts'), options],
  {
    stdio: ['ignore', 'pipe', 'inherit']
  }
)
let line = ''
child.stdout.on('data', d => {
  line += d
})
await waitFor(() => line.includes('\n'), { timeoutMs: 30_000, what: 'the node' })
const url = new URL(JSON.parse(line).url)
const agent = new Agent({ keepAlive: true, maxSockets: 8 })

function send(method: string, path: string, body: Uint8Array | string | undefined): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const req = request({ host: url.hostname, port: url.port, method, path, agent }, res => {
      const parts: Buffer[] = []
      res.on('data', d => parts.push(d))
      res.on('end', () =>
        res.statusCode === 200 ? resolve(Buffer.concat(parts)) : reject(new Error(Buffer.concat(parts).toString()))
      )
    })
    req.on('error', reject)
    req.end(body)
  })
}

async function parallel<T>(items: readonly T[], width: number, fn: (item: T) => Promise<unknown>): Promise<void> {
  let next = 0
  await Promise.all(
    Array.from({ length: width }, async () => {
      for (let i = next++; i < items.length; i = next++) await fn(items[i]!)
    })
  )
}

const rows: Record<string, number[]> = {}
/** CPU seconds of the node so far: what a busy machine does not distort. */
async function nodeCpu(): Promise<number> {
  const text = (await send('GET', '/metrics', undefined)).toString()
  return Number(/^process_cpu_seconds_total (\S+)/m.exec(text)?.[1])
}

const cpu: Record<string, number[]> = {}
async function timed(name: string, bytes: number, fn: () => Promise<void>): Promise<void> {
  const before = await nodeCpu()
  const begun = performance.now()
  await fn()
  const rate = bytes / 1e6 / ((performance.now() - begun) / 1000)
  rows[name] = [...(rows[name] ?? []), rate]
  cpu[name] = [...(cpu[name] ?? []), ((await nodeCpu()) - before) / (bytes / 1e9)]
}

for (let round = 0; round < ROUNDS; round++) {
  const bytes = new Uint8Array(randomBytes(MIB * 1024 * 1024))
  const half = bytes.length / 2
  const files = [testFile(bytes.subarray(0, half)), testFile(bytes.subarray(half))]
  const [rawSeq, jsonSeq] = chain.submit(files)
  const ready = async () => ((await (await fetch(`${url}ready`)).json()) as { next_tx_seq: number }).next_tx_seq
  await waitFor(async () => (await ready()) === jsonSeq! + 1, { what: 'the event' })
  const frames: Uint8Array[] = []
  const [raw, json] = [files[0]!, files[1]!]
  for (let i = 0; i < raw.segments.length; i += 4) {
    const group = raw.segments.slice(i, i + 4).flatMap(g => {
      const head = { index: g.index, dataSize: g.data.length, fileSize: raw.size, root: raw.root }
      return [encodeFrameHead(head, { siblings: concat(...g.proof.lemma.slice(1, -1)), path: g.proof.path }), g.data]
    })
    frames.push(concat(...group))
  }
  const bodies = json.segments.map(g =>
    JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'zgs_uploadSegmentsByTxSeq', params: [[wireSegment(g)], jsonSeq] })
  )
  await timed('disk: write + fsync each 8 MiB', half, async () => {
    const f = await open(join(dir, 'plain'), 'w')
    for (let at = 0; at < half; at += 8 << 20) {
      await f.write(bytes, at, Math.min(8 << 20, half - at))
      await f.datasync()
    }
    await f.close()
  })
  await timed('put raw, 4 segments a request, 4 at a time', half, () =>
    parallel(frames, 4, b => send('PUT', `/v1/segments/${rawSeq}`, b))
  )
  await timed('put JSON-RPC, 8 at a time', half, () => parallel(bodies, 8, b => send('POST', '/', b)))
  const indices = raw.segments.map(g => g.index)
  await timed('get raw, 16 segments a request, 2 at a time', half, () =>
    parallel(
      indices.filter(i => i % 16 === 0),
      2,
      i => send('GET', `/v1/segments/${rawSeq}?first=${i}&count=16`, undefined)
    )
  )
  await timed('get JSON-RPC, 8 at a time', half, () =>
    parallel(json.segments, 8, g => {
      const params = [jsonSeq, g.index * 1024, g.index * 1024 + g.data.length / 256]
      return send('POST', '/', JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'zgs_downloadSegmentByTxSeq', params }))
    })
  )
}
for (const [name, rates] of Object.entries(rows)) {
  const sorted = [...rates].sort((a, b) => a - b)
  const seconds = [...cpu[name]!].sort((a, b) => a - b)[1]!
  const record = {
    name,
    node_cpu_seconds_per_gb: Number(seconds.toFixed(2)),
    mb_per_second: Math.round(sorted[1]!),
    least: Math.round(sorted[0]!),
    most: Math.round(sorted.at(-1)!)
  }
  process.stdout.write(`${JSON.stringify(record)}\n`)
}
const machine = {
  cpus: cpus().length,
  model: cpus()[0]?.model,
  load: loadavg()[0],
  codec: codec().cpu,
  file_mib: MIB / 2
}
process.stdout.write(`${JSON.stringify(machine)}\n`)
child.kill('SIGTERM')
await new Promise(resolve => child.once('close', resolve))
await chain.close()
agent.destroy()
rmSync(dir, { recursive: true, force: true })
