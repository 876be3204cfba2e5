/**
 * Question: how many transactions a second does zg-chain take in, and how many reads does it answer, beside the local node most developers
 * use? Peer: anvil 1.7.1 (its platform binary), which keeps everything in memory; zg-chain writes and syncs each block.
 *
 *   cd bench && npm ci && cd .. && npm run build && npm run bench:chain -- [--rounds 3] [--count 40000] [--reads 3]
 *
 * Both with blocks of 1 s and a gas limit of 1 G, alternating in one session, the same signed transactions to both, sent by one driver
 * (cmd/zg-chain/bench). A transaction counts when a block read back has it with status 1. Equal results are checked: balances, storage and
 * nonces after the load, answers of the reads. One JSON line a figure, then the table of docs/benchmarks.md with ratios. Excluded: building,
 * signing, deploying.
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs, promisify } from 'node:util'
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
import { fromHex } from '../lib/base/hex.ts'
import { packageRoot } from '../lib/base/package-root.ts'
import { DEV_ACCOUNTS } from '../lib/crypto/dev-accounts.ts'
import type { LoadResult as ReadResult } from './rpc-client.ts'

const { values: flags } = parseArgs({
  options: {
    rounds: { type: 'string', default: '3' },
    count: { type: 'string', default: '40000' },
    reads: { type: 'string', default: '3' },
    workload: { type: 'string', multiple: true },
    only: { type: 'string' }
  }
})
const ROUNDS = Number(flags.rounds)
const COUNT = Number(flags.count)
const READ_SECONDS = Number(flags.reads)
const WORK = (flags.workload ?? [...WORKLOADS]) as Workload[]
const CONNECTIONS = 16
const GAS_LIMIT = '1000000000'

const root = packageRoot()
const anvilBinary = join(root, 'bench/node_modules/@foundry-rs/anvil-linux-amd64/bin/anvil')
const dir = mkdtempSync(join(tmpdir(), 'zg-bench-chain-'))
process.once('exit', () => rmSync(dir, { recursive: true, force: true }))

interface Node {
  url: string
  pid: number
  startMs: number
  stop(): Promise<void>
}
type Name = 'zg-chain' | 'anvil'
const names: Name[] = (['zg-chain', 'anvil'] as const).filter(n => flags.only === undefined || n === flags.only)
if (names.includes('anvil') && !existsSync(anvilBinary)) throw new Error('anvil is not installed: cd bench && npm ci')

let port = 21_000 + (process.pid % 20_000)
let directories = 0

/** Starts a fresh node; its start ends with the first answer. */
async function start(name: Name): Promise<Node> {
  const at = port++
  const url = `http://127.0.0.1:${at}`
  const began = performance.now()
  const env = { ...process.env, NODE_OPTIONS: '', NO_COLOR: '1' }
  const child: ChildProcess =
    name === 'anvil'
      ? spawn(
          anvilBinary,
          ['--port', `${at}`, '--block-time', '1', '--gas-limit', GAS_LIMIT, '--silent', '--chain-id', '31337'],
          { stdio: 'ignore', env }
        )
      : spawn(
          process.execPath,
          [
            join(root, 'bin/zg-chain'),
            'node',
            '--dev',
            '--dir',
            join(dir, `${directories++}`),
            '--rpc-port',
            `${at}`,
            '--block-time',
            '1s',
            '--gas-limit',
            GAS_LIMIT,
            '--quiet'
          ],
          { stdio: ['ignore', 'ignore', 'inherit'], env }
        )
  const gone = new Promise<void>(resolve => child.once('close', () => resolve()))
  const rpc = new RpcClient(url, { timeoutMs: 2_000 })
  for (;;) {
    try {
      await rpc.call('eth_chainId')
      break
    } catch (err) {
      if (child.exitCode !== null || performance.now() - began > 60_000) throw err
      await new Promise(resolve => setTimeout(resolve, 5))
    }
  }
  return {
    url,
    pid: child.pid!,
    startMs: performance.now() - began,
    async stop() {
      child.kill('SIGTERM')
      const timer = setTimeout(() => child.kill('SIGKILL'), 15_000)
      await gone
      clearTimeout(timer)
    }
  }
}

const figures = new Map<string, number[]>()
function figure(name: Name, what: string, value: number): void {
  const key = `${what}\t${name}`
  figures.set(key, [...(figures.get(key) ?? []), value])
}

const first = DEV_ACCOUNTS[0]!
const options = (node: Node, workload: Workload): LoadOptions => ({
  url: node.url,
  workload,
  count: COUNT,
  senders: 200,
  batch: 100,
  inFlight: 8,
  ahead: 30_000,
  key: fromHex(first.privateKey),
  address: fromHex(first.address),
  pid: node.pid,
  timeoutMs: 60_000,
  seed: 'bench-chain'
})

