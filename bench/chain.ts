/**
 * Question: how fast is zg-chain as a node to develop against? Peer: anvil 1.7.1 (its platform binary), which keeps everything in memory;
 * zg-chain writes and syncs each block.
 *
 *   cd bench && npm ci && cd .. && npm run build && npm run bench:chain -- [--quick] [--only transfer,erc20,swap,full,reads,kernels,start,memory]
 *     [--rounds 3] [--count 60000] [--seconds 3] [--accounts 1000000] [--minutes 12] [--node zg-chain]
 *
 * Both with blocks of 1 s and a gas limit of 1 G, alternating in one session, the same signed transactions to both, sent by one driver
 * (cmd/zg-chain/bench). A transaction counts when a block read back has it; of 200 a block the receipt must have status 1, and the gas of all
 * blocks must be equal on both, which it is not when one fails. Equal results are checked: gas, nonces and balances after the load, answers of
 * the reads, checksums of the kernels. One JSON line a round, then the table of docs/benchmarks.md: median, least, most of the rounds, ratio of
 * the medians. Excluded: building, signing, deploying. Reads by wrk, or, where it is not installed (Debian: apt install wrk), by
 * bench/rpc-client.ts for both; the first line says which.
 */
import { spawn } from 'node:child_process'
import { parseArgs } from 'node:util'
import {
  cpuSeconds,
  type LoadOptions,
  type LoadResult,
  type PreparedLoad,
  prepareLoad,
  residentBytes,
  runLoad
} from '../cmd/zg-chain/bench/driver.ts'
import { WORKLOADS, type Workload } from '../cmd/zg-chain/bench/workload.ts'
import { RpcClient } from '../lib/adapters/jsonrpc/client.ts'
import { bigToBytes } from '../lib/base/bytes.ts'
import { fromHex, toHex } from '../lib/base/hex.ts'
import { packageRoot } from '../lib/base/package-root.ts'
import { encodeRlp } from '../lib/codec/rlp.ts'
import { DEV_ACCOUNTS } from '../lib/crypto/dev-accounts.ts'
import { keccak256 } from '../lib/crypto/hash.ts'
import { memory } from './chain-memory.ts'
import { anvilInstalled, figure, type Name, type Node, ratios, read, start, table, wrk } from './chain-nodes.ts'
import { kernelRound } from './evm-kernels.ts'

const SECTIONS = [...WORKLOADS, 'full', 'reads', 'kernels', 'start', 'memory'] as const
type Section = (typeof SECTIONS)[number]
const { values: flags } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    only: { type: 'string' },
    rounds: { type: 'string' },
    count: { type: 'string' },
    seconds: { type: 'string' },
    accounts: { type: 'string' },
    minutes: { type: 'string', default: '12' },
    node: { type: 'string' }
  }
})
const ROUNDS = Number(flags.rounds ?? (flags.quick ? 1 : 3))
const COUNT = Number(flags.count ?? (flags.quick ? 5_000 : 60_000))
const READ_SECONDS = Number(flags.seconds ?? (flags.quick ? 1 : 3))
const ACCOUNTS = Number(flags.accounts ?? (flags.quick ? 50_000 : 1_000_000))
const SENDERS = 200
/** Receipts read back of each block: anvil takes minutes over those of ten thousand. */
const SAMPLE = 200
/** Ethereum's gas limit of 2025; how much more is sent than fits; how many blocks of a second. */
const FULL_GAS = '60000000'
const FULL_SURPLUS = 1.2
const FULL_SECONDS = 12
const CONNECTIONS = 16
const began = performance.now()
const wanted = flags.only?.split(',') ?? SECTIONS
for (const section of wanted)
  if (!SECTIONS.includes(section as Section)) throw new Error(`no section '${section}': ${SECTIONS.join(', ')}`)
