/**
 * Question: does a node's memory grow with the load it has carried? One zg-chain node, transfers and swaps in turn for as long as wanted,
 * its resident memory read every few seconds.
 *
 *   npm run build && npm run bench:chain-soak -- --minutes 30 [--count 5000] [--rate TRANSACTIONS_A_SECOND] [--cache 16MiB]
 *
 * One JSON line a sample, with the node's own account of its memory (engine figures of /metrics, V8's heap), at the end the slope of a straight line through the last two thirds (means of a minute) in MB an hour, with its standard
 * error: a slope well above its error is a defect. No peer: the figure is the node's own.
 */
import { spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { parseArgs } from 'node:util'
import { cpuSeconds, residentBytes, runLoad } from '../cmd/zg-chain/bench/driver.ts'
import { WORKLOADS } from '../cmd/zg-chain/bench/workload.ts'
import { fromHex } from '../lib/base/hex.ts'
import { packageRoot } from '../lib/base/package-root.ts'
import { DEV_ACCOUNTS } from '../lib/crypto/dev-accounts.ts'

const { values: flags } = parseArgs({
  options: {
    minutes: { type: 'string', default: '30' },
    count: { type: 'string', default: '5000' },
    every: { type: 'string', default: '5' },
    rate: { type: 'string', default: '0' },
    // Small enough that the caches are full within minutes: what grows after that is a leak.
    cache: { type: 'string', default: '16MiB' }
  }
})
const MINUTES = Number(flags.minutes)
const dir = mkdtempSync(join(tmpdir(), 'zg-soak-'))
process.once('exit', () => rmSync(dir, { recursive: true, force: true }))

const child = spawn(
  process.execPath,
  [
    join(packageRoot(), 'bin/zg-chain'),
    'node',
    '--dev',
    '--dir',
    dir,
    '--rpc-port',
    '0',
    '--gas-limit',
    '500000000',
    '--cache',
    flags.cache,
    '--json'
  ],
  { stdio: ['ignore', 'pipe', 'inherit'], env: { ...process.env, NODE_OPTIONS: '' } }
)
const gone = new Promise<void>(resolve => child.once('close', () => resolve()))
const url = await new Promise<string>((resolve, reject) => {
  createInterface({ input: child.stdout }).on('line', line => {
    const record = JSON.parse(line) as { type: string; url: string }
    if (record.type === 'ready') resolve(record.url)
  })
  child.once('close', () => reject(new Error('the node did not start')))
})

/** Memory of the process itself, without pages of files. */
function anonymousBytes(pid: number): number {
  return Number(/^RssAnon:\s+([0-9]+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0) * 1024
}

/** What the node says of its memory, in MB by name. */
async function account(): Promise<Record<string, number>> {
  const text = await (await fetch(new URL('/metrics', url))).text()
  const out: Record<string, number> = {}
  for (const [, name, value] of text.matchAll(
    /^zg_chain_engine_((?:mem|malloc)[a-z]+|opentables|cachedsenders|keptblocks) ([0-9.e+]+)$/gm
  ))
    out[name!] = /^m/.test(name!) ? Math.round(Number(value) / 1e5) / 10 : Number(value)
  for (const name of ['nodejs_heap_size_total_bytes', 'nodejs_heap_size_used_bytes', 'nodejs_external_memory_bytes']) {
    const value = new RegExp(`^${name} ([0-9.e+]+)$`, 'm').exec(text)?.[1]
    out[name.slice(7, -6)] = Math.round(Number(value) / 1e5) / 10
  }
  return out
}

const began = performance.now()
const samples: { hours: number; mb: number }[] = []
let transactions = 0
const sampler = setInterval(async () => {
  const rss = await residentBytes(child.pid!)
  if (rss === undefined) return
  const heap = anonymousBytes(child.pid!)
  const seconds = (performance.now() - began) / 1000
  samples.push({ hours: seconds / 3600, mb: rss / 1e6 })
  process.stdout.write(
    `${JSON.stringify({ seconds: Math.round(seconds), rss_mb: Math.round(rss / 1e5) / 10, anonymous_mb: Math.round(heap / 1e5) / 10, transactions, cpu_seconds: await cpuSeconds(child.pid!), ...(await account()) })}\n`
  )
}, Number(flags.every) * 1000)

try {
  for (let i = 0; performance.now() - began < MINUTES * 60_000; i++) {
    const funder = DEV_ACCOUNTS[i % DEV_ACCOUNTS.length]!
    const r = await runLoad({
      url,
      workload: WORKLOADS[i % WORKLOADS.length]!,
      count: Number(flags.count),
      senders: 100,
      batch: 100,
      inFlight: 4,
      ahead: 10_000,
      ...(Number(flags.rate) === 0 ? {} : { rate: Number(flags.rate) }),
      // Each load funds its senders: the funders take turns, or one would be poor before the half hour is over.
      key: fromHex(funder.privateKey),
      address: fromHex(funder.address),
      timeoutMs: 60_000,
      seed: `soak ${i}`
    })
    if (r.included !== r.sent)
      throw new Error(`${r.sent - r.included} of ${r.sent} were not included: ${r.refusal ?? ''}`)
    transactions += r.included
    // A bound on the rate leaves the machine to others; the blocks in between are empty.
    const due = Number(flags.rate) === 0 ? 0 : (transactions / Number(flags.rate)) * 1000 - (performance.now() - began)
    if (due > 0) await new Promise(resolve => setTimeout(resolve, Math.min(due, MINUTES * 60_000)))
  }
} finally {
  clearInterval(sampler)
  child.kill('SIGTERM')
  await gone
}

// The first third fills caches. Means of a minute: V8's heap goes up and down within seconds, and samples so close are not independent.
const minutes = new Map<number, { hours: number; mb: number }[]>()
for (const s of samples.slice(Math.floor(samples.length / 3))) {
  const minute = Math.floor(s.hours * 60)
  minutes.set(minute, [...(minutes.get(minute) ?? []), s])
}
const average = (values: number[]): number => values.reduce((a, b) => a + b, 0) / values.length
const late = [...minutes.values()].map(part => ({
  hours: average(part.map(s => s.hours)),
  mb: average(part.map(s => s.mb))
}))
const mean = (f: (s: { hours: number; mb: number }) => number): number =>
  late.reduce((sum, s) => sum + f(s), 0) / late.length
const [mx, my] = [mean(s => s.hours), mean(s => s.mb)]
const sxx = late.reduce((sum, s) => sum + (s.hours - mx) ** 2, 0)
const slope = late.reduce((sum, s) => sum + (s.hours - mx) * (s.mb - my), 0) / sxx
const residuals = late.reduce((sum, s) => sum + (s.mb - my - slope * (s.hours - mx)) ** 2, 0)
const error = Math.sqrt(residuals / Math.max(1, late.length - 2) / sxx)
process.stdout.write(
  `${JSON.stringify({ minutes: MINUTES, transactions, samples: samples.length, mean_mb: Math.round(my), slope_mb_per_hour: Math.round(slope * 10) / 10, standard_error: Math.round(error * 10) / 10 })}\n`
)
