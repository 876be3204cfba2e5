/** What the parts of bench/store.ts share: rows, processes and what they used, exchanges over HTTP, files of random bytes. Linux only. */
import { randomFillSync } from 'node:crypto'
import { closeSync, openSync, readFileSync, writeSync } from 'node:fs'
import { type Agent, request } from 'node:http'
import { tmpdir } from 'node:os'
import { parseArgs } from 'node:util'
import { parseSize } from '../../lib/base/units.ts'
import type { FlowChainServer, TestFile } from '../../test/harness/flow-chain.ts'
import { testFile } from '../../test/harness/flow-chain.ts'
import { startTool, waitFor } from '../../test/harness/tools.ts'

/** Options that every part takes; those of its own beside them. */
export function options(more: Record<string, { type: 'string' | 'boolean' }> = {}): {
  size: number
  dir: string
  values: Record<string, string | boolean | undefined>
} {
  const { values } = parseArgs({
    options: { size: { type: 'string', default: '1GiB' }, dir: { type: 'string', default: tmpdir() }, ...more }
  })
  const all = values as Record<string, string | boolean | undefined>
  return { size: parseSize(String(all.size)), dir: String(all.dir), values: all }
}

export interface Usage {
  cpuSeconds: number
  peakMib: number
}

export interface Row {
  name: string
  bytes: number
  seconds: number
  node?: Usage | undefined
  client?: Usage | undefined
  more?: Record<string, unknown>
}

/** One line: the rate, processor seconds for a GB (10⁹ bytes) and most resident memory of both sides. */
export function print({ name, bytes, seconds, node, client, more }: Row): void {
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

export function round(x: number): number {
  return Number(x.toFixed(2))
}

/** A file of random bytes, on the disk and out of the page cache's way as far as a sync does that. */
export function writeRandom(path: string, size: number): void {
  const fd = openSync(path, 'w')
  const piece = new Uint8Array(4 * 1024 * 1024)
  for (let at = 0; at < size; at += piece.length) {
    randomFillSync(piece)
    writeSync(fd, piece, 0, Math.min(piece.length, size - at))
  }
  closeSync(fd)
}

export function random(size: number): Uint8Array {
  const bytes = new Uint8Array(size)
  for (let at = 0; at < size; at += 65_536) randomFillSync(bytes, at, Math.min(65_536, size - at))
  return bytes
}

export function randomFile(size: number): TestFile {
  return testFile(random(size))
}

// ---- processes

export interface NodeProcess {
  url: string
  port: number
  pid: number
  stop: () => Promise<void>
}

/** With PROFILE=DIR in the environment nodes leave a profile of V8 there, with PROFILE=perf names for `perf`. */
function profiled(): string[] {
  const into = process.env.PROFILE
  if (into === undefined) return []
  return into === 'perf' ? ['--perf-basic-prof'] : ['--cpu-prof', '--cpu-prof-interval', '500', '--cpu-prof-dir', into]
}

/** A storage node as users run it, from the built files. */
export async function startNode(dir: string, chain: string): Promise<NodeProcess> {
  const args = ['node', '--dir', dir, '--rpc-url', chain, '--rpc-port', '0']
  const node = await startTool('zg-store', args, { timeoutMs: 60_000, execArgv: profiled() })
  return {
    url: node.url.replace(/\/$/, ''),
    port: node.port,
    pid: node.pid,
    stop: async () => {
      await node.stop(30_000)
    }
  }
}

/** Has files submitted, and waits until the node has seen that. @returns their numbers. */
export async function submitted(
  node: NodeProcess,
  chain: FlowChainServer,
  files: readonly Pick<TestFile, 'size' | 'nodes'>[]
): Promise<number[]> {
  const seqs = chain.submit([...files])
  const ready = async () => ((await (await fetch(`${node.url}/ready`)).json()) as { next_tx_seq: number }).next_tx_seq
  await waitFor(async () => (await ready()) === seqs.at(-1)! + 1, { what: 'the events', timeoutMs: 60_000 })
  return seqs
}

export async function metric(node: NodeProcess, name: string): Promise<number> {
  const text = await (await fetch(`${node.url}/metrics`)).text()
  return Number(new RegExp(`^${name} (\\S+)`, 'm').exec(text)?.[1] ?? Number.NaN)
}

/** User and system seconds of a process so far, in hundredths. */
export function usageOf(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]!.split(' ')
  return (Number(fields[11]) + Number(fields[12])) / 100
}

export function since(pid: number, before: number): Usage {
  return { cpuSeconds: usageOf(pid) - before, peakMib: peakMib(pid) }
}

export function usageSince(own: NodeJS.CpuUsage): Usage {
  const u = process.cpuUsage(own)
  return { cpuSeconds: (u.user + u.system) / 1e6, peakMib: peakMib(process.pid) }
}

export function peakMib(pid: number): number {
  return Math.round(Number(/VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0) / 1024)
}

/** Runs `fn` between two looks at the clocks, and prints its row. */
export async function measured(
  node: NodeProcess,
  name: string,
  bytes: number,
  fn: () => Promise<Record<string, unknown>>
): Promise<void> {
  const before = usageOf(node.pid)
  const own = process.cpuUsage()
  const begun = performance.now()
  const more = await fn()
  const seconds = (performance.now() - begun) / 1000
  print({ name, bytes, seconds, node: since(node.pid, before), client: usageSince(own), more })
}

// ---- exchanges

export async function parallel<T>(
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
export function send(
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
        if (keep || res.statusCode !== 200) parts.push(d)
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