const names: Name[] = (['zg-chain', 'anvil'] as const).filter(n => flags.node === undefined || n === flags.node)
if (names.includes('anvil') && !anvilInstalled()) throw new Error('anvil is not installed: cd bench && npm ci')

const say = (record: object): void => void process.stdout.write(`${JSON.stringify(record)}\n`)
const order = (round: number): Name[] => (round % 2 === 0 ? names : [...names].reverse())
/** Whether there is time for another round; the first one is always made. */
function another(section: Section, round: number): boolean {
  if (round >= ROUNDS) return false
  if (round === 0 || performance.now() - began < Number(flags.minutes) * 60_000) return true
  say({ section, cut: `after ${round} rounds: ${flags.minutes} minutes are over` })
  return false
}

// ---- load

const first = DEV_ACCOUNTS[0]!
const options = (node: Node, workload: Workload): LoadOptions => ({
  url: node.url,
  workload,
  count: COUNT,
  senders: SENDERS,
  batch: 100,
  inFlight: 8,
  ahead: 30_000,
  key: fromHex(first.privateKey),
  address: fromHex(first.address),
  pid: node.pid,
  timeoutMs: 60_000,
  sample: SAMPLE,
  seed: 'bench-chain'
})

/** What both nodes must agree on after the same load: nonces, and what new recipients have. Swaps depend on their order: nonces only. */
async function fingerprint(node: Node, workload: Workload): Promise<string> {
  const rpc = new RpcClient(node.url)
  const recipients = [0, 8, 800, 1600].map(i => keccak256(bigToBytes(BigInt(i) + 1n, 32)).subarray(12))
  const token = toHex(keccak256(encodeRlp([fromHex(first.address), BigInt(SENDERS)])).subarray(12))
  const answers = await rpc.batch<string>([
    ...DEV_ACCOUNTS.slice(0, 3).map(a => ({ method: 'eth_getTransactionCount', params: [a.address, 'latest'] })),
    ...(workload === 'swap' ? [] : recipients).map(to =>
      workload === 'transfer'
        ? { method: 'eth_getBalance', params: [toHex(to), 'latest'] }
        : {
            method: 'eth_call',
            params: [{ to: token, data: `0x70a08231${toHex(to).slice(2).padStart(64, '0')}` }, 'latest']
          }
    )
  ])
  return JSON.stringify(answers)
}

const MULTICALL = '0xcA11bde05977b3631167028862bE2a173976CA11'
const CALL = { to: MULTICALL, data: '0x3408e470' }

interface Latency {
  p50Ms: number
  p99Ms: number
  errors: number
}

/** Latency of eth_call beside a load: started now, answered when stopped. */
function probe(url: string): () => Promise<Latency> {
  const body = JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'eth_call', params: [CALL, 'latest'] })
  const child = spawn(process.execPath, ['--import', 'tsx', 'bench/probe.ts', url, body], {
    cwd: packageRoot(),
    stdio: ['pipe', 'pipe', 'inherit'],
    env: { ...process.env, NODE_OPTIONS: '' }
  })
  let out = ''
  child.stdout.on('data', part => {
    out += part
  })
  const gone = new Promise<void>(resolve => child.once('close', () => resolve()))
  return async () => {
    child.stdin.end()
    await gone
    return JSON.parse(out)
  }
}

/** The loop's delay since the last question, from /metrics; anvil has none. */
async function loopDelayMs(node: Node): Promise<number | undefined> {
  if (node.name !== 'zg-chain') return undefined
  const text = await (await fetch(`${node.url}/metrics`)).text()
  const m = /event_loop_delay_p99_seconds(?:\{[^}]*\})? ([0-9.e+-]+)/.exec(text)
  return m === null ? undefined : Number(m[1]) * 1000
}