/** What both nodes must agree on after the same load: the funder's nonce, and the heads of some accounts. */
async function fingerprint(node: Node): Promise<string> {
  const rpc = new RpcClient(node.url)
  const accounts = DEV_ACCOUNTS.slice(0, 3).map(a => a.address)
  const answers = await rpc.batch<string>(
    accounts.map(a => ({ method: 'eth_getTransactionCount', params: [a, 'latest'] }))
  )
  return JSON.stringify(answers)
}

async function reads(name: Name, node: Node): Promise<Map<string, string>> {
  const contract = '0xcA11bde05977b3631167028862bE2a173976CA11'
  const account = DEV_ACCOUNTS[5]!.address
  const seen = new Map<string, string>()
  for (const [method, params] of [
    ['eth_blockNumber', []],
    ['eth_getBalance', [account, 'latest']],
    ['eth_call', [{ to: contract, data: '0x3408e470' }, 'latest']]
  ] as const) {
    const body = JSON.stringify({ jsonrpc: '2.0', id: 1, method, params })
    const { stdout } = await promisify(execFile)(
      process.execPath,
      ['--import', 'tsx', 'bench/rpc-client.ts', node.url, `${CONNECTIONS}`, `${READ_SECONDS}`, body],
      { cwd: root, env: { ...process.env, NODE_OPTIONS: '' } }
    )
    const result = JSON.parse(stdout) as ReadResult
    figure(name, `${method} /s`, result.perSecond)
    figure(name, `${method} p99 ms`, result.p99Ms)
    if (method !== 'eth_blockNumber')
      seen.set(method, JSON.stringify((JSON.parse(result.first) as { result?: unknown }).result))
  }
  return seen
}

const prepared = new Map<Workload, PreparedLoad>()
for (let round = 0; round < ROUNDS; round++) {
  for (const workload of WORK) {
    const prints = new Map<Name, string>()
    for (const name of round % 2 === 0 ? names : [...names].reverse()) {
      const node = await start(name)
      try {
        figure(name, 'start to first answer ms', node.startMs)
        const o = options(node, workload)
        let load = prepared.get(workload)
        if (load === undefined) {
          load = await prepareLoad(o)
          prepared.set(workload, load)
        }
        const r: LoadResult = await runLoad({ ...o, prepared: load })
        if (r.included !== COUNT)
          throw new Error(`${name} took in ${r.included} of ${COUNT}: ${r.refusal ?? `${r.failed} failed`}`)
        figure(name, `${workload} /s`, r.perSecond)
        figure(name, `${workload} p50 ms`, r.p50Ms)
        figure(name, `${workload} p99 ms`, r.p99Ms)
        if (r.cpuSeconds !== undefined) figure(name, `${workload} CPU ms each`, (r.cpuSeconds * 1000) / r.included)
        if (r.rssBytes !== undefined) figure(name, `${workload} memory MB`, r.rssBytes / 1e6)
        prints.set(name, `${r.gasUsed} ${await fingerprint(node)}`)
        process.stdout.write(`${JSON.stringify({ round, name, ...r, gasUsed: Number(r.gasUsed) })}\n`)
      } finally {
        await node.stop()
      }
    }
    if (new Set(prints.values()).size > 1)
      throw new Error(`${workload}: gas or nonces differ: ${JSON.stringify([...prints])}`)
  }
  const answers = new Map<Name, Map<string, string>>()
  for (const name of names) {
    const node = await start(name)
    try {
      const before = await cpuSeconds(node.pid)
      await new Promise(resolve => setTimeout(resolve, 2_000))
      const after = await cpuSeconds(node.pid)
      if (before !== undefined && after !== undefined) figure(name, 'idle CPU %', ((after - before) / 2) * 100)
      const memory = await residentBytes(node.pid)
      if (memory !== undefined) figure(name, 'idle memory MB', memory / 1e6)
      answers.set(name, await reads(name, node))
    } finally {
      await node.stop()
    }
  }
  const [a, b] = names.map(n => answers.get(n)?.get('eth_getBalance'))
  if (names.length === 2 && a !== b) throw new Error(`balances differ: ${a} and ${b}`)
}

const median = (values: number[]): number => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)]!
const shown = (n: number): string => (n >= 100 ? Math.round(n).toLocaleString('en-US') : n.toPrecision(3))
const cell = (values: number[] | undefined): string =>
  values === undefined
    ? ''
    : `**${shown(median(values))}** (${shown(Math.min(...values))} to ${shown(Math.max(...values))})`
process.stdout.write('\n| figure | zg-chain | anvil 1.7.1 | ratio |\n|---|---|---|---|\n')
for (const what of new Set([...figures.keys()].map(k => k.split('\t')[0]!))) {
  const ours = figures.get(`${what}\tzg-chain`)
  const theirs = figures.get(`${what}\tanvil`)
  const ratio = ours === undefined || theirs === undefined ? '' : `${(median(ours) / median(theirs)).toFixed(2)} ×`
  process.stdout.write(`| ${what} | ${cell(ours)} | ${cell(theirs)} | ${ratio} |\n`)
}