async function loads(workload: Workload): Promise<void> {
  let prepared: PreparedLoad | undefined
  for (let round = 0; another(workload, round); round++) {
    const prints = new Map<Name, string>()
    for (const name of order(round)) {
      const node = await start(name)
      try {
        const o = options(node, workload)
        prepared ??= await prepareLoad(o)
        const stop = workload === 'transfer' ? probe(node.url) : undefined
        await loopDelayMs(node)
        // Of the load alone: reading the receipts back afterwards is another load.
        let ended: Promise<[Latency | undefined, number | undefined]> | undefined
        const atEnd = (phase: string): void => {
          if (phase === 'check') ended ??= Promise.all([stop?.(), loopDelayMs(node)])
        }
        const r: LoadResult = await runLoad({ ...o, prepared, onProgress: atEnd })
        const [latency, delay] = (await ended) ?? []
        if (r.included !== COUNT)
          throw new Error(`${name} took in ${r.included} of ${COUNT}: ${r.refusal ?? `${r.failed} failed`}`)
        figure(name, `${workload} /s`, r.perSecond)
        if (r.cpuSeconds !== undefined) figure(name, `${workload} CPU ms each`, (r.cpuSeconds * 1000) / r.included)
        if (r.rssBytes !== undefined) figure(name, `${workload} memory MB`, r.rssBytes / 1e6)
        if (latency !== undefined) figure(name, 'eth_call p99 ms while all is sent that is taken', latency.p99Ms)
        if (delay !== undefined) figure(name, `${workload} event loop delay p99 ms`, delay)
        prints.set(name, `${r.gasUsed} ${await fingerprint(node, workload)}`)
        say({ round, name, ...r, gasUsed: Number(r.gasUsed), latency, delay })
      } finally {
        await node.stop()
      }
    }
    if (new Set(prints.values()).size > 1)
      throw new Error(`${workload}: the nodes differ: ${JSON.stringify([...prints])}`)
  }
}

/**
 * Latency of eth_call while every block is full: blocks of FULL_GAS, and FULL_SURPLUS times as many transfers a second as fit. Unlike in the loads
 * above, driver, probe and node do not fight for the processor.
 */
async function full(): Promise<void> {
  const fits = Number(FULL_GAS) / 21_000
  let prepared: PreparedLoad | undefined
  for (let round = 0; another('full', round); round++)
    for (const name of order(round)) {
      const node = await start(name, { gasLimit: FULL_GAS })
      try {
        const count = Math.floor(fits * FULL_SECONDS)
        const o = { ...options(node, 'transfer'), count, rate: Math.ceil(fits * FULL_SURPLUS), batch: 20 }
        prepared ??= await prepareLoad(o)
        let stop: (() => Promise<Latency>) | undefined
        let ended: Promise<[Latency | undefined, number | undefined]> | undefined
        const r = await runLoad({
          ...o,
          prepared,
          onProgress: (phase, done) => {
            // From the first full block to the last one.
            if (phase !== 'load') return
            if (stop === undefined && done >= fits * 0.9) {
              void loopDelayMs(node)
              stop = probe(node.url)
            }
            if (done >= count - fits) ended ??= Promise.all([stop?.(), loopDelayMs(node)])
          }
        })
        const [latency, delay] = (await ended) ?? []
        if (r.included !== count || latency === undefined || latency.errors > 0)
          throw new Error(`${name} took in ${r.included} of ${count}, ${latency?.errors} calls failed`)
        figure(name, 'eth_call p50 ms while blocks are full', latency.p50Ms)
        figure(name, 'eth_call p99 ms while blocks are full', latency.p99Ms)
        if (delay !== undefined) figure(name, 'event loop delay p99 ms while blocks are full', delay)
        say({ round, name, section: 'full', ...r, gasUsed: Number(r.gasUsed), latency, delay })
      } finally {
        await node.stop()
      }
    }
}

// ---- reads, kernels, start

/** Both nodes at once; whoever is not asked only makes empty blocks. */
async function withNodes(work: (nodes: Node[]) => Promise<void>): Promise<void> {
  const nodes: Node[] = []
  try {
    for (const name of names) nodes.push(await start(name))
    await work(nodes)
  } finally {
    await Promise.all(nodes.map(n => n.stop()))
  }
}

const READS = [
  ['eth_blockNumber', []],
  ['eth_getBalance', [DEV_ACCOUNTS[5]!.address, 'latest']],
  ['eth_call', [CALL, 'latest']]
] as const

async function reads(nodes: Node[]): Promise<void> {
  for (const node of nodes) {
    const before = await cpuSeconds(node.pid)
    await new Promise(resolve => setTimeout(resolve, 3_000))
    const after = await cpuSeconds(node.pid)
    const resident = await residentBytes(node.pid)
    if (before !== undefined && after !== undefined) figure(node.name, 'idle CPU %', ((after - before) / 3) * 100)
    if (resident !== undefined) figure(node.name, 'idle memory MB', resident / 1e6)
  }
  // anvil has no Multicall3: the call would end at once there. The same code on both, put there by a method that both have.
  const code = '0x465f5260205ff3'
  for (const node of nodes) await new RpcClient(node.url).call('anvil_setCode', [MULTICALL, code])
  for (const [method, params] of READS) {
    if (method === 'eth_blockNumber') continue
    const answers = await Promise.all(nodes.map(n => new RpcClient(n.url).call(method, [...params])))
    if (new Set(answers.map(a => JSON.stringify(a))).size > 1)
      throw new Error(`${method}: the nodes answer differently: ${JSON.stringify(answers)}`)
  }
  for (let round = 0; another('reads', round); round++)
    for (const [method, params] of READS)
      for (const name of order(round)) {
        const node = nodes.find(n => n.name === name)!
        const body = JSON.stringify({ jsonrpc: '2.0', id: 1, method, params })
        const r = await read(node.url, CONNECTIONS, READ_SECONDS, body)
        figure(name, `${method} /s`, r.perSecond)
        figure(name, `${method} p99 ms`, r.p99Ms)
        say({ round, name, method, ...r })
      }
}

async function kernels(nodes: Node[]): Promise<void> {
  for (let round = 0; another('kernels', round); round++)
    for (const f of await kernelRound(nodes, flags.quick ? 3 : 5)) {
      figure(f.name, `kernel ${f.kernel} Mgas/s`, f.mgasPerSecond)
      say({ round, ...f })
    }
}

async function starts(): Promise<void> {
  for (let round = 0; another('start', round); round++)
    for (const name of order(round)) {
      const node = await start(name)
      figure(name, 'start to first answer ms', node.startMs)
      await node.stop()
    }
}

async function accounts(): Promise<void> {
  for (const name of names) {
    const node = await start(name, { manual: true })
    try {
      await memory(node, ACCOUNTS, flags.quick ? 5 : 30)
      say({ name, section: 'memory', seconds: (performance.now() - began) / 1000 })
    } finally {
      await node.stop()
    }
  }
}

say({
  node: process.version,
  rounds: ROUNDS,
  count: COUNT,
  reads: wrk ? 'wrk' : 'bench/rpc-client.ts, wrk is not installed'
})
if (wanted.includes('start')) await starts()
for (const workload of WORKLOADS) if (wanted.includes(workload)) await loads(workload)
if (wanted.includes('full')) await full()
if (wanted.includes('reads')) await withNodes(reads)
if (wanted.includes('kernels')) await withNodes(kernels)
if (wanted.includes('memory')) await accounts()
process.stdout.write(`\n${table()}`)
const kernelRatios = ratios('kernel ')
if (kernelRatios.length > 0) {
  const mean = Math.exp(kernelRatios.reduce((sum, r) => sum + Math.log(r), 0) / kernelRatios.length)
  process.stdout.write(`| kernels, geometric mean | | | ${mean.toFixed(2)} × |\n`)
}
process.stdout.write(`\n${Math.round((performance.now() - began) / 1000)} s\n`)
